//! Units of K3s and its relatives: written, started without waiting, watched, stopped.
//!
//! A K3s that cannot do its work does not end: an agent asks its server again for ever, and systemd starts a server again whose
//! configuration is wrong. So the journal is read while the unit starts, and what does not pass by itself ends the wait.
//! Source: recordings of agents with a wrong token, a wrong CA, a name that is taken; of servers with a wrong flag.

use crate::cluster::kube::{Kube, SYSTEMCTL, failed, failure};
use crate::cluster::output::mask;
use crate::host::{Access, Command};
use crate::proxy;
use crate::run::Failure;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A unit of K3s, or of a relative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    /// `server` or `agent`
    pub(super) role: &'static str,
    /// Whose it is, and where that is described.
    pub(super) about: [&'static str; 2],
    pub(super) command: &'static str,
    /// Lines of its own.
    pub(super) more: &'static str,
}

impl Unit {
    /// As upstream writes it, but that a stop ends in time, and that a K3s which is told to end while it starts, and then writes the same line
    /// without end, does not fill the disk.
    pub(super) fn text(self) -> String {
        let Self { role, path, about: [title, documentation], command, more, .. } = self;
        format!(
            "# Made by Groundwork, and gone with the node.\n\
             [Unit]\nDescription={title} ({role})\nDocumentation={documentation}\nWants=network-online.target\nAfter=network-online.target\n\n\
             [Install]\nWantedBy=multi-user.target\n\n\
             [Service]\nType=notify\nEnvironmentFile=-{path}.env\nKillMode=process\nDelegate=yes\nUser=root\nLimitNOFILE=1048576\n\
             LimitNPROC=infinity\nLimitCORE=infinity\nTasksMax=infinity\nTimeoutStartSec=0\nTimeoutStopSec=30\nRestart=always\nRestartSec=5s\n\
             LogRateLimitIntervalSec=30s\nLogRateLimitBurst=20000\nExecStartPre=-/sbin/modprobe br_netfilter\nExecStartPre=-/sbin/modprobe overlay\n\
             ExecStart={command}\n{more}"
        )
    }

    /// Where the machine's proxy is told.
    pub(super) fn environment(self) -> String {
        format!("{}.env", self.path)
    }

    /// Writes it and has systemd start it with each boot.
    pub(super) async fn write(self, kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
        let proxy = proxy::for_kubeadm(kube.host(), &kube.near).map_err(failed(step, "read the machine's proxy"))?;
        let lines: String = proxy.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let environment = self.environment();
        for (path, text, access) in
            [(environment.as_str(), lines.as_str(), Access::PRIVATE), (self.path, self.text().as_str(), Access::OPEN)]
        {
            kube.host().write(path, text.as_bytes(), access).map_err(failed(step, &format!("write {path}")))?;
        }
        kube.must(step, &Command::new(SYSTEMCTL, ["daemon-reload"])).await?;
        kube.must(step, &Command::new(SYSTEMCTL, ["enable", "--", self.name])).await.map(drop)
    }

    /// Starts it, or starts it anew, and watches it until it runs.
    ///
    /// # Errors
    /// With what K3s says, when it does not run in time or never will: it is stopped then.
    pub(super) async fn start(self, kube: &Kube<'_>, step: &str, patience: Duration) -> Result<(), Failure> {
        // systemd goes on counting restarts of before until the new start begins, which nobody waits for.
        kube.run(step, &Command::new(SYSTEMCTL, ["reset-failed", "--", self.name])).await?;
        let before = self.stand(kube, step).await?.invocation;
        let began = kube.host().now();
        kube.must(step, &Command::new(SYSTEMCTL, ["restart", "--no-block", "--", self.name])).await?;
        let watch = self.watch(kube, step, &before, (began, patience)).await;
        if watch.as_ref().is_err_and(|failure| !failure.cancelled) {
            self.stop(kube, step).await?;
        }
        watch
    }

