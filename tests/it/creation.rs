//! The creation of a VM among others: from another folder, in the same moment, under load, and with an API that goes away.

use crate::harness::{Backend, Lab, Terraform, ready, wait_until};
use crate::quickstart::lab_is_empty;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const VM: &str = r#"
terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 1
  }
  network "net0" { bridge = "vmbr0" }
}
"#;
const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];

fn runs(lab: &Lab, kind: &str) -> bool {
    lab.tasks(kind).contains(&Value::Null)
}

fn vms(lab: &Lab) -> usize {
    lab.inventory()["vms"].as_array().map(Vec::len).unwrap_or_default()
}

/// A second folder with the same VM, or one that differs, while the first one's apply is at it: an error that names the VM.
#[test]
fn a_vm_that_another_state_is_creating_is_left_alone() {
    if !ready() {
        return;
    }
    let lab = Lab::start("two-states", Backend::None, &[]);
    let first = Terraform::for_lab(&lab);
    first.write("main.tf", VM);
    for change in [
        ("size_gib = 1", "size_gib = 2"),
        ("\"pve1\"", "\"pve2\""),
        ("name       =", "vmid = 100\n  name       ="),
        ("x", "x"),
    ] {
        lab.control("fault", &["slow-task", "qmstart", "8"]).exits(0);
        let mut apply = first.spawn(&APPLY, "first.log");
        wait_until("the first VM is being started", || runs(&lab, "qmstart"));
        let second = Terraform::for_lab(&lab);
        second.write("main.tf", &VM.replace(change.0, change.1));
        second.fails(&[
            "Cannot create VM",
            "A guest named one exists already: 100 on node pve1. Its creation was begun from another folder",
            "Nothing was created, and that guest was not touched.",
            "destroy VM 100 in Proxmox VE",
        ]);
        assert_eq!(second.show()["values"], Value::Null, "nothing stands in the second state");
        assert!(apply.wait().expect("terraform ends").success());
        lab.control("fault", &["clear"]).exits(0);
        // Nothing that the second one does takes anything from the first.
        second.fails(&["A guest named one exists already: 100 on node pve1."]);
        second.destroy();
        first.has_no_changes();
        assert_eq!((vms(&lab), &lab.inventory()["vms"][0]["status"]), (1, &"running".into()));
        first.destroy();
        lab_is_empty(&lab);
    }
}

/// Two applies of one folder, and what a killed one left.
#[test]
fn an_unfinished_vm_is_gone_on_with_by_its_own_folder_alone() {
    if !ready() {
        return;
    }
    let lab = Lab::start("one-folder", Backend::None, &[]);
    let first = Terraform::for_lab(&lab);
    first.write("main.tf", VM);
    // The same folder twice: `-lock=false` stands for states that do not lock.
    lab.control("fault", &["slow-task", "qmstart", "8"]).exits(0);
    let mut apply = first.spawn(&APPLY, "first.log");
    wait_until("the VM is being started", || runs(&lab, "qmstart"));
    let again = [&APPLY[..], &["-lock=false", "-state=other.tfstate"]].concat();
    first
        .run(&again)
        .exits(1)
        .says(&["another apply in this folder is creating a VM named one now", "Nothing was created."]);
    assert!(apply.wait().expect("terraform ends").success());
    lab.control("fault", &["clear"]).exits(0);
    first.has_no_changes();
    first.destroy();

    // Its provider was killed: only its own folder goes on with it, and with another configuration makes it anew.
    lab.control("fault", &["slow-task", "qmstart", "3"]).exits(0);
    first.killed(|| runs(&lab, "qmstart"));
    lab.control("fault", &["clear"]).exits(0);
    wait_until("the start has ended", || !runs(&lab, "qmstart"));
    let second = Terraform::for_lab(&lab);
    second.write("main.tf", VM);
    second.fails(&["If none is, nobody goes on with it: destroy VM 100 in Proxmox VE, and apply again."]);
    let uuid = lab.config("pve1", 100)["smbios1"].clone();
    first.apply();
    assert_eq!(lab.config("pve1", 100)["smbios1"], uuid, "the same VM");
    first.has_no_changes();
    first.destroy();
    lab.control("fault", &["slow-task", "qmstart", "3"]).exits(0);
    first.killed(|| runs(&lab, "qmstart"));
    lab.control("fault", &["clear"]).exits(0);
    first.write("main.tf", &VM.replace("\"pve1\"", "\"pve2\""));
    first.apply();
    assert_eq!((vms(&lab), &lab.inventory()["vms"][0]["node"]), (1, &"pve2".into()), "what was left is taken away");
    first.destroy();
    lab_is_empty(&lab);
}

