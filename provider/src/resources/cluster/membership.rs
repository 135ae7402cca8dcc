//! Who is in a cluster: joining, settings of nodes, removing and resetting. What is different is found in `look`.

use super::control_planes::{self, Plane, Through};
use super::look::has_settings;
use super::model::{Cluster, Member};
use super::{address, endpoint};
use crate::agents::{
    ClusterStatus, ControlPlaneJoin, Endpoint, Error, Job, Join, JoinMaterial, Joiner, K3s, KubeVip, Kubeadm, Node,
    NodeSettings, Report, Standing, Until, Wait,
};
use crate::context::Cx;
use crate::explain;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tf::{Diagnostic, Diagnostics, Path};
use tokio::time::Instant;
use trust::Role;

/// Nodes by name.
pub(super) type Members = BTreeMap<String, Member>;

/// What every change of members needs.
pub(super) struct Crew<'a> {
    pub(super) cx: &'a Cx,
    /// Name of the cluster.
    pub(super) name: String,
    /// Control planes of the state and the configuration; some may not be there any more, or not yet.
    pub(super) planes: Vec<Plane>,
    pub(super) version: String,
    pub(super) kubeadm: Kubeadm,
    /// Where K3s or a relative comes from, in a cluster of it.
    pub(super) k3s: Option<K3s>,
    /// How long the pods of a node may take to leave.
    pub(super) drain: Duration,
    /// Pin of the cluster's CA; empty while it is not known.
    pub(super) cluster_id: String,
    /// Where the API server is, if the configuration says it by an address.
    pub(super) api: Option<IpAddr>,
    /// What its nodes reach without a proxy.
    pub(super) near: Vec<String>,
    /// The virtual address of the control planes.
    pub(super) kube_vip: Option<KubeVip>,
    pub(super) wait: &'a Wait<'a>,
}

impl<'a> Crew<'a> {
    /// As the first of these says, with the control planes that all of them know.
    pub(super) fn of(cx: &'a Cx, models: &[&Cluster], wait: &'a Wait<'a>) -> Result<Self, Diagnostic> {
        let m = models.first().ok_or_else(|| Diagnostic::bug("a cluster is changed that nobody describes"))?;
        Ok(Self {
            cx,
            name: m.name.or(""),
            planes: control_planes::known(models)?,
            version: m.version.or(""),
            kubeadm: super::to_kubeadm(m),
            k3s: super::k3s::release(m),
            drain: super::drain(m),
            cluster_id: m.ca_fingerprint.or(""),
            api: address::of_api(m),
            near: super::networks::near(m),
            kube_vip: super::vip::of(m),
            wait,
        })
    }
}

