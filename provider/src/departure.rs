//! Before a machine goes, its node leaves its cluster in order.
//!
//! Terraform destroys a machine before it changes the cluster that the machine is in, so the machine's own destruction takes the node
//! out. Where the whole cluster is destroyed in the same run, the cluster goes first and resets its machines: then there is no node
//! any more, and nothing to wait for. A machine that cannot be asked is no reason to keep it, and is told.

use crate::agents::{ClusterStatus, Endpoint, Error, Job, Standing, Wait};
use crate::context::Cx;
use crate::explain;
use crate::timeouts::Limit;
use crate::turns::Leaving;
use std::time::Duration;
use tf::{Diagnostic, Diagnostics};
use tokio::time::Instant;
use trust::Role;

/// Has the node on the machine of `endpoint` cordoned, drained and reset, if there is one; one of a cluster at a time. The time of
/// `limit` counts from its turn. `act` reads `destroy VM 120`.
pub(crate) async fn depart(cx: &Cx, act: &str, endpoint: &Endpoint, limit: Limit) -> Result<(), Diagnostics> {
    let leaving = cx.turns.begins_to_leave();
    let status = match look(cx, endpoint).await {
        Ok(status) => status,
        Err(error @ Error::Stopped) => return Err(explain::agent(act, &error).into()),
        Err(error) => {
            cx.warn(not_asked(act, &error));
            return Ok(());
        }
    };
    // What is unfinished may be a departure that was cut off.
    if status.standing == Standing::Clean {
        return Ok(());
    }
    // Of others nobody counts how many go.
    let leaving = (status.standing == Standing::ControlPlane).then_some(leaving);
    if let Some(leaving) = &leaving {
        leaving.is(&status.cluster_id, &endpoint.fingerprint);
    }
    cx.progress(&format!("{}: waiting for its turn to leave its cluster", endpoint.address));
    // Both arms are cancel-safe: a token and a fair lock that is asked for once.
    let turn = tokio::select! {
        () = cx.stop.cancelled() => return Err(explain::agent(act, &Error::Stopped).into()),
        turn = cx.turns.take(&status.cluster_id) => turn,
    };
    let _leaving = match leaving {
        Some(leaving) => Some(some_stay(cx, act, endpoint, leaving).await?),
        None => None,
    };
    let progress = |line: &str| cx.progress(line);
    let wait = Wait { deadline: Instant::now() + limit.time + RESET, stop: &cx.stop, progress: &progress };
    let left = cx.agents.run(endpoint, &Job::Leave { drain: limit.time }, &wait).await;
    drop(turn);
    match left {
        Ok(report) => {
            report
                .warnings
                .iter()
                .for_each(|line| cx.warn(explain::noted(&format!("{act}: {}", status.node_name), line)));
            Ok(())
        }
        Err(error @ Error::NotKnown { .. }) => {
            cx.warn(not_asked(act, &error));
            Ok(())
        }
        Err(error) => Err(explain::leaving(act, &error, &limit.name()).into()),
    }
}

/// Whether control planes stay that do not go in this apply. Of a single one its own agent says what is lost with it.
async fn some_stay<'a>(
    cx: &Cx,
    act: &str,
    endpoint: &Endpoint,
    leaving: Leaving<'a>,
) -> Result<Leaving<'a>, Diagnostics> {
    // Terraform destroys the machines of one apply side by side: those that go with this one have begun to, and say what they are.
    let until = Instant::now() + PATIENCE;
    loop {
        tokio::select! {
            () = cx.stop.cancelled() => return Err(explain::agent(act, &Error::Stopped).into()),
            () = tokio::time::sleep(TOGETHER) => {}
        }
        if leaving.together().is_some() || Instant::now() > until {
            break;
        }
    }
    // Others may have gone since it was asked. One that cannot say now is asked again by what follows.
    let Ok(status) = look(cx, endpoint).await else { return Ok(leaving) };
    let all = status.nodes.iter().filter(|node| node.control_plane).count();
    if all < 2 || leaving.together().is_none_or(|together| together < all) {
        return Ok(leaving);
    }
    leaving.in_vain();
    Err(Diagnostic::error(format!("Cannot {act}"))
        .happened(format!(
            "All {all} control planes of the cluster would go in this apply, and with the last one all that the cluster holds."
        ))
        .holds("This one is a control plane of its cluster still, and was not changed.")
        .next("Change one machine at a time, and apply each time: the cluster takes it in again before the next one goes. Or add new control planes first, and take the old ones out with a later apply. If the cluster may be lost, destroy the `groundwork_cluster` first.")
        .into())
}

/// How the machine stands in a cluster; asked again for a while, for it may be restarting.
async fn look(cx: &Cx, endpoint: &Endpoint) -> Result<ClusterStatus, Error> {
    let progress = |line: &str| cx.progress(line);
    let wait = Wait { deadline: Instant::now() + PATIENCE, stop: &cx.stop, progress: &progress };
    cx.agents.reach(endpoint, Role::Observer, &wait, PATIENCE).await?.cluster_status().await
}

fn not_asked(act: &str, error: &Error) -> Diagnostic {
    Diagnostic::warning(format!("Cannot ask before this: {act}"))
        .happened(format!(
            "Whether the machine is a node of a cluster, and its pods are to move first, is not known: {}.",
            tf::chain(error)
        ))
        .holds("It goes all the same.")
        .next("If it was a node, `kubectl get nodes` shows it as not ready; `kubectl delete node` takes it out.")
}

/// How long an agent may give no answer before its machine goes unasked.
const PATIENCE: Duration = Duration::from_secs(20);
/// Within which those that go together have begun to.
const TOGETHER: Duration = Duration::from_secs(1);
/// What a reset may take after the pods have left.
const RESET: Duration = Duration::from_secs(900);
