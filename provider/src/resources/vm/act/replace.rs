//! What the new machine needs, looked for before a replacement destroys the old one.

use pve::{Class, NodeName, Storage, Vmid, VolumeId};
use tf::{Diagnostics, Path};

use super::error::{Error, Problem};
use super::holds::Holds;
use super::operation::{DELETE, Operation};
use crate::context::Cx;
use crate::resources::vm::disks::{self, Disk};
use crate::resources::vm::locate;
use crate::resources::vm::model::Vm;
use crate::resources::vm::notes::needs::{self, Needs};
use crate::resources::vm::notes::noted::no_node;
use crate::timeouts::Limit;

/// Refuses to destroy a machine in whose place none can be made.
pub(crate) async fn check(cx: &Cx, old: &Vm) -> Result<(), Diagnostics> {
    let Some(needs) = needs::take(cx.private()) else { return Ok(()) };
    let limit = Limit::of("delete", old.timeouts.get().map(|timeouts| &timeouts.delete), DELETE);
    let op = Operation::new(cx, format!("replace VM {}", old.id.or("")), limit, Holds::NothingDestroyed)?;
    found_missing(&op, &needs, old).await.map_err(|error| op.explained(old, error))
}

async fn found_missing(op: &Operation<'_>, needs: &Needs, old: &Vm) -> Result<(), Error> {
    let told = missing(op, needs, old).await?.into_iter().map(|(said, at)| {
        let said = format!("The new machine could not be made, so the old one was not destroyed. {said}");
        let cure = format!("Correct `{at}` and apply again. If this very apply is to make what is missing, apply that first, with `-target`.");
        Problem::new(said, cure).at(at)
    });
    Error::if_any(told.collect())
}

/// Everything that is not as it has to be, with its attribute.
async fn missing(op: &Operation<'_>, needs: &Needs, old: &Vm) -> Result<Vec<(String, Path)>, pve::Error> {
    let mut found = guests(op, needs, old).await?;
    let Some(node) = needs.node.as_deref().and_then(|node| node.parse::<NodeName>().ok()) else { return Ok(found) };
    if found.iter().any(|(_, at)| *at == Path::from("node")) {
        return Ok(found);
    }
    found.extend(storages(needs, &op.client.storages(&node).list().await?));
    if !needs.cards.is_empty() {
        let bridges = op.client.nodes().bridges(&node).await?;
        let absent = needs.cards.iter().filter(|(_, bridge)| !bridges.contains(bridge));
        found.extend(absent.map(|(slot, bridge)| {
            let at = Path::from("network").key(slot).name("bridge");
            (format!("Node {node} has no bridge or SDN network {bridge} that the API token may use."), at)
        }));
    }
    // Another image may be brought by this very apply, after the old machine is gone; the one that it was made from may not.
    if let Some(image) = needs.image.as_deref().filter(|image| old.image.text() == Some(image)) {
        if is_gone(op, &node, image).await? {
            found.push((format!("The image {image} is not on node {node} any more."), "image".into()));
        } else {
            found.extend(outgrown(op, needs, (&node, image)).await);
        }
    }
    if needs.silent_agent {
        found.push((needs::SILENT.to_owned(), "started".into()));
    }
    Ok(found)
}

/// The node, and a name and number that nobody else has. With `create_before_destroy` the new machine is there already: what this
/// process has made is not in its own way.
async fn guests(op: &Operation<'_>, needs: &Needs, old: &Vm) -> Result<Vec<(String, Path)>, pve::Error> {
    let mut found = Vec::new();
    let all = op.client.cluster().guests_now().await?;
    if let Some(node) = needs.node.as_deref() {
        let online = all.nodes().iter().find(|(own, _)| own.as_str() == node).map(|(_, online)| *online);
        found.extend(
            no_node(node, online, all.nodes().keys().map(NodeName::as_str)).map(|why| (why, Path::from("node"))),
        );
    }
    let own = locate::vmid(old);
    let foreign = |number: &Vmid| Some(*number) != own && op.cx.numbers.name_of(*number).is_none();
    let number = needs.vmid.and_then(Vmid::new).filter(foreign);
    if let Some(number) = number
        && op.client.cluster().is_taken(number).await?
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

/// The disk that is to be smaller than the image it is made of.
async fn outgrown(op: &Operation<'_>, needs: &Needs, (node, image): (&NodeName, &str)) -> Option<(String, Path)> {
    let (slot, gib) = needs.from_image.as_ref()?;
    let disk = Disk { size_gib: (*gib).into(), ..Disk::default() };
    let size = op.cx.size(&op.client, node, &image.parse().ok()?).await.ok()?;
    let present = disks::growth_from(&disk, size).err()?;
    let at = Path::from("disk").key(slot).name("size_gib");
    Some((format!("Disk {slot} has {present} GiB, as its image does, and cannot shrink to {gib} GiB."), at))
}

async fn is_gone(op: &Operation<'_>, node: &NodeName, image: &str) -> Result<bool, pve::Error> {
    let Ok(volume) = image.parse::<VolumeId>() else { return Ok(false) };
    let kind = if volume.name().starts_with("import/") { "import" } else { "images" };
    match op.client.storages(node).find(&volume, kind).await {
        Err(error) if error.is(Class::NoStorage) => Ok(true),
        found => found.map(|found| found.is_none()),
    }
}
