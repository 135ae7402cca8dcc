//! What has to be waited for before a machine is touched: the end of its first boot, and a clock that is right.
//!
//! cloud-init holds the package manager's locks and writes files of its own; a wrong clock makes certificates and package lists
//! invalid. Waiting is no change: a plan does not list it. In a container the clock is the host's.

use super::Step;
use crate::change::{StepError, Todo, Verb, Wait, still_missing};
use crate::host::Host;

pub(super) struct FirstBoot;

impl Step for FirstBoot {
    fn name(&self) -> &'static str {
        "first_boot"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        gate(host, Wait::CloudInit, "cloud-init is at work", "it installs packages and writes files of its own").await
    }
}

pub(super) struct Clock(pub(super) bool);

impl Step for Clock {
    fn name(&self) -> &'static str {
        "time_sync"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        if !self.0 {
            return Ok(Todo::default());
        }
        gate(host, Wait::Clock, "the clock is not synchronised", "certificates and package lists carry dates").await
    }
}

async fn gate(host: &dyn Host, what: Wait, finding: &str, why: &str) -> Result<Todo, StepError> {
    let mut todo = Todo::default();
    if still_missing(host, &what).await?.is_some() {
        todo.push(finding, Verb::Wait(what), why);
    }
    Ok(todo)
}
