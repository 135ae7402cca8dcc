//! A lost quorum of etcd: one machine burns, another one loses its data, and the cluster goes on from the third, when it is told to.

use super::{Stage, balancer};
use crate::harness::{Backend, Lab, long_ready, wait_until};
use crate::quickstart::{self, KUBECTL, lab_is_empty, nodes_are_ready};
use serde_json::{Value, json};

#[test]
fn a_lost_quorum_is_recovered_from_one_that_is_left() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("ha-quorum", Backend::Nspawn, &[]);
    let _balancer = balancer(&lab);
    let terraform = quickstart::prepare(&lab, 1);
    let stage = Stage { lab: &lab, terraform: &terraform };
    stage.begins();
    stage.nothing_is_recovered_while_there_is_a_quorum();
    stage.the_quorum_is_lost_and_nothing_happens_by_itself();
    stage.it_is_recovered_also_when_that_is_cut_off();
    stage.the_block_goes();
    terraform.destroy();
    lab_is_empty(&lab);
}

impl Stage<'_> {
    /// The cluster's block, or none.
    fn asks_to_recover_from(&self, recovery: Option<(&str, &str)>) {
        let text = std::fs::read_to_string(self.terraform.path("lab_override.tf.json")).expect("the override");
        let mut over: Value = serde_json::from_str(&text).expect("JSON");
        let cluster = over["resource"]["groundwork_cluster"]["main"].as_object_mut().expect("the cluster");
        cluster.remove("quorum_recovery");
        if let Some((control_plane, incident)) = recovery {
            cluster
                .insert("quorum_recovery".to_owned(), json!({ "control_plane": control_plane, "incident": incident }));
        }
        self.terraform.write("lab_override.tf.json", &over.to_string());
    }

    fn nothing_is_recovered_while_there_is_a_quorum(&self) {
        self.asks_to_recover_from(Some(("cp-1", "a whim")));
        let words = ["Cannot recover cluster quickstart from cp-1", "etcd has its quorum"];
        self.terraform.plan().exits(2).says(&words);
        self.terraform.fails(&words);
        self.asks_to_recover_from(None);
        self.terraform.has_no_changes();
        self.has(&["cp-1", "cp-2", "cp-3"]);
    }

    fn the_quorum_is_lost_and_nothing_happens_by_itself(&self) {
        self.kubectl("cp-1", "create configmap witness --from-literal=of=before");
        self.lab.burn(&self.terraform.vm("cp-3"));
        self.lab.must("cp-2", "mv /etc/kubernetes/manifests/etcd.yaml /root");
        wait_until("etcd of cp-2 has ended", || self.lab.exec("cp-2", "ss -ltn | grep -q :2380").code != 0);
        self.lab.must("cp-2", "rm -rf /var/lib/etcd/member; mv /root/etcd.yaml /etc/kubernetes/manifests/");
        wait_until("the API servers have noticed", || {
            self.lab.exec("cp-1", &format!("{KUBECTL} --request-timeout=5s get --raw /readyz")).code != 0
        });
        let plan = self.terraform.plan();
        plan.exits(2).says(&["Cannot look at the nodes of cluster quickstart", "`quorum_recovery` goes on from one"]);
        self.terraform.fails(&["Cannot change cluster quickstart", "cp-1: its API server does not answer"]);
        assert!(!self.is_forced("cp-1"), "never without the block");
    }

    fn it_is_recovered_also_when_that_is_cut_off(&self) {
        let ours = self.terraform.resource("groundwork_cluster.main")["ca_fingerprint"].clone();
        self.asks_to_recover_from(Some(("cp-1", "a fire")));
        let plan = self.terraform.plan();
        plan.exits(2).says(&["Cluster quickstart is recovered from cp-1", "cp-1: its etcd is made a cluster of one"]);
        plan.says(&["cp-2: its etcd is stopped for good", "cp-3: the machine that takes its place joins"]);
        self.terraform.killed(|| self.is_forced("cp-1"));
        let stands = self.lab.exec("cp-2", "ls /etc/kubernetes/manifests/etcd.yaml");
        assert_ne!(stands.code, 0, "cp-2 stood down before cp-1 went on alone: {}", stands.text);
        self.terraform.apply();
        self.has(&["cp-1", "cp-2", "cp-3"]);
        nodes_are_ready(self.lab);
        assert_eq!(self.kubectl("cp-3", "get configmap witness -o jsonpath={.data.of}"), "before");
        assert!(!self.is_forced("cp-1"), "no later start forgets the others");
        self.lab.must("cp-1", "test -s /var/backups/groundwork/etcd/before-recovery-*/snap/db");
        assert_eq!(self.terraform.resource("groundwork_cluster.main")["ca_fingerprint"], ours);
        self.terraform.has_no_changes();
    }

    fn the_block_goes(&self) {
        self.asks_to_recover_from(None);
        self.terraform.plan().exits(2).says(&["0 to add, 1 to change, 0 to destroy"]);
        self.terraform.apply();
        self.terraform.has_no_changes();
        self.has(&["cp-1", "cp-2", "cp-3"]);
    }

    fn is_forced(&self, vm: &str) -> bool {
        self.lab.exec(vm, "grep -q force-new-cluster /etc/kubernetes/manifests/etcd.yaml").code == 0
    }
}
