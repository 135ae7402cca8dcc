data "groundwork_storages" "pve1" {
  node = "pve1"
}

output "storages" {
  value = data.groundwork_storages.pve1.storages
}
