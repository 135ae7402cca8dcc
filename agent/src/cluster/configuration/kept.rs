//! What a change takes the place of, kept until the change has proved well: files of this machine, and documents of the cluster.
//!
//! It is kept before anything changes, so that whatever is cut off is taken back by the next change, which then begins anew. A file that
//! somebody has changed since is left as it is.

use super::documents::{self, Document};
use super::pods::{self, COMPONENTS};
use super::{Work, node, proxy, serving};
use crate::cluster::kube::failed;
use crate::host::Access;
use crate::run::Failure;
use crate::state::{State, StateError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// What there was before.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// The cluster it is of: the machine may have left that one since.
    cluster_id: String,
    files: BTreeMap<String, KeptFile>,
    /// Texts by the names of their ConfigMaps.
    documents: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptFile {
    before: String,
    /// What is written in its place; `None` where another program writes.
    wrote: Option<String>,
}

/// Whether a change of this cluster's configuration was cut off.
pub(in crate::cluster) fn is_unfinished(state: &State, cluster_id: &str) -> Result<bool, StateError> {
    let kept: Option<Kept> = state.read(NOTE)?.and_then(|text| serde_json::from_str(&text).ok());
    Ok(kept.is_some_and(|kept| kept.cluster_id == cluster_id))
}

/// Keeps a file; the first text of it counts, and the last that is written in its place.
pub(super) fn file(work: &Work<'_>, path: &str, before: &str, wrote: Option<&str>) -> Result<(), Failure> {
    let mut kept = read(work)?;
    let file = KeptFile { before: before.to_owned(), wrote: wrote.map(str::to_owned) };
    kept.files.entry(path.to_owned()).and_modify(|kept| kept.wrote.clone_from(&file.wrote)).or_insert(file);
    write(work, &kept)
}

/// Keeps a document of the cluster; the first text of it counts.
pub(super) fn document(work: &Work<'_>, document: &Document, before: &str) -> Result<(), Failure> {
    let mut kept = read(work)?;
    kept.documents.entry(document.map.to_owned()).or_insert_with(|| before.to_owned());
    write(work, &kept)
}

/// All of it has proved well.
pub(super) fn forget(work: &Work<'_>) -> Result<(), Failure> {
    work.kube.state.burn(NOTE).map_err(failed(STEP, "forget what was before"))
}

/// Takes back what was changed and did not prove well; whether there was anything.
pub(super) async fn take_back(work: &Work<'_>) -> Result<bool, Failure> {
    let (kube, kept) = (work.kube, read(work)?);
    if kept.files.is_empty() && kept.documents.is_empty() {
        forget(work)?;
        return Ok(false);
    }
    let since = Instant::now();
    kube.cx.step_began(STEP, 1);
    let (mut components, mut restarts) = (Vec::new(), false);
    for (path, KeptFile { before, wrote }) in &kept.files {
        let disk = kube.host().text(path).map_err(failed(STEP, &format!("read {path}")))?;
        let is_before = disk.as_deref() == Some(before);
        // Somebody has changed it since: it is his now.
        if wrote.is_some() && disk != *wrote && !is_before {
            continue;
        }
        if !is_before {
            kube.host()
                .write(path, before.as_bytes(), Access::PRIVATE)
                .map_err(failed(STEP, &format!("write {path}")))?;
        }
        match COMPONENTS.iter().find(|component| component.path() == *path) {
            Some(component) => components.push((component.name, before)),
            // Its API server is started anew for its manifest.
            None if path.starts_with(serving::PKI) => {}
            None => restarts = true,
        }
    }
    if restarts {
        node::restarted(work, STEP, "its configuration is the one of before").await?;
    }
    for (component, before) in components {
        pods::up(kube, (&work.plan.node_name, component), pods::stamp_of(before), None).await?;
    }
    for (map, before) in &kept.documents {
        let Some(document) = documents::ALL.iter().find(|document| document.map == map) else { continue };
        documents::write_text(kube, document, before).await?;
        if *document == documents::KUBE_PROXY {
            // By another mark than that of the change, so that its pods are others.
            proxy::roll_out(work, &format!("{}-back", work.stamp)).await?;
        }
    }
    kube.made(STEP, "take the change back", "it did not come to its end", since);
    forget(work)?;
    Ok(true)
}

/// What is kept of this cluster. What was cut off while it was written was followed by no change.
fn read(work: &Work<'_>) -> Result<Kept, Failure> {
    let text = work.kube.state.read(NOTE).map_err(failed(STEP, "read what was before"))?;
    let kept: Option<Kept> = text.and_then(|text| serde_json::from_str(&text).ok());
    let ours = kept.filter(|kept| kept.cluster_id == work.plan.cluster_id);
    Ok(ours.unwrap_or_else(|| Kept { cluster_id: work.plan.cluster_id.clone(), ..Kept::default() }))
}

fn write(work: &Work<'_>, kept: &Kept) -> Result<(), Failure> {
    let text = serde_json::to_string(kept).map_err(failed(STEP, "keep what was before"))?;
    work.kube.state.write(NOTE, &text).map_err(failed(STEP, "keep what was before"))
}

const NOTE: &str = "cluster/configuration";
const STEP: &str = "take back";
