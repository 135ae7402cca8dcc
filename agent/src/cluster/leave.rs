//! Leaving a cluster because the machine is to go: cordon, evict, a control plane's member out of etcd, reset, in this order and on the node
//! itself.
//!
//! Terraform destroys a machine before it changes the cluster that the machine is in, and a control plane cannot be asked then: only
//! the machine is known. The kubelet's own credentials may cordon their node and evict its pods, but not delete it: it stays behind
//! with a mark, so that the change of the cluster has nobody to wait for. On a control plane they are the administrator's.

use super::etcd::QUORUM;
use super::evidence::{Attempt, Standing, Trace, standing};
use super::init::authority;
use super::kube::{Kube, failed, failure};
use super::nodes::{self, Node};
use super::output::reasons;
use super::{cleanup, drain, etcd, foreign, k3s, kubelet};
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
    let here = authority(&kube)?;
    let attempt = kube.attempt()?;
    let is_cut_off = |attempt: &&Attempt| attempt.kind != "init" && attempt.may_be_undone(&here, &traces);
    let has_begun = attempt.as_ref().map_or(Ok(false), |attempt| k3s::has_begun(&kube, attempt))?;
    if let Some(attempt) = attempt.as_ref().filter(|attempt| has_begun || is_cut_off(attempt)) {
        undo(&kube, attempt).await?;
        return Ok(kube.done());
    }
    let ours = attempt.filter(|attempt| attempt.cluster_id.is_some() && attempt.has_made(&here));
    let standing = standing(&traces);
    let kubeconfig = match standing {
        Standing::Worker => kube.distribution.node(),
        Standing::ControlPlane => kube.distribution.admin(),
        Standing::Clean | Standing::Partial => return Ok(kube.done()),
    };
    let Some(Attempt { node_name, .. }) = ours.filter(|_| cleanup::no_stranger(&found).is_ok()) else {
        cx.warn("leave", "it is a node of a cluster that this agent did not make, and was left as it is");
        return Ok(kube.done());
    };
    if standing == Standing::ControlPlane {
        foreign::has_no_member(&kube, QUORUM, &format!("control plane {node_name} does not leave"))?;
        may_go(&kube, &node_name).await?;
    }
    empty(&kube, kubeconfig, &node_name, timeout).await?;
    kube.may_go_on("reset")?;
    if standing == Standing::ControlPlane {
        etcd::take_out(&kube, &node_name).await?;
    }
    kube.cx.step_began("reset", 1);
    cleanup::undo(&kube, "reset", "this machine leaves its cluster").await?;
    Ok(kube.done())
}

/// Takes away what a join or a reset has left that did not come to its end. A control plane's join may have brought a member into etcd.
pub(super) async fn undo(kube: &Kube<'_>, attempt: &Attempt) -> Result<(), Failure> {
    if attempt.kind == "join"
        && let Err(failure) = etcd::take_out(kube, &attempt.node_name).await
    {
        let line = format!("whether etcd has a member of {} is not known: {}", attempt.node_name, failure.message);
        kube.cx.warn("etcd", &line);
    }
    cleanup::undo(kube, "reset", &format!("an earlier {} did not come to its end", attempt.kind)).await
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
    kube.must("drain", &Command::new(kube.distribution.kubectl(kube.host()), annotate)).await.map(drop)
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

/// Whether the cluster lives on without this control plane.
async fn may_go(kube: &Kube<'_>, node_name: &str) -> Result<(), Failure> {
    let members = etcd::look(kube.host()).await.map_err(|error| {
        let why = crate::chain::chain(&error);
        let message = format!(
            "this machine is a control plane, and no member of its etcd says whether the cluster lives on without it: {why}"
        );
        failure(QUORUM, message)
    })?;
    let members = members.unwrap_or_default();
    if members.iter().any(|member| member.name != node_name && !member.learner) {
        return etcd::may_go(kube, node_name).await;
    }
    let said = kube
        .kubectl(kube.distribution.admin(), &["get", "nodes", "-o", "json"])
        .await
        .map_err(failed(QUORUM, "ask for the nodes"))?;
    let nodes = nodes::read(&said.stdout).unwrap_or_default();
    let others = nodes.iter().filter(|node| node.name != node_name).count();
    let message = format!(
        "this machine is the only control plane of a cluster with {others} more nodes, and all of its data are here"
    );
    Err(failure(QUORUM, message))
}

/// How long an API server may give no answer.
const PATIENCE: Duration = Duration::from_secs(20);
