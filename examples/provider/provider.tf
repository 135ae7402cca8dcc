terraform {
  required_providers {
    groundwork = {
      source = "groundwork-tf/groundwork"
    }
  }
}

# What is left out here comes from the environment: GROUNDWORK_PROXMOX_API_TOKEN and others.
provider "groundwork" {
  proxmox = {
    endpoints       = ["https://pve1.example.com:8006", "https://pve2.example.com:8006"]
    tls_fingerprint = "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99"
  }
  agent = {
    pki_dir = "./pki"
  }
}
