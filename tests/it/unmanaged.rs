//! What is not in the configuration is left alone: a clone's other disks, the seed of what it was cloned from.

use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart::lab_is_empty;

const SOURCE: &str = r#"
resource "groundwork_vm" "source" {
  node       = "pve1"
  name       = "source"
  vmid       = 900
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 1
  }
  network "net0" { bridge = "vmbr0" }
  cloud_init { user = "admin" }
  started    = false
}
"#;

const COPY: &str = r#"
resource "terraform_data" "text" {
  input = "TEXT"
}
resource "groundwork_vm" "copy" {
  node        = "pve1"
  name        = "copy"
  vmid        = 901
  description = terraform_data.text.output
  clone {
    vmid = groundwork_vm.source.vmid
    CLONE
  }
  OTHERS
}
"#;

fn copy(clone: &str, text: &str, others: &str) -> String {
    SOURCE.to_owned() + &COPY.replace("CLONE", clone).replace("TEXT", text).replace("OTHERS", others)
}

/// The seed of the source is in its drive, and its file is there.
#[track_caller]
fn source_keeps_its_seed(lab: &Lab) {
    let drive = lab.config("pve1", 900)["scsi30"].as_str().expect("the source's drive").to_owned();
    let file = drive.split(',').next().expect("a volume");
    assert!(file.contains("iso/groundwork-900-"), "{drive}");
    assert!(lab.inventory().to_string().contains(file), "{file} is gone");
}

#[test]
fn a_clone_leaves_its_source_and_unwritten_disks_alone() {
    if !ready() {
        return;
    }
    let lab = Lab::start("unmanaged", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    terraform.configure(SOURCE);
    terraform.apply();
    source_keeps_its_seed(&lab);

    terraform.configure(&copy("storage = \"data\"\n    full = false", "one", ""));
    terraform.fails(&["Cannot create VM 901", "A linked clone", "clone.full", "clone", "Nothing was created"]);
    let elsewhere = "disk \"scsi0\" { storage = \"data\" }";
    terraform.configure(&copy("", "one", elsewhere));
    terraform.fails(&["Disk scsi0 of the clone would be on storage local-lvm", "clone.storage", "Nothing was created"]);

    for seed in ["started = false", "started = false\n  cloud_init { user = \"other\" }"] {
        terraform.configure(&copy("", "one", seed));
        terraform.apply();
        terraform.has_no_changes();
        source_keeps_its_seed(&lab);
        terraform.configure(SOURCE);
        terraform.apply();
        source_keeps_its_seed(&lab);
    }

    // A further disk is no word against the one that the clone brought along.
    terraform.configure(&copy("", "one", "started = false"));
    terraform.apply();
    let more = "started = false\n  disk \"scsi1\" {\n    storage = \"data\"\n    size_gib = 1\n  }";
    terraform.configure(&copy("", "one", more));
    terraform.plan().exits(2).says(&["disk.scsi1: is added: live", "0 to destroy"]);
    terraform.apply();
    terraform.has_no_changes();
    let config = lab.config("pve1", 901);
    assert!(config["scsi0"].is_string() && config["scsi1"].is_string(), "{config}");
    // What was written once goes when it is written no more.
    terraform.configure(&copy("", "one", "started = false"));
    terraform.plan().exits(2).says(&["disk.scsi1: goes, with all its data"]);
    terraform.apply();
    terraform.has_no_changes();
    let config = lab.config("pve1", 901);
    assert!(config["scsi0"].is_string() && config["scsi1"].is_null(), "{config}");

    // A value that another resource gives in the same apply.
    terraform.configure(&copy("", "two", "started = false"));
    terraform.plan().exits(2).says(&["effects", "known after apply"]);
    terraform.apply();
    terraform.has_no_changes();
    assert_eq!(lab.config("pve1", 901)["description"], "two");

    // An import shows everything, and what is not written is let go, not taken away.
    terraform.run(&["state", "rm", "groundwork_vm.copy"]).exits(0);
    terraform.run(&["import", "-input=false", "-no-color", "groundwork_vm.copy", "pve1/901"]).exits(0);
    assert!(terraform.resource("groundwork_vm.copy")["disk"]["scsi0"].is_object());
    let stays = "was never applied from the configuration: stays as it is";
    let clone = "clone: is added: recorded; used at creation only";
    terraform.plan().exits(2).says(&[&format!("disk.scsi0: {stays}"), &format!("network.net0: {stays}"), clone]);
    terraform.apply();
    terraform.has_no_changes();
    let config = lab.config("pve1", 901);
    assert!(config["scsi0"].is_string() && config["net0"].is_string(), "{config}");

    terraform.destroy();
    lab_is_empty(&lab);
}
