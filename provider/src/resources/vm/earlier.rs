//! What an interrupted creation of this folder left. Only a VM that carries the mark of our own token is touched.

use pve::{Class, Error, Vmid};
use tf::Diagnostics;

use super::config::Seen;
use super::create::{Creation, NOTHING};
use super::locate::{self, Found};
use super::model::Vm;
use super::remove;

/// The VM that an interrupted creation left, to be gone on with. One that was made of another configuration is taken away first.
pub(super) async fn unfinished(creation: &mut Creation<'_>, m: &Vm) -> Result<Option<Found>, Diagnostics> {
    let site = creation.site;
    let Some((vmid, is_same)) = creation.claim.interrupted(&creation.made_of) else { return Ok(None) };
    let failed = |error: Error| site.failed(m, &error, NOTHING);
    let found = at(creation, vmid).await.map_err(failed)?;
    let Some(found) = found.filter(|found| creation.is_ours(m, found)) else { return Ok(None) };
    if is_same {
        return Ok(Some(found));
    }
    site.cx.progress(&format!("VM {vmid} was left by a creation of another configuration, and is taken away"));
    let mut left = m.clone();
    left.uuid.put(Seen(&found.settings).uuid());
    remove::removed(site, &left, (&found, LEFT)).await?;
    site.cx.numbers.forget(vmid);
    creation.guests = site.client.cluster().guests_now().await.map_err(failed)?;
    Ok(None)
}

/// The VM with that number, once nobody works on it any more: Proxmox VE goes on with a task whose provider died.
async fn at(creation: &Creation<'_>, vmid: Vmid) -> Result<Option<Found>, Error> {
    let client = &creation.site.client;
    let Some(guest) = creation.guests.find(vmid) else { return Ok(None) };
    if guest.lock.is_some() && !creation.site.unlocked(client, (&guest.node, vmid)).await? {
        return Ok(None);
    }
    match locate::look(client, guest).await {
        Err(error) if error.is(Class::NoGuest) => Ok(None),
        found => found.map(Some),
    }
}

const LEFT: &str = "The unfinished VM of an earlier apply exists still, and nothing was recorded in the state.";
