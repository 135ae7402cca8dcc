//! One after the other: of one cluster, one machine goes at a time, however many Terraform destroys at once.
//!
//! One provider process sees all machines of an apply, so it can hold the turns, and knows which control planes are to go together. Two
//! applies at once are kept apart by Terraform's lock of the state, and where they have two states the budgets of pods still count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Who may go now, by cluster, and who is about to.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    leaving: Mutex<BTreeMap<u64, Who>>,
}

/// Cluster and fingerprint of a machine; `None` until it has said what it is.
type Who = Option<(String, String)>;

/// A machine that is about to go, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Leaving<'_> {
    /// It is a control plane of that cluster.
    pub(crate) fn is(&self, cluster_id: &str, fingerprint: &str) {
        self.turns.leaving().insert(self.number, Some((cluster_id.to_owned(), fingerprint.to_owned())));
    }

    /// How many control planes of its cluster are about to go, with this one; `None` as long as a machine that is about to go has not said
    /// what it is. One that goes twice, with its VM and by itself, counts once.
    pub(crate) fn together(&self) -> Option<usize> {
        let leaving = self.turns.leaving();
        let all: Option<BTreeSet<&(String, String)>> = leaving.values().map(Option::as_ref).collect();
        let (cluster, _) = leaving.get(&self.number)?.as_ref()?;
        Some(all?.into_iter().filter(|(other, _)| other == cluster).count())
    }

    /// It was refused because of all that were to go, and so are they: it goes on to count.
    pub(crate) fn in_vain(self) {
        std::mem::forget(self);
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.turns.leaving().remove(&self.number);
    }
}

impl Turns {
    /// Waits for a turn; it lasts until the guard is dropped.
    pub(crate) async fn take(&self, cluster_id: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(cluster_id.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    /// Counts a machine among those that are about to go.
    pub(crate) fn begins_to_leave(&self) -> Leaving<'_> {
        let mut leaving = self.leaving();
        let number = leaving.last_key_value().map_or(0, |(last, _)| last + 1);
        leaving.insert(number, None);
        Leaving { turns: self, number }
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeMap<u64, Who>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn machines_of_one_cluster_go_one_after_the_other() {
        let turns = Turns::default();
        let first = turns.take("sha256:00").await;
        assert!(turns.take("sha256:00").now_or_never().is_none(), "somebody is going");
        assert!(turns.take("sha256:01").now_or_never().is_some(), "another cluster");
        drop(first);
        assert!(turns.take("sha256:00").now_or_never().is_some());
    }

    #[test]
    fn control_planes_of_one_cluster_that_go_together_are_counted() {
        let turns = Turns::default();
        let [first, second, elsewhere, worker] = [(); 4].map(|()| turns.begins_to_leave());
        first.is("sha256:00", "one");
        elsewhere.is("sha256:01", "three");
        drop(worker);
        assert_eq!(first.together(), None, "the second has not said what it is");
        second.is("sha256:00", "two");
        let again = turns.begins_to_leave();
        again.is("sha256:00", "two");
        assert_eq!([first.together(), second.together(), elsewhere.together()], [Some(2), Some(2), Some(1)]);
        drop(first);
        assert_eq!(second.together(), Some(1));
        again.in_vain();
        let next = turns.begins_to_leave();
        next.is("sha256:00", "one");
        assert_eq!(next.together(), Some(2));
    }
}
