//! One transaction of apt: nothing asks, nothing interferes, nothing of the node starts before it is configured.
//!
//! apt runs as a transient unit, so that a restarted agent does not cut it. What a cut leaves half done is finished first.

mod locks;
mod runtime;
mod silence;

use super::{StepError, Transaction};
use crate::host::{Command, Host, HostError, Lines, dpkg};
use silence::Silence;
use std::iter;
use std::time::Duration;

pub(crate) use silence::left_over;

pub(super) async fn run(host: &dyn Host, transaction: &Transaction, lines: Lines<'_>) -> Result<(), StepError> {
    if !host.exists(APT)? {
        return Err(StepError::unsupported("installing packages", format!("there is no {APT}")));
    }
    let silence = Silence::begin(host, lines).await?;
    let done = all(host, transaction, lines).await;
    silence.end(host, lines).await?;
    done
}

/// Whether the package sources have what a transaction would install, asked anew. Nothing is installed.
pub(crate) async fn offered(host: &dyn Host, transaction: &Transaction, lines: Lines<'_>) -> Result<(), StepError> {
    if !host.exists(APT)? {
        return Err(StepError::unsupported("installing packages", format!("there is no {APT}")));
    }
    update(host, lines).await?;
    runtime::serves(host, transaction).await?;
    let words = iter::once("--simulate".to_owned()).chain(words(transaction));
    host.run_ok(&install(words), lines).await?;
    Ok(())
}

/// The versions of a package that the package sources have, asked anew.
pub(crate) async fn available(host: &dyn Host, package: &str) -> Result<Vec<String>, StepError> {
    if !host.exists(APT)? {
        return Err(StepError::unsupported("asking for packages", format!("there is no {APT}")));
    }
    update(host, &|_| {}).await?;
    let madison = Command::new(APT_CACHE, ["madison", package]).env("LC_ALL", "C");
    Ok(versions(&host.run_ok(&madison, &|_| {}).await?.stdout))
}

/// `kubeadm | 1.35.4-1.1 | https://… Packages`, a line for each version and source.
fn versions(table: &str) -> Vec<String> {
    table.lines().filter_map(|line| line.split('|').nth(1)).map(|version| version.trim().to_owned()).collect()
}

/// Holds a package at its version, or lets go of it.
pub(super) async fn hold(host: &dyn Host, package: &str, held: bool, lines: Lines<'_>) -> Result<(), StepError> {
    let state = if held { "hold" } else { "install" };
    let select = Command::new(DPKG, ["--set-selections"]).stdin(format!("{package} {state}\n"));
    Ok(locks::run_ok(host, &select, lines).await?)
}

async fn all(host: &dyn Host, transaction: &Transaction, lines: Lines<'_>) -> Result<(), StepError> {
    if transaction.repair {
        repair(host, lines).await?;
    }
    // First and by itself: only what is declared absent makes room, never what apt thinks is in the way.
    if !transaction.remove.is_empty() {
        let words = transaction.remove.iter().map(|name| format!("{name}-"));
        locks::run_ok(host, &install(words).unit("apt-remove"), lines).await?;
    }
    if transaction.install.is_empty() {
        return Ok(());
    }
    update(host, lines).await?;
    runtime::serves(host, transaction).await?;
    let what = format!(
        "installing {}",
        transaction.install.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    );
    without_loss(host, words(transaction), &what, lines).await
}

/// What is to be installed, as apt takes it.
fn words(transaction: &Transaction) -> impl Iterator<Item = String> + '_ {
    let word = |(name, version): &(String, Option<String>)| {
        version.as_ref().map_or_else(|| name.clone(), |version| format!("{name}={version}"))
    };
    transaction.install.iter().map(word)
}

/// Finishes what was interrupted. dpkg configures what is unpacked; what that still needs is for apt to bring.
async fn repair(host: &dyn Host, lines: Lines<'_>) -> Result<(), StepError> {
    let configure = Command::new(DPKG, ["--configure", "-a", "--force-confdef", "--force-confold"]);
    let configure = quiet(configure).unit("dpkg-configure");
    let output = locks::run(host, &configure, lines).await?;
    let failed = output.code != Some(0);
    let lacking = [&output.stdout, &output.stderr].iter().any(|text| text.contains("dependency problems"));
    if failed && !lacking {
        return Err(HostError::failed(&configure, &output).into());
    }
    if !failed && !half_done(host)? {
        return Ok(());
    }
    let words = iter::once("--fix-broken".to_owned());
    match without_loss(host, words, "finishing an interrupted installation", lines).await {
        Err(error) if half_done(host)? => Err(error),
        _ => Ok(()),
    }
}

fn half_done(host: &dyn Host) -> Result<bool, HostError> {
    Ok(!dpkg::Packages::read(host)?.broken.is_empty())
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
    let output = locks::run(host, &command, lines).await?;
    if output.code == Some(0) {
        return Ok(());
    }
    let Some(names) = in_the_way(&output.stdout, &output.stderr) else {
        return Err(HostError::failed(&command, &output).into());
    };
    let why = format!(
        "apt would remove {names} for it, and nothing was installed. If {names} may go, say so with `absent = true` in \
         its `package` block; if not, take out of the configuration what cannot stand beside it"
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

async fn update(host: &dyn Host, lines: Lines<'_>) -> Result<(), StepError> {
    let update = quiet(Command::new(APT, ["-q", "-o", "APT::Update::Error-Mode=any", "update"])).unit("apt-update");
    Ok(locks::run_ok(host, &update, lines).await?)
}

fn quiet(command: Command) -> Command {
    let silent = ENVIRONMENT.iter().fold(command, |command, (name, value)| command.env(name, value));
    silent.timeout(Duration::from_secs(1800))
}

const APT: &str = "/usr/bin/apt-get";
const APT_CACHE: &str = "/usr/bin/apt-cache";
const DPKG: &str = "/usr/bin/dpkg";
const INSTALL: [&str; 16] = [
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
    // A name that no package has is an error, and no regular expression: `ht.p` must not install what it matches.
    "-o",
    "APT::Cmd::Pattern-Only=true",
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

#[cfg(test)]
mod tests;