impl Crew<'_> {
    /// Joins all workers at once; those that are in already lose a moment. Reports every failure.
    pub(super) async fn join(&self, workers: &Members) -> Result<(), Diagnostics> {
        let through = self.through(None, ANSWERING).await?;
        let joins = workers.iter().map(async |(name, member)| {
            let joined = self.join_one(name, member, &through).await?;
            Ok(joined.then_some(name.as_str()))
        });
        let joined: Vec<&str> = all(join_all(joins).await)?.into_iter().flatten().collect();
        self.settle(workers).await?;
        self.ready(&joined, &through.status).await;
        Ok(())
    }

    /// A control plane that is well, and not of this name; they are asked again for so long.
    pub(super) async fn through(&self, without: Option<&str>, patience: Duration) -> Result<Through, Diagnostic> {
        let act = format!("change cluster {}", self.name);
        let until = self.wait.deadline.min(Instant::now() + patience);
        loop {
            let asked = control_planes::ask(self.cx, &self.planes, &self.wait.until()).await;
            if let Some(through) = control_planes::well(&asked, &self.cluster_id, without) {
                return Ok(through);
            }
            if self.wait.stop.is_cancelled() {
                return Err(explain::agent(&act, &Error::Stopped));
            }
            if Instant::now() > until {
                let others: Vec<_> = asked.into_iter().filter(|one| without != Some(one.plane.name.as_str())).collect();
                return Err(control_planes::nobody(&act, &others, &self.cluster_id));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Gives new nodes a moment to become ready, if there is a pod network that lets them: the cluster had ready nodes `before`.
    pub(super) async fn ready(&self, joined: &[&str], before: &ClusterStatus) {
        if joined.is_empty() || !before.nodes.iter().any(|node| node.ready) {
            return;
        }
        let until = self.wait.deadline.min(Instant::now() + MOMENT);
        loop {
            // Who is still not ready then is told when the cluster is read back.
            let Ok(now) = self.through(None, Duration::ZERO).await else { return };
            let waits = |node: &&Node| !node.ready && joined.contains(&node.name.as_str());
            let Some(node) = now.status.nodes.iter().find(waits) else { return };
            if Instant::now() > until || self.wait.stop.is_cancelled() {
                return;
            }
            (self.wait.progress)(&format!("waiting for node {} to become ready", node.name));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub(super) async fn status(&self, machine: &Endpoint) -> Result<ClusterStatus, Error> {
        self.cx.agents.connect(machine, Role::Observer, &self.wait.until()).await?.cluster_status().await
    }

    /// Whether it had to be joined.
    async fn join_one(&self, name: &str, member: &Member, through: &Through) -> Result<bool, Diagnostic> {
        let machine = endpoint(member)?;
        // No token is minted for a node that needs none.
        if self.status(&machine).await.is_ok_and(|machine| is_in(name, &machine, &through.status)) {
            return Ok(false);
        }
        self.enter((name, member), through, None).await?;
        Ok(true)
    }

    /// Joins a machine, with what the control plane in `through` mints for it.
    pub(super) async fn enter(
        &self,
        (name, member): (&str, &Member),
        through: &Through,
        control_plane: Option<ControlPlaneJoin>,
    ) -> Result<(), Diagnostic> {
        let machine = endpoint(member)?;
        let (act, joiner, attribute) = match control_plane {
            None => (format!("join node {name}"), Joiner::Worker, "workers"),
            Some(_) => (format!("join control plane {name}"), Joiner::ControlPlane, "control_planes"),
        };
        let explained = |error: Error| explain::agent(&act, &error);
        let look =
            async { self.cx.agents.connect(&machine, Role::Observer, &self.wait.until()).await?.describe().await };
        let own = look.await.map_err(explained)?.addresses;
        let node_ip = address::of_node(member, &machine, (self.api, &own), &Path::from(attribute).key(name))?;
        let mut agent =
            self.cx.agents.connect(&through.endpoint, Role::Operator, &self.wait.until()).await.map_err(explained)?;
        let material = agent.join_material(joiner).await.map_err(explained)?;
        let (version, node_name, kubeadm) = (self.version.clone(), name.to_owned(), self.kubeadm.clone());
        let (near, k3s) = (self.near.clone(), self.k3s.clone());
        let join = Join { version, node_name, node_ip, near, material: material.clone(), kubeadm, k3s, control_plane };
        let joined = self.cx.agents.run(&machine, &Job::Join(Box::new(join)), self.wait).await;
        if let Err(error) = self.forget(through, &material).await {
            tracing::warn!(
                node = name,
                error = &error as &dyn std::error::Error,
                "what was made for the join is left to expire"
            );
        }
        self.noted(&format!("node {name}"), &joined.map_err(explained)?);
        Ok(())
    }

    pub(super) fn noted(&self, subject: &str, report: &Report) {
        report.warnings.iter().for_each(|line| self.cx.warn(explain::noted(subject, line)));
    }

    /// The machine has no use any more for what was made for it, nor has whoever broke into it.
    async fn forget(&self, through: &Through, material: &JoinMaterial) -> Result<(), Error> {
        self.cx.agents.connect(&through.endpoint, Role::Operator, &Until::grace()).await?.join_ended(material).await
    }

    /// Sets the labels and taints that members ask for and have not, one after the other: the control plane's agent does one thing at a time.
    pub(super) async fn settle(&self, members: &Members) -> Result<(), Diagnostics> {
        let asks =
            |member: &Member| !member.labels.or(BTreeMap::new()).is_empty() || !member.taints.or(Vec::new()).is_empty();
        if !members.values().any(asks) {
            return Ok(());
        }
        let nodes = self.through(None, ANSWERING).await?.status.nodes;
        let lacks =
            |name: &str, member: &Member| !nodes.iter().any(|node| node.name == name && has_settings(member, node));
        for (name, member) in members.iter().filter(|(name, member)| asks(member) && lacks(name, member)) {
            let (labels, taints) = (member.labels.or(BTreeMap::new()), member.taints.or(Vec::new()));
            self.set(NodeSettings { node_name: name.clone(), labels, taints, ..NodeSettings::default() }).await?;
        }
        Ok(())
    }

    /// Takes away labels and taints that were asked for before and are not any more.
    pub(super) async fn forget_settings(&self, before: &Members, after: &Members) -> Result<(), Diagnostics> {
        for (name, member) in after {
            let Some(old) = before.get(name) else { continue };
            let wanted = (member.labels.or(BTreeMap::new()), member.taints.or(Vec::new()));
            let labels = old.labels.or(BTreeMap::new()).into_keys().filter(|key| !wanted.0.contains_key(key));
            let taints = old.taints.or(Vec::new()).into_iter().filter(|taint| !wanted.1.contains(taint));
            let (remove_labels, remove_taints): (Vec<_>, Vec<_>) = (labels.collect(), taints.collect());
            if remove_labels.is_empty() && remove_taints.is_empty() {
                continue;
            }
            let node_name = name.clone();
            self.set(NodeSettings { node_name, remove_labels, remove_taints, ..NodeSettings::default() }).await?;
        }
        Ok(())
    }

    async fn set(&self, settings: NodeSettings) -> Result<(), Diagnostics> {
        let act = format!("set labels and taints of node {}", settings.node_name);
        let through = self.through(None, ANSWERING).await?;
        let done = self.cx.agents.run(&through.endpoint, &Job::NodeSet(settings), self.wait).await;
        done.map(drop).map_err(|error| explain::agent(&act, &error).into())
    }

    /// Drains, deletes and resets the workers that are in `before` and not, or on another machine, in `after`.
    pub(super) async fn remove(&self, before: &Members, after: &Members) -> Result<(), Diagnostics> {
        for (name, member) in before {
            if !stays(name, member, after) && !self.has_joined(name, after).await? {
                let through = self.through(None, ANSWERING).await?;
                let parting = self.parting(name, member, &through.status).await?;
                self.part((name, member), parting, &through).await?;
            }
        }
        Ok(())
    }

    /// Whether the machine that is to have this name has it already: an apply that failed, or was killed, has taken out the one before.
    async fn has_joined(&self, name: &str, after: &Members) -> Result<bool, Diagnostic> {
        let Some(machine) = after.get(name).map(endpoint).transpose()? else { return Ok(false) };
        let Ok(own) = self.own(&machine).await else { return Ok(false) };
        Ok(is_in(name, &own, &self.through(None, ANSWERING).await?.status))
    }

    /// What a machine says of itself. A join whose provider was killed goes on by itself, and is waited for.
    pub(super) async fn own(&self, machine: &Endpoint) -> Result<ClusterStatus, Error> {
        self.cx.agents.settled(machine, self.wait).await?;
        self.status(machine).await
    }

    /// How a node that is to leave stands to it.
    pub(super) async fn parting(
        &self,
        name: &str,
        member: &Member,
        cluster: &ClusterStatus,
    ) -> Result<Parting, Diagnostic> {
        if cluster.nodes.iter().any(|node| node.name == name && node.leaving) {
            return Ok(Parting::Left);
        }
        let reached = self.cx.agents.reach(&endpoint(member)?, Role::Observer, self.wait, PATIENCE).await;
        let gone = gone(reached).map_err(|error| explain::leaving(&removing(name), &error, "drain_timeout"))?;
        Ok(gone.map_or(Parting::Alive, Parting::Gone))
    }

    /// Takes a node out of the cluster: drained if it lives, its member out of etcd if it has one, deleted, and its machine reset.
    pub(super) async fn part(
        &self,
        (name, member): (&str, &Member),
        parting: Parting,
        through: &Through,
    ) -> Result<(), Diagnostic> {
        let drain = matches!(parting, Parting::Alive).then_some(self.drain);
        self.delete(name, drain, through).await?;
        match parting {
            // Its pods were evicted and its machine reset when that was destroyed.
            Parting::Left => Ok(()),
            Parting::Alive => self.reset(name, &endpoint(member)?).await,
            Parting::Gone(error) => {
                self.cx.warn(not_reset(name, &error));
                Ok(())
            }
        }
    }

    /// Has a control plane take a node out; without a time its pods are not waited for.
    pub(super) async fn delete(
        &self,
        name: &str,
        drain: Option<Duration>,
        through: &Through,
    ) -> Result<(), Diagnostic> {
        let job = Job::NodeRemove { node_name: name.to_owned(), drain };
        let report = self.cx.agents.run(&through.endpoint, &job, self.wait).await;
        let report = report.map_err(|error| explain::leaving(&removing(name), &error, "drain_timeout"))?;
        self.noted(&format!("node {name}"), &report);
        Ok(())
    }

    /// Resets a machine, unless its agent says that what stands there is not of this cluster.
    pub(super) async fn reset(&self, name: &str, machine: &Endpoint) -> Result<(), Diagnostic> {
        let job = Job::Reset { cluster_id: self.cluster_id.clone() };
        match self.cx.agents.run(machine, &job, self.wait).await {
            Ok(report) => {
                self.noted(&format!("node {name}"), &report);
                Ok(())
            }
            Err(Error::Run { failure, .. }) if failure.is_foreign() => {
                self.cx.warn(left_alone(name, &failure.message));
                Ok(())
            }
            Err(error) => Err(explain::agent(&format!("reset node {name}"), &error)),
        }
    }

    /// Resets every machine: workers at once, then the control planes one after the other, so that each can leave etcd.
    pub(super) async fn reset_all(&self, m: &Cluster) -> Result<(), Diagnostics> {
        let workers = m.workers.or(BTreeMap::new());
        all(join_all(workers.iter().map(|(name, member)| self.reset_reachable(name, member))).await)?;
        let control_planes = m.control_planes.or(BTreeMap::new());
        if let [Plane { name, endpoint }] = self.planes.as_slice() {
            return self.reset(name, endpoint).await.map_err(Into::into);
        }
        for (name, member) in &control_planes {
            self.reset_reachable(name, member).await?;
        }
        Ok(())
    }

    async fn reset_reachable(&self, name: &str, member: &Member) -> Result<(), Diagnostic> {
        let machine = endpoint(member)?;
        match self.cx.agents.reach(&machine, Role::Observer, self.wait, PATIENCE).await {
            Err(Error::Stopped) => Err(explain::agent(&format!("reset node {name}"), &Error::Stopped)),
            Err(error) if error.is_unreachable() => {
                self.cx.warn(not_reset(name, &error));
                Ok(())
            }
            Ok(_) | Err(_) => self.reset(name, &machine).await,
        }
    }
}

/// How a node that is to leave stands to it.
pub(super) enum Parting {
    /// It left in order when its machine was destroyed.
    Left,
    /// Its machine answers.
    Alive,
    /// Its machine cannot be asked any more.
    Gone(Error),
}

fn removing(name: &str) -> String {
    format!("remove node {name}")
}

/// Whether a member is the same machine in `after`, under the same name.
pub(super) fn stays(name: &str, member: &Member, after: &Members) -> bool {
    after.get(name).is_some_and(|new| same_machine(new, member))
}

/// Why a machine cannot take part in its removal any more. Any other failure may leave a kubelet at work, whose node is not to be
/// deleted under it.
fn gone<T>(reached: Result<T, Error>) -> Result<Option<Error>, Error> {
    match reached {
        Ok(_) => Ok(None),
        // Another machine at its address: the one before it was replaced.
        Err(error) if error.is_unreachable() || matches!(error, Error::OtherKey { .. }) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// Whether a machine is the node of this name in the cluster, by what both say.
fn is_in(name: &str, machine: &ClusterStatus, cluster: &ClusterStatus) -> bool {
    let ClusterStatus { standing, cluster_id, node_name, .. } = machine;
    let same = !cluster_id.is_empty() && *cluster_id == cluster.cluster_id && node_name == name;
    *standing == Standing::Worker && same && machine.kubelet_down().is_none() && was_in(cluster, name)
}

pub(super) fn was_in(cluster: &ClusterStatus, name: &str) -> bool {
    cluster.nodes.iter().any(|node| node.name == name)
}

/// An API server that is restarted is back by then.
pub(super) const ANSWERING: Duration = Duration::from_secs(30);
/// What a node of a cluster with a pod network takes at most from joining to being ready, small images pulled.
const MOMENT: Duration = Duration::from_secs(60);
/// How long a machine may give no answer before it counts as gone: its agent, or the network, may be restarting.
const PATIENCE: Duration = Duration::from_secs(60);

/// By the key of its agent.
pub(super) fn same_machine(one: &Member, other: &Member) -> bool {
    let key = |member: &Member| member.endpoint.get().and_then(|endpoint| endpoint.fingerprint.cloned());
    key(one) == key(other)
}

fn not_reset(name: &str, error: &Error) -> Diagnostic {
    Diagnostic::warning(format!("Node {name} was removed, but its machine was not reset"))
        .happened(format!("Its agent gives no answer: {}.", tf::chain(error)))
        .holds("Its kubelet keeps the cluster's credentials: if it starts while the cluster lives, the node comes back by itself.")
        .next("If the machine comes back, run `kubeadm reset` on it or replace its VM.")
}

fn left_alone(name: &str, why: &str) -> Diagnostic {
    Diagnostic::warning(format!("The machine of node {name} was not reset"))
        .happened(format!("It is not a machine of this cluster: {why}."))
        .holds("Nothing was changed on it.")
        .next("If it is to be used here, run `kubeadm reset` on it or replace its VM.")
}

/// What came of work that was done side by side, or all its failures.
pub(super) fn all<T>(results: Vec<Result<T, Diagnostic>>) -> Result<Vec<T>, Diagnostics> {
    let (mut done, mut failures) = (Vec::new(), Diagnostics::new());
    for result in results {
        match result {
            Ok(one) => done.push(one),
            Err(failure) => failures.push(failure),
        }
    }
    failures.or(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_without_an_answer_or_in_whose_place_another_stands_is_gone() {
        let address = || "192.0.2.11:7443".to_owned();
        let key = || trust::Pin::of(b"");
        let no_answer = Error::Unreachable { address: address(), why: String::new() };
        let replaced = Error::OtherKey { address: address(), expected: key(), found: key() };
        for error in [no_answer, replaced] {
            assert!(matches!(gone::<()>(Err(error)), Ok(Some(_))));
        }
        let busy = Error::Busy { address: address(), run_id: String::new() };
        for error in [Error::NoAuthority, Error::Clock { address: address() }, busy, Error::Stopped] {
            assert!(gone::<()>(Err(error)).is_err());
        }
        assert!(matches!(gone(Ok(())), Ok(None)));
    }

    #[test]
    fn a_token_is_minted_only_for_a_machine_that_is_not_in() {
        let machine = ClusterStatus {
            standing: Standing::Worker,
            cluster_id: "sha256:00".to_owned(),
            node_name: "worker-1".to_owned(),
            ..ClusterStatus::default()
        };
        let node = Node { name: "worker-1".to_owned(), ..Node::default() };
        let cluster = ClusterStatus { nodes: vec![node], ..machine.clone() };
        assert!(is_in("worker-1", &machine, &cluster));
        assert!(!is_in("worker-2", &machine, &cluster), "another name");
        let empty = ClusterStatus { nodes: Vec::new(), ..cluster.clone() };
        assert!(!is_in("worker-1", &machine, &empty), "its node was deleted");
        for standing in [Standing::Clean, Standing::Partial, Standing::ControlPlane] {
            assert!(!is_in("worker-1", &ClusterStatus { standing, ..machine.clone() }, &cluster), "{standing:?}");
        }
        let dead = ClusterStatus { kubelet: "failed".to_owned(), ..machine.clone() };
        assert!(!is_in("worker-1", &dead, &cluster), "its kubelet is to be started");
        let other = ClusterStatus { cluster_id: "sha256:01".to_owned(), ..machine };
        assert!(!is_in("worker-1", &other, &cluster), "another cluster");
    }
}
