//! `kubeadm init`: makes this machine the first control plane, or sees that it is one.

use super::Distribution;
use super::config::{self, InitPlan};
use super::evidence::{Attempt, Standing};
use super::found::Found;
use super::kube::{ADMIN, Kube, failed, failure, foreign, host_of, ignored, kubeadm, refused, with};
use super::nodes::Node;
use super::output::are_leftovers;
use super::version::Version;
use super::{before, causes, cleanup, configuration, kube_vip, kubelet, nodes, output, restore, status, tokens};
use crate::host::{Access, Command};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use std::time::{Duration, Instant};

/// Makes this machine the first control plane. Changes nothing on a finished one; begins anew after a killed attempt of ours.
///
/// # Errors
/// Also when something stands here that is not ours to throw away.
pub async fn init(cx: RunCx, state: State, plan: InitPlan) -> Result<Outcome, Failure> {
    let mut kube = Kube::begin(&cx, &state).await?;
    kube.distribution = Distribution::Kubeadm;
    kube.near = near(&plan);
    let here = authority(&kube)?;
    if let Some(wanted) = plan.cluster_id.as_ref().filter(|wanted| **wanted != here) {
        let message = format!(
            "this machine is no control plane of the cluster with the CA {wanted} any more, and none is made anew"
        );
        return Err(failure("look", message));
    }
    // An upgrade that was cut off may have brought a newer one, which puts right what is missing as well.
    let is_made = kube.attempt()?.is_some_and(|attempt| attempt.cluster_id.is_some());
    let own = if is_made { kube.kubeadm_version().await? } else { kube.tools(plan.version).await? };
    let plan = InitPlan { advertise_address: kube.own(plan.advertise_address.clone()).await, ..plan };
    match already(&kube, &plan).await? {
        Stands::Nothing if plan.cluster_id.is_some() => {
            return Err(failure("look", "this machine is no whole control plane any more, and none is made anew"));
        }
        Stands::Nothing => {
            plan.restore_from.as_deref().map_or(Ok(()), |path| restore::is_there(&kube, path))?;
            before::note(&kube).await?;
            kube.direct("init").await?;
        }
        Stands::Whole => {
            kube_vip::settle(&kube, plan.kube_vip.as_ref())?;
            return Ok(kube.done());
        }
        Stands::Finished => {
            kube_vip::settle(&kube, plan.kube_vip.as_ref())?;
            mend(&kube, &plan, own).await?;
            return Ok(kube.done());
        }
    }
    let token = tokens::make().ok_or_else(|| failure("init", "no token can be made"))?;
    let text = config::init(&plan, own, &token).map_err(|why| failure("init", why))?;
    kube.host()
        .write(FILE, text.as_bytes(), Access::PRIVATE)
        .map_err(failed("init", "write kubeadm's configuration"))?;
    let ran = run(&kube, &plan).await;
    kube.host().remove(FILE).map_err(failed("init", "remove kubeadm's configuration"))?;
    let attempt = ran?;
    answering(&kube, Some(&plan.node_name)).await?;
    // It is of no use: each join has its own.
    if let Err(error) = tokens::forget(kube.host(), tokens::id(&token)).await {
        tracing::warn!(error = %crate::chain::chain(&error), "the token of init was left to expire");
    }
    kube_vip::settle(&kube, plan.kube_vip.as_ref())?;
    finish(&kube, &plan, attempt).await?;
    Ok(kube.done())
}

/// Notes that the attempt came to its end. Before that, a cluster that began with a snapshot leaves behind what was of the one before.
async fn finish(kube: &Kube<'_>, plan: &InitPlan, attempt: Attempt) -> Result<(), Failure> {
    if plan.restore_from.is_some() {
        restore::forget_nodes(kube, &plan.node_name).await?;
        configuration::forget_laid(kube).await?;
        restore::renew_pods(kube, &plan.node_name).await?;
    }
    kube.note(&attempt.finished(&authority(kube)?))
}

/// What the control plane's pods reach without a proxy: pods, services, and each other.
fn near(plan: &InitPlan) -> Vec<String> {
    let services = plan.service_subnet.clone().unwrap_or_else(|| SERVICES.to_owned());
    let endpoint = plan.endpoint.as_deref().map(|endpoint| host_of(endpoint).to_owned());
    [plan.pod_subnet.clone(), Some(services), endpoint].into_iter().flatten().collect()
}

/// What there is of the control plane.
enum Stands {
    /// Nothing, or not any more.
    Nothing,
    /// All of it, as the API server says just now.
    Whole,
    /// It was finished once. Somebody may have taken something away since.
    Finished,
}

