//! What stood in the folder of CNI configurations before this machine became a node.
//!
//! A network plugin writes there and nobody takes it away: the next cluster's nodes would be ready at once, with the pod network of the
//! last one. What came while the machine was a node goes with it; what was there before is somebody else's, stays, and is named.

use super::cleanup;
use super::kube::{Kube, failed};
use crate::run::Failure;

/// Notes what is there; warns of what a new node would take for its pod network. Where it was noted before, and the machine is no node
/// all the same, somebody else has reset it: what came meanwhile goes now.
pub(super) async fn note(kube: &Kube<'_>) -> Result<(), Failure> {
    for path in since(kube)? {
        cleanup::remove_all(kube, STEP, &path).await?;
    }
    let present = list(kube)?;
    let plugins: Vec<&str> = present.iter().map(String::as_str).filter(|name| is_configuration(name)).collect();
    if !plugins.is_empty() {
        let line = format!(
            "{FOLDER} holds {} from before: the node takes it for its pod network, whatever the cluster's is. If it is a leftover, remove it",
            plugins.join(", ")
        );
        kube.cx.warn(STEP, &line);
    }
    if kube.state.read(FILE).map_err(failed(STEP, "read what stood here before"))?.is_some() {
        return Ok(());
    }
    let text = serde_json::to_string(&present).unwrap_or_default();
    kube.state.write(FILE, &text).map_err(failed(STEP, "note what stood here before"))
}

/// Paths of what came while the machine was a node; nothing where that was not noted.
pub(super) fn since(kube: &Kube<'_>) -> Result<Vec<String>, Failure> {
    let noted = kube.state.read(FILE).map_err(failed(STEP, "read what stood here before"))?;
    let before: Option<Vec<String>> = noted.and_then(|text| serde_json::from_str(&text).ok());
    let Some(before) = before else { return Ok(Vec::new()) };
    Ok(list(kube)?.into_iter().filter(|name| !before.contains(name)).map(|name| format!("{FOLDER}/{name}")).collect())
}

/// The machine is no node any more.
pub(super) fn forget(kube: &Kube<'_>) -> Result<(), Failure> {
    kube.state.burn(FILE).map_err(failed(STEP, "forget what stood here before"))
}

fn list(kube: &Kube<'_>) -> Result<Vec<String>, Failure> {
    kube.host().list(FOLDER).map_err(failed(STEP, &format!("list {FOLDER}")))
}

/// Source: containerd, `go-cni`: files with these endings are read.
fn is_configuration(name: &str) -> bool {
    [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end))
}

const STEP: &str = "cni";
const FOLDER: &str = "/etc/cni/net.d";
const FILE: &str = "cluster/cni-before.json";
