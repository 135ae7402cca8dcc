//! A machine that goes off while its agent is waited for: nobody is going to answer, so the wait ends there and not with its time.

use std::time::Duration;

use super::error::{Error, Problem};
use super::operation::Target;

/// Waits by `work` for something that only a running machine does. Both may be dropped: the next apply begins such a wait anew.
pub(super) async fn while_on<T>(target: &Target<'_>, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::select! {
        done = work => done,
        () = gone_off(target) => Err(off(target).into()),
    }
}

/// Comes to its end when the VM does not run at two looks, one after the other: a restart may be off for a moment.
async fn gone_off(target: &Target<'_>) {
    let mut was_off = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let is_off = target.is_running().await.is_ok_and(|runs| !runs);
        if is_off && was_off {
            return;
        }
        was_off = is_off;
    }
}

fn off(target: &Target<'_>) -> Problem {
    Problem::new(
        format!("VM {} was started, and does not run any more while its agent is waited for.", target.vmid),
        "Look for who switched it off: Proxmox VE's list of tasks, or its own user-data (`power_state`, `poweroff`). Then apply again.",
    )
}

const LOOK: Duration = Duration::from_secs(10);
