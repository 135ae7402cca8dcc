//! What plans and refreshes say of upgrades.

use super::*;
use crate::agents::Node;

fn cluster(version: &str) -> Cluster {
    let one = |names: &[&str]| {
        let members = names.iter().map(|name| ((*name).to_owned(), Member::default()));
        Attr::Known(members.collect::<Members>())
    };
    Cluster {
        name: "main".into(),
        version: version.into(),
        control_planes: one(&["cp-1"]),
        workers: one(&["worker-1", "worker-2", "worker-3"]),
        upgrade_steps: Attr::Known(Vec::new()),
        ..Cluster::default()
    }
}

fn node(name: &str, version: &str) -> Node {
    let control_plane = name.starts_with("cp");
    Node { name: name.into(), version: format!("v{version}"), ready: true, control_plane, ..Node::default() }
}

/// The plan's lines and warnings, after a refresh that saw these nodes.
fn planned(prior: &Cluster, mut m: Cluster, nodes: &[(&str, &str)]) -> (Attr<Vec<String>>, Vec<String>) {
    let mut notes = PlanNotes::new(true);
    let nodes = nodes.iter().map(|(name, version)| node(name, version)).collect();
    note(notes.private(), prior, &ClusterStatus { nodes, ..ClusterStatus::default() });
    plan(prior, &mut m, &mut notes);
    (m.upgrade_steps, notes.diagnostics().iter().map(ToString::to_string).collect())
}

#[track_caller]
fn check(prior: &str, m: Cluster, nodes: &[(&str, &str)], want: &[&str]) {
    let (steps, warnings) = planned(&cluster(prior), m, nodes);
    assert_eq!(
        (steps.get().unwrap().iter().map(String::as_str).collect::<Vec<_>>(), warnings),
        (want.to_vec(), Vec::new())
    );
}

const OLD: [(&str, &str); 5] = [
    ("cp-1", "1.36.3"),
    ("worker-1", "1.36.3"),
    ("worker-2", "1.36.3"),
    ("worker-3", "1.36.3"),
    ("stranger", "1.30.0"),
];

#[test]
fn the_plan_lists_the_order_and_nothing_where_nothing_is_to_be_done() {
    check("1.36.3", cluster("1.36.3"), &OLD, &[]);
    check("1.36.3", cluster("1.36.4"), &OLD, &["1.36.3 → 1.36.4", "cp-1", "worker-1", "worker-2", "worker-3"]);
    let canary = Cluster {
        max_unavailable: "67%".into(),
        upgrade_first: vec!["worker-3".to_owned()].into(),
        ..cluster("1.37.0")
    };
    check("1.36.3", canary, &OLD, &["1.36.3 → 1.37.0", "cp-1", "worker-3", "worker-1, worker-2"]);
    let jump = [
        "1.36.3 → 1.37",
        "cp-1",
        "worker-1, worker-2, worker-3",
        "1.37 → 1.38.0",
        "cp-1",
        "worker-1, worker-2, worker-3",
    ];
    check("1.36.3", Cluster { max_unavailable: "100%".into(), ..cluster("1.38.0") }, &OLD, &jump);
    let mut half = OLD;
    (half[0].1, half[2].1) = ("1.36.4", "1.36.4");
    check("1.36.4", cluster("1.36.4"), &half, &["worker-1", "worker-3"]);
}

#[test]
fn the_plan_of_a_cluster_of_k3s_spells_versions_as_k3s_does() {
    let (old, new) = ("v1.34.3+k3s1", "v1.34.4+k3s1");
    let nodes = |cp: &'static str| [("cp-1", cp), ("worker-1", "1.34.3+k3s1"), ("worker-2", "1.34.4+k3s1")];
    check(old, cluster(new), &nodes("1.34.3+k3s1"), &["v1.34.3+k3s1 → v1.34.4+k3s1", "cp-1", "worker-1"]);
    check(new, cluster(new), &nodes("1.34.4+k3s1"), &["worker-1"]);
    let said = planned(&cluster(old), cluster("v1.36.1+k3s1"), &nodes("1.34.3+k3s1")).1;
    assert!(said[0].contains("Set `version` and `k3s` to the newest release of v1.35"), "{said:?}");
    assert_eq!(lacks(&node("worker-1", "1.34.3+k3s1"), old), None);
    assert!(lacks(&node("worker-1", "1.34.3+k3s1"), new).is_some());
}

#[test]
fn a_jump_that_was_stopped_goes_on_from_the_minor_version_that_it_stands_in() {
    let m = || Cluster { max_unavailable: "3".into(), ..cluster("1.38.0") };
    let mut half = OLD;
    (half[0].1, half[1].1) = ("1.37.4", "1.37.4");
    check("1.37.4", m(), &half, &["worker-2, worker-3", "1.37.4 → 1.38.0", "cp-1", "worker-1, worker-2, worker-3"]);
    let last = OLD.map(|(name, _)| (name, if name == "cp-1" { "1.38.0" } else { "1.37.4" }));
    check("1.38.0", m(), &last, &["worker-1, worker-2, worker-3"]);
    let steps = |lines: &[&str]| {
        let steps: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        time(&Cluster { upgrade_steps: steps.into(), ..cluster("1.38.0") })
    };
    assert_eq!((steps(&[]), steps(&["worker-1"])), (Duration::ZERO, EACH * 4));
    assert_eq!(steps(&["1.36.3 → 1.37", "cp-1", "1.37 → 1.38.0", "cp-1"]), EACH * 8);
}

#[test]
fn what_is_not_known_yet_is_asked_again() {
    for m in [
        Cluster { version: Attr::Unknown, ..cluster("1.36.4") },
        Cluster { max_unavailable: Attr::Unknown, ..cluster("1.36.4") },
        Cluster { workers: Attr::Unknown, ..cluster("1.36.4") },
    ] {
        assert_eq!(planned(&cluster("1.36.3"), m, &OLD), (Attr::Unknown, Vec::new()));
    }
}

#[test]
fn what_cannot_be_is_a_warning_that_says_what_to_write() {
    for (to, words) in [("1.36.2", "Set `version` to 1.36.3"), ("2.0.0", "from 1.36.3 to 2.0.0")] {
        let (steps, warnings) = planned(&cluster("1.36.3"), cluster(to), &OLD);
        assert_eq!(steps, Attr::Known(Vec::new()), "{to}");
        assert!(warnings[0].contains("Cannot upgrade cluster main") && warnings[0].contains(words), "{warnings:?}");
    }
}

#[test]
fn a_node_that_is_behind_or_cut_off_is_a_difference() {
    let lines = |node: &Node| lacks(node, "1.36.4").unwrap_or_default();
    assert_eq!(lines(&node("worker-1", "1.36.4")), "");
    assert_eq!(lines(&node("worker-1", "1.37.0")), "");
    assert_eq!(lines(&node("worker-1", "1.36.3")), "worker-1: its kubelet is 1.36.3, and the cluster is 1.36.4");
    let cut = Node { upgrading: true, ..node("worker-1", "1.36.4") };
    assert_eq!(lines(&cut), "worker-1: its upgrade did not come to its end");
}

#[test]
fn machines_and_cluster_that_ask_for_different_versions_are_told() {
    let declared = |version: &str| {
        BTreeMap::from([("cp-1".to_owned(), version.to_owned()), ("worker-1".to_owned(), String::new())])
    };
    assert_eq!(told_apart("1.36.3", &declared("1.36.3")), None);
    let said = told_apart("1.36.3", &declared("1.36.4")).unwrap().to_string();
    assert!(said.contains("cp-1 1.36.4. The cluster has 1.36.3."), "{said}");
}
