terraform import groundwork_vm.web 'pve1/120'
