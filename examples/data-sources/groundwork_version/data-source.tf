data "groundwork_version" "here" {}

output "proxmox_version" {
  value = data.groundwork_version.here.version
}
