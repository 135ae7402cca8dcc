//! What time it is, as far as a machine that may have just booted can know.
//!
//! The best guess is never earlier than this program's release or than a time an operator has told at an enrolment. While
//! nothing has set the clock since boot, dates of certificates are given a wide margin: the chain and the key of a client do not
//! depend on the time.

use crate::state::{State, StateError};
use rustls::pki_types::UnixTime;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The clock with its floor.
#[derive(Debug)]
pub struct Floor(AtomicU64);

impl Floor {
    /// With the floor that an earlier start has kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(state: &State) -> Result<Self, StateError> {
        let kept = state.read(FILE)?.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok(Self(AtomicU64::new(kept.max(RELEASED))))
    }

    /// Raises the floor to a time that an operator told; never lowers it.
    ///
    /// # Errors
    /// When it cannot be kept for the next start.
    pub fn raise(&self, state: &State, seconds: u64) -> Result<(), StateError> {
        if seconds <= self.0.fetch_max(seconds, Ordering::Relaxed) {
            return Ok(());
        }
        state.write(FILE, &seconds.to_string())
    }

    /// The clock by which a client's certificate is judged. Before the enrolment dates do not count at all.
    #[must_use]
    pub fn clock(&self, enrolled: bool) -> trust::Clock {
        let floor = Duration::from_secs(self.0.load(Ordering::Relaxed));
        let now = Duration::from_secs(UnixTime::now().as_secs()).max(floor);
        let tolerance = match (enrolled, is_set()) {
            (false, _) => None,
            (true, true) => Some(Duration::from_secs(60)),
            (true, false) => Some(UNSET),
        };
        trust::Clock { now: UnixTime::since_unix_epoch(now), tolerance }
    }
}

/// Whether a time service has set the clock since boot. Source: systemd-timesyncd.service(8), systemd-time-wait-sync.service(8).
fn is_set() -> bool {
    Path::new("/run/systemd/timesync/synchronized").exists()
}

const FILE: &str = "clock";
/// 2026-11-01: no build of this program is older.
const RELEASED: u64 = 1_793_491_200;
/// A time zone mistaken for another, and then some.
const UNSET: Duration = Duration::from_secs(26 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_rises_and_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let far = UnixTime::now().as_secs() + 1_000_000;
        let floor = Floor::load(&state).unwrap();
        floor.raise(&state, far).unwrap();
        floor.raise(&state, 5).unwrap();
        for floor in [floor, Floor::load(&state).unwrap()] {
            assert_eq!(floor.clock(true).now.as_secs(), far);
        }
    }

    #[test]
    fn dates_do_not_count_before_the_enrolment() {
        let folder = tempfile::tempdir().unwrap();
        let floor = Floor::load(&State::open(folder.path()).unwrap()).unwrap();
        assert_eq!(floor.clock(false).tolerance, None);
        assert!(floor.clock(true).tolerance.is_some());
    }
}
