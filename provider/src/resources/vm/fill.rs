//! What a VM really is, into the model. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pve::Settings;
use tf::Attr;

use super::cards::Network;
use super::disks::Disk;
use super::marker;
use super::model::Vm;
use super::{cards, config, disks, lost};

/// Fills the model. Values that mean the same keep their spelling. Slots that the model does not manage are left out,
/// unless it manages none yet: after a creation without them, and in an import. `ours` are slots that a change which failed may
/// have filled. A device whose removal waits is there.
pub(super) fn fill(m: &mut Vm, now: &Settings, ours: &BTreeSet<String>) {
    m.name.put(now.written("name"));
    description(m, now);
    m.options.fill(now);
    m.uuid.put(config::uuid(now));
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
    let mut cards: BTreeMap<String, Network> = managed(&m.network, cards::slots(now));
    for slot in ours.iter().filter(|slot| cards::is_slot(slot)) {
        cards.entry(slot.clone()).or_default();
    }
    let there = |slot: &str| now.written(slot).or_else(|| now.leaving(slot));
    cards.retain(|slot, _| there(slot).is_some());
    for (slot, card) in &mut cards {
        cards::fill(card, there(slot).unwrap_or_default());
    }
    m.network.set(cards);
}

/// The entries of a map that is managed, or one for every slot there is.
fn managed<T: Default + Clone>(own: &Attr<BTreeMap<String, T>>, there: Vec<String>) -> BTreeMap<String, T> {
    own.cloned().unwrap_or_else(|| there.into_iter().map(|slot| (slot, T::default())).collect())
}
