//! That nobody answers, told once: the second asker of a run gets the first one's failure at once, and not after a time-out of
//! its own.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::http::Call;

/// The last failure to reach any endpoint, while it is fresh.
#[derive(Default)]
pub(crate) struct Silence(Mutex<Option<(Instant, Heard)>>);

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
        if !error.is_silence() && error.certificate().is_none() {
            return error;
        }
        let (endpoint, source) = match error {
            Error::Connect { endpoint, source, .. } if !source.is::<Shared>() => (endpoint, source),
            other => return other,
        };
        let heard = Heard { endpoint, source: Shared(source.into()) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), heard.clone()));
        heard.told(call)
    }

    /// The failure that another call has just met.
    pub(crate) fn known(&self, call: &Call) -> Option<Error> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, heard) = heard.as_ref().filter(|(since, _)| since.elapsed() < FRESH)?;
        Some(heard.told(call))
    }

    /// Somebody answers.
    pub(crate) fn broken(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// Longer than the rest of a plan takes that fails at once, shorter than a person takes to plan again.
const FRESH: Duration = Duration::from_secs(15);
