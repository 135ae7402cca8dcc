//! Runs: one at a time, each telling its story to whoever listens, now or later.
//!
//! A [`Runner`] starts a job in a task of its own, so a caller who hangs up stops nothing. The story is kept; [`Runner::attach`]
//! reads it from the beginning, also for a while after the end. Applying a specification is one kind of job (`apply`), cluster
//! operations are others.

mod apply;
mod story;

use crate::host::{BoxFuture, Host};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

pub use apply::{Plan, PlanError, PlannedChange, Skipped, apply, plan};
pub use story::{Event, Story, What};

use story::Tale;

/// Names a run, unique on this machine.
pub type RunId = String;

/// Starts runs and finds them again.
#[derive(Clone)]
pub struct Runner {
    host: Arc<dyn Host>,
    runs: Arc<Mutex<Runs>>,
}

#[derive(Default)]
struct Runs {
    current: Option<Arc<Tale>>,
    /// The last few, oldest first.
    finished: VecDeque<Arc<Tale>>,
}

/// Somebody else's run is in progress.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run {0} is in progress")]
pub struct Busy(pub RunId);

/// How a job ended well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Changes made.
    pub changes: u32,
    /// Something only takes effect after a restart.
    pub reboot_needed: bool,
}

/// How a job ended badly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// During which step.
    pub step: String,
    /// During which change, as its line reads; empty: while looking.
    pub change: String,
    /// The whole chain of causes.
    pub message: String,
    /// Last lines printed by the program that failed.
    pub output: Vec<String>,
    /// Stopped on request, between two changes.
    pub cancelled: bool,
}

impl Failure {
    /// Stopped on request before `step` went on.
    #[must_use]
    pub fn cancelled(step: &str) -> Self {
        Self { step: step.to_owned(), message: "the run was cancelled".to_owned(), cancelled: true, ..Self::default() }
    }
}

impl Runner {
    /// For this machine.
    #[must_use]
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { host, runs: Arc::default() }
    }

    /// The machine.
    #[must_use]
    pub fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// Starts a job and returns at once.
    ///
    /// # Errors
    /// When another run is in progress; wait for it or attach to it.
    pub fn start<J, F>(&self, kind: &str, job: J) -> Result<RunId, Busy>
    where
        J: FnOnce(RunCx) -> F,
        F: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        let tale = {
            let mut runs = self.runs();
            if let Some(current) = &runs.current {
                return Err(Busy(current.id.clone()));
            }
            let tale = Arc::new(Tale::new(new_id()));
            runs.current = Some(Arc::clone(&tale));
            tale
        };
        let id = tale.id.clone();
        tracing::info!(run_id = %id, kind, "run began");
        tale.tell(What::Began { kind: kind.to_owned() });
        let (cancel, cancelled) = watch::channel(false);
        tale.arm(cancel);
        let job = job(RunCx { tale: Arc::clone(&tale), host: Arc::clone(&self.host), cancelled });
        let runner = self.clone();
        #[expect(clippy::disallowed_methods, reason = "a run goes on when whoever asked for it is gone")]
        tokio::spawn(async move { runner.see_through(tale, Box::pin(job)).await });
        Ok(id)
    }

    async fn see_through(self, tale: Arc<Tale>, job: BoxFuture<'static, Result<Outcome, Failure>>) {
        #[expect(clippy::disallowed_methods, reason = "a task of its own: a panic ends the run and not the runner")]
        let end = match tokio::spawn(job).await {
            Ok(end) => end,
            Err(error) => {
                Err(Failure { message: format!("this is a bug in the agent: {error}"), ..Failure::default() })
            }
        };
        match &end {
            Ok(outcome) => tracing::info!(run_id = %tale.id, changes = outcome.changes, "run ended"),
            Err(failure) if failure.cancelled => tracing::info!(run_id = %tale.id, "run cancelled"),
            Err(failure) => {
                tracing::error!(run_id = %tale.id, step = %failure.step, change = %failure.change, error = %failure.message, "run failed");
            }
        }
        let mut runs = self.runs();
        runs.current = None;
        runs.finished.push_back(Arc::clone(&tale));
        if runs.finished.len() > KEPT {
            runs.finished.pop_front();
        }
        drop(runs);
        tale.end(end);
    }

    /// The events of a run from its beginning; `None` if it is not (or no longer) known.
    #[must_use]
    pub fn attach(&self, id: &str) -> Option<Story> {
        self.find(id).map(|tale| Story::new(&tale))
    }

    /// The run in progress.
    #[must_use]
    pub fn current(&self) -> Option<RunId> {
        self.runs().current.as_ref().map(|tale| tale.id.clone())
    }

    /// Stops a run before its next change; content if it has ended.
    pub fn cancel(&self, id: &str) {
        if let Some(tale) = self.find(id) {
            tale.cancel();
        }
    }

    fn find(&self, id: &str) -> Option<Arc<Tale>> {
        let runs = self.runs();
        runs.current.iter().chain(&runs.finished).find(|tale| tale.id == id).map(Arc::clone)
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a job holds while it runs.
#[derive(Clone)]
pub struct RunCx {
    tale: Arc<Tale>,
    host: Arc<dyn Host>,
    cancelled: watch::Receiver<bool>,
}

impl RunCx {
    /// The machine.
    #[must_use]
    pub fn host(&self) -> &dyn Host {
        &*self.host
    }

    /// The run's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.tale.id
    }

    /// Somebody wants the run to stop. Looked at between changes, never inside one.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Waits until somebody wants the run to stop.
    pub async fn cancelled(&mut self) {
        if self.cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A step is about to make this many changes.
    pub fn step_began(&self, step: &str, changes: u32) {
        self.tale.tell(What::StepBegan { step: step.to_owned(), changes });
    }

    /// A change was made.
    pub fn change_made(&self, step: &str, summary: &str, why: &str, took: std::time::Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(run_id = %self.tale.id, step, change = summary, why, elapsed_ms = took_ms, "change made");
        let (step, summary, why) = (step.to_owned(), summary.to_owned(), why.to_owned());
        self.tale.tell(What::ChangeMade { step, summary, why, took_ms });
    }

    /// A program printed a line.
    pub fn output(&self, step: &str, line: &str) {
        if !line.trim().is_empty() {
            tracing::info!(run_id = %self.tale.id, step, line, "program said");
        }
        self.tale.tell(What::Output { step: step.to_owned(), line: line.to_owned() });
    }

    /// News of work that takes its time.
    pub fn note(&self, step: &str, line: &str) {
        self.say(step, line, false);
    }

    /// Something that a person should know although all went well.
    pub fn warn(&self, step: &str, line: &str) {
        self.say(step, line, true);
    }

    fn say(&self, step: &str, line: &str, warning: bool) {
        tracing::info!(run_id = %self.tale.id, step, line, warning, "noted");
        self.tale.tell(What::Note { step: step.to_owned(), line: line.to_owned(), warning });
    }

    /// A step, or part of it, is left out on this machine.
    pub fn skipped(&self, step: &str, reason: &str) {
        self.tale.tell(What::Skipped { step: step.to_owned(), reason: reason.to_owned() });
    }
}

/// Time since 1970 and a count: unique unless the clock is set back to the nanosecond.
fn new_id() -> RunId {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:05x}", now.as_secs(), now.subsec_micros())
}

/// Finished runs that can still be attached to.
const KEPT: usize = 4;

#[cfg(test)]
mod tests;
