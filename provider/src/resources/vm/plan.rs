//! What a change does, said before it is done: nothing here looks at anything but configuration, state and notes. Start at `plan`; the
//! rules across attributes are in `validate`, what a change does to a running machine in `effects` and `hotplug`, new machines in `replace`.

mod effects;
pub(super) mod hotplug;
pub(super) mod replace;
pub(super) mod validate;

use tf::{Attr, Diagnostic, Path, PlanNotes};

use self::effects::Change;
use super::cards::{self, Network};
use super::disks::{self, Disk};
use super::model::Vm;
use super::notes::noted::Noted;
use super::notes::{announced, needs, slots};
use super::{config, option, origin};

/// Adjusts a plan and says what it does.
pub(super) fn plan(prior: Option<&Vm>, config: &Vm, m: &mut Vm, notes: &mut PlanNotes) {
    slots::plan(notes.private(), config);
    match prior {
        None => creation(config, m, notes),
        Some(prior) => change((prior, config), m, notes),
    }
}

/// What is known of a new VM beforehand.
fn creation(config: &Vm, m: &mut Vm, notes: &mut PlanNotes) {
    not_given(config, m);
    if config.clone.is_null() {
        new_machine(m);
    }
    m.effects.set(Vec::new());
    if config.agent.is_null() {
        m.endpoint = Attr::Null;
    }
    needs::plan(notes.private(), m);
    if needs::is_silent(m) {
        notes.warn(
            Diagnostic::warning("Cannot create a stopped machine with an agent")
                .happened(needs::SILENT)
                .holds("An apply of this plan fails before it changes anything of this machine.")
                .next("Set `started = true`, or leave `agent` out.")
                .at("started"),
        );
    }
}

/// Creation-only attributes that nobody gave stay empty.
fn not_given(config: &Vm, m: &mut Vm) {
    fn empty<T>(given: &Attr<T>, attr: &mut Attr<T>) {
        if given.is_null() && attr.is_unknown() {
            *attr = Attr::Null;
        }
    }
    empty(&config.image, &mut m.image);
    empty(&config.pool, &mut m.pool);
    empty(&config.efi_storage, &mut m.efi_storage);
}

/// Defaults of machines that are not clones.
fn new_machine(m: &mut Vm) {
    m.options.table().into_iter().for_each(|mut option| option.default_if_unknown());
    if m.description.is_unknown() {
        m.description = Attr::Null;
    }
    for (_, disk) in m.disk.get_mut().into_iter().flatten() {
        new_disk(disk);
    }
    for (_, card) in m.network.get_mut().into_iter().flatten() {
        new_card(card);
    }
}

/// A disk that comes, as far as it is known beforehand.
fn new_disk(disk: &mut Disk) {
    disk.table().into_iter().for_each(|mut option| option.default_if_unknown());
}

fn new_card(card: &mut Network) {
    card.table().into_iter().for_each(|mut option| option.default_if_unknown());
}

/// What means the same as before keeps its spelling, so that it is no change.
fn same_meaning(prior: &Vm, m: &mut Vm) {
    if let (Some(old), Some(new)) = (prior.description.text(), m.description.text())
        && old.trim_end() == new.trim_end()
    {
        m.description = prior.description.clone();
    }
    option::keep_spelling(prior.options.clone().table(), m.options.table());
    let before = cards::of(prior);
    for (slot, card) in m.network.get_mut().into_iter().flatten() {
        if let Some(old) = before.get(slot) {
            option::keep_spelling(old.clone().table(), card.table());
        }
    }
}

