//! Emptying a node: its pods are evicted, so that their budgets are honoured, until none is left or the time is over.
//!
//! Not with `kubectl drain`: that asks for the DaemonSets of a node's pods, which the kubelet's own credentials may not see, and it
//! does not say which budget is in the way. What a DaemonSet keeps here stays, and so do static pods; what has ended needs no move.
//! Source: Kubernetes API, `pods/eviction`; its node authorizer and its admission plugin NodeRestriction.

use super::kube::{Kube, failed, failure};
use super::nodes;
use super::output::{mask, reasons};
use crate::host::{Command, Output};
use crate::run::Failure;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Cordons a node and evicts its pods, with the credentials in `kubeconfig`: an administrator's, or those of the node itself. Where the
/// node falls silent, nothing runs there that could end a pod, and what is evicted is not waited for.
///
/// # Errors
/// When pods are left after `timeout`: each is named with what keeps it. The node stays cordoned; `then` tells what comes of it.
pub(super) async fn drain(
    kube: &Kube<'_>,
    (kubeconfig, node_name): (&str, &str),
    timeout: Duration,
    then: &str,
) -> Result<(), Failure> {
    let (began, until) = (std::time::Instant::now(), Instant::now() + timeout);
    let cordon = ["--kubeconfig", kubeconfig, super::kube::CACHE, "cordon", node_name];
    kube.must(STEP, &Command::new(kube.distribution.kubectl(kube.host()), cordon)).await?;
    let mut told = Told::default();
    loop {
        let pods = left(kube, kubeconfig, node_name).await?;
        told.gone(kube, &pods);
        if pods.is_empty() {
            kube.made(STEP, &format!("drain {node_name}"), "its pods move to other nodes", began);
            return Ok(());
        }
        if pods.iter().all(Pod::is_ending) && is_silent(kube, kubeconfig, node_name).await? {
            kube.cx.warn(STEP, &not_waited_for(node_name));
            return Ok(());
        }
        let mut stuck = BTreeMap::new();
        for pod in &pods {
            let why = if pod.is_ending() {
                Some("it is still ending".to_owned())
            } else {
                kube.may_go_on(STEP)?;
                evict(kube, kubeconfig, pod).await?
            };
            stuck.extend(why.map(|why| (pod.name(), why)));
        }
        told.waiting(kube, &stuck);
        if Instant::now() > until {
            let list: Vec<String> = stuck.iter().map(|(pod, why)| format!("{pod}: {why}")).collect();
            let message = format!(
                "pods do not leave {node_name} within {} s, and it {then}: {}",
                timeout.as_secs(),
                list.join("; ")
            );
            return Err(failure(STEP, message));
        }
        kube.pause(STEP, PAUSE).await?;
    }
}

/// The warning for a node whose kubelet the API server has not heard of.
pub(super) fn not_waited_for(node_name: &str) -> String {
    format!("node {node_name} is not ready: its pods were not waited for")
}

/// Whether the API server takes the node for lost. It does so some time after the kubelet's last word.
async fn is_silent(kube: &Kube<'_>, kubeconfig: &str, node_name: &str) -> Result<bool, Failure> {
    let ask = ["get", "node", node_name, "--ignore-not-found", "-o", "json"];
    let said = kube.kubectl(kubeconfig, &ask).await.map_err(failed(STEP, "ask for the node"))?;
    // An API server that gives no answer just now is asked again with the next look.
    if said.code != Some(0) {
        return Ok(false);
    }
    let node = nodes::read_one(&said.stdout).map_err(failed(STEP, "read the API server's answer"))?;
    Ok(node.is_none_or(|node| !node.ready))
}

/// What was said already, so that nothing is said twice.
#[derive(Default)]
struct Told {
    known: BTreeSet<String>,
    stuck: BTreeMap<String, String>,
}

impl Told {
    fn gone(&mut self, kube: &Kube<'_>, pods: &[Pod]) {
        let now: BTreeSet<String> = pods.iter().map(Pod::name).collect();
        self.known.difference(&now).for_each(|pod| kube.cx.note(STEP, &format!("{pod} has left")));
        self.known = now;
    }

    fn waiting(&mut self, kube: &Kube<'_>, stuck: &BTreeMap<String, String>) {
        for (pod, why) in stuck.iter().filter(|(pod, why)| self.stuck.get(*pod) != Some(*why)) {
            kube.cx.note(STEP, &format!("waiting for {pod}: {why}"));
        }
        self.stuck.clone_from(stuck);
    }
}

/// Pods that have to move before the node may go.
async fn left(kube: &Kube<'_>, kubeconfig: &str, node_name: &str) -> Result<Vec<Pod>, Failure> {
    let here = format!("--field-selector=spec.nodeName={node_name}");
    let ask = ["get", "pods", "--all-namespaces", &here, "-o", "json"];
    let said = kube.kubectl(kubeconfig, &ask).await.map_err(failed(STEP, "ask for the node's pods"))?;
    if said.code != Some(0) {
        let why = reasons(&said.stderr).join("; ");
        return Err(failure(STEP, format!("the API server does not tell the pods of {node_name}: {why}")));
    }
    let list: List = serde_json::from_str(&said.stdout).map_err(failed(STEP, "read the API server's answer"))?;
    Ok(list.items.into_iter().filter(Pod::moves).collect())
}

