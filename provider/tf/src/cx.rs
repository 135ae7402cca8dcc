//! What a resource is handed beside its model: the provider's data, a stop signal, a clock, warnings, private state.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::diagnostic::{Diagnostic, Diagnostics};

/// The surroundings of one call. Derefs to the provider's data.
#[derive(Debug)]
pub struct Cx<D> {
    data: Arc<D>,
    /// Set when the user asks to stop: look at it between calls and while waiting, never inside a change.
    pub stop: CancellationToken,
    /// Names the call in the log.
    pub req_id: String,
    started: Instant,
    warnings: Arc<Mutex<Diagnostics>>,
    private: Private,
    filled: AtomicBool,
}

impl<D> Cx<D> {
    /// The surroundings of a call that starts now. The framework makes them; resources' own tests may.
    #[must_use]
    pub fn new(data: Arc<D>, stop: CancellationToken) -> Self {
        Self {
            data,
            stop,
            req_id: String::new(),
            started: Instant::now(),
            warnings: Arc::default(),
            private: Private::default(),
            filled: AtomicBool::new(false),
        }
    }

    /// Says that a creation has filled the model with what is really there, as a read would: then nobody reads it again.
    pub fn filled(&self) {
        self.filled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Relaxed)
    }

    /// The moment that lies `after` the start of this call: all its waits share it.
    #[must_use]
    pub fn deadline(&self, after: Duration) -> Instant {
        self.started + after
    }

    /// Shows a warning with the answer, whether the call succeeds or fails. What a change and the look after it find alike is said once.
    pub fn warn(&self, warning: Diagnostic) {
        let mut warnings = lock(&self.warnings);
        if !warnings.iter().any(|said| *said == warning) {
            warnings.push(warning);
        }
    }

    /// Logs how far a long operation is.
    pub fn progress(&self, message: &str) {
        tracing::info!(progress = message, "in progress");
    }

    /// What is stored beside the object, unseen by users. Not encrypted: no secrets.
    #[must_use]
    pub const fn private(&self) -> &Private {
        &self.private
    }

    /// The provider's data, to be kept longer than the call.
    #[must_use]
    pub fn data(&self) -> Arc<D> {
        Arc::clone(&self.data)
    }

    /// The same surroundings for a last look after a stop: not stopped, with a clock of their own.
    pub(crate) fn after_stop(&self) -> Self {
        Self {
            data: self.data(),
            stop: CancellationToken::new(),
            req_id: self.req_id.clone(),
            started: Instant::now(),
            warnings: Arc::clone(&self.warnings),
            private: self.private.shared(),
            filled: AtomicBool::new(false),
        }
    }

    pub(crate) fn with_private(mut self, stored: &[u8]) -> Self {
        self.private = Private::read(stored);
        self
    }

    pub(crate) fn with_req_id(mut self, req_id: &str) -> Self {
        req_id.clone_into(&mut self.req_id);
        self
    }

    /// These problems, and the warnings of this call.
    pub(crate) fn and_warnings(&self, mut problems: Diagnostics) -> Diagnostics {
        problems.extend(std::mem::take(&mut *lock(&self.warnings)));
        problems
    }
}

impl<D> Deref for Cx<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.data
    }
}

/// Small JSON values by key, stored beside an object in Terraform's state.
#[derive(Debug, Default)]
pub struct Private(Arc<Mutex<BTreeMap<String, Json>>>);

impl Private {
    /// The value of a key, if there is one that reads as `T`.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        lock(&self.0).get(key).and_then(|json| T::deserialize(json).ok())
    }

    /// Stores a value; what JSON cannot hold is not stored.
    pub fn set(&self, key: &str, value: &impl Serialize) {
        if let Ok(json) = serde_json::to_value(value) {
            lock(&self.0).insert(key.to_owned(), json);
        }
    }

    /// Forgets a value.
    pub fn remove(&self, key: &str) {
        lock(&self.0).remove(key);
    }

    /// Equal values of their own.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(lock(&self.0).clone())))
    }

    /// The same values, not a copy of them.
    pub(crate) fn shared(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    pub(crate) fn read(stored: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(serde_json::from_slice(stored).unwrap_or_default())))
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let entries = lock(&self.0);
        if entries.is_empty() { Vec::new() } else { serde_json::to_vec(&*entries).unwrap_or_default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_values_survive_being_stored() {
        let private = Private::default();
        assert_eq!(private.write(), b"");
        private.set("upid", &"UPID:pve1:…");
        private.set("generation", &2);
        let again = Private::read(&private.write());
        assert_eq!(again.get::<String>("upid").as_deref(), Some("UPID:pve1:…"));
        assert_eq!(again.get::<u32>("generation"), Some(2));
        assert_eq!(again.get::<u32>("upid"), None);
        assert_eq!(Private::read(b"garbage").get::<u32>("upid"), None);
    }
}
