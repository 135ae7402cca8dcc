//! What ends waiting: a deadline, and somebody who asks to stop.
//!
//! **Reads** end with the deadline, and some seconds after a stop: what was just made is still seen, and recorded.
//! **Uploads** end at once with either; they may take hours. **Other writes** are not begun any more, but one that was sent is
//! never given up: only its answer says what it began. The time that the server may take for an answer bounds the wait.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::http::Call;

/// The limits of one piece of work.
#[derive(Clone, Default)]
pub(crate) struct Limits {
    deadline: Option<Instant>,
    stop: CancellationToken,
}

/// Why a pause ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupted {
    Deadline,
    Stop,
}

impl Limits {
    pub(crate) const fn new(deadline: Instant, stop: CancellationToken) -> Self {
        Self { deadline: Some(deadline), stop }
    }

    pub(crate) const fn has_deadline(&self) -> bool {
        self.deadline.is_some()
    }

    /// Waits; fails if the deadline would pass meanwhile, or somebody asks to stop.
    pub(crate) async fn pause(&self, pause: Duration) -> Result<(), Interrupted> {
        let wake = Instant::now() + pause;
        if self.deadline.is_some_and(|deadline| wake > deadline) {
            return Err(Interrupted::Deadline);
        }
        // Both arms are cancel-safe: a token and a timer.
        tokio::select! {
            () = self.stop.cancelled() => Err(Interrupted::Stop),
            () = tokio::time::sleep_until(wake) => Ok(()),
        }
    }

    /// Does work for a call that is dropped, wherever it is, when the limits are over.
    pub(crate) async fn unless_over<T>(&self, call: &Call, work: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            // Limits that were over before go first: then nothing is begun.
            biased;
            over = self.over(call) => Err(over),
            done = work => Ok(done),
        }
    }

    async fn over(&self, call: &Call) -> Error {
        let stopped = async {
            self.stop.cancelled().await;
            if call.is_read() {
                tokio::time::sleep(LAST_LOOK).await;
            }
        };
        let late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // Both arms are cancel-safe: a token and timers.
        tokio::select! {
            biased;
            () = stopped => Error::Stopped { what: call.name() },
            () = late => Error::Deadline { what: call.name() },
        }
    }
}

/// 0.3 s, doubling to 5 s, spread so that many waiters do not come back together.
pub(crate) fn back_off(attempt: u32) -> Duration {
    let base = 300_u64 << attempt.saturating_sub(1).min(4);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let spread = now.subsec_micros() % 13;
    Duration::from_millis(base.min(5_000) + u64::from(spread) * 20)
}

/// Longer than a server that is well takes for a read, shorter than the patience of whoever asked to stop.
const LAST_LOOK: Duration = Duration::from_secs(5);
