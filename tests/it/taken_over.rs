//! A cluster that kubeadm made by hand, on machines that nobody declares, is imported, planned without changes, and changed and upgraded from
//! there like any other.

use crate::harness::{Backend, Lab, Terraform, long_ready};
use crate::quickstart::{self, KUBECTL, lab_is_empty, nodes_are_ready, variables};
use serde_json::json;

#[test]
fn a_cluster_that_was_made_by_hand_is_taken_over_by_an_import_and_by_nothing_else() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("taken-over", Backend::Nspawn, &["--kubernetes", &format!("{FROM},{TO}")]);
    let terraform = quickstart::prepare_machines(&lab, 1);
    terraform.apply();
    let stage = Stage { lab: &lab, terraform: &terraform, machines: prepared_by_somebody_else(&lab, &terraform) };
    stage.is_made_by_hand();
    stage.nothing_is_taken_over_silently();
    stage.an_import_looks();
    stage.a_change_takes_over();
    stage.it_is_upgraded_from_there();
    terraform.destroy();
    lab_is_empty(&lab);
}

struct Stage<'a> {
    lab: &'a Lab,
    terraform: &'a Terraform,
    /// The configuration without a cluster.
    machines: String,
}

impl Stage<'_> {
    /// As the documentation of kubeadm has it, but for what containers cannot do.
    fn is_made_by_hand(&self) {
        let (address, version) = (self.lab.address(11), FROM);
        let config = format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {{ advertiseAddress: {address} }}\n\
             nodeRegistration: {{ name: cp-1 }}\n---\n\
             apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v{version}\n\
             networking: {{ podSubnet: 10.244.0.0/16 }}\napiServer: {{ certSANs: [api.example.org] }}\n---\n\
             apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailCgroupV1: false\n\
             imageGCHighThresholdPercent: 100\nevictionHard: {{ nodefs.available: 0% }}\n---\n\
             apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nconntrack: {{ maxPerCore: 0, min: 0 }}\n"
        );
        self.lab.must("cp-1", &format!("cat > /root/kubeadm.yaml <<'END'\n{config}END\n"));
        self.lab.must("cp-1", &format!("kubeadm init --config /root/kubeadm.yaml {IGNORED} 2>&1"));
        let network = std::fs::read_to_string(self.terraform.path("kube-flannel.yaml")).expect("the network plugin");
        self.lab.must("cp-1", &format!("{KUBECTL} apply -f - <<'END'\n{network}\nEND\n"));
        let join = self.lab.must("cp-1", "kubeadm token create --print-join-command 2>/dev/null");
        self.lab.must("worker-1", &format!("{} --node-name worker-1 {IGNORED} 2>&1", join.trim()));
        self.lab.must("cp-1", &format!("{KUBECTL} wait --for=condition=Ready node/cp-1 node/worker-1 --timeout=3m"));
        self.lab.must("cp-1", &format!("{KUBECTL} create configmap witness --from-literal=of=before"));
    }

    /// The cluster as it is, with `more` lines, and workers with these settings.
    fn declares(&self, more: &str, of_workers: &str) {
        let members = |map: &str, more: &str| {
            format!(
                "{{ for name, _ in local.{map} : name => {{ endpoint = groundwork_vm.machine[name].endpoint{more} }} }}"
            )
        };
        let cluster = format!(
            "resource \"groundwork_cluster\" \"main\" {{\n  name = \"by-hand\"\n  version = var.kubernetes_version\n  pod_subnet = \"10.244.0.0/16\"\n  \
             certificate_names = [\"api.example.org\"]\n  control_planes = {}\n  workers = {}\n{more}\n}}\n",
            members("control_planes", ""),
            members("workers", of_workers),
        );
        self.terraform.write("main.tf", &format!("{}\n{cluster}", self.machines));
    }

    /// A creation refuses what stands there, and neither an id without a name nor one without all nodes knows of a cluster.
    fn nothing_is_taken_over_silently(&self) {
        self.declares("", "");
        self.terraform.fails(&["Cannot create cluster by-hand", "control plane that this agent did not make"]);
        self.terraform.run(&["state", "rm", "groundwork_cluster.main"]).exits(0);
        self.import(&self.endpoint("cp-1")).exits(1).says(&["has no record of a cluster made by this provider"]);
        for (machine, words) in [
            ("worker-1", "None of the machines is a control plane"),
            ("cp-1", "nodes whose agents are not named: worker-1"),
        ] {
            self.import(&format!("by-hand={}", self.endpoint(machine))).exits(1).says(&[words]);
        }
    }

    fn import(&self, id: &str) -> crate::harness::run::Said {
        self.terraform.run(&["import", "-input=false", "-no-color", "groundwork_cluster.main", id])
    }

    fn endpoint(&self, name: &str) -> String {
        let machine = self.terraform.resource(&format!("groundwork_vm.machine[\"{name}\"]"));
        let text = |field: &str| machine["endpoint"][field].as_str().expect("text").to_owned();
        format!("{},{}", text("address"), text("fingerprint"))
    }

    fn an_import_looks(&self) {
        self.import(&format!("by-hand={};{}", self.endpoint("cp-1"), self.endpoint("worker-1"))).exits(0);
        self.terraform.plan().exits(0).says(&["No changes.", "The machines of cluster by-hand are not taken over yet"]);
        for machine in ["cp-1", "worker-1"] {
            assert!(!self.is_noted(machine), "{machine}: an import changes nothing");
        }
    }

    /// An argument of the scheduler and a label: what is done on a control plane, and through it.
    fn a_change_takes_over(&self) {
        self.declares(ARGUMENT, LABELS);
        self.terraform.plan().exits(2).says(&["config: cp-1", "0 to add, 1 to change, 0 to destroy"]);
        self.terraform.apply();
        self.lab.must("cp-1", "grep -q -- --v=3 /etc/kubernetes/manifests/kube-scheduler.yaml");
        let labels = format!("{KUBECTL} get node worker-1 -o jsonpath={{.metadata.labels.tier}}");
        assert_eq!(self.lab.must("cp-1", &labels), "web");
        let witness = format!("{KUBECTL} get configmap witness -o jsonpath={{.data.of}}");
        assert_eq!(self.lab.must("cp-1", &witness), "before");
        for machine in ["cp-1", "worker-1"] {
            assert!(self.is_noted(machine), "{machine} is ours now");
        }
        let plan = self.terraform.plan();
        plan.exits(0);
        assert!(!plan.flat().contains("are not taken over yet"), "{}", plan.text);
    }

    /// By packages that no specification knows, of which one machine's were held by hand, as kubeadm's documentation has it, and the other's
    /// were not.
    fn it_is_upgraded_from_there(&self) {
        let mut values = variables(self.lab, 1);
        values["kubernetes_version"] = json!(TO);
        self.terraform.variables(&values);
        let ignored = "  ignore_preflight_errors = [\"SystemVerification\"]";
        self.declares(&format!("{ARGUMENT}\n{ignored}"), LABELS);
        self.terraform.plan().exits(2).says(&[&format!("{FROM} → {TO}"), "0 to add, 1 to change, 0 to destroy"]);
        self.terraform.apply();
        nodes_are_ready(self.lab);
        let version = |line: &str| self.lab.must("cp-1", &format!("{KUBECTL} {line}"));
        for machine in MACHINES {
            let kubelet = version(&format!("get node {machine} -o jsonpath={{.status.nodeInfo.kubeletVersion}}"));
            assert_eq!(kubelet, format!("v{TO}"), "{machine}");
            let held = self.lab.must(machine, "apt-mark showhold");
            for package in ["kubeadm", "kubelet", "kubectl"] {
                assert!(held.lines().any(|line| line == package), "{machine}: {package} is held\n{held}");
                let own = self.lab.must(machine, &format!("dpkg-query -W -f '${{Version}}' {package}"));
                assert!(own.starts_with(&format!("{TO}-")), "{machine}: {package} {own}");
            }
        }
        for name in ["kube-apiserver", "kube-scheduler"] {
            let image =
                version(&format!("-n kube-system get pod {name}-cp-1 -o jsonpath={{.spec.containers[0].image}}"));
            assert!(image.ends_with(&format!(":v{TO}")), "{image}");
        }
        self.lab.must("cp-1", "grep -q -- --v=3 /etc/kubernetes/manifests/kube-scheduler.yaml");
        assert_eq!(version("get configmap witness -o jsonpath={.data.of}"), "before");
        assert_eq!(version("get nodes -o jsonpath={.items[*].spec.unschedulable}"), "");
        self.terraform.has_no_changes();
    }

    fn is_noted(&self, machine: &str) -> bool {
        self.lab.exec(machine, "test -e /var/lib/groundwork/cluster/attempt.json").code == 0
    }
}

