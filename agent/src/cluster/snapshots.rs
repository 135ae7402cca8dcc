//! Snapshots of etcd: taken by the agent of a control plane from its own member, and kept on its machine.
//!
//! One that is asked for has its name only when whoever asks hears that it is there: what a provider that was killed has left is taken
//! anew, in the same place. `schedule` has a timer of systemd take others.

pub(super) mod away;
pub(super) mod schedule;

use super::etcd::{self, OWN};
use super::evidence::{Standing, standing};
use super::foreign::has_own_etcd;
use super::kube::{Kube, failed, foreign, traces};
use super::status;
use crate::chain::chain;
use crate::host::etcd::Snapshot;
use crate::host::{Host, HostError};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use std::time::Instant;

/// A snapshot to take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// The cluster that is meant.
    pub cluster_id: String,
    /// The file it is to become.
    pub path: String,
}

/// What cannot be done with a snapshot's file.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The machine said no.
    #[error("the snapshot cannot be kept")]
    Host(#[source] HostError),
    /// Nothing was taken for this path.
    #[error("no snapshot was taken for {0}")]
    Nothing(String),
    /// Somebody else's.
    #[error("what stands at {path} is not the snapshot that is meant, and stays: {what}")]
    Another {
        /// Where.
        path: String,
        /// What stands there.
        what: String,
    },
}

/// Takes one, without its name yet.
///
/// # Errors
/// At `ownership` when this is no control plane of the cluster that is meant, or something stands at the path.
pub async fn take(cx: RunCx, state: State, plan: SnapshotPlan) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    is_of(&kube, &plan.cluster_id)?;
    has_own_etcd(&kube, STEP, "no snapshot is taken")?;
    if kube.host().exists(&plan.path).map_err(failed(STEP, &format!("look at {}", plan.path)))? {
        return Err(foreign(format!("something stands at {} already, and is not written over", plan.path)));
    }
    kube.cx.step_began(STEP, 1);
    let since = Instant::now();
    let taken = fresh(kube.host(), &part(&plan.path)).await.map_err(failed(STEP, "take a snapshot of etcd"))?;
    let summary = format!("take a snapshot of etcd: revision {}, {} bytes", taken.revision, taken.size);
    kube.made(STEP, &summary, &format!("it becomes {}", plan.path), since);
    Ok(kube.done())
}

/// Gives the one that was taken for a path its name.
///
/// # Errors
/// Also when none was taken, or something stands there.
pub fn keep(host: &dyn Host, path: &str) -> Result<Snapshot, SnapshotError> {
    let part = part(path);
    // Where it is not there any more it was kept before, and the answer was lost.
    if host.etcd().look(&part).map_err(SnapshotError::Host)?.is_some() {
        host.etcd().rename(&part, path).map_err(SnapshotError::Host)?;
    }
    look(host, path)?.ok_or_else(|| SnapshotError::Nothing(path.to_owned()))
}

/// The snapshot that stands at a path; `None` for everything else.
///
/// # Errors
/// When it cannot be looked at.
pub fn look(host: &dyn Host, path: &str) -> Result<Option<Snapshot>, SnapshotError> {
    match host.etcd().look(path) {
        Err(HostError::NoSnapshot { .. }) => Ok(None),
        other => other.map_err(SnapshotError::Host),
    }
}

/// Removes the snapshot with this sum; content if nothing stands there.
///
/// # Errors
/// When another one stands there, or what is none.
pub fn discard(host: &dyn Host, path: &str, sha256: &str) -> Result<(), SnapshotError> {
    let another = |what: String| SnapshotError::Another { path: path.to_owned(), what };
    match host.etcd().look(path) {
        Ok(None) => Ok(()),
        Ok(Some(there)) if there.sha256 == sha256 => host.remove(path).map_err(SnapshotError::Host),
        Ok(Some(there)) => Err(another(format!("a snapshot with the sum {}", there.sha256))),
        Err(error @ HostError::NoSnapshot { .. }) => Err(another(chain(&error))),
        Err(error) => Err(SnapshotError::Host(error)),
    }
}

/// Takes one of this machine's member into a file. A member that knows no leader may have been left behind.
async fn fresh(host: &dyn Host, to: &str) -> Result<Snapshot, HostError> {
    if !etcd::standing(host, OWN).await?.has_leader {
        let why = "it knows no leader, and what it has may be old".to_owned();
        return Err(HostError::Etcd { at: OWN.to_owned(), why });
    }
    host.etcd().snapshot(OWN, to).await
}

/// Where it stands while it has no name: hidden, and in the same folder.
fn part(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    format!("{folder}/.{name}.part")
}

/// This machine is a control plane of that cluster.
pub(super) fn is_of(kube: &Kube<'_>, cluster_id: &str) -> Result<(), Failure> {
    let found = traces(kube.host(), kube.distribution).map_err(failed("look", "look at what stands here"))?;
    let here = status::cluster_id(kube.host()).map_err(failed("look", "read the cluster's CA"))?;
    let is_one = standing(&found.into_iter().map(|(_, trace)| trace).collect::<Vec<_>>()) == Standing::ControlPlane;
    if is_one && here == cluster_id {
        return Ok(());
    }
    let whose = if here.is_empty() { "of none".to_owned() } else { format!("of one with the CA {here}") };
    Err(foreign(format!("this machine is no control plane of the cluster that is meant, but {whose}")))
}

const STEP: &str = "snapshot";
