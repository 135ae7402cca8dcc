resource "groundwork_agent" "pi" {
  ssh {
    host        = "192.0.2.40"
    user        = "admin"
    private_key = "~/.ssh/id_ed25519"
    host_key    = "SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDZYwzNwOsY4AG4T2s" # ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, on the machine
  }
}

resource "groundwork_machine" "pi" {
  endpoint = groundwork_agent.pi.endpoint
  hostname = "pi"
}

# A VM of somebody else's on the same Proxmox VE: without SSH.
resource "groundwork_agent" "legacy" {
  guest_agent { vmid = 120 }
}
