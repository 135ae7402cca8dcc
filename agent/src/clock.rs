//! What time it is, as far as a machine that may have just booted can know.
//!
//! While nothing keeps the clock right, the best guess is never earlier than this program's release or than a time an operator has
//! told at an enrolment, and dates of certificates are given a wide margin: the chain and the key of a client do not depend on the
//! time. A clock that is kept right is believed alone: an operator's that ran ahead must not lock everybody out for good.

use crate::facts;
use crate::host::Host;
use crate::state::{State, StateError};
use rustls::pki_types::UnixTime;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The clock with its floor.
#[derive(Debug)]
pub struct Floor {
    seconds: AtomicU64,
    /// Whether something keeps the machine's clock right, in this boot.
    synchronised: AtomicBool,
}

impl Floor {
    /// With the floor that an earlier start has kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(state: &State) -> Result<Self, StateError> {
        let kept = state.read(FILE)?.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok(Self { seconds: AtomicU64::new(kept.max(RELEASED)), synchronised: AtomicBool::new(false) })
    }

    /// Looks now and then until something keeps the clock right. timesyncd and chrony alike set the kernel's flag for it.
    pub async fn watch(&self, host: &dyn Host) {
        // A machine that cannot be asked is asked again: it may be booting.
        while !facts::clock_synchronised(host).await.unwrap_or(false) {
            tokio::time::sleep(LOOK).await;
        }
        self.synchronised.store(true, Ordering::Relaxed);
    }

    /// Raises the floor to a time that an operator told; never lowers it. What is far beyond a clock that is kept right is not taken.
    ///
    /// # Errors
    /// When it cannot be kept for the next start.
    pub fn raise(&self, state: &State, seconds: u64) -> Result<(), StateError> {
        if self.is_synchronised() && seconds > UnixTime::now().as_secs() + AHEAD {
            tracing::warn!(seconds, "the operator's clock is far ahead of this machine's");
            return Ok(());
        }
        if seconds <= self.seconds.fetch_max(seconds, Ordering::Relaxed) {
            return Ok(());
        }
        state.write(FILE, &seconds.to_string())
    }

    /// The clock by which a client's certificate is judged. Before the enrolment dates do not count at all.
    #[must_use]
    pub fn clock(&self, enrolled: bool) -> trust::Clock {
        let floor = Duration::from_secs(self.seconds.load(Ordering::Relaxed));
        let (now, synchronised) = (Duration::from_secs(UnixTime::now().as_secs()), self.is_synchronised());
        let now = if synchronised { now } else { now.max(floor) };
        let tolerance = match (enrolled, synchronised) {
            (false, _) => None,
            (true, true) => Some(Duration::from_secs(60)),
            (true, false) => Some(UNSET),
        };
        trust::Clock { now: UnixTime::since_unix_epoch(now), tolerance }
    }

    fn is_synchronised(&self) -> bool {
        self.synchronised.load(Ordering::Relaxed)
    }
}

const FILE: &str = "clock";
/// 2026-11-01: no build of this program is older.
const RELEASED: u64 = 1_793_491_200;
/// A time zone mistaken for another, and then some.
const UNSET: Duration = Duration::from_secs(26 * 3_600);
/// A day: more than a wrong time zone.
const AHEAD: u64 = 24 * 3_600;
const LOOK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

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

    #[tokio::test]
    async fn a_clock_that_is_kept_right_is_believed_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let floor = Floor::load(&state).unwrap();
        let far = UnixTime::now().as_secs() + 10 * AHEAD;
        floor.raise(&state, far).unwrap();
        // The template's timesyncd has set its clock.
        floor.watch(&Fake::template()).await;
        assert!(floor.clock(true).now.as_secs() < far, "the operator's clock ran ahead");
        floor.raise(&state, far + 1).unwrap();
        assert_eq!(Floor::load(&state).unwrap().clock(true).now.as_secs(), far, "not taken");
        floor.raise(&state, UnixTime::now().as_secs() + 60).unwrap();
    }

    #[test]
    fn dates_do_not_count_before_the_enrolment() {
        let folder = tempfile::tempdir().unwrap();
        let floor = Floor::load(&State::open(folder.path()).unwrap()).unwrap();
        assert_eq!(floor.clock(false).tolerance, None);
        assert!(floor.clock(true).tolerance.is_some());
    }
}
