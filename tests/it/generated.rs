//! Configuration that Terraform writes for imported objects is good as it is.

use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart::lab_is_empty;

const MADE: &str = r#"
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_pool" "one" {
  poolid = "one"
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  image      = groundwork_image.one.volume_id
  pool       = groundwork_pool.one.poolid
  memory_mib = 512
  tags       = ["web"]
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 5
  }
  network "net0" { bridge = "vmbr0" }
}
"#;
const IMPORTS: &str = r#"
import {
  to = groundwork_image.one
  id = "pve1/local:import/one.qcow2"
}
import {
  to = groundwork_pool.one
  id = "one"
}
import {
  to = groundwork_vm.one
  id = "pve1/100"
}
"#;

#[test]
fn configuration_written_for_imported_objects_plans_clean() {
    if !ready() {
        return;
    }
    let lab = Lab::start("generated", Backend::None, &[]);
    let maker = Terraform::for_lab(&lab);
    maker.configure(&MADE.replace("URL", &lab.value("LAB_IMAGE_URL")).replace("SUM", &lab.value("LAB_IMAGE_SHA256")));
    maker.apply();

    let terraform = Terraform::for_lab(&lab);
    terraform.configure(IMPORTS);
    let said = terraform.run(&["plan", "-input=false", "-no-color", "-generate-config-out=generated.tf"]);
    said.exits(0).says(&["3 to import, 0 to add, 0 to change, 0 to destroy"]);
    terraform.apply().says(&["3 imported, 0 added, 0 changed, 0 destroyed"]);
    terraform.has_no_changes();

    // A machine from which no other can be made is not destroyed to make room for it.
    let generated = std::fs::read_to_string(terraform.path("generated.tf")).expect("what was generated");
    if generated.contains("(imported)") {
        let replace = ["apply", "-auto-approve", "-input=false", "-no-color", "-replace=groundwork_vm.one"];
        let said = terraform.run(&replace);
        said.exits(1).says(&["Cannot replace this vm", "Nothing was destroyed"]);
        terraform.has_no_changes();
    }
    // Generated configuration does not say that the pool is the VM's.
    let machine_first = ["destroy", "-target=groundwork_vm.one", "-auto-approve", "-input=false", "-no-color"];
    terraform.run(&machine_first).exits(0);
    terraform.destroy();
    lab_is_empty(&lab);
}
