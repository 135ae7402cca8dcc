//! What a running VM takes at once and what waits, and what becomes of changes that fail on the way.

use crate::harness::{Backend, Lab, Terraform, ready, wait_until};
use crate::quickstart::lab_is_empty;
use serde_json::json;

/// Each case replaces one of the lines in capitals.
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
    size_gib = SIZE
  }
  DISK
  network "net0" {
    bridge = "BRIDGE"
    MAC
  }
  CARD
  OTHERS
}
"#;

/// The configuration with these replacements; what is not named is as small as can be.
fn vm(changes: &[(&str, &str)]) -> String {
    let changed = changes.iter().fold(CONFIGURATION.to_owned(), |text, (from, to)| text.replace(from, to));
    let rest = [("SIZE", "6"), ("BRIDGE", "vmbr0"), ("MAC", ""), ("DISK", ""), ("CARD", ""), ("OTHERS", "")];
    rest.iter().fold(changed, |text, (from, to)| text.replace(from, to))
}

const SCSI1: &str = "disk \"scsi1\" {\n    storage = \"local-lvm\"\n    size_gib = 1\n  }";
const REBOOTS: &str = "needs a reboot, which this apply makes";

/// Plans and applies in place; the plan must say `parts`, and the next one is empty.
#[track_caller]
fn change(terraform: &Terraform, configuration: &str, parts: &[&str]) {
    terraform.write("main.tf", configuration);
    terraform.plan().exits(2).says(&[parts, &["0 to add, 1 to change, 0 to destroy"]].concat());
    terraform.apply();
    terraform.has_no_changes();
}

/// A row of the VM's pending options.
#[track_caller]
fn row(lab: &Lab, key: &str) -> serde_json::Value {
    let rows = lab.admin("GET", "/nodes/pve1/qemu/100/pending", &[]);
    let row = rows.as_array().expect("rows").iter().find(|row| row["key"] == key);
    row.cloned().unwrap_or_default()
}

/// An administrator's: what waits takes effect.
fn power_cycle(lab: &Lab) {
    for word in ["stop", "start"] {
        lab.admin("POST", &format!("/nodes/pve1/qemu/100/status/{word}"), &[]);
    }
}

#[test]
fn what_hotplug_allows_decides_what_a_plan_says_and_an_apply_does() {
    if !ready() {
        return;
    }
    let lab = Lab::start("hotplug", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", &vm(&[("DISK", SCSI1)]));
    terraform.apply();

    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &["hotplug=0"]);
    let mac = terraform.resource("groundwork_vm.one")["network"]["net0"]["mac"].clone();
    change(&terraform, &vm(&[("DISK", SCSI1), ("BRIDGE", "vmbr1")]), &["network.net0.bridge: vmbr0 -> vmbr1: live"]);
    assert_eq!(lab.tasks("qmreboot").len(), 0, "the host's side of a card needs no class");
    let gone = format!("disk.scsi1: goes, with all its data: {REBOOTS}");
    change(&terraform, &vm(&[("BRIDGE", "vmbr1")]), &[&gone]);
    assert_eq!(lab.inventory()["volumes"], json!(["local-lvm:vm-100-disk-0"]), "the volume goes too");
    assert_eq!(lab.tasks("qmreboot"), ["OK"]);
    let added = format!("network.net1: is added: {REBOOTS}");
    change(&terraform, &vm(&[("CARD", "network \"net1\" { bridge = \"vmbr1\" }")]), &[&added, "vmbr1 -> vmbr0: live"]);
    let changed = vm(&[("MAC", "mac = \"BC:24:11:00:00:77\"")]);
    let cut_off = format!("network.net0.mac: changes: {REBOOTS}, and cuts the guest off there");
    change(&terraform, &changed, &[&cut_off, "network.net1: goes: needs a reboot"]);
    assert_eq!(lab.tasks("qmreboot").len(), 3);

    // Allowed again, memory too: nothing needs a reboot but what always does.
    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &["hotplug=disk,network,usb,memory"]);
    power_cycle(&lab);
    let more = vm(&[("512", "1024"), ("DISK", SCSI1)]);
    change(&terraform, &more, &["memory_mib: 512 -> 1024: live", "disk.scsi1: is added: live"]);
    assert_eq!(lab.tasks("qmreboot").len(), 3, "no reboot that was not announced");
    assert_ne!(mac, json!(null));

    a_removal_that_waits_is_drift(&lab, &terraform);
    terraform.destroy();
    lab_is_empty(&lab);
}

