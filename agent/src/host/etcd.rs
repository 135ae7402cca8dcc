//! The etcd of this machine's cluster, asked member by member. `linux` speaks to it; what follows from its answers is `crate::cluster`'s.

use super::{BoxFuture, HostError};
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use std::collections::BTreeSet;
use std::time::SystemTime;

/// Members of an etcd, each reached at `host:port` with this machine's own certificate for it.
pub trait Etcd: Send + Sync {
    /// All members, as the one at `at` has them: by the agreement of all, or, if there is none to be had, by its own word.
    ///
    /// # Errors
    /// When that member does not answer.
    fn members<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Member>, HostError>>;

    /// How the member at `at` does.
    ///
    /// # Errors
    /// When it does not answer.
    fn standing<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Standing, HostError>>;

    /// Alarms in force, each with the id of its member.
    ///
    /// # Errors
    /// When the member at `at` does not answer.
    fn alarms<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<(u64, String)>, HostError>>;

    /// Takes a member out, by the word of the one at `at`.
    ///
    /// # Errors
    /// When they do not agree on it.
    fn remove<'a>(&'a self, at: &'a str, id: u64) -> BoxFuture<'a, Result<(), HostError>>;

    /// Takes a snapshot of the member at `at` into the file at `to`, in the place of what stands there: root's alone, whole, and on the disk
    /// when this returns. Folders that it needs are made.
    ///
    /// # Errors
    /// When the member does not give it, or the sum that it gives with it is another one. Then no file is left.
    fn snapshot<'a>(&'a self, at: &'a str, to: &'a str) -> BoxFuture<'a, Result<Snapshot, HostError>>;

    /// The snapshot in a file, as it says itself: nothing is summed. `None` if nothing stands there.
    ///
    /// # Errors
    /// [`HostError::NoSnapshot`] when it is none.
    fn look(&self, path: &str) -> Result<Option<Snapshot>, HostError>;

    /// Keys that begin with `prefix` in the snapshot at a path, as of its last revision.
    ///
    /// # Errors
    /// [`HostError::NoSnapshot`] when it is none; also when nothing stands there.
    fn keys(&self, path: &str, prefix: &str) -> Result<BTreeSet<String>, HostError>;

    /// Gives the file at `from` the name `to`, in the same folder.
    ///
    /// # Errors
    /// Also when something stands there.
    fn rename(&self, from: &str, to: &str) -> Result<(), HostError>;

    /// Writes the database of the snapshot at `from` to `to`, as it may begin another cluster: it has forgotten its own.
    ///
    /// # Errors
    /// Also when it is not what its sum says; then nothing stands at `to`.
    fn restore(&self, from: &str, to: &str) -> Result<Snapshot, HostError>;
}

/// A snapshot of etcd: its database, and behind it the sum of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the database, hex, as it stands behind it.
    pub sha256: String,
    /// The last revision of any key in it.
    pub revision: u64,
    /// When the file was written.
    pub taken: SystemTime,
}

/// What was read of a snapshot, compared with the sum that it ends with.
pub(crate) struct Sum {
    context: Context,
    /// The last bytes so far, which may be the sum.
    last: Vec<u8>,
}

impl Sum {
    pub(crate) fn new() -> Self {
        Self { context: Context::new(&SHA256), last: Vec::new() }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.last.extend_from_slice(bytes);
        let ahead = self.last.len().saturating_sub(SHA256_OUTPUT_LEN);
        self.context.update(self.last.get(..ahead).unwrap_or_default());
        self.last.drain(..ahead);
    }

    /// Why it is not what it should be.
    pub(crate) fn fault(self) -> Option<&'static str> {
        let is_same = self.context.finish().as_ref() == self.last.as_slice();
        (!is_same).then_some("its content is not what its sum says: it is damaged or not whole")
    }
}

/// A member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Name of its node; empty until it has started for the first time.
    pub name: String,
    /// Where the other members reach it: `https://192.0.2.11:2380`.
    pub peer_urls: Vec<String>,
    /// Where clients reach it: `https://192.0.2.11:2379`; none until it has started.
    pub client_urls: Vec<String>,
    /// It has no vote yet.
    pub learner: bool,
}

/// How a member does, by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// "3.6.8"
    pub version: String,
    /// Whether it knows a leader; without one nothing is agreed on.
    pub has_leader: bool,
}

/// A machine without any.
pub(crate) struct Nowhere;

impl Nowhere {
    fn none<'a, T: Send + 'a>(at: &str) -> BoxFuture<'a, Result<T, HostError>> {
        let error = HostError::Etcd { at: at.to_owned(), why: "there is none".to_owned() };
        Box::pin(std::future::ready(Err(error)))
    }
}

impl Etcd for Nowhere {
    fn members<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Member>, HostError>> {
        Self::none(at)
    }

    fn standing<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Standing, HostError>> {
        Self::none(at)
    }

    fn alarms<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<(u64, String)>, HostError>> {
        Self::none(at)
    }

    fn remove<'a>(&'a self, at: &'a str, _: u64) -> BoxFuture<'a, Result<(), HostError>> {
        Self::none(at)
    }
    fn snapshot<'a>(&'a self, at: &'a str, _: &'a str) -> BoxFuture<'a, Result<Snapshot, HostError>> {
        Self::none(at)
    }

    fn look(&self, _: &str) -> Result<Option<Snapshot>, HostError> {
        Ok(None)
    }

    fn keys(&self, path: &str, _: &str) -> Result<BTreeSet<String>, HostError> {
        Err(HostError::NoSnapshot { path: path.to_owned(), why: "there is none".to_owned() })
    }

    fn rename(&self, path: &str, _: &str) -> Result<(), HostError> {
        Err(HostError::NoSnapshot { path: path.to_owned(), why: "there is none".to_owned() })
    }

    fn restore(&self, path: &str, _: &str) -> Result<Snapshot, HostError> {
        Err(HostError::NoSnapshot { path: path.to_owned(), why: "there is none".to_owned() })
    }
}
