//! Machines that are not made from an image with a static address: clones, empty ones, and such that ask for an address.

use crate::harness::{Backend, Lab, Terraform, ready, wait_until};
use crate::quickstart::lab_is_empty;

const TEMPLATE: &str = r#"
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_vm" "template" {
  node       = "pve1"
  name       = "template"
  vmid       = 900
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  tags       = ["golden"]
  disk "scsi0" { storage = "local-lvm" }
  network "net0" { bridge = "vmbr0" }
  started    = false
}
"#;

/// A linked clone that asks for its address, a full one with a larger disk and a static address, an empty UEFI machine, and one whose
/// static address is of a card that nobody reaches from here.
const MACHINES: &str = r#"
resource "groundwork_vm" "linked" {
  node        = "pve1"
  name        = "linked"
  clone { tag = "golden" }
  memory_mib  = 768
  guest_agent = true
  agent {}
  timeouts { create = "90s" }
}
resource "groundwork_machine" "linked" {
  endpoint = groundwork_vm.linked.endpoint
  hostname = "linked"
  sysctls  = { "net.ipv4.ip_forward" = "1" }
}
resource "groundwork_vm" "full" {
  node       = "pve1"
  name       = "full"
  clone {
    vmid    = 900
    full    = true
    storage = "data"
  }
  disk "scsi0" {
    storage  = "data"
    size_gib = 4
  }
  agent {}
  cloud_init {
    network "net0" { address = "ADDRESS/24" }
  }
  timeouts { create = "90s" }
}
resource "groundwork_vm" "both" {
  node        = "pve1"
  name        = "both"
  image       = groundwork_image.one.volume_id
  memory_mib  = 512
  guest_agent = true
  disk "scsi0" { storage = "local-lvm" }
  network "net0" { bridge = "vmbr0" }
  network "net1" { bridge = "vmbr1" }
  agent {}
  cloud_init {
    network "net0" { address = "dhcp" }
    network "net1" { address = "198.18.7.5/24" }
  }
  timeouts { create = "2m" }
}
resource "groundwork_vm" "empty" {
  node        = "pve1"
  name        = "empty"
  firmware    = "ovmf"
  efi_storage = "data"
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 1
  }
}
"#;

#[test]
fn clones_and_empty_machines_come_up_as_written() {
    if !ready() {
        return;
    }
    let lab = Lab::start("clones", Backend::Nspawn, &[]);
    let terraform = Terraform::for_lab(&lab);
    let template = TEMPLATE.replace("URL", &lab.value("LAB_IMAGE_URL")).replace("SUM", &lab.value("LAB_IMAGE_SHA256"));
    terraform.configure(&template);
    terraform.apply();
    lab.admin("POST", "/nodes/pve1/qemu/900/template", &[]);
    terraform.has_no_changes();

    terraform.write("machines.tf", &MACHINES.replace("ADDRESS", &lab.address(51)));
    terraform.apply();
    terraform.has_no_changes();
    let linked = terraform.resource("groundwork_vm.linked");
    let address = lab.must("linked", "ip -4 -o address show scope global | sed 's/.* inet //; s,/.*,,'");
    assert_eq!(linked["addresses"], serde_json::json!([address]), "the guest agent told the address it got");
    assert_eq!(linked["endpoint"]["address"], format!("{address}:7443"));
    assert_eq!(linked["memory_mib"], 768);
    assert_eq!(lab.must("linked", "sysctl -n net.ipv4.ip_forward; hostname"), "1\nlinked");
    let full = terraform.resource("groundwork_vm.full");
    assert_eq!(full["addresses"], serde_json::json!([lab.address(51)]));
    assert_eq!((&full["disk"]["scsi0"]["size_gib"], &full["tags"][0]), (&4.into(), &"golden".into()));
    assert!(full["disk"]["scsi0"]["volume"].as_str().is_some_and(|volume| volume.starts_with("data:")), "{full}");
    let both = terraform.resource("groundwork_vm.both");
    let address = lab.must("both", "ip -4 -o address show dev eth0 scope global | sed 's/.* inet //; s,/.*,,'");
    assert_eq!(both["addresses"], serde_json::json!(["198.18.7.5", address]), "found at the other card");
    assert_eq!(both["endpoint"]["address"], format!("{address}:7443"));
    let empty = terraform.resource("groundwork_vm.empty")["vmid"].as_u64().expect("vmid");
    let config = lab.config("pve1", empty);
    assert_eq!(config["bios"], "ovmf");
    assert!(config["efidisk0"].as_str().is_some_and(|disk| disk.starts_with("data:")), "{config}");
    let inventory = lab.inventory().to_string();
    assert!(!inventory.contains(".iso"), "a seed is still there: {inventory}");

    a_silent_agent_is_a_warning(&lab, &terraform);
    terraform.destroy();
    lab_is_empty(&lab);
}

/// The VM runs, and its agent does not answer: a warning, and the state stays; afterwards drift is seen again.
fn a_silent_agent_is_a_warning(lab: &Lab, terraform: &Terraform) {
    let before = terraform.resource("groundwork_machine.linked");
    lab.must("linked", "systemctl stop groundwork-agent && sysctl -w net.ipv4.ip_forward=0");
    let plan = terraform.plan();
    plan.exits(0).says(&[
        "Warning: Cannot look at machine linked",
        "cannot be reached",
        "was kept",
        ":7443 cannot be reached",
    ]);
    terraform.run(&["apply", "-refresh-only", "-auto-approve", "-input=false"]).exits(0);
    assert_eq!(terraform.resource("groundwork_machine.linked"), before, "state is kept");
    lab.must("linked", "systemctl start groundwork-agent");
    wait_until("the agent shows what differs", || terraform.plan().code == 2);
    terraform.plan().says(&["net.ipv4.ip_forward", "0 to add, 1 to change, 0 to destroy"]);
}
