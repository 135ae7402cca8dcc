//! `examples/quickstart` with the lab's values: what most tests apply.

use crate::harness::run::{command, run};
use crate::harness::{Lab, Terraform, provider_binary};
use serde_json::{Value, json};

/// The client on a control plane.
pub(crate) const KUBECTL: &str = "kubectl --kubeconfig /etc/kubernetes/admin.conf";

/// Kubernetes version that the tests ask for.
pub(crate) fn version(lab: &Lab) -> String {
    lab.value("LAB_KUBERNETES_VERSION")
}

/// Variables of the example for `lab`, with `workers` workers.
pub(crate) fn variables(lab: &Lab, workers: u8) -> Value {
    let worker_addresses: Vec<_> = (0..workers).map(|index| lab.address(21 + index)).collect();
    json!({
        "node": "pve1",
        "image_url": lab.value("LAB_IMAGE_URL"),
        "image_checksum": format!("sha256:{}", lab.value("LAB_IMAGE_SHA256")),
        "addresses": { "control_plane": lab.address(11), "workers": worker_addresses },
        "gateway": lab.address(1),
        "memory_mib": 2048,
        "disk_gib": 4,
        "cpu_type": "host",
        "kubernetes_version": version(lab),
        "kubernetes_repository": {
            "url": lab.value("LAB_KUBERNETES_URL"),
            "key_pem": lab.value("LAB_KUBERNETES_KEY"),
        },
    })
}

/// The example in a working folder of its own, ready for `apply`.
#[track_caller]
pub(crate) fn prepare(lab: &Lab, workers: u8) -> Terraform {
    let terraform = Terraform::for_lab(lab);
    terraform.example("quickstart");
    terraform.variables(&variables(lab, workers));
    terraform.write("lab_override.tf.json", &lab.file("quickstart_override.tf.json"));
    terraform
}

/// The same without the cluster: machines that are ready to become nodes.
#[track_caller]
pub(crate) fn prepare_machines(lab: &Lab, workers: u8) -> Terraform {
    let terraform = prepare(lab, workers);
    let example = std::fs::read_to_string(terraform.path("main.tf")).expect("the example");
    let (machines, _) = example.split_once("resource \"groundwork_cluster\"").expect("the example has a cluster");
    terraform.write("main.tf", machines);
    terraform.write("outputs.tf", "");
    let mut over: Value = serde_json::from_str(&lab.file("quickstart_override.tf.json")).expect("JSON");
    over["resource"].as_object_mut().expect("resources").remove("groundwork_cluster");
    terraform.write("lab_override.tf.json", &over.to_string());
    terraform
}

/// A snapshot of the cluster's etcd beside the example, another one for each trigger; or none.
#[track_caller]
pub(crate) fn asks_for_snapshot(terraform: &Terraform, path: &str, trigger: Option<&str>) {
    let resources = trigger.map_or(json!({}), |trigger| {
        json!({ "resource": { "groundwork_etcd_snapshot": { "now": {
            "ca_fingerprint": "${groundwork_cluster.main.ca_fingerprint}",
            "control_planes": "${groundwork_cluster.main.control_planes}",
            "path": path,
            "triggers": { "when": trigger },
        } } } })
    });
    terraform.write("snapshot.tf.json", &resources.to_string());
}

/// What must hold on every machine of the cluster, container or not.
#[track_caller]
pub(crate) fn machine_is_prepared(lab: &Lab, vm: &str) {
    machine_is_prepared_as(lab, vm, &version(lab));
}

