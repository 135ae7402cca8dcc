//! Which disks and cards were ever in the configuration. The others of a clone or an import stand in the state too, and are
//! somebody else's: only what was written once is taken away when it is written no more.

use std::collections::{BTreeMap, BTreeSet};

use tf::{Attr, Private};

use super::model::Vm;

/// Notes at plan time what the configuration has.
pub(super) fn plan(private: &Private, config: &Vm) {
    let disks = config.disks.get().into_iter().flat_map(BTreeMap::keys);
    let cards = config.networks.get().into_iter().flat_map(BTreeMap::keys);
    private.set(PLANNED, &disks.chain(cards).collect::<BTreeSet<_>>());
}

/// From here on, what is planned may be there.
pub(super) fn begun(private: &Private) {
    private.set(OURS, &ours(private).union(&planned(private)).collect::<BTreeSet<_>>());
}

/// What was planned is there, and nothing else of ours.
pub(super) fn done(private: &Private) {
    private.set(OURS, &planned(private));
}

/// The model with only those slots that were in the configuration.
pub(super) fn owned(m: &Vm, private: &Private) -> Vm {
    fn only<T>(slots: &mut Attr<BTreeMap<String, T>>, ours: &BTreeSet<String>) {
        if let Some(slots) = slots.get_mut() {
            slots.retain(|slot, _| ours.contains(slot));
        }
    }
    let (mut m, ours) = (m.clone(), ours(private));
    only(&mut m.disks, &ours);
    only(&mut m.networks, &ours);
    m
}

fn ours(private: &Private) -> BTreeSet<String> {
    private.get(OURS).unwrap_or_default()
}

fn planned(private: &Private) -> BTreeSet<String> {
    private.get(PLANNED).unwrap_or_default()
}

/// Keys in the VM's private state.
const OURS: &str = "slots";
const PLANNED: &str = "planned_slots";

#[cfg(test)]
mod tests {
    use super::super::model::{Disk, Network};
    use super::*;

    fn vm(disks: &[&str], cards: &[&str]) -> Vm {
        Vm {
            disks: disks.iter().map(|slot| ((*slot).to_owned(), Disk::default())).collect::<BTreeMap<_, _>>().into(),
            networks: cards
                .iter()
                .map(|slot| ((*slot).to_owned(), Network::default()))
                .collect::<BTreeMap<_, _>>()
                .into(),
            ..Vm::default()
        }
    }

    fn names(m: &Vm) -> Vec<String> {
        let (disks, cards) = (m.disks.get().unwrap(), m.networks.get().unwrap());
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
        done(&private);
        assert_eq!(names(&owned(&there, &private)), ["net0"]);
    }
}
