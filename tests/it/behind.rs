//! What an administrator does behind Terraform's back: moved, locked, protected, hidden, deleted, replaced by another VM.

use crate::harness::{Backend, Lab, Terraform, ready};
use serde_json::{Value, json};

const CONFIGURATION: &str = r#"
terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
provider "groundwork" {
  agent { pki_dir = "./pki" }
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 2
  }
  network "net0" { bridge = "vmbr0" }
  timeouts {
    update = "4s"
    delete = "4s"
  }
}
"#;

#[test]
fn what_an_administrator_does_is_followed_and_never_fought() {
    if !ready() {
        return;
    }
    let lab = Lab::start("behind", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", CONFIGURATION);
    terraform.apply();

    a_moved_vm_is_followed(&lab, &terraform);
    a_locked_vm_is_waited_for(&lab, &terraform);
    a_protected_vm_is_not_even_stopped(&lab, &terraform);
    a_hidden_vm_is_kept(&lab, &terraform);
    a_deleted_vm_is_made_again(&lab, &terraform);
    a_stranger_with_its_number_is_left_alone(&lab, &terraform);
}

fn a_moved_vm_is_followed(lab: &Lab, terraform: &Terraform) {
    lab.admin("POST", "/nodes/pve1/qemu/100/migrate", &["target=pve2", "online=1"]);
    terraform.has_no_changes();
    terraform.run(&["apply", "-refresh-only", "-auto-approve", "-input=false"]).exits(0);
    let vm = terraform.resource("groundwork_vm.one");
    assert_eq!((&vm["id"], &vm["node"], &vm["current_node"]), (&json!("pve1/100"), &json!("pve1"), &json!("pve2")));
    // It is changed where it is, and the configuration may catch up without a new machine.
    let changed = CONFIGURATION.replace("512", "768").replace("\"pve1\"", "\"pve2\"");
    terraform.write("main.tf", &changed);
    terraform.plan().exits(2).says(&[
        "node: pve1 -> pve2: the machine is there already",
        "memory_mib: 512 -> 768: needs a reboot, which this apply makes",
        "0 to add, 1 to change, 0 to destroy",
    ]);
    terraform.apply();
    assert_eq!(lab.config("pve2", 100)["memory"], "768");
    terraform.has_no_changes();
}

fn a_locked_vm_is_waited_for(lab: &Lab, terraform: &Terraform) {
    let changed = CONFIGURATION.replace("\"pve1\"", "\"pve2\"");
    terraform.write("main.tf", &changed);
    lab.control("fault", &["lock", "one", "backup"]).exits(0);
    terraform.fails(&["Cannot change VM 100 on node pve2", "VM is locked (backup)", "Wait for the other operation"]);
    let destroy = terraform.run(&["destroy", "-auto-approve", "-input=false", "-no-color"]);
    destroy.exits(1).says(&["Cannot destroy VM", "VM is locked (backup)", "stays in the state"]);
    let mut apply = terraform.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "waiting.log");
    std::thread::sleep(std::time::Duration::from_secs(1));
    lab.control("fault", &["clear"]).exits(0);
    assert!(apply.wait().expect("terraform ends").success(), "the apply waits until the lock is gone");
    terraform.has_no_changes();
}

fn a_protected_vm_is_not_even_stopped(lab: &Lab, terraform: &Terraform) {
    lab.admin("PUT", "/nodes/pve2/qemu/100/config", &["protection=1"]);
    let said = terraform.run(&["destroy", "-auto-approve", "-input=false", "-no-color"]);
    said.exits(1).says(&["Cannot destroy VM", "was not stopped", "Take the protection off"]);
    assert_eq!(lab.inventory()["vms"][0]["status"], "running");
    lab.admin("PUT", "/nodes/pve2/qemu/100/config", &["protection=0"]);
    terraform.has_no_changes();
}

fn a_hidden_vm_is_kept(lab: &Lab, terraform: &Terraform) {
    let before = terraform.resource("groundwork_vm.one");
    lab.control("fault", &["deny", "VM.Audit", "/vms/100"]).exits(0);
    for command in [["plan", "-input=false"], ["destroy", "-auto-approve"]] {
        let said = terraform.run(&command);
        said.exits(1).says(&["Cannot read VM 100", "does not show it", "Grant VM.Audit on /vms/100"]);
        assert_eq!(said.text.matches("Error: ").count(), 1, "one diagnostic:\n{}", said.text);
    }
    assert_eq!(terraform.resource("groundwork_vm.one"), before, "the state is kept");
    lab.control("fault", &["clear"]).exits(0);
    terraform.has_no_changes();
}

fn a_deleted_vm_is_made_again(lab: &Lab, terraform: &Terraform) {
    let before = terraform.resource("groundwork_vm.one");
    lab.admin("POST", "/nodes/pve2/qemu/100/status/stop", &[]);
    lab.admin("DELETE", "/nodes/pve2/qemu/100", &[]);
    terraform.plan().exits(2).says(&["groundwork_vm.one will be created", "1 to add, 0 to change, 0 to destroy"]);
    terraform.apply();
    let after = terraform.resource("groundwork_vm.one");
    assert_ne!(before["uuid"], after["uuid"]);
    terraform.has_no_changes();
}

/// Another VM took the number of a deleted one: with a UUID of its own, or with none.
fn a_stranger_with_its_number_is_left_alone(lab: &Lab, terraform: &Terraform) {
    for (number, without_uuid) in [(100_u64, false), (101, true)] {
        assert_eq!(terraform.resource("groundwork_vm.one")["vmid"], number);
        let path = format!("/nodes/pve2/qemu/{number}");
        lab.admin("POST", &format!("{path}/status/stop"), &[]);
        lab.admin("DELETE", &path, &[]);
        let (vmid, name) = (format!("vmid={number}"), format!("name=other-{number}"));
        lab.admin("POST", "/nodes/pve2/qemu", &[&vmid, &name, "cores=3"]);
        if without_uuid {
            lab.admin("PUT", &format!("{path}/config"), &["delete=smbios1"]);
        }
        let stranger = lab.config("pve2", number);
        let plan = terraform.plan();
        plan.exits(2)
            .says(&[&format!("Warning: VM {number} is another machine now"), "groundwork_vm.one will be created"]);
        terraform.apply();
        assert_eq!(lab.config("pve2", number), stranger, "the stranger was not touched");
        terraform.has_no_changes();
    }
    terraform.destroy();
    let left: Vec<Value> =
        lab.inventory()["vms"].as_array().expect("vms").iter().map(|vm| vm["name"].clone()).collect();
    assert_eq!(left, ["other-100", "other-101"]);
}
