//! Changes of a VM that lives: the plan says what is live and what needs a reboot, and the time for each is named when it is over.

use crate::harness::{Backend, Lab, Terraform, ready, wait_until};
use crate::quickstart::lab_is_empty;

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
    size_gib = 2
  }
  DISK
  network "net0" { bridge = "vmbr0" }
  CARD
  OTHERS
}
"#;

fn vm(disk: &str, card: &str, others: &str) -> String {
    CONFIGURATION.replace("DISK", disk).replace("CARD", card).replace("OTHERS", others)
}

/// Plans and applies; the plan must say `parts` and replace nothing, and the next one is empty.
#[track_caller]
fn change(terraform: &Terraform, configuration: &str, parts: &[&str]) {
    terraform.write("main.tf", configuration);
    terraform.plan().exits(2).says(&[parts, &["0 to add, 1 to change, 0 to destroy"]].concat());
    terraform.apply();
    terraform.has_no_changes();
}

#[test]
fn a_vm_changes_in_place_and_the_plan_says_how() {
    if !ready() {
        return;
    }
    let lab = Lab::start("changes", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", &vm("", "", ""));
    terraform.apply();
    let uuid = terraform.resource("groundwork_vm.one")["uuid"].clone();

    let more = vm(
        "disk \"virtio1\" {\n  storage = \"data\"\n  size_gib = 1\n  format = \"qcow2\"\n}",
        "network \"net1\" {\n  bridge = \"vmbr1\"\n  vlan = 7\n}",
        "tags = [\"B\", \"a\"]\n  description = \"two\\nlines\"",
    );
    change(
        &terraform,
        &more,
        &["disk.virtio1: is added: live", "network.net1: is added: live", "tags: changes: live", "description"],
    );
    let config = lab.config("pve1", 100);
    assert_eq!((&config["tags"], &config["description"]), (&"a;b".into(), &"two\nlines".into()), "{config}");
    assert!(config["virtio1"].as_str().is_some_and(|disk| disk.contains("size=1G")), "{config}");
    assert!(config["net1"].as_str().is_some_and(|card| card.ends_with("bridge=vmbr1,tag=7")), "{config}");

    let moved = vm("", "", "").replace("vmbr0", "vmbr1").replace("= 512", "= 1024\n  tags = []\n  description = \"\"");
    let lines = [
        "disk.virtio1: goes, with all its data: live",
        "network.net0.bridge: vmbr0 -> vmbr1: live",
        "network.net1: goes: live",
        "description: is emptied: live",
        "memory_mib: 512 -> 1024: needs a reboot, which this apply makes",
    ];
    let mac = terraform.resource("groundwork_vm.one")["network"]["net0"]["mac"].clone();
    change(&terraform, &moved, &lines);
    let config = lab.config("pve1", 100);
    assert!(config["virtio1"].is_null() && config["unused0"].is_null() && config["tags"].is_null(), "{config}");
    assert!(config["description"].is_null() && config["net1"].is_null(), "{config}");
    assert_eq!(terraform.resource("groundwork_vm.one")["network"]["net0"]["mac"], mac);
    assert_eq!(lab.inventory()["volumes"], serde_json::json!(["local-lvm:vm-100-disk-0"]), "the disk is destroyed");
    assert_eq!(lab.tasks("qmreboot"), ["OK"]);

    waits_for_a_reboot(&lab, &terraform);
    let stopped = vm("", "", "cores = 4\n  started = false");
    change(
        &terraform,
        &stopped,
        &["cores: 3 -> 4: at the next start", "started: true -> false: shuts the machine down"],
    );
    assert_eq!(lab.inventory()["vms"][0]["status"], "stopped");
    change(&terraform, &vm("", "", "cores = 4"), &["started: false -> true: starts the machine"]);
    assert_eq!(lab.inventory()["vms"][0]["status"], "running");
    assert_eq!(lab.tasks("qmreboot").len(), 2, "no reboot but the two that were planned");
    assert_eq!(terraform.resource("groundwork_vm.one")["uuid"], uuid);
    terraform.destroy();
    lab_is_empty(&lab);
}

/// `reboot = false` leaves what waits, says so, and a later `true` applies it.
fn waits_for_a_reboot(lab: &Lab, terraform: &Terraform) {
    terraform.write("main.tf", &vm("", "", "cores = 3\n  reboot = false"));
    terraform
        .plan()
        .exits(2)
        .says(&["memory_mib: 1024 -> 512", "cores: 1 -> 3: needs a reboot, which `reboot = false` leaves to you"]);
    terraform.apply().says(&["Warning: VM 100 needs a reboot", "cores", "set `reboot = true`"]);
    terraform.has_no_changes();
    assert_eq!(terraform.resource("groundwork_vm.one")["waiting"], serde_json::json!(["cores", "memory"]));
    assert_eq!(lab.tasks("qmreboot").len(), 1);
    let line = "cores, memory: waits since an earlier change; a reboot applies it";
    change(terraform, &vm("", "", "cores = 3"), &[line]);
    assert_eq!(terraform.resource("groundwork_vm.one")["waiting"], serde_json::json!([]));
}

#[test]
fn what_takes_too_long_names_its_timeout_and_the_next_apply_goes_on() {
    if !ready() {
        return;
    }
    let lab = Lab::start("late", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let short = |others: &str| {
        vm(
            "",
            "",
            &format!("timeouts {{\n    create = \"3s\"\n    update = \"3s\"\n    delete = \"3s\"\n  }}\n  {others}"),
        )
    };
    for kind in ["qmcreate", "imgcopy", "qmstart"] {
        terraform.write("main.tf", &short("cloud_init { user = \"admin\" }"));
        lab.control("fault", &["slow-task", kind, "5"]).exits(0);
        terraform.fails(&[
            "Cannot create VM one on node pve1",
            "The time for the task",
            "recorded in the state as tainted",
            "Raise `timeouts.create`",
            "create = \"3s\"",
        ]);
        assert_eq!(terraform.resource("groundwork_vm.one")["id"], "pve1/100", "{kind}");
        lab.control("fault", &["clear"]).exits(0);
        // Tasks go on in Proxmox VE; destroying waits for the VM's lock.
        terraform.write("main.tf", &vm("", "", "cloud_init { user = \"admin\" }"));
        wait_until("no task runs any more", || !lab.tasks(kind).contains(&serde_json::Value::Null));
        terraform.apply();
        terraform.has_no_changes();
        terraform.destroy();
        lab_is_empty(&lab);
    }

    terraform.write("main.tf", &short(""));
    terraform.apply();
    lab.control("fault", &["slow-task", "qmconfig", "5"]).exits(0);
    terraform.write("main.tf", &short("cores = 2"));
    terraform.fails(&["Cannot change VM 100", "Raise `timeouts.update`", "update = \"3s\""]);
    lab.control("fault", &["clear"]).exits(0);
    lab.control("fault", &["slow-task", "qmdestroy", "5"]).exits(0);
    let said = terraform.run(&["destroy", "-auto-approve", "-no-color"]);
    said.exits(1).says(&["Cannot destroy VM pve1/100", "stays in the state", "Raise `timeouts.delete`"]);
    lab.control("fault", &["clear"]).exits(0);
    wait_until("the VM is gone", || lab.inventory()["vms"] == serde_json::json!([]));
    terraform.destroy();
    lab_is_empty(&lab);
}
