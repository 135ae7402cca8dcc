//! Terraform provider for Proxmox VE machines and the Kubernetes clusters on them.

mod agents;
mod cidr;
pub mod command;
mod context;
mod data_sources;
mod departure;
mod endpoint;
mod ephemeral_resources;
mod explain;
mod fetch;
mod guest;
mod keys;
mod kubeconfig;
mod lately;
mod names;
mod numbers;
mod output;
mod provider;
mod record;
mod resources;
mod script;
mod seed;
mod ssh;
mod timeouts;
mod turns;

use std::process::ExitCode;

/// Serves Terraform, or a developer who debugs.
#[must_use]
pub fn serve(mode: tf::Mode) -> ExitCode {
    tf::serve(provider::Groundwork, mode)
}
