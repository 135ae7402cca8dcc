//! Why an operation on a VM does not come to its end. Steps return what went wrong; it is explained once, at the top of the operation.

use pve::Vmid;
use tf::{Diagnostic, Diagnostics, Path};

use crate::agents;

/// The cause, and what was being done where the operation's own words do not say it.
#[derive(Debug)]
pub(super) enum Error {
    /// A call to Proxmox VE, or a wait for what it began.
    Proxmox(pve::Error),
    /// This provider cannot install an agent.
    InstallAgent(agents::Error),
    /// No secret or certificate for the seed image.
    MakeSeed(agents::Error),
    /// The agent was waited for.
    Enrol(Vmid, agents::Error),
    /// The end of the first boot was waited for.
    FirstBoot(Vmid, agents::Error),
    /// What the operation finds wrong itself: all of it at once.
    Wrong(Vec<Problem>),
    /// Terraform wants to stop.
    Stopped,
    /// More than one of these, told together.
    Several(Vec<Error>),
    /// Told already: by a look for the VM, or as a bug.
    Told(Diagnostics),
}

/// Something that is wrong, and its cure.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) happened: String,
    pub(super) next: String,
    /// The attribute whose editing is the cure.
    pub(super) at: Option<Path>,
}

impl Problem {
    pub(super) fn new(happened: impl Into<String>, next: impl Into<String>) -> Self {
        Self { happened: happened.into(), next: next.into(), at: None }
    }

    pub(super) fn at(self, path: impl Into<Path>) -> Self {
        Self { at: Some(path.into()), ..self }
    }
}

impl Error {
    /// All that is wrong, if anything is.
    pub(super) fn if_any(wrong: Vec<Problem>) -> Result<(), Self> {
        if wrong.is_empty() { Ok(()) } else { Err(Self::Wrong(wrong)) }
    }
}

/// Both ended well, or everything that did not.
pub(super) fn both(one: Result<(), Error>, other: Result<(), Error>) -> Result<(), Error> {
    match (one, other) {
        (Err(one), Err(other)) => Err(Error::Several(vec![one, other])),
        (one, other) => one.and(other),
    }
}

impl From<pve::Error> for Error {
    fn from(error: pve::Error) -> Self {
        Self::Proxmox(error)
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Wrong(vec![problem])
    }
}

impl From<Diagnostic> for Error {
    fn from(told: Diagnostic) -> Self {
        Self::Told(told.into())
    }
}

impl From<Diagnostics> for Error {
    fn from(told: Diagnostics) -> Self {
        Self::Told(told)
    }
}
