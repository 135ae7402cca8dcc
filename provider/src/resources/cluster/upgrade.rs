//! Another version of Kubernetes: node by node, in the order that Kubernetes wants, from wherever the cluster stands.
//!
//! Each node is upgraded by its own agent, drained, and ready again before the next ones begin. Nothing is kept on record: what the API
//! server says of the nodes decides who comes next, so an upgrade that was cut off, or stopped at a node, goes on with the next apply.
//! Plans look at nothing: a refresh notes for them how the nodes stand.

mod order;
mod road;

use super::control_planes;
use super::endpoint;
use super::fixed::Change;
use super::membership::{Crew, all};
use super::model::{Cluster, Member};
use crate::agents::{ClusterStatus, Error, Job, Upgrade};
use crate::context::Cx;
use crate::explain;
use futures_util::future::join_all;
pub(super) use order::{Rules, share};
use order::{Stand, batches, sick};
use semver::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tf::{Attr, Diagnostic, Diagnostics, PlanNotes, Private};
use tokio::time::Instant;

/// Members by node name.
type Members = BTreeMap<String, Member>;

/// Keeps for plans how the nodes of this configuration stand.
pub(super) fn note(private: &Private, m: &Cluster, cluster: &ClusterStatus) {
    private.set(NODES, &stands(m, cluster));
}

/// How the nodes of this configuration stand.
pub(super) fn stands(m: &Cluster, cluster: &ClusterStatus) -> Vec<Stand> {
    of_members(m, cluster.nodes.iter().map(Stand::of).collect())
}

fn of_members(m: &Cluster, mut stands: Vec<Stand>) -> Vec<Stand> {
    let is_member = |stand: &Stand| {
        let members = [&m.control_planes, &m.workers];
        members.into_iter().filter_map(Attr::get).any(|members| members.contains_key(&stand.name))
    };
    stands.retain(is_member);
    stands
}

/// What a node lacks to have the version of its cluster.
pub(super) fn lacks(node: &crate::agents::Node, version: &str) -> Option<String> {
    let stand = Stand::of(node);
    if stand.upgrading {
        return Some(format!("{}: its upgrade did not come to its end", stand.name));
    }
    let waits = Version::parse(version).is_ok_and(|version| stand.waits(&version));
    waits.then(|| format!("{}: its kubelet is {}, and the cluster is {version}", stand.name, stand.version))
}

/// Why the cluster, which is `from`, cannot have the version that is asked for; `None` if it can, or that is not known yet.
pub(super) fn refusal(from: &str, m: &Cluster, stands: &[Stand]) -> Option<Change> {
    let (from, to) = (Version::parse(from).ok()?, Version::parse(m.version.text()?).ok()?);
    let road::Refusal { why, next } = road::refusal(&from, &to, stands)?;
    Some(Change { what: format!("upgrade cluster {}", m.name.or("")), why, next, at: "version".into() })
}

/// Says in the plan what an upgrade will do, in which order.
pub(super) fn plan(prior: &Cluster, m: &mut Cluster, notes: &mut PlanNotes) {
    if m.version.is_unknown() || m.control_planes.is_unknown() || m.workers.is_unknown() {
        m.upgrade_steps = Attr::Unknown;
        return;
    }
    let Some(rules) = Rules::of(m) else {
        m.upgrade_steps = Attr::Unknown;
        return;
    };
    let stands = of_members(m, notes.private().get(NODES).unwrap_or_default());
    let from = prior.version.or("");
    if let Some(refusal) = refusal(&from, m, &stands) {
        notes.warn(refusal.warning());
        return;
    }
    let steps = steps(&from, &m.version.or(""), &stands, &rules);
    if !steps.is_empty() {
        m.upgrade_steps.set(steps);
    }
}

/// A line for the version, if it is another one, and one for the nodes that are upgraded together.
fn steps(from: &str, to: &str, stands: &[Stand], rules: &Rules) -> Vec<String> {
    let Ok(target) = Version::parse(to) else { return Vec::new() };
    let road = (from != to).then(|| format!("{from} → {to}"));
    let nodes = batches(stands, &target, rules).into_iter().map(|batch| batch.join(", "));
    road.into_iter().chain(nodes).collect()
}

/// The time that an upgrade of so many nodes may take, beside that of other changes.
pub(super) fn time(m: &Cluster) -> Duration {
    if m.upgrade_steps.or(Vec::new()).is_empty() {
        return Duration::ZERO;
    }
    let members: usize = [&m.control_planes, &m.workers].into_iter().filter_map(Attr::get).map(BTreeMap::len).sum();
    EACH * u32::try_from(members).unwrap_or(u32::MAX)
}

