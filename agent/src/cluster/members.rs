//! What a control plane does about other nodes: labels and taints, and sending one away, with its member of etcd if it has one.

use super::config::Taint;
use super::kube::{CACHE, Kube, failed, failure};
use super::nodes::{self, Node};
use super::output::reasons;
use super::{Distribution, drain, etcd, foreign};
use crate::host::Command;
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Labels and taints of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSettings {
    /// Which.
    pub node_name: String,
    /// Labels it is to have.
    pub labels: BTreeMap<String, String>,
    /// Taints it is to have.
    pub taints: Vec<Taint>,
    /// Labels it is not to have any more.
    pub remove_labels: Vec<String>,
    /// Taints it is not to have any more.
    pub remove_taints: Vec<Taint>,
}

/// Sets what is different.
///
/// # Errors
/// Also when there is no such node.
pub async fn set(cx: RunCx, state: State, wanted: NodeSettings) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    let name = wanted.node_name.as_str();
    let node = find(&kube, "labels", name).await?;
    let node = node.ok_or_else(|| failure("labels", format!("the cluster has no node {name}")))?;
    for (kind, arguments) in [("label", label_changes(&wanted, &node)), ("taint", taint_changes(&wanted, &node))] {
        if arguments.is_empty() {
            continue;
        }
        let step = if kind == "label" { "labels" } else { "taints" };
        kube.cx.step_began(step, 1);
        let since = Instant::now();
        let fixed = ["--kubeconfig", kube.distribution.admin(), CACHE, kind, "node", name].map(str::to_owned);
        let words = fixed.into_iter().chain(arguments.clone()).chain(["--overwrite".to_owned()]);
        kube.must(step, &Command::new(kube.distribution.kubectl(kube.host()), words)).await?;
        kube.made(step, &format!("{name}: {}", arguments.join(" ")), "as the configuration says", since);
    }
    Ok(kube.done())
}

/// Cordons, drains and deletes a node; content if there is none. A control plane's member leaves etcd when its pods have gone and before
/// its Node does: whatever is cut off, what is left can be asked for by the name of the node.
///
/// # Errors
/// When its pods do not leave in time, or etcd would lose its quorum: nothing is deleted then.
pub async fn remove(cx: RunCx, state: State, node_name: String, timeout: Option<Duration>) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    let node = find(&kube, "drain", &node_name).await?;
    if node.as_ref().is_some_and(|node| node.control_plane) {
        foreign::has_own_etcd(&kube, etcd::QUORUM, &format!("control plane {node_name} cannot leave"))?;
    }
    etcd::may_go(&kube, &node_name).await?;
    let Some(node) = node else {
        etcd::take_out(&kube, &node_name).await?;
        forget_password(&kube, "delete", &node_name).await?;
        return Ok(kube.done());
    };
    // Nothing runs on a node whose kubelet is silent that could end a pod: to wait for it would be in vain.
    if !node.ready && timeout.is_some() {
        cx.warn("drain", &drain::not_waited_for(&node_name));
    }
    if let Some(timeout) = timeout.filter(|_| node.ready) {
        kube.cx.step_began("drain", 1);
        drain::drain(&kube, (kube.distribution.admin(), &node_name), timeout, drain::STAYS).await?;
        kube.may_go_on("delete")?;
    }
    etcd::take_out(&kube, &node_name).await?;
    kube.cx.step_began("delete", 1);
    let since = Instant::now();
    let admin = kube.distribution.admin();
    let delete = ["--kubeconfig", admin, CACHE, "delete", "node", &node_name, "--ignore-not-found"];
    kube.insist("delete", &Command::new(kube.distribution.kubectl(kube.host()), delete)).await?;
    forget_password(&kube, "delete", &node_name).await?;
    kube.made("delete", &format!("delete node {node_name}"), "it leaves the cluster", since);
    Ok(kube.done())
}

/// K3s keeps out a machine that comes under a known name with another password, for as long as it keeps that. It forgets it when it sees the Node
/// deleted, and never that of a Node which was gone before.
pub(super) async fn forget_password(kube: &Kube<'_>, step: &str, name: &str) -> Result<(), Failure> {
    let Distribution::K3s(own) = kube.distribution else { return Ok(()) };
    let (admin, secret) = (kube.distribution.admin(), own.password_of(name));
    let words =
        ["--kubeconfig", admin, CACHE, "delete", "secret", &secret, "--namespace", "kube-system", "--ignore-not-found"];
    kube.insist(step, &Command::new(kube.distribution.kubectl(kube.host()), words)).await.map(drop)
}

async fn find(kube: &Kube<'_>, step: &str, name: &str) -> Result<Option<Node>, Failure> {
    let ask = ["get", "node", name, "--ignore-not-found", "-o", "json"];
    let said = kube.kubectl(kube.distribution.admin(), &ask).await.map_err(failed(step, "ask the API server"))?;
    if said.code != Some(0) {
        return Err(failure(step, format!("the API server does not answer: {}", reasons(&said.stderr).join("; "))));
    }
    nodes::read_one(&said.stdout).map_err(failed(step, "read the API server's answer"))
}

fn label_changes(wanted: &NodeSettings, node: &Node) -> Vec<String> {
    let set = wanted.labels.iter().filter(|(key, value)| node.labels.get(*key) != Some(*value));
    let removed = wanted.remove_labels.iter().filter(|key| node.labels.contains_key(*key));
    set.map(|(key, value)| format!("{key}={value}")).chain(removed.map(|key| format!("{key}-"))).collect()
}

fn taint_changes(wanted: &NodeSettings, node: &Node) -> Vec<String> {
    let has = |taint: &Taint| node.taints.contains(&taint.text());
    let set = wanted.taints.iter().filter(|taint| !has(taint)).map(Taint::text);
    let removed = wanted.remove_taints.iter().filter(|taint| has(taint));
    set.chain(removed.map(|taint| format!("{}:{}-", taint.key, taint.effect))).collect()
}

#[cfg(test)]
mod change_tests {
    use super::*;

    #[test]
    fn only_what_differs_is_asked_for() {
        let node = Node {
            labels: BTreeMap::from([("a".into(), "1".into()), ("old".into(), String::new())]),
            taints: vec!["x:NoSchedule".into(), "gone=1:NoExecute".into()],
            ..Node::default()
        };
        let wanted = NodeSettings {
            node_name: "n".into(),
            labels: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
            taints: vec![Taint::parse("x:NoSchedule").unwrap(), Taint::parse("y=1:NoExecute").unwrap()],
            remove_labels: vec!["old".into(), "never".into()],
            remove_taints: vec![Taint::parse("gone=1:NoExecute").unwrap(), Taint::parse("z:NoSchedule").unwrap()],
        };
        assert_eq!(label_changes(&wanted, &node), ["b=2", "old-"]);
        assert_eq!(taint_changes(&wanted, &node), ["y=1:NoExecute", "gone:NoExecute-"]);
    }
}
