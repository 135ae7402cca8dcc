//! Terraform provider for Proxmox VE machines and the Kubernetes clusters on them.

mod agents;
mod seed;

pub use agents::init as pki_init;
