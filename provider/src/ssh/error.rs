//! What can go wrong on the way into a machine by SSH, told apart by what a person would do about it.
//!
//! No advice stands here: that is `crate::explain`'s work. Secrets stand in none of these.

use crate::output::after;

/// A failed act over SSH.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody answers, or not as an SSH server does. It may pass.
    #[error("the host {host} cannot be reached by SSH: {why}")]
    Unreachable {
        /// `host:port`
        host: String,
        /// The network's words.
        why: String,
    },
    /// Nothing says what key the host has.
    #[error("the host key of {host} is not known: it showed {}; {looked}", found.told())]
    UnknownHost {
        /// `host:port`
        host: String,
        /// What it showed.
        found: Box<ShownKey>,
        /// Where its key was looked for.
        looked: String,
        /// The attribute that takes the key.
        attribute: String,
    },
    /// It has another key than it should have.
    #[error("the host {host} showed the host key {}, and {source_of} has {}", found.told(), expected.join(", "))]
    OtherKey {
        /// `host:port`
        host: String,
        /// What it showed.
        found: Box<ShownKey>,
        /// What was expected, by type and fingerprint.
        expected: Vec<String>,
        /// Where that stands.
        source_of: String,
        /// The attribute that takes the key.
        attribute: String,
    },
    /// Its key was revoked.
    #[error("the host key of {host}, {}, is revoked in {file}", found.told())]
    Revoked {
        /// `host:port`
        host: String,
        /// What it showed.
        found: Box<ShownKey>,
        /// Which file says so.
        file: String,
    },
    /// A value that was given cannot be used.
    #[error("`{attribute}` cannot be used: {why}")]
    Unusable {
        /// Which.
        attribute: String,
        /// Why; never its content.
        why: String,
    },
    /// The server did not let us in.
    #[error("the host {host} does not let {user} in: {}", told(tried, offered))]
    Refused {
        /// `host:port`
        host: String,
        /// Which account.
        user: String,
        /// What was tried, and what came of it.
        tried: Vec<String>,
        /// What the server would take.
        offered: Vec<String>,
        /// `""` or `bastion_`.
        prefix: &'static str,
    },
    /// The jump host does not lead on.
    #[error("the jump host {bastion} does not connect to {host}: {why}")]
    NoWay {
        /// `host:port` of the jump host.
        bastion: String,
        /// `host:port`
        host: String,
        /// Its words.
        why: String,
    },
    /// The connection ended in the middle of something. It may be repeated.
    #[error("the connection to {host} was lost during {during}: {why}")]
    Lost {
        /// `host:port`
        host: String,
        /// What was being done.
        during: String,
        /// The network's words.
        why: String,
    },
    /// The account may not become root.
    #[error("the account {user} cannot become root on {host}: {why}")]
    NotRoot {
        /// `host:port`
        host: String,
        /// Which account.
        user: String,
        /// sudo's words.
        why: String,
        /// Which attribute is the cure.
        attribute: &'static str,
    },
    /// A command ended badly.
    #[error("{what} failed on {host} with status {status}{}", after(output))]
    Failed {
        /// `host:port`
        host: String,
        /// What was being done.
        what: String,
        /// Exit status.
        status: u32,
        /// Its last lines.
        output: Vec<String>,
    },
    /// Time ran out.
    #[error("the time for {what} is over")]
    Deadline {
        /// What was waited for.
        what: String,
        /// Why the last try failed.
        #[source]
        last: Option<Box<Self>>,
    },
    /// Terraform was told to stop.
    #[error("stopped on request")]
    Stopped,
}

/// A host key as a person compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShownKey {
    /// `SHA256:…`
    pub(crate) fingerprint: String,
    /// `ssh-ed25519`
    pub(crate) kind: String,
}

impl ShownKey {
    /// `ssh-ed25519 SHA256:…`
    pub(crate) fn told(&self) -> String {
        format!("{} {}", self.kind, self.fingerprint)
    }
}

impl Error {
    /// Whether trying again may help: the machine may be starting.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoWay { .. })
    }
}

fn told(tried: &[String], offered: &[String]) -> String {
    let took = if offered.is_empty() { String::new() } else { format!(" (it would take {})", offered.join(", ")) };
    if tried.is_empty() {
        format!("there is nothing to log in with{took}")
    } else {
        format!("{}{took}", tried.join("; "))
    }
}
