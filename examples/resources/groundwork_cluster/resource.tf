variable "registry_access" {
  description = "A Secret for Argo CD, in YAML."
  type        = string
  ephemeral   = true
}

resource "groundwork_cluster" "main" {
  name       = "main"
  version    = "1.36.2"
  pod_subnet = "10.244.0.0/16"

  # Another version upgrades the cluster in place: worker-1 first, then a quarter of the workers at a time.
  max_unavailable = "25%"
  upgrade_first   = ["worker-1"]

  # On every control plane, by a timer of systemd.
  snapshots {
    schedule = "*-*-* 03:00:00"
    keep     = 14
  }

  config {
    kubelet = jsonencode({ maxPods = 200 })
  }

  # The nodes are ready when the network plugin is.
  manifest "flannel" {
    url      = "https://github.com/flannel-io/flannel/releases/download/v0.27.4/kube-flannel.yml"
    checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
  # Read when it is applied, and kept out of the state.
  manifest "registry-access" {
    content_wo         = var.registry_access
    content_wo_version = 1
    after              = ["argocd"]
  }
  # Applied once: Argo CD manages it from then on.
  manifest "argocd" {
    url       = "https://raw.githubusercontent.com/argoproj/argo-cd/v3.2.0/manifests/install.yaml"
    checksum  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
    namespace = "argocd"
    after     = ["flannel"]
    once      = true
  }

  control_planes = {
    cp-1 = {
      endpoint = {
        address     = "192.0.2.11:7443"
        fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
      }
    }
  }
  workers = {
    worker-1 = {
      endpoint = {
        address     = "192.0.2.21:7443"
        fingerprint = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
      }
      labels = { "example.com/zone" = "a" }
    }
  }
}
