//! Names are unique, though Proxmox VE would let two VMs have the same: looked at before a VM is asked for, and again when it is there.
//!
//! Two applies that begin in the same moment see nothing of each other at first. But each looks once its own VM can be seen: whoever is
//! the second to be seen sees the first. Of two that see each other the one with the lower number stays; the other takes its own back.

use std::time::Duration;

use pve::{Class, Guest, GuestKind, Vmid};
use tf::Attr;
use tokio::time::Instant;

use super::creation::Creation;
use super::error::{Error, Problem};
use super::holds::Holds;
use super::remove;
use crate::resources::vm::locate::{self, Found};
use crate::resources::vm::marker;
use crate::resources::vm::model::Vm;

/// Another guest of the name.
pub(super) struct Rival {
    guest: Guest,
    /// Its creation is not finished.
    is_unfinished: bool,
}

/// Refuses a name or number that a guest has already.
pub(super) async fn refuse(creation: &Creation<'_>) -> Result<(), Error> {
    let name = &creation.name;
    let is_it = |guest: &&Guest| guest.name.as_ref() == Some(name) || creation.wanted == Some(guest.vmid);
    for guest in creation.guests.iter().filter(is_it) {
        // The list may be some seconds old: a guest that is replaced stands in it still.
        let problem = match looked_at(creation, guest).await? {
            Looked::Gone => continue,
            Looked::Named(found) if creation.wanted != Some(guest.vmid) && found != *name => continue,
            Looked::Named(_) => exists(name, guest),
            Looked::Unfinished => unfinished(name, guest),
        };
        creation.op.now(Holds::NotTouched);
        return Err(problem.into());
    }
    Ok(())
}

/// Another guest of the name, as the cluster is after this call.
pub(super) async fn of(creation: &Creation<'_>, own: Vmid) -> Result<Option<Rival>, pve::Error> {
    let name = &creation.name;
    let guests = creation.op.client.cluster().guests_now().await?;
    for guest in guests.iter().filter(|guest| guest.vmid != own && may_have(creation, guest)) {
        match looked_at(creation, guest).await {
            Ok(Looked::Named(found)) if found == *name => {
                return Ok(Some(Rival { guest: guest.clone(), is_unfinished: false }));
            }
            Ok(Looked::Unfinished) => return Ok(Some(Rival { guest: guest.clone(), is_unfinished: true })),
            Ok(Looked::Gone | Looked::Named(_)) => {}
            // Nothing can be made now on a node that is not reached, or by a user whose VMs we may not see.
            Err(error) if error.never_sent() || error.is(Class::Rights) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a listed guest may have the name: that of a new one is not listed for some seconds.
fn may_have(creation: &Creation<'_>, guest: &Guest) -> bool {
    let listed = guest.name.clone().filter(|listed| *listed != format!("VM {}", guest.vmid));
    let known = listed.or_else(|| creation.op.cx.numbers.name_of(guest.vmid));
    match known {
        Some(known) => known == creation.name,
        // The guests of a node that is down have no name for as long as that lasts.
        None => guest.kind == GuestKind::Qemu && guest.status != "unknown",
    }
}

enum Looked {
    Gone,
    /// It has this name, and is finished.
    Named(String),
    /// It has our name, and a mark.
    Unfinished,
}

async fn looked_at(creation: &Creation<'_>, guest: &Guest) -> Result<Looked, pve::Error> {
    if guest.kind == GuestKind::Lxc {
        return Ok(Looked::Named(guest.name.clone().unwrap_or_default()));
    }
    let found = match locate::look(&creation.op.client, guest).await {
        Err(error) if error.is(Class::NoGuest) => return Ok(Looked::Gone),
        found => found?,
    };
    let name = found.settings.written("name").unwrap_or_default();
    if name != creation.name {
        // One that is being made gets its name when it is made.
        if !name.is_empty() {
            creation.op.cx.numbers.named(guest.vmid, name);
        }
        return Ok(Looked::Named(name.to_owned()));
    }
    let is_marked = marker::is_any_in(found.settings.written("description").unwrap_or_default());
    Ok(if is_marked { Looked::Unfinished } else { Looked::Named(name.to_owned()) })
}

/// Decides between our new VM and another of its name.
pub(super) async fn settle(
    creation: &Creation<'_>,
    m: &mut Vm,
    found: Found,
    mut rival: Rival,
) -> Result<Found, Error> {
    let op = creation.op;
    let patience = Instant::now() + PATIENCE;
    // A higher number is taken back by its own apply, if that sees us.
    while rival.is_unfinished && rival.guest.vmid > found.vmid && Instant::now() < patience {
        op.pause(PAUSE, "another VM of the same name to go").await?;
        match of(creation, found.vmid).await? {
            Some(other) => rival = other,
            None => return Ok(found),
        }
    }
    op.cx.progress(&format!(
        "VM {} of the same name was made at the same time: taking VM {} back",
        rival.guest.vmid, found.vmid
    ));
    remove::removed(&op.on(found.node, found.vmid), m, &found.settings).await?;
    m.uuid = Attr::Unknown;
    creation.forget(m, found.vmid);
    op.now(Holds::TakenBack);
    let told = if rival.is_unfinished { unfinished } else { exists };
    Err(told(&creation.name, &rival.guest).into())
}

/// Another apply in this folder is at it.
pub(super) fn claimed(name: &str) -> Problem {
    Problem::new(
        format!("Another resource or another apply in this folder is creating a VM named {name} now."),
        "Choose another `name`, or wait for the end of the other apply.",
    )
    .at("name")
}

fn exists(name: &str, guest: &Guest) -> Problem {
    let (happened, at) = if guest.name.as_deref() == Some(name) {
        (format!("A guest named {name} exists already: {} on node {}.", guest.vmid, guest.node), "name")
    } else {
        (format!("A guest with number {} exists already on node {}.", guest.vmid, guest.node), "vmid")
    };
    Problem::new(happened, "Choose another `name` or `vmid`, or import that VM if it is yours.").at(at)
}

fn unfinished(name: &str, guest: &Guest) -> Problem {
    let Guest { vmid, node, .. } = guest;
    let happened = format!(
        "A guest named {name} exists already: {vmid} on node {node}. Its creation was begun from another folder, computer or state, and is not finished."
    );
    let cure = format!(
        "Choose another `name`, or let the other apply end if one is creating it. If none is, nobody goes on with it: destroy VM {vmid} in Proxmox VE, and apply again."
    );
    Problem::new(happened, cure).at("name")
}

const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(500);
