//! What an interrupted creation of this folder left. Only a VM that carries the mark of our own token is touched.

use pve::{Class, Vmid};

use super::creation::Creation;
use super::error::Error;
use super::holds::Holds;
use super::remove;
use crate::resources::vm::config;
use crate::resources::vm::locate::{self, Found};
use crate::resources::vm::model::Vm;

/// The VM that an interrupted creation left, to be gone on with. One that was made of another configuration is taken away first.
pub(super) async fn unfinished(creation: &mut Creation<'_>, m: &Vm) -> Result<Option<Found>, Error> {
    let op = creation.op;
    let Some((vmid, is_same)) = creation.claim.interrupted(&creation.made_of) else { return Ok(None) };
    let found = at(creation, vmid).await?;
    let Some(found) = found.filter(|found| creation.is_ours(m, found)) else { return Ok(None) };
    if is_same {
        return Ok(Some(found));
    }
    op.cx.progress(&format!("VM {vmid} was left by a creation of another configuration, and is taken away"));
    let mut left = m.clone();
    left.uuid.put(config::uuid(&found.settings));
    op.now(Holds::LeftBefore);
    remove::removed(&op.on(found.node, found.vmid), &left, &found.settings).await?;
    op.cx.numbers.forget(vmid);
    op.now(Holds::NothingCreated);
    creation.guests = op.client.cluster().guests_now().await?;
    Ok(None)
}

/// The VM with that number, once nobody works on it any more: Proxmox VE goes on with a task whose provider died.
async fn at(creation: &Creation<'_>, vmid: Vmid) -> Result<Option<Found>, pve::Error> {
    let client = &creation.op.client;
    let Some(guest) = creation.guests.find(vmid) else { return Ok(None) };
    if guest.lock.is_some() && !creation.op.unlocked(client, (&guest.node, vmid)).await? {
        return Ok(None);
    }
    match locate::look(client, guest).await {
        Err(error) if error.is(Class::NoGuest) => Ok(None),
        found => found.map(Some),
    }
}
