//! A new machine in place of the old one, as plans see it: what demands it, what it costs, and where it is refused. Pure.
//!
//! Terraform plans a replacement by two calls: this change, and a creation whose warnings it drops. What goes with the machine is
//! therefore an attribute, `lost_on_destroy`, which Terraform shows in every plan that destroys or replaces, whoever asked for it.
//! A plan never fails because of an existing machine: Terraform makes an ordinary plan before it destroys, and an error in it would
//! stand in the way of destroying. What cannot be done is said in the plan, and refused by the apply before it changes anything.

use tf::{Diagnostic, Path, PlanNotes};

use crate::resources::vm::disks;
use crate::resources::vm::model::Vm;
use crate::resources::vm::notes::noted::Noted;
use crate::resources::vm::origin;

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
pub(crate) fn to_another_node(prior: &Vm, m: &Vm) -> bool {
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