/// Removals that wait: our own with `reboot = false`, somebody else's, and those that the guest refused.
fn a_removal_that_waits_is_drift(lab: &Lab, terraform: &Terraform) {
    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &["hotplug=0"]);
    power_cycle(lab);
    let leaves = vm(&[("512", "1024"), ("OTHERS", "reboot = false")]);
    terraform.write("main.tf", &leaves);
    let line = "disk.scsi1: goes, with all its data: needs a reboot, which `reboot = false` leaves to you";
    terraform.plan().exits(2).says(&[line]);
    terraform.apply().says(&["VM 100 needs a reboot", "scsi1"]);
    // The same line as before, which Terraform does not repeat.
    terraform.plan().exits(2).says(&["- disk \"scsi1\" {", "0 to add, 1 to change, 0 to destroy"]);
    assert_eq!(row(lab, "scsi1")["delete"], 2);
    change(terraform, &vm(&[("512", "1024")]), &[&format!("disk.scsi1: goes, with all its data: {REBOOTS}")]);
    assert_eq!(lab.inventory()["volumes"], json!(["local-lvm:vm-100-disk-0"]));

    // Somebody else's removal of a disk that the configuration wants: the disk stays, with its data.
    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &["delete=scsi0"]);
    assert_eq!(
        (row(lab, "scsi0")["delete"].clone(), row(lab, "boot")["pending"].clone()),
        (json!(1), json!("order=net0"))
    );
    terraform.plan().exits(2).says(&["disk.scsi0: its removal, which waits for a power cycle, is taken back: live"]);
    terraform.apply();
    terraform.has_no_changes();
    assert_eq!((row(lab, "scsi0")["delete"].clone(), row(lab, "boot")["pending"].clone()), (json!(null), json!(null)));
    assert_eq!(lab.inventory()["volumes"], json!(["local-lvm:vm-100-disk-0"]));

    // A guest that lets go of nothing.
    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &["hotplug=1"]);
    change(terraform, &vm(&[("512", "1024"), ("DISK", SCSI1)]), &["disk.scsi1: is added: live"]);
    lab.control("fault", &["busy-guest", "one"]).exits(0);
    let less = vm(&[("512", "1024")]);
    terraform.write("main.tf", &less);
    let reboots = lab.tasks("qmreboot").len();
    terraform.apply().says(&["VM 100 needs a reboot", "scsi1", "The plan announced no reboot"]);
    assert_eq!(lab.tasks("qmreboot").len(), reboots, "the plan announced none");
    let held = format!("disk.scsi1: goes, with all its data, and the guest has not given it up yet: {REBOOTS}");
    change(terraform, &less, &[&held]);
    lab.control("fault", &["clear"]).exits(0);
    assert_eq!(lab.inventory()["volumes"], json!(["local-lvm:vm-100-disk-0"]));
}

