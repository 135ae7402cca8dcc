//! `terraform validate` names the attribute of every bad value, before anything is asked of Proxmox.

use crate::harness::{Backend, Lab, Terraform, ready};

const HEAD: &str = r#"
terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
"#;

/// A good VM in which each case changes one thing.
const VM: &str = r#"
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  cores      = 2
  cpu_type   = "host"
  memory_mib = 512
  disks      = { scsi0 = { storage = "local-lvm", size_gib = 2 } }
  networks   = { net0 = { bridge = "vmbr0" } }
  cloud_init = { network = { net0 = { address = "10.77.0.11/24" } } }
}
"#;

/// Validates the VM with `from` replaced by `to`; the error must point at the line with `line` and say `word`.
#[track_caller]
fn check(from: &str, to: &str, word: &str) {
    assert!(VM.contains(from), "the good VM has {from:?}");
    let terraform = Terraform::new(Vec::new());
    terraform.write("main.tf", &format!("{HEAD}{}", VM.replacen(from, to, 1)));
    let said = terraform.run(&["validate", "-no-color"]);
    assert_eq!(said.code, 1, "{to:?} passed validation");
    said.says(&["Error: ", "with groundwork_vm.one", word]);
}

#[test]
fn the_good_vm_is_valid() {
    if !ready() {
        return;
    }
    let terraform = Terraform::new(Vec::new());
    terraform.write("main.tf", &format!("{HEAD}{VM}"));
    terraform.run(&["validate", "-no-color"]).exits(0);
}

#[test]
fn a_bad_value_is_named_by_its_attribute() {
    if !ready() {
        return;
    }
    check("10.77.0.11/24", "10.77.0.11/33", "address");
    check("10.77.0.11/24", "10.77.0.256/24", "address");
    check("scsi0", "scsi31x", "disks");
    check("scsi0", "scsi99", "disks");
    check("net0 = { bridge", "eth0 = { bridge", "networks");
    check("memory_mib = 512", "memory_mib = -512", "memory_mib");
    check("cores      = 2", "cores      = 0", "cores");
    check("\"host\"", "\"host,flags=+nonsense\"", "cpu_type");
    check("name       = \"one\"", "name       = \"one two\"", "name");
    check("size_gib = 2", "size_gib = 0", "size_gib");
    check("size_gib = 2 }", "size_gib = 2 }, ide2 = { storage = \"local-lvm\", size_gib = 3 }", "ide2");
}

#[test]
fn shrinking_a_disk_is_refused_at_plan() {
    if !ready() {
        return;
    }
    let lab = Lab::start("shrink", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let configuration = format!("{HEAD}{VM}").replace("cloud_init", "started = false\n  cloud_init");
    terraform.write("main.tf", &configuration);
    terraform.apply();
    terraform.write("main.tf", &configuration.replace("size_gib = 2", "size_gib = 1"));
    terraform.plan().exits(1).says(&["disks", "size_gib", "shrink"]);
}
