//! The story of a run: events in order, kept while the run can be attached to, readable by many at their own pace.

use super::{Failure, Outcome, RunId};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;

/// One line of a run's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Since the run began.
    pub elapsed_ms: u64,
    /// What happened.
    pub what: What,
}

/// What can happen in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The first event.
    Began {
        /// "apply", "cluster init", …
        kind: String,
    },
    /// A step is about to make changes.
    StepBegan {
        /// Which.
        step: String,
        /// How many.
        changes: u32,
    },
    /// A change was made.
    ChangeMade {
        /// By which step.
        step: String,
        /// What was wrong.
        summary: String,
        /// Why it mattered.
        why: String,
        /// How long it took.
        took_ms: u64,
    },
    /// A program printed a line.
    Output {
        /// During which step.
        step: String,
        /// The line.
        line: String,
    },
    /// A step, or part of it, is left out on this machine.
    Skipped {
        /// Which.
        step: String,
        /// The fact that says so.
        reason: String,
    },
    /// Something that a person should read.
    Note {
        /// During which step.
        step: String,
        /// The line.
        line: String,
        /// Still to be said when the run has ended.
        warning: bool,
    },
    /// The last event, if all went well.
    Finished(Outcome),
    /// The last event otherwise.
    Failed(Failure),
}

impl What {
    /// As it may be shown: what programs print and files hold is part of it.
    fn plain(self) -> Self {
        let line = |text: String| plain::short(&plain::line(&text), LONGEST).into_owned();
        match self {
            Self::Began { kind } => Self::Began { kind },
            Self::StepBegan { step, changes } => Self::StepBegan { step, changes },
            Self::ChangeMade { step, summary, why, took_ms } => {
                Self::ChangeMade { step, summary: line(summary), why: line(why), took_ms }
            }
            Self::Output { step, line: text } => Self::Output { step, line: line(text) },
            Self::Skipped { step, reason } => Self::Skipped { step, reason: line(reason) },
            Self::Note { step, line: text, warning } => Self::Note { step, line: line(text), warning },
            Self::Finished(outcome) => Self::Finished(outcome),
            Self::Failed(Failure { step, change, message, output, cancelled }) => {
                let message = plain::short(&plain::text(&message), MESSAGE).into_owned();
                Self::Failed(Failure { step, change: line(change), message, output: plain::list(output), cancelled })
            }
        }
    }
}

/// The teller's side.
pub(super) struct Tale {
    pub(super) id: RunId,
    began: Instant,
    told: Mutex<Told>,
    /// How many events there are; closed (dropped) after the last one.
    count: Mutex<Option<watch::Sender<usize>>>,
    seen: watch::Receiver<usize>,
    stop: Mutex<Option<watch::Sender<bool>>>,
}

#[derive(Default)]
struct Told {
    events: Vec<Event>,
    lines: usize,
}

impl Tale {
    pub(super) fn new(id: RunId) -> Self {
        let (count, seen) = watch::channel(0);
        let count = Mutex::new(Some(count));
        Self { id, began: Instant::now(), told: Mutex::default(), count, seen, stop: Mutex::default() }
    }

    pub(super) fn tell(&self, what: What) {
        let what = what.plain();
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut told = lock(&self.told);
        if matches!(what, What::Output { .. }) {
            told.lines += 1;
            if told.lines > LINES {
                return;
            }
        }
        told.events.push(Event { elapsed_ms, what });
        let count = told.events.len();
        drop(told);
        if let Some(sender) = &*lock(&self.count) {
            sender.send_replace(count);
        }
    }

    pub(super) fn end(&self, end: Result<Outcome, Failure>) {
        self.tell(match end {
            Ok(outcome) => What::Finished(outcome),
            Err(failure) => What::Failed(failure),
        });
        lock(&self.count).take();
        lock(&self.stop).take();
    }

    pub(super) fn arm(&self, stop: watch::Sender<bool>) {
        *lock(&self.stop) = Some(stop);
    }

    pub(super) fn cancel(&self) {
        if let Some(stop) = &*lock(&self.stop) {
            stop.send_replace(true);
        }
    }
}

/// The listener's side: a stream that ends after the run's last event.
pub struct Story {
    tale: Arc<Tale>,
    next: usize,
    news: WatchStream<usize>,
}

impl Story {
    pub(super) fn new(tale: &Arc<Tale>) -> Self {
        Self { news: WatchStream::new(tale.seen.clone()), tale: Arc::clone(tale), next: 0 }
    }

    /// The run's name.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.tale.id
    }
}

impl Stream for Story {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = self.get_mut();
        loop {
            let event = lock(&this.tale.told).events.get(this.next).cloned();
            if let Some(event) = event {
                this.next += 1;
                return Poll::Ready(Some(event));
            }
            if ready!(Pin::new(&mut this.news).poll_next(cx)).is_none() {
                // The teller has gone; something may have been told in between.
                let event = lock(&this.tale.told).events.get(this.next).cloned();
                this.next += usize::from(event.is_some());
                return Poll::Ready(event);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Characters of a line.
const LONGEST: usize = 2_000;
/// Characters of the message of a failure.
const MESSAGE: usize = 16_000;
/// Output lines kept per run; what a package manager prints more than this helps nobody.
const LINES: usize = 5000;
