//! A new machine in place of the old one: what it costs is said, what it needs is looked for first, and nothing stands in the way of
//! destroying.

use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart::lab_is_empty;
use serde_json::Value;

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
  disk "scsi1" {
    storage  = "local-lvm"
    size_gib = 3
  }
  network "net0" { bridge = "vmbr0" }
}
"#;

fn changed(from: &str, to: &str) -> String {
    CONFIGURATION.replace(from, to)
}

const REPLACE: [&str; 6] =
    ["apply", "-replace=groundwork_vm.one", "-auto-approve", "-input=false", "-no-color", "-compact-warnings"];

/// A lab with the VM, its working folder, and the VM's UUID.
fn start(name: &str) -> (Lab, Terraform, Value) {
    let lab = Lab::start(name, Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", CONFIGURATION);
    terraform.apply();
    let uuid = terraform.resource("groundwork_vm.one")["uuid"].clone();
    (lab, terraform, uuid)
}

/// The machine is the one it was, and runs.
#[track_caller]
fn lives(lab: &Lab, uuid: &Value) {
    let smbios = lab.config("pve1", 100)["smbios1"].as_str().expect("an identity").to_owned();
    assert!(smbios.contains(uuid.as_str().expect("a UUID")), "{smbios}");
    assert_eq!(lab.inventory()["vms"][0]["status"], "running");
}

#[test]
fn a_replacement_says_what_goes_with_the_machine() {
    if !ready() {
        return;
    }
    let (lab, terraform, uuid) = start("costs");
    let lost =
        ["lost_on_destroy", "scsi0: all its data, 2 GiB (local-lvm:vm-100-disk-0)", "scsi1: all its data, 3 GiB"];
    let replaced = ["1 to add, 0 to change, 1 to destroy"];
    let asked = terraform.run(&["plan", "-replace=groundwork_vm.one", "-input=false", "-no-color"]);
    asked.exits(0).says(&[&lost[..], &replaced[..], &["net0: the hardware address"]].concat());
    terraform.run(&["plan", "-destroy", "-input=false", "-no-color"]).exits(0).says(&lost);
    for (from, to, path) in [
        ("local-lvm\"\n    size_gib = 2", "data\"\n    size_gib = 2", "`disk[\"scsi0\"].storage` cannot be changed"),
        ("\"pve1\"", "\"pve2\"", "`node` cannot be changed"),
        ("memory_mib", "firmware = \"ovmf\"\n  memory_mib", "`firmware` cannot be changed"),
        ("memory_mib", "vmid = 150\n  memory_mib", "`vmid` cannot be changed"),
    ] {
        terraform.write("main.tf", &changed(from, to));
        let said = ["Warning: VM pve1/100 will be replaced", path, "With the machine go"];
        terraform.plan().exits(2).says(&[&said[..], &lost[..], &replaced[..]].concat());
    }
    // A disk that somebody attached goes too, and is named.
    terraform.write("main.tf", CONFIGURATION);
    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &["scsi7=data:1"]);
    terraform.run(&["plan", "-destroy", "-input=false", "-no-color"]).exits(0).says(&["scsi7: all its data, 1 GiB"]);
    terraform.has_no_changes();
    terraform.run(&REPLACE).exits(0);
    assert_ne!(terraform.resource("groundwork_vm.one")["uuid"], uuid);
    terraform.has_no_changes();
    // The new machine may stand beside the old one for a while.
    let beside =
        changed("\"one\"\n  memory", "\"next\"\n  vmid = 150\n  lifecycle { create_before_destroy = true }\n  memory");
    terraform.write("main.tf", &beside);
    terraform.apply();
    terraform.has_no_changes();
    assert_eq!(lab.inventory()["vms"].as_array().map(Vec::len), Some(1));
    terraform.destroy();
    lab_is_empty(&lab);
}

