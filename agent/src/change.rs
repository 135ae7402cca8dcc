//! A change is one of few verbs, with what is wrong and why it matters. Steps say which are needed, a run makes them; how a verb is
//! carried out is in `make`.

mod apt;
mod key;
mod make;
mod original;
mod waiting;

use crate::host::{Access, HostError};
use bytes::Bytes;
use std::fmt;

pub(crate) use apt::{available, left_over, offered};
pub(crate) use key::plain as plain_key;
pub use make::make;
pub use original::{others, restores};
pub(crate) use waiting::still_missing;

/// What a step found: changes in the order they are to be made, and what is left out on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Todo {
    /// To be made.
    pub changes: Vec<Change>,
    /// What this machine cannot do, with the fact that says so.
    pub skipped: Vec<String>,
    /// What a person should know, and no change puts right.
    pub warnings: Vec<String>,
    /// The same, where it is news of a change alone: no plan repeats it.
    pub remarks: Vec<String>,
}

impl Todo {
    /// One more change: what is wrong, the cure, and why it matters.
    pub fn push(&mut self, finding: impl Into<String>, verb: Verb, why: impl Into<String>) {
        self.changes.push(Change { finding: finding.into(), also: Vec::new(), verb, why: why.into() });
    }

    /// One more change that puts several things right: each is a line of its own where differences are listed.
    pub fn push_all(&mut self, mut findings: Vec<String>, verb: Verb, why: impl Into<String>) {
        if findings.is_empty() {
            return;
        }
        let first = findings.remove(0);
        self.changes.push(Change { finding: first, also: findings, verb, why: why.into() });
    }

    /// Something that a person should know.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Something that a person should know once.
    pub fn remark(&mut self, remark: impl Into<String>) {
        self.remarks.push(remark.into());
    }

    /// Something this machine cannot do.
    pub fn skip(&mut self, reason: impl Into<String>) {
        self.skipped.push(reason.into());
    }
}

/// One thing to do, as small as it can be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is wrong now: "/swap.img is active".
    pub finding: String,
    /// What else is wrong that the same verb puts right.
    pub also: Vec<String>,
    /// What puts it right.
    pub verb: Verb,
    /// Why it matters: "the kubelet refuses to run with swap".
    pub why: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding)?;
        self.also.iter().try_for_each(|finding| write!(f, ", {finding}"))
    }
}

/// All that is ever done to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Replace a file.
    Write(File),
    /// Remove a file of ours.
    Remove(String),
    /// Put back what stood at a path before our first write.
    Restore {
        /// Who wrote over it.
        step: &'static str,
        /// Where.
        path: String,
    },
    /// Download an OpenPGP key by the package manager's own means.
    Fetch {
        /// From where.
        url: String,
        /// To where.
        path: String,
    },
    /// Set a kernel setting now: its file below `/proc/sys` and the value.
    Set {
        /// `/proc/sys/…`
        path: String,
        /// Its value.
        value: String,
    },
    /// Load a kernel module now.
    Load(String),
    /// Stop swapping to a device or file.
    SwapOff(String),
    /// One transaction of the package manager.
    Packages(Transaction),
    /// Hold a package at its version, or let go of it.
    Hold {
        /// Which.
        package: String,
        /// Hold or let go.
        held: bool,
    },
    /// Ask systemd for something.
    Unit {
        /// Which, with suffix.
        unit: String,
        /// What.
        act: Act,
    },
    /// Have systemd read its files again.
    Reload,
    /// Make a filesystem on a blank device.
    Format {
        /// Stable name of the device.
        device: String,
        /// "ext4" or "xfs".
        kind: String,
        /// Known up front, so that a cut leaves no doubt.
        uuid: String,
        /// Its label.
        label: Option<String>,
    },
    /// Let a filesystem fill its device.
    Grow {
        /// "ext4" or "xfs".
        kind: String,
        /// The device.
        device: String,
        /// Where it is mounted.
        mounted: String,
    },
    /// Wait until something holds.
    Wait(Wait),
    /// Run a user's guarded command.
    Run {
        /// Absolute program first.
        argv: Vec<String>,
        /// Life span in seconds.
        timeout_s: u32,
        /// The name it was given.
        name: String,
    },
}

/// A file as it is to be. `Debug` does not print the content.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Content.
    pub content: Bytes,
    /// Mode and owner.
    pub access: Access,
    /// It may not be ours: what stood there before the first write is kept for this step.
    pub over_original: Option<&'static str>,
}

impl File {
    /// A file that only we write.
    #[must_use]
    pub fn ours(path: &str, content: impl Into<Bytes>) -> Self {
        Self { path: path.to_owned(), content: content.into(), access: Access::OPEN, over_original: None }
    }

    /// A file that may stand there already, as the system's or the user's. The step has to [put it back](restores) one day.
    #[must_use]
    pub fn theirs(step: &'static str, path: &str, content: impl Into<Bytes>) -> Self {
        Self { over_original: Some(step), ..Self::ours(path, content) }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?}, {:o}, {} bytes)", self.path, self.access.mode, self.content.len())
    }
}

/// What the package manager is to do in one go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Packages, with the version they are to have; it may end in `*`.
    pub install: Vec<(String, Option<String>)>,
    /// Packages to take away.
    pub remove: Vec<String>,
    /// Finish what an interrupted run left half done.
    pub repair: bool,
}

/// What systemd can be asked to do with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Start at boot.
    Enable,
    /// Do not start at boot.
    Disable,
    /// Make it impossible to start.
    Mask,
    /// Make it possible again.
    Unmask,
    /// Start now.
    Start,
    /// Stop now.
    Stop,
    /// Stop and start, for its files have changed.
    Restart,
}

impl Act {
    /// systemctl's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Mask => "mask",
            Self::Unmask => "unmask",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// What can be waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// First boot's work is done.
    CloudInit,
    /// Something keeps the clock right.
    Clock,
    /// A container runtime answers on its socket.
    Runtime(String),
}

/// A machine that cannot be read, or cannot be what is asked for.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The machine said no.
    #[error(transparent)]
    Host(HostError),
    /// Not on this machine.
    #[error("{what} is not possible here: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// The fact that speaks against it.
        why: String,
    },
    /// It could be done but would do harm.
    #[error("{what} is refused: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The harm.
        why: String,
    },
    /// Waited in vain.
    #[error("waited {after_s} s for {what}: {last}")]
    Waited {
        /// For what.
        what: &'static str,
        /// How long.
        after_s: u64,
        /// What was seen last.
        last: String,
    },
}

impl From<HostError> for StepError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl StepError {
    /// Not on this machine.
    pub fn unsupported(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), why: why.into() }
    }

    /// What stands at a path is not a file, and is not written over.
    pub(crate) fn no_file(path: &str) -> Self {
        Self::refused(format!("writing {path}"), "something that is not a file stands there; move it away first")
    }

    /// It would do harm.
    pub fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), why: why.into() }
    }

    /// Whether the machine can be looked at and only this is not to be done on it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Unsupported { .. } | Self::Refused { .. } | Self::Host(HostError::Foreign { .. }) => true,
            Self::Host(_) | Self::Waited { .. } => false,
        }
    }

    /// The last lines printed by the program that failed.
    #[must_use]
    pub fn tail(&self) -> &[String] {
        if let Self::Host(error) = self { error.tail() } else { &[] }
    }
}
