terraform {
  required_providers {
    groundwork = {
      source = "groundwork-tf/groundwork"
    }
  }
}

# What is left out here comes from the environment: GROUNDWORK_PROXMOX_API_TOKEN and others.
provider "groundwork" {
  proxmox {
    endpoints   = ["https://pve1.example.com:8006", "https://pve2.example.com:8006"]
    ca_cert_pem = file("pve-root-ca.pem") # /etc/pve/pve-root-ca.pem of any node
  }
  agent { pki_dir = "./pki" }
}
