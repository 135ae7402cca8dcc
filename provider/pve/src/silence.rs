//! That nobody answers, or that a node is not reached, told once: the second asker of a run gets the first one's failure at once,
//! and not after a time-out of its own.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::http::Call;
use crate::ids::NodeName;

/// The last failures to reach any endpoint (under no name) and single nodes, while they are fresh.
#[derive(Default)]
pub(crate) struct Silence(Mutex<HashMap<Option<NodeName>, (Instant, Heard)>>);

/// What stands in an error that others share.
#[derive(Clone)]
struct Heard {
    endpoint: String,
    source: Shared,
}

/// An error that several errors have as their source.
#[derive(Clone)]
struct Shared(Arc<dyn StdError + Send + Sync>);

impl Silence {
    /// Notes the failure of a call that reached nobody, and passes it on.
    pub(crate) fn heard(&self, call: &Call, error: Error) -> Error {
        let of = error.node().cloned();
        if of.is_none() && !error.is_silence() && error.certificate().is_none() {
            return error;
        }
        let (endpoint, source) = match error {
            Error::Connect { endpoint, source, .. } if !source.is::<Shared>() => (endpoint, source),
            other => return other,
        };
        let heard = Heard { endpoint, source: Shared(source.into()) };
        self.state().insert(of, (Instant::now(), heard.clone()));
        heard.told(call)
    }

    /// The failure that another call has just met.
    pub(crate) fn known(&self, call: &Call) -> Option<Error> {
        let state = self.state();
        let fresh = |of: &Option<NodeName>| state.get(of).filter(|(since, _)| since.elapsed() < FRESH);
        let (_, heard) = fresh(&None).or_else(|| fresh(&call.node))?;
        Some(heard.told(call))
    }

    /// Somebody answers, and reaches the node that the call is about.
    pub(crate) fn broken(&self, call: &Call) {
        self.state().retain(|of, _| of.is_some() && *of != call.node);
    }

    fn state(&self) -> MutexGuard<'_, HashMap<Option<NodeName>, (Instant, Heard)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the error is one that was shared.
    pub(crate) fn is_told_in(error: &Error) -> bool {
        matches!(error, Error::Connect { source, .. } if source.is::<Shared>())
    }
}

impl Heard {
    fn told(&self, call: &Call) -> Error {
        let source = Box::new(self.source.clone());
        Error::Connect { call: call.name(), endpoint: self.endpoint.clone(), source }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Shared {
    /// Itself, so that it is found among the causes; whoever prints them sees that its text stands there already.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

/// Longer than the rest of a plan takes that fails at once, shorter than a person takes to plan again.
const FRESH: Duration = Duration::from_secs(15);
