//! Real Kubernetes: one control plane, two workers and Flannel, from nothing to what is left when the cluster is gone.

use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart::{self, KUBECTL, lab_is_empty, machine_is_prepared, nodes, nodes_are_ready, variables};
use serde_json::{Value, json};

/// The image of Kubernetes' own tests: a web server, a client, and whatever else a network is tried with.
const IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.53";

/// What a cluster puts on a machine, and how to see it.
const TRACES: [(&str, &str); 6] = [
    ("containers", "ctr --namespace k8s.io containers list --quiet"),
    ("processes", "pgrep -a 'kube|etcd|flanneld|coredns|containerd-shim'"),
    ("mounts", "grep -E 'kubelet|/run/netns|k8s.io' /proc/mounts"),
    ("rules", "iptables-save | grep -E 'KUBE|FLANNEL'"),
    ("links", "ip -o link | grep -E 'cni0|flannel|veth'"),
    ("files", "ls -A /etc/cni/net.d /etc/kubernetes/pki /etc/kubernetes/*.conf /var/lib/etcd | grep -v :$"),
];

#[test]
fn a_real_cluster_works_changes_and_leaves_nothing() {
    if !ready() {
        return;
    }
    let lab = Lab::start("kubernetes", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 2);
    terraform.apply();
    for vm in ["cp-1", "worker-1", "worker-2"] {
        machine_is_prepared(&lab, vm);
        lab.must(vm, "test ! -e /root/.kube");
    }
    nodes_have_the_addresses_of_their_machines(&lab, &[("cp-1", 11), ("worker-1", 21), ("worker-2", 22)]);
    assert_eq!(nodes(&lab), ["cp-1", "worker-1", "worker-2"]);
    nodes_are_ready(&lab);
    terraform.has_no_changes();

    kubectl(&lab, &run("web", "worker-1", "netexec"));
    kubectl(&lab, "expose pod web --port=80 --target-port=8080");
    kubectl(&lab, "wait --for=condition=Ready pod/web --timeout=2m");
    kubectl(&lab, "-n kube-system wait --for=condition=Available deployment/coredns --timeout=2m");
    a_service_is_reached(&lab, "worker-2");
    terraform.has_no_changes();

    a_node_leaves_and_comes_back(&lab, &terraform);
    a_destroyed_cluster_leaves_nothing_on_its_machines(&lab, &terraform);
    terraform.destroy();
    lab_is_empty(&lab);
}

/// The default route is that of another card, whose address the kubelet would choose.
#[test]
fn a_machine_with_two_cards_is_known_by_the_one_of_its_cluster() {
    if !ready() {
        return;
    }
    let lab = Lab::start("two-cards", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 1);
    let near = json!({ "address": "${each.value}/24", "route": { "169.254.0.0/16": { "via": lab.address(1) } } });
    let far = json!({ "address": "198.18.7.${split(\".\", each.value)[3]}/24", "gateway": "198.18.7.1" });
    let mut over: Value = serde_json::from_str(&lab.file("quickstart_override.tf.json")).expect("JSON");
    over["resource"]["groundwork_vm"]["machine"] = json!({
        "network": { "net0": { "bridge": "vmbr0" }, "net1": { "bridge": "vmbr1" } },
        "cloud_init": { "network": { "net0": near, "net1": far } },
    });
    terraform.write("lab_override.tf.json", &over.to_string());
    terraform.apply();
    assert!(lab.must("worker-1", "ip -4 route show default").contains("198.18.7.1"), "the other card leads outside");
    nodes_have_the_addresses_of_their_machines(&lab, &[("cp-1", 11), ("worker-1", 21)]);
    nodes_are_ready(&lab);
    terraform.has_no_changes();
    terraform.destroy();
    lab_is_empty(&lab);
}