#[test]
fn nothing_is_destroyed_for_a_machine_that_cannot_be_made() {
    if !ready() {
        return;
    }
    let (lab, terraform, uuid) = start("needs");
    // A node that does not exist, or is offline, is known before the plan: it replaces nothing.
    let refused = |node: &str, why: &str| {
        terraform.write("main.tf", &changed("\"pve1\"", &format!("\"{node}\"")));
        terraform.plan().exits(2).says(&[
            "Cannot replace VM pve1/100",
            why,
            "refused",
            "0 to add, 1 to change, 0 to destroy",
        ]);
        terraform.fails(&["Cannot change VM 100", why, "Nothing was changed", "Correct `node`"]);
        lives(&lab, &uuid);
        let forced = terraform.run(&REPLACE);
        forced.exits(1).says(&["Cannot replace VM pve1/100", why, "Nothing was destroyed"]);
        lives(&lab, &uuid);
    };
    refused("pve7", "The cluster has no node pve7; it has pve1, pve2.");
    lab.control("fault", &["offline-node", "pve2"]).exits(0);
    refused("pve2", "Node pve2 is offline.");
    lab.control("fault", &["clear"]).exits(0);

    // Everything else is looked for by the destruction itself.
    lab.control("create-vm", &["300", "stranger"]).exits(0);
    for (from, to, why) in [
        ("local-lvm\"\n    size_gib = 3", "nix\"\n    size_gib = 3", "no storage nix"),
        ("local-lvm\"\n    size_gib = 3", "local\"\n    size_gib = 3", "Storage local does not hold content `images`"),
        ("vmbr0", "vmbr99", "Node pve1 has no bridge or SDN network vmbr99"),
        ("\"one\"\n  memory", "\"stranger\"\n  memory", "A guest named stranger exists already: 300"),
        ("memory_mib", "vmid = 300\n  memory_mib", "A guest with number 300 exists already"),
        (
            "memory_mib",
            "cloud_init {\n    user = \"admin\"\n    storage = \"local-lvm\"\n  }\n  memory_mib",
            "content `iso`",
        ),
    ] {
        terraform.write("main.tf", &changed(from, to));
        let said = terraform.run(&REPLACE);
        said.exits(1).says(&[
            "Cannot replace VM pve1/100",
            why,
            "Nothing was destroyed: the VM is as it was",
            "Correct `",
        ]);
        lives(&lab, &uuid);
    }
    // A tainted machine is planned as a new one, and looked after in the same way.
    terraform.write("main.tf", &changed("\"pve1\"", "\"pve7\""));
    terraform.run(&["taint", "groundwork_vm.one"]).exits(0);
    terraform.fails(&["Cannot replace VM pve1/100", "no node pve7", "Nothing was destroyed"]);
    lives(&lab, &uuid);
    // A machine that stayed is known as before: what was written once goes when it is written no more.
    terraform.run(&["untaint", "groundwork_vm.one"]).exits(0);
    let scsi1 = "  disk \"scsi1\" {\n    storage  = \"local-lvm\"\n    size_gib = 3\n  }\n";
    terraform.write("main.tf", &changed(scsi1, ""));
    terraform.plan().exits(2).says(&["disk.scsi1: goes, with all its data"]);
    // Whoever wants it gone for good has no use for a node.
    terraform.write("main.tf", &changed("\"pve1\"", "\"pve7\""));
    terraform.run(&["taint", "groundwork_vm.one"]).exits(0);
    terraform.destroy();
    assert_eq!(lab.inventory()["vms"][0]["name"], "stranger");
}

#[test]
fn no_plan_stands_in_the_way_of_destroying() {
    if !ready() {
        return;
    }
    let (lab, terraform, uuid) = start("destroying");
    lab.admin("PUT", "/nodes/pve1/qemu/100/resize", &["disk=scsi1", "size=5G"]);
    let plan = terraform.plan();
    plan.exits(2).says(&["Warning: Cannot shrink disk scsi1 from 5 to 3 GiB", "size_gib: 5 -> 3: refused"]);
    terraform.fails(&[
        "Cannot change VM 100",
        "Disk scsi1 has 5 GiB and cannot shrink to 3 GiB",
        "Nothing was changed",
    ]);
    lives(&lab, &uuid);
    // The rest of the plan is not half done.
    terraform.write("main.tf", &changed("512", "1024"));
    terraform.fails(&["cannot shrink to 3 GiB"]);
    assert_ne!(lab.config("pve1", 100)["memory"], "1024");
    terraform.run(&REPLACE).exits(0);
    terraform.has_no_changes();
    assert!(lab.config("pve1", 100)["scsi1"].as_str().is_some_and(|disk| disk.contains("size=3G")));

    lab.admin("PUT", "/nodes/pve1/qemu/100/resize", &["disk=scsi1", "size=5G"]);
    // A machine of the same configuration that cannot be made is no reason to keep this one.
    let other = "resource \"groundwork_vm\" \"two\" {\n  node = \"pve1\"\n  name = \"two\"\n  started = false\n  agent {}\n  \
        cloud_init {\n    network \"net0\" { address = \"10.0.0.9/24\" }\n  }\n  network \"net0\" { bridge = \"vmbr0\" }\n}\n";
    terraform.write("two.tf", other);
    terraform.plan().exits(2).says(&["Cannot create a stopped machine with an agent", "started = false"]);
    let said = terraform.run(&["apply", "-target=groundwork_vm.two", "-auto-approve", "-input=false", "-no-color"]);
    said.exits(1).says(&["Cannot create VM two", "only be enrolled on a machine that runs", "Nothing was created"]);
    terraform.destroy();
    lab_is_empty(&lab);
}
