//! What many clusters have besides: a virtual address by kube-vip, and metrics-server. Both are built for the lab from source, which
//! takes minutes.

use crate::harness::{Backend, Lab, Terraform, long_ready, repository, wait_until};
use crate::quickstart::{self, KUBECTL, lab_is_empty, nodes, nodes_are_ready};
use serde_json::{Value, json};

#[test]
fn kube_vip_and_metrics_server_work_from_the_labs_registry() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("addons", Backend::Nspawn, &["--kubernetes", "kube-vip,metrics-server"]);
    let terraform = quickstart::prepare(&lab, 1);
    let address = lab.address(10);
    with_kube_vip(&lab, &terraform, &address);
    terraform.apply();
    assert_eq!(nodes(&lab), ["cp-1", "worker-1"]);
    nodes_are_ready(&lab);
    terraform.has_no_changes();

    let server = lab.must("worker-1", "grep server: /etc/kubernetes/kubelet.conf");
    assert!(server.ends_with(&format!("https://{address}:6443")), "{server}");
    let own = lab.must("cp-1", "ip -o address show");
    assert!(own.contains(&format!("{address}/32")), "kube-vip gave the control plane its address\n{own}");
    assert_eq!(terraform.resource("groundwork_cluster.main")["api_endpoint"], json!(format!("{address}:6443")));

    kubectl(&lab, &format!("apply -f - <<'END'\n{}\nEND\n", manifest("metrics-server.yaml")));
    kubectl(&lab, "-n kube-system rollout status deployment/metrics-server --timeout=3m");
    wait_until("metrics-server has numbers of both nodes", || {
        let top = lab.exec("cp-1", &format!("{KUBECTL} top nodes --no-headers"));
        top.code == 0 && top.text.lines().filter(|line| line.contains('%')).count() == 2
    });
    eprintln!("{}\n{}", kubectl(&lab, "top nodes"), kubectl(&lab, "get pods -A -o wide"));
    terraform.has_no_changes();

    terraform.destroy();
    lab_is_empty(&lab);
}

/// The endpoint is the address, which kube-vip gives before there is an API server.
fn with_kube_vip(lab: &Lab, terraform: &Terraform, address: &str) {
    let mut over: Value = serde_json::from_str(&lab.file("quickstart_override.tf.json")).expect("JSON");
    over["resource"]["groundwork_cluster"]["main"]["kube_vip"] = json!({ "address": address, "interface": "eth0" });
    terraform.write("lab_override.tf.json", &over.to_string());
}

#[track_caller]
fn manifest(name: &str) -> String {
    std::fs::read_to_string(repository().join("tests/lab/kubernetes").join(name)).expect("a manifest of the lab")
}

#[track_caller]
fn kubectl(lab: &Lab, line: &str) -> String {
    lab.must("cp-1", &format!("{KUBECTL} {line}"))
}
