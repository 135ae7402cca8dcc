//! What can go wrong between us and Proxmox VE, told apart by what may be done next.
//!
//! No advice stands here: that belongs to whoever talks to people.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

use crate::ids::{NodeName, Upid};
use crate::unsent::{CutOff, NodeAway, OtherFingerprint};
use crate::wording::{Class, class_of};

/// A failed call, or a failed wait.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request was never sent, or not whole: nothing was done, and it may be repeated.
    #[error("{}", unsent(call, endpoint, source.as_ref()))]
    Connect {
        /// Method and path.
        call: String,
        /// Which endpoint was tried last.
        endpoint: String,
        /// Why not: the network's words, or [`NodeAway`], [`CutOff`], [`OtherFingerprint`].
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The request was sent and no answer came: it may or may not have been done. Look before repeating.
    #[error("{call} was sent to {endpoint} and its answer was lost")]
    Lost {
        /// Method and path.
        call: String,
        /// Which endpoint.
        endpoint: String,
        /// How.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Nothing was sent: a login needs the user's second factor, and the one-time code, if there was one, is used.
    #[error("the login of {user} needs a one-time code, and there is none that was not used before")]
    OneTimeCode {
        /// Who.
        user: String,
    },
    /// The server said no.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// The server said yes in words nobody here understands.
    #[error("the answer to {call} cannot be read")]
    Unreadable {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A task ended badly.
    #[error("{0}")]
    Task(Box<TaskFailed>),
    /// Time ran out. A task that was waited for goes on.
    #[error("the time for {what} is over")]
    Deadline {
        /// What was waited for.
        what: String,
    },
    /// Somebody asked to stop. A task that was waited for was stopped.
    #[error("{what} was stopped on request")]
    Stopped {
        /// What was going on.
        what: String,
    },
    /// A file to upload cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The server's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Method and path.
    pub call: String,
    /// Who refused.
    pub endpoint: String,
    /// HTTP status.
    pub status: u16,
    /// The server's own words.
    pub message: String,
    /// What is wrong with which parameter.
    pub errors: BTreeMap<String, String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, endpoint: _, status, message, errors } = self;
        write!(f, "{call} was refused ({status}): {message}")?;
        for (parameter, problem) in errors {
            write!(f, "; {parameter}: {}", problem.trim_end())?;
        }
        Ok(())
    }
}

/// A task that ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailed {
    /// Which.
    pub upid: Upid,
    /// Its exit status, the server's own words.
    pub status: String,
    /// Last lines of its log.
    pub log: Vec<String>,
}

impl fmt::Display for TaskFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the task {} ended with: {}", self.upid, self.status)
    }
}

impl Error {
    /// What the server's words mean; [`Class::Other`] for what the server did not say.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Refused(refused) => refused.class(),
            Self::Task(failed) => class_of(&failed.status),
            Self::Connect { .. }
            | Self::Lost { .. }
            | Self::OneTimeCode { .. }
            | Self::Unreadable { .. }
            | Self::Deadline { .. }
            | Self::Stopped { .. }
            | Self::File { .. } => Class::Other,
        }
    }

    /// True if it is of that class.
    #[must_use]
    pub fn is(&self, class: Class) -> bool {
        self.class() == class
    }

    /// True if the request was certainly not carried out.
    #[must_use]
    pub const fn never_sent(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// True if nobody knows whether the request was carried out.
    #[must_use]
    pub const fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Unreadable { .. })
    }

    /// True if nothing was done and another node of the cluster may do it: it may be reached, reach the node that the call is
    /// about, or have the quorum that this one lacks.
    pub(crate) fn is_for_another_endpoint(&self) -> bool {
        self.never_sent() || self.is(Class::NoQuorum)
    }

    /// True if not even an endpoint answered, which says less than any other failure.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.is::<reqwest::Error>()) && self.certificate().is_none()
    }

    /// The failure of a login, told of the call behind it: whatever came of the login, that call was not sent.
    pub(crate) fn ahead_of(self, call: String, endpoint: &str) -> Self {
        if !self.outcome_unknown() {
            return self;
        }
        Self::Connect { call, endpoint: endpoint.to_owned(), source: Box::new(self) }
    }

    /// What is wrong with the server's certificate, if that is why nothing was sent.
    #[must_use]
    pub fn certificate(&self) -> Option<String> {
        let Self::Connect { source, .. } = self else { return None };
        if let Some(other) = self.fingerprint() {
            return Some(other.to_string());
        }
        causes(source.as_ref()).find_map(|cause| match cause.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(why)) => Some(why.to_string()),
            _ => None,
        })
    }

    /// The certificate that was found in place of the pinned one, if that is why nothing was sent.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&OtherFingerprint> {
        self.unsent()
    }

    /// The node that an endpoint could not reach, if that is why nothing was sent.
    #[must_use]
    pub fn node(&self) -> Option<&NodeName> {
        self.unsent::<NodeAway>().map(|away| &away.node)
    }

    fn unsent<T: StdError + 'static>(&self) -> Option<&T> {
        let Self::Connect { source, .. } = self else { return None };
        cause(source.as_ref())
    }

    /// The server's refusal.
    #[must_use]
    pub const fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

impl Refused {
    fn class(&self) -> Class {
        if self.status == 401 {
            return Class::Credentials;
        }
        let texts = self.errors.values().map(String::as_str).chain([self.message.as_str()]);
        let class = texts.map(class_of).find(|class| *class != Class::Other).unwrap_or(Class::Other);
        // Words about something that is missing say more than that a privilege on it is.
        if self.status == 403 && class != Class::NoPool { Class::Rights } else { class }
    }
}

/// How far a request came that was certainly not carried out.
fn unsent(call: &str, endpoint: &str, source: &(dyn StdError + 'static)) -> String {
    if let Some(NodeAway { node, .. }) = cause(source) {
        return format!("{call} reached {endpoint}, which does not reach node {node}");
    }
    if let Some(CutOff { sent, length, .. }) = cause(source) {
        return format!("{call} to {endpoint} broke off after {sent} of {length} bytes");
    }
    if cause::<OtherFingerprint>(source).is_some() {
        return format!("{call} was not sent to {endpoint}");
    }
    format!("{call} did not reach {endpoint}")
}

/// The first of that kind behind an error, itself included.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// An error and everything behind it. What hides inside an I/O error is shown too: its `source` leaves it out.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| behind(*error))
}

fn behind<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameters_text_counts_too() {
        let errors = BTreeMap::from([("vmid".to_owned(), "VM 100 already exists".to_owned())]);
        let message = "Parameter verification failed.".to_owned();
        let refused = Refused { call: String::new(), endpoint: String::new(), status: 400, message, errors };
        assert_eq!(refused.class(), Class::Exists);
        assert!(refused.to_string().ends_with("(400): Parameter verification failed.; vmid: VM 100 already exists"));
    }
}