fn change((prior, config): (&Vm, &Vm), m: &mut Vm, notes: &mut PlanNotes) {
    same_meaning(prior, m);
    if config.agent.is_known() && origin::is_imported(prior) && prior.endpoint.is_null() {
        notes.warn(without_agent(prior));
    }
    let noted = Noted::of(notes.private());
    let kept = kept(config, &noted);
    let reboots = m.reboot.is_true() && prior.started.is_true() && m.started.is_true();
    let mut waits = config::ours(m, prior.waiting.get().into_iter().flatten().map(String::as_str));
    waits.retain(|key| !noted.is_leaving(key));
    let applies = reboots && !waits.is_empty();
    if !notes.changed() && !applies && kept.is_empty() {
        return;
    }
    let before = disks::of(prior);
    for (_, disk) in m.disk.get_mut().into_iter().flatten().filter(|(slot, _)| !before.contains_key(*slot)) {
        new_disk(disk);
    }
    cards((prior, config), m, &noted);
    if m.disk != prior.disk || m.network != prior.network {
        m.lost_on_destroy = Attr::Unknown;
    }
    announced::set(notes.private(), true);
    if let Some(why) = replace::refused(prior, m, &noted) {
        notes.warn(replace::refusal(prior, &why));
        m.effects.set(vec![replace::refused_line(prior, m)]);
        return;
    }
    replace::demand(prior, m, notes);
    let replacing = effects::replacing(prior, m, notes.replacing());
    if replacing.is_empty() {
        shrinks(prior, m, notes);
    } else {
        notes.warn(replace::cost(prior, &replacing));
    }
    if effects::are_open(config) {
        // What is not known yet may add a line when it is, and Terraform holds us to what we plan now.
        m.effects = Attr::Unknown;
        m.waiting = Attr::Unknown;
        return;
    }
    let owned = slots::owned(prior, notes.private());
    let (prior_vm, replacing) = (prior, notes.replacing());
    let mut lines = effects::lines(Change { prior: prior_vm, owned: &owned, m, replacing, noted: &noted });
    if lines.is_empty() && !applies && kept.is_empty() {
        m.effects = prior.effects.clone();
        m.waiting = prior.waiting.clone();
        return;
    }
    let waiting_too = lines.iter().any(|line| line.contains("reboot")) || !kept.is_empty();
    lines.extend(kept);
    if applies {
        lines.push(format!("{}: waits since an earlier change; a reboot applies it", waits.join(", ")));
    }
    announced::set(notes.private(), applies || effects::announce_reboot(&lines));
    if applies || waiting_too {
        m.waiting = Attr::Unknown;
    }
    m.effects.set(lines);
}

/// An agent comes with a machine's first boot, which an imported one has behind it.
fn without_agent(prior: &Vm) -> Diagnostic {
    Diagnostic::warning(format!("VM {} has no agent that this provider knows", prior.id.or("")))
        .happened("It was imported, and no agent of the provider's CA answered at its address then, so `endpoint` stays null.")
        .next("Leave `agent` out; or, if an agent does run there, import the VM again; or make the machine anew: `terraform apply -replace=…`.")
        .at("agent")
}

/// Cards that come: as new ones are, but with the address they had, which the guest knows them by.
fn cards((prior, config): (&Vm, &Vm), m: &mut Vm, noted: &Noted) {
    let (before, given) = (cards::of(prior), cards::of(config));
    for (slot, card) in m.network.get_mut().into_iter().flatten().filter(|(slot, _)| !before.contains_key(*slot)) {
        new_card(card);
        let asked = given.get(slot).is_some_and(|card| card.mac.is_null());
        if let Some(mac) = noted.mac(slot).filter(|_| asked) {
            card.mac.set(mac);
        }
    }
}

/// Slots of the configuration whose removal somebody else asked for: the devices stay.
fn kept(config: &Vm, noted: &Noted) -> Vec<String> {
    let disks = disks::of(config).into_keys().map(|slot| ("disk", slot));
    let cards = cards::of(config).into_keys().map(|slot| ("network", slot));
    let kept = disks.chain(cards).filter(|(_, slot)| noted.is_leaving(slot));
    kept.map(|(map, slot)| format!("{map}.{slot}: its removal, which waits for a power cycle, is taken back: live"))
        .collect()
}

fn shrinks(prior: &Vm, m: &Vm, notes: &mut PlanNotes) {
    let before = disks::of(prior);
    for (slot, disk) in m.disk.get().into_iter().flatten() {
        let there = before.get(slot).and_then(|disk| disk.size_gib.get());
        if let (Some(there), Some(wanted)) = (there, disk.size_gib.get())
            && wanted < there
        {
            let at = Path::from("disk").key(slot).name("size_gib");
            notes.warn(
                Diagnostic::warning(format!("Cannot shrink disk {slot} from {there} to {wanted} GiB"))
                    .happened(format!("`{at}` is smaller than the disk is. Proxmox VE cannot shrink disks, because the guest's data may be there."))
                    .holds("An apply of this plan fails before it changes anything.")
                    .next(format!("Set `size_gib` to {there} or more, or make the machine anew: `terraform apply -replace=…`."))
                    .at(at),
            );
        }
    }
}

#[cfg(test)]
mod tests;
