//! What time it is, as far as a machine that may have just booted can know.
//!
//! While nothing keeps the clock right, the best guess is never earlier than this program's release or than the time an operator
//! told at the last enrolment, and dates of certificates are given a wide margin: the chain and the key of a client do not depend on
//! the time. A certificate from the clock's future is let in: only the clock can be wrong. Old ones are kept out as far as we know.
//!
//! An operator's clock may be wrong, too, and must not lock everybody out for good: what it told is forgotten at the next start,
//! replaced by the next enrolment, and counts for nothing once something keeps the machine's own clock right.

use crate::facts;
use crate::host::Host;
use rustls::pki_types::UnixTime;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// The clock with its floor.
#[derive(Debug)]
pub struct Floor {
    seconds: AtomicU64,
    /// Whether something keeps the machine's clock right, in this boot.
    synchronised: AtomicBool,
    /// When the machine was last asked for it.
    looked: Mutex<Option<Instant>>,
}

impl Default for Floor {
    fn default() -> Self {
        Self { seconds: AtomicU64::new(RELEASED), synchronised: AtomicBool::default(), looked: Mutex::default() }
    }
}

impl Floor {
    /// Asks whether something keeps the clock right by now: when a client is about to be judged, for an idle agent asks nothing.
    ///
    /// Who comes right after another is judged by the same answer: the question may start a program, and anybody can knock.
    pub async fn look(&self, host: &dyn Host) {
        if self.is_synchronised() {
            return;
        }
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        // Noted first: who hangs up while we ask must not have us ask anew.
        *looked = Some(Instant::now());
        // A machine that does not answer may be booting: its clock is not known to be right.
        let answer = timeout(PATIENCE, facts::clock_synchronised(host)).await;
        if matches!(answer, Ok(Ok(true))) {
            self.synchronised.store(true, Ordering::Relaxed);
        }
    }

    /// Sets the floor to the time that an operator told, later or earlier than what another told before.
    pub fn set(&self, seconds: u64) {
        self.seconds.store(seconds.max(RELEASED), Ordering::Relaxed);
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
        trust::Clock { now: UnixTime::since_unix_epoch(now), tolerance, may_be_slow: !synchronised }
    }

    fn is_synchronised(&self) -> bool {
        self.synchronised.load(Ordering::Relaxed)
    }
}

/// 2026-11-01: no build of this program is older.
const RELEASED: u64 = 1_793_491_200;
/// A time zone mistaken for another, and then some.
const UNSET: Duration = Duration::from_secs(26 * 3_600);
/// How long an answer holds that nothing keeps the clock right.
const AGAIN: Duration = Duration::from_secs(10);
/// A handshake waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    const DAY: u64 = 24 * 3_600;

    fn ahead(days: u64) -> u64 {
        UnixTime::now().as_secs() + days * DAY
    }

    #[test]
    fn the_last_enrolment_sets_the_floor() {
        let floor = Floor::default();
        let far = ahead(300);
        floor.set(far);
        assert_eq!(floor.clock(true).now.as_secs(), far);
        // By the same operator with a better clock, or by another: the first one is not locked out, and locks nobody out.
        floor.set(ahead(0));
        assert!(floor.clock(true).now.as_secs() < far);
        floor.set(5);
        assert!(floor.clock(true).now.as_secs() >= RELEASED);
    }

    #[tokio::test]
    async fn a_clock_that_is_kept_right_is_believed_alone() {
        let floor = Floor::default();
        floor.set(ahead(10));
        // The template's timesyncd has set its clock.
        floor.look(&Fake::template()).await;
        floor.set(ahead(10));
        assert!(floor.clock(true).now.as_secs() < ahead(1), "the operator's clock ran ahead");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_is_asked_once_for_many_clients() {
        let (floor, host) = (Floor::default(), Fake::template());
        host.take("/run/systemd/timesync/synchronized");
        for _ in 0..20 {
            floor.look(&host).await;
        }
        assert_eq!((host.looks(), floor.is_synchronised()), (1, false));
        host.put("/run/systemd/timesync/synchronized", "");
        tokio::time::advance(AGAIN).await;
        floor.look(&host).await;
        assert!(floor.is_synchronised());
    }

    #[test]
    fn dates_do_not_count_before_the_enrolment() {
        let floor = Floor::default();
        assert_eq!(floor.clock(false).tolerance, None);
        assert!(floor.clock(true).tolerance.is_some());
    }
}