/// A removal that failed is not gone: it stays in the plan with its reason, and is asked for again.
#[test]
fn a_disk_that_a_snapshot_uses_is_to_go_until_it_has_gone() {
    if !ready() {
        return;
    }
    let lab = Lab::start("held", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", &vm(&[("DISK", SCSI1)]));
    terraform.apply();
    let both = json!(["local-lvm:vm-100-disk-0", "local-lvm:vm-100-disk-1"]);
    lab.admin("POST", "/nodes/pve1/qemu/100/snapshot", &["snapname=before"]);
    let refusal = ["Cannot change VM 100", "volume is still in use (snapshot?)", "Delete the snapshots"];

    // The rest of the change is made, with its reboot.
    terraform.write("main.tf", &vm(&[("512", "1024")]));
    terraform.fails(&refusal);
    assert_eq!(lab.tasks("qmreboot"), ["OK"]);
    assert_eq!(row(&lab, "memory")["value"], "1024");
    let line = "disk.scsi1: goes, with all its data: not while a snapshot uses it, which this apply looks for again";
    for _ in 0..2 {
        terraform.plan().exits(2).says(&[line, "0 to add, 1 to change, 0 to destroy"]);
        terraform.fails(&refusal);
    }
    assert_eq!(lab.tasks("qmreboot").len(), 1, "no power cycle helps");
    assert_eq!((row(&lab, "scsi1")["delete"].clone(), lab.inventory()["volumes"].clone()), (json!(2), both.clone()));

    // Back in the configuration it stays, and is asked for no more.
    terraform.write("main.tf", &vm(&[("512", "1024"), ("DISK", SCSI1)]));
    terraform.plan().exits(2).says(&["disk.scsi1: its removal, which waits for a power cycle, is taken back: live"]);
    terraform.apply();
    terraform.has_no_changes();
    terraform.write("main.tf", &vm(&[("512", "1024")]));
    terraform.fails(&refusal);
    lab.admin("DELETE", "/nodes/pve1/qemu/100/snapshot/before", &[]);
    terraform.apply();
    terraform.has_no_changes();
    assert_eq!(lab.inventory()["volumes"], json!(["local-lvm:vm-100-disk-0"]));
    terraform.destroy();
    lab_is_empty(&lab);
}

#[test]
fn a_guest_that_boots_is_asked_again_to_give_a_device_up() {
    if !ready() {
        return;
    }
    let lab = Lab::start("booting", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let card = "network \"net1\" { bridge = \"vmbr0\" }";
    terraform.write("main.tf", &vm(&[("DISK", SCSI1), ("CARD", card)]));
    terraform.apply();
    power_cycle(&lab);
    lab.control("fault", &["busy-guest", "one"]).exits(0);
    terraform.write("main.tf", &vm(&[]));
    let mut apply = terraform.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "apply.log");
    wait_until("the card's removal was refused", || row(&lab, "net1")["delete"] == 1);
    lab.control("fault", &["clear"]).exits(0);
    assert!(apply.wait().expect("terraform ends").success());
    assert_eq!(lab.tasks("qmreboot"), Vec::<serde_json::Value>::new());
    assert_eq!((row(&lab, "net1"), row(&lab, "scsi1")), (json!(null), json!(null)));
    terraform.has_no_changes();
}

#[test]
fn a_disk_that_grows_while_its_line_waits_keeps_its_size() {
    if !ready() {
        return;
    }
    let lab = Lab::start("sizes", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", &vm(&[]));
    terraform.apply();
    let serial = |size: &str, serial: &str, others: &str| {
        vm(&[("SIZE", &format!("{size}\n    serial = \"{serial}\"")), ("OTHERS", others)])
    };
    change(&terraform, &serial("9", "x", ""), &["size_gib: 6 -> 9: live", &format!("serial: is added: {REBOOTS}")]);
    let disk = lab.config("pve1", 100)["scsi0"].as_str().expect("a disk").to_owned();
    assert!(disk.contains("size=9G") && disk.contains("serial=x"), "{disk}");

    // The line waits over several changes of the size, which are in force at once.
    for size in ["10", "11"] {
        terraform.write("main.tf", &serial(size, "y", "reboot = false"));
        terraform.apply();
        terraform.has_no_changes();
        let row = row(&lab, "scsi0");
        for line in [&row["value"], &row["pending"]] {
            assert!(line.as_str().is_some_and(|line| line.contains(&format!("size={size}G"))), "{row}");
        }
    }
    change(&terraform, &serial("11", "y", ""), &["scsi0: waits since an earlier change; a reboot applies it"]);
    let disk = lab.config("pve1", 100)["scsi0"].as_str().expect("a disk").to_owned();
    assert!(disk.contains("size=11G") && disk.contains("serial=y"), "{disk}");

    // A record that was lost before is mended: the volume has its size already, and growing it does nothing.
    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &[&format!("scsi0={},serial=z", disk.replace(",serial=y", ""))]);
    lab.admin("PUT", "/nodes/pve1/qemu/100/resize", &["disk=scsi0", "size=12G"]);
    power_cycle(&lab);
    let lost = lab.config("pve1", 100)["scsi0"].as_str().expect("a disk").to_owned();
    assert!(lost.contains("size=11G"), "{lost}");
    change(&terraform, &serial("12", "z", ""), &["size_gib: 11 -> 12: live"]);
    let disk = lab.config("pve1", 100)["scsi0"].as_str().expect("a disk").to_owned();
    assert!(disk.contains("size=12G"), "{disk}");
    terraform.destroy();
    lab_is_empty(&lab);
}

#[test]
fn a_start_that_fails_after_a_reboot_tells_its_cause() {
    if !ready() {
        return;
    }
    let lab = Lab::start("starts", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", &vm(&[]));
    terraform.apply();
    terraform.write("main.tf", &vm(&[("OTHERS", "cores = 64")]));
    terraform.fails(&[
        "Cannot change VM 100",
        "MAX 4 vcpus allowed per VM on this node",
        "cores = 64",
        "the VM is off; the next apply starts it",
        "Lower `cores` or `sockets`",
    ]);
    assert_eq!(lab.tasks("qmreboot"), ["OK"], "its task ended well");
    let lines = ["cores: 64 -> 2: at the next start", "started: false -> true: starts the machine"];
    change(&terraform, &vm(&[("OTHERS", "cores = 2")]), &lines);
    assert_eq!(lab.inventory()["vms"][0]["status"], "running");

    // A card on a bridge that nobody has is found out when it is plugged, here by the power cycle.
    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &["hotplug=disk"]);
    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &["net1=virtio,bridge=vmbr0"]);
    let card = |bridge: &str| {
        vm(&[("OTHERS", "cores = 2"), ("CARD", &format!("network \"net2\" {{ bridge = \"{bridge}\" }}"))])
    };
    terraform.write("main.tf", &card("vmbr99"));
    terraform.fails(&[
        "interface vmbr99 does not exist",
        "network \"net2\" { bridge = \"vmbr99\" }",
        "Correct `bridge`",
    ]);
    // What the change that failed has written is found when it is taken back.
    terraform.write("main.tf", &vm(&[("OTHERS", "cores = 2")]));
    terraform.plan().exits(2).says(&["network.net2: goes", "0 to destroy"]);
    terraform.apply();
    terraform.has_no_changes();
    assert!(row(&lab, "net2").is_null() && row(&lab, "net1")["pending"].is_string(), "net1 is not ours");
    terraform.destroy();
    lab_is_empty(&lab);
}

