//! A new cluster that begins with a snapshot of another one's etcd.
//!
//! A snapshot is the database of a member. Placed where kubeadm's etcd looks for it, without a log, and once it has forgotten the members
//! that it knew, etcd begins a log of its own over it: the new cluster has the old one's objects, and CA, members and endpoint of its
//! own. The Nodes of machines that are not in the new cluster are deleted, so that their pods go and machines can join under their
//! names. Source: etcd, `bootstrapNewClusterNoWAL`, and `etcdutl snapshot restore`, which does the same to the database and writes the log
//! as well; kubeadm, `init` with an existing etcd folder.

mod fetch;

use super::kube::{ADMIN, CA, CACHE, Kube, failed, failure};
use super::nodes;
use crate::host::Command;
use crate::run::Failure;
pub use fetch::{FETCHED, Object, with_object};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Before anything is done: whether it can be read.
pub(super) fn is_there(kube: &Kube<'_>, path: &str) -> Result<(), Failure> {
    let found = kube.host().etcd().look(path).map_err(failed(STEP, &format!("look at {path}")))?;
    found.map(drop).ok_or_else(|| failure(STEP, format!("no snapshot of etcd stands at {path} on this machine")))
}

/// Puts it where etcd begins with it. Part of an attempt: what is cut off after it is undone with that.
pub(super) async fn place(kube: &Kube<'_>, path: &str) -> Result<(), Failure> {
    let since = Instant::now();
    kube.cx.step_began(STEP, 1);
    // Not readable by others, as kubeadm makes it.
    kube.must(STEP, &Command::new("/usr/bin/install", ["-d", "-m", "0700", FOLDER])).await?;
    let placed = kube.host().etcd().restore(path, DATABASE);
    let snapshot = placed.map_err(failed(STEP, &format!("restore {path}")))?;
    let summary = format!("restore the snapshot of etcd at {path}, revision {}", snapshot.revision);
    kube.made(STEP, &summary, "the cluster begins with what it holds", since);
    Ok(())
}

/// Deletes the Nodes of before, but the one that this machine goes on with. Gives their names.
pub(super) async fn forget_nodes(kube: &Kube<'_>, own: &str) -> Result<Vec<String>, Failure> {
    let (admin, kubectl) = (kube.distribution.admin(), kube.distribution.kubectl(kube.host()));
    let json = kube.ask(STEP, admin, &["get", "nodes", "-o", "json"]).await?;
    let all = nodes::read(&json).map_err(failed(STEP, "read the API server's answer"))?;
    let before: Vec<String> = all.into_iter().map(|node| node.name).filter(|name| name != own).collect();
    for name in &before {
        let since = Instant::now();
        let delete = ["--kubeconfig", admin, CACHE, "delete", "node", name, "--ignore-not-found"];
        kube.insist(STEP, &Command::new(kubectl, delete)).await?;
        kube.made(STEP, &format!("delete node {name}"), "it was of the cluster of before", since);
    }
    Ok(before)
}

/// Has the pods of before that run here already begin anew. They read the cluster's CA when they start, from a ConfigMap of their namespace,
/// and until the controller manager has written the new one into it, that is the CA of before.
pub(super) async fn renew_pods(kube: &Kube<'_>, own: &str) -> Result<(), Failure> {
    published(kube).await?;
    let here = format!("--field-selector=spec.nodeName={own}");
    let json = kube.ask(STEP, ADMIN, &["get", "pods", "--all-namespaces", &here, "-o", "json"]).await?;
    let pods = Pods::read(&json).map_err(failed(STEP, "read the API server's answer"))?;
    let since = Instant::now();
    for (namespace, names) in &pods.controlled {
        let fixed = ["--kubeconfig", ADMIN, CACHE, "delete", "pods", "--namespace", namespace.as_str()];
        let names = names.iter().map(String::as_str);
        let delete = fixed.into_iter().chain(names).chain(["--ignore-not-found", "--wait=false"]);
        kube.insist(STEP, &Command::new(kube.distribution.kubectl(kube.host()), delete)).await?;
    }
    if !pods.controlled.is_empty() {
        kube.made(STEP, "restart the pods of this machine", "they began with the CA of the cluster of before", since);
    }
    if !pods.bare.is_empty() {
        let names = pods.bare.join(", ");
        kube.cx.warn(STEP, &format!("no controller makes these pods anew, and they began with the CA of the cluster of before: {names}; delete them and apply them again if they speak to the API server"));
    }
    Ok(())
}

