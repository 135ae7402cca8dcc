//! Snapshots by a timer of systemd. The agent does nothing by itself: the timer starts a process of its own, which takes one and lets the
//! oldest go.
//!
//! What is to be stands in the first line of the timer's file, so that it is known without a record; both files must be what that line says.
//! Source: systemd.timer(5), systemd.time(7), systemd.service(5).

use super::away::{SECRET, Target};
use super::{fresh, is_of, part};
use crate::cluster::Distribution;
use crate::cluster::foreign::has_own_etcd;
use crate::cluster::kube::{Kube, SYSTEMCTL, failed, failure, refused};
use crate::cluster::kubelet::state_of;
use crate::host::etcd::Snapshot;
use crate::host::{Access, Command, Host, HostError};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use yasna::models::GeneralizedTime;
use zeroize::Zeroizing;

/// When, where, and how many stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// As `OnCalendar=` has it.
    pub schedule: String,
    /// At least one.
    pub keep: u32,
    /// Absolute.
    pub directory: String,
    /// Where they go too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<Target>,
}

/// A schedule that is to be, with the secret key of its bucket.
#[derive(Default)]
pub struct Wanted {
    /// What may be read.
    pub schedule: Schedule,
    /// What may not.
    pub secret: Zeroizing<String>,
}

/// A schedule, as it stands on the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// What is to be.
    pub schedule: Schedule,
    /// The timer waits, and its files are what they should be.
    pub active: bool,
    /// Why the last one was not taken; empty if it was.
    pub failure: String,
}

/// Has snapshots taken as it is wanted, or no more. One that was not taken last time is taken now.
///
/// # Errors
/// At `schedule` when systemd does not understand the calendar, at `snapshot` when none can be taken.
pub async fn schedule(cx: RunCx, state: State, cluster_id: String, wanted: Option<Wanted>) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    is_of(&kube, &cluster_id)?;
    let there = look(kube.host()).await.map_err(failed(STEP, "look at the timer"))?;
    if wanted.is_some() {
        has_own_etcd(&kube, super::STEP, "no snapshots are taken")?;
    }
    match (wanted, there) {
        (None, None) => {}
        (None, Some(_)) => forget(&kube, STEP).await?,
        (Some(wanted), there) => settle(&kube, &wanted, there).await?,
    }
    Ok(kube.done())
}

async fn settle(kube: &Kube<'_>, wanted: &Wanted, there: Option<Scheduled>) -> Result<(), Failure> {
    let Wanted { schedule: wanted, secret } = wanted;
    // Always: what is wrong with the key is seen by a snapshot that failed alone.
    match &wanted.s3 {
        Some(_) => kube.state.write(SECRET, secret).map_err(failed(STEP, "keep the secret key of the bucket"))?,
        None => kube.state.burn(SECRET).map_err(failed(STEP, "forget the secret key of the bucket"))?,
    }
    let is_good = there.as_ref().is_some_and(|there| there.active && there.schedule == *wanted);
    if !is_good {
        let since = Instant::now();
        kube.cx.step_began(STEP, 1);
        let read = Command::new(ANALYZE, ["calendar", &wanted.schedule]);
        let said = kube.host().run(&read, &|_| {}).await.map_err(failed(STEP, &read.to_string()))?;
        if said.code != Some(0) {
            return Err(refused(STEP, &read, &said));
        }
        for (file, text) in wanted.files(kube.distribution) {
            kube.host().write(file, text.as_bytes(), Access::OPEN).map_err(failed(STEP, &format!("write {file}")))?;
        }
        for words in [&["daemon-reload"][..], &["enable", TIMER], &["restart", TIMER]] {
            kube.must(STEP, &Command::new(SYSTEMCTL, words.iter().copied())).await?;
        }
        let away = wanted.s3.as_ref().map_or_else(String::new, |s3| format!(", and in {}/{}", s3.endpoint, s3.bucket));
        let summary =
            format!("snapshots of etcd: {}, {} of them in {}{away}", wanted.schedule, wanted.keep, wanted.directory);
        kube.made(STEP, &summary, "as the configuration says", since);
    }
    let is_new = |there: &Scheduled| wanted.s3.is_some() && there.schedule.s3 != wanted.s3;
    match there {
        Some(there) if !there.failure.is_empty() => {
            again(kube, &format!("the last one failed: {}", there.failure)).await
        }
        Some(there) if is_new(&there) => again(kube, BUCKET).await,
        None if wanted.s3.is_some() => again(kube, BUCKET).await,
        _ => Ok(()),
    }
}

/// One that failed is made up for: what was the matter may be over. And whether a bucket takes anything is known when it has.
async fn again(kube: &Kube<'_>, why: &str) -> Result<(), Failure> {
    let since = Instant::now();
    kube.cx.step_began(super::STEP, 1);
    let start = Command::new(SYSTEMCTL, ["start", SERVICE]).timeout(LONGEST);
    let said = kube.run(super::STEP, &start).await?;
    if said.code != Some(0) {
        let why = last_words(kube.host()).await.map_err(failed(super::STEP, "read the journal"))?;
        return Err(failure(super::STEP, format!("no snapshot of etcd can be taken: {why}")));
    }
    kube.made(super::STEP, "take a snapshot of etcd", why, since);
    Ok(())
}

