//! Waiting for tasks: polling that starts fast and slows down, with a deadline and a way to stop.
//!
//! **Cancel**: when asked to stop, the task in flight is stopped on the server too, and its end is waited for briefly.
//! When the deadline passes, the task goes on. Source: `GET|DELETE /nodes/{node}/tasks/{upid}`, Proxmox VE 8 and 9.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::error::{Error, TaskFailed};
use crate::http::Call;
use crate::ids::Upid;
use crate::limits::{Interrupted, back_off};
use crate::wording::Class;

/// The good end of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// What the server warned of: lines of the task's log.
    pub warnings: Vec<String>,
}

/// A call that starts a task; nothing is sent before one of its methods is awaited.
#[derive(Debug)]
#[must_use = "a job does nothing until it is begun or done"]
pub struct Job<'a> {
    client: &'a Client,
    call: Call,
}

impl<'a> Job<'a> {
    pub(crate) const fn new(client: &'a Client, call: Call) -> Self {
        Self { client, call }
    }

    /// Makes the call and returns the task it started.
    ///
    /// # Errors
    /// As every write.
    pub async fn begin(&self) -> Result<Upid, Error> {
        self.started().await
    }

    /// `T` is the task, or perhaps none: some writes are done at once by some versions.
    async fn started<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let begun = self.client.call(self.call.clone()).await;
        // What we knew of the cluster may be wrong now.
        self.client.snapshot().invalidate();
        begun
    }

    /// Makes the call and waits for its task; both again if a lock is in the way.
    ///
    /// # Errors
    /// As the call and [`Client::wait`].
    pub async fn done(&self) -> Result<Finished, Error> {
        let mut attempt = 1;
        loop {
            let Some(upid) = self.started::<Option<Upid>>().await? else { return Ok(Finished::default()) };
            let error = match self.client.wait(&upid).await {
                Err(error) if error.is(Class::Busy) => error,
                ended => return ended,
            };
            tracing::info!(%upid, attempt, error = %error, "repeating");
            if self.client.pause(back_off(attempt)).await.is_err() {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// As [`Self::done`], and once more where the answer was lost: for calls that come to the same when they are made twice.
    ///
    /// # Errors
    /// As [`Self::done`].
    pub async fn done_at_least_once(&self) -> Result<Finished, Error> {
        match self.done().await {
            Err(error) if error.outcome_unknown() => {
                tracing::info!(error = %error, "making the call again");
                self.done().await
            }
            ended => ended,
        }
    }
}

impl Client {
    /// Waits for the end of a task.
    ///
    /// # Errors
    /// [`Error::Task`] with the last lines of its log if it failed, [`Error::Deadline`] and [`Error::Stopped`] as said above.
    pub async fn wait(&self, upid: &Upid) -> Result<Finished, Error> {
        let mut pause = FIRST;
        let mut looked_again = false;
        let late = || Error::Deadline { what: format!("the task {upid}") };
        loop {
            // Before the first look too: no task is over when the call that began it is answered.
            match self.pause(pause).await {
                Ok(()) => pause = (pause * 3 / 2).min(SLOWEST),
                Err(Interrupted::Deadline) => return Err(late()),
                Err(Interrupted::Stop) => return self.stop_task(upid).await,
            }
            match self.tasks(upid.node()).status(upid).await {
                // A good task's last line may be written a moment after its process has ended.
                Ok(status) if status.is_unclear() && !looked_again => {
                    looked_again = true;
                    pause = pause.max(AGAIN);
                }
                Ok(status) if status.is_stopped() => return self.judge(upid, status.exit_status()).await,
                Ok(_) => {}
                Err(Error::Deadline { .. }) => return Err(late()),
                Err(Error::Stopped { .. }) => return self.stop_task(upid).await,
                // The task goes on whether or not we can see it.
                Err(error) if passing(&error) => tracing::debug!(%upid, error = %error, "cannot see the task"),
                Err(error) => return Err(error),
            }
        }
    }

    /// Stops a task, and waits briefly for its end. Fine if it has ended already, or cannot be stopped.
    pub async fn stop(&self, upid: &Upid) {
        // Which end it came to is nothing to the caller.
        if let Err(error) = self.stop_task(upid).await {
            tracing::debug!(%upid, error = %error, "stopped");
        }
    }

    /// Stops the task in flight, and says so unless it came to a good end just before.
    async fn stop_task(&self, upid: &Upid) -> Result<Finished, Error> {
        tracing::info!(%upid, "stopping the task");
        let grace = tokio::time::Instant::now() + GRACE;
        let last = self.within(grace, &CancellationToken::new());
        let tasks = last.tasks(upid.node());
        if let Err(error) = tasks.stop(upid).await {
            tracing::warn!(%upid, error = %error, "cannot stop the task");
        }
        while last.pause(STOPPING).await.is_ok() {
            match tasks.status(upid).await {
                Ok(status) if status.exit_status() == "OK" => return Ok(Finished::default()),
                Ok(status) if !status.is_stopped() => {}
                _ => break,
            }
        }
        Err(Error::Stopped { what: format!("the task {upid}") })
    }

    async fn judge(&self, upid: &Upid, status: &str) -> Result<Finished, Error> {
        if status == "OK" {
            return Ok(Finished::default());
        }
        let log = self.tasks(upid.node()).log(upid).await.unwrap_or_default();
        if status.starts_with("WARNINGS") {
            tracing::warn!(%upid, warnings = ?log.warnings, "the task warned");
            return Ok(Finished { warnings: log.warnings });
        }
        let log = log.end.into();
        Err(Error::Task(Box::new(TaskFailed { upid: upid.clone(), status: status.to_owned(), log })))
    }
}

/// Whether a failed look at a task says nothing about the task.
fn passing(error: &Error) -> bool {
    match error {
        Error::Connect { .. } => error.certificate().is_none(),
        Error::Lost { .. } => true,
        Error::Refused(refused) => refused.status >= 500,
        _ => false,
    }
}

const AGAIN: Duration = Duration::from_secs(1);
/// A task costs a real host some 0.3 s at least; a longer one is looked at ever more rarely.
const FIRST: Duration = Duration::from_millis(15);
const STOPPING: Duration = Duration::from_millis(80);
const SLOWEST: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(15);
