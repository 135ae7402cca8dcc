//! Leaving a cluster because the machine is to go: cordon, evict, reset, in this order and on the node itself.
//!
//! Terraform destroys a machine before it changes the cluster that the machine is in, and a control plane cannot be asked then: only
//! the machine is known. The kubelet's own credentials may cordon their node and evict its pods, but not delete it: it stays behind
//! with a mark, so that the change of the cluster has nobody to wait for. On a control plane they are the administrator's.

use super::evidence::{Attempt, Standing, Trace, standing};
use super::kube::{ADMIN, CA, KUBECTL, KUBELET, Kube, failed, failure};
use super::nodes::{self, Node};
use super::output::reasons;
use super::{cleanup, drain, kubelet, status};
use crate::host::Command;
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use std::time::Duration;
use tokio::time::Instant;

/// Takes this machine out of its cluster in order. Changes nothing on a machine that is no node of ours.
///
/// # Errors
/// When pods do not leave in time, at the step `drain`; when the cluster would be lost with this machine, at `quorum`. Nothing is
/// reset then.
pub async fn leave(cx: RunCx, state: State, timeout: Duration) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    let found = kube.traces()?;
    let traces: Vec<Trace> = found.iter().map(|(_, trace)| *trace).collect();
    let here = status::cluster_id(kube.host()).map_err(failed("look", &format!("read {CA}")))?;
    let attempt = kube.attempt()?;
    let is_cut_off = |attempt: &Attempt| attempt.kind == "reset" && attempt.may_be_undone(&here, &traces);
    if attempt.as_ref().is_some_and(is_cut_off) {
        cleanup::undo(&kube, "reset", "an earlier reset did not come to its end").await?;
        return Ok(kube.done());
    }
    let ours = attempt.filter(|attempt| attempt.cluster_id.is_some() && attempt.has_made(&here));
    let standing = standing(&traces);
    let kubeconfig = match standing {
        Standing::Worker => KUBELET,
        Standing::ControlPlane => ADMIN,
        Standing::Clean | Standing::Partial => return Ok(kube.done()),
    };
    let Some(Attempt { node_name, .. }) = ours.filter(|_| cleanup::no_stranger(&found).is_ok()) else {
        cx.warn("leave", "it is a node of a cluster that this agent did not make, and was left as it is");
        return Ok(kube.done());
    };
    if standing == Standing::ControlPlane {
        may_go(&kube, &node_name).await?;
    }
    empty(&kube, kubeconfig, &node_name, timeout).await?;
    kube.may_go_on("reset")?;
    kube.cx.step_began("reset", 1);
    cleanup::undo(&kube, "reset", "this machine leaves its cluster").await?;
    Ok(kube.done())
}

/// Has the pods move away and marks the node. Where nobody can be asked, or nothing runs that could end a pod, there is nothing to wait for.
async fn empty(kube: &Kube<'_>, kubeconfig: &str, node_name: &str, timeout: Duration) -> Result<(), Failure> {
    kube.cx.step_began("drain", 1);
    let runs = kubelet::runs(kube.host()).await.map_err(failed("drain", "ask for the kubelet's state"))?;
    match ask(kube, kubeconfig, node_name).await? {
        Ok(None) => return Ok(()),
        Ok(Some(node)) if !node.ready => kube.cx.warn("drain", &drain::not_waited_for(node_name)),
        // The API server notices some time after its end.
        Ok(Some(_)) if !runs => {
            kube.cx.warn("drain", &format!("the kubelet of {node_name} does not run: its pods were not waited for"));
        }
        Ok(Some(_)) => drain::drain(kube, (kubeconfig, node_name), timeout, drain::STAYS).await?,
        Err(why) => {
            let line = format!("the API server does not answer, so node {node_name} was not drained: {why}");
            kube.cx.warn("drain", &line);
            return Ok(());
        }
    }
    let mark = format!("{}=true", nodes::LEAVING);
    let annotate =
        ["--kubeconfig", kubeconfig, super::kube::CACHE, "annotate", "--overwrite", "node", node_name, &mark];
    kube.must("drain", &Command::new(KUBECTL, annotate)).await.map(drop)
}

/// The node as the API server has it, or why it does not say: it may be restarting.
async fn ask(kube: &Kube<'_>, kubeconfig: &str, node_name: &str) -> Result<Result<Option<Node>, String>, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let question = ["get", "node", node_name, "--ignore-not-found", "-o", "json"];
        let said = kube.kubectl(kubeconfig, &question).await.map_err(failed("drain", "ask the API server"))?;
        if said.code == Some(0) {
            return nodes::read_one(&said.stdout).map(Ok).map_err(failed("drain", "read the API server's answer"));
        }
        if Instant::now() > until {
            return Ok(Err(reasons(&said.stderr).join("; ")));
        }
        kube.pause("drain", Duration::from_secs(1)).await?;
    }
}

/// Whether the cluster lives on without this control plane: etcd needs more than half of its members.
async fn may_go(kube: &Kube<'_>, node_name: &str) -> Result<(), Failure> {
    let said =
        kube.kubectl(ADMIN, &["get", "nodes", "-o", "json"]).await.map_err(failed(QUORUM, "ask for the nodes"))?;
    if said.code != Some(0) {
        let why = reasons(&said.stderr).join("; ");
        let message = format!(
            "this machine is a control plane whose API server does not answer, so nobody can say whether the cluster lives on without it: {why}"
        );
        return Err(failure(QUORUM, message));
    }
    let nodes = nodes::read(&said.stdout).map_err(failed(QUORUM, "read the API server's answer"))?;
    match obstacle(&nodes, node_name) {
        Some(message) => Err(failure(QUORUM, message)),
        None => Ok(()),
    }
}

/// Why the cluster would be lost without the control plane of this name.
fn obstacle(nodes: &[Node], node_name: &str) -> Option<String> {
    let others: Vec<&Node> = nodes.iter().filter(|node| node.control_plane && node.name != node_name).collect();
    if others.is_empty() {
        let workers = nodes.iter().filter(|node| node.name != node_name).count();
        return Some(format!(
            "this machine is the only control plane of a cluster with {workers} more nodes, and all of its data are here"
        ));
    }
    let ready = others.iter().filter(|node| node.ready).count();
    let needed = others.len() / 2 + 1;
    (ready < needed)
        .then(|| format!("of the other {} control planes {ready} are ready, and etcd needs {needed}", others.len()))
}

const QUORUM: &str = "quorum";
/// How long an API server may give no answer.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod quorum_tests {
    use super::*;

    #[test]
    fn the_quorum_never_goes() {
        let node =
            |name: &str, control_plane, ready| Node { name: name.into(), control_plane, ready, ..Node::default() };
        let alone = [node("cp-1", true, true), node("w-1", false, true)];
        assert!(obstacle(&alone, "cp-1").unwrap().contains("only control plane"));
        let three = |ready| [node("cp-1", true, true), node("cp-2", true, true), node("cp-3", true, ready)];
        assert_eq!(obstacle(&three(true), "cp-1"), None);
        assert!(obstacle(&three(false), "cp-1").unwrap().contains("1 are ready, and etcd needs 2"));
        assert_eq!(obstacle(&three(false)[..2], "cp-1"), None, "of two, one stays");
    }
}