#[test]
fn what_a_failed_change_wrote_is_seen_when_it_is_taken_back() {
    if !ready() {
        return;
    }
    let lab = Lab::start("takenback", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", &vm(&[]));
    terraform.apply();
    let before = lab.config("pve1", 100);
    terraform.write("main.tf", &vm(&[("DISK", SCSI1), ("CARD", "network \"net1\" { bridge = \"vmbr99\" }")]));
    terraform.fails(&["Cannot change VM 100", "interface vmbr99 does not exist"]);
    assert!(row(&lab, "scsi1")["value"].is_string() && row(&lab, "net1")["pending"].is_string());
    change(&terraform, &vm(&[]), &["disk.scsi1: goes, with all its data: live", "network.net1: goes: live"]);
    assert_eq!(lab.config("pve1", 100), before, "nothing is left of it");
    assert_eq!(lab.tasks("qmreboot").len(), 0);

    // A card that somebody took away comes back as the guest knows it.
    let mac = terraform.resource("groundwork_vm.one")["network"]["net0"]["mac"].clone();
    lab.admin("PUT", "/nodes/pve1/qemu/100/config", &["delete=net0"]);
    terraform.plan().exits(2).says(&["network.net0: is added: live", mac.as_str().expect("an address")]);
    terraform.run(&["apply", "-refresh-only", "-auto-approve", "-input=false"]).exits(0);
    terraform.apply();
    terraform.has_no_changes();
    assert_eq!(terraform.resource("groundwork_vm.one")["network"]["net0"]["mac"], mac);
    terraform.destroy();
    lab_is_empty(&lab);
}
