//! A cluster that others than kubeadm and its packages had a hand in, such as Kubespray: what this provider cannot do for it, said in the plan
//! and refused by the apply before anything is done. Half of it would come to pass, and the rest never.
//!
//! Plans look at nothing: a refresh notes for them what the machines say of themselves, and their agents refuse besides.

use super::configuration::fragment;
use super::fixed::Change;
use super::look::Machines;
use super::membership::Members;
use super::model::Cluster;
use crate::agents::Foreign;
use crate::agents::overlay::Part;
use std::collections::BTreeMap;
use tf::{Attr, Path, Private};

/// By the name of their node: those of whom there is anything to say.
type Nodes = BTreeMap<String, Foreign>;

/// Keeps for plans what the machines say.
pub(super) fn note(private: &Private, machines: &Machines) {
    let told = machines.iter().filter(|(_, machine)| *machine.foreign != Foreign::default());
    let mut nodes: Nodes = told.map(|(name, machine)| (name.clone(), (*machine.foreign).clone())).collect();
    // Of one that gives no answer just now counts what it said before.
    let before: Nodes = private.get(NODES).unwrap_or_default();
    nodes.extend(before.into_iter().filter(|(name, _)| !machines.contains_key(name)));
    if nodes.is_empty() { private.remove(NODES) } else { private.set(NODES, &nodes) }
}

/// What `m` asks for and such a cluster cannot be given. What is not known yet is asked again later.
pub(super) fn changes(private: &Private, prior: &Cluster, m: &Cluster) -> Vec<Change> {
    let nodes: Nodes = private.get(NODES).unwrap_or_default();
    let others = [another_version(&nodes, prior, m), other_kubelets(&nodes, prior, m)].into_iter().flatten();
    others.chain(more_nodes(&nodes, prior, m)).chain(of_etcd(&nodes, prior, m)).collect()
}

/// Why such a cluster is not destroyed: the data of its etcd would go with it, and the etcd not.
pub(super) fn stays(private: &Private, prior: &Cluster) -> Option<Change> {
    let nodes: Nodes = private.get(NODES).unwrap_or_default();
    let with_member = nodes.iter().filter(|(_, foreign)| foreign.member).map(|(name, _)| name.as_str());
    let names: Vec<&str> = with_member.collect();
    (!names.is_empty()).then(|| Change {
        what: format!("destroy cluster {}", prior.name.or("")),
        why: format!("On {} stand members of an etcd that kubeadm did not make, and a reset would take away their data and leave them running.", names.join(", ")),
        next: "Take the cluster out of the state with `terraform state rm`, and its machines apart with what made it, with Kubespray by its `reset.yml`.".to_owned(),
        at: "control_planes".into(),
    })
}

fn another_version(nodes: &Nodes, prior: &Cluster, m: &Cluster) -> Option<Change> {
    let told = told(nodes, |foreign| &foreign.kubelet)?;
    let (from, to) = (prior.version.text()?, m.version.text()?);
    (super::bare(from) != super::bare(to)).then(|| Change {
        what: format!("upgrade cluster {}", prior.name.or("")),
        why: format!("Packages bring nodes another version, and these have a kubelet that came by none: {told}."),
        next: format!("Upgrade the cluster with what made it, with Kubespray by its `upgrade-cluster.yml`, and set `version` to what it is then. Until then leave it at {from}."),
        at: "version".into(),
    })
}

fn other_kubelets(nodes: &Nodes, prior: &Cluster, m: &Cluster) -> Option<Change> {
    let told = told(nodes, |foreign| &foreign.config)?;
    let config = |m: &Cluster| m.config.get().map_or(Attr::Null, |config| config.kubelet.clone());
    let (before, after) = (config(prior), config(m));
    let is_other = fragment(Part::Kubelet, &before.or("")) != fragment(Part::Kubelet, &after.or(""));
    (!m.config.is_unknown() && !after.is_unknown() && is_other).then(|| Change {
        what: format!("change `config.kubelet` of cluster {}", prior.name.or("")),
        why: format!("kubeadm writes a file that these kubelets do not read, for they have another one: {told}."),
        next: "Take the change back, and change kubelets with what made the cluster.".to_owned(),
        at: Path::from("config").name("kubelet"),
    })
}

