# Another one is taken whenever the cluster is to have another version, before it is upgraded.
resource "groundwork_etcd_snapshot" "before_upgrade" {
  ca_fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  control_planes = {
    cp-1 = {
      endpoint = {
        address     = "192.0.2.11:7443"
        fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
      }
    }
  }
  path     = "/var/backups/etcd/before-upgrade.db"
  triggers = { version = "1.36.2" }
}
