data "groundwork_nodes" "all" {}

output "nodes" {
  value = data.groundwork_nodes.all.nodes
}
