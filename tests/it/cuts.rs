//! Work on a cluster cut short at each of its phases, on real Kubernetes: the provider or the agent is killed, the machine loses its
//! power, or its cable is pulled. The next apply ends right, and etcd has the members that it should have and no others.
//!
//! Each case costs a join or a removal, so they are for the night, and are counted in what they print.

use crate::ha::balancer::Balancer;
use crate::ha::{balancer, members};
use crate::harness::cut::{ALL, Cases, Cut, Sign, of, on};
use crate::harness::{Backend, Lab, Terraform, long_ready};
use crate::quickstart::{self, KUBECTL, lab_is_empty, nodes_by};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const UPGRADE: (&str, &str) = ("1.36.3", "1.36.4");
const SNAPSHOT: &str = "/var/backups/etcd/now.db";

#[test]
fn a_cluster_that_begins_is_begun_once() {
    let Some(stage) = Stage::start("cuts-init", 1, 0) else { return };
    let signs = [
        on("cp-1", "its certificates are made", "test -e /etc/kubernetes/pki/ca.crt"),
        on("cp-1", "etcd's manifest is written", "test -e /etc/kubernetes/manifests/etcd.yaml"),
        on("cp-1", "its configuration is in the cluster", "K -n kube-system get configmap kubeadm-config"),
    ];
    for sign in &signs {
        for cut in ALL {
            stage.case("a cluster begins", sign, cut);
            stage.has(&["cp-1"], &[]);
            let cluster = ["destroy", "-auto-approve", "-input=false", "-target=groundwork_cluster.main"];
            stage.terraform.run(&cluster).exits(0);
        }
    }
    stage.ends();
}

#[test]
fn a_worker_joins_and_leaves_whatever_is_cut() {
    let Some(stage) = Stage::start("cuts-worker", 1, 1) else { return };
    stage.terraform.apply();
    // Where there is nothing to drain that is a moment, and a look may come after it.
    let cordoned = "K get nodes && { ! K get node worker-1 || K get node worker-1 -o jsonpath={.spec.unschedulable} | grep true; }";
    let rounds = [
        (
            on("worker-1", "it has a bootstrap token", "test -e /etc/kubernetes/bootstrap-kubelet.conf"),
            of("worker-1", "cp-1", "it is cordoned, or gone by now", cordoned),
        ),
        (
            on("worker-1", "its kubelet has a certificate", "test -e /etc/kubernetes/kubelet.conf"),
            on("worker-1", "it is reset", "test ! -e /etc/kubernetes/kubelet.conf"),
        ),
    ];
    for (join, leave) in &rounds {
        for cut in ALL {
            stage.wants(&["cp-1"], &["worker-1"]);
            stage.case("a worker joins", join, cut);
            stage.has(&["cp-1"], &["worker-1"]);
            stage.wants(&["cp-1"], &[]);
            stage.case("a worker leaves", leave, cut);
            stage.has(&["cp-1"], &[]);
        }
    }
    stage.ends();
}

#[test]
fn a_control_plane_joins_and_leaves_whatever_is_cut() {
    let (three, four) = (["cp-1", "cp-2", "cp-3"], ["cp-1", "cp-2", "cp-3", "cp-4"]);
    let Some(stage) = Stage::start("cuts-plane", 4, 0) else { return };
    stage.wants(&three, &[]);
    stage.terraform.apply();
    // Where there is nothing to drain that is a moment, and a look may come after it.
    let cordoned =
        "K get nodes && { ! K get node cp-4 || K get node cp-4 -o jsonpath={.spec.unschedulable} | grep true; }";
    let rounds = [
        (
            on("cp-4", "its certificates are made", "test -e /etc/kubernetes/pki/etcd/peer.crt"),
            of("cp-4", "cp-2", "it is cordoned, or gone by now", cordoned),
        ),
        (
            on("cp-4", "its member of etcd begins", "test -e /etc/kubernetes/manifests/etcd.yaml"),
            of("cp-4", "cp-2", "its Node is gone", "K get nodes && ! K get node cp-4"),
        ),
        (
            on(
                "cp-4",
                "its API server answers",
                "K --server=https://127.0.0.1:6443 --tls-server-name=kubernetes get --raw /livez",
            ),
            on("cp-4", "it is reset", "test ! -e /etc/kubernetes/admin.conf"),
        ),
    ];
    for (join, leave) in &rounds {
        for cut in ALL {
            stage.wants(&four, &[]);
            stage.case("a control plane joins", join, cut);
            stage.has(&four, &[]);
            stage.wants(&three, &[]);
            stage.case("a control plane leaves", leave, cut);
            stage.has(&three, &[]);
        }
    }
    stage.ends();
}

