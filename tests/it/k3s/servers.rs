//! Several servers of K3s or RKE2 behind a load balancer: none of them is special, and etcd is asked who its members are.

use super::{Given, Wanted, a_pod_is_reached, is_nowhere, kubectl_by, leaves_nothing, nodes_are_ready_by, real};
use crate::ha::balancer::Balancer;
use crate::harness::{Backend, Lab, Terraform, long_ready, wait_until};
use crate::quickstart::lab_is_empty;
use std::collections::BTreeSet;

/// With what stands in for K3s, and a real etcd: see `tests/lab/k3s`.
#[test]
fn servers_of_k3s_come_and_go() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("k3s-servers", Backend::Nspawn, &["--kubernetes", "none"]);
    let Some(given) = Given::stand_in(&lab) else { return };
    come_and_go(&lab, &given);
}

#[test]
fn a_real_k3s_has_several_servers() {
    if let Some((program, images)) = real() {
        let lab = Lab::start("k3s-servers-real", Backend::Nspawn, &["--kubernetes", "none"]);
        come_and_go(&lab, &Given::real(&lab, &program, &images));
    }
}

pub(super) fn come_and_go(lab: &Lab, given: &Given) {
    let _balancers = balancers(lab);
    let terraform = Terraform::for_lab(lab);
    let stage = Stage { lab, given, terraform: &terraform };
    stage.begins();
    stage.the_secret_stays_among_the_servers();
    stage.the_first_is_destroyed_outside_and_joins_again();
    stage.a_node_that_somebody_deleted_comes_back();
    stage.a_server_that_is_down_leaves_and_another_one_comes();
    stage.the_quorum_is_never_destroyed();
    stage.one_gets_another_name();
    stage.two_are_replaced_at_once();
    stage.a_join_whose_provider_is_killed_is_gone_on_with();
    leaves_nothing(lab, (&terraform, given), &["cp-2", "cp-3", "cp-4", "worker-1"]);
    terraform.destroy();
    lab_is_empty(lab);
}

#[test]
fn servers_of_k3s_are_upgraded_one_by_one() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("k3s-upgrade", Backend::Nspawn, &["--kubernetes", "none"]);
    let Some(given) = Given::stand_in(&lab) else { return };
    are_upgraded(&lab, &given);
}

#[test]
fn a_real_k3s_is_upgraded_server_by_server() {
    if let Some((program, images)) = real() {
        let lab = Lab::start("k3s-upgrade-real", Backend::Nspawn, &["--kubernetes", "none"]);
        are_upgraded(&lab, &Given::real(&lab, &program, &images));
    }
}

/// One after the other, and gone on with where it was cut off or stopped.
pub(super) fn are_upgraded(lab: &Lab, given: &Given) {
    let Some(next) = given.next(lab) else { return };
    let _balancers = balancers(lab);
    let terraform = Terraform::for_lab(lab);
    let stage = Stage { lab, given, terraform: &terraform };
    stage.begins();
    stage.wants_of(&[1, 2, 3], &next);
    let road = format!("{} → {}", given.version, next.version);
    terraform.plan().exits(2).says(&[&road, "\"cp-1\"", "\"worker-1\"", "0 to destroy"]);
    let replaced = given.own(&format!("/usr/local/bin/k3s --version | grep -qF {}", next.version));
    terraform.killed(|| lab.exec("cp-1", &replaced).code == 0);
    // It goes on with that one, and stops at the next, which does not come up again.
    let folder = given.own("/etc/systemd/system/k3s.service.d");
    let never = format!("mkdir {folder} && printf '[Service]\\nExecStartPre=/bin/false\\n' >{folder}/never.conf");
    lab.must("cp-2", &never);
    terraform.fails(&["Cannot upgrade node cp-2", &given.own("The unit k3s.service does not run")]);
    terraform.plan().exits(2).says(&["cp-2: its kubelet is", "cp-3: its kubelet is"]);
    stage.has_versions("cp-1", (&given.version, 3), (&next.version, 1));
    lab.must("cp-2", &format!("rm -r {folder}"));
    terraform.apply();
    stage.has("cp-1", &["cp-1", "cp-2", "cp-3"]);
    let told = stage.has_versions("cp-1", (&given.version, 0), (&next.version, 4));
    assert!(!told.contains("groundwork/upgrading"), "{told}");
    terraform.has_no_changes();
    leaves_nothing(lab, (&terraform, given), &["cp-1", "cp-2", "cp-3", "worker-1"]);
    terraform.destroy();
    lab_is_empty(lab);
}