impl Crew<'_> {
    /// Brings every node that is older to the version of the cluster; stops at the first that does not become well.
    pub(super) async fn upgrade(&self, m: &Cluster) -> Result<(), Diagnostics> {
        let (Ok(target), Some(rules)) = (Version::parse(&self.version), Rules::of(m)) else { return Ok(()) };
        let members: Members = [&m.control_planes, &m.workers]
            .into_iter()
            .filter_map(Attr::get)
            .flatten()
            .map(|(name, member)| (name.clone(), member.clone()))
            .collect();
        let mut done = BTreeSet::new();
        loop {
            let waiting = self.waiting(m, (&target, &rules), &done).await?;
            let Some(batch) = waiting.first() else { return Ok(()) };
            if done.is_empty() {
                self.may_all(&members, &waiting.concat()).await?;
            }
            let left: usize = waiting.iter().map(Vec::len).sum();
            (self.wait.progress)(&format!("upgrading {} to {target}; {left} nodes are left", batch.join(", ")));
            all(join_all(batch.iter().map(|name| self.upgrade_one(&members, name, false))).await)?;
            done.extend(batch.iter().cloned());
        }
    }

    /// Nodes that are to be upgraded, in order, once no other is unwell: one may be for a moment after its API server was away.
    async fn waiting(
        &self,
        m: &Cluster,
        (target, rules): (&Version, &Rules),
        done: &BTreeSet<String>,
    ) -> Result<Vec<Vec<String>>, Diagnostics> {
        let act = format!("upgrade cluster {}", m.name.or(""));
        let since = Instant::now();
        loop {
            let asked = control_planes::ask(self.cx, &self.planes, &self.wait.until()).await;
            // Whichever of them is not at work just now: the others tell.
            let well = control_planes::well(&asked, &self.cluster_id, None);
            let stands = well.as_ref().map(|through| stands(m, &through.status)).unwrap_or_default();
            let batches = batches(&stands, target, rules);
            let next = batches.first().cloned().unwrap_or_default();
            let (why, patience) = if well.is_none() {
                (control_planes::silence(&asked, &self.cluster_id), AWAY)
            } else if let Some(again) = next.iter().find(|name| done.contains(*name)) {
                (format!("Node {again} was upgraded, and the API server does not say so."), UNWELL)
            } else if let (Some(node), false) = (sick(&stands, &next), next.is_empty()) {
                (format!("Node {} is not ready: {}", node.name, node.ready_message), UNWELL)
            } else {
                return Ok(batches);
            };
            if self.wait.stop.is_cancelled() {
                return Err(explain::agent(&act, &Error::Stopped).into());
            }
            if Instant::now() > self.wait.deadline.min(since + patience) {
                return Err(stopped(&act, why, done).into());
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    /// Asks every machine before the first one is touched whether it could be upgraded.
    async fn may_all(&self, members: &Members, names: &[String]) -> Result<(), Diagnostics> {
        all(join_all(names.iter().map(|name| self.upgrade_one(members, name, true))).await).map(drop)
    }

    async fn upgrade_one(&self, members: &Members, name: &str, only_check: bool) -> Result<(), Diagnostic> {
        let member = members.get(name).ok_or_else(|| Diagnostic::bug("a node that is no member is upgraded"))?;
        let job = Job::Upgrade(Upgrade {
            version: self.version.clone(),
            node_name: name.to_owned(),
            cluster_id: self.cluster_id.clone(),
            drain: self.drain,
            ignore_preflight_errors: self.kubeadm.ignore_preflight_errors.clone(),
            only_check,
        });
        let report = self.cx.agents.run(&endpoint(member)?, &job, self.wait).await;
        let report =
            report.map_err(|error| explain::upgrading(&format!("upgrade node {name}"), &error, "drain_timeout"))?;
        self.noted(&format!("node {name}"), &report);
        Ok(())
    }
}

/// Another apply begins where this one ends.
fn stopped(act: &str, why: String, done: &BTreeSet<String>) -> Diagnostic {
    let names: Vec<&str> = done.iter().map(String::as_str).collect();
    let holds = match names.is_empty() {
        true => "No node was upgraded.".to_owned(),
        false => format!("Upgraded were {}. No other node was touched.", names.join(", ")),
    };
    Diagnostic::error(format!("Cannot {act}"))
        .happened(why)
        .holds(holds)
        .next("Get it well again, or take the node out of the configuration, and apply again: the upgrade goes on where it stands.")
}

/// The warning for machines whose specification and whose cluster ask for different versions; `declared` is by node.
pub(super) fn told_apart(version: &str, declared: &BTreeMap<String, String>) -> Option<Diagnostic> {
    let differs = |(_, own): &(&String, &String)| !own.is_empty() && *own != version;
    let lines: Vec<String> = declared.iter().filter(differs).map(|(name, own)| format!("{name} {own}")).collect();
    (!lines.is_empty()).then(|| {
        Diagnostic::warning("Machines declare another version of Kubernetes than their cluster has")
            .happened(format!("By `kubernetes.version`: {}. The cluster has {version}.", lines.join(", ")))
            .holds("The cluster's version counts: on a node, `groundwork_machine` adds the package repository and installs nothing of Kubernetes.")
            .next("Give `version` of the cluster and `kubernetes.version` of its machines one value; the cluster's upgrades the nodes.")
            .at("version")
    })
}

/// The warning for kubelets that are newer than their API server.
pub(super) fn ahead(cx: &Cx, version: &str, nodes: &[crate::agents::Node]) {
    let Ok(version) = Version::parse(version) else { return };
    let newer = |node: &&crate::agents::Node| {
        Version::parse(&Stand::of(node).version)
            .is_ok_and(|own| (own.major, own.minor) > (version.major, version.minor))
    };
    for node in nodes.iter().filter(newer) {
        cx.warn(
            Diagnostic::warning(format!("Node {} is newer than its cluster", node.name))
                .happened(format!("Its kubelet is {}, and the API server {version}.", Stand::of(node).version))
                .holds("Kubernetes does not allow for it, and nothing is made older here.")
                .next(format!("Set `version` to the node's, or take the node out and join it again with {version}.")),
        );
    }
}

/// What a refresh leaves for plans.
const NODES: &str = "nodes";
/// An etcd that is restarted takes its API server with it, for a minute or so.
pub(super) const AWAY: Duration = Duration::from_secs(300);
/// After that a node counts as unwell for a moment.
const UNWELL: Duration = Duration::from_secs(90);
/// For one node: images, drain and kubelet.
const EACH: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests;