/// What the timer does; `None` where there is none of ours.
pub(in crate::cluster) async fn look(host: &dyn Host) -> Result<Option<Scheduled>, HostError> {
    let Some(timer) = host.text(TIMER_FILE)? else { return Ok(None) };
    let Some(schedule) = Schedule::read(&timer) else { return Ok(None) };
    let (own, mut whole) = (Distribution::here(host)?, true);
    for (file, text) in schedule.files(own) {
        whole &= host.text(file)?.is_some_and(|there| there == text);
    }
    let active = whole && state_of(host, TIMER).await? == "active";
    let failure = if state_of(host, SERVICE).await? == "failed" { last_words(host).await? } else { String::new() };
    Ok(Some(Scheduled { schedule, active, failure }))
}

/// Takes the timer away, with whatever it is at; what was taken stays. Content if there is none.
pub(in crate::cluster) async fn forget(kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
    let since = Instant::now();
    if !kube.host().exists(TIMER_FILE).map_err(failed(step, &format!("look at {TIMER_FILE}")))? {
        return Ok(());
    }
    let stop = Command::new(SYSTEMCTL, ["disable", "--now", TIMER]);
    kube.must(step, &stop).await?;
    kube.must(step, &Command::new(SYSTEMCTL, ["stop", SERVICE]).timeout(STOP)).await?;
    // The timer's last: it tells that there is something to take away.
    for file in [SERVICE_FILE, TIMER_FILE] {
        kube.host().remove(file).map_err(failed(step, &format!("remove {file}")))?;
    }
    kube.state.burn(SECRET).map_err(failed(step, "forget the secret key of the bucket"))?;
    // A failure would be remembered; there is none to forget in most cases, which older releases answer with an error.
    kube.run(step, &Command::new(SYSTEMCTL, ["reset-failed", SERVICE])).await?;
    kube.must(step, &Command::new(SYSTEMCTL, ["daemon-reload"])).await?;
    kube.made(step, "take no more snapshots of etcd by a timer", "it is not wanted any more", since);
    Ok(())
}

/// The process that the timer starts: takes one, and lets the oldest go. Gives its path.
///
/// # Errors
/// When it cannot be taken. Then none goes.
pub async fn take_scheduled(host: &dyn Host, directory: &str, keep: usize) -> Result<(String, Snapshot), HostError> {
    let all = host.list(directory)?;
    // Of one that was cut off.
    for name in all
        .iter()
        .filter(|name| name.strip_prefix('.').and_then(|name| name.strip_suffix(".part")).is_some_and(is_ours))
    {
        host.remove(&format!("{directory}/{name}"))?;
    }
    let path = free(host, directory)?;
    let taken = fresh(host, &part(&path)).await?;
    host.etcd().rename(&part(&path), &path)?;
    let all = host.list(directory)?;
    let ours = by_age(all.iter().map(String::as_str).filter(|name| is_ours(name)), name_in(&path));
    for name in ours.iter().take(ours.len().saturating_sub(keep.max(1))) {
        host.remove(&format!("{directory}/{name}"))?;
    }
    Ok((path, taken))
}

/// Names of snapshots, the oldest first; `newest` is that of the one which was taken last. Names tell the order, but for those that are later
/// than it: they are of a clock that has been set back since.
pub(super) fn by_age<'a>(names: impl Iterator<Item = &'a str>, newest: &str) -> Vec<&'a str> {
    let mut all: Vec<&str> = names.collect();
    all.sort_unstable_by_key(|name| (*name <= newest, *name));
    all.dedup();
    all
}

