# Which cluster, and whom to ask: both as its groundwork_cluster has them.
ephemeral "groundwork_kubeconfig" "main" {
  ca_fingerprint = groundwork_cluster.main.ca_fingerprint
  control_planes = groundwork_cluster.main.control_planes
  ttl            = "30m"
}

# For one who may do what is bound to the group, and no more.
ephemeral "groundwork_kubeconfig" "viewer" {
  ca_fingerprint = groundwork_cluster.main.ca_fingerprint
  control_planes = groundwork_cluster.main.control_planes
  user           = "pipeline"
  groups         = ["example:viewers"]
}

resource "groundwork_cluster" "main" {
  name    = "main"
  version = "1.36.2"
  control_planes = {
    cp-1 = {
      endpoint = {
        address     = "192.0.2.11:7443"
        fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
      }
    }
  }
}
