//! Waiting until something holds, with an end.

use super::{StepError, Wait};
use crate::facts;
use crate::host::{Host, Lines};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(super) async fn wait(host: &dyn Host, what: &Wait, lines: Lines<'_>) -> Result<(), StepError> {
    let (name, patience) = match what {
        Wait::CloudInit => ("the first boot's cloud-init", Duration::from_secs(900)),
        Wait::Clock => ("a synchronised clock", Duration::from_secs(180)),
        Wait::Runtime(_) => ("the container runtime", Duration::from_secs(60)),
    };
    lines(&format!("waiting for {name}"));
    let end = Instant::now() + patience;
    loop {
        let Some(last) = still_missing(host, what).await? else { return Ok(()) };
        if Instant::now() > end {
            return Err(StepError::Waited { what: name, after_s: patience.as_secs(), last });
        }
        sleep(PAUSE).await;
    }
}

/// What is still missing; `None` when it holds.
pub(crate) async fn still_missing(host: &dyn Host, what: &Wait) -> Result<Option<String>, StepError> {
    Ok(match what {
        Wait::CloudInit => cloud_init(host)?.then(|| "/run/cloud-init/result.json has not appeared".to_owned()),
        Wait::Clock => {
            let synchronised = facts::clock_synchronised(host).await?;
            (!synchronised).then(|| "the kernel's clock is not synchronised; is UDP port 123 open?".to_owned())
        }
        Wait::Runtime(socket) => match host.runtime(socket).await {
            Ok(runtime) => runtime.complaint,
            Err(error) => Some(error.to_string()),
        },
    })
}

/// cloud-init is at work in this boot. Its generator leaves a mark when it is enabled; its end leaves `result.json`.
fn cloud_init(host: &dyn Host) -> Result<bool, StepError> {
    Ok(host.exists("/run/cloud-init/enabled")? && !host.exists("/run/cloud-init/result.json")?)
}

const PAUSE: Duration = Duration::from_millis(250);