/// Whether this machine is the control plane already; clears away what a killed attempt of ours has left.
async fn already(kube: &Kube<'_>, plan: &InitPlan) -> Result<Stands, Failure> {
    let found = Found::look(kube)?;
    let ours = found.is_cut_off;
    match found.standing {
        Standing::Clean => Ok(Stands::Nothing),
        Standing::ControlPlane if !found.is_made() => {
            let here = &found.here;
            let message =
                format!("a control plane that this agent did not make stands on this machine: its CA is {here}");
            Err(foreign(message))
        }
        Standing::ControlPlane if found.was_finished() => Ok(Stands::Finished),
        Standing::ControlPlane if is_whole(kube, &plan.node_name).await? => {
            finish(kube, plan, Attempt::new("init", &plan.node_name)).await?;
            Ok(Stands::Whole)
        }
        // Its cluster lives elsewhere, and it is to join that.
        Standing::ControlPlane | Standing::Partial if ours && plan.cluster_id.is_some() => Ok(Stands::Nothing),
        Standing::ControlPlane | Standing::Partial if ours => {
            cleanup::undo(kube, "init", "an earlier attempt did not come to its end").await?;
            Ok(Stands::Nothing)
        }
        Standing::ControlPlane => {
            let message = "a control plane stands on this machine, and its API server does not answer as this node's";
            Err(failure("look", message))
        }
        Standing::Worker => Err(foreign("this machine is a worker of a cluster: take it out of that one first")),
        Standing::Partial => Err(cleanup::not_ours(&found.traces)),
    }
}

/// Puts right what somebody has taken away from a finished control plane: its kubelet's run, its node, the node's marks.
async fn mend(kube: &Kube<'_>, plan: &InitPlan, own: Version) -> Result<(), Failure> {
    kubelet::up(kube, MEND).await?;
    let answered = answering(kube, None).await;
    answered.map_err(|failure| Failure { step: MEND.to_owned(), ..failure })?;
    let mut node = node(kube, &plan.node_name).await?;
    if node.is_none() {
        // It registers its node when it begins.
        kubelet::start(kube, MEND, &format!("the cluster has no node {}", plan.node_name)).await?;
        answering(kube, Some(&plan.node_name)).await?;
        node = self::node(kube, &plan.node_name).await?;
    }
    if node.is_some_and(|node| node.control_plane) {
        return Ok(());
    }
    let since = Instant::now();
    // kubeadm takes no configuration without a token's form; this phase makes nothing of it.
    let token = tokens::make().ok_or_else(|| failure(MEND, "no token can be made"))?;
    let text = config::init(plan, own, &token).map_err(|why| failure(MEND, why))?;
    kube.host().write(FILE, text.as_bytes(), Access::PRIVATE).map_err(failed(MEND, "write kubeadm's configuration"))?;
    let mark = ["init", "phase", "mark-control-plane", "--config", FILE];
    let said = kube.kubeadm(MEND, &mark, CERTIFICATES).await;
    kube.host().remove(FILE).map_err(failed(MEND, "remove kubeadm's configuration"))?;
    let said = said?;
    if said.code != Some(0) {
        return Err(refused(MEND, &Command::new(kubeadm(kube.host()), mark), &said));
    }
    kube.made(MEND, "mark the node as a control plane", "its role and its taint were lost with its node", since);
    Ok(())
}

/// Pin of the CA that stands here; empty without one.
pub(super) fn authority(kube: &Kube<'_>) -> Result<String, Failure> {
    status::cluster_id_in(kube.host(), kube.distribution).map_err(failed("look", "read the cluster's CA"))
}

/// Checks, then the work, each told by itself. The checks change nothing but pulled images: only the work is an attempt.
async fn run(kube: &Kube<'_>, plan: &InitPlan) -> Result<Attempt, Failure> {
    kube.may_go_on("preflight")?;
    kube.cx.step_began("preflight", 1);
    if !plan.overlay.is_empty() {
        kube.understood(FILE, plan.version).await?;
    }
    let ignored = ignored(&plan.ignored_checks);
    let checks = with(&["init", "phase", "preflight", "--config", FILE], &ignored);
    let said = kube.kubeadm("preflight", &checks, PREFLIGHT).await?;
    if said.code != Some(0) {
        return Err(unready(kube, &checks, &said));
    }
    kube.may_go_on("init")?;
    kube.cx.step_began("init", 1);
    let since = Instant::now();
    let attempt = begin(kube, &plan.node_name).await?;
    kube_vip::before_init(kube, plan.kube_vip.as_ref(), (plan.version, plan.advertise_address.as_deref()))?;
    let mut passed = plan.ignored_checks.clone();
    passed.extend(plan.kube_vip.as_ref().map(|_| kube_vip::CHECK.to_owned()));
    if let Some(path) = &plan.restore_from {
        restore::place(kube, path).await?;
        passed.push(restore::CHECK.to_owned());
    }
    let ignored = self::ignored(&passed);
    // Not by skipping the phase `show-join-command`: older releases (seen: 1.22) refuse a phase they do not know.
    let work = with(&["init", "--config", FILE, "--skip-token-print"], &ignored);
    let began = kube.host().now();
    let said = kube.kubeadm("init", &work, INIT).await?;
    if said.code != Some(0) {
        let mut failure = refused("init", &Command::new(kubeadm(kube.host()), work), &said);
        failure.message = causes::before(kube, failure.message, began).await;
        return Err(failure);
    }
    kube.made("init", "kubeadm init", "this machine becomes the first control plane", since);
    Ok(attempt)
}

