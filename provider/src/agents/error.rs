//! What can go wrong between the provider and an agent, told apart by what a person would do about it.
//!
//! No advice stands here: that is `crate::explain`'s work.

use std::path::PathBuf;
use trust::{Pin, Role};

/// A failed act towards an agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The provider block names no CA, so no agent can be talked to.
    #[error("the provider has no CA for its agents")]
    NoAuthority,
    /// The provider block names a CA that is known only after the apply of something else.
    #[error("a value in the provider block's `agent` comes from something that is not applied yet")]
    UnknownAuthority,
    /// The CA cannot be used.
    #[error("the CA for the agents cannot be used: {0}")]
    BadAuthority(String),
    /// The client certificate that was given is of a lesser role.
    #[error("the client certificate in `agent.client_cert_pem` has the role {}, and this needs {}", has.word(), needs.word())]
    LesserRole {
        /// Its role.
        has: Role,
        /// The least that is needed.
        needs: Role,
    },
    /// The issuer that was given may not give so much.
    #[error("the issuer in `agent.ca_key_pem` may give the role {} at most, and this needs {}", highest.word(), needs.word())]
    Ceiling {
        /// The highest role it may give.
        highest: Role,
        /// The least that is needed.
        needs: Role,
    },
    /// Enrolling takes the key of a CA, and there is only a client certificate.
    #[error("a machine is enrolled with the CA's key, and `agent` gives only a client certificate of the role {}", role.word())]
    NoKey {
        /// Its role.
        role: Role,
    },
    /// The client certificate that was given is too old.
    #[error("the client certificate in `agent.client_cert_pem` ended at {until}")]
    Over {
        /// When.
        until: String,
    },
    /// A file of `pki_dir` cannot be read or written.
    #[error("cannot use {path}")]
    PkiFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// This build of the provider carries no agent for machines.
    #[error("this build of the provider carries no agent binary")]
    NoBinary,
    /// This build of the provider carries agents, and none for that machine.
    #[error("this build of the provider carries no agent for {machine:?}")]
    NoBinaryFor {
        /// What the machine is, as `uname -m` says it.
        machine: String,
    },
    /// Not an endpoint, or not of the form that is written in states.
    #[error("{0:?} is no agent endpoint")]
    BadEndpoint(String),
    /// Nobody answers. It may pass.
    #[error("the agent at {address} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// The network's words.
        why: String,
    },
    /// The agent's machine refuses the connection, or cut it: its agent does not run, or restarts.
    #[error("the agent at {address} cannot be reached: {why}")]
    Closed {
        /// Where.
        address: String,
        /// The network's words.
        why: String,
    },
    /// Nobody answers any more since a run has begun, for longer than a restart takes.
    #[error("the agent at {address} has not answered for {minutes} min, in the middle of run {run_id}")]
    Away {
        /// Where.
        address: String,
        /// The run.
        run_id: String,
        /// For how long.
        minutes: u64,
    },
    /// Somebody answers, but not with the machine's key: rebuilt, or another machine at its address.
    #[error("the machine at {address} has the key {found}, not {expected}")]
    OtherKey {
        /// Where.
        address: String,
        /// The key in the state.
        expected: Pin,
        /// The key it has.
        found: Pin,
    },
    /// The machine shows a key that another one has followed: it was set back, or somebody kept the key.
    #[error("the machine at {address} has the key {found} again, which {latest} has followed since")]
    OldKey {
        /// Where.
        address: String,
        /// The latest key it was seen with.
        latest: String,
        /// The key it has.
        found: Pin,
    },
    /// The agent does not accept our client certificate: it was installed with another CA.
    #[error("the agent at {address} refused the provider's certificate ({alert})")]
    OtherAuthority {
        /// Where.
        address: String,
        /// The TLS alert.
        alert: String,
    },
    /// The agent accepts our CA but finds the certificate out of date: one of the two clocks is wrong.
    #[error("the agent at {address} finds the provider's certificate out of date")]
    Clock {
        /// Where.
        address: String,
    },
    /// The agent waits for its enrolment.
    #[error("the agent at {address} is not enrolled: {message}")]
    NotEnrolled {
        /// Where.
        address: String,
        /// What it waits for, in its own words.
        message: String,
    },
    /// cloud-init is still at work.
    #[error("the first boot of the machine at {address} is not over: cloud-init is at {stage}")]
    Booting {
        /// Where.
        address: String,
        /// cloud-init's stage.
        stage: String,
    },
    /// The agent is enrolled already.
    #[error("the agent at {address} is enrolled already")]
    AlreadyEnrolled {
        /// Where.
        address: String,
    },
    /// The agent is another machine's.
    #[error("the agent at {address} belongs to another machine than {expected}")]
    OtherMachine {
        /// Where.
        address: String,
        /// The SMBIOS UUID looked for.
        expected: String,
    },
    /// A proof does not hold: a relay stands in between, or the seed was another's.
    #[error("the enrolment of {address} was refused: {why}")]
    NotProven {
        /// Where.
        address: String,
        /// Which proof.
        why: String,
    },
    /// The agent does not know what is asked of it.
    #[error("the agent at {address} does not know {what}")]
    NotKnown {
        /// Where.
        address: String,
        /// Fields or a call.
        what: String,
    },
    /// The agent is older than the provider and is not to be updated.
    #[error("the agent at {address} is {agent}, older than this provider, which is {provider}{}", without(unknown))]
    Outdated {
        /// Where.
        address: String,
        /// Its version.
        agent: String,
        /// This provider's.
        provider: String,
        /// Fields that it does not know.
        unknown: Vec<String>,
    },
    /// The agent is older than the provider, which has no newer one for it.
    #[error(
        "the agent at {address} is {agent}, older than this provider, which is {provider} and carries no agent for {machine:?}"
    )]
    NoProgram {
        /// Where.
        address: String,
        /// Its version.
        agent: String,
        /// This provider's.
        provider: String,
        /// What the machine is, as `uname -m` says it.
        machine: String,
    },
    /// The updated agent did not prove itself.
    #[error("the agent at {address} was updated to {provider} and went back to {agent}: {why}")]
    TakenBack {
        /// Where.
        address: String,
        /// The version that runs.
        agent: String,
        /// The one that was tried.
        provider: String,
        /// The agent's words.
        why: String,
    },
    /// Another run is in progress.
    #[error("the agent at {address} is busy with run {run_id}")]
    Busy {
        /// Where.
        address: String,
        /// Whose events can be had.
        run_id: String,
    },
    /// The request itself was not good.
    #[error("the agent at {address} refused {call}: {message}")]
    Refused {
        /// Where.
        address: String,
        /// Name of the call.
        call: &'static str,
        /// The agent's words.
        message: String,
    },
    /// A run ended without reaching its end.
    #[error("run {} on {address} failed: {}", failure.run_id, failure.message)]
    Run {
        /// Where.
        address: String,
        /// Where it stood and what was printed.
        failure: Box<RunFailure>,
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

/// Where a run stood when it failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RunFailure {
    pub(crate) run_id: String,
    pub(crate) step: String,
    pub(crate) change: String,
    pub(crate) message: String,
    /// Last lines printed by the program that failed.
    pub(crate) output: Vec<String>,
    pub(crate) cancelled: bool,
}

impl RunFailure {
    /// Whether the agent refused to touch what was made by somebody else.
    pub(crate) fn is_foreign(&self) -> bool {
        self.step == "ownership"
    }
}

fn without(unknown: &[String]) -> String {
    if unknown.is_empty() { String::new() } else { format!(", and does not know {}", unknown.join(", ")) }
}

impl Error {
    /// Whether waiting may help: the machine may still be booting.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Closed { .. } | Self::NotEnrolled { .. } | Self::Clock { .. })
    }

    /// Whether somebody answers who is not the machine, or not one of ours any more.
    pub(crate) fn is_somebody_else(&self) -> bool {
        matches!(
            self,
            Self::OtherKey { .. }
                | Self::OldKey { .. }
                | Self::OtherAuthority { .. }
                | Self::NotEnrolled { .. }
                | Self::OtherMachine { .. }
        )
    }

    /// Whether the machine answers, and the agent on it does not run just now.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// Whether the machine gave no answer at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Closed { .. } | Self::Away { .. } => true,
            Self::Deadline { last, .. } => last.as_deref().is_some_and(Self::is_unreachable),
            _ => false,
        }
    }
}
