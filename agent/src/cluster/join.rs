//! `kubeadm join`: makes this machine a worker or a further control plane, or sees that it is one.
//!
//! A kubelet that was started by a killed join goes on by itself, gets its certificate and registers the node; such a machine is
//! taken as joined. What is left by a join that got less far is cleared away, if the attempt was ours. A control plane is whole when its node
//! has the role and its member of etcd a vote.

use super::config::{self, JoinPlan};
use super::evidence::{Attempt, Standing};
use super::found::Found;
use super::kube::{ADMIN, CACHE, KUBELET, Kube, failed, failure, foreign, host_of, ignored, kubeadm, refused, with};
use super::nodes::Node;
use super::{Distribution, before, causes, cleanup, etcd, kube_vip, kubelet, nodes, output, status};
use crate::host::{Access, Command};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use std::time::{Duration, Instant};

/// Makes this machine a node of the cluster that `plan` names.
///
/// # Errors
/// Also when it belongs to another cluster, or another machine has its name.
pub async fn join(cx: RunCx, state: State, plan: JoinPlan) -> Result<Outcome, Failure> {
    let mut kube = Kube::begin(&cx, &state).await?;
    kube.distribution = Distribution::Kubeadm;
    kube.near = plan.near.iter().cloned().chain([host_of(&plan.endpoint).to_owned()]).collect();
    let own = kube.tools(plan.version).await?;
    let plan = JoinPlan { advertise_address: kube.own(plan.advertise_address.clone()).await, ..plan };
    if already(&kube, &plan).await? {
        return Ok(kube.done());
    }
    before::note(&kube).await?;
    kube.direct("join").await?;
    let attempt = Attempt::new("join", &plan.node_name).under(&plan.ca_hash);
    let text = config::join(&plan, own).map_err(|why| failure("join", why))?;
    kube.host()
        .write(FILE, text.as_bytes(), Access::PRIVATE)
        .map_err(failed("join", "write kubeadm's configuration"))?;
    let ran = run(&kube, &attempt, &plan).await;
    kube.host().remove(FILE).map_err(failed("join", "remove kubeadm's configuration"))?;
    ran?;
    registered(&kube, &plan).await?;
    settle(&kube, &plan)?;
    kube.note(&attempt.finished(&plan.ca_hash))?;
    Ok(kube.done())
}

/// Whether this machine is such a node of that cluster already; clears away what a killed attempt of ours has left.
async fn already(kube: &Kube<'_>, plan: &JoinPlan) -> Result<bool, Failure> {
    let found = Found::look(kube)?;
    match found.standing {
        Standing::Clean => return Ok(false),
        Standing::ControlPlane if plan.control_plane.is_none() => {
            return Err(foreign("this machine is a control plane"));
        }
        Standing::Worker if plan.control_plane.is_some() => {
            return Err(foreign("this machine is a worker of a cluster: take it out of that one first"));
        }
        Standing::Partial if found.is_cut_off || found.is_lost() => {
            begin_anew(kube, plan, "an earlier attempt did not come to its end").await?;
            return Ok(false);
        }
        Standing::Partial => return Err(cleanup::not_ours(&found.traces)),
        Standing::Worker | Standing::ControlPlane => {}
    }
    let here = &found.here;
    if *here != plan.ca_hash {
        return Err(foreign(format!("this machine is a node of another cluster, whose CA is {here}")));
    }
    let node = known(kube, credentials(plan), &plan.node_name).await?;
    if let Some(node) = whole(kube, plan, node).await? {
        kube.host().remove(BOOTSTRAP).map_err(failed("look", "remove what the bootstrap has left"))?;
        kubelet::up(kube, "join").await?;
        back(kube, credentials(plan), &node).await?;
        settle(kube, plan)?;
        kube.note(&Attempt::new("join", &plan.node_name).finished(here))?;
        return Ok(true);
    }
    if found.is_made() {
        begin_anew(kube, plan, "it is no whole node of its cluster").await?;
        return Ok(false);
    }
    Err(failure(
        "look",
        format!("this machine holds the identity of a node, and the cluster has no node {}", plan.node_name),
    ))
}

/// What a join has left goes; a control plane's member of etcd first.
async fn begin_anew(kube: &Kube<'_>, plan: &JoinPlan, why: &str) -> Result<(), Failure> {
    if plan.control_plane.is_some() {
        etcd::take_back(kube, &plan.node_name, plan.advertise_address.as_deref()).await?;
    }
    cleanup::undo(kube, "join", why).await
}

/// The credentials of a node of this kind; an administrator's on a control plane, whose kubelet asks its own API server alone.
fn credentials(plan: &JoinPlan) -> &'static str {
    if plan.control_plane.is_some() { ADMIN } else { KUBELET }
}

/// The node, if nothing is missing of it.
async fn whole(kube: &Kube<'_>, plan: &JoinPlan, node: Option<Node>) -> Result<Option<Node>, Failure> {
    let Some(node) = node else { return Ok(None) };
    if plan.control_plane.is_none() {
        return Ok(Some(node));
    }
    let votes = etcd::votes(kube, &node.name).await?;
    Ok(Some(node).filter(|node| node.control_plane && votes))
}

