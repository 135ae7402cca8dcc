# One image, one control plane, one worker: from a bare Proxmox VE host to a Kubernetes cluster in one apply.
#
#   scripts/install.sh                              # once, in Groundwork's sources: makes the provider known
#   terraform-provider-groundwork pki init ./pki    # once: the agents' CA
#   terraform init
#   terraform apply -var-file=my.tfvars
#
# Credentials come from the environment: GROUNDWORK_PROXMOX_ENDPOINTS, GROUNDWORK_PROXMOX_API_TOKEN and, for a
# self-signed host, GROUNDWORK_PROXMOX_CA_CERT_PEM. What the host needs: docs/guides/first-cluster.md.
#
# kube-flannel.yaml beside this file is the cluster's network plugin. Another one takes its place, if it uses the cluster's pod_subnet.

terraform {
  required_version = ">= 1.11"
  required_providers {
    groundwork = {
      source = "groundwork-tf/groundwork"
    }
  }
}

provider "groundwork" {
  agent { pki_dir = var.pki_dir }
}

locals {
  control_planes = { cp-1 = var.addresses.control_plane }
  workers        = { for index, address in var.addresses.workers : "worker-${index + 1}" => address }
  machines       = merge(local.control_planes, local.workers)
}

resource "groundwork_image" "debian" {
  node      = var.node
  storage   = var.image_storage
  file_name = "groundwork-quickstart-debian.qcow2"
  url       = var.image_url
  checksum  = var.image_checksum
}

resource "groundwork_vm" "machine" {
  for_each = local.machines

  node        = var.node
  name        = each.key
  description = "Kubernetes, by Groundwork"
  tags        = ["groundwork", "kubernetes"]
  image       = groundwork_image.debian.volume_id

  cores      = var.cores
  cpu_type   = var.cpu_type
  memory_mib = var.memory_mib

  disk "scsi0" {
    storage  = var.disk_storage
    size_gib = var.disk_gib
    discard  = true
  }
  network "net0" { bridge = var.bridge }
  cloud_init {
    user     = "admin"
    ssh_keys = var.ssh_keys
    network "net0" {
      address = "${each.value}/${var.prefix_length}"
      gateway = var.gateway
      dns     = var.dns
    }
  }
  agent {}
}

resource "groundwork_machine" "machine" {
  for_each = local.machines

  endpoint = groundwork_vm.machine[each.key].endpoint
  hostname = each.key
  sysctls  = var.sysctls
  file "/etc/motd" { content = "This machine is managed by Groundwork.\n" }
  kubernetes {
    version = var.kubernetes_version
    dynamic "repository" {
      for_each = var.kubernetes_repository[*]
      content {
        url     = repository.value.url
        key_pem = repository.value.key_pem
      }
    }
  }
}

resource "groundwork_cluster" "main" {
  name           = "quickstart"
  distribution   = "kubeadm"
  version        = var.kubernetes_version
  pod_subnet     = "10.244.0.0/16"
  control_planes = { for name, _ in local.control_planes : name => { endpoint = groundwork_machine.machine[name].endpoint } }
  workers        = { for name, _ in local.workers : name => { endpoint = groundwork_machine.machine[name].endpoint } }

  manifest "flannel" { content = file("${path.module}/kube-flannel.yaml") }
}