/// The same with another version of Kubernetes than the lab's first.
#[track_caller]
pub(crate) fn machine_is_prepared_as(lab: &Lab, vm: &str, kubernetes: &str) {
    assert_eq!(lab.must(vm, "sysctl -n net.ipv4.ip_forward"), "1", "{vm}: forwarding");
    let modules = lab.must(vm, "cat /etc/modules-load.d/*.conf");
    assert!(
        modules.contains("overlay") && modules.contains("br_netfilter"),
        "{vm}: modules for the next boot\n{modules}"
    );
    let sysctls = lab.must(vm, "cat /etc/sysctl.d/99-zz-groundwork.conf");
    assert!(sysctls.contains("net.bridge.bridge-nf-call-iptables"), "{vm}: sysctls for the next boot\n{sysctls}");
    lab.must(vm, "systemctl is-active containerd");
    lab.must(vm, "test -S /run/containerd/containerd.sock && ctr --address /run/containerd/containerd.sock version");
    let config = lab.must(vm, "containerd config dump");
    assert!(config.contains("SystemdCgroup = true"), "{vm}: cgroup driver\n{config}");
    let held = lab.must(vm, "apt-mark showhold");
    for package in ["kubeadm", "kubelet", "kubectl"] {
        assert!(held.lines().any(|line| line == package), "{vm}: {package} is held\n{held}");
        let version = lab.must(vm, &format!("dpkg-query -W -f '${{Version}}' {package}"));
        assert!(version.starts_with(&format!("{kubernetes}-")), "{vm}: {package} {version}");
    }
    assert_eq!(lab.must(vm, "hostname"), vm);
}

/// An apply ends with nodes that are Ready: the example has a pod network.
#[track_caller]
pub(crate) fn nodes_are_ready(lab: &Lab) {
    nodes_are_ready_by(lab, "cp-1");
}

/// The same, as another control plane has it.
#[track_caller]
pub(crate) fn nodes_are_ready_by(lab: &Lab, vm: &str) {
    assert_eq!(names(lab, vm, true), names(lab, vm, false));
}

/// Names of all nodes.
#[track_caller]
pub(crate) fn nodes(lab: &Lab) -> Vec<String> {
    nodes_by(lab, "cp-1")
}

/// The same as another control plane sees them.
#[track_caller]
pub(crate) fn nodes_by(lab: &Lab, vm: &str) -> Vec<String> {
    names(lab, vm, false)
}

/// Nodes that are Ready, or all of them, as a control plane sees them.
#[track_caller]
fn names(lab: &Lab, vm: &str, only_ready: bool) -> Vec<String> {
    let text = lab.must(vm, &format!("{KUBECTL} get nodes --no-headers 2>/dev/null"));
    let lines = text.lines().filter(|line| !only_ready || line.split_whitespace().nth(1) == Some("Ready"));
    let mut names: Vec<_> = lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    names.sort();
    names
}

/// The lab as it is when nothing of ours is left in it.
#[track_caller]
pub(crate) fn lab_is_empty(lab: &Lab) {
    let inventory = lab.inventory();
    for kind in ["vms", "volumes", "machines"] {
        let left = inventory[kind].as_array().unwrap_or_else(|| panic!("lab list: no {kind} in {inventory}"));
        assert!(left.is_empty(), "destroy left {kind}: {left:?}");
    }
}

/// What `kubectl` is given when it asks as the kubeconfig says.
#[track_caller]
pub(crate) fn credential(terraform: &Terraform) -> Value {
    let kubeconfig = terraform.run(&["output", "-raw", "kubeconfig"]);
    let kubeconfig: Value = serde_json::from_str(&kubeconfig.text).expect("JSON is YAML");
    let arguments = kubeconfig["users"][0]["user"]["exec"]["args"].as_array().expect("arguments").iter();
    let mut kubectl = command(provider_binary());
    let said =
        run(kubectl.args(arguments.filter_map(Value::as_str)).env("GROUNDWORK_AGENT_PKI_DIR", terraform.path("pki")));
    serde_json::from_str(&said.exits(0).text).expect("a credential")
}

/// How many pods of the deployment `web` must be there at any time.
#[track_caller]
pub(crate) fn budget(lab: &Lab, least: u8) {
    let budget = serde_json::json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "web" },
        "spec": { "minAvailable": least, "selector": { "matchLabels": { "app": "web" } } },
    });
    lab.must("cp-1", &format!("{KUBECTL} apply -f - <<'END'\n{budget}\nEND\n"));
}
