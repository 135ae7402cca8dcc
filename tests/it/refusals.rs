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

    // Known before the VM is made, not when it has booted and its seed cannot be taken away.
    lab.control("fault", &["deny", "Datastore.Allocate", "/storage/local"]).exits(0);
    terraform.write("main.tf", &vm("local-lvm").replace("cores      = 1", "cloud_init { user = \"admin\" }"));
    terraform.fails(&["Cannot create VM 120", "may not delete files of storage local", "Grant Datastore.Allocate on"]);
    assert_eq!(lab.inventory()["vms"], serde_json::json!([]), "nothing was made");
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
