//! Waiting for another package manager. apt waits for dpkg's locks by itself; the lists' lock and dpkg know no waiting.

use crate::host::{Command, Host, HostError, Lines, Output};
use std::time::Duration;
use tokio::time::sleep;

/// Runs a program again as long as a lock stops it.
pub(super) async fn run(host: &dyn Host, command: &Command, lines: Lines<'_>) -> Result<Output, HostError> {
    for _ in 0..TRIES {
        let output = host.run(command, lines).await?;
        if output.code == Some(0) || !is_locked(&output) {
            return Ok(output);
        }
        lines("another package manager is at work");
        sleep(PAUSE).await;
    }
    host.run(command, lines).await
}

/// The same for a program that must end well.
pub(super) async fn run_ok(host: &dyn Host, command: &Command, lines: Lines<'_>) -> Result<(), HostError> {
    let output = run(host, command, lines).await?;
    if output.code == Some(0) { Ok(()) } else { Err(HostError::failed(command, &output)) }
}

/// apt: "Could not get lock …"; dpkg: "dpkg: error: dpkg frontend lock was locked by another process with pid 7".
fn is_locked(output: &Output) -> bool {
    output.stdout.lines().chain(output.stderr.lines()).any(|line| {
        line.contains("Could not get lock") || line.starts_with("dpkg: error:") && line.contains(" locked by ")
    })
}

const TRIES: u32 = 120;
const PAUSE: Duration = Duration::from_secs(5);
