//! A new VM as a copy of another one.
//!
//! The number of a clone is taken by its task, not by the call, and the clone gets a UUID of its own: it is recognised by its mark alone.

use pve::{Class, CloneVm, Drive, Guest, GuestKind, Guests};
use tf::Path;

use super::creation::{Creation, Made};
use super::error::{Error, Problem};
use super::holds::Holds;
use super::new::RETRY;
use super::operation::Operation;
use crate::resources::vm::locate;
use crate::resources::vm::model::Vm;
use crate::resources::vm::{config, disks};

/// A copy of another VM.
pub(super) async fn cloned(creation: &mut Creation<'_>, m: &mut Vm) -> Result<Made, Error> {
    let op = creation.op;
    let source = source(creation, m).await?;
    storages_fit(op, m, &source).await?;
    loop {
        let copy = copy(creation, m, &source).await?;
        let vmid = copy.newid;
        let begun = op.client.vm(&source.node, source.vmid).clone_to(&copy).begin().await;
        let is_begun = begun.is_ok();
        let ended = match begun {
            Ok(upid) => op.client.wait(&upid).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let Err(error) = ended else {
            creation.record(m, vmid);
            return Ok(Made::Done(vmid));
        };
        let found = locate::by_id(&op.calm(), vmid).await;
        match found.map(|found| found.filter(|found| creation.is_ours(m, found))) {
            Ok(Some(found)) => {
                creation.record(m, vmid);
                // The server may still be taking it back: whoever gets its number then is told apart by the UUID.
                m.uuid.put(config::uuid(&found.settings));
                if error.outcome_unknown() {
                    return Ok(Made::Seen(found));
                }
                op.now(Holds::Unfinished);
                return Err(error.into());
            }
            // A task that nobody waits for any more goes on, and its VM carries the mark only at the end.
            Ok(None) if is_begun && matches!(error, pve::Error::Deadline { .. }) => {
                creation.forget(m, vmid);
                op.now(Holds::CloneGoesOn);
                return Err(error.into());
            }
            Ok(None) => creation.forget(m, vmid),
            // Not even its UUID is known: a record would let the next apply destroy whoever has this number.
            Err(_) if is_begun || error.outcome_unknown() => {
                creation.forget(m, vmid);
                op.now(Holds::PerhapsCloned);
                return Err(error.into());
            }
            Err(_) => creation.forget(m, vmid),
        }
        let again = error.is(Class::Busy) || (creation.wanted.is_none() && error.is(Class::Exists));
        if !again {
            return Err(error.into());
        }
        op.pause(RETRY, "the clone").await?;
    }
}

/// What to ask for, with a number of its own.
async fn copy(creation: &mut Creation<'_>, m: &Vm, source: &Guest) -> Result<CloneVm, Error> {
    let newid = creation.number().await?;
    let clone = m.clone.cloned().unwrap_or_default();
    let full = clone.full.or(!source.template);
    Ok(CloneVm {
        newid,
        description: Some(creation.marked(m)),
        name: creation.name.clone(),
        full,
        storage: clone.storage.cloned().filter(|_| full),
        target: (source.node != creation.node).then(|| creation.node.clone()),
        pool: m.pool.cloned(),
    })
}

/// Refuses what a clone cannot do: its disks stay where their originals are, or all go to one storage.
async fn storages_fit(op: &Operation<'_>, m: &Vm, source: &Guest) -> Result<(), Error> {
    let clone = m.clone.need()?;
    let full = clone.full.or(!source.template);
    if !full && clone.storage.is_known() {
        let said = "A linked clone shares the disks of its template, and stays on their storage.";
        let cure = "Leave `clone.storage` out, or set `clone.full = true`.";
        return Err(Problem::new(said, cure).at(Path::from("clone").name("storage")).into());
    }
    // What the original has matters only where a disk says where it is to be.
    if disks::of(m).values().all(|disk| !disk.storage.is_known()) {
        return Ok(());
    }
    let original = op.client.vm(&source.node, source.vmid).pending().await?;
    for (slot, disk) in disks::of(m) {
        let Some(present) = original.written(&slot).map(Drive::parse) else { continue };
        let there = clone.storage.text().filter(|_| full).or_else(|| present.storage());
        if disk.storage.text().is_some_and(|wanted| there != Some(wanted)) {
            let there = there.unwrap_or_default();
            let cure = if full {
                "Say the same storage in `clone.storage`, which is for all disks, or leave this one out."
            } else {
                "Leave it out, or make a full clone: `clone { full = true … storage = … }`."
            };
            let said = format!("Disk {slot} of the clone would be on storage {there}.");
            let at = Path::from("disk").key(&slot).name("storage");
            return Err(Problem::new(said, cure).at(at).into());
        }
    }
    Ok(())
}

/// The VM to copy. One that is named by its number is where it was some seconds ago, or the call says that it is not.
async fn source(creation: &Creation<'_>, m: &Vm) -> Result<Guest, Error> {
    let node = &creation.node;
    let clone = m.clone.need()?;
    let listed =
        clone.vmid.get().and_then(|vmid| creation.guests.iter().find(|one| i64::from(one.vmid.get()) == *vmid));
    if let Some(guest) = listed.filter(|guest| guest.kind == GuestKind::Qemu) {
        return Ok(guest.clone());
    }
    let guests = creation.op.client.cluster().guests().await?;
    let guests: &Guests = &guests;
    let is_it = |guest: &&Guest| match (clone.vmid.get(), clone.name.text(), clone.tag.text()) {
        (Some(vmid), _, _) => i64::from(guest.vmid.get()) == *vmid,
        (_, Some(name), _) => guest.name.as_deref() == Some(name),
        (_, _, Some(tag)) => guest.template && guest.tags().iter().any(|own| own.eq_ignore_ascii_case(tag)),
        _ => false,
    };
    let mut all: Vec<&Guest> = guests.iter().filter(|guest| guest.kind == GuestKind::Qemu).filter(is_it).collect();
    if all.len() > 1 && all.iter().any(|guest| guest.node == *node) {
        all.retain(|guest| guest.node == *node);
    }
    match all.as_slice() {
        [one] => Ok((*one).clone()),
        none_or_many => {
            let count =
                if none_or_many.is_empty() { "No VM fits".to_owned() } else { format!("{} VMs fit", all.len()) };
            let cure = "Name one source by `clone.vmid`, or give the API token VM.Audit and VM.Clone on it.";
            Err(Problem::new(format!("{count} `clone`."), cure).at("clone").into())
        }
    }
}
