//! What goes wrong is said once, in the house form: what happened, what holds now, what to do next.

use crate::harness::{Backend, Lab, Terraform, ready};

/// One VM from an empty disk: enough for the API to refuse.
const VM: &str = r#"
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
  vmid       = 120
  cores      = 1
  memory_mib = 512
  started    = false
  disk "scsi0" {
    storage  = "STORAGE"
    size_gib = 1
  }
}
"#;

fn vm(storage: &str) -> String {
    VM.replace("STORAGE", storage)
}

/// Applies `configuration` with `change` made to the environment; the failed apply must say `parts`, once.
#[track_caller]
fn check(lab: &Lab, configuration: &str, change: Option<(&str, &str)>, parts: &[&str]) {
    let mut environment = lab.environment();
    if let Some((name, value)) = change {
        environment.retain(|(key, _)| key != name);
        environment.push((name.to_owned(), value.to_owned()));
    }
    let terraform = Terraform::with_environment(environment);
    terraform.write("main.tf", configuration);
    let said = terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color"]);
    said.exits(1).says(parts);
    assert_eq!(said.text.matches("Error: ").count(), 1, "one diagnostic:\n{}", said.text);
}

/// Each value that Proxmox VE does not know is shown with its line, and nothing is left behind.
#[test]
fn every_place_that_does_not_fit_names_its_attribute() {
    if !ready() {
        return;
    }
    let lab = Lab::start("places", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    for (from, to, parts) in [
        ("STORAGE", "local", ["storage = \"local\"", "does not support vm images", "Set `storage`"]),
        ("pve1", "pve7", ["node = \"pve7\"", "hostname lookup 'pve7' failed", "Correct `node`"]),
        ("cores      = 1", "pool = \"nix\"", ["pool = \"nix\"", "pool 'nix' does not exist", "Correct `pool`"]),
        (
            "cores      = 1",
            "image = \"local:import/nix.qcow2\"",
            ["image = \"local:import/nix.qcow2\"", "'local:import/nix.qcow2' does not exist", "volume's name"],
        ),
        (
            "cores      = 1",
            "clone { name = \"nix\" }",
            ["clone { name = \"nix\" }", "No VM fits `clone`", "Name one source"],
        ),
        (
            "cores      = 1",
            "cloud_init { storage = \"local-lvm\" }",
            ["cloud_init { storage", "no storage local-lvm with content `iso`", "Name one that has it"],
        ),
        (
            "cores      = 1",
            "firmware = \"ovmf\"\n  efi_storage = \"nix\"",
            ["efi_storage = \"nix\"", "storage 'nix' does not exist", "Correct `storage`"],
        ),
    ] {
        terraform.write("main.tf", &VM.replace(from, to).replace("STORAGE", "local-lvm"));
        let said = terraform.fails(&[]);
        let diagnostic = said.flat().rsplit("Error: ").next().unwrap_or_default().to_owned();
        for part in [&parts[..], &["Cannot create VM 120", "Nothing was created"]].concat() {
            assert!(diagnostic.contains(part), "expected {part:?} in:\n{diagnostic}");
        }
        assert_eq!(lab.inventory()["vms"], serde_json::json!([]), "{to}");
    }

    what_a_copy_cannot_be_is_seen_at_its_source(&lab, &terraform);
    // Known before the VM is made, not when it has booted and its seed cannot be taken away.
    lab.control("fault", &["deny", "Datastore.Allocate", "/storage/local"]).exits(0);
    terraform.write("main.tf", &vm("local-lvm").replace("cores      = 1", "cloud_init { user = \"admin\" }"));
    terraform.fails(&["Cannot create VM 120", "may not delete files of storage local", "Grant Datastore.Allocate on"]);
    assert_eq!(lab.inventory()["vms"], serde_json::json!([]), "nothing was made");
    lab.control("fault", &["clear"]).exits(0);
    what_may_not_be_is_looked_at_first(&lab, &terraform);
}

fn what_a_copy_cannot_be_is_seen_at_its_source(lab: &Lab, terraform: &Terraform) {
    lab.admin("POST", "/nodes/pve1/qemu", &["vmid=900", "name=source", "scsi0=local-lvm:2", "ide2=none,media=cdrom"]);
    lab.admin("POST", "/nodes/pve1/qemu/900/template", &[]);
    let clone = vm("local-lvm").replace("cores      = 1", "clone { vmid = 900 }");
    let sizes = ["size_gib = 1", "Disk scsi0 has 2 GiB", "cannot shrink to 1 GiB", "Set `size_gib` to 2 or more"];
    let elsewhere =
        ["clone { vmid = 900 }", "VM 900 on node pve1, and storage local-lvm is that node's own", "set `node` to pve1"];
    for (configuration, parts) in
        [(clone.clone(), &sizes[..]), (clone.replace("pve1", "pve2").replace("= 1\n  }", "= 2\n  }"), &elsewhere[..])]
    {
        terraform.write("main.tf", &configuration);
        terraform.fails(&[parts, &["Cannot create VM 120", "Nothing was created"]].concat());
        assert_eq!(lab.inventory()["vms"].as_array().map(Vec::len), Some(1), "the template alone");
    }
    lab.admin("DELETE", "/nodes/pve1/qemu/900", &[]);
}

/// No VM is stopped that may not be deleted, nor is a privilege the advice where it is not the cause.
fn what_may_not_be_is_looked_at_first(lab: &Lab, terraform: &Terraform) {
    terraform.write("main.tf", &vm("local-lvm").replace("started    = false", ""));
    terraform.apply();
    lab.control("fault", &["deny", "VM.Allocate", "/vms/120"]).exits(0);
    let said = terraform.run(&["destroy", "-auto-approve", "-input=false", "-no-color"]);
    said.exits(1).says(&[
        "Cannot destroy VM",
        "may not delete VM 120",
        "was not stopped",
        "Grant VM.Allocate on /vms/120",
    ]);
    assert_eq!(lab.inventory()["vms"][0]["status"], "running");
    lab.control("fault", &["clear"]).exits(0);
    lab.control("fault", &["hide", "one"]).exits(0);
    let said = terraform.plan();
    said.exits(1).says(&["Cannot read VM 120", "lists none, although the API token may see it", "120.conf"]);
    assert!(!said.flat().contains("Grant"), "{}", said.text);
    lab.control("fault", &["deny", "VM.Audit", "/vms/120"]).exits(0);
    terraform.plan().exits(1).says(&["does not show it to the API token", "Grant VM.Audit on /vms/120"]);
    lab.control("fault", &["clear"]).exits(0);
    terraform.destroy();
}

#[test]
fn every_failure_names_its_cure() {
    if !ready() {
        return;
    }
    let lab = Lab::start("refusals", Backend::None, &[]);
    let good = vm("local-lvm");

    let token = "terraform@pve!lab=00000000-0000-0000-0000-000000000000";
    check(&lab, &good, Some(("GROUNDWORK_PROXMOX_API_TOKEN", token)), &["401", "api_token"]);
    check(&lab, &good, Some(("GROUNDWORK_PROXMOX_ENDPOINTS", "https://127.0.0.1:9")), &["127.0.0.1:9", "endpoints"]);
    let other_ca =
        std::fs::read_to_string(Terraform::for_lab(&lab).path("pki/ca.pem")).expect("a CA that signed nothing here");
    check(&lab, &good, Some(("GROUNDWORK_PROXMOX_CA_CERT_PEM", &other_ca)), &["certificate", "ca_cert_pem"]);
    let pinned =
        format!("agent {{ pki_dir = \"./pki\" }}\n  proxmox {{ tls_fingerprint = \"{}\" }}", ["AB"; 32].join(":"));
    let parts = ["has the fingerprint", "AB:AB:AB", "set `tls_fingerprint` in the provider block's `proxmox`"];
    check(&lab, &good.replace("agent { pki_dir = \"./pki\" }", &pinned), None, &parts);
    check(
        &lab,
        &vm("nowhere"),
        None,
        &["Cannot create VM 120", "storage 'nowhere' does not exist", "Nothing was created"],
    );

    lab.control("fault", &["full-storage", "local-lvm"]).exits(0);
    check(&lab, &good, None, &["Cannot create VM 120", "local-lvm", "space"]);
    lab.control("fault", &["clear"]).exits(0);

    lab.control("fault", &["fail-task", "qmcreate", "the moon is in the wrong phase"]).exits(0);
    check(&lab, &good, None, &["Cannot create VM 120", "the moon is in the wrong phase"]);
    lab.control("fault", &["clear"]).exits(0);

    lab.control("create-vm", &["120", "stranger"]).exits(0);
    check(&lab, &good, None, &["120", "exists", "vmid"]);
    let inventory = lab.inventory();
    let vms = inventory["vms"].as_array().expect("vms");
    assert!(vms.iter().any(|vm| vm["name"] == "stranger"), "a stranger's VM is never touched: {inventory}");
}
