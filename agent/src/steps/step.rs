//! A step is a function from the host to the changes still needed.
//!
//! Idempotence is not promised, it is checked: a run plans, makes the changes and plans again. So every change must leave a trace
//! that `missing` can see, and what is *in force* counts as much as what is *written*.

use crate::change::{StepError, Todo};
use crate::host::{BoxFuture, Host};

/// One concern of a machine.
pub trait Step: Send + Sync {
    /// Its name in events, drift lines and `Describe`.
    fn name(&self) -> &'static str;

    /// The changes still needed. Reads only.
    ///
    /// # Errors
    /// When the machine cannot be read, or cannot be what is asked for.
    fn missing(&self, host: &dyn Host) -> impl Future<Output = Result<Todo, StepError>> + Send;
}

/// A [`Step`] behind a pointer.
pub trait AnyStep: Send + Sync {
    /// As [`Step::name`].
    fn name(&self) -> &'static str;
    /// As [`Step::missing`].
    fn missing<'a>(&'a self, host: &'a dyn Host) -> BoxFuture<'a, Result<Todo, StepError>>;
}

impl<S: Step> AnyStep for S {
    fn name(&self) -> &'static str {
        Step::name(self)
    }

    fn missing<'a>(&'a self, host: &'a dyn Host) -> BoxFuture<'a, Result<Todo, StepError>> {
        Box::pin(Step::missing(self, host))
    }
}