    async fn watch(
        self,
        kube: &Kube<'_>,
        step: &str,
        before: &str,
        (began, patience): (SystemTime, Duration),
    ) -> Result<(), Failure> {
        let (since, mut told, mut first) = (tokio::time::Instant::now(), String::new(), None);
        loop {
            let stand = self.stand(kube, step).await?;
            // The one before runs on until systemd comes to it.
            if stand.runs() && (before.is_empty() || stand.invocation != before) {
                return Ok(());
            }
            let journal = self.journal(kube, began).await;
            let last = complaint(&journal).unwrap_or_default();
            // Ports and times in it are others each time.
            let same = last.replace(|c: char| c.is_ascii_digit(), "");
            if same != told {
                told = same;
                first = Some(tokio::time::Instant::now());
                if !last.is_empty() {
                    kube.cx.note(step, &last);
                }
            }
            let waited = first.map(|first| first.elapsed()).unwrap_or_default();
            let over = since.elapsed() > patience;
            if over || is_hopeless(&last, stand.restarts, waited) {
                return Err(self.given_up(step, (&last, &journal), since.elapsed()));
            }
            kube.pause(step, PAUSE).await?;
        }
    }

    fn given_up(self, step: &str, (last, journal): (&str, &str), after: Duration) -> Failure {
        let why = if last.is_empty() { "its journal tells no reason".to_owned() } else { last.to_owned() };
        let cure = cure(last).map(|cure| format!(". {cure}")).unwrap_or_default();
        let message = format!("the unit {} does not run after {} s: {why}{cure}", self.name, after.as_secs());
        let mut output: Vec<String> = journal.lines().rev().take(20).map(mask).collect();
        output.reverse();
        Failure { output, ..failure(step, message) }
    }

    /// What systemd says of it.
    pub(super) async fn stand(self, kube: &Kube<'_>, step: &str) -> Result<Stand, Failure> {
        let ask = Command::new(
            SYSTEMCTL,
            ["show", "--property=ActiveState,SubState,NRestarts,InvocationID", "--", self.name],
        );
        let said = kube.host().run(&ask, &|_| {}).await.map_err(failed(step, &format!("ask for {}", self.name)))?;
        let value = |key: &str| {
            said.stdout.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
        };
        Ok(Stand {
            active: value("ActiveState").to_owned(),
            sub: value("SubState").to_owned(),
            restarts: value("NRestarts").parse().unwrap_or_default(),
            invocation: value("InvocationID").to_owned(),
        })
    }

    async fn journal(self, kube: &Kube<'_>, began: SystemTime) -> String {
        let since = format!("--since=@{}", began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        let unit = format!("--unit={}", self.name);
        let ask = ["--output=cat", "--no-pager", "--quiet", "--lines=300", &unit, &since];
        let said = kube.host().run(&Command::new("/usr/bin/journalctl", ask), &|_| {}).await;
        said.map(|said| said.stdout).unwrap_or_default()
    }

    /// Ends it, now and for the next boot; its containers run on. What is on its way to run is killed: told to end it would spin.
    pub(super) async fn stop(self, kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
        kube.run(step, &Command::new(SYSTEMCTL, ["disable", "--", self.name])).await?;
        if !self.stand(kube, step).await?.runs() {
            kube.run(step, &Command::new(SYSTEMCTL, ["kill", "--kill-who=main", "--signal=KILL", "--", self.name]))
                .await?;
        }
        let since = Instant::now();
        kube.must(step, &Command::new(SYSTEMCTL, ["stop", "--", self.name]).timeout(STOP)).await?;
        tracing::debug!(unit = self.name, elapsed_ms = since.elapsed().as_millis(), "stopped");
        Ok(())
    }
}

/// How a unit stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stand {
    active: String,
    sub: String,
    restarts: u32,
    /// Another one with each start.
    invocation: String,
}

impl Stand {
    pub(super) fn runs(&self) -> bool {
        self.active == "active" && self.sub == "running"
    }
}

/// The last thing that K3s complains about: why it ended, or else what it waits for, or its last error.
pub(super) fn complaint(journal: &str) -> Option<String> {
    let said = |wanted: fn(&str, &str) -> bool| {
        let message = |line: &str| {
            let (_, rest) = line.split_once(" level=")?;
            let (level, rest) = rest.split_once(" msg=")?;
            let text = rest.strip_prefix('"').and_then(|rest| rest.rsplit_once('"')).map_or(rest, |(text, _)| text);
            wanted(level, text).then(|| text.replace("\\\"", "\"").replace("\\n", " "))
        };
        journal.lines().rev().find_map(message)
    };
    let waits = |_: &str, text: &str| WAITS.iter().any(|words| text.starts_with(words));
    let found = said(|level, _| level == "fatal").or_else(|| said(waits)).or_else(|| said(|level, _| level == "error"));
    found.map(|text| mask(text.trim()).chars().take(LONGEST).collect())
}

