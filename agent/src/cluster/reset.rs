//! Leaving a cluster: `kubeadm reset` and everything that it leaves behind.

use super::evidence::{Attempt, Trace, standing};
use super::kube::{CA, Kube, failed, failure};
use super::{Standing, cleanup, status};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;

/// Takes this machine out of its cluster and makes it clean. Changes nothing on a clean one.
///
/// # Errors
/// Also when it belongs to another cluster than `cluster_id` (if that is not empty), or when something cannot be removed.
pub async fn reset(cx: RunCx, state: State, cluster_id: String) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    let traces: Vec<Trace> = kube.traces()?.into_iter().map(|(_, trace)| trace).collect();
    let here = status::cluster_id(kube.host()).map_err(failed("look", &format!("read {CA}")))?;
    if !cluster_id.is_empty() && !here.is_empty() && here != cluster_id {
        return Err(failure(
            "look",
            format!("this machine belongs to another cluster: its CA is {here}, not {cluster_id}"),
        ));
    }
    let left = cleanup::left(&kube).await?;
    if standing(&traces) == Standing::Clean && left.is_empty() {
        Attempt::forget(kube.state).map_err(failed("look", "forget the last attempt"))?;
        return Ok(kube.done());
    }
    kube.note(&Attempt::new("reset", "", false))?;
    cleanup::undo(&kube, "reset", "this machine leaves its cluster").await?;
    Ok(kube.done())
}