/// Where a machine has several, the kubelet would choose one by itself.
#[track_caller]
fn nodes_have_the_addresses_of_their_machines(lab: &Lab, machines: &[(&str, u8)]) {
    for (vm, last) in machines {
        let address = lab.address(*last);
        let flags = lab.must(vm, "cat /var/lib/kubelet/kubeadm-flags.env");
        assert!(flags.contains(&format!("--node-ip={address}")), "{vm}: {flags}");
        let path = "'{.status.addresses[?(@.type==\"InternalIP\")].address}'";
        assert_eq!(kubectl(lab, &format!("get node {vm} -o jsonpath={path}")), address, "{vm}");
    }
}

/// By its name, over the pod network, through kube-proxy's rules, from a pod on another node.
#[track_caller]
fn a_service_is_reached(lab: &Lab, node: &str) {
    let client = format!("client-{node}");
    kubectl(lab, &run(&client, node, "connect web.default.svc.cluster.local:80 --timeout=10s"));
    kubectl(lab, &format!("wait --for=jsonpath={{.status.phase}}=Succeeded pod/{client} --timeout=2m"));
}

fn a_node_leaves_and_comes_back(lab: &Lab, terraform: &Terraform) {
    terraform.variables(&variables(lab, 1));
    terraform.plan().exits(2).says(&["worker-2"]);
    terraform.apply();
    assert_eq!(nodes(lab), ["cp-1", "worker-1"]);
    terraform.has_no_changes();

    terraform.variables(&variables(lab, 2));
    terraform.apply();
    assert_eq!(nodes(lab), ["cp-1", "worker-1", "worker-2"]);
    kubectl(lab, "wait --for=condition=Ready node/worker-2 --timeout=2m");
    kubectl(lab, "delete pod client-worker-2 --ignore-not-found");
    a_service_is_reached(lab, "worker-2");
    terraform.has_no_changes();
}

/// The cluster goes and its machines stay: nothing runs, is mounted or filters there that was the cluster's.
fn a_destroyed_cluster_leaves_nothing_on_its_machines(lab: &Lab, terraform: &Terraform) {
    something_is_kept_elsewhere(lab);
    terraform
        .run(&["destroy", "-auto-approve", "-input=false", "-no-color", "-target=groundwork_cluster.main"])
        .exits(0)
        .says(&[
            "Cluster quickstart leaves something outside of its machines",
            "Services of type LoadBalancer: default/shop (198.51.100.80).",
            "PersistentVolumes: kept (nfs nas.example.org).",
        ]);
    let mut left = String::new();
    for vm in ["cp-1", "worker-1", "worker-2"] {
        for (what, line) in TRACES {
            let said = lab.must(vm, &format!("{{ {line}; }} 2>/dev/null || true"));
            if !said.is_empty() {
                left += &format!("{vm}, {what}:\n{said}\n");
            }
        }
    }
    assert!(left.is_empty(), "the cluster left\n{left}");
    let plan = terraform.plan();
    plan.exits(2).says(&["groundwork_cluster.main will be created", "1 to add, 0 to change, 0 to destroy"]);
}

/// A load balancer gave a Service its address, and a volume is on another server.
fn something_is_kept_elsewhere(lab: &Lab) {
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "198.51.100.80" }] } } });
    kubectl(lab, "create service loadbalancer shop --tcp=80");
    kubectl(lab, &format!("patch service shop --subresource=status --type=merge --patch='{status}'"));
    let volume = json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "kept" }, "spec": {
        "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteMany"], "nfs": { "server": "nas.example.org", "path": "/" },
    } });
    kubectl(lab, &format!("create -f - <<'END'\n{volume}\nEND\n"));
}

/// A line for `kubectl` that runs a pod on a node.
fn run(name: &str, node: &str, arguments: &str) -> String {
    let place = json!({ "spec": { "nodeName": node } });
    format!("run {name} --image={IMAGE} --overrides='{place}' --restart=Never -- {arguments}")
}

#[track_caller]
fn kubectl(lab: &Lab, line: &str) -> String {
    lab.must("cp-1", &format!("{KUBECTL} {line}"))
}
