//! Which disks and cards were ever in the configuration. Those that an import found stand in the state too, and are
//! somebody else's: only what was written once is taken away when it is written no more.

use std::collections::{BTreeMap, BTreeSet};

use pve::Settings;
use tf::{Attr, Private};

use super::noted;
use crate::resources::vm::model::Vm;

/// Notes at plan time what the configuration has.
pub(crate) fn plan(private: &Private, config: &Vm) {
    let disks = config.disk.get().into_iter().flat_map(BTreeMap::keys);
    let cards = config.network.get().into_iter().flat_map(BTreeMap::keys);
    private.set(PLANNED, &disks.chain(cards).collect::<BTreeSet<_>>());
}

/// From here on, what is planned may be there.
pub(crate) fn begun(private: &Private) {
    private.set(OURS, &ours(private).union(&planned(private)).collect::<BTreeSet<_>>());
    private.set(UNFINISHED, &true);
}

/// What was planned is there, and nothing else of ours but what is still to go.
pub(crate) fn done(private: &Private, left: BTreeSet<String>) {
    private.set(OURS, &planned(private).into_iter().chain(left).collect::<BTreeSet<_>>());
    private.remove(UNFINISHED);
    noted::only_cards(private, &planned(private));
}

/// The machine stays, which was to go. Where it is tainted and another one was to take its place, the destroying call is not handed its notes,
/// only those of the new one's plan: what that has, and the machine too, was written before.
pub(crate) fn stays(private: &Private, old: &Vm) {
    if private.get::<BTreeSet<String>>(OURS).is_some() {
        return;
    }
    let disks = old.disk.get().into_iter().flat_map(BTreeMap::keys);
    let there: BTreeSet<String> =
        disks.chain(old.network.get().into_iter().flat_map(BTreeMap::keys)).cloned().collect();
    private.set(OURS, &planned(private).intersection(&there).collect::<BTreeSet<_>>());
}

/// A slot that is empty is nobody's: whoever fills it next is its owner. A change that did not come to its end may fill one yet.
pub(crate) fn seen(private: &Private, now: &Settings) {
    if private.get::<bool>(UNFINISHED).unwrap_or_default() {
        return;
    }
    let there = |slot: &String| now.written(slot).is_some() || now.leaving(slot).is_some();
    private.set(OURS, &ours(private).into_iter().filter(there).collect::<BTreeSet<_>>());
}

/// The model with only those slots that were in the configuration.
pub(crate) fn owned(m: &Vm, private: &Private) -> Vm {
    fn only<T>(slots: &mut Attr<BTreeMap<String, T>>, ours: &BTreeSet<String>) {
        if let Some(slots) = slots.get_mut() {
            slots.retain(|slot, _| ours.contains(slot));
        }
    }
    let (mut m, ours) = (m.clone(), ours(private));
    only(&mut m.disk, &ours);
    only(&mut m.network, &ours);
    m
}

/// Slots that were in the configuration and may hold something of ours.
pub(crate) fn ours(private: &Private) -> BTreeSet<String> {
    private.get(OURS).unwrap_or_default()
}

fn planned(private: &Private) -> BTreeSet<String> {
    private.get(PLANNED).unwrap_or_default()
}

/// Keys in the VM's private state.
const OURS: &str = "slots";
const PLANNED: &str = "planned_slots";
const UNFINISHED: &str = "unfinished";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::vm::cards::Network;
    use crate::resources::vm::disks::Disk;

    fn vm(disks: &[&str], cards: &[&str]) -> Vm {
        Vm {
            disk: disks.iter().map(|slot| ((*slot).to_owned(), Disk::default())).collect::<BTreeMap<_, _>>().into(),
            network: cards
                .iter()
                .map(|slot| ((*slot).to_owned(), Network::default()))
                .collect::<BTreeMap<_, _>>()
                .into(),
            ..Vm::default()
        }
    }

    fn names(m: &Vm) -> Vec<String> {
        let (disks, cards) = (m.disk.get().unwrap(), m.network.get().unwrap());
        disks.keys().chain(cards.keys()).cloned().collect()
    }

    #[test]
    fn only_what_was_written_once_is_ours() {
        let private = Private::default();
        let there = vm(&["scsi0", "scsi1"], &["net0"]);
        assert!(names(&owned(&there, &private)).is_empty(), "an import");
        plan(&private, &vm(&["scsi1"], &[]));
        assert!(names(&owned(&there, &private)).is_empty(), "a plan alone changes nothing");
        begun(&private);
        assert_eq!(names(&owned(&there, &private)), ["scsi1"]);
        plan(&private, &vm(&[], &["net0"]));
        begun(&private);
        assert_eq!(names(&owned(&there, &private)), ["scsi1", "net0"], "a change that fails may have left either");
        done(&private, BTreeSet::from(["scsi1".to_owned()]));
        assert_eq!(names(&owned(&there, &private)), ["scsi1", "net0"], "its removal waits");
        done(&private, BTreeSet::new());
        assert_eq!(names(&owned(&there, &private)), ["net0"]);
    }

    #[test]
    fn what_a_machine_keeps_that_stays_after_all() {
        let private = Private::default();
        plan(&private, &vm(&["scsi0", "scsi2"], &["net0"]));
        let there = vm(&["scsi0", "scsi1"], &["net0"]);
        stays(&private, &there);
        assert_eq!(names(&owned(&there, &private)), ["scsi0", "net0"], "the new one's plan is all that is known");
        done(&private, BTreeSet::from(["scsi1".to_owned()]));
        stays(&private, &there);
        assert_eq!(names(&owned(&there, &private)), ["scsi0", "scsi1", "net0"], "the notes are there");
    }

    #[test]
    fn an_empty_slot_is_forgotten_unless_a_change_may_fill_it_yet() {
        let private = Private::default();
        plan(&private, &vm(&["scsi1"], &[]));
        begun(&private);
        seen(&private, &Settings::default());
        assert!(ours(&private).contains("scsi1"));
        done(&private, BTreeSet::new());
        seen(&private, &Settings::default());
        assert!(ours(&private).is_empty());
    }
}
