//! The limits of everything that is waited for at an agent: a deadline, somebody who asks to stop, and the patience with one answer.
//!
//! An agent may be anybody who accepts a connection and then says nothing. So nothing here is awaited bare: connections and clients are
//! private to `dial`, `line` and `enrol`, and each of their awaits goes through [`Until::bound`].

use super::Error;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long somebody waits for agents.
#[derive(Debug, Clone)]
pub(crate) struct Until {
    deadline: Instant,
    stop: CancellationToken,
}

impl Until {
    /// Until the deadline, or until `stop` is set.
    pub(crate) fn new(deadline: Instant, stop: &CancellationToken) -> Self {
        Self { deadline, stop: stop.clone() }
    }

    /// A little while from now, stopped or not: to tell an agent what it must hear all the same.
    pub(crate) fn grace() -> Self {
        Self { deadline: Instant::now() + GRACE, stop: CancellationToken::new() }
    }

    /// Does `work` towards the agent at `address`, and drops it when the limits are over or `patience` is. Work that was over before is
    /// not begun.
    pub(super) async fn bound<T>(
        &self,
        (address, what): (&str, &str),
        patience: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let silent = || Error::Unreachable { address: address.to_owned(), why: format!("no answer to {what} in time") };
        // All arms are cancel-safe: a token and timers; what is dropped with the work is the connection it was on.
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::Stopped),
            () = tokio::time::sleep_until(self.deadline) => {
                Err(Error::Deadline { what: format!("the agent at {address}"), last: Some(Box::new(silent())) })
            }
            () = tokio::time::sleep(patience) => Err(silent()),
            done = work => Ok(done),
        }
    }
}

const GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whatever_is_over_first_ends_the_work() {
        let (stop, at) = (CancellationToken::new(), ("host:7443", "Apply"));
        let time = Duration::from_millis;
        let ends = async |deadline, patience| {
            let until = Until::new(Instant::now() + time(deadline), &stop);
            until.bound(at, time(patience), std::future::pending::<()>()).await.unwrap_err()
        };
        let late = ends(20, 90_000).await;
        assert!(matches!(late, Error::Deadline { .. }) && late.is_unreachable(), "{late:?}");
        assert!(matches!(ends(90_000, 20).await, Error::Unreachable { .. }));
        stop.cancel();
        assert!(matches!(ends(90_000, 90_000).await, Error::Stopped));
        let done = Until::new(Instant::now(), &stop).bound(at, time(90_000), std::future::ready(7)).await;
        assert!(matches!(done, Err(Error::Stopped)), "what is over is not begun: {done:?}");
    }
}