/// Two folders that ask in the same moment, before either can see the other: one VM in the end, and it stands in one state.
#[test]
fn of_two_that_begin_in_the_same_moment_one_stays() {
    if !ready() {
        return;
    }
    let lab = Lab::start("same-moment", Backend::None, &[]);
    lab.control("fault", &["slow-task", "qmcreate", "3"]).exits(0);
    let both: Vec<Terraform> = (0..2).map(|_| Terraform::for_lab(&lab)).collect();
    for (number, terraform) in both.iter().enumerate() {
        terraform.write("main.tf", &VM.replace("name       =", &format!("vmid = {}\n  name       =", 200 + number)));
    }
    let mut applies: Vec<_> = both.iter().map(|terraform| terraform.spawn(&APPLY, "apply.log")).collect();
    let ends: Vec<bool> = applies.iter_mut().map(|apply| apply.wait().expect("terraform ends").success()).collect();
    lab.control("fault", &["clear"]).exits(0);
    let log = |terraform: &Terraform| std::fs::read_to_string(terraform.path("apply.log")).expect("log");
    assert_eq!(ends.iter().filter(|good| **good).count(), 1, "{}\n{}", log(&both[0]), log(&both[1]));
    assert_eq!(vms(&lab), 1);
    let stayed = ends.iter().position(|good| *good).expect("one");
    let lost = log(&both[1 - stayed]).split_whitespace().collect::<Vec<_>>().join(" ").replace(" │", "");
    assert!(lost.contains("was taken back") || lost.contains("was not touched"), "{lost}");
    both[stayed].has_no_changes();
    both[stayed].destroy();
    both[1 - stayed].destroy();
    lab_is_empty(&lab);
}