/// The agents stay, and nothing else of ours: the machines are declared no more, what was written of their packages is gone, and the repository
/// has a name of somebody else's. Gives what is left of the configuration.
fn prepared_by_somebody_else(lab: &Lab, terraform: &Terraform) -> String {
    let all = std::fs::read_to_string(terraform.path("main.tf")).expect("the machines");
    let (vms, _) = all.split_once("resource \"groundwork_machine\"").expect("the example has machines");
    terraform.write("main.tf", vms);
    terraform.write("lab_override.tf.json", "{}");
    terraform.run(&["state", "rm", "groundwork_machine.machine"]).exits(0);
    for machine in MACHINES {
        lab.must(
            machine,
            "cd /etc/apt/sources.list.d && mv groundwork-kubernetes.sources kubernetes.sources && rm /etc/apt/preferences.d/groundwork",
        );
    }
    lab.must("worker-1", "apt-mark unhold kubeadm kubelet kubectl");
    terraform.has_no_changes();
    vms.to_owned()
}

const MACHINES: [&str; 2] = ["cp-1", "worker-1"];
/// The second is the same code under the next number.
const FROM: &str = "1.36.3";
const TO: &str = "1.36.4";
const ARGUMENT: &str =
    "  config { cluster = jsonencode({ scheduler = { extraArgs = [{ name = \"v\", value = \"3\" }] } }) }";
const LABELS: &str = ", labels = { tier = \"web\" }";
const IGNORED: &str = "--ignore-preflight-errors=SystemVerification";
