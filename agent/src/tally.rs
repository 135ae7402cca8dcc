//! Log lines about what others do at their pleasure: told once a minute at most, with how often it happened.
//!
//! Anybody can knock, and whoever causes a line for each knock fills the journal. Nothing runs to tell the rest: what was counted
//! since the last line is told with the next event.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Counts one kind of event.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    untold: u64,
    told: Option<Instant>,
}

impl Tally {
    /// Counts one more. If a line is due: how many there were since the last one.
    pub fn count(&self) -> Option<u64> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.untold += 1;
        if counted.told.is_some_and(|told| told.elapsed() < APART) {
            return None;
        }
        counted.told = Some(Instant::now());
        Some(std::mem::take(&mut counted.untold))
    }
}

const APART: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_a_line_a_minute() {
        let tally = Tally::default();
        let mut lines = Vec::new();
        for _ in 0..150 {
            lines.extend((0..1_000).filter_map(|_| tally.count()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(lines, [1, 60_000, 60_000]);
    }
}
