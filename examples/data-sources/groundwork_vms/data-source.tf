data "groundwork_vms" "all" {}

output "vms" {
  value = data.groundwork_vms.all.vms
}
