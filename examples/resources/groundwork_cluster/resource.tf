resource "groundwork_cluster" "main" {
  name       = "main"
  version    = "1.36.2"
  pod_subnet = "10.244.0.0/16"

  # Another version upgrades the cluster in place: worker-1 first, then a quarter of the workers at a time.
  max_unavailable = "25%"
  upgrade_first   = ["worker-1"]

  config {
    kubelet = jsonencode({ maxPods = 200 })
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