/// What nodes of such a cluster have besides, a load balancer on each for one, comes with no join of kubeadm's.
fn more_nodes(nodes: &Nodes, prior: &Cluster, m: &Cluster) -> Vec<Change> {
    let Some(told) = told(nodes, |foreign| &foreign.kubelet) else { return Vec::new() };
    let maps = [("control_planes", &prior.control_planes, &m.control_planes), ("workers", &prior.workers, &m.workers)];
    let change = |(attribute, before, after): (&'static str, &Attr<Members>, &Attr<Members>)| {
        let names = beyond(after, before);
        (!names.is_empty()).then(|| Change {
            what: format!("add {} to cluster {}", names.join(", "), prior.name.or("")),
            why: format!("Nodes of this cluster were not made by kubeadm alone ({told}), and what they have besides comes with no join of kubeadm's."),
            next: "Add the machine with what made the cluster, with Kubespray by its `scale.yml`; then take the cluster out of the state with `terraform state rm`, and import it with the agents of all its nodes.".to_owned(),
            at: attribute.into(),
        })
    };
    maps.into_iter().filter_map(change).collect()
}

fn of_etcd(nodes: &Nodes, prior: &Cluster, m: &Cluster) -> Vec<Change> {
    let Some(etcd) = nodes.values().map(|foreign| &foreign.etcd).find(|etcd| !etcd.is_empty()) else {
        return Vec::new();
    };
    let name = prior.name.or("");
    let why = |then: &str| format!("kubeadm did not make its etcd, {}: {then}", etcd.join(", "));
    let mut found = Vec::new();
    if m.snapshots.is_known() {
        found.push(Change {
            what: format!("take snapshots of the etcd of cluster {name}"),
            why: why("its members are asked with certificates that the agents do not have."),
            next: "Take the block away, and keep its snapshots with what made it, with Kubespray by `etcdctl` and what `/etc/etcd.env` says.".to_owned(),
            at: "snapshots".into(),
        });
    }
    if m.quorum_recovery.is_known() {
        found.push(Change {
            what: format!("recover the quorum of cluster {name}"),
            why: why("there is no manifest of it by which a member could be made to go on alone."),
            next: "Take the block away, and recover it with what made it, with Kubespray by its `recover-control-plane.yml`.".to_owned(),
            at: "quorum_recovery".into(),
        });
    }
    let (come, go) =
        (beyond(&m.control_planes, &prior.control_planes), beyond(&prior.control_planes, &m.control_planes));
    // Those that come to nodes without packages are refused for that.
    let come = if told(nodes, |foreign| &foreign.kubelet).is_some() { Vec::new() } else { come };
    let names: Vec<&str> = come.iter().chain(&go).map(String::as_str).collect();
    if !names.is_empty() && !m.control_planes.is_unknown() {
        found.push(Change {
            what: format!("have control planes of cluster {name} come or go: {}", names.join(", ")),
            why: why("no member of it would come or go with them."),
            next: "Take the change back, and change them with what made the cluster; then take it out of the state with `terraform state rm`, and import it anew.".to_owned(),
            at: "control_planes".into(),
        });
    }
    found
}

/// Names in one that the other has not; none while either is not known.
fn beyond(one: &Attr<Members>, other: &Attr<Members>) -> Vec<String> {
    if one.is_unknown() || other.is_unknown() {
        return Vec::new();
    }
    let other = other.or(Members::new());
    one.or(Members::new()).into_keys().filter(|name| !other.contains_key(name)).collect()
}

