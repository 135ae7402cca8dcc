# What the pipeline beside it plans and applies: put your own configuration here.
#
# Neither a secret nor an address stands here. The pipeline gives them by the environment: each job no more than it needs.

terraform {
  required_version = ">= 1.11"
  required_providers {
    groundwork = {
      source = "groundwork-tf/groundwork"
    }
  }
  # Address, user and lock of GitLab's own state come from TF_HTTP_*.
  backend "http" {}
}

provider "groundwork" {}

resource "groundwork_image" "debian" {
  node      = var.node
  storage   = "local"
  file_name = "debian-13-genericcloud-amd64.qcow2"
  url       = var.image_url
  checksum  = var.image_checksum
}

resource "groundwork_vm" "one" {
  node       = var.node
  name       = "one"
  image      = groundwork_image.debian.volume_id
  cores      = 2
  memory_mib = 2048
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 10
  }
  network "net0" { bridge = "vmbr0" }
  cloud_init {
    network "net0" {
      address = var.address
      gateway = var.gateway
    }
  }
  agent {}
}

resource "groundwork_machine" "one" {
  endpoint = groundwork_vm.one.endpoint
  hostname = "one"
  file "/etc/motd" { content = "Made by a pipeline.\n" }
}
