//! Waiting for another package manager, such as apt's own timers when a machine has just booted. apt waits for dpkg's locks by itself;
//! for the lists' and the archives' it does not, nor does dpkg for its own. Seen with apt 2.6: with either of the two held,
//! `apt-get update` or `apt-get install` ends within a tenth of a second, whatever `DPkg::Lock::Timeout` says.

use crate::host::{Command, Host, HostError, Lines, Output};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Runs a program again as long as a lock stops it.
pub(super) async fn run(host: &dyn Host, command: &Command, lines: Lines<'_>) -> Result<Output, HostError> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let output = host.run(command, lines).await?;
        if output.code == Some(0) || !is_locked(&output) || Instant::now() >= patience {
            return Ok(output);
        }
        lines("another package manager is at work");
        sleep(PAUSE).await;
    }
}

/// The same for a program that must end well.
pub(super) async fn run_ok(host: &dyn Host, command: &Command, lines: Lines<'_>) -> Result<(), HostError> {
    let output = run(host, command, lines).await?;
    if output.code == Some(0) { Ok(()) } else { Err(HostError::failed(command, &output)) }
}

/// apt: "E: Could not get lock …", which while it waits it says without the `E:`;
/// dpkg: "dpkg: error: dpkg frontend lock was locked by another process with pid 7".
fn is_locked(output: &Output) -> bool {
    output.stdout.lines().chain(output.stderr.lines()).any(|line| {
        line.starts_with("E: Could not get lock") || line.starts_with("dpkg: error:") && line.contains(" locked by ")
    })
}

const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(5);
