//! Agents that are being restarted: for a second or two they refuse connections, and cut those that were open.
//!
//! An update, a power failure's end, a package's post-install script: whatever restarts an agent, a plan of that moment must not miss what is
//! different on its machine. A machine that gives no answer at all is none of this, and is not waited for.

use super::call::Agent;
use super::line::Line;
use super::{Agents, Endpoint, Error, Until};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use trust::Role;

/// Since when agents refuse connections, by their addresses: one that does not run at all costs a run its patience once, however many ask.
#[derive(Debug, Default)]
pub(super) struct Restarts(Mutex<HashMap<String, Instant>>);

impl Restarts {
    /// Whether an agent that refuses or cuts connections may be back soon.
    fn may_end(&self, address: &str) -> bool {
        let mut since = self.lock();
        since.entry(address.to_owned()).or_insert_with(Instant::now).elapsed() < PATIENCE
    }

    fn ended(&self, address: &str) {
        self.lock().remove(address);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agents {
    /// Connects to the agent with this address and key, also if it is just being restarted. Its answers too are waited for `until` then.
    pub(crate) async fn connect(&self, endpoint: &Endpoint, role: Role, until: &Until) -> Result<Agent, Error> {
        let (address, restarts) = (&endpoint.address, &self.authority()?.restarts);
        loop {
            let error = match self.connect_once(endpoint, role, until).await {
                Ok(agent) => {
                    restarts.ended(address);
                    return Ok(agent);
                }
                Err(error) => error,
            };
            if !error.is_closed() || !restarts.may_end(address) {
                return Err(error);
            }
            tracing::debug!(address, error = &error as &dyn std::error::Error, "the agent may be restarting");
            until.bound((address, "the call"), PATIENCE, tokio::time::sleep(PAUSE)).await?;
        }
    }

    /// As [`Self::connect`], where whoever asks asks again by himself, or somebody else.
    pub(crate) async fn connect_once(&self, endpoint: &Endpoint, role: Role, until: &Until) -> Result<Agent, Error> {
        Line::open(self.authority()?, role, endpoint, until).await.map(Agent)
    }
}

/// What a look at an agent comes to, which may be taken twice: once more, where the connection was cut in its middle.
pub(crate) async fn again<T, F>(look: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    match look().await {
        Err(error) if error.is_closed() => look().await,
        done => done,
    }
}

/// An agent that is restarted answers after two seconds, on slow machines after some more.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn patience_with_one_agent_is_spent_once_and_comes_back_when_it_answers() {
        let restarts = Restarts::default();
        assert!(restarts.may_end("a:1"));
        tokio::time::sleep(PATIENCE).await;
        assert_eq!([restarts.may_end("a:1"), restarts.may_end("a:1"), restarts.may_end("b:1")], [false, false, true]);
        restarts.ended("a:1");
        assert!(restarts.may_end("a:1"));
    }

    #[tokio::test]
    async fn a_look_that_was_cut_is_taken_again_and_any_other_is_not() {
        let taken = async |closed: bool| {
            let looks = Cell::new(0);
            let (address, why) = ("a:1".to_owned(), String::new());
            let fail =
                || if closed { Error::Closed { address: address.clone(), why: why.clone() } } else { Error::Stopped };
            let done: Result<(), Error> = again(|| async {
                looks.set(looks.get() + 1);
                Err(fail())
            })
            .await;
            assert!(done.is_err());
            looks.get()
        };
        assert_eq!((taken(true).await, taken(false).await), (2, 1));
    }
}
