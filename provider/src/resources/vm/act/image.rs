//! The image of a new VM: whether it fits, and where it is if the node does not have it.

use futures_util::future::join_all;
use pve::{Class, NodeName, VolumeId};

use super::clone;
use super::creation::Creation;
use super::error::{Error, Problem};
use crate::resources::vm::disks;
use crate::resources::vm::model::Vm;

/// The failure of a creation; one for want of the image says which nodes have it. They are asked only then: a creation that is good
/// costs no call for it.
pub(super) async fn explained(creation: &Creation<'_>, m: &Vm, error: pve::Error) -> Error {
    let Some(image) = m.image.text().filter(|_| error.is(Class::NoStorage)) else { return error.into() };
    let Ok(volume) = image.parse::<VolumeId>() else { return error.into() };
    let said = error.to_string();
    // A storage for a disk may be missing too.
    if !said.contains(volume.name().rsplit('/').next().unwrap_or_default()) {
        return error.into();
    }
    match owners(creation, &volume).await {
        owners if owners.is_empty() => error.into(),
        owners => elsewhere(image, &creation.node, &owners, &said).into(),
    }
}

/// Refuses a disk that is to be smaller than the image it is made of. An image that cannot be looked at is the creation's own to refuse.
pub(super) async fn fits(creation: &Creation<'_>, m: &Vm) -> Result<(), Error> {
    let all = disks::of(m);
    let first = disks::first(&all).and_then(|slot| Some((slot, all.get(slot)?)));
    let image = m.image.text().and_then(|image| image.parse::<VolumeId>().ok());
    let (Some((slot, disk)), Some(image)) = (first.filter(|(_, disk)| disk.size_gib.is_known()), image) else {
        return Ok(());
    };
    let op = creation.op;
    let Ok(size) = op.cx.size(&op.client, &creation.node, &image).await else { return Ok(()) };
    disks::growth_from(disk, size).map(|_| ()).map_err(|present| clone::too_large(slot, disk, present).into())
}

/// Other nodes that have the volume, of those that answer.
async fn owners(creation: &Creation<'_>, volume: &VolumeId) -> Vec<NodeName> {
    let kind = if volume.name().starts_with("import/") { "import" } else { "images" };
    let calm = creation.op.calm();
    let others = creation.guests.nodes().iter().filter(|(node, online)| **online && **node != creation.node);
    let asked = others.map(async |(node, _)| {
        let found = calm.storages(node).find(volume, kind).await;
        found.ok().flatten().map(|_| node.clone())
    });
    join_all(asked).await.into_iter().flatten().collect()
}

fn elsewhere(image: &str, node: &NodeName, owners: &[NodeName], said: &str) -> Problem {
    let named: Vec<&str> = owners.iter().map(NodeName::as_str).collect();
    let (named, has) = (named.join(", "), if owners.len() == 1 { "has" } else { "have" });
    let happened = format!(
        "Node {node} has no image {image}: {said}. {named} {has} one of that name, on a storage that is each node's own."
    );
    let cure = format!(
        "Set `node` to {named}; or give node {node} the image too, with a `groundwork_image` whose `node` is {node}; or keep images on a storage \
         that the nodes share."
    );
    Problem::new(happened, cure).at("image")
}
