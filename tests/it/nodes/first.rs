//! Before the cluster stands: a container runtime that is too old, and a kubeadm that fails, told by their causes.

use super::Stage;
use crate::harness::run::Said;
use crate::harness::wait_until;
use serde_json::{Value, json};

/// Machines alone: the cluster is not made.
const MACHINES: [&str; 5] =
    ["apply", "-auto-approve", "-input=false", "-no-color", "-target=groundwork_machine.machine"];

impl Stage<'_> {
    /// The distribution's own. kubeadm of today only warns of it, where nobody sees it.
    pub(super) fn an_old_containerd_is_named(&self) {
        self.containerd("1.*");
        let machines = self.terraform.run(&MACHINES);
        machines.exits(0).says(&["A note about machine cp-1", "and this is 1."]);
        assert_eq!(machines.flat().matches("wants at least containerd").count(), 1, "of three\n{}", machines.text);
        // No apply puts it right, so every plan says it, too.
        let plan = ["plan", "-input=false", "-no-color", "-target=groundwork_machine.machine"];
        self.terraform.run(&plan).exits(0).says(&["A note about machine cp-1", "wants at least containerd"]);
        self.containerd("2.*");
        // Its own refresh has seen the old one.
        self.terraform.run(&MACHINES).exits(0);
        let cured = self.terraform.run(&plan);
        assert!(!cured.exits(0).flat().contains("wants at least containerd"), "{}", cured.text);
        self.overriding(|_| ());
    }

    /// The version of containerd on the machine that is to be the control plane; the others have the newest.
    fn containerd(&self, version: &str) {
        self.overriding(|resources| {
            let version = format!("${{each.key == \"cp-1\" ? \"{version}\" : null}}");
            resources["groundwork_machine"]["machine"]["container_runtime"]["version"] = json!(version);
        });
    }

    /// kubeadm's last words alone would be that it has waited.
    pub(super) fn a_failed_init_ends_in_its_cause(&self) {
        self.configured("init", &json!({ "timeouts": { "controlPlaneComponentHealthCheck": "20s" } }));
        self.lab.must("cp-1", "mv /etc/resolv.conf /etc/resolv.conf.away");
        self.terraform.fails(&[
            "Cannot create cluster quickstart",
            "The kubelet says: open /etc/resolv.conf: no such file or directory",
            "kubeadm ended with exit code 1: error execution phase wait-control-plane",
        ]);
        self.lab.must("cp-1", "mv /etc/resolv.conf.away /etc/resolv.conf");
        self.overriding(|_| ());
    }

    /// It printed no reason; the container that it waited for did.
    pub(super) fn a_killed_kubeadm_is_told_as_such(&self) {
        let arguments = json!([{ "name": "nonsense", "value": "1" }]);
        self.configured("cluster", &json!({ "apiServer": { "extraArgs": arguments } }));
        let apply = ["apply", "-auto-approve", "-input=false", "-no-color"];
        let mut apply = self.terraform.spawn(&apply, "killed.log");
        let log = "/var/log/pods/kube-system_kube-apiserver-*/kube-apiserver/*.log";
        wait_until("the API server has refused its arguments, or kubeadm has", || {
            let refused = self.lab.exec("cp-1", &format!("grep -q 'unknown flag' {log}")).code == 0;
            refused || apply.try_wait().expect("terraform").is_some()
        });
        self.lab.must("cp-1", "pkill -KILL -x kubeadm");
        let code = apply.wait().expect("terraform ends").code().unwrap_or(-1);
        let text = std::fs::read_to_string(self.terraform.path("killed.log")).expect("its log");
        Said { code, text }.exits(1).says(&[
            "Cannot create cluster quickstart",
            "-apiserver says: Error: unknown flag: --nonsense; kubeadm was killed, by somebody or for lack of memory",
        ]);
        self.overriding(|_| ());
    }

    /// Lays `fragment` over one of kubeadm's documents.
    fn configured(&self, document: &str, fragment: &Value) {
        self.overriding(|resources| {
            resources["groundwork_cluster"]["main"]["config"][document] = json!(fragment.to_string());
        });
    }
}
