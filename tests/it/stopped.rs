//! Ctrl-C, and a provider that dies, in the middle of each kind of task: no second VM, nothing lost, the same end.

use crate::harness::{Backend, Lab, Terraform, ready, wait_until};
use crate::quickstart::lab_is_empty;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A VM from an image that is downloaded, with a seed and a disk that grows.
const CONFIGURATION: &str = r#"
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  SOURCE
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 2
  }
  network "net0" { bridge = "vmbr0" }
  cloud_init { user = "admin" }
}
"#;

fn downloaded(lab: &Lab) -> String {
    let source =
        format!("url = \"{}\"\n  checksum = \"sha256:{}\"", lab.value("LAB_IMAGE_URL"), lab.value("LAB_IMAGE_SHA256"));
    CONFIGURATION.replace("SOURCE", &source)
}

/// Whether a task of this kind runs now.
fn runs(lab: &Lab, kind: &str) -> bool {
    lab.tasks(kind).contains(&Value::Null)
}

#[track_caller]
fn one_vm_is_there(lab: &Lab, terraform: &Terraform, kind: &str) {
    let inventory = lab.inventory();
    assert_eq!(inventory["vms"].as_array().map(Vec::len), Some(1), "{kind}: {inventory}");
    assert_eq!(inventory["volumes"].as_array().map(Vec::len), Some(3), "{kind}: disk, image and seed: {inventory}");
    terraform.has_no_changes();
    terraform.destroy();
    lab_is_empty(lab);
}

#[test]
fn ctrl_c_stops_the_task_in_flight_and_the_next_apply_goes_on() {
    if !ready() {
        return;
    }
    let lab = Lab::start("ctrl-c", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let uploaded = CONFIGURATION.replace("SOURCE", &format!("source_file = \"{}\"", lab.value("LAB_IMAGE")));
    for (kind, configuration, says) in [
        ("download", downloaded(&lab), ["Cannot create image", "recorded in the state as tainted"]),
        ("imgcopy", uploaded, ["Cannot create image", "recorded in the state as tainted"]),
        ("qmcreate", downloaded(&lab), ["Cannot create VM one", "Nothing was created"]),
        ("imgcopy", downloaded(&lab), ["Cannot create VM one", "recorded in the state as tainted"]),
        ("qmstart", downloaded(&lab), ["Cannot create VM one", "recorded in the state as tainted"]),
    ] {
        terraform.configure(&configuration);
        lab.control("fault", &["slow-task", kind, "60"]).exits(0);
        let said = terraform.interrupted(|| runs(&lab, kind));
        said.exits(1).says(&["was stopped on request", "Apply again.", says[0], says[1]]);
        // It would have taken a minute: what does not run any more was stopped.
        let ends = lab.tasks(kind);
        let stopped = ends.iter().any(|end| end.as_str().is_some_and(|end| end.contains("received interrupt")));
        assert!(stopped && !runs(&lab, kind), "{kind} was stopped in Proxmox VE too: {ends:?}");
        lab.control("fault", &["clear"]).exits(0);
        terraform.apply();
        one_vm_is_there(&lab, &terraform, kind);
    }
}

#[test]
fn ctrl_c_while_an_agent_is_waited_for_says_what_there_is() {
    if !ready() {
        return;
    }
    let lab = Lab::start("ctrl-c-enrol", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let nobody = "agent {\n    address = \"127.0.0.1\"\n    port = 9\n  }\n  cloud_init";
    terraform.configure(&downloaded(&lab).replace("cloud_init", nobody));
    let said = terraform.interrupted(|| lab.tasks("qmstart").first().is_some_and(|status| status == "OK"));
    said.exits(1).says(&[
        "Cannot enrol the agent of VM 100",
        "Stopped on request.",
        "The VM exists unfinished and is recorded in the state as tainted: the next apply replaces it.",
    ]);
    assert!(!said.flat().contains("the agent finishes"), "{}", said.text);
    assert_eq!(said.text.matches("Cannot enrol").count(), 1, "one diagnostic:\n{}", said.text);

    // The same where the time runs out, and then the seed with its secret goes with the VM.
    let short = format!("timeouts {{ create = \"3s\" }}\n  {nobody}");
    terraform.configure(&downloaded(&lab).replace("cloud_init", &short));
    terraform.fails(&["Cannot enrol the agent of VM 100", "raise `timeouts.create`", "create = \"3s\""]);
    assert!(lab.inventory().to_string().contains("groundwork-100-"), "the seed is still needed");
    terraform.destroy();

    // Of a machine that was switched off meanwhile nobody expects an answer.
    terraform.configure(&downloaded(&lab).replace("cloud_init", nobody));
    let mut apply = terraform.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "off.log");
    wait_until("the VM was started", || lab.tasks("qmstart").iter().filter(|status| **status == "OK").count() == 3);
    let began = Instant::now();
    lab.admin("POST", "/nodes/pve1/qemu/100/status/stop", &[]);
    assert!(!apply.wait().expect("terraform ends").success());
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    let text = std::fs::read_to_string(terraform.path("off.log")).expect("the log");
    let flat = text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for part in [
        "Cannot create VM one",
        "does not run any more while its agent is waited for",
        "recorded in the state as tainted",
    ] {
        assert!(flat.contains(part), "{part} in {text}");
    }
    terraform.destroy();
    lab_is_empty(&lab);
}

#[test]
fn a_provider_that_died_finds_its_vm_again_and_leaves_a_strangers_alone() {
    if !ready() {
        return;
    }
    let lab = Lab::start("died", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.configure(&downloaded(&lab));
    for kind in ["download", "qmcreate", "imgcopy", "resize"] {
        lab.control("fault", &["slow-task", kind, "3"]).exits(0);
        terraform.killed(|| runs(&lab, kind));
        let before = lab.inventory()["vms"].clone();
        lab.control("fault", &["clear"]).exits(0);
        terraform.apply();
        // Proxmox VE goes on with a task whose provider died.
        wait_until("no task runs any more", || !lab.tasks(kind).contains(&Value::Null));
        if kind != "download" {
            assert_eq!(before[0]["vmid"], lab.inventory()["vms"][0]["vmid"], "{kind}: the VM was adopted");
        }
        one_vm_is_there(&lab, &terraform, kind);
    }

    // The mark is bound to the name, and is not taken from anybody who writes something like it.
    let mark = "description=groundwork: creation not finished (0123456789abcdef)";
    lab.admin("POST", "/nodes/pve1/qemu", &["vmid=300", "name=one", mark]);
    terraform.fails(&["A guest named one exists already: 300", "not touched", "Choose another `name`"]);
    lab.admin("PUT", "/nodes/pve1/qemu/300/config", &["name=other"]);
    terraform.configure(&downloaded(&lab).replace("name       =", "vmid = 300\n  name       ="));
    terraform.fails(&["A guest with number 300 exists already", "not touched", "vmid"]);
    let stranger = lab.config("pve1", 300);
    assert_eq!((&stranger["name"], &stranger["smbios1"].is_string()), (&"other".into(), &true), "{stranger}");
    assert_eq!(lab.inventory()["vms"].as_array().map(Vec::len), Some(1));
}