/// `cp-1 /usr/local/bin/kubelet, …`: the first of them, and how many more there are; `None` where there is none.
fn told(nodes: &Nodes, of: fn(&Foreign) -> &String) -> Option<String> {
    let all: Vec<String> = nodes
        .iter()
        .filter(|(_, foreign)| !of(foreign).is_empty())
        .map(|(name, foreign)| format!("{name} {}", of(foreign)))
        .collect();
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (!all.is_empty()).then(|| format!("{}{more}", all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ")))
}

/// What a refresh leaves for plans.
const NODES: &str = "foreign";
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::super::model::{Config, Member};
    use super::super::quorum::QuorumRecovery;
    use super::super::recovery::Snapshots;
    use super::*;
    use crate::agents::ClusterStatus;

    /// As Kubespray leaves control planes and workers.
    fn of_kubespray(etcd: &[&str]) -> Machines {
        let foreign = |etcd: &[&str]| Foreign {
            kubelet: "/usr/local/bin/kubelet".to_owned(),
            config: "/etc/kubernetes/kubelet-config.yaml".to_owned(),
            etcd: etcd.iter().map(|one| (*one).to_owned()).collect(),
            member: !etcd.is_empty(),
        };
        let status = |foreign| ClusterStatus { foreign: Box::new(foreign), ..ClusterStatus::default() };
        Machines::from([("cp-1".to_owned(), status(foreign(etcd))), ("w-1".to_owned(), status(foreign(&[])))])
    }

    fn noted(machines: &Machines) -> Private {
        let private = Private::default();
        note(&private, machines);
        private
    }

    fn members(names: &[&str]) -> Attr<Members> {
        names.iter().map(|name| ((*name).to_owned(), Member::default())).collect::<Members>().into()
    }

    fn cluster() -> Cluster {
        Cluster {
            name: "main".into(),
            version: "1.35.1".into(),
            control_planes: members(&["cp-1"]),
            workers: members(&["w-1"]),
            ..Cluster::default()
        }
    }

    fn refused(private: &Private, m: &Cluster) -> Vec<String> {
        changes(private, &cluster(), m).iter().map(|change| change.at.to_string()).collect()
    }

    #[test]
    fn a_cluster_of_kubesprays_plans_without_changes_and_says_what_cannot_be() {
        let private = noted(&of_kubespray(&["https://192.0.2.11:2379"]));
        assert_eq!(refused(&private, &cluster()), [""; 0]);
        let labelled = Cluster { deletion_protection: true.into(), ..cluster() };
        assert_eq!(refused(&private, &labelled), [""; 0]);
        let config = Config { kubelet: r#"{"maxPods":50}"#.into(), ..Config::default() };
        let all = Cluster {
            version: "1.35.9".into(),
            control_planes: members(&["cp-1", "cp-2"]),
            workers: members(&["w-1", "w-2"]),
            config: config.into(),
            snapshots: Snapshots::default().into(),
            quorum_recovery: QuorumRecovery::default().into(),
            ..cluster()
        };
        let at = ["version", "config.kubelet", "control_planes", "workers", "snapshots", "quorum_recovery"];
        assert_eq!(refused(&private, &all), at);
        for change in changes(&private, &cluster(), &all) {
            let said = change.error().to_string();
            assert!(said.contains("kubelet") || said.contains("https://192.0.2.11:2379"), "{said}");
            assert!(said.contains("with what made"), "the way to go: {said}");
        }
        assert_eq!(refused(&private, &Cluster { control_planes: members(&[]), ..cluster() }), ["control_planes"]);
        let unknown =
            Cluster { version: Attr::Unknown, control_planes: Attr::Unknown, config: Attr::Unknown, ..cluster() };
        assert_eq!(refused(&private, &unknown), [""; 0]);
        assert!(stays(&private, &cluster()).unwrap().why.contains("cp-1"));
    }

    #[test]
    fn with_an_etcd_of_kubeadms_only_the_packages_are_missed() {
        let private = noted(&of_kubespray(&[]));
        let m = Cluster { snapshots: Snapshots::default().into(), version: "1.36.0".into(), ..cluster() };
        assert_eq!(refused(&private, &m), ["version"]);
        assert!(stays(&private, &cluster()).is_none());
        let by_packages = Machines::from([("cp-1".to_owned(), ClusterStatus::default())]);
        assert_eq!(refused(&noted(&by_packages), &m), [""; 0]);
    }

    #[test]
    fn of_a_machine_that_gives_no_answer_counts_what_it_said_before() {
        let private = noted(&of_kubespray(&["https://192.0.2.11:2379"]));
        note(&private, &Machines::new());
        assert!(stays(&private, &cluster()).is_some());
        note(&private, &Machines::from(["cp-1", "w-1"].map(|name| (name.to_owned(), ClusterStatus::default()))));
        assert!(stays(&private, &cluster()).is_none());
    }
}
