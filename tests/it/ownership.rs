//! A cluster that was made by hand on a machine of ours: never adopted, never changed, never reset.

use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart::{self, lab_is_empty, nodes, prepare};

/// What an administrator types in a lab, whose kubelet may find control groups of the first version.
fn init(lab: &Lab) -> String {
    let version = quickstart::version(lab);
    format!(
        "printf '%s\\n' 'apiVersion: kubeadm.k8s.io/v1beta4' 'kind: ClusterConfiguration' 'kubernetesVersion: v{version}' \
         'networking: {{ podSubnet: 10.244.0.0/16 }}' --- 'apiVersion: kubelet.config.k8s.io/v1beta1' \
         'kind: KubeletConfiguration' 'failCgroupV1: false' >/root/by-hand.yaml && \
         kubeadm init --config /root/by-hand.yaml --skip-token-print --ignore-preflight-errors SystemVerification"
    )
}

const RESET: &str = "kubeadm reset --force && rm -rf /etc/cni/net.d/*";

#[test]
fn a_cluster_made_by_hand_is_never_touched() {
    if !ready() {
        return;
    }
    let lab = Lab::start("ownership", Backend::Nspawn, &[]);
    let terraform = prepare(&lab, 0);
    terraform.run(&["apply", "-auto-approve", "-input=false", "-target=groundwork_machine.machine"]).exits(0);

    // It stood there before: the creation is refused, and the tainted resource that it leaves behind is no licence to reset.
    lab.must("cp-1", &init(&lab));
    let theirs = authority(&lab);
    terraform.fails(&["Cannot create cluster quickstart", "this agent did not make", "Nothing was changed"]);
    terraform.plan().exits(2).says(&["Cluster quickstart is not finished"]);
    is_left_alone(&lab, &terraform, &theirs);

    // It was made anew after ours.
    lab.must("cp-1", RESET);
    terraform.apply();
    terraform.has_no_changes();
    let ours = terraform.resource("groundwork_cluster.main")["ca_fingerprint"].clone();
    lab.must("cp-1", &format!("{RESET} && {}", init(&lab)));
    let theirs = authority(&lab);
    terraform.plan().says(&["Cannot look at cluster quickstart", "Another cluster, with the CA sha256:"]);
    let kept = terraform.resource("groundwork_cluster.main")["ca_fingerprint"].clone();
    assert_eq!(kept, ours, "the state does not take the other one for ours");
    let example = std::fs::read_to_string(terraform.path("main.tf")).expect("the example");
    let labelled =
        example.replacen("machine[name].endpoint }", "machine[name].endpoint, labels = { zone = \"a\" } }", 1);
    assert_ne!(labelled, example);
    terraform.write("main.tf", &labelled);
    terraform.fails(&[
        "Cannot change cluster quickstart",
        "Another cluster, with the CA sha256:",
        "Nothing was changed",
    ]);
    is_left_alone(&lab, &terraform, &theirs);
    terraform.fails(&["Cannot create cluster quickstart", "this agent did not make"]);
    is_left_alone(&lab, &terraform, &theirs);

    terraform.destroy();
    lab_is_empty(&lab);
}

/// Pin of the CA on the control plane.
fn authority(lab: &Lab) -> String {
    lab.must("cp-1", "sha256sum /etc/kubernetes/pki/ca.crt /etc/kubernetes/admin.conf")
}

/// Destroying the resource leaves the cluster of somebody else as it is.
#[track_caller]
fn is_left_alone(lab: &Lab, terraform: &Terraform, theirs: &str) {
    let destroy = ["destroy", "-auto-approve", "-input=false", "-no-color", "-target=groundwork_cluster.main"];
    terraform.run(&destroy).exits(0).says(&["The machine of node cp-1 was not reset", "Nothing was changed on it"]);
    assert_eq!(authority(lab), theirs);
    assert_eq!(nodes(lab), ["cp-1"]);
}