/// At the API servers' port, and at that of RKE2's supervisors.
pub(super) fn balancers(lab: &Lab) -> [Balancer; 2] {
    let servers = || [1, 2, 3, 4].map(|number| lab.address(10 + number)).to_vec();
    [6443, 9345].map(|port| Balancer::at((&lab.address(254), port), servers()))
}

pub(super) struct Stage<'a> {
    pub(super) lab: &'a Lab,
    pub(super) given: &'a Given,
    pub(super) terraform: &'a Terraform,
}

impl Stage<'_> {
    pub(super) fn wants(&self, servers: &[u8]) {
        self.wants_of(servers, self.given);
    }

    /// Machines for all of these servers, and one that is none.
    pub(super) fn keeps_all_machines(&self, servers: &[u8], but: &str) {
        self.wants(servers);
        let whole = std::fs::read_to_string(self.terraform.path("main.tf")).expect("the configuration");
        let all = "in local.servers : name => { endpoint = groundwork_machine.machine[name].endpoint";
        let (before, after) = whole.split_once(all).expect("servers");
        let (rest, after) = after.split_once("} }").expect("their end");
        self.terraform.write("main.tf", &format!("{before}{all}{rest}}} if name != \"{but}\" }}{after}"));
    }

    fn wants_of(&self, servers: &[u8], given: &Given) {
        let endpoint = Some(format!("{}:6443", self.lab.address(254)));
        let wanted = Wanted { servers, endpoint, ..Wanted::single(1, "a") };
        self.terraform.write("main.tf", &wanted.configuration(self.lab, given));
    }

    /// Exactly these are servers of the cluster, with a vote in etcd each, as the machine `by` has it.
    #[track_caller]
    pub(super) fn has(&self, by: &str, names: &[&str]) {
        let mut all = names.to_vec();
        all.push("worker-1");
        nodes_are_ready_by(self.lab, by, &all);
        let roles = kubectl_by(self.lab, by, "get nodes -o json");
        assert_eq!(roles.matches("\"node-role.kubernetes.io/control-plane\"").count(), names.len(), "{roles}");
        let wanted: BTreeSet<String> = names.iter().map(|name| format!("{name} votes")).collect();
        assert_eq!(self.members(by), wanted);
    }

    /// Nodes of etcd's members, and whether they have a vote.
    #[track_caller]
    fn members(&self, vm: &str) -> BTreeSet<String> {
        let said = self.lab.must(vm, &self.given.own(&format!("python3 -c '{MEMBERS}'")));
        said.lines().map(str::to_owned).collect()
    }

    fn begins(&self) {
        self.wants(&[1, 2, 3]);
        self.terraform.apply();
        self.has("cp-3", &["cp-1", "cp-2", "cp-3"]);
        self.terraform.has_no_changes();
        if self.given.real {
            a_pod_is_reached(self.lab, "worker-1", "cp-2");
        }
    }

    /// K3s writes it down on each of them, for root; it is shown nowhere.
    fn the_secret_stays_among_the_servers(&self) {
        let secret = self.lab.must("cp-1", &self.given.own("cut -d: -f4 /var/lib/rancher/k3s/server/token"));
        is_nowhere(self.lab, self.terraform, ("the cluster's", &secret), &["cp-1", "cp-2", "cp-3", "worker-1"]);
        for vm in ["cp-1", "cp-2", "cp-3"] {
            let config = self.lab.must(vm, &self.given.own("cat /etc/rancher/k3s/config.yaml"));
            assert!(
                !config.contains(&secret)
                    && !config.contains("cluster-init")
                    && config.contains("\"server\": \"https://"),
                "{config}"
            );
            assert_eq!(self.lab.must(vm, &self.given.own("stat -c %a /etc/rancher/k3s/groundwork-token")), "600");
        }
        let worker = "grep -rlsF -f /run/wanted /etc /run/groundwork /var/lib/rancher/k3s/agent || true";
        assert_eq!(self.lab.must("worker-1", &self.given.own(worker)), "", "an agent has no use for it");
    }

    fn the_first_is_destroyed_outside_and_joins_again(&self) {
        let ours = self.terraform.resource("groundwork_cluster.edge")["ca_fingerprint"].clone();
        self.lab.burn(&self.terraform.vm("cp-1"));
        let plan = self.terraform.plan();
        plan.exits(2).says(&["groundwork_vm.machine[\"cp-1\"] will be created", "with the next one the cluster stops"]);
        self.terraform.apply();
        self.has("cp-1", &["cp-1", "cp-2", "cp-3"]);
        let after = self.terraform.resource("groundwork_cluster.edge")["ca_fingerprint"].clone();
        assert_eq!(after, ours, "no second cluster was made");
        self.terraform.has_no_changes();
    }

    /// K3s takes its member out of etcd, and its unit seems to run on.
    fn a_node_that_somebody_deleted_comes_back(&self) {
        kubectl_by(self.lab, "cp-2", "delete node cp-1");
        wait_until("etcd has two members", || self.members("cp-2").len() == 2);
        self.terraform.plan().exits(2).says(&["groundwork_cluster.edge will be updated in-place"]);
        self.terraform.apply();
        self.has("cp-1", &["cp-1", "cp-2", "cp-3"]);
        self.terraform.has_no_changes();
    }

    fn a_server_that_is_down_leaves_and_another_one_comes(&self) {
        self.lab.control("power", &["cp-1", "off"]).exits(0);
        self.wants(&[2, 3, 4]);
        self.terraform.apply();
        self.has("cp-4", &["cp-2", "cp-3", "cp-4"]);
        self.terraform.has_no_changes();
    }

    /// One is down, and another one is to go.
    fn the_quorum_is_never_destroyed(&self) {
        self.lab.control("power", &["cp-4", "off"]).exits(0);
        wait_until("etcd has noticed", || self.terraform.plan().flat().contains("Members of etcd are not well"));
        self.wants(&[2, 4]);
        self.terraform.fails(&["of the other 2 members of etcd 1 are well, and it needs 2"]);
        self.lab.control("power", &["cp-4", "on"]).exits(0);
        self.wants(&[2, 3, 4]);
        wait_until("all are well again", || {
            let plan = self.terraform.plan();
            plan.code != 1 && !plan.flat().contains("Members of etcd are not well")
        });
        self.terraform.apply();
        self.terraform.has_no_changes();
        self.has("cp-4", &["cp-2", "cp-3", "cp-4"]);
    }

    /// The same machine under another name.
    fn one_gets_another_name(&self) {
        let whole = std::fs::read_to_string(self.terraform.path("main.tf")).expect("the configuration");
        let all = "in local.servers : name => { endpoint";
        let renamed = whole.replace(all, "in local.servers : (name == \"cp-2\" ? \"second\" : name) => { endpoint");
        assert_ne!(renamed, whole);
        self.terraform.write("main.tf", &renamed);
        self.terraform.plan().exits(2).says(&["0 to add, 1 to change, 0 to destroy"]);
        self.terraform.apply();
        self.has("cp-4", &["cp-3", "cp-4", "second"]);
        self.terraform.has_no_changes();
        self.wants(&[2, 3, 4]);
        self.terraform.apply();
        self.has("cp-4", &["cp-2", "cp-3", "cp-4"]);
    }

    /// Terraform destroys both machines before the cluster is changed.
    fn two_are_replaced_at_once(&self) {
        let replace = ["cp-2", "cp-4"].map(|name| format!("-replace=groundwork_vm.machine[\"{name}\"]"));
        let apply = ["apply", "-auto-approve", "-input=false", "-no-color", &replace[0], &replace[1]];
        self.terraform.run(&apply).exits(0);
        self.has("cp-3", &["cp-2", "cp-3", "cp-4"]);
        self.terraform.has_no_changes();
    }

    fn a_join_whose_provider_is_killed_is_gone_on_with(&self) {
        self.wants(&[1, 2, 3, 4]);
        let joining = self.given.own("test -e /etc/systemd/system/k3s.service");
        self.terraform.killed(|| self.lab.exec("cp-1", &joining).code == 0);
        self.terraform.apply();
        self.has("cp-1", &["cp-1", "cp-2", "cp-3", "cp-4"]);
        self.terraform.has_no_changes();
        self.wants(&[2, 3, 4]);
        self.terraform.apply();
        self.has("cp-2", &["cp-2", "cp-3", "cp-4"]);
        self.terraform.has_no_changes();
    }

    /// So many nodes have either version.
    #[track_caller]
    fn has_versions(&self, by: &str, old: (&str, usize), new: (&str, usize)) -> String {
        let told = kubectl_by(self.lab, by, "get nodes -o json");
        let count = |version: &str| told.matches(&format!("\"kubeletVersion\": \"{version}\"")).count();
        assert_eq!((count(old.0), count(new.0)), (old.1, new.1), "{told}");
        told
    }
}

/// Asks the etcd of the machine, where K3s has it answer in JSON.
const MEMBERS: &str = r#"
import json, ssl, urllib.request
tls = "/var/lib/rancher/k3s/server/tls/etcd"
context = ssl._create_unverified_context()
context.load_cert_chain(tls + "/client.crt", tls + "/client.key")
request = urllib.request.Request("https://127.0.0.1:2382/v3/cluster/member/list", data=b"{}")
for one in json.load(urllib.request.urlopen(request, context=context, timeout=10))["members"]:
    print(one.get("name", "").rpartition("-")[0], "learns" if one.get("isLearner") else "votes")
"#;
