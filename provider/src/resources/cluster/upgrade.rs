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
pub(super) use road::rank;
use road::{Stop, spelled, stops};
use semver::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tf::{Attr, Diagnostic, Diagnostics, PlanNotes, Private};
use tokio::time::Instant;
use trust::Role;

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
    let waits = read(version).is_some_and(|version| stand.waits(&version));
    waits.then(|| format!("{}: its kubelet is {}, and the cluster is {version}", stand.name, stand.version))
}

/// Why the cluster, which is `from`, cannot have the version that is asked for; `None` if it can, or that is not known yet.
pub(super) fn refusal(from: &str, m: &Cluster) -> Option<Change> {
    let (from, to) = (read(from)?, read(m.version.text()?)?);
    let road::Refusal { why, next } = road::refusal(&from, &to)?;
    Some(Change { what: format!("upgrade cluster {}", m.name.or("")), why, next, at: "version".into() })
}

/// A version as Kubernetes, K3s or RKE2 spells it.
fn read(version: &str) -> Option<Version> {
    Version::parse(super::bare(version).as_str()).ok()
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
    if let Some(refusal) = refusal(&from, m) {
        notes.warn(refusal.warning());
        return;
    }
    let steps = steps(&from, &m.version.or(""), &stands, &rules);
    if !steps.is_empty() {
        m.upgrade_steps.set(steps);
    }
}

/// A line for each version that the cluster comes to, and one for the nodes that are upgraded together.
fn steps(from: &str, to: &str, stands: &[Stand], rules: &Rules) -> Vec<String> {
    let (Some(live), Some(target)) = (read(from), read(to)) else { return Vec::new() };
    let (mut stands, mut at, mut lines) = (stands.to_vec(), from.to_owned(), Vec::new());
    for stop in stops(&live, &target, &stands) {
        let next = stop.to_string();
        lines.extend((next != at).then(|| format!("{at}{ROAD}{next}")));
        lines.extend(batches(&stands, &stop.most(), rules).into_iter().map(|batch| batch.join(", ")));
        stands = arrived(stands, &stop.most());
        at = next;
    }
    lines
}

/// How nodes stand when all of them have come to a version.
fn arrived(stands: Vec<Stand>, version: &Version) -> Vec<Stand> {
    let come = |stand: Stand| match stand.waits(version) {
        true => Stand { version: version.to_string(), ready: true, upgrading: false, ..stand },
        false => stand,
    };
    stands.into_iter().map(come).collect()
}

/// The time that an upgrade of so many nodes may take, beside that of other changes.
pub(super) fn time(m: &Cluster) -> Duration {
    let steps = m.upgrade_steps.or(Vec::new());
    if steps.is_empty() {
        return Duration::ZERO;
    }
    let members: usize = [&m.control_planes, &m.workers].into_iter().filter_map(Attr::get).map(BTreeMap::len).sum();
    let versions = steps.iter().filter(|line| line.contains(ROAD)).count().max(1);
    EACH * u32::try_from(members * versions).unwrap_or(u32::MAX)
}

