//! Terraform provider for Proxmox VE machines and the Kubernetes clusters on them.

mod agents;
mod context;
mod endpoint;
mod explain;
mod kubeconfig;
mod record;
mod resources;
mod seed;

pub use agents::init as pki_init;
