//! One cluster of machines of two origins, in one apply: a control plane that Groundwork makes, and as worker a VM that was there before
//! and gets its agent through QEMU's guest agent. Real Kubernetes.

use crate::harness::{Backend, Lab, Terraform, long_ready};
use crate::quickstart::{self, KUBECTL, lab_is_empty, machine_is_prepared, nodes, nodes_are_ready};

/// The administrator's: nothing of ours is in it.
const THEIRS: &str = r#"
resource "groundwork_image" "theirs" {
  node      = "pve1"
  storage   = "local"
  file_name = "theirs.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_vm" "theirs" {
  node        = "pve1"
  name        = "worker-1"
  image       = groundwork_image.theirs.volume_id
  cores       = 2
  memory_mib  = 2048
  guest_agent = true
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" { bridge = "vmbr0" }
  cloud_init {
    network "net0" {
      address = "ADDRESS/24"
      gateway = "GATEWAY"
    }
  }
}
"#;

/// In the example, what is no control plane has another origin.
const AGENT: &str = r#"
resource "groundwork_agent" "machine" {
  for_each = local.workers
  guest_agent { vmid = VMID }
}
"#;

#[test]
fn a_cluster_has_machines_of_two_origins_in_one_apply() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("mixed", Backend::Nspawn, &[]);
    let theirs = Terraform::for_lab(&lab);
    let vm = THEIRS.replace("URL", &lab.value("LAB_IMAGE_URL")).replace("SUM", &lab.value("LAB_IMAGE_SHA256"));
    theirs.configure(&vm.replace("ADDRESS", &lab.address(21)).replace("GATEWAY", &lab.address(1)));
    theirs.apply();
    let vmid = theirs.resource("groundwork_vm.theirs")["vmid"].to_string();

    let terraform = quickstart::prepare(&lab, 1);
    let example = std::fs::read_to_string(terraform.path("main.tf")).expect("the example");
    let mixed = replaced(
        &example,
        "resource \"groundwork_vm\" \"machine\" {\n  for_each = local.machines",
        "resource \"groundwork_vm\" \"machine\" {\n  for_each = local.control_planes",
    );
    let mixed = replaced(
        &mixed,
        "endpoint = groundwork_vm.machine[each.key].endpoint",
        "endpoint = merge(groundwork_vm.machine, groundwork_agent.machine)[each.key].endpoint",
    );
    terraform.write("main.tf", &(mixed + &AGENT.replace("VMID", &vmid)));
    terraform.apply();
    assert_eq!(nodes(&lab), ["cp-1", "worker-1"]);
    machine_is_prepared(&lab, "worker-1");
    nodes_are_ready(&lab);
    let image = "registry.k8s.io/e2e-test-images/agnhost:2.53";
    lab.must("cp-1", &format!("{KUBECTL} run one --image={image} -- pause"));
    lab.must("cp-1", &format!("{KUBECTL} wait --for=condition=Ready pod/one --timeout=2m"));
    terraform.has_no_changes();

    terraform.destroy();
    assert_eq!(lab.must("worker-1", "systemctl is-active groundwork-agent"), "active", "nobody asked for more");
    lab.must("worker-1", "test ! -e /etc/kubernetes/kubelet.conf && test -z \"$(ls -A /etc/cni/net.d)\"");
    theirs.destroy();
    lab_is_empty(&lab);
}

#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the example has no {from:?} any more");
    text.replace(from, to)
}
