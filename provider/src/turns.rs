//! One after the other: of one cluster, one machine goes at a time, however many Terraform destroys at once.
//!
//! One provider process sees all machines of an apply, so it can hold the turns. Two applies at once are kept apart by Terraform's lock
//! of the state, and where they have two states the budgets of pods still count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Who may go now, by cluster.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for a turn; it lasts until the guard is dropped.
    pub(crate) async fn take(&self, cluster_id: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(cluster_id.to_owned()).or_default())
        };
        turn.lock_owned().await
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
}