/// One upgrade of three control planes and a worker, cut at each of them; and another name for their API servers' certificates.
#[test]
fn a_snapshot_and_an_upgrade_are_finished_whatever_is_cut() {
    let three = ["cp-1", "cp-2", "cp-3"];
    let Some(stage) = Stage::start("cuts-upgrade", 3, 1) else { return };
    stage.wants(&three, &["worker-1"]);
    stage.terraform.apply();
    let written =
        on("cp-1", "it is written", "test -e /var/backups/etcd/.now.db.part || test -e /var/backups/etcd/now.db");
    for cut in ALL {
        stage.wants_snapshot(Some(&format!("{cut:?}")));
        stage.case("a snapshot", &written, cut);
        stage.has(&three, &["worker-1"]);
        assert_eq!(stage.lab.must("cp-1", "ls -A /var/backups/etcd"), "now.db");
        stage.wants_snapshot(None);
        stage.terraform.apply();
        stage.lab.must("cp-1", "rm -f /var/backups/etcd/*");
    }
    stage.wants_at(UPGRADE.1, &three, &["worker-1"]);
    let manifest = "grep -q :v1.36.4 /etc/kubernetes/manifests/kube-apiserver.yaml";
    let installed = "kubelet --version | grep -q v1.36.4";
    let cordoned = "K get node worker-1 -o jsonpath={.spec.unschedulable} | grep true";
    let cuts = [
        (on("cp-1", "the first API server is the new one", manifest), Cut::Power),
        (on("cp-1", "the first kubelet is installed", installed), Cut::Agent),
        (on("cp-2", "the second API server is the new one", manifest), Cut::Provider),
        (on("cp-2", "the second kubelet is installed", installed), Cut::Cable),
        (on("cp-3", "the third API server is the new one", manifest), Cut::Agent),
        (of("worker-1", "cp-2", "the worker is cordoned", cordoned), Cut::Provider),
        (on("worker-1", "the worker's kubelet is installed", installed), Cut::Power),
    ];
    stage.cases.cut_again_and_again((&stage.lab, &stage.terraform), "an upgrade", &cuts);
    stage.terraform.apply();
    stage.has(&three, &["worker-1"]);
    let versions =
        "K get nodes -o jsonpath='{.items[*].status.nodeInfo.kubeletVersion}'".replace("K ", &format!("{KUBECTL} "));
    assert_eq!(stage.lab.must("cp-1", &versions), ["v1.36.4"; 4].join(" "));

    let names = json!({ "certificate_names": ["other.example.org"] });
    let over = json!({ "resource": { "groundwork_cluster": { "main": names } } });
    stage.terraform.write("names_override.tf.json", &over.to_string());
    let shows = "K --server=https://127.0.0.1:6443 --tls-server-name=other.example.org get --raw /livez";
    stage.case("another name", &on("cp-2", "the second API server shows it", shows), Cut::Agent);
    for plane in three {
        stage.lab.must(plane, &shows.replace("K ", &format!("{KUBECTL} ")));
    }
    stage.has(&three, &["worker-1"]);
    stage.ends();
}