/// This machine's node, if the cluster has it.
pub(super) async fn known(kube: &Kube<'_>, kubeconfig: &str, node_name: &str) -> Result<Option<Node>, Failure> {
    let ask = ["get", "node", node_name, "--ignore-not-found", "-o", "json"];
    let said = kube.kubectl(kubeconfig, &ask).await.map_err(failed("look", "ask the API server for this node"))?;
    if said.code != Some(0) {
        let why = output::reasons(&said.stderr).join("; ");
        return Err(failure(
            "look",
            format!("this machine is a node of that cluster, whose API server does not say so: {why}"),
        ));
    }
    let node = nodes::read_one(&said.stdout).map_err(failed("look", "read the API server's answer"))?;
    let Some(node) = node else { return Ok(None) };
    let own = status::machine_uuid(kube.host()).map_err(failed("look", "read this machine's UUID"))?;
    if status::same_machine(&own, &node.machine_uuid) {
        return Ok(Some(node));
    }
    let other = node.machine_uuid;
    Err(failure("look", format!("the cluster's node {node_name} is another machine ({other}), this is {own}")))
}

/// The virtual address of the control planes, which the others give meanwhile.
fn settle(kube: &Kube<'_>, plan: &JoinPlan) -> Result<(), Failure> {
    let Some(control_plane) = &plan.control_plane else { return Ok(()) };
    kube_vip::settle(kube, control_plane.kube_vip.as_ref())
}

/// Checks, which change nothing, then the work, which is noted. The name of a node that was reset a moment ago is refused until the API server sees it gone.
async fn run(kube: &Kube<'_>, attempt: &Attempt, plan: &JoinPlan) -> Result<(), Failure> {
    kube.may_go_on("preflight")?;
    kube.cx.step_began("preflight", 1);
    if !plan.overlay.is_empty() {
        kube.understood(FILE, plan.version).await?;
    }
    let ignored = ignored(&plan.ignored_checks);
    let checks = with(&["join", "phase", "preflight", "--config", FILE], &ignored);
    let said = kube.kubeadm("preflight", &checks, CHECKS).await?;
    if said.code != Some(0) {
        return Err(refused("preflight", &Command::new(kubeadm(kube.host()), checks.iter().copied()), &said));
    }
    kube.cx.step_began("join", 1);
    let work = with(&["join", "--config", FILE], &ignored);
    let until = Instant::now() + STILL_READY;
    loop {
        kube.may_go_on("join")?;
        kube.note(attempt)?;
        let (since, began) = (Instant::now(), kube.host().now());
        let said = kube.kubeadm("join", &work, JOIN).await?;
        if said.code == Some(0) {
            let becomes = if plan.control_plane.is_some() { "a control plane" } else { "a worker" };
            kube.made("join", "kubeadm join", &format!("this machine becomes {becomes}"), since);
            return Ok(());
        }
        let waits = output::name_still_ready(&format!("{}{}", said.stdout, said.stderr));
        if !waits || Instant::now() > until {
            let mut failure = refused("join", &Command::new(kubeadm(kube.host()), work.iter().copied()), &said);
            failure.message = causes::before(kube, failure.message, began).await;
            return Err(failure);
        }
        kube.cx
            .output("join", "the node of that name still counts as ready: waiting for the API server to see it gone");
        kube.pause("join", Duration::from_secs(5)).await?;
        begin_anew(kube, plan, "a refused join leaves parts").await?;
    }
}

/// A node that left in order and has come back, before anybody deleted it, takes pods again.
pub(super) async fn back(kube: &Kube<'_>, own: &str, node: &Node) -> Result<(), Failure> {
    if !node.leaving {
        return Ok(());
    }
    let (unmark, name) = (format!("{}-", nodes::LEAVING), node.name.as_str());
    let kubectl = kube.distribution.kubectl(kube.host());
    let annotate = ["--kubeconfig", own, CACHE, "annotate", "node", name, &unmark];
    kube.must("ready", &Command::new(kubectl, annotate)).await?;
    kube.must("ready", &Command::new(kubectl, ["--kubeconfig", own, CACHE, "uncordon", name])).await.map(drop)
}

/// Waits until the cluster has the node, with all that makes it whole.
async fn registered(kube: &Kube<'_>, plan: &JoinPlan) -> Result<(), Failure> {
    kube.cx.step_began("ready", 0);
    let until = Instant::now() + REGISTERED;
    loop {
        let seen = async { whole(kube, plan, known(kube, credentials(plan), &plan.node_name).await?).await };
        match seen.await {
            Ok(Some(node)) => return back(kube, credentials(plan), &node).await,
            Ok(None) if Instant::now() > until => {
                let message =
                    format!("the cluster has no whole node {} after {} s", plan.node_name, REGISTERED.as_secs());
                return Err(failure("ready", message));
            }
            // An etcd that has just got a member may elect, and then no API server answers for a moment.
            Err(failure) if failure.cancelled || Instant::now() > until => return Err(failure),
            Ok(None) | Err(_) => kube.pause("ready", Duration::from_millis(500)).await?,
        }
    }
}

const FILE: &str = "/run/groundwork/kubeadm-join.yaml";
const BOOTSTRAP: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
/// A control plane pulls its images among the checks.
const CHECKS: Duration = Duration::from_secs(1_200);
const JOIN: Duration = Duration::from_secs(1_200);
const STILL_READY: Duration = Duration::from_secs(120);
const REGISTERED: Duration = Duration::from_secs(120);
