//! A typed, asynchronous client of the Proxmox VE API, versions 8 and 9. It knows nothing of Terraform.
//!
//! Start at [`Client`]: `client.vm(&node, vmid).pending()`, `client.cluster().guests()`, `client.storages(&node).list()`.
//! The modules of `api` mirror the API's paths and hold only calls that somebody makes. A call that starts a task is
//! a [`Job`]: `vm.start().done().await` makes it and waits, within the limits given by [`Client::within`].

#[cfg(test)]
mod answers;
mod api;
mod auth;
mod client;
mod config;
mod endpoints;
mod error;
mod guests;
mod http;
mod ids;
mod limits;
mod misconfigured;
mod params;
mod quirks;
mod silence;
mod snapshot;
mod task;
mod tls;
mod units;
mod unsent;
mod upload;
mod wording;

pub use api::cluster::Cluster;
pub use api::nodes::{Node, Nodes};
pub use api::pools::{Pool, Pools};
pub use api::qemu::agent::{AGENT_FILE_MOST, AgentCommand, AgentExit, AgentInterface, AgentOs};
pub use api::qemu::{CloneVm, CreateVm, Qemu, Status, Vm};
pub use api::qemu::{settings::Setting, settings::Settings};
pub use api::storage::{Content, Download, Storage, Storages};
pub use api::tasks::{TaskRow, Tasks};
pub use api::version::Version;
pub use auth::Auth;
pub use client::Client;
pub use config::Config;
pub use error::{Error, Refused, TaskFailed};
pub use guests::{Guest, GuestKind, Guests};
pub use ids::{BadId, NodeName, Upid, Vmid, VolumeId};
pub use misconfigured::ConfigError;
pub use params::Params;
pub use quirks::{Drive, Net, PropertyString};
pub use task::{Finished, Job};
pub use tls::Trust;
pub use units::{GIB, MIB, Size};
pub use unsent::{CutOff, NodeAway, OtherFingerprint};
pub use upload::{Source, Upload};
pub use wording::Class;
