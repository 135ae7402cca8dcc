//! What creation will need, looked for before a replacement destroys anything.
//!
//! Terraform destroys the old machine first, and does not say that it does so to make a new one. But the destroying call gets the
//! private values that the plan of the *new* machine stored: so every plan of a creation stores what it needs, the creation itself
//! throws that away, and a destruction that finds it is the first half of a replacement.

use std::collections::BTreeMap;

use pve::{Class, Error, NodeName, Storage, Vmid, VolumeId};
use serde::{Deserialize, Serialize};
use tf::{Diagnostic, Diagnostics, Path, Private};

use super::locate;
use super::model::Vm;
use super::noted::no_node;
use super::seeding;
use super::site::{DELETE, Site};
use crate::context::Cx;
use crate::timeouts::Limit;

/// What a planned machine needs, as far as the plan knew it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Needs {
    node: Option<String>,
    name: Option<String>,
    vmid: Option<i64>,
    /// Storage by slot.
    disks: BTreeMap<String, String>,
    efi: Option<String>,
    image: Option<String>,
    /// Bridge by slot.
    cards: BTreeMap<String, String>,
    seed: bool,
    seed_storage: Option<String>,
    /// An agent in a machine that will not run.
    silent_agent: bool,
}

/// Notes what a planned machine needs.
pub(super) fn plan(private: &Private, m: &Vm) {
    let storages =
        m.disk.get().into_iter().flatten().filter_map(|(slot, disk)| Some((slot.clone(), disk.storage.cloned()?)));
    let bridges =
        m.network.get().into_iter().flatten().filter_map(|(slot, card)| Some((slot.clone(), card.bridge.cloned()?)));
    let needs = Needs {
        node: m.node.cloned(),
        name: m.name.cloned(),
        vmid: m.vmid.cloned(),
        disks: storages.collect(),
        efi: m.efi_storage.cloned(),
        image: m.image.cloned(),
        cards: bridges.collect(),
        seed: seeding::is_wanted(m),
        seed_storage: m.cloud_init.get().and_then(|cloud_init| cloud_init.storage.cloned()),
        silent_agent: is_silent(m),
    };
    private.set(NEEDS, &needs);
}

/// The machine is made now, and nothing is destroyed for it.
pub(super) fn met(private: &Private) {
    private.remove(NEEDS);
}

/// An agent is enrolled on a machine that runs.
pub(super) fn is_silent(m: &Vm) -> bool {
    m.agent.is_known() && m.started.get() == Some(&false)
}

/// Refuses a creation that the plan warned of.
pub(super) fn possible(m: &Vm) -> Result<(), Diagnostic> {
    if !is_silent(m) {
        return Ok(());
    }
    let refusal = Diagnostic::error(format!("Cannot create VM {}", m.name.or("")))
        .happened(SILENT)
        .holds("Nothing was created and nothing was recorded in the state.")
        .next("Set `started = true`, or leave `agent` out.");
    Err(refusal.at("started"))
}

/// Refuses to destroy a machine in whose place none can be made.
pub(super) async fn check(cx: &Cx, old: &Vm) -> Result<(), Diagnostics> {
    let Some(needs) = cx.private().get::<Needs>(NEEDS) else { return Ok(()) };
    // What is left of the private values after a refusal is kept with the old machine, which may then be destroyed for good.
    met(cx.private());
    let limit = Limit::of("delete", old.timeouts.get().map(|timeouts| &timeouts.delete), DELETE);
    let site = Site::new(cx, format!("replace VM {}", old.id.or("")), limit, KEPT)?;
    let missing = missing(&site, &needs, old).await.map_err(|error| site.failed(old, &error, KEPT))?;
    let told = missing.into_iter().map(|(said, at)| {
        let cure = format!("Correct `{at}` and apply again. If this very apply is to make what is missing, apply that first, with `-target`.");
        site.error(format!("The new machine could not be made, so the old one was not destroyed. {said}")).holds(KEPT).next(cure).at(at)
    });
    let told: Diagnostics = told.collect();
    if told.has_errors() { Err(told) } else { Ok(()) }
}

