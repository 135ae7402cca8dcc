//! The kubelet's unit: whether it runs, starting it, and what it complains about, read from its journal.
//!
//! kubeadm waits for the kubelet and knows nothing of it: after minutes it says that it has waited. Why no pod was started stands in
//! the kubelet's journal only, between hundreds of lines that are consequences. Source: journals of kubelet v1.28 and v1.36.

use super::Distribution;
use super::kube::failed;
use super::kube::{Kube, SYSTEMCTL};
use super::output::mask;
use crate::host::{Command, Host, HostError};
use crate::run::Failure;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// systemd's word for the state of its unit.
pub(super) async fn state(host: &dyn Host) -> Result<String, HostError> {
    state_of(host, Distribution::here(host)?.unit(host)?).await
}

/// systemd's word for the state of a unit.
pub(super) async fn state_of(host: &dyn Host, unit: &str) -> Result<String, HostError> {
    let said = host.run(&Command::new(SYSTEMCTL, ["is-active", unit]), &|_| {}).await?;
    Ok(said.stdout.trim().to_owned())
}

/// Whether it runs, or is about to.
pub(super) async fn runs(host: &dyn Host) -> Result<bool, HostError> {
    Ok(is_up(&state(host).await?))
}

fn is_up(state: &str) -> bool {
    ["active", "activating", "reloading"].contains(&state)
}

/// Starts the kubelet of a node if somebody has stopped it, now and for the next boot.
pub(super) async fn up(kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
    let state = state(kube.host()).await.map_err(failed(step, "ask for the kubelet's state"))?;
    if is_up(&state) {
        return Ok(());
    }
    start(kube, step, &format!("the kubelet is {state}")).await
}

/// Starts it, or starts it anew: it registers its node when it begins.
pub(super) async fn start(kube: &Kube<'_>, step: &str, why: &str) -> Result<(), Failure> {
    let since = Instant::now();
    // An upgraded package brings its unit anew.
    for arguments in [&["daemon-reload"][..], &["reset-failed", UNIT], &["enable", UNIT], &["restart", UNIT]] {
        let command = Command::new(SYSTEMCTL, arguments.iter().copied()).timeout(START);
        // There is no failure to forget in most cases, which older releases answer with an error.
        if arguments[0] == "reset-failed" {
            kube.run(step, &command).await?
        } else {
            kube.must(step, &command).await?
        };
    }
    kube.made(step, "start the kubelet", why, since);
    Ok(())
}

/// What the kubelet has complained about since `began`; empty if its journal tells nothing.
pub(super) async fn complaints_since(kube: &Kube<'_>, began: std::time::SystemTime) -> Vec<String> {
    let since = began.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let since = format!("--since=@{since}");
    let arguments = ["--unit=kubelet.service", "--output=cat", "--no-pager", "--quiet", "--lines=5000", &since];
    let ask = Command::new("/usr/bin/journalctl", arguments).timeout(Duration::from_secs(20));
    let said = kube.host().run(&ask, &|_| {}).await;
    said.map(|said| complaints(&said.stdout)).unwrap_or_default()
}

/// The two complaints made most often, or the last one; in the order they were first made.
fn complaints(journal: &str) -> Vec<String> {
    let mut counted: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (at, error) in journal.lines().filter_map(error).enumerate() {
        counted.entry(error).or_insert((at, 0)).1 += 1;
    }
    let mut found: Vec<(String, (usize, usize))> = counted.into_iter().collect();
    found.sort_by_key(|(_, (at, times))| (std::cmp::Reverse(*times), *at));
    if found.first().is_some_and(|(_, (_, times))| *times > 1) {
        // What was said now and then beside what was said all the time is not the cause.
        let most = found.first().map_or(0, |(_, (_, times))| *times);
        found.retain(|(_, (_, times))| *times > 1 && *times * 4 >= most);
        found.truncate(2);
        found.sort_by_key(|(_, (at, _))| *at);
        return found.into_iter().map(|(error, _)| error).collect();
    }
    found.pop().map(|(error, _)| error).into_iter().collect()
}

/// The cause in one line of the journal: what stands quoted behind `err=`, or behind `Error:` where the kubelet gives up.
fn error(line: &str) -> Option<String> {
    let text = match line.split_once(" err=\"") {
        Some((_, rest)) => quoted(rest),
        None => line.strip_prefix("Error: ")?.to_owned(),
    };
    let text: String = mask(&text).chars().take(LONGEST).collect();
    (!text.is_empty() && !CONSEQUENCES.iter().any(|words| line.contains(words))).then_some(text)
}

/// Up to the closing quotation mark; quotation marks inside carry backslashes.
fn quoted(rest: &str) -> String {
    let mut text = String::new();
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => text.extend(letters.next().filter(|escaped| *escaped != '\\')),
            letter => text.push(letter),
        }
    }
    text
}

/// What follows from the API server's not being there yet, or says again what another line says with its cause.
const CONSEQUENCES: [&str; 10] = [
    "connection refused",
    "not found",
    "TLS handshake timeout",
    "Client.Timeout",
    "Error syncing pod",
    "cni plugin not initialized",
    "oom_score_adj",
    "rlimit on max file handles",
    "PLEG is not healthy",
    "no imagefs label",
];
const UNIT: &str = "kubelet.service";
const START: Duration = Duration::from_secs(120);
/// Letters of one complaint.
const LONGEST: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_between_its_consequences() {
        let said = complaints(include_str!("recorded/kubelet-no-resolv-conf.txt"));
        assert_eq!(said, ["open /etc/resolv.conf: no such file or directory"]);
    }

    #[test]
    fn a_newer_kubelets_cause_is_found_too() {
        let said = complaints(include_str!("recorded/kubelet-1.36-no-resolv-conf.txt"));
        assert_eq!(said, ["open /etc/resolv.conf: no such file or directory"]);
    }

    #[test]
    fn a_kubelet_that_ends_at_once_says_why() {
        let said = complaints(include_str!("recorded/kubelet-unknown-flag.txt"));
        assert_eq!(said, ["unknown flag: --nonsense"]);
    }

    #[test]
    fn quotes_inside_are_read_and_a_healthy_journal_tells_nothing() {
        let line = r#"E1121 a.go:1] "Failed" err="failed to \"StartContainer\" for \"etcd\"" pod="x""#;
        assert_eq!(complaints(line), [r#"failed to "StartContainer" for "etcd""#]);
        assert!(complaints("I1121 kubelet.go:1] \"Starting kubelet main sync loop\"\n").is_empty());
    }

    #[test]
    fn any_text_is_answered() {
        total::text("kubelet-journal", &["E1 x \"y\" err=\"a \\\"b\\\" c\"\nError: z\n"], complaints);
    }
}
