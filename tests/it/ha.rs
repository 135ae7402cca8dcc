//! Three control planes behind a load balancer: none of them is special, and etcd is asked who its members are.
//!
//! Each step is a join or a departure of a control plane, which take half a minute and more on a small machine: so these are for the night.

pub(crate) mod balancer;
mod quorum;

use crate::harness::run::{command, run};
use crate::harness::{Backend, Lab, Terraform, long_ready, wait_until};
use crate::quickstart::{self, KUBECTL, lab_is_empty, nodes_are_ready, nodes_by};
use balancer::Balancer;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[test]
fn the_first_control_plane_is_not_special() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("ha", Backend::Nspawn, &[]);
    let _balancer = balancer(&lab);
    let terraform = quickstart::prepare(&lab, 1);
    let stage = Stage { lab: &lab, terraform: &terraform };
    stage.begins();
    stage.is_written_down(&[1, 2, 3]);
    stage.no_secret_is_left();
    stage.not_all_are_replaced_at_once();
    stage.the_first_is_destroyed_outside_and_joins_again();
    stage.the_first_leaves();
    terraform.destroy();
    lab_is_empty(&lab);
}

#[test]
fn control_planes_come_and_go() {
    if !long_ready() {
        return;
    }
    let (from, to) = ("1.36.3", "1.36.4");
    let lab = Lab::start("ha-life", Backend::Nspawn, &["--kubernetes", &format!("{from},{to}")]);
    let _balancer = balancer(&lab);
    let terraform = quickstart::prepare(&lab, 1);
    let stage = Stage { lab: &lab, terraform: &terraform };
    stage.begins();
    stage.a_join_whose_provider_is_killed_is_gone_on_with();
    stage.the_quorum_is_never_destroyed();
    stage.one_gets_another_name();
    stage.two_are_replaced_at_once();
    stage.all_are_upgraded(from, to);
    terraform.destroy();
    lab_is_empty(&lab);
}

/// Names of etcd's members as the one on `vm` has them, which all have a vote.
#[track_caller]
pub(crate) fn members(lab: &Lab, terraform: &Terraform, vm: &str) -> Vec<String> {
    for file in ["ca.crt", "healthcheck-client.crt", "healthcheck-client.key"] {
        let text = lab.must(vm, &format!("cat /etc/kubernetes/pki/etcd/{file}"));
        terraform.write(file, &text);
    }
    let number: u8 = vm.trim_start_matches("cp-").parse().expect("cp-N");
    let url = format!("https://{}:2379/v3/cluster/member/list", lab.address(10 + number));
    let mut curl = command("curl");
    curl.current_dir(terraform.path(".")).args(["--silent", "--fail", "--max-time", "10", "--cacert", "ca.crt"]);
    curl.args(["--cert", "healthcheck-client.crt", "--key", "healthcheck-client.key", "--data", "{}", &url]);
    let said = run(&mut curl);
    let told: Value = serde_json::from_str(&said.exits(0).text).expect("etcd speaks JSON");
    let name = |member: &Value| {
        assert!(member["isLearner"].is_null(), "it has a vote: {member}");
        member["name"].as_str().unwrap_or("(never started)").to_owned()
    };
    let mut names: Vec<String> = told["members"].as_array().expect("members").iter().map(name).collect();
    names.sort();
    names
}

/// What leads to an API server that is ready.
pub(crate) fn balancer(lab: &Lab) -> Balancer {
    Balancer::start(&lab.address(254), [1, 2, 3, 4].map(|number| lab.address(10 + number)).to_vec())
}

struct Stage<'a> {
    lab: &'a Lab,
    terraform: &'a Terraform,
}

