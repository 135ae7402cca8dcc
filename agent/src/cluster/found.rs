//! What stands on a machine that is to become a node, and whose it is: one look, for every distribution and role.

use super::evidence::{Attempt, Standing, Trace, standing};
use super::init::authority;
use super::kube::Kube;
use super::{cleanup, k3s};
use crate::run::Failure;

/// What was found.
pub(super) struct Found {
    /// Files that tell of a cluster.
    pub(super) traces: Vec<(&'static str, Trace)>,
    /// How far they are a node.
    pub(super) standing: Standing,
    /// Pin of the CA; empty without one.
    pub(super) here: String,
    /// The last attempt.
    pub(super) attempt: Option<Attempt>,
    /// It is of that attempt, which did not come to its end.
    pub(super) is_cut_off: bool,
}

impl Found {
    /// Looks.
    ///
    /// # Errors
    /// Also when it is of a distribution that this agent makes nothing of.
    pub(super) fn look(kube: &Kube<'_>) -> Result<Self, Failure> {
        let traces = kube.traces()?;
        cleanup::no_stranger(&traces)?;
        let kinds: Vec<Trace> = traces.iter().map(|(_, trace)| *trace).collect();
        let (attempt, here) = (kube.attempt()?, authority(kube)?);
        let is_cut_off = match &attempt {
            Some(attempt) => attempt.may_be_undone(&here, &kinds) || k3s::has_begun(kube, attempt)?,
            None => false,
        };
        Ok(Self { standing: standing(&kinds), traces, here, attempt, is_cut_off })
    }

    /// This agent made it, or began to.
    pub(super) fn is_made(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.has_made(&self.here))
    }

    /// The attempt came to its end.
    pub(super) fn was_finished(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.cluster_id.is_some())
    }

    /// Whole once, and reset by somebody else since, but for parts.
    pub(super) fn is_lost(&self) -> bool {
        self.here.is_empty() && self.was_finished()
    }
}