/// Many at once: five calls and a bit for each, and none of them waits for another.
#[test]
fn many_vms_cost_six_requests_each_at_most() {
    if !ready() {
        return;
    }
    let lab = Lab::start("many", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let many = VM.replace("\"one\" {", "\"one\" {\n  count = 40\n  started = false");
    terraform.write("main.tf", &many.replace("= \"one\"", "= \"vm-${count.index}\""));
    lab.control("fault", &["latency", "0.02"]).exits(0);
    lab.control("requests", &["--reset"]).exits(0);
    terraform.apply();
    let said = lab.control("requests", &["--json"]);
    let requests: Value = serde_json::from_str(&said.text).expect("requests");
    let total = requests["total"].as_u64().expect("total");
    assert!(total <= 240, "{total} requests for 40 VMs: {requests}");
    lab.control("fault", &["clear"]).exits(0);
    terraform.has_no_changes();
    terraform.destroy();
    lab_is_empty(&lab);
}

#[test]
fn no_worker_for_a_task_is_no_failure() {
    if !ready() {
        return;
    }
    let lab = Lab::start("no-worker", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", VM);
    let message = "message=got no worker upid - start worker failed";
    for (method, path) in [("POST", "/nodes/*/qemu"), ("POST", "/nodes/*/qemu/*/status/start")] {
        lab.control("fault", &["refuse", method, path, "times=2", message]).exits(0);
    }
    terraform.apply();
    terraform.has_no_changes();
    lab.control("fault", &["refuse", "DELETE", "/nodes/*/qemu/*", message]).exits(0);
    terraform.destroy();
    lab_is_empty(&lab);
}

/// Whether a call was carried out whose answer was lost is seen by another look; no machine is made anew for it.
#[test]
fn a_lost_answer_costs_no_machine() {
    if !ready() {
        return;
    }
    let lab = Lab::start("lost", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    lab.admin("POST", "/nodes/pve1/qemu", &["vmid=900", "name=source", "scsi0=local-lvm:1"]);
    let clone = VM.replace("memory_mib =", "clone {\n    vmid = 900\n    full = true\n  }\n  memory_mib =");
    let clone = clone.replace("size_gib = 1", "size_gib = 2");
    for (method, path) in [
        ("POST", "/nodes/*/qemu/*/config"),
        ("PUT", "/nodes/*/qemu/*/resize"),
        ("POST", "/nodes/*/qemu/*/status/start"),
        ("PUT", "/nodes/*/qemu/*/config"),
    ] {
        for kind in ["lost", "cut-before"] {
            terraform.write("main.tf", &clone);
            lab.control("fault", &[kind, method, path]).exits(0);
            let said = terraform.apply();
            assert!(!said.flat().contains("taint"), "{kind} {method} {path}\n{}", said.text);
            terraform.has_no_changes();
            assert_eq!(vms(&lab), 2, "{kind} {method} {path}");
            terraform.destroy();
        }
    }
    // A change and its reboot, which is made once.
    terraform.write("main.tf", VM);
    terraform.apply();
    for (method, path) in [("POST", "/nodes/*/qemu/*/config"), ("POST", "/nodes/*/qemu/*/status/reboot")] {
        let memory = if path.ends_with("reboot") { "= 1024" } else { "= 768" };
        terraform.write("main.tf", &VM.replace("= 512", memory));
        let before = lab.tasks("qmreboot").len();
        lab.control("fault", &["lost", method, path]).exits(0);
        terraform.apply();
        terraform.has_no_changes();
        assert_eq!(lab.tasks("qmreboot").len(), before + 1, "{path}");
    }
    terraform.destroy();
}

/// The token is revoked between the call and the first look: nobody says that nothing was created.
#[test]
fn what_is_not_known_is_not_called_nothing() {
    if !ready() {
        return;
    }
    let lab = Lab::start("not-known", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.write("main.tf", VM);
    for path in ["/nodes/*/tasks/*", "/nodes/*/qemu/*", "/nodes/*/qemu/*/status/current", "/cluster/resources"] {
        let skip = if path == "/cluster/resources" { "skip=1" } else { "skip=0" };
        lab.control("fault", &["refuse", "GET", path, "always", skip, "status=401", "message=no such token"]).exits(0);
    }
    let said = terraform.fails(&["Cannot create VM one", "no such token", "recorded in the state as tainted"]);
    assert!(!said.flat().contains("Nothing was created"), "{}", said.text);
    lab.control("fault", &["clear"]).exits(0);
    terraform.apply();
    assert_eq!(vms(&lab), 1, "the first one was replaced");
    terraform.has_no_changes();
    terraform.destroy();

    // A clone of which not even the UUID is known: no record, but the mark.
    lab.admin("POST", "/nodes/pve1/qemu", &["vmid=900", "name=source"]);
    terraform.write("main.tf", &VM.replace("memory_mib =", "clone { vmid = 900 }\n  memory_mib ="));
    for path in ["/nodes/*/tasks/*", "/nodes/*/qemu/*", "/cluster/resources"] {
        let skip = if path == "/cluster/resources" { "skip=1" } else { "skip=0" };
        let skip = if path == "/nodes/*/qemu/*" { "skip=1" } else { skip };
        lab.control("fault", &["refuse", "GET", path, "always", skip, "status=401", "message=no such token"]).exits(0);
    }
    let said = terraform.fails(&["Cannot create VM one", "Whether the VM exists is not known", "goes on with it"]);
    assert!(!said.flat().contains("Nothing was created"), "{}", said.text);
    lab.control("fault", &["clear"]).exits(0);
    terraform.apply();
    assert_eq!(vms(&lab), 2, "source and clone: the clone was gone on with");
    terraform.has_no_changes();
    terraform.destroy();
}

/// Every VM of a plan tells the same failure, and the second does not wait for a time-out of its own.
#[test]
fn an_api_that_nobody_reaches_costs_one_time_out() {
    if !ready() {
        return;
    }
    let lab = Lab::start("unreachable", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let many = VM.replace("\"one\" {", "\"one\" {\n  count = 20\n  started = false");
    terraform.write("main.tf", &many.replace("= \"one\"", "= \"vm-${count.index}\""));
    terraform.apply();
    // Somebody who takes connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("https://{}", listener.local_addr().expect("a port"));
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok(stream) = listener.accept() {
            count.fetch_add(1, Ordering::SeqCst);
            open.push(stream);
        }
    });
    let mut environment = lab.environment();
    environment.retain(|(key, _)| !key.ends_with("_ENDPOINTS") && !key.ends_with("_ENDPOINT"));
    environment.push(("GROUNDWORK_PROXMOX_ENDPOINTS".to_owned(), silent));
    let other = Terraform::with_environment(environment);
    for file in ["main.tf", "terraform.tfstate"] {
        std::fs::copy(terraform.path(file), other.path(file)).expect("copy");
    }
    let said = other.plan();
    said.exits(1);
    assert_eq!(said.text.matches("Error: ").count(), 20, "each VM says so:\n{}", said.text);
    let connections = connections.load(Ordering::SeqCst);
    assert!(connections <= 4, "one asks, and asks again: {connections} connections");
    terraform.destroy();
    lab_is_empty(&lab);
}
