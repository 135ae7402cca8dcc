//! A new cluster that begins with a snapshot of another one's etcd.
//!
//! A snapshot is the database of a member. Placed where kubeadm's etcd looks for it, without a log, and once it has forgotten the members
//! that it knew, etcd begins a log of its own over it: the new cluster has the old one's objects, and CA, members and endpoint of its
//! own. The Nodes of machines that are not in the new cluster are deleted, so that their pods go and machines can join under their
//! names. Source: etcd, `bootstrapNewClusterNoWAL`, and `etcdutl snapshot restore`, which does the same to the database and writes the log
//! as well; kubeadm, `init` with an existing etcd folder.

use super::kube::{ADMIN, CACHE, KUBECTL, Kube, failed, failure};
use super::nodes;
use crate::host::Command;
use crate::run::Failure;
use std::time::Instant;

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

/// Deletes the Nodes of before, but the one that this machine goes on with.
pub(super) async fn forget_nodes(kube: &Kube<'_>, own: &str) -> Result<(), Failure> {
    let json = kube.ask(STEP, ADMIN, &["get", "nodes", "-o", "json"]).await?;
    let all = nodes::read(&json).map_err(failed(STEP, "read the API server's answer"))?;
    for node in all.iter().filter(|node| node.name != own) {
        let since = Instant::now();
        let delete = ["--kubeconfig", ADMIN, CACHE, "delete", "node", node.name.as_str(), "--ignore-not-found"];
        kube.insist(STEP, &Command::new(KUBECTL, delete)).await?;
        kube.made(STEP, &format!("delete node {}", node.name), "it was of the cluster of before", since);
    }
    Ok(())
}

/// kubeadm's check that the restored data do not pass.
pub(super) const CHECK: &str = "DirAvailable--var-lib-etcd";
const FOLDER: &str = "/var/lib/etcd";
const DATABASE: &str = "/var/lib/etcd/member/snap/db";
const STEP: &str = "restore";
