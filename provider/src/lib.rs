//! Terraform provider for Proxmox VE machines and the Kubernetes clusters on them.
