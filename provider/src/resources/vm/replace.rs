//! A new machine in place of the old one, as plans see it: what demands it, what it costs, and where it is refused. Pure.
//!
//! Terraform plans a replacement by two calls: this change, and a creation whose warnings it drops. What goes with the machine is
//! therefore an attribute, `lost_on_destroy`, which Terraform shows in every plan that destroys or replaces, whoever asked for it.
//! A plan never fails because of an existing machine: Terraform makes an ordinary plan before it destroys, and an error in it would
//! stand in the way of destroying. What cannot be done is said in the plan, and refused by the apply before it changes anything.

use pve::{Drive, Net, Settings};
use tf::{Diagnostic, Path, PlanNotes};

use super::disks;
use super::model::Vm;
use super::noted::Noted;
use super::origin;

/// Demands a new machine for what needs one, beside the rows that say so themselves.
pub(super) fn demand(prior: &Vm, m: &Vm, notes: &mut PlanNotes) {
    if to_another_node(prior, m) {
        notes.replace("node");
    }
    // An imported machine has its first boot behind it, and one that has an agent already needs no other.
    if prior.agent.is_null() && m.agent.is_known() && prior.endpoint.is_null() && !origin::is_imported(prior) {
        notes.replace("agent");
    }
    let before = disks::of(prior);
    for (slot, disk) in m.disk.get().into_iter().flatten() {
        let Some(old) = before.get(slot) else { continue };
        let there = old.volume.text().and_then(|volume| volume.split_once(':')).map(|(storage, _)| storage);
        if disk.storage != old.storage && disk.storage.text() != there {
            notes.replace(Path::from("disk").key(slot).name("storage"));
        }
    }
}

/// A VM that was moved by somebody is where the configuration now says.
pub(super) fn to_another_node(prior: &Vm, m: &Vm) -> bool {
    m.node != prior.node && m.node.text() != prior.current_node.text()
}

/// Why no machine can be made where this one is to be; the plan then leaves it alone.
pub(super) fn refused(prior: &Vm, m: &Vm, noted: &Noted) -> Option<String> {
    m.node.text().filter(|_| to_another_node(prior, m)).and_then(|node| noted.no_node(node))
}

/// The one line of such a plan's effects.
pub(super) fn refused_line(prior: &Vm, m: &Vm) -> String {
    let (old, new) = (prior.node.or(""), m.node.or(""));
    format!("node: {old} -> {new}: refused, for no machine can be made there: this apply will change nothing")
}

/// What a plan says about it.
pub(super) fn refusal(prior: &Vm, why: &str) -> Diagnostic {
    Diagnostic::warning(format!("Cannot replace VM {}", prior.id.or("")))
        .happened(format!("Another `node` needs a new machine, and none can be made there. {why}"))
        .holds("The machine is not replaced. An apply of this plan fails before it changes anything.")
        .next("Correct `node`, or bring that node back, and plan again.")
        .at("node")
}

/// What a plan says about a replacement.
pub(super) fn cost(prior: &Vm, because: &[Path]) -> Diagnostic {
    let names: Vec<String> = because.iter().map(|path| format!("`{path}`")).collect();
    let slots = || disks::of(prior).into_keys().map(|slot| format!("{slot}: all its data"));
    let lost = prior.lost_on_destroy.cloned().unwrap_or_else(|| slots().collect());
    Diagnostic::warning(format!("VM {} will be replaced", prior.id.or("")))
        .happened(format!(
            "{} cannot be changed on a machine that exists. With the machine go:\n  {}",
            names.join(", "),
            lost.join("\n  ")
        ))
        .holds("Nothing was changed yet.")
        .next("Save what is needed from those disks before you apply, or set the attribute back.")
}

/// What goes with a machine when it is destroyed or replaced.
pub(super) fn lost(now: &Settings) -> Vec<String> {
    let size = |drive: &Drive| drive.size().map(|size| format!(", {} GiB", size.gib_up())).unwrap_or_default();
    let drive = |slot: &str| now.written(slot).or_else(|| now.leaving(slot)).map(Drive::parse);
    let mut keys: Vec<&str> = now.keys().chain(now.waiting().filter(|key| now.leaving(key).is_some())).collect();
    keys.sort_by_key(|key| (key.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(), disks::number(key)));
    let disk = |slot: &&str| {
        let drive = drive(slot).filter(|drive| !drive.is_cdrom())?;
        let what = match *slot {
            "efidisk0" => "the variables of its firmware".to_owned(),
            "tpmstate0" => "what its TPM keeps".to_owned(),
            slot if disks::is_slot(slot) || slot.starts_with("unused") => format!("all its data{}", size(&drive)),
            _ => return None,
        };
        Some(format!("{slot}: {what} ({})", drive.volume()))
    };
    let card = |slot: &&str| {
        let mac = now.written(slot).and_then(|text| Some(Net::parse(text).mac()?.to_owned()))?;
        Some(format!("{slot}: the hardware address {mac}, unless `mac` gives it, and what DHCP gave to it"))
    };
    let cards = keys.iter().filter(|key| disks::is_card_slot(key)).filter_map(card);
    keys.iter().filter_map(disk).chain(cards).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_volume_and_address_is_named() {
        let rows = serde_json::json!([
            {"key": "scsi10", "value": "data:v10,size=1536M"}, {"key": "scsi2", "value": "data:v2,size=4G", "delete": 1},
            {"key": "ide2", "value": "local:iso/x.iso,media=cdrom"}, {"key": "efidisk0", "value": "data:efi,size=4M"},
            {"key": "unused0", "value": "data:old"}, {"key": "net0", "value": "virtio=BC:24:11:00:00:01,bridge=vmbr0"},
            {"key": "scsihw", "value": "virtio-scsi-single"}]);
        let lost = lost(&serde_json::from_value(rows).unwrap());
        assert_eq!(
            lost,
            [
                "efidisk0: the variables of its firmware (data:efi)",
                "scsi2: all its data, 4 GiB (data:v2)",
                "scsi10: all its data, 2 GiB (data:v10)",
                "unused0: all its data (data:old)",
                "net0: the hardware address BC:24:11:00:00:01, unless `mac` gives it, and what DHCP gave to it",
            ]
        );
    }
}
