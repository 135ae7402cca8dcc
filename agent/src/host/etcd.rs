//! The etcd of this machine's cluster, asked member by member. `linux` speaks to it; what follows from its answers is `crate::cluster`'s.

use super::{BoxFuture, HostError};

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
}
