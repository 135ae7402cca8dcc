//! What most tests of a machine stand on: one image, one VM with an agent, one machine.

use super::Lab;

/// All of them are called `one`; the VM is host number `last` in the lab's network, and the machine has these settings.
pub(crate) fn one(lab: &Lab, last: u8, settings: &str) -> String {
    ONE.replace("URL", &lab.value("LAB_IMAGE_URL"))
        .replace("SUM", &lab.value("LAB_IMAGE_SHA256"))
        .replace("ADDRESS", &lab.address(last))
        .replace("GATEWAY", &lab.address(1))
        .replace("SETTINGS", settings)
}

const ONE: &str = r#"
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" { bridge = "vmbr0" }
  agent {}
  cloud_init {
    network "net0" {
      address = "ADDRESS/24"
      gateway = "GATEWAY"
    }
  }
  timeouts { create = "3m" }
}
resource "groundwork_machine" "one" {
  endpoint = groundwork_vm.one.endpoint
SETTINGS
}
"#;
