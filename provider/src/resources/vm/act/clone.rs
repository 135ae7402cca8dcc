//! A new VM as a copy of another one.
//!
//! The number of a clone is taken by its task, not by the call, and the clone gets a UUID of its own: it is recognised by its mark alone.

use pve::{Class, CloneVm, Drive, Guest, GuestKind, Guests, NodeName, Settings};
use tf::Path;

use super::creation::{Creation, Made};
use super::error::{Error, Problem};
use super::holds::Holds;
use super::new::RETRY;
use super::operation::Operation;
use crate::resources::vm::disks::Disk;
use crate::resources::vm::locate;
use crate::resources::vm::model::Vm;
use crate::resources::vm::{config, disks};

/// A copy of another VM.
pub(super) async fn cloned(creation: &mut Creation<'_>, m: &mut Vm) -> Result<Made, Error> {
    let op = creation.op;
    let source = source(creation, m).await?;
    possible(op, m, (&source, &creation.node)).await?;
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

/// Refuses what a clone cannot do: its disks stay where their originals are, or all go to one storage; none shrinks; and another node
/// must see them.
async fn possible(op: &Operation<'_>, m: &Vm, (source, node): (&Guest, &NodeName)) -> Result<(), Error> {
    let clone = m.clone.need()?;
    let full = clone.full.or(!source.template);
    if !full && clone.storage.is_known() {
        let said = "A linked clone shares the disks of its template, and stays on their storage.";
        let cure = "Leave `clone.storage` out, or set `clone.full = true`.";
        return Err(Problem::new(said, cure).at(Path::from("clone").name("storage")).into());
    }
    let moves = source.node != *node;
    // What the original has matters only where a disk says what it is to be, or the copy is for another node.
    if !moves && disks::of(m).values().all(|disk| !disk.storage.is_known() && !disk.size_gib.is_known()) {
        return Ok(());
    }
    let original = op.client.vm(&source.node, source.vmid).pending().await?;
    if moves {
        seen_by_both(op, (source, node), &original, clone.storage.text().filter(|_| full)).await?;
    }
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
        if let Err(present) = disks::growth(&disk, original.written(&slot).unwrap_or_default()) {
            return Err(too_large(&slot, &disk, present).into());
        }
    }
    Ok(())
}

/// A disk that is larger than its attribute says.
pub(super) fn too_large(slot: &str, disk: &Disk, present: u64) -> Problem {
    let said = format!(
        "Disk {slot} has {present} GiB, as its image or template does, and cannot shrink to {} GiB.",
        disk.size_gib.or(0)
    );
    let cure = format!("Set `size_gib` to {present} or more, or leave it out.");
    Problem::new(said, cure).at(Path::from("disk").key(slot).name("size_gib"))
}

/// Proxmox VE makes a copy for another node only where that node sees what it is made of, CD-ROMs too, and where it goes.
async fn seen_by_both(
    op: &Operation<'_>,
    (source, node): (&Guest, &NodeName),
    original: &Settings,
    goes_to: Option<&str>,
) -> Result<(), Error> {
    let is_drive = |key: &&str| disks::is_slot(key) || DRIVES.iter().any(|kind| key.starts_with(kind));
    let drives = original.keys().filter(is_drive).filter_map(|key| original.written(key)).map(Drive::parse);
    let own: Vec<String> = drives.filter_map(|drive| drive.storage().map(str::to_owned)).collect();
    let storages = op.client.storages(&source.node).list().await?;
    let is_local = |name: &&str| storages.iter().any(|storage| storage.storage == **name && !storage.shared);
    let Some(local) = own.iter().map(String::as_str).chain(goes_to).find(is_local) else { return Ok(()) };
    let from = &source.node;
    let said = format!(
        "The source is VM {} on node {from}, and storage {local} is that node's own: node {node} does not see it, and Proxmox VE makes no \
         copy for a node that does not see its disks.",
        source.vmid
    );
    let cure = format!(
        "Clone a source that is on node {node}, such as a template made there; set `node` to {from}; or keep the disks, `clone.storage` \
         too, on a storage that both nodes share."
    );
    Err(Problem::new(said, cure).at("clone").into())
}

/// Drives beside disks and CD-ROMs.
const DRIVES: [&str; 3] = ["ide", "efidisk", "tpmstate"];

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