/// Whether it will not pass by itself. A first start that was cut off heals, a wrong flag does not; a server may be starting, and the
/// password of a Node that was deleted is forgotten within seconds.
fn is_hopeless(complaint: &str, restarts: u32, waited: Duration) -> bool {
    restarts >= RESTARTS || CURES.iter().any(|(words, _)| complaint.contains(words)) && waited > SETTLES
}

fn cure(complaint: &str) -> Option<&'static str> {
    CURES.iter().find(|(words, _)| complaint.contains(words)).map(|(_, cure)| *cure)
}

/// What an agent says while it tries.
const WAITS: [&str; 3] = [
    "Waiting to retrieve agent configuration",
    "Failed to validate connection to cluster",
    "Waiting for control-plane node",
];
const CURES: [(&str, &str); 6] = [
    (
        "token CA hash does not match",
        "Another cluster answers where this one's API server is reached: see where `endpoint` leads",
    ),
    (
        "Node password rejected",
        "A Node of this name was made by another installation: `kubectl delete node` it if it is not there any more, or give this node another name",
    ),
    (
        "not authorized",
        "The token was not taken. One of an agent lives for half an hour; that of servers is another one after it was rotated by hand (`token rotate`). Apply again",
    ),
    (
        "duplicate node name found",
        "etcd has a member of this name, which another installation left there: take the node out of the configuration, apply, and put it in again",
    ),
    (
        "critical configuration value mismatch",
        "Settings of `config.server`, `pod_subnet` or `service_subnet` are not those that the cluster was made with, or `config.yaml.d` on this machine says other ones",
    ),
    ("only https:// URLs are supported", "Correct `endpoint`"),
];
const RESTARTS: u32 = 3;
const SETTLES: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_secs(1);
const STOP: Duration = Duration::from_secs(90);
/// Letters of one complaint.
const LONGEST: usize = 400;

#[cfg(test)]
mod unit_tests {
    use super::*;
    use crate::cluster::k3s::{K3S, RKE2};

    #[test]
    fn what_an_agent_waits_for_is_found_in_its_journal() {
        let said = complaint(include_str!("recorded/agent-duplicate-name.txt")).unwrap();
        assert!(said.starts_with("Error: failed to retrieve agent configuration"), "{said}");
        let waiting = include_str!("recorded/agent-wrong-ca-hash.txt");
        let said = complaint(waiting).unwrap();
        assert!(said.contains("token CA hash does not match"), "{said}");
        assert!(!is_hopeless(&said, 0, Duration::from_secs(5)) && is_hopeless(&said, 0, Duration::from_secs(60)));
        let said = complaint(include_str!("recorded/agent-expired-token.txt")).unwrap();
        assert!(said.contains("not authorized") && cure(&said).is_some(), "{said}");
        let said = complaint(include_str!("recorded/agent-unreachable.txt")).unwrap();
        assert!(!is_hopeless(&said, 0, Duration::from_secs(600)), "a server may come back: {said}");
    }

    #[test]
    fn a_server_with_a_wrong_flag_is_not_waited_for() {
        let said = complaint(include_str!("recorded/server-wrong-yaml.txt")).unwrap();
        assert!(is_hopeless(&said, RESTARTS, Duration::ZERO), "{said}");
        assert_eq!(complaint("I1126 16:00:31.9 1 x.go:1] fine\n"), None);
    }

    #[test]
    fn the_unit_never_limits_its_start_and_always_its_stop() {
        let text = K3S.server.text();
        assert!(
            text.contains("\nExecStart=/usr/local/bin/k3s server\n") && text.contains("\nTimeoutStopSec=30\n"),
            "{text}"
        );
        assert!(!text.contains("token") && text.ends_with("server\n"), "{text}");
        let text = RKE2.agent.text();
        assert!(text.contains("\nExecStart=/usr/local/bin/rke2 agent\nExecStopPost=-"), "{text}");
    }

    #[test]
    fn any_text_is_answered() {
        total::text("k3s-journal", &["time=\"x\" level=fatal msg=\"Error: \\\"a\\\" K10b::c\"\n"], complaint);
    }
}