impl Crew<'_> {
    /// Brings every node that is older to the version of the cluster, by way of all minor versions before it; stops at the first that does
    /// not become well.
    pub(super) async fn upgrade(&self, m: &Cluster, live: &str) -> Result<(), Diagnostics> {
        let (Some(live), Some(target)) = (read(live), read(&self.version)) else { return Ok(()) };
        let Some(rules) = Rules::of(m) else { return Ok(()) };
        let members: Members = [&m.control_planes, &m.workers]
            .into_iter()
            .filter_map(Attr::get)
            .flatten()
            .map(|(name, member)| (name.clone(), member.clone()))
            .collect();
        let mut stands = stands(m, &self.through(None, AWAY).await?.status);
        // Nothing is begun whose end is not in sight: every machine has every version on the way.
        let (mut versions, mut after) = (Vec::new(), String::new());
        for stop in stops(&live, &target, &stands) {
            let version = self.version_of(&stop).await?;
            if versions.is_empty() {
                self.waiting(m, (&version, &rules), &BTreeSet::new()).await?;
            }
            let names = batches(&stands, &version, &rules).concat();
            let check = |name: &str| Step { version: &version, after: Some(after.clone()), name: name.to_owned() };
            let checks: Vec<Step<'_>> = names.iter().map(|name| check(name)).collect();
            all(join_all(checks.iter().map(|step| self.upgrade_one(&members, step))).await)?;
            stands = arrived(stands, &version);
            after = version.to_string();
            versions.push(version);
        }
        for version in &versions {
            self.upgrade_to(version, m, (&members, &rules)).await?;
        }
        Ok(())
    }

    /// The version of a stop, as the machines' package repositories have it.
    async fn version_of(&self, stop: &Stop) -> Result<Version, Diagnostic> {
        let minor = match stop {
            Stop::Exactly(version) => return Ok(version.clone()),
            Stop::Newest { .. } => stop.to_string(),
        };
        let through = self.through(None, AWAY).await?;
        let ask = async {
            self.cx
                .agents
                .connect(&through.endpoint, Role::Operator, &self.wait.until())
                .await?
                .upgrade_offer(&minor)
                .await
        };
        let act = format!("upgrade cluster {}", self.name);
        let newest = ask.await.map_err(|error| explain::agent(&act, &error))?;
        newest.and_then(|version| Version::parse(&version).ok()).ok_or_else(|| {
            Diagnostic::error(format!("Cannot {act}"))
                .happened(format!(
                    "It passes through {minor} on its way to {}, and the package repositories of {} offer no Kubernetes {minor}.",
                    self.version, through.name
                ))
                .holds("Nothing was changed.")
                .next(format!(
                    "Set `kubernetes.version` of the machines to {}: the repository of {minor} is then looked for where theirs is, with v{minor} in its \
                     address. If yours has none, set `version` to one of {minor} that you have, and apply.",
                    self.version
                ))
                .at("version")
        })
    }

    /// Brings every node that is older to one version.
    async fn upgrade_to(
        &self,
        version: &Version,
        m: &Cluster,
        (members, rules): (&Members, &Rules),
    ) -> Result<(), Diagnostics> {
        let mut done = BTreeSet::new();
        loop {
            let waiting = self.waiting(m, (version, rules), &done).await?;
            let Some(batch) = waiting.first() else { return Ok(()) };
            let left: usize = waiting.iter().map(Vec::len).sum();
            (self.wait.progress)(&format!(
                "upgrading {} to {}; {left} nodes are left",
                batch.join(", "),
                spelled(version)
            ));
            let steps: Vec<Step<'_>> =
                batch.iter().map(|name| Step { version, after: None, name: name.clone() }).collect();
            all(join_all(steps.iter().map(|step| self.upgrade_one(members, step))).await)?;
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
                return Err(stopped(&act, why, target, done).into());
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    async fn upgrade_one(&self, members: &Members, step: &Step<'_>) -> Result<(), Diagnostic> {
        let Step { version, after, name } = step;
        let member = members.get(name).ok_or_else(|| Diagnostic::bug("a node that is no member is upgraded"))?;
        let job = Job::Upgrade(Upgrade {
            version: spelled(version),
            node_name: name.clone(),
            cluster_id: self.cluster_id.clone(),
            drain: self.drain,
            ignore_preflight_errors: self.kubeadm.ignore_preflight_errors.clone(),
            only_check: after.is_some(),
            k3s: self.k3s.clone(),
            after: after.clone().unwrap_or_default(),
        });
        let report = self.cx.agents.run(&endpoint(member)?, &job, self.wait).await;
        let report =
            report.map_err(|error| explain::upgrading(&format!("upgrade node {name}"), &error, "drain_timeout"))?;
        self.noted(&format!("node {name}"), &report);
        Ok(())
    }
}

/// A node that is to have a version.
struct Step<'a> {
    version: &'a Version,
    /// Only whether it could, when the cluster has this version by then; empty: the one it has.
    after: Option<String>,
    name: String,
}

/// Another apply begins where this one ends.
fn stopped(act: &str, why: String, version: &Version, done: &BTreeSet<String>) -> Diagnostic {
    let names: Vec<&str> = done.iter().map(String::as_str).collect();
    let version = spelled(version);
    let holds = match names.is_empty() {
        true => format!("No node was upgraded to {version}."),
        false => format!("Upgraded to {version} were {}. No other node was.", names.join(", ")),
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
    let Some(version) = read(version) else { return };
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

/// Between two versions of a plan.
const ROAD: &str = " → ";
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
