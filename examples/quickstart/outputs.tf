output "machines" {
  description = "Where each machine's agent answers."
  value       = { for name, vm in groundwork_vm.machine : name => vm.endpoint.address }
}

output "drift" {
  description = "What differs inside the machines from what is declared; empty after an apply."
  value       = { for name, machine in groundwork_machine.machine : name => machine.drift }
}

output "kubeconfig" {
  description = "Kubeconfig of the cluster's administrator; it holds no secret."
  value       = groundwork_cluster.main.kubeconfig
}
