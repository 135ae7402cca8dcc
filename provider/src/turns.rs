//! One after the other: of one cluster, one machine goes at a time, however many Terraform destroys at once.
//!
//! One provider process sees all machines of an apply, so it can hold the turns, and knows which control planes are to go together. Two applies at once are kept apart by Terraform's lock
//! of the state, and where they have two states the budgets of pods still count.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Who may go now, by cluster.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Cluster and machine of the control planes that are about to go.
    leaving: Mutex<BTreeSet<(String, String)>>,
}

/// A control plane that is about to go, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    turns: &'a Turns,
    who: (String, String),
}

impl Leaving<'_> {
    /// How many control planes of its cluster are about to go, with this one.
    pub(crate) fn together(&self) -> usize {
        let leaving = self.turns.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.iter().filter(|(cluster, _)| *cluster == self.who.0).count()
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.turns.leaving.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.who);
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

    /// Counts a control plane among those that are about to go. One that goes twice, with its VM and with its machine, counts once.
    pub(crate) fn leaves(&self, cluster_id: &str, fingerprint: &str) -> Leaving<'_> {
        let who = (cluster_id.to_owned(), fingerprint.to_owned());
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).insert(who.clone());
        Leaving { turns: self, who }
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
        let first = turns.leaves("sha256:00", "one");
        let second = turns.leaves("sha256:00", "two");
        let elsewhere = turns.leaves("sha256:01", "three");
        assert_eq!([first.together(), second.together(), elsewhere.together()], [2, 2, 1]);
        drop(first);
        assert_eq!(second.together(), 1);
    }
}
