//! `kubeadm upgrade`: brings this machine's node to another version of Kubernetes. Which node, and when, the provider says.
//!
//! A control plane: etcd and its API server are well, then kubeadm, the static pods, and at last, drained, the kubelet. A worker: kubeadm, then,
//! drained, the kubelet's configuration and the kubelet. What is live decides what is left to do, and that is done again from the
//! beginning; a node is finished when its kubelet has the version, which comes last. Who was cordoned here, and by nobody before, is
//! marked, and takes pods again at the end, or when the work is given up while the node is well.
//! Source: kubernetes.io, "Upgrading kubeadm clusters"; recordings of `kubeadm upgrade`, 1.28 and 1.35.

use super::control_plane::{self, Noted};
use super::evidence::{Standing, Trace, standing};
use super::foreign::has_packages;
use super::kube::{ADMIN, CA, CACHE, KUBELET, Kube, failed, failure, foreign, ignored, kubeadm, refused, with};
use super::nodes::{self, Node};
use super::version::Version;
use super::{causes, cleanup, drain, kubelet, output, passage, programs, status};
use crate::host::Command;
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use std::time::{Duration, Instant};

/// What this machine's node is to become.
#[derive(Debug, Clone)]
pub struct UpgradePlan {
    /// The version it is to have.
    pub version: Version,
    /// Name of the node.
    pub node_name: String,
    /// The cluster it is a node of.
    pub cluster_id: String,
    /// How long its pods may take to leave.
    pub drain: Duration,
    /// Checks whose failure is no obstacle.
    pub ignored_checks: Vec<String>,
    /// Nothing is done: only whether it could be.
    pub only_check: bool,
    /// Checked for a moment when the cluster has this version.
    pub after: Option<Version>,
}

/// Upgrades the node of this machine. Changes nothing on one that has the version.
///
/// # Errors
/// At `skew` and `offer` when it cannot be, at `drain` when pods do not leave: the node goes on as it was then. At other steps it stands
/// where it stands, and a repetition goes on there.
pub async fn upgrade(cx: RunCx, state: State, plan: UpgradePlan) -> Result<Outcome, Failure> {
    let mut kube = Kube::begin(&cx, &state).await?;
    let is_control_plane = is_node_of(&kube, &plan.cluster_id)?;
    has_packages(&kube)?;
    let kubeconfig = if is_control_plane { ADMIN } else { KUBELET };
    if !plan.only_check {
        kubelet::up(&kube, LOOK).await?;
    }
    let noted = Noted::ask(&kube, kubeconfig).await?;
    kube.near = noted.near();
    let work = Work { kube: &kube, plan: &plan, kubeconfig, is_control_plane, cluster: noted.version()? };
    let node = work.node().await?;
    work.may_be(&node)?;
    passage::open(kube.host(), plan.version)
        .map_err(failed(programs::OFFER, "add the repository of a version on the way"))?;
    let done = work.offered_and_done(&node).await;
    let closed =
        passage::close(kube.host()).map_err(failed(PROGRAMS, "take the repository of a version on the way out"));
    done.and(closed).map(|()| kube.done())
}

/// Whether it is a control plane; a node of this cluster that this agent made.
pub(super) fn is_node_of(kube: &Kube<'_>, cluster_id: &str) -> Result<bool, Failure> {
    let found = kube.traces()?;
    cleanup::no_stranger(&found)?;
    let traces: Vec<Trace> = found.iter().map(|(_, trace)| *trace).collect();
    let here = status::cluster_id(kube.host()).map_err(failed(LOOK, &format!("read {CA}")))?;
    let made = kube.attempt()?.is_some_and(|attempt| attempt.cluster_id.is_some() && attempt.has_made(&here));
    if !made || here != cluster_id {
        let whose = if here.is_empty() { "of none".to_owned() } else { format!("with the CA {here}") };
        return Err(foreign(format!("this machine is no node of the cluster that is changed, but {whose}")));
    }
    match standing(&traces) {
        Standing::ControlPlane => Ok(true),
        Standing::Worker => Ok(false),
        Standing::Clean | Standing::Partial => {
            Err(failure(LOOK, "this machine is no whole node: something was taken from it"))
        }
    }
}

/// One upgrade under way.
pub(super) struct Work<'a> {
    pub(super) kube: &'a Kube<'a>,
    pub(super) plan: &'a UpgradePlan,
    /// An administrator's credentials, or those of the node itself.
    pub(super) kubeconfig: &'static str,
    pub(super) is_control_plane: bool,
    /// Version of the cluster, as kubeadm has noted it.
    pub(super) cluster: Version,
}