/// Notes the attempt with its CA, by which it is told from a cluster that somebody makes here later. kubeadm uses the CA it finds.
async fn begin(kube: &Kube<'_>, node_name: &str) -> Result<Attempt, Failure> {
    let attempt = Attempt::new("init", node_name);
    kube.note(&attempt)?;
    let make = ["init", "phase", "certs", "ca", "--config", FILE];
    let said = kube.kubeadm("init", &make, CERTIFICATES).await?;
    if said.code != Some(0) {
        return Err(refused("init", &Command::new(kubeadm(kube.host()), make), &said));
    }
    let attempt = attempt.under(&authority(kube)?);
    kube.note(&attempt)?;
    Ok(attempt)
}

/// Failed checks, by name.
fn unready(kube: &Kube<'_>, checks: &[&str], said: &crate::host::Output) -> Failure {
    let all = format!("{}{}", said.stdout, said.stderr);
    let mut failure = refused("preflight", &Command::new(kubeadm(kube.host()), checks.iter().copied()), said);
    if are_leftovers(&output::findings(&all)) {
        failure.message = format!("{}; these are leftovers of another cluster", failure.message);
    }
    failure
}

/// The API server answers, and has this node as a control plane.
async fn is_whole(kube: &Kube<'_>, node_name: &str) -> Result<bool, Failure> {
    let Ok(node) = node(kube, node_name).await else { return Ok(false) };
    let marked = node.is_some_and(|node| node.control_plane);
    let maps = ["get", "configmap", "cluster-info", "--namespace", "kube-public", "--ignore-not-found", "-o", "json"];
    let said = kube.kubectl(ADMIN, &maps).await.map_err(failed("look", "ask the API server"))?;
    // The bootstrap token's signature is among the last things that init brings about.
    Ok(marked && said.code == Some(0) && said.stdout.contains("kubeconfig"))
}

/// This node, as the API server has it.
pub(super) async fn node(kube: &Kube<'_>, node_name: &str) -> Result<Option<Node>, Failure> {
    let ask = ["get", "nodes", node_name, "--ignore-not-found", "-o", "json"];
    let said = kube.kubectl(kube.distribution.admin(), &ask).await.map_err(failed("look", "ask the API server"))?;
    if said.code != Some(0) {
        let why = output::reasons(&said.stderr).join("; ");
        return Err(failure("look", format!("the API server does not answer: {why}")));
    }
    nodes::read_one(&said.stdout).map_err(failed("look", "read the API server's answer"))
}

/// Waits until the API server is ready, twice in a row, and knows a node if one is named.
pub(super) async fn answering(kube: &Kube<'_>, node_name: Option<&str>) -> Result<(), Failure> {
    kube.cx.step_began("ready", 0);
    let admin = kube.distribution.admin();
    let until = tokio::time::Instant::now() + READY;
    let mut good = 0;
    let mut last = String::new();
    while good < 2 {
        if tokio::time::Instant::now() > until {
            let why = format!("the API server does not answer as ready after {} s: {last}", READY.as_secs());
            return Err(failure("ready", why));
        }
        let ready =
            kube.kubectl(admin, &["get", "--raw", "/readyz"]).await.map_err(failed("ready", "ask for readyz"))?;
        ready.stderr.trim().clone_into(&mut last);
        let mut is_good = ready.code == Some(0);
        if let Some(name) = node_name.filter(|_| is_good) {
            let known =
                kube.kubectl(admin, &["get", "nodes", name]).await.map_err(failed("ready", "ask for the node"))?;
            known.stderr.trim().clone_into(&mut last);
            is_good = known.code == Some(0);
        }
        good = if is_good { good + 1 } else { 0 };
        if good < 2 {
            kube.pause("ready", Duration::from_millis(500)).await?;
        }
    }
    Ok(())
}

const MEND: &str = "repair";
/// kubeadm's default.
const SERVICES: &str = "10.96.0.0/12";
const FILE: &str = "/run/groundwork/kubeadm-init.yaml";
/// Images are pulled among the checks.
const PREFLIGHT: Duration = Duration::from_secs(1_200);
/// Emulated machines take a second or more for each key.
const CERTIFICATES: Duration = Duration::from_secs(300);
const INIT: Duration = Duration::from_secs(1_200);
const READY: Duration = Duration::from_secs(180);
