//! The pods of the control plane as the API server has them: kubelet's mirrors of what it runs from `/etc/kubernetes/manifests`.

use super::kube::{Kube, failed};
use super::output::reasons;
use crate::run::Failure;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One of them; what is not there is empty.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    spec: Spec,
    status: Status,
}

/// Its name and its marks.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Pod {
    pub(super) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
    }

    /// Whether it is of such a part of the control plane, as kubeadm labels them.
    pub(super) fn is_of(&self, component: &str) -> bool {
        self.metadata.labels.get("component").is_some_and(|own| own == component)
    }

    /// Value of an annotation.
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.get(name).map(String::as_str)
    }

    /// Of its first container.
    pub(super) fn image(&self) -> &str {
        self.spec.containers.first().map_or("", |container| container.image.as_str())
    }
}

/// A selector of those on a node.
pub(super) fn on(node_name: &str) -> String {
    format!("--field-selector=spec.nodeName={node_name}")
}

/// Those in `kube-system` that an argument of `kubectl get` selects, or why the API server does not tell.
pub(super) async fn ask(
    kube: &Kube<'_>,
    (step, kubeconfig): (&str, &str),
    which: &str,
) -> Result<Result<Vec<Pod>, String>, Failure> {
    let question = ["get", "pods", "--namespace", "kube-system", which, "-o", "json"];
    let said = kube.kubectl(kubeconfig, &question).await.map_err(failed(step, "ask for the control plane's pods"))?;
    if said.code != Some(0) {
        return Ok(Err(format!("the API server does not answer: {}", reasons(&said.stderr).join("; "))));
    }
    read(&said.stdout).map(Ok).map_err(failed(step, "read the API server's answer"))
}

fn read(text: &str) -> serde_json::Result<Vec<Pod>> {
    serde_json::from_str(text).map(|list: List| list.items)
}

#[derive(Deserialize)]
struct List {
    items: Vec<Pod>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Container {
    image: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A list with one pod of a component.
    pub(in super::super) fn one(component: &str, tag: &str, ready: &str, annotations: &[(&str, &str)]) -> Vec<Pod> {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        let pod = json!({
            "metadata": { "name": format!("{component}-cp-1"), "labels": { "component": component }, "annotations": annotations },
            "spec": { "containers": [{ "image": format!("registry.k8s.io/{component}:{tag}") }] },
            "status": { "conditions": [{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": ready }] },
        });
        read(&json!({ "items": [pod] }).to_string()).unwrap()
    }

    #[test]
    fn a_pod_is_ready_when_it_says_so() {
        let ready = |word: &str| one("etcd", "3.6.8-0", word, &[("a", "b")]).remove(0).is_ready();
        assert_eq!((ready("True"), ready("False"), ready("Unknown")), (true, false, false));
        let pod = one("etcd", "3.6.8-0", "True", &[("a", "b")]).remove(0);
        assert_eq!((pod.annotation("a"), pod.annotation("c")), (Some("b"), None));
        assert_eq!(
            (pod.image(), pod.is_of("etcd"), pod.is_of("kube-scheduler")),
            ("registry.k8s.io/etcd:3.6.8-0", true, false)
        );
    }

    #[test]
    fn any_text_is_answered() {
        total::text("static-pods", &[r#"{"items":[{"metadata":{"name":"etcd-cp-1"}}]}"#], |text| {
            read(text).map(|pods| pods.len()).ok()
        });
    }
}