impl Work<'_> {
    /// All that is asked for, while the packages of the version are on offer.
    async fn offered_and_done(&self, node: &Node) -> Result<(), Failure> {
        programs::are_offered(self.kube, self.plan.version).await?;
        if self.plan.only_check {
            return Ok(());
        }
        let done = match self.is_done(node)? {
            true => Ok(()),
            false => self.all(node).await,
        };
        let given_back = self.give_back(done.is_ok()).await;
        done.and(given_back)
    }

    /// Everything, from the beginning: each part does only what is missing.
    async fn all(&self, node: &Node) -> Result<(), Failure> {
        let version = self.plan.version;
        if self.is_control_plane {
            control_plane::healthy(self.kube, self.kubeconfig).await?;
        }
        self.began(PROGRAMS, 1);
        programs::bring(self.kube, PROGRAMS, &["kubeadm"], version).await?;
        if self.is_control_plane {
            self.static_pods().await?;
        }
        self.empty(node).await?;
        if !self.is_control_plane {
            self.kubeadm(&["upgrade", "node"]).await?;
        }
        self.kubelet().await
    }

    fn began(&self, step: &str, changes: u32) {
        self.kube.cx.step_began(step, changes);
    }

    /// The API server's view of this node, which must be this machine's.
    pub(super) async fn node(&self) -> Result<Node, Failure> {
        let name = self.plan.node_name.as_str();
        let json =
            self.kube.ask(LOOK, self.kubeconfig, &["get", "node", name, "--ignore-not-found", "-o", "json"]).await?;
        let node = nodes::read_one(&json).map_err(failed(LOOK, "read the API server's answer"))?;
        let node = node.ok_or_else(|| failure(LOOK, format!("the cluster has no node {name}")))?;
        let own = status::machine_uuid(self.kube.host()).map_err(failed(LOOK, "read this machine's UUID"))?;
        if status::same_machine(&own, &node.machine_uuid) {
            return Ok(node);
        }
        Err(failure(LOOK, format!("the cluster's node {name} is another machine, {}", node.machine_uuid)))
    }

    /// Nothing becomes older; a control plane takes one minor version at a time, and no worker goes before it.
    pub(super) fn may_be(&self, node: &Node) -> Result<(), Failure> {
        let (want, cluster) = (self.plan.version, self.plan.after.unwrap_or(self.cluster));
        let why = if version_of(node)? > want {
            format!("node {} has {}, and nothing is made older than it is", node.name, node.kubelet_version)
        } else if self.is_control_plane && want < cluster {
            format!("the cluster is {cluster} already, and nothing is made older than it is")
        } else if self.is_control_plane && want.minors_above(cluster) > 1 {
            format!("the cluster is {cluster}, and a control plane takes one minor version at a time")
        } else if !self.is_control_plane && want > cluster && !self.plan.only_check {
            format!("the cluster is {cluster} still, and no worker may be newer than its control planes")
        } else {
            return Ok(());
        };
        Err(failure("skew", format!("no upgrade to {want}: {why}")))
    }

    /// The kubelet comes last.
    fn is_done(&self, node: &Node) -> Result<bool, Failure> {
        let version = self.plan.version;
        let manifest = status::version(self.kube.host()).map_err(failed(LOOK, "read the API server's manifest"))?;
        let control_plane = self.cluster == version && manifest == version.to_string();
        Ok(node.ready && version_of(node)? == version && (!self.is_control_plane || control_plane))
    }

    /// `upgrade apply` on the first control plane, until that is finished; `upgrade node` on the others.
    async fn static_pods(&self) -> Result<(), Failure> {
        let Self { kube, plan, kubeconfig, .. } = *self;
        let version = plan.version.to_string();
        let began = kube.host().now();
        if self.cluster == plan.version && self.another_is_finished().await? {
            self.kubeadm(&["upgrade", "node"]).await?;
        } else {
            self.kubeadm(&["upgrade", "apply", &version, "--yes"]).await?;
        }
        control_plane::runs(kube, (kubeconfig, &plan.node_name), plan.version, began).await
    }

    async fn another_is_finished(&self) -> Result<bool, Failure> {
        let json = self.kube.ask(LOOK, self.kubeconfig, &["get", "nodes", "-o", "json"]).await?;
        let nodes = nodes::read(&json).map_err(failed(LOOK, "read the API server's answer"))?;
        let is_other = |node: &&Node| node.control_plane && node.name != self.plan.node_name;
        Ok(nodes.iter().filter(is_other).any(|node| version_of(node).ok() == Some(self.plan.version)))
    }

    /// Right after a restart its checks can fail, which change nothing: then once more.
    async fn kubeadm(&self, work: &[&str]) -> Result<(), Failure> {
        let kube = self.kube;
        let ignored = ignored(&self.plan.ignored_checks);
        let words = with(work, &ignored);
        let until = tokio::time::Instant::now() + CHECKS;
        self.began(UPGRADE, 1);
        loop {
            kube.may_go_on(UPGRADE)?;
            let (since, began) = (Instant::now(), kube.host().now());
            let said = kube.kubeadm(UPGRADE, &words, TIME).await?;
            if said.code == Some(0) {
                let summary = format!("kubeadm {}", work.join(" "));
                kube.made(UPGRADE, &summary, &format!("this node becomes {}", self.plan.version), since);
                return Ok(());
            }
            let mut failure = refused(UPGRADE, &Command::new(kubeadm(kube.host()), words.iter().copied()), &said);
            // As a unit its two streams come as one.
            let all = format!("{}{}", said.stdout, said.stderr);
            if !output::is_restless(&all) || tokio::time::Instant::now() > until {
                failure.message = causes::before(kube, failure.message, began).await;
                return Err(failure);
            }
            kube.cx.note(UPGRADE, &format!("waiting for the control plane: {}", failure.message));
            kube.pause(UPGRADE, Duration::from_secs(10)).await?;
        }
    }

    /// Marks the node as cordoned by us, if it is, and has its pods move away.
    pub(super) async fn empty(&self, node: &Node) -> Result<(), Failure> {
        let Self { kube, plan, kubeconfig, .. } = *self;
        kube.may_go_on(DRAIN)?;
        self.began(DRAIN, 1);
        if !node.unschedulable || node.upgrading {
            let mark = serde_json::json!({
                "metadata": { "annotations": { (nodes::UPGRADING): "true" } }, "spec": { "unschedulable": true },
            });
            self.patch(&mark).await?;
        }
        if !node.ready {
            kube.cx.warn(DRAIN, &drain::not_waited_for(&node.name));
            return Ok(());
        }
        drain::drain(kube, (kubeconfig, &plan.node_name), plan.drain, "was not upgraded").await
    }

    /// The node takes pods again, if nobody but us forbade it; after a failure only while it is well.
    pub(super) async fn give_back(&self, done: bool) -> Result<(), Failure> {
        let node = if done { Some(self.node().await?) } else { self.glance().await };
        let Some(node) = node.filter(|node| node.upgrading && (done || node.ready)) else { return Ok(()) };
        let since = Instant::now();
        let unmark = serde_json::json!({
            "metadata": { "annotations": { (nodes::UPGRADING): null } }, "spec": { "unschedulable": null },
        });
        // What went wrong before is what is to be told.
        match self.patch(&unmark).await {
            Err(error) if done => return Err(error),
            Err(error) => self.kube.cx.warn(UNCORDON, &format!("node {} stays cordoned: {}", node.name, error.message)),
            Ok(()) => self.kube.made(UNCORDON, &format!("uncordon {}", node.name), "it takes pods again", since),
        }
        Ok(())
    }

    /// The node, if the API server tells it at once.
    async fn glance(&self) -> Option<Node> {
        let ask = ["get", "node", &self.plan.node_name, "-o", "json"];
        let said = self.kube.kubectl(self.kubeconfig, &ask).await.ok()?;
        nodes::read_one(&said.stdout).ok()?
    }

    async fn patch(&self, patch: &serde_json::Value) -> Result<(), Failure> {
        let (name, patch) = (self.plan.node_name.as_str(), patch.to_string());
        let words = ["--kubeconfig", self.kubeconfig, CACHE, "patch", "node", name, "--patch", &patch];
        self.kube.must(DRAIN, &Command::new(self.kube.distribution.kubectl(self.kube.host()), words)).await.map(drop)
    }

    /// The new kubelet, and this node ready under it.
    async fn kubelet(&self) -> Result<(), Failure> {
        let Self { kube, plan, .. } = *self;
        self.began(PROGRAMS, 1);
        programs::bring(kube, PROGRAMS, &["kubelet", "kubectl"], plan.version).await?;
        let began = kube.host().now();
        kubelet::start(kube, READY, &format!("it is to be {}", plan.version)).await?;
        let until = tokio::time::Instant::now() + READY_TIME;
        let mut good = 0;
        loop {
            let node = self.node().await?;
            let is_new = version_of(&node)? == plan.version;
            good = if is_new && node.ready { good + 1 } else { 0 };
            if good == STEADY {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                let state =
                    if is_new { node.ready_message } else { format!("its kubelet is still {}", node.kubelet_version) };
                let message = format!(
                    "node {} is not ready as {} after {} s: {state}",
                    node.name,
                    plan.version,
                    READY_TIME.as_secs()
                );
                return Err(failure(READY, causes::before(kube, message, began).await));
            }
            kube.pause(READY, Duration::from_secs(1)).await?;
        }
    }
}

fn version_of(node: &Node) -> Result<Version, Failure> {
    node.kubelet_version.parse().map_err(failed(LOOK, "read the kubelet's version"))
}

const LOOK: &str = "look";
const PROGRAMS: &str = "packages";
const UPGRADE: &str = "upgrade";
const DRAIN: &str = "drain";
const UNCORDON: &str = "uncordon";
const READY: &str = "ready";
/// kubeadm gives each of four static pods five minutes, and pulls their images before.
const TIME: Duration = Duration::from_secs(2_400);
/// How long its checks may fail for want of a control plane that is at rest.
const CHECKS: Duration = Duration::from_secs(180);
const READY_TIME: Duration = Duration::from_secs(300);
/// A kubelet says that it is ready for a moment before it sees what it lacks.
const STEADY: u32 = 3;
