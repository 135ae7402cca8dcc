//! Why a request was certainly not carried out, where there is more to say than the network says: each is the source of an
//! [`Error::Connect`](crate::Error::Connect).

use std::error::Error as StdError;
use std::fmt;

use crate::ids::NodeName;

/// An endpoint answered, and cannot reach the node that the call is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct NodeAway {
    /// The node.
    pub node: NodeName,
    /// The endpoint's own words: `No route to host`.
    pub said: String,
}

/// The connection broke while a file was sent. A server keeps nothing of a file that it does not have whole.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct CutOff {
    /// Bytes that had left, at the most.
    pub sent: u64,
    /// Bytes of the whole file.
    pub length: u64,
    pub(crate) source: Box<dyn StdError + Send + Sync>,
}

/// The server's certificate is another one than the pinned. SHA-256 of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherFingerprint {
    pub(crate) found: [u8; 32],
    pub(crate) expected: [u8; 32],
}

impl OtherFingerprint {
    /// Of the certificate that was shown: hex pairs and colons, as Proxmox VE writes it.
    #[must_use]
    pub fn found(&self) -> String {
        pairs(&self.found)
    }

    /// The pinned one.
    #[must_use]
    pub fn expected(&self) -> String {
        pairs(&self.expected)
    }
}

impl fmt::Display for OtherFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its certificate has the fingerprint {}, and {} is expected", self.found(), self.expected())
    }
}

impl StdError for OtherFingerprint {}

fn pairs(sum: &[u8; 32]) -> String {
    let pairs: Vec<String> = sum.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