impl Stage<'_> {
    /// A cluster of three.
    fn begins(&self) {
        self.behind_the_balancer();
        self.wants(&[1, 2, 3]);
        self.terraform.apply();
        self.has(&["cp-1", "cp-2", "cp-3"]);
        nodes_are_ready(self.lab);
        self.terraform.has_no_changes();
    }

    /// Control planes by number, and an endpoint that leads to whichever is ready.
    fn behind_the_balancer(&self) {
        let example = std::fs::read_to_string(self.terraform.path("main.tf")).expect("the example");
        let one = "control_planes = { cp-1 = var.addresses.control_plane }";
        let several = example.replace(one, "control_planes = var.control_planes");
        assert_ne!(several, example);
        self.terraform.write("main.tf", &several);
        self.terraform.write("control_planes.tf", "variable \"control_planes\" { type = map(string) }\n");
        let mut over: Value = serde_json::from_str(&self.lab.file("quickstart_override.tf.json")).expect("JSON");
        over["resource"]["groundwork_cluster"]["main"]["endpoint"] = json!(format!("{}:6443", self.lab.address(254)));
        self.terraform.write("lab_override.tf.json", &over.to_string());
    }

    fn wants(&self, planes: &[u8]) {
        self.terraform.variables(&self.values(planes));
    }

    fn values(&self, planes: &[u8]) -> Value {
        let planes: BTreeMap<String, String> =
            planes.iter().map(|number| (format!("cp-{number}"), self.lab.address(10 + number))).collect();
        let mut values = quickstart::variables(self.lab, 1);
        values["control_planes"] = json!(planes);
        values
    }

    /// Another version of Kubernetes, for the same three.
    fn asks_for(&self, version: &str) {
        let mut values = self.values(&[1, 2, 3]);
        values["kubernetes_version"] = json!(version);
        self.terraform.variables(&values);
    }

    /// Exactly these are nodes of the cluster, and members of its etcd with a vote.
    #[track_caller]
    fn has(&self, names: &[&str]) {
        let by = names.iter().rfind(|name| name.starts_with("cp-")).expect("a control plane");
        let sorted = |more: &[&str]| {
            let mut all: Vec<String> = names.iter().chain(more).map(|name| (*name).to_owned()).collect();
            all.sort();
            all
        };
        assert_eq!(nodes_by(self.lab, by), sorted(&["worker-1"]));
        assert_eq!(members(self.lab, self.terraform, by), sorted(&[]));
        let roles = self.kubectl(by, "get nodes --selector=node-role.kubernetes.io/control-plane -o name");
        assert_eq!(roles.lines().count(), names.len(), "{roles}");
    }

    #[track_caller]
    fn kubectl(&self, vm: &str, line: &str) -> String {
        self.lab.must(vm, &format!("{KUBECTL} {line}"))
    }

    /// The kubeconfig names every agent.
    #[track_caller]
    fn is_written_down(&self, planes: &[u8]) {
        let cluster = self.terraform.resource("groundwork_cluster.main");
        let kubeconfig = cluster["kubeconfig"].as_str().expect("a kubeconfig");
        for number in planes {
            assert!(
                kubeconfig.contains(&format!("{}:7443", self.lab.address(10 + number))),
                "cp-{number}: {kubeconfig}"
            );
        }
    }

    /// Of a join nothing stays: neither the certificates that were laid up, nor the token that owned them, nor a key in a file.
    #[track_caller]
    fn no_secret_is_left(&self) {
        let secrets = self.kubectl("cp-3", "-n kube-system get secrets -o name");
        assert!(!secrets.contains("kubeadm-certs") && !secrets.contains("bootstrap-token"), "{secrets}");
        for vm in ["cp-1", "cp-2", "cp-3"] {
            let found = self
                .lab
                .must(vm, "ls -A /run/groundwork; grep -rls certificateKey /run/groundwork /etc/kubernetes || true");
            assert!(!found.contains(".yaml"), "{vm}: {found}");
        }
        let state = self.terraform.run(&["state", "pull"]);
        assert!(!state.exits(0).text.contains("certificate_key"), "the state holds a certificate key");
    }

    /// As another image for all machines would do it.
    fn not_all_are_replaced_at_once(&self) {
        let replace = ["cp-1", "cp-2", "cp-3"].map(|name| format!("-replace=groundwork_vm.machine[\"{name}\"]"));
        let with = |words: &[&'static str]| {
            let words: Vec<&str> = words.iter().copied().chain(replace.iter().map(String::as_str)).collect();
            self.terraform.run(&words)
        };
        let plan = with(&["plan", "-input=false", "-no-color"]);
        plan.exits(0).says(&[
            "Cannot replace all control planes of cluster quickstart at once",
            "groundwork_cluster.main will be updated in-place",
        ]);
        let apply = with(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        apply.exits(1).says(&["All 3 control planes of the cluster would go in this apply"]);
        self.has(&["cp-1", "cp-2", "cp-3"]);
        self.terraform.has_no_changes();
    }

    fn the_first_is_destroyed_outside_and_joins_again(&self) {
        let ours = self.terraform.resource("groundwork_cluster.main")["ca_fingerprint"].clone();
        self.lab.burn(&self.terraform.vm("cp-1"));
        let plan = self.terraform.plan();
        plan.exits(2).says(&[
            "groundwork_vm.machine[\"cp-1\"] will be created",
            "groundwork_cluster.main will be updated in-place",
        ]);
        plan.says(&["Members of etcd are not well", "with the next one the cluster stops"]);
        self.terraform.apply();
        self.has(&["cp-1", "cp-2", "cp-3"]);
        let after = self.terraform.resource("groundwork_cluster.main")["ca_fingerprint"].clone();
        assert_eq!(after, ours, "no second cluster was made");
        self.kubectl("cp-2", "wait --for=condition=Ready node/cp-1 --timeout=2m");
        self.terraform.has_no_changes();
    }

    fn the_first_leaves(&self) {
        self.wants(&[2, 3]);
        self.terraform.plan().exits(2).says(&["Warning: 2 control planes", "0 to add"]);
        self.terraform.apply();
        self.has(&["cp-2", "cp-3"]);
        self.terraform.has_no_changes();
    }

    fn a_join_whose_provider_is_killed_is_gone_on_with(&self) {
        self.wants(&[1, 2, 3, 4]);
        let joining = "test -e /etc/kubernetes/manifests/kube-apiserver.yaml";
        self.terraform.killed(|| self.lab.exec("cp-4", joining).code == 0);
        self.terraform.apply();
        self.has(&["cp-1", "cp-2", "cp-3", "cp-4"]);
        self.terraform.has_no_changes();
        self.wants(&[1, 2, 3]);
        self.terraform.apply();
        self.has(&["cp-1", "cp-2", "cp-3"]);
    }

    /// One is down, and another one is to go.
    fn the_quorum_is_never_destroyed(&self) {
        self.lab.control("power", &["cp-3", "off"]).exits(0);
        wait_until("etcd has noticed", || self.terraform.plan().flat().contains("Members of etcd are not well"));
        self.wants(&[1, 3]);
        self.terraform.fails(&["of the other 2 members of etcd 1 are well, and it needs 2"]);
        self.lab.control("power", &["cp-3", "on"]).exits(0);
        self.wants(&[1, 2, 3]);
        wait_until("all are well again", || {
            let plan = self.terraform.plan();
            plan.code != 1 && !plan.flat().contains("Members of etcd are not well")
        });
        // The apply that was refused has taken the one that was to go out of the outputs.
        self.terraform.apply();
        self.terraform.has_no_changes();
        self.has(&["cp-1", "cp-2", "cp-3"]);
    }

    /// The same machine under another name.
    fn one_gets_another_name(&self) {
        let example = std::fs::read_to_string(self.terraform.path("main.tf")).expect("the example");
        let all = "in local.control_planes : name => { endpoint";
        let renamed = example.replace(all, &all.replace(": name =>", ": (name == \"cp-2\" ? \"second\" : name) =>"));
        assert_ne!(renamed, example);
        self.terraform.write("main.tf", &renamed);
        self.terraform.plan().exits(2).says(&["0 to add, 1 to change, 0 to destroy"]);
        self.terraform.apply();
        self.has(&["cp-1", "second", "cp-3"]);
        self.terraform.has_no_changes();
    }

    /// Terraform destroys both machines before the cluster is changed.
    fn two_are_replaced_at_once(&self) {
        let replace = ["cp-1", "cp-3"].map(|name| format!("-replace=groundwork_vm.machine[\"{name}\"]"));
        let apply = ["apply", "-auto-approve", "-input=false", "-no-color", &replace[0], &replace[1]];
        self.terraform.run(&apply).exits(0);
        self.has(&["cp-1", "second", "cp-3"]);
        self.terraform.has_no_changes();
    }

    /// One after the other, and gone on with where it was cut off.
    fn all_are_upgraded(&self, from: &str, to: &str) {
        self.asks_for(to);
        self.terraform.plan().exits(2).says(&[&format!("{from} → {to}"), "0 to destroy"]);
        let api_server = "/etc/kubernetes/manifests/kube-apiserver.yaml";
        // The first is finished, and the second begins.
        let first = format!("{KUBECTL} get node cp-1 -o jsonpath={{.status.nodeInfo.kubeletVersion}} | grep -q v{to}");
        self.terraform.killed(|| self.lab.exec("cp-2", &first).code == 0);
        self.terraform.apply();
        self.has(&["cp-1", "second", "cp-3"]);
        let versions = self.kubectl("cp-1", "get nodes -o jsonpath='{.items[*].status.nodeInfo.kubeletVersion}'");
        let of_all = [1, 2, 3, 4].map(|_| format!("v{to}"));
        assert_eq!(versions.split_whitespace().collect::<Vec<_>>(), of_all);
        for vm in ["cp-1", "cp-2", "cp-3"] {
            self.lab.must(vm, &format!("grep -q :v{to} {api_server}"));
        }
        self.terraform.has_no_changes();
    }
}
