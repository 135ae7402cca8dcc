//! One cluster operation under way: its programs, its events, its failures.

use super::Distribution;
use super::evidence::{Attempt, Trace};
use super::output::{mask, reasons};
use super::version::Version;
use crate::chain::chain;
use crate::facts;
use crate::host::{Command, Host, HostError, Output};
use crate::proxy;
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where packages put kubeadm, and where others do: whoever installs it without one, and Kubespray.
const KUBEADM: [&str; 3] = ["/usr/bin/kubeadm", "/usr/local/bin/kubeadm", "/opt/bin/kubeadm"];
pub(super) const KUBECTL: [&str; 3] = ["/usr/bin/kubectl", "/usr/local/bin/kubectl", "/opt/bin/kubectl"];
pub(super) const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// kubectl keeps what it learns of an API server where a reset need not look for it.
pub(super) const CACHE: &str = "--cache-dir=/run/groundwork/kubectl";
pub(super) const ADMIN: &str = "/etc/kubernetes/admin.conf";
pub(super) const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
pub(super) const CA: &str = "/etc/kubernetes/pki/ca.crt";
/// How long an API server may be away while a control plane is upgraded.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a load balancer, or a virtual address, may take to another API server.
const TAKES_OVER: Duration = Duration::from_secs(60);

/// An operation under way.
pub(super) struct Kube<'a> {
    pub(super) cx: &'a RunCx,
    pub(super) state: &'a State,
    /// What kubeadm and its static pods reach without a proxy: the cluster's networks and hosts.
    pub(super) near: Vec<String>,
    /// What stands here, or is to stand.
    pub(super) distribution: Distribution,
    changes: AtomicU32,
}

/// The host of `host:port`, `[address]:port` or `host`.
pub(super) fn host_of(endpoint: &str) -> &str {
    if let Some((host, _)) = endpoint.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match endpoint.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => endpoint,
    }
}

impl<'a> Kube<'a> {
    /// Waits for what an earlier agent left running, and begins.
    pub(super) async fn begin(cx: &'a RunCx, state: &'a State) -> Result<Self, Failure> {
        let lines = |line: &str| cx.output("wait", &mask(line));
        cx.host().settle(&lines).await.map_err(failed("wait", "wait for an earlier program"))?;
        let distribution = Distribution::here(cx.host()).map_err(failed("look", "look at what stands here"))?;
        Ok(Self { cx, state, near: Vec::new(), distribution, changes: AtomicU32::new(0) })
    }

    pub(super) fn host(&self) -> &dyn Host {
        self.cx.host()
    }

    /// The run's end.
    pub(super) fn done(&self) -> Outcome {
        Outcome { changes: self.changes.load(Ordering::Relaxed), reboot_needed: false }
    }

