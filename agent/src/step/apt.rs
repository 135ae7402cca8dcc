//! One transaction of apt: nothing asks, nothing interferes, nothing of the node starts before it is configured.
//!
//! apt runs as a transient unit, so that a restarted agent does not cut it. What a cut leaves half done is finished first.

use super::{StepError, Transaction};
use crate::host::units::SYSTEMCTL;
use crate::host::{Access, Command, Host, HostError, Lines};
use std::iter;
use std::time::Duration;
use tokio::time::sleep;

pub(super) async fn run(host: &dyn Host, transaction: &Transaction, lines: Lines<'_>) -> Result<(), StepError> {
    if !host.exists(APT)? {
        return Err(StepError::unsupported("installing packages", format!("there is no {APT}")));
    }
    let timers = Timers::stop(host, lines).await?;
    let policy = keep_services_down(host)?;
    let done = all(host, transaction, lines).await;
    if policy {
        host.remove(POLICY)?;
    }
    timers.start(host, lines).await?;
    done
}

async fn all(host: &dyn Host, transaction: &Transaction, lines: Lines<'_>) -> Result<(), StepError> {
    if transaction.repair {
        let repair = Command::new("/usr/bin/dpkg", ["--configure", "-a", "--force-confdef", "--force-confold"]);
        host.run_ok(&quiet(repair).unit("dpkg-configure"), lines).await?;
    }
    // First and by itself: only what is declared absent makes room, never what apt thinks is in the way.
    if !transaction.remove.is_empty() {
        let words = transaction.remove.iter().map(|name| format!("{name}-"));
        host.run_ok(&install(words).unit("apt-remove"), lines).await?;
    }
    if transaction.install.is_empty() {
        return Ok(());
    }
    update(host, lines).await?;
    let words = transaction
        .install
        .iter()
        .map(|(name, version)| version.as_ref().map_or_else(|| name.clone(), |version| format!("{name}={version}")));
    let what = format!(
        "installing {}",
        transaction.install.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    );
    without_loss(host, words, &what, lines).await
}

fn install(words: impl IntoIterator<Item = String>) -> Command {
    quiet(Command::new(APT, INSTALL.iter().map(|arg| (*arg).to_owned()).chain(words)))
}

/// Has apt install something, and take nothing away for it.
async fn without_loss(
    host: &dyn Host,
    words: impl Iterator<Item = String>,
    what: &str,
    lines: Lines<'_>,
) -> Result<(), StepError> {
    let command = install(iter::once("--no-remove".to_owned()).chain(words)).unit("apt-install");
    let output = host.run(&command, lines).await?;
    if output.code == Some(0) {
        return Ok(());
    }
    let Some(names) = in_the_way(&output.stdout, &output.stderr) else {
        return Err(HostError::failed(&command, &output).into());
    };
    let why = format!(
        "apt would remove {names} for it, and nothing was done. If {names} may go, say so with `absent = true` in \
         `packages`; if not, take out of the configuration what cannot stand beside it"
    );
    Err(StepError::refused(what, why))
}

/// What apt would have to remove, if that is what it refused.
fn in_the_way(stdout: &str, stderr: &str) -> Option<String> {
    if ![stdout, stderr].iter().any(|text| text.contains("Packages need to be removed but remove is disabled")) {
        return None;
    }
    let listed = stdout.lines().skip_while(|line| !line.starts_with("The following packages will be REMOVED")).skip(1);
    let names = listed.take_while(|line| line.starts_with(' ')).flat_map(str::split_whitespace);
    // A star stands for: with its configuration.
    Some(names.map(|name| name.trim_end_matches('*')).collect::<Vec<_>>().join(", "))
}

/// The lists' lock has no timeout of its own: somebody else's update is waited out here.
async fn update(host: &dyn Host, lines: Lines<'_>) -> Result<(), StepError> {
    let update = quiet(Command::new(APT, ["-q", "-o", "APT::Update::Error-Mode=any", "update"])).unit("apt-update");
    for _ in 0..LOCK_TRIES {
        match host.run_ok(&update, lines).await {
            Err(HostError::Failed { tail, .. }) if tail.iter().any(|line| line.contains("Could not get lock")) => {
                lines("another package manager is at work");
                sleep(LOCK_PAUSE).await;
            }
            done => return Ok(done.map(drop)?),
        }
    }
    Ok(host.run_ok(&update, lines).await.map(drop)?)
}

fn quiet(command: Command) -> Command {
    let silent = ENVIRONMENT.iter().fold(command, |command, (name, value)| command.env(name, value));
    silent.timeout(Duration::from_secs(1800))
}

/// Debian's own way to say that a package must not start its service.
fn keep_services_down(host: &dyn Host) -> Result<bool, HostError> {
    let ours = match host.text(POLICY)? {
        None => true,
        Some(text) => text == POLICY_TEXT,
    };
    if ours {
        host.write(POLICY, POLICY_TEXT.as_bytes(), Access { mode: 0o755, ..Access::OPEN })?;
    }
    Ok(ours)
}

/// The policy that a cut transaction has left behind.
pub(crate) fn left_policy(host: &dyn Host) -> Result<Option<String>, HostError> {
    Ok((host.text(POLICY)?.as_deref() == Some(POLICY_TEXT)).then(|| POLICY.to_owned()))
}

/// The daily timers of apt, which take its locks when a machine boots. Stopped until we are done or the machine restarts.
struct Timers(bool);

impl Timers {
    async fn stop(host: &dyn Host, lines: Lines<'_>) -> Result<Self, StepError> {
        let mut present = false;
        for folder in ["/usr/lib/systemd/system", "/lib/systemd/system"] {
            present |= host.exists(&format!("{folder}/apt-daily.timer"))?;
        }
        if present {
            host.run_ok(&Command::new(SYSTEMCTL, ["mask", "--runtime", "--now"].iter().chain(&TIMERS).copied()), lines)
                .await?;
        }
        Ok(Self(present))
    }

    async fn start(self, host: &dyn Host, lines: Lines<'_>) -> Result<(), StepError> {
        if self.0 {
            host.run_ok(&Command::new(SYSTEMCTL, ["unmask", "--runtime"].iter().chain(&TIMERS).copied()), lines)
                .await?;
            // Not every machine has them enabled: `try` would not start what we stopped, and this starts only what is enabled.
            host.run_ok(&Command::new(SYSTEMCTL, ["start", "timers.target"]), lines).await?;
        }
        Ok(())
    }
}

const APT: &str = "/usr/bin/apt-get";
const TIMERS: [&str; 2] = ["apt-daily.timer", "apt-daily-upgrade.timer"];
const INSTALL: [&str; 14] = [
    "install",
    "-q",
    "-y",
    // No terminal of its own: its progress is meant for one.
    "-o",
    "Dpkg::Use-Pty=0",
    "--no-install-recommends",
    "--allow-change-held-packages",
    "--allow-downgrades",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "DPkg::Lock::Timeout=600",
];
const ENVIRONMENT: [(&str, &str); 4] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    // needrestart would restart containerd and the kubelet in the middle of things.
    ("NEEDRESTART_MODE", "l"),
    ("NEEDRESTART_SUSPEND", "1"),
];
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str = "#!/bin/sh\n\
    # Groundwork: these are configured before they are started. This file goes away when the packages are installed.\n\
    case \"$1\" in\n\
    containerd | containerd.service | kubelet | kubelet.service) exit 101 ;;\n\
    esac\n\
    exit 0\n";
const LOCK_TRIES: u32 = 120;
const LOCK_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