/// Everything that is not as it has to be, with its attribute.
async fn missing(site: &Site<'_>, needs: &Needs, old: &Vm) -> Result<Vec<(String, Path)>, Error> {
    let mut found = guests(site, needs, old).await?;
    let Some(node) = needs.node.as_deref().and_then(|node| node.parse::<NodeName>().ok()) else { return Ok(found) };
    if found.iter().any(|(_, at)| *at == Path::from("node")) {
        return Ok(found);
    }
    found.extend(storages(needs, &site.client.storages(&node).list().await?));
    if !needs.cards.is_empty() {
        let bridges = site.client.nodes().bridges(&node).await?;
        let absent = needs.cards.iter().filter(|(_, bridge)| !bridges.contains(bridge));
        found.extend(absent.map(|(slot, bridge)| {
            let at = Path::from("network").key(slot).name("bridge");
            (format!("Node {node} has no bridge or SDN network {bridge} that the API token may use."), at)
        }));
    }
    // Another image may be brought by this very apply, after the old machine is gone; the one that it was made from may not.
    if let Some(image) = needs.image.as_deref().filter(|image| old.image.text() == Some(image))
        && is_gone(site, &node, image).await?
    {
        found.push((format!("The image {image} is not on node {node} any more."), "image".into()));
    }
    if needs.silent_agent {
        found.push((SILENT.to_owned(), "started".into()));
    }
    Ok(found)
}

/// The node, and a name and number that nobody else has. With `create_before_destroy` the new machine is there already: what this
/// process has made is not in its own way.
async fn guests(site: &Site<'_>, needs: &Needs, old: &Vm) -> Result<Vec<(String, Path)>, Error> {
    let mut found = Vec::new();
    let all = site.client.cluster().guests_now().await?;
    if let Some(node) = needs.node.as_deref() {
        let online = all.nodes().iter().find(|(own, _)| own.as_str() == node).map(|(_, online)| *online);
        found.extend(
            no_node(node, online, all.nodes().keys().map(NodeName::as_str)).map(|why| (why, Path::from("node"))),
        );
    }
    let own = locate::vmid(old);
    let foreign = |number: &Vmid| Some(*number) != own && site.cx.numbers.name_of(*number).is_none();
    let number = needs.vmid.and_then(Vmid::new).filter(foreign);
    if let Some(number) = number
        && site.client.cluster().is_taken(number).await?
    {
        found.push((format!("A guest with number {number} exists already."), "vmid".into()));
    }
    let name = needs.name.as_deref().filter(|name| old.name.text() != Some(name));
    let other = all.iter().find(|guest| guest.name.as_deref() == name && foreign(&guest.vmid));
    if let (Some(name), Some(other)) = (name, other) {
        found.push((
            format!("A guest named {name} exists already: {} on node {}.", other.vmid, other.node),
            "name".into(),
        ));
    }
    Ok(found)
}

fn storages(needs: &Needs, all: &[Storage]) -> Vec<(String, Path)> {
    let lacks = |name: &str, content: &str| match all.iter().find(|storage| storage.storage == name) {
        None => Some(format!("The new machine's node has no storage {name} that the API token may see.")),
        Some(storage) if !storage.active => Some(format!("Storage {name} is not active on the new machine's node.")),
        Some(storage) if !storage.holds(content) => Some(format!("Storage {name} does not hold content `{content}`.")),
        Some(_) => None,
    };
    let mut found = Vec::new();
    for (slot, storage) in &needs.disks {
        found.extend(lacks(storage, "images").map(|why| (why, Path::from("disk").key(slot).name("storage"))));
    }
    found.extend(needs.efi.as_deref().and_then(|efi| lacks(efi, "images")).map(|why| (why, "efi_storage".into())));
    let seed_at = || Path::from("cloud_init").name("storage");
    match needs.seed_storage.as_deref() {
        Some(storage) if needs.seed => found.extend(lacks(storage, "iso").map(|why| (why, seed_at()))),
        None if needs.seed && !all.iter().any(|storage| storage.active && storage.holds("iso")) => {
            found.push((
                "The new machine's node has no storage with content `iso` for the seed image.".to_owned(),
                seed_at(),
            ));
        }
        _ => {}
    }
    found
}

async fn is_gone(site: &Site<'_>, node: &NodeName, image: &str) -> Result<bool, Error> {
    let Ok(volume) = image.parse::<VolumeId>() else { return Ok(false) };
    let kind = if volume.name().starts_with("import/") { "import" } else { "images" };
    match site.client.storages(node).find(&volume, kind).await {
        Err(error) if error.is(Class::NoStorage) => Ok(true),
        found => found.map(|found| found.is_none()),
    }
}

/// Said by the plan, and by whatever is to make such a machine.
pub(super) const SILENT: &str =
    "The agent can only be enrolled on a machine that runs: create it with `started = true`, and stop it later.";

const KEPT: &str = "Nothing was destroyed: the VM is as it was.";

/// Key in the private values of a planned creation.
const NEEDS: &str = "needs";