/// Evicts one pod; `None` if it goes, or why it does not yet.
async fn evict(kube: &Kube<'_>, kubeconfig: &str, pod: &Pod) -> Result<Option<String>, Failure> {
    let Metadata { name, namespace, uid, .. } = &pod.metadata;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": name, "namespace": namespace },
        "deleteOptions": { "preconditions": { "uid": uid } },
    });
    // The answer's body, which is shown at this level only, names the budget.
    let create = ["--kubeconfig", kubeconfig, super::kube::CACHE, "--v=8", "create", "--raw", &path, "-f", "-"];
    let command = Command::new(kube.distribution.kubectl(kube.host()), create)
        .stdin(eviction.to_string())
        .timeout(Duration::from_secs(40));
    let said = kube.host().run(&command, &|_| {}).await.map_err(failed(STEP, &format!("evict {namespace}/{name}")))?;
    Ok(obstacle(&said))
}

/// What an eviction's answer says is in the way.
fn obstacle(said: &Output) -> Option<String> {
    let error = said.stderr.lines().rev().find(|line| line.starts_with("Error"));
    let is = |reason: &str| error.is_some_and(|line| line.contains(reason));
    // Another pod has its name, or none: the next look tells.
    if said.code == Some(0) || is("(NotFound)") || is("(Conflict)") {
        return None;
    }
    let budget =
        said.stderr.find(BUDGET).and_then(|at| said.stderr.get(at + BUDGET.len()..)?.split(['"', '\\', '\n']).next());
    if let Some(budget) = budget {
        return Some(mask(&format!("the disruption budget {}", budget.trim_end_matches('.'))));
    }
    Some(error.map_or_else(|| reasons(&said.stderr).join("; "), |line| mask(line.trim_end_matches('.'))))
}

#[derive(Deserialize)]
struct List {
    items: Vec<Pod>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    annotations: BTreeMap<String, String>,
    deletion_timestamp: Option<String>,
    owner_references: Vec<Owner>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Owner {
    kind: String,
    controller: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    phase: String,
}

impl Pod {
    fn name(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    fn is_ending(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn moves(&self) -> bool {
        let Metadata { annotations, owner_references, .. } = &self.metadata;
        let fixed = annotations.contains_key("kubernetes.io/config.mirror")
            || owner_references.iter().any(|owner| owner.controller && owner.kind == "DaemonSet");
        !fixed && !["Succeeded", "Failed"].contains(&self.status.phase.as_str())
    }
}

/// What becomes of a node that was to go.
pub(super) const STAYS: &str = "stays cordoned";
const STEP: &str = "drain";
/// Begins the cause in a refused eviction. Source: Kubernetes, `pkg/registry/core/pod/storage/eviction.go`.
const BUDGET: &str = "The disruption budget ";
const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stderr: &str) -> Output {
        Output { code: Some(1), stdout: String::new(), stderr: stderr.to_owned() }
    }

    #[test]
    fn the_budget_in_the_way_is_named() {
        let refused = said(include_str!("recorded/evict-budget.txt"));
        assert_eq!(obstacle(&refused).unwrap(), "the disruption budget web needs 2 healthy pods and has 2 currently");
    }

    #[test]
    fn a_pod_that_is_gone_is_no_obstacle() {
        assert_eq!(obstacle(&Output { code: Some(0), ..Output::default() }), None);
        for reason in ["NotFound", "Conflict"] {
            assert_eq!(obstacle(&said(&format!("I1 x\nError from server ({reason}): pods \"a\" …\n"))), None);
        }
        let other = said("Error from server (InternalError): This pod has more than one PodDisruptionBudget\n");
        assert!(obstacle(&other).unwrap().contains("more than one PodDisruptionBudget"));
    }

    #[test]
    fn what_belongs_to_the_node_does_not_move() {
        let pod = |json: &str| serde_json::from_str::<Pod>(json).unwrap().moves();
        assert!(pod(r#"{"metadata":{"ownerReferences":[{"kind":"ReplicaSet","controller":true}]}}"#));
        assert!(pod(r#"{"metadata":{},"status":{"phase":"Pending"}}"#), "a bare one moves nowhere, and goes");
        assert!(!pod(r#"{"metadata":{"ownerReferences":[{"kind":"DaemonSet","controller":true}]}}"#));
        assert!(!pod(r#"{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}}}"#));
        assert!(!pod(r#"{"metadata":{},"status":{"phase":"Succeeded"}}"#));
    }

    #[test]
    fn any_text_is_answered() {
        let pod = r#"{"metadata": {"name": "a", "ownerReferences": [{"kind": "DaemonSet", "controller": true}]}, "status": {"phase": "Running"}}"#;
        total::text("kubectl-pod", &[pod], |text| {
            serde_json::from_str::<Pod>(text).map(|pod| (pod.name(), pod.moves())).ok()
        });
    }
}