    /// A change was made.
    pub(super) fn made(&self, step: &str, summary: &str, why: &str, since: Instant) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.cx.change_made(step, summary, why, since.elapsed());
    }

    /// Between two changes: whether to go on.
    pub(super) fn may_go_on(&self, step: &str) -> Result<(), Failure> {
        if self.cx.is_cancelled() { Err(Failure::cancelled(step)) } else { Ok(()) }
    }

    /// Sleeps, or ends early when the run is to stop.
    pub(super) async fn pause(&self, step: &str, pause: Duration) -> Result<(), Failure> {
        let mut cx = self.cx.clone();
        // Both arms are cancel-safe: a watch and a timer.
        tokio::select! {
            () = cx.cancelled() => Err(Failure::cancelled(step)),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// Runs a program to whatever end; its lines are shown without secrets.
    pub(super) async fn run(&self, step: &str, command: &Command) -> Result<Output, Failure> {
        let lines = |line: &str| self.cx.output(step, &mask(line));
        self.host().run(command, &lines).await.map_err(failed(step, &command.to_string()))
    }

    /// Runs a program that must end well.
    pub(super) async fn must(&self, step: &str, command: &Command) -> Result<Output, Failure> {
        let output = self.run(step, command).await?;
        if output.code == Some(0) { Ok(output) } else { Err(refused(step, command, &output)) }
    }

    /// Runs a program until it ends well, for as long as an API server may be away: behind a common endpoint another one takes over.
    pub(super) async fn insist(&self, step: &str, command: &Command) -> Result<Output, Failure> {
        let until = tokio::time::Instant::now() + TAKES_OVER;
        loop {
            let output = self.run(step, command).await?;
            if output.code == Some(0) {
                return Ok(output);
            }
            if tokio::time::Instant::now() > until {
                return Err(refused(step, command, &output));
            }
            self.pause(step, Duration::from_secs(2)).await?;
        }
    }

    /// kubeadm, as a unit that goes on when the agent is restarted.
    pub(super) async fn kubeadm(&self, step: &str, args: &[&str], timeout: Duration) -> Result<Output, Failure> {
        let command = Command::new(kubeadm(self.host()), args.iter().copied()).timeout(timeout).unit("kubeadm");
        let proxy = proxy::for_kubeadm(self.host(), &self.near).map_err(failed(step, "read the machine's proxy"))?;
        let command = proxy.iter().fold(command, |command, (name, value)| command.env(name, value));
        self.run(step, &command).await
    }

    /// Has this machine's services reach the cluster without the machine's proxy, if it has one.
    pub(super) async fn direct(&self, step: &str) -> Result<(), Failure> {
        self.follow(step, &self.near).await
    }

    /// The same for a machine that is no node any more.
    pub(super) async fn no_longer_direct(&self, step: &str) -> Result<(), Failure> {
        self.follow(step, &[]).await
    }

    async fn follow(&self, step: &str, near: &[String]) -> Result<(), Failure> {
        let since = Instant::now();
        let restarted = proxy::follow(self.host(), near)
            .await
            .map_err(failed(step, "tell containerd what it reaches without the proxy"))?;
        if restarted {
            self.made(step, "restart containerd", "it reaches the cluster without the proxy", since);
        }
        Ok(())
    }

    /// kubectl with the credentials in `kubeconfig`; its answer is not shown.
    pub(super) async fn kubectl(&self, kubeconfig: &str, args: &[&str]) -> Result<Output, HostError> {
        kubectl(self.host(), (self.distribution, kubeconfig), args).await
    }

    /// What the API server answers, asked again for a while: it may be restarting.
    pub(super) async fn ask(&self, step: &str, kubeconfig: &str, question: &[&str]) -> Result<String, Failure> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let said = self.kubectl(kubeconfig, question).await.map_err(failed(step, "ask the API server"))?;
            if said.code == Some(0) {
                return Ok(said.stdout);
            }
            if tokio::time::Instant::now() > until {
                let why = reasons(&said.stderr).join("; ");
                return Err(failure(step, format!("the API server does not answer: {why}")));
            }
            self.pause(step, Duration::from_secs(2)).await?;
        }
    }

    /// The address a node is to have, if this machine has it. Behind a forwarded port it has not, and a kubelet would refuse to start.
    pub(super) async fn own(&self, address: Option<String>) -> Option<String> {
        let address = address?;
        let Ok(all) = facts::addresses(self.host()).await else { return Some(address) };
        let bare = |one: &String| one.split('/').next().is_some_and(|one| one == address);
        if all.iter().any(bare) {
            return Some(address);
        }
        self.cx.note("look", &format!("{address} is not an address of this machine: the kubelet chooses one"));
        None
    }

    /// The version of this machine's kubeadm, which must be able to set up `wanted`.
    pub(super) async fn tools(&self, wanted: Version) -> Result<Version, Failure> {
        for program in ["/usr/bin/kubeadm", "/usr/bin/kubectl", "/usr/bin/kubelet"] {
            if !self.host().exists(program).map_err(failed("tools", "look for the programs"))? {
                return Err(failure("tools", format!("{program} is not installed")));
            }
        }
        let own = self.kubeadm_version().await?;
        if own.same_minor(wanted) {
            return Ok(own);
        }
        let message = format!("kubeadm is {own}, the cluster is to be {wanted}: install kubeadm of that version");
        Err(failure("tools", message))
    }

    /// The version of this machine's kubeadm.
    pub(super) async fn kubeadm_version(&self) -> Result<Version, Failure> {
        let (step, program) = ("tools", kubeadm(self.host()));
        if !self.host().exists(program).map_err(failed(step, "look for kubeadm"))? {
            return Err(failure(step, format!("{program} is not installed")));
        }
        let command = Command::new(program, ["version", "-o", "short"]);
        let said = self.host().run(&command, &|_| {}).await.map_err(failed(step, "ask kubeadm for its version"))?;
        said.stdout.parse().map_err(failed(step, "ask kubeadm for its version"))
    }

    /// Refuses a configuration with fields that this machine's kubeadm does not know: its work would pass over them with a warning.
    pub(super) async fn understood(&self, file: &str, version: Version) -> Result<(), Failure> {
        if !version.has_config_validate() {
            return Ok(());
        }
        let step = "config";
        let command = Command::new(kubeadm(self.host()), ["config", "validate", "--config", file]);
        let said = self.host().run(&command, &|_| {}).await.map_err(failed(step, &command.to_string()))?;
        if said.code == Some(0) { Ok(()) } else { Err(refused(step, &command, &said)) }
    }

    /// What stands here of a cluster.
    pub(super) fn traces(&self) -> Result<Vec<(&'static str, Trace)>, Failure> {
        traces(self.host(), self.distribution).map_err(failed("look", "look at what stands here"))
    }

    /// What is known of the last attempt.
    pub(super) fn attempt(&self) -> Result<Option<Attempt>, Failure> {
        Attempt::last(self.state).map_err(failed("look", "read the note of the last attempt"))
    }

    /// Notes an attempt before it begins, or that it is done.
    pub(super) fn note(&self, attempt: &Attempt) -> Result<(), Failure> {
        attempt.note(self.state).map_err(failed("look", "note the attempt"))
    }
}

