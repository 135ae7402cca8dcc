//! Power states that are neither on nor off.

use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart::lab_is_empty;

const VM: &str = r#"
terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  memory_mib = MEMORY
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 1
  }
}
"#;
const STATUS: &str = "/nodes/pve1/qemu/100/status";

#[test]
fn a_paused_vm_does_not_run_and_a_template_is_not_started() {
    if !ready() {
        return;
    }
    let lab = Lab::start("power", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let vm = |memory: &str, more: &str| VM.replace("MEMORY", &format!("{memory}\n  {more}"));
    terraform.write("main.tf", &vm("512", ""));
    terraform.apply();

    lab.admin("POST", &format!("{STATUS}/suspend"), &[]);
    terraform.plan().exits(2).says(&["starts the machine"]);
    terraform.apply();
    assert_eq!(lab.admin("GET", &format!("{STATUS}/current"), &[])["qmpstatus"], "running");
    // Its line is not taken back by the next plan.
    terraform.has_no_changes();

    // The cluster's list is some seconds old, and a plan that changes the configuration alone depends on what is true.
    lab.control("fault", &["stale"]).exits(0);
    lab.admin("POST", &format!("{STATUS}/stop"), &[]);
    terraform.write("main.tf", &vm("768", ""));
    let said = terraform.plan();
    said.exits(2).says(&["started: false -> true: starts the machine", "memory_mib: 512 -> 768"]);
    assert!(!said.flat().contains("reboot"), "{}", said.text);
    terraform.apply();
    lab.control("fault", &["clear"]).exits(0);
    terraform.write("main.tf", &vm("512", ""));
    terraform.apply();

    lab.admin("POST", &format!("{STATUS}/suspend"), &[]);
    terraform.write("main.tf", &vm("512", "started = false"));
    terraform.apply();
    assert_eq!(lab.admin("GET", &format!("{STATUS}/current"), &[])["status"], "stopped");

    lab.admin("POST", "/nodes/pve1/qemu/100/template", &[]);
    terraform.write("main.tf", &vm("1024", ""));
    terraform.plan().exits(2).says(&["memory_mib: 512 -> 1024"]);
    terraform.apply();
    terraform.plan().exits(0).says(&["is a template now", "cannot be started"]);
    terraform.write("main.tf", &vm("1024", "started = false"));
    terraform.apply();
    terraform.has_no_changes();
    terraform.destroy();
    lab_is_empty(&lab);
}