/// Waits until every namespace has this cluster's CA.
async fn published(kube: &Kube<'_>) -> Result<(), Failure> {
    let ca = kube.host().text(CA).map_err(failed(STEP, &format!("read {CA}")))?.unwrap_or_default();
    let question =
        ["get", "configmaps", "--all-namespaces", "--field-selector=metadata.name=kube-root-ca.crt", "-o", "json"];
    let until = tokio::time::Instant::now() + PUBLISHED;
    loop {
        let json = kube.ask(STEP, ADMIN, &question).await?;
        let list: Value = serde_json::from_str(&json).map_err(failed(STEP, "read the API server's answer"))?;
        let behind = others(&list, &ca);
        if behind.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > until {
            let message = format!(
                "after {} s the controller manager has not written the cluster's CA into kube-root-ca.crt of {}",
                PUBLISHED.as_secs(),
                behind.join(", ")
            );
            return Err(failure(STEP, message));
        }
        kube.pause(STEP, Duration::from_secs(1)).await?;
    }
}

/// The namespaces of a list of ConfigMaps that have another CA.
fn others(list: &Value, ca: &str) -> Vec<String> {
    let maps = list["items"].as_array().into_iter().flatten();
    let has_another = |map: &&Value| map["data"]["ca.crt"].as_str().map(str::trim) != Some(ca.trim());
    maps.filter(has_another).map(|map| text(&map["metadata"]["namespace"])).collect()
}

/// The pods of one node that are not static.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pods {
    /// By namespace: those that a controller makes anew.
    controlled: BTreeMap<String, Vec<String>>,
    /// `namespace/name` of those that nobody does.
    bare: Vec<String>,
}

impl Pods {
    fn read(json: &str) -> Result<Self, serde_json::Error> {
        let list: Value = serde_json::from_str(json)?;
        let mut pods = Self::default();
        for metadata in list["items"].as_array().into_iter().flatten().map(|pod| &pod["metadata"]) {
            let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
            let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
            match owners.into_iter().find(|owner| owner["controller"] == true) {
                // The kubelet's own, of a manifest.
                Some(owner) if owner["kind"] == "Node" => {}
                Some(_) => pods.controlled.entry(namespace).or_default().push(name),
                None => pods.bare.push(format!("{namespace}/{name}")),
            }
        }
        Ok(pods)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// kubeadm's check that the restored data do not pass.
pub(super) const CHECK: &str = "DirAvailable--var-lib-etcd";
const FOLDER: &str = "/var/lib/etcd";
const DATABASE: &str = "/var/lib/etcd/member/snap/db";
const STEP: &str = "restore";
/// A controller manager begins when the lease of the one before is over, and then writes them at once.
const PUBLISHED: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_that_hold_the_authority_of_before_are_told_from_static_and_bare_ones() {
        let pod = |namespace: &str, name: &str, owner: Value| json!({ "metadata": { "namespace": namespace, "name": name, "ownerReferences": owner } });
        let by = |kind: &str| json!([{ "kind": kind, "name": "x", "controller": true }]);
        let list = json!({ "items": [
            pod("kube-system", "etcd-cp-1", by("Node")),
            pod("kube-system", "coredns-1", by("ReplicaSet")),
            pod("kube-system", "coredns-2", by("ReplicaSet")),
            pod("kube-flannel", "flannel-1", by("DaemonSet")),
            pod("default", "alone", Value::Null),
            pod("default", "kept", json!([{ "kind": "ConfigMap", "name": "x" }])),
        ] });
        let pods = Pods::read(&list.to_string()).expect("a list");
        let controlled = [("kube-flannel", vec!["flannel-1"]), ("kube-system", vec!["coredns-1", "coredns-2"])];
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let controlled = controlled.map(|(namespace, names)| (namespace.to_owned(), owned(names)));
        assert_eq!(pods.controlled, BTreeMap::from(controlled));
        assert_eq!(pods.bare, ["default/alone", "default/kept"]);
        assert_eq!(Pods::read(r#"{"items":[]}"#).expect("a list"), Pods::default());
    }

    #[test]
    fn a_namespace_with_the_authority_of_before_is_named() {
        let map =
            |namespace: &str, ca: &str| json!({ "metadata": { "namespace": namespace }, "data": { "ca.crt": ca } });
        let list = json!({ "items": [map("default", "new\n"), map("kube-system", "old\n"), { "metadata": { "namespace": "x" } }] });
        assert_eq!(others(&list, "new\n"), ["kube-system", "x"]);
        assert_eq!(others(&json!({ "items": [map("default", "new")] }), "new\n"), [""; 0]);
    }
}
