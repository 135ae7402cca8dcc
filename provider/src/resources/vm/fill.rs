//! What a VM really is, into the model. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pve::Settings;
use tf::Attr;

use super::config::{Seen, lower, same_cpu};
use super::marker;
use super::model::{Disk, Network, Vm};
use super::{disks, lost};

/// Fills the model. Values that mean the same keep their spelling. Slots that the model does not manage are left out,
/// unless it manages none yet: after a creation without them, and in an import. `ours` are slots that a change which failed may
/// have filled. A device whose removal waits is there.
pub(super) fn fill(m: &mut Vm, now: &Settings, ours: &BTreeSet<String>) {
    let seen = Seen(now);
    m.name.put(now.written("name"));
    description(m, now);
    let tags = seen.tags();
    if m.tags.get().is_none_or(|own| lower(own) != lower(&tags)) {
        m.tags.set(tags);
    }
    m.cores.set(seen.cores());
    m.sockets.set(seen.sockets());
    m.memory_mib.set(seen.memory());
    if m.cpu_type.text().is_none_or(|own| !same_cpu(own, &seen.cpu())) {
        m.cpu_type.set(seen.cpu());
    }
    m.firmware.set(seen.firmware());
    m.on_boot.set(seen.on_boot());
    m.guest_agent.set(seen.guest_agent());
    m.serial_console.set(seen.serial());
    m.uuid.put(seen.uuid());
    m.waiting.set(
        now.waiting().filter(|key| !matches!(*key, "description" | "digest")).map(str::to_owned).collect::<Vec<_>>(),
    );
    slots(m, now, ours);
    m.lost_on_destroy.set(lost::with(now));
}

fn description(m: &mut Vm, now: &Settings) {
    let text = marker::without(now.written("description").unwrap_or_default());
    let own = m.description.text().unwrap_or_default();
    // The server takes trailing blanks away.
    if m.description.is_unknown() || own.trim_end() != text.trim_end() {
        m.description.put(Some(text).filter(|text| !text.is_empty()));
    }
}

fn slots(m: &mut Vm, now: &Settings, ours: &BTreeSet<String>) {
    let mut all: BTreeMap<String, Disk> = managed(&m.disk, disks::slots(now));
    for slot in ours.iter().filter(|slot| disks::is_slot(slot)) {
        all.entry(slot.clone()).or_default();
    }
    all.retain(|slot, _| disks::line(now, slot).is_some());
    for (slot, disk) in &mut all {
        disks::fill(disk, &disks::line(now, slot).unwrap_or_default());
    }
    m.disk.set(all);
    let mut cards: BTreeMap<String, Network> = managed(&m.network, disks::card_slots(now));
    for slot in ours.iter().filter(|slot| disks::is_card_slot(slot)) {
        cards.entry(slot.clone()).or_default();
    }
    let there = |slot: &str| now.written(slot).or_else(|| now.leaving(slot));
    cards.retain(|slot, _| there(slot).is_some());
    for (slot, card) in &mut cards {
        disks::fill_card(card, there(slot).unwrap_or_default());
    }
    m.network.set(cards);
}

/// The entries of a map that is managed, or one for every slot there is.
fn managed<T: Default + Clone>(own: &Attr<BTreeMap<String, T>>, there: Vec<String>) -> BTreeMap<String, T> {
    own.cloned().unwrap_or_else(|| there.into_iter().map(|slot| (slot, T::default())).collect())
}

/// An empty disk, as the plan of a new one shows it.
pub(super) fn defaults(disk: &mut Disk) {
    let plain = |attr: &mut Attr<bool>, value: bool| {
        if attr.is_unknown() {
            attr.set(value);
        }
    };
    plain(&mut disk.discard, false);
    plain(&mut disk.ssd, false);
    plain(&mut disk.iothread, false);
    plain(&mut disk.backup, true);
    for text in [&mut disk.cache, &mut disk.serial] {
        if text.is_unknown() {
            *text = Attr::Null;
        }
    }
}

/// A new network card, as the plan shows it.
pub(super) fn card_defaults(card: &mut Network) {
    if card.model.is_unknown() {
        card.model.set("virtio");
    }
    if card.firewall.is_unknown() {
        card.firewall.set(false);
    }
    for number in [&mut card.vlan, &mut card.mtu] {
        if number.is_unknown() {
            *number = Attr::Null;
        }
    }
}