struct Stage {
    // Before its lab: it ends by a connection to itself.
    _balancer: Balancer,
    lab: Lab,
    terraform: Terraform,
    /// Machines, whether they are nodes or not.
    planes: u8,
    workers: u8,
    cases: Cases,
}

impl Stage {
    /// Machines that are ready to become nodes.
    fn start(name: &str, planes: u8, workers: u8) -> Option<Self> {
        if !long_ready() {
            return None;
        }
        let (from, to) = UPGRADE;
        let lab = Lab::start(name, Backend::Nspawn, &["--kubernetes", &format!("{from},{to}")]);
        let _balancer = balancer(&lab);
        let terraform = quickstart::prepare(&lab, workers);
        let example = std::fs::read_to_string(terraform.path("main.tf")).expect("the example");
        let some = example
            .replace("control_planes = { cp-1 = var.addresses.control_plane }", "control_planes = var.machines")
            .replace("{ for name, _ in local.control_planes :", "{ for name in var.planes :")
            .replace("{ for name, _ in local.workers :", "{ for name in var.joined :");
        assert_eq!(some.matches("in var.").count(), example.matches("in var.").count() + 2, "{some}");
        terraform.write("main.tf", &some);
        terraform.write(
            "cuts.tf",
            "variable \"machines\" { type = map(string) }\nvariable \"planes\" { type = set(string) }\n\
             variable \"joined\" { type = set(string) }\n",
        );
        let mut over: Value = serde_json::from_str(&lab.file("quickstart_override.tf.json")).expect("JSON");
        over["resource"]["groundwork_cluster"]["main"]["endpoint"] = json!(format!("{}:6443", lab.address(254)));
        terraform.write("lab_override.tf.json", &over.to_string());
        let stage = Self { lab, _balancer, terraform, planes, workers, cases: Cases::of(KUBECTL) };
        stage.wants(&["cp-1"], &[]);
        let machines = ["apply", "-auto-approve", "-input=false", "-target=groundwork_machine.machine"];
        stage.terraform.run(&machines).exits(0);
        Some(stage)
    }

    /// Exactly these machines as nodes.
    fn wants(&self, planes: &[&str], workers: &[&str]) {
        self.wants_at(UPGRADE.0, planes, workers);
    }

    fn wants_at(&self, version: &str, planes: &[&str], workers: &[&str]) {
        let machines: BTreeMap<_, _> =
            (1..=self.planes).map(|number| (format!("cp-{number}"), self.lab.address(10 + number))).collect();
        let mut values = quickstart::variables(&self.lab, self.workers);
        values["kubernetes_version"] = json!(version);
        values["machines"] = json!(machines);
        values["planes"] = json!(planes);
        values["joined"] = json!(workers);
        self.terraform.variables(&values);
    }

    /// With a snapshot of etcd, another one for each word, or without.
    fn wants_snapshot(&self, when: Option<&str>) {
        quickstart::asks_for_snapshot(&self.terraform, SNAPSHOT, when);
    }

    /// An apply that is cut short, and one that ends right.
    fn case(&self, what: &str, sign: &Sign, cut: Cut) {
        self.cases.case((&self.lab, &self.terraform), what, sign, cut);
    }

    /// Exactly these are nodes and members of etcd, as each control plane has it, and a plan finds nothing to do.
    #[track_caller]
    fn has(&self, planes: &[&str], workers: &[&str]) {
        let all: Vec<&str> = planes.iter().chain(workers).copied().collect();
        for plane in planes {
            assert_eq!(members(&self.lab, &self.terraform, plane), planes, "etcd's members, as {plane} has it");
            assert_eq!(nodes_by(&self.lab, plane), all, "nodes, as {plane} has it");
        }
        self.terraform.has_no_changes();
    }

    fn ends(self) {
        self.terraform.destroy();
        lab_is_empty(&self.lab);
        self.cases.all_ended_right();
    }
}
