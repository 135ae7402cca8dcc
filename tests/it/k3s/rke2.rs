//! A cluster of RKE2, with what stands in for it: K3s' stand-in under its name. See `tests/lab/k3s`; no real RKE2 was tried.

use super::servers::{are_upgraded, come_and_go};
use super::{
    Given, Kind, Wanted, access_is_given, comes_changes_and_goes, kubectl, leaves_nothing, node, nodes_are_ready,
    tokens_are_nowhere,
};
use crate::harness::{Backend, Lab, Terraform, long_ready};
use crate::quickstart::lab_is_empty;
use serde_json::json;

static RKE2: Kind = Kind {
    program: "rke2",
    server: "rke2-server",
    agent: "rke2-agent",
    version: "v1.34.3+rke2r1",
    next: "v1.34.4+rke2r1",
};

#[test]
fn a_small_cluster_of_rke2_comes_is_upgraded_and_goes() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("rke2", Backend::Nspawn, &["--kubernetes", "none"]);
    let Some(given) = Given::stand_in_of(&RKE2, &lab) else { return };
    let terraform = Terraform::for_lab(&lab);
    let write = |workers: u8, given: &Given| {
        terraform.write("main.tf", &Wanted::single(workers, "a").configuration(&lab, given));
    };
    write(1, &given);
    terraform.apply();
    nodes_are_ready(&lab, &["cp-1", "worker-1"]);
    terraform.has_no_changes();
    tokens_are_nowhere(&lab, (&terraform, &given), &["cp-1", "worker-1"]);
    access_is_given(&terraform, &given);
    assert!(lab.must("worker-1", "cat /etc/rancher/rke2/config.yaml").contains(":9345\""), "where nodes join");
    let pods = "ls /var/lib/rancher/rke2/agent/pod-manifests";
    assert!(lab.must("cp-1", pods).contains("etcd.yaml") && !lab.must("worker-1", pods).contains("etcd.yaml"));
    // A kubelet that outlived its unit would keep the next one from its port.
    lab.must("cp-1", "systemctl restart rke2-server");
    assert_eq!(lab.must("cp-1", "pgrep -cf '^kubelet '"), "1");
    lab.must("worker-1", "systemctl stop rke2-agent");
    terraform.plan().exits(2).says(&["worker-1: its kubelet is inactive"]);
    terraform.apply();
    terraform.has_no_changes();

    write(2, &given);
    terraform.apply();
    nodes_are_ready(&lab, &["cp-1", "worker-1", "worker-2"]);
    write(1, &given);
    terraform.apply();
    nodes_are_ready(&lab, &["cp-1", "worker-1"]);
    terraform.has_no_changes();

    a_snapshot_is_taken(&lab, &terraform);
    let next = given.next(&lab).expect("a stand-in has a next version");
    write(1, &next);
    terraform.plan().exits(2).says(&["v1.34.3+rke2r1 → v1.34.4+rke2r1"]);
    terraform.apply();
    nodes_are_ready(&lab, &["cp-1", "worker-1"]);
    for vm in ["cp-1", "worker-1"] {
        assert_eq!(node(&lab, vm)["status"]["nodeInfo"]["kubeletVersion"], next.version, "{vm}");
    }
    terraform.has_no_changes();
    leaves_nothing(&lab, (&terraform, &given), &["cp-1", "worker-1"]);
    terraform.destroy();
    lab_is_empty(&lab);
}

fn a_snapshot_is_taken(lab: &Lab, terraform: &Terraform) {
    kubectl(lab, "label node cp-1 example.org/kept=yes");
    let now = json!({
        "ca_fingerprint": "${groundwork_cluster.edge.ca_fingerprint}",
        "control_planes": "${groundwork_cluster.edge.control_planes}",
        "path": "/var/backups/etcd/now.db",
    });
    terraform
        .write("snapshot.tf.json", &json!({ "resource": { "groundwork_etcd_snapshot": { "now": now } } }).to_string());
    terraform.apply();
    terraform.has_no_changes();
    lab.must("cp-1", "test -s /var/backups/etcd/now.db");
    terraform.write("snapshot.tf.json", "{}");
    terraform.apply();
}

#[test]
fn a_cluster_of_rke2_comes_changes_and_goes() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("rke2-life", Backend::Nspawn, &["--kubernetes", "none"]);
    let Some(given) = Given::stand_in_of(&RKE2, &lab) else { return };
    comes_changes_and_goes(&lab, &given);
}

#[test]
fn servers_of_rke2_come_and_go() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("rke2-servers", Backend::Nspawn, &["--kubernetes", "none"]);
    let Some(given) = Given::stand_in_of(&RKE2, &lab) else { return };
    come_and_go(&lab, &given);
}

#[test]
fn servers_of_rke2_are_upgraded_one_by_one() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("rke2-upgrade", Backend::Nspawn, &["--kubernetes", "none"]);
    let Some(given) = Given::stand_in_of(&RKE2, &lab) else { return };
    are_upgraded(&lab, &given);
}
