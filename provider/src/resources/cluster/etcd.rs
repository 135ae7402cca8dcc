//! What etcd's members tell at a refresh: differences that an apply puts right, and warnings for a person.

use super::k3s;
use super::model::Cluster;
use crate::agents::{ClusterStatus, EtcdMember};
use tf::Diagnostic;

/// Whether etcd, as far as it tells, has a voting member of this name.
pub(super) fn has(cluster: &ClusterStatus, name: &str) -> bool {
    cluster.etcd.is_empty() || cluster.etcd.iter().any(|member| member.name == name && !member.learner)
}

/// What the next apply puts right: a control plane without a vote in etcd is joined anew.
pub(super) fn lacks(cluster: &ClusterStatus, name: &str) -> Option<String> {
    (!has(cluster, name)).then(|| format!("{name}: etcd has no voting member of that name"))
}

/// What no apply changes.
pub(super) fn warnings(m: &Cluster, cluster: &ClusterStatus) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if !cluster.etcd_message.is_empty() {
        found.push(
            Diagnostic::warning(format!("Cannot look at the etcd of cluster {}", m.name.or("")))
                .happened(format!("None of its members answers: {}.", cluster.etcd_message))
                .next(match k3s::of(m) {
                    Some(own) => format!("Look at it on a server: `journalctl -u {}`.", own.unit),
                    None => "Look at it on a control plane: `crictl ps -a --name etcd`, and `journalctl -u kubelet`."
                        .to_owned(),
                }),
        );
    }
    found.extend(unwell(cluster));
    found.extend(strangers(m, cluster));
    found.extend(cluster.etcd.iter().filter_map(alarmed));
    found
}

/// Members that are not well, and how many more may fail.
fn unwell(cluster: &ClusterStatus) -> Option<Diagnostic> {
    let told = |member: &EtcdMember| {
        let why = match &member.ailing {
            Some(why) => why.clone(),
            None if member.learner => "it has no vote yet".to_owned(),
            None => return None,
        };
        Some(format!("{}: {why}", called(member)))
    };
    let lines: Vec<String> = cluster.etcd.iter().filter_map(told).collect();
    if lines.is_empty() {
        return None;
    }
    let voters = cluster.etcd.iter().filter(|member| !member.learner).count();
    let well = cluster.etcd.iter().filter(|member| !member.learner && member.ailing.is_none()).count();
    let needed = voters / 2 + 1;
    let holds = match well.checked_sub(needed) {
        None => format!("Of {voters} members {well} are well and it needs {needed}: the cluster can be read at best."),
        Some(0) => {
            format!("Of {voters} members {well} are well, as many as it needs: with the next one the cluster stops.")
        }
        Some(more) => format!("Of {voters} members {well} are well and it needs {needed}: {more} more may fail."),
    };
    Some(
        Diagnostic::warning("Members of etcd are not well")
            .happened(crate::explain::listed("They say, or others say of them:", &lines))
            .holds(holds)
            .next("Start their machines, or replace them: a machine made anew joins with the next apply, and its old member goes first."),
    )
}

/// Members of which this configuration and the API server know nothing.
fn strangers(m: &Cluster, cluster: &ClusterStatus) -> Option<Diagnostic> {
    let known = |member: &EtcdMember| {
        let is_ours = m.control_planes.get().is_some_and(|members| members.contains_key(&member.name));
        is_ours || cluster.nodes.iter().any(|node| node.name == member.name || node.address == member.address)
    };
    let strange: Vec<&str> = cluster.etcd.iter().filter(|member| !known(member)).map(called).collect();
    (!strange.is_empty()).then(|| {
        Diagnostic::warning("etcd has members that are no control planes")
            .happened(format!("{}: neither a node nor this configuration has that name.", strange.join(", ")))
            .holds("Each counts when etcd agrees on something, whether it lives or not. One that never started goes before the next join.")
            .next("If it is left of a machine that is gone, take it out on a control plane: `etcdctl member remove`.")
    })
}

fn alarmed(member: &EtcdMember) -> Option<Diagnostic> {
    (!member.alarms.is_empty()).then(|| {
        let what = member.alarms.join(", ");
        let warning = Diagnostic::warning(format!("Member {} of etcd raises the alarm {what}", called(member)));
        if member.alarms.iter().any(|alarm| alarm == "NOSPACE") {
            return warning
                .happened("Its database has reached its quota, and the cluster takes no change any more.")
                .next("Compact and defragment it (`etcdctl compact`, `etcdctl defrag`), then `etcdctl alarm disarm`; or raise `quota-backend-bytes`.");
        }
        warning.happened("Its data differ from those of the others.").next("Replace the machine of that member.")
    })
}

/// By its name, or where it has none yet by its address.
fn called(member: &EtcdMember) -> &str {
    if member.name.is_empty() { &member.address } else { &member.name }
}

#[cfg(test)]
mod tests {
    use super::super::model::Member;
    use super::*;
    use std::collections::BTreeMap;

    fn member(name: &str, ailing: Option<&str>) -> EtcdMember {
        EtcdMember { name: name.to_owned(), ailing: ailing.map(str::to_owned), ..EtcdMember::default() }
    }

    fn cluster(etcd: Vec<EtcdMember>) -> ClusterStatus {
        ClusterStatus { etcd, ..ClusterStatus::default() }
    }

    fn model() -> Cluster {
        let names = ["cp-1", "cp-2", "cp-3"].map(|name| (name.to_owned(), Member::default()));
        Cluster { control_planes: BTreeMap::from(names).into(), ..Cluster::default() }
    }

    #[test]
    fn a_control_plane_without_a_vote_is_a_difference() {
        let learner = EtcdMember { learner: true, ..member("cp-2", None) };
        let status = cluster(vec![member("cp-1", None), learner]);
        assert_eq!(lacks(&status, "cp-1"), None);
        for name in ["cp-2", "cp-3"] {
            assert!(lacks(&status, name).is_some(), "{name}");
        }
        assert_eq!(lacks(&cluster(Vec::new()), "cp-1"), None, "an agent that tells nothing");
    }

    #[test]
    fn who_is_not_well_is_told_with_what_is_left() {
        let told = |well: [bool; 3]| {
            let names = ["cp-1", "cp-2", "cp-3"];
            let all = names.iter().zip(well).map(|(name, well)| member(name, (!well).then_some("no answer in time")));
            let found = warnings(&model(), &cluster(all.collect()));
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(told([true; 3]), "");
        assert!(
            told([true, true, false]).contains("with the next one the cluster stops"),
            "{}",
            told([true, true, false])
        );
        assert!(told([true, false, false]).contains("Of 3 members 1 are well and it needs 2"));
    }

    #[test]
    fn strangers_and_alarms_are_told() {
        let full = EtcdMember { alarms: vec!["NOSPACE".to_owned()], ..member("cp-1", None) };
        let found = warnings(&model(), &cluster(vec![full, member("old", None)]));
        let summaries: Vec<&str> = found.iter().map(Diagnostic::summary).collect();
        assert_eq!(
            summaries,
            ["etcd has members that are no control planes", "Member cp-1 of etcd raises the alarm NOSPACE"]
        );
    }
}