/// The option of kubeadm by which failed checks are no obstacle; empty without any.
pub(super) fn ignored(checks: &[String]) -> String {
    if checks.is_empty() { String::new() } else { format!("--ignore-preflight-errors={}", checks.join(",")) }
}

/// Arguments, and one more if it is not empty.
pub(super) fn with<'a>(args: &[&'a str], more: &'a str) -> Vec<&'a str> {
    args.iter().copied().chain(Some(more).filter(|more| !more.is_empty())).collect()
}

/// kubeadm, where it stands.
pub(super) fn kubeadm(host: &dyn Host) -> &'static str {
    placed(host, KUBEADM)
}

/// The first of some places at which a program stands; the packages' own if it stands at none of them, or nobody can say.
pub(super) fn placed(host: &dyn Host, places: [&'static str; 3]) -> &'static str {
    standing_at(host, places).ok().flatten().unwrap_or(places[0])
}

/// The first of some places at which a program stands.
pub(super) fn standing_at(host: &dyn Host, places: [&'static str; 3]) -> Result<Option<&'static str>, HostError> {
    for place in places {
        if host.exists(place)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// kubectl with the credentials in `kubeconfig`; its answer is not shown.
pub(super) async fn kubectl(
    host: &dyn Host,
    (distribution, kubeconfig): (Distribution, &str),
    args: &[&str],
) -> Result<Output, HostError> {
    let whole = ["--kubeconfig", kubeconfig, CACHE, "--request-timeout=15s"].into_iter().chain(args.iter().copied());
    host.run(&Command::new(distribution.kubectl(host), whole).timeout(Duration::from_secs(40)), &|_| {}).await
}

/// Traces of a cluster on the disk.
pub(super) fn traces(host: &dyn Host, distribution: Distribution) -> Result<Vec<(&'static str, Trace)>, HostError> {
    let mut found = Vec::new();
    for (path, trace) in distribution.traces() {
        if host.exists(path)? {
            found.push((path, trace));
        }
    }
    Ok(found)
}

/// A refusal to touch what was made by somebody else. The provider knows the step by this name.
pub(super) fn foreign(message: impl Into<String>) -> Failure {
    failure("ownership", message)
}

/// A failure in our own words.
pub(super) fn failure(step: &str, message: impl Into<String>) -> Failure {
    Failure { step: step.to_owned(), message: message.into(), ..Failure::default() }
}

/// A failure with its causes.
pub(super) fn failed<E: std::error::Error>(step: &str, change: &str) -> impl FnOnce(E) -> Failure {
    let (step, change) = (step.to_owned(), mask(change));
    move |error| Failure { step, change, message: mask(&chain(&error)), ..Failure::default() }
}

/// A program that ended badly, with its reasons and last lines, without secrets.
pub(super) fn refused(step: &str, command: &Command, output: &Output) -> Failure {
    let said = format!("{}{}", output.stdout, output.stderr);
    let reasons = reasons(&said);
    // Programs that wait say the same again and again: of equal lines the last one is enough.
    let mut seen = BTreeSet::new();
    // A verified system is listed in colours.
    let is_told = |line: &&str| !line.trim().is_empty() && !line.starts_with('\u{1b}');
    let told = said.lines().rev().filter(is_told).filter(|line| seen.insert(*line));
    let mut tail: Vec<String> = told.take(20).map(mask).collect();
    tail.reverse();
    let name = command.program.rsplit('/').next().unwrap_or_default();
    let message = match output.code {
        Some(code) => format!("{name} ended with exit code {code}: {}", reasons.join("; ")),
        None => format!("{name} was killed, by somebody or for lack of memory"),
    };
    Failure { step: step.to_owned(), change: mask(&command.to_string()), message, output: tail, cancelled: false }
}
