terraform {
  required_providers {
    groundwork = {
      source = "groundwork-tf/groundwork"
    }
  }
}

provider "groundwork" {
  agent { pki_dir = "./pki" }
}

locals {
  servers  = @SERVERS@
  workers  = @WORKERS@
  machines = merge(local.servers, local.workers)
}

resource "groundwork_image" "debian" {
  node      = "pve1"
  storage   = "local"
  file_name = "k3s-debian.qcow2"
  url       = "@IMAGE_URL@"
  checksum  = "sha256:@IMAGE_SUM@"
}

resource "groundwork_vm" "machine" {
  for_each = local.machines

  node       = "pve1"
  name       = each.key
  image      = groundwork_image.debian.volume_id
  cores      = 2
  cpu_type   = "host"
  memory_mib = 2048

  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" { bridge = "vmbr0" }
  cloud_init {
    network "net0" {
      address = "${each.value}/24"
      gateway = "@GATEWAY@"
    }
  }
  agent {}
}

resource "groundwork_machine" "machine" {
  for_each = local.machines

  endpoint = groundwork_vm.machine[each.key].endpoint
  hostname = each.key
  file "/etc/rancher/@KIND@/registries.yaml" { content = @REGISTRIES@ }
}

resource "groundwork_cluster" "edge" {
  name         = "edge"
  distribution = "@KIND@"
  version      = "@VERSION@"
  endpoint     = @ENDPOINT@

  @KIND@ {
    url      = "http://@GATEWAY@/files/@PROGRAM@"
    checksum = "sha256:@SUM@"

    images_url      = "http://@GATEWAY@/files/images.tar.zst"
    images_checksum = "sha256:@IMAGES_SUM@"
  }
  config {
    server = @SERVER@
    agent  = @AGENT@
  }
  control_planes = { for name, _ in local.servers : name => { endpoint = groundwork_machine.machine[name].endpoint } }
  workers = { for name, _ in local.workers : name => {
    endpoint = groundwork_machine.machine[name].endpoint
    labels   = { "example.org/zone" = "@LABEL@" }
  } }

  manifest "greeting" {
    content = <<-YAML
      apiVersion: v1
      kind: ConfigMap
      metadata:
        name: greeting
        namespace: default
      data:
        hello: world
    YAML
  }
}
