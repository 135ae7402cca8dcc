//! The one list of guests and nodes that everybody in the process shares.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::guests::Guests;

/// The shared view: one fetch at a time, renewed after it was invalidated.
#[derive(Default)]
pub(crate) struct Snapshot {
    state: Mutex<Seen>,
    fetch: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Seen {
    /// When something was last created, removed or moved here.
    changed: Option<Instant>,
    /// When the last list was asked for, and what it said.
    last: Option<(Instant, Arc<Guests>)>,
}

impl Snapshot {
    /// Makes the next look a new one.
    pub(crate) fn invalidate(&self) {
        self.state().changed = Some(Instant::now());
    }

    /// The last list and when it was asked for.
    pub(crate) fn last(&self) -> Option<(Instant, Arc<Guests>)> {
        self.state().last.clone()
    }

    /// The last list, if it was asked for at that time or later.
    pub(crate) fn asked_since(&self, since: Instant) -> Option<Arc<Guests>> {
        self.last().filter(|(asked, _)| *asked >= since).map(|(_, guests)| guests)
    }

    /// The last list, if nothing was changed since and it is not too old.
    pub(crate) fn current(&self) -> Option<Arc<Guests>> {
        let changed = self.state().changed;
        let (asked, guests) = self.last()?;
        let valid = asked.elapsed() < LIFETIME && changed.is_none_or(|changed| changed < asked);
        valid.then_some(guests)
    }

    /// Held by whoever asks for a new list; others wait for it.
    pub(crate) async fn one_at_a_time(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.fetch.lock().await
    }

    /// A new list, and when it was asked for.
    pub(crate) fn renew(&self, asked: Instant, guests: &Arc<Guests>) {
        self.state().last = Some((asked, Arc::clone(guests)));
    }

    fn state(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longer than a refresh of a large cluster takes, shorter than a person's patience with stale news.
const LIFETIME: Duration = Duration::from_secs(120);