/// Of a path.
pub(super) fn name_in(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Where one of this moment goes. Where there is one of the same second it is named as if it were of the next: names tell the order.
fn free(host: &dyn Host, directory: &str) -> Result<String, HostError> {
    let mut time = host.now();
    loop {
        let path = format!("{directory}/{}", name(time));
        if !host.exists(&path)? {
            return Ok(path);
        }
        time += Duration::from_secs(1);
    }
}

/// `etcd-20261127030000Z.db`
fn name(now: SystemTime) -> String {
    let whole = Duration::from_secs(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let time = GeneralizedTime::from_datetime((UNIX_EPOCH + whole).into());
    format!("etcd-{}.db", String::from_utf8_lossy(&time.to_bytes()))
}

pub(super) fn is_ours(name: &str) -> bool {
    let time = name.strip_prefix("etcd-").and_then(|rest| rest.strip_suffix("Z.db"));
    time.is_some_and(|time| time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Schedule {
    /// What its files hold, the timer's last. Without an etcd on the machine nothing is taken.
    fn files(&self, own: Distribution) -> [(&'static str, String); 2] {
        let Self { schedule, keep, directory, .. } = self;
        let service = format!(
            "{HEAD}\n[Unit]\nDescription=Snapshot of etcd, by Groundwork\nConditionPathExists={}\n\n\
             [Service]\nType=oneshot\nExecStart=/usr/local/bin/groundwork-agent etcd-snapshot {} {keep}\nTimeoutStartSec={}\nUMask=0077\n\
             Nice=10\nIOSchedulingClass=idle\nNoNewPrivileges=yes\nPrivateDevices=yes\nProtectKernelTunables=yes\n",
            own.etcd_note(),
            quoted(directory),
            LONGEST.as_secs()
        );
        let timer = format!(
            "{MARK}{}\n{HEAD}\n[Unit]\nDescription=Snapshots of etcd, by Groundwork\n\n[Timer]\nOnCalendar={}\nPersistent=yes\n\n\
             [Install]\nWantedBy=timers.target\n",
            serde_json::to_string(self).unwrap_or_default(),
            schedule.replace('%', "%%")
        );
        [(SERVICE_FILE, service), (TIMER_FILE, timer)]
    }

    pub(super) fn read(timer: &str) -> Option<Self> {
        serde_json::from_str(timer.lines().next()?.strip_prefix(MARK)?).ok()
    }
}

/// One word of a command line. Source: systemd.service(5), "Command lines".
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

/// Why the last run failed, by itself.
async fn last_words(host: &dyn Host) -> Result<String, HostError> {
    let words =
        ["--unit", SERVICE, "--identifier=groundwork-agent", "--output=cat", "--lines=1", "--no-pager", "--quiet"];
    let said = host.run(&Command::new("/usr/bin/journalctl", words), &|_| {}).await?;
    // As this program's own `main` writes it.
    let line = said.stdout.trim();
    let line = line.split_once(" error=").map_or(line, |(_, why)| why);
    Ok(if line.is_empty() { format!("see `journalctl -u {SERVICE}`") } else { line.to_owned() })
}

const STEP: &str = "schedule";
const BUCKET: &str = "so that what is wrong with the bucket is said now";
const HEAD: &str = "# By groundwork-agent, as `snapshots` of the cluster says. A change by hand is taken back.";
const MARK: &str = "# groundwork: ";
const TIMER: &str = "groundwork-etcd-snapshot.timer";
const SERVICE: &str = "groundwork-etcd-snapshot.service";
pub(super) const TIMER_FILE: &str = "/etc/systemd/system/groundwork-etcd-snapshot.timer";
const SERVICE_FILE: &str = "/etc/systemd/system/groundwork-etcd-snapshot.service";
const ANALYZE: &str = "/usr/bin/systemd-analyze";
const LONGEST: Duration = Duration::from_secs(1_800);
const STOP: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Schedule {
        let directory = "/var/backups/100% \"etcd\"".into();
        Schedule { schedule: "*-*-* 03:00:00".into(), keep: 7, directory, s3: None }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let [(_, service), (_, timer)] = wanted().files(Distribution::Kubeadm);
        assert_eq!(Schedule::read(&timer), Some(wanted()));
        let away =
            Schedule { s3: Some(Target { ca_certificate: "-----\nA\n".into(), ..Target::default() }), ..wanted() };
        let [_, (_, timer)] = away.files(Distribution::K3s(&crate::cluster::k3s::K3S));
        assert_eq!(Schedule::read(&timer), Some(away));
        assert!(service.contains(r#"etcd-snapshot "/var/backups/100%% \"etcd\"" 7"#), "{service}");
        assert!(service.contains("\nConditionPathExists=/etc/kubernetes/manifests/etcd.yaml\n"), "{service}");
        assert!(timer.contains("\nOnCalendar=*-*-* 03:00:00\n"), "{timer}");
        assert_eq!(Schedule::read("[Timer]\nOnCalendar=daily\n"), None);
        total::text("etcd-timer", &[&timer], Schedule::read);
    }

    #[test]
    fn after_a_clock_was_set_back_what_it_had_named_counts_as_older() {
        let names = ["etcd-20261130000000Z.db", "etcd-20261201000000Z.db", "etcd-20270101000000Z.db"];
        assert_eq!(by_age(names.into_iter(), names[2]), names);
        assert_eq!(by_age(names.into_iter(), names[1]), [names[2], names[0], names[1]]);
        assert_eq!(by_age(names.into_iter().chain(names), names[0]), [names[1], names[2], names[0]]);
    }

    #[test]
    fn names_sort_by_time_and_only_ours_go() {
        assert_eq!(name(UNIX_EPOCH + Duration::from_millis(1_796_000_000_500)), "etcd-20261130005320Z.db");
        for (name, ours) in [
            ("etcd-20261130005320Z.db", true),
            ("etcd-before-upgrade.db", false),
            ("etcd-20261130005320Z.db.gz", false),
            ("etcd-2026113000532xZ.db", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }
}
