//! What keeps everything else quiet during a transaction, and what is left of it when an agent was killed in the middle.

use crate::change::{Act, Todo, Verb};
use crate::host::units::SYSTEMCTL;
use crate::host::{Access, Command, Host, HostError, Lines};

/// Debian's own way to say that a package must not start its service; and the daily timers of apt, which take its locks when a
/// machine boots, stopped until we are done or the machine restarts.
pub(super) struct Silence {
    policy: bool,
    timers: bool,
}

impl Silence {
    pub(super) async fn begin(host: &dyn Host, lines: Lines<'_>) -> Result<Self, HostError> {
        let timers = timers_present(host)?;
        if timers {
            host.write(MASKED_BY_US, b"", Access::OPEN)?;
            systemctl(host, &["mask", "--runtime", "--now"], &TIMERS, lines).await?;
        }
        let policy = host.text(POLICY)?.is_none_or(|text| text == POLICY_TEXT);
        if policy {
            host.write(POLICY, POLICY_TEXT.as_bytes(), Access { mode: 0o755, ..Access::OPEN })?;
        }
        Ok(Self { policy, timers })
    }

    pub(super) async fn end(self, host: &dyn Host, lines: Lines<'_>) -> Result<(), HostError> {
        if self.policy {
            host.remove(POLICY)?;
        }
        if self.timers {
            systemctl(host, &["unmask", "--runtime"], &TIMERS, lines).await?;
            // Not every machine has them enabled: `try` would not start what we stopped, and this starts only what is enabled.
            systemctl(host, &["start"], &[ALL_TIMERS], lines).await?;
            host.remove(MASKED_BY_US)?;
        }
        Ok(())
    }
}

async fn systemctl(host: &dyn Host, words: &[&str], units: &[&str], lines: Lines<'_>) -> Result<(), HostError> {
    let command = Command::new(SYSTEMCTL, words.iter().chain(units).copied());
    host.run_ok(&command, lines).await.map(drop)
}

fn timers_present(host: &dyn Host) -> Result<bool, HostError> {
    let mut present = false;
    for folder in ["/usr/lib/systemd/system", "/lib/systemd/system"] {
        present |= host.exists(&format!("{folder}/apt-daily.timer"))?;
    }
    Ok(present)
}

/// What a cut transaction has left behind. Another transaction takes it away by itself.
pub(crate) fn left_over(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    if host.text(POLICY)?.as_deref() == Some(POLICY_TEXT) {
        let finding = "an interrupted installation keeps services from starting";
        todo.push(finding, Verb::Remove(POLICY.to_owned()), "its policy was left behind");
    }
    if host.exists(MASKED_BY_US)? {
        for timer in TIMERS {
            let mask = format!("/run/systemd/system/{timer}");
            if host.exists(&mask)? {
                let finding = format!("an interrupted installation keeps {timer} from running");
                todo.push(finding, Verb::Remove(mask), "its mask was left behind");
            }
        }
        let why = "its masks were left behind";
        todo.push("systemd has not read that apt's timers may run", Verb::Reload, why);
        let start = Verb::Unit { unit: ALL_TIMERS.to_owned(), act: Act::Start };
        todo.push("apt's timers were stopped for an installation", start, why);
        // The last one, for it tells whose the masks are.
        todo.push(format!("{MASKED_BY_US} is left"), Verb::Remove(MASKED_BY_US.to_owned()), why);
    }
    Ok(())
}

const TIMERS: [&str; 2] = ["apt-daily.timer", "apt-daily-upgrade.timer"];
const ALL_TIMERS: &str = "timers.target";
/// Says that the timers' masks are ours. They do not outlive a boot, nor does this.
const MASKED_BY_US: &str = "/run/groundwork-apt-timers";
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str = "#!/bin/sh\n\
    # Groundwork: these are configured before they are started. This file goes away when the packages are installed.\n\
    case \"$1\" in\n\
    containerd | containerd.service | kubelet | kubelet.service) exit 101 ;;\n\
    esac\n\
    exit 0\n";
