resource "groundwork_vm" "web" {
  node       = "pve1"
  name       = "web"
  image      = "local:import/debian-13-20260901.qcow2"
  cores      = 2
  cpu_type   = "x86-64-v2-AES"
  memory_mib = 2048

  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 20
    discard  = true
  }
  disk "scsi1" {
    storage  = "local-lvm"
    size_gib = 100
  }
  network "net0" { bridge = "vmbr0" }
  cloud_init {
    user     = "admin"
    ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleEx admin"]
    network "net0" {
      address = "192.0.2.20/24"
      gateway = "192.0.2.1"
      dns     = ["192.0.2.1"]
    }
  }
  agent {}
}
