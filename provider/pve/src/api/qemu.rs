//! `/nodes/{node}/qemu`: creating, configuring, powering and removing VMs.
//!
//! Writes are [`Job`]s. [`crate::Class::Exists`] is the answer to a number that is taken: for a clone also of its task.

pub(crate) mod agent;
pub(crate) mod settings;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use self::settings::Settings;
use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::ids::{NodeName, Vmid};
use crate::params::Params;
use crate::task::Job;
use crate::units::Size;

/// The VMs of a node.
#[derive(Debug, Clone, Copy)]
pub struct Qemu<'a> {
    client: &'a Client,
    node: &'a NodeName,
}

/// A VM to create.
#[derive(Debug, Clone)]
pub struct CreateVm {
    /// Its number, which the call claims before it answers.
    pub vmid: Vmid,
    /// Configuration by the API's own names.
    pub config: Params,
    /// Its pool.
    pub pool: Option<String>,
}

/// A VM to copy from another.
#[derive(Debug, Clone)]
pub struct CloneVm {
    /// The copy's number. It is claimed inside the task, not by the call.
    pub newid: Vmid,
    /// The copy's name.
    pub name: String,
    /// The copy's description instead of the source's.
    pub description: Option<String>,
    /// Copies disks in full; otherwise they build on the template's.
    pub full: bool,
    /// Where full copies of disks go.
    pub storage: Option<String>,
    /// Node of the copy, if it is another and all storages are shared.
    pub target: Option<NodeName>,
    /// Its pool.
    pub pool: Option<String>,
}

/// One VM where it is now.
#[derive(Debug, Clone, Copy)]
pub struct Vm<'a> {
    client: &'a Client,
    node: &'a NodeName,
    vmid: Vmid,
}

/// How a VM stands at this moment.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// `running` or `stopped`
    pub status: String,
    /// QEMU's own: `running`, `paused`, `prelaunch` …
    #[serde(default)]
    pub qmpstatus: Option<String>,
    /// What the VM is locked for.
    #[serde(default)]
    pub lock: Option<String>,
    /// Seconds since its start.
    #[serde(default, deserialize_with = "crate::quirks::bytes")]
    pub uptime: u64,
    #[serde(default)]
    ha: Ha,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Ha {
    #[serde(default, deserialize_with = "crate::quirks::flag")]
    managed: bool,
}

impl Status {
    /// True if the VM's process runs, executing or not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status == "running"
    }

    /// Whether the process runs and executes nothing, as after `qm suspend`.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(self.qmpstatus.as_deref(), Some("paused" | "suspended"))
    }

    /// Whether high availability starts and stops the VM: then a power task ends when that was asked for, not when it is done.
    #[must_use]
    pub const fn is_managed_by_ha(&self) -> bool {
        self.ha.managed
    }
}

impl Client {
    /// The VMs of a node.
    #[must_use]
    pub const fn qemu<'a>(&'a self, node: &'a NodeName) -> Qemu<'a> {
        Qemu { client: self, node }
    }

    /// One VM on the node where it is.
    #[must_use]
    pub const fn vm<'a>(&'a self, node: &'a NodeName, vmid: Vmid) -> Vm<'a> {
        Vm { client: self, node, vmid }
    }
}

#[derive(Debug, Deserialize)]
struct Listed {
    vmid: Vmid,
    status: String,
}

impl<'a> Qemu<'a> {
    /// The VMs of the node that we may see, and whether each has a process now: the cluster's list is some seconds old, this is not.
    ///
    /// # Errors
    /// As every read.
    pub async fn running(&self) -> Result<BTreeMap<Vmid, bool>, Error> {
        let all: Vec<Listed> = self.client.call(Call::get(&["nodes", self.node.as_str(), "qemu"])).await?;
        Ok(all.into_iter().map(|one| (one.vmid, one.status == "running")).collect())
    }

    /// Creates a VM. Once the call is answered, the number is ours.
    pub fn create(&self, vm: &CreateVm) -> Job<'a> {
        let mut params = Params::new().with("vmid", vm.vmid).with_some("pool", vm.pool.as_ref());
        params.extend(&vm.config);
        Job::new(self.client, Call::post(&["nodes", self.node.as_str(), "qemu"]).params(params))
    }
}

impl<'a> Vm<'a> {
    /// Every option with its current value and what waits for the next power cycle.
    ///
    /// # Errors
    /// [`crate::Class::NoGuest`] if the VM is not on this node.
    pub async fn pending(&self) -> Result<Settings, Error> {
        self.client.call(self.get(&["pending"])).await
    }

    /// How the VM stands now.
    ///
    /// # Errors
    /// [`crate::Class::NoGuest`] if the VM is not on this node.
    pub async fn status(&self) -> Result<Status, Error> {
        self.client.call(self.get(&["status", "current"])).await
    }

    /// Sets options and takes others away, in a task. Volumes of drives that are taken away are kept as `unusedN`.
    pub fn configure(&self, set: &Params, delete: &[String], digest: Option<&str>) -> Job<'a> {
        let delete = (!delete.is_empty()).then(|| delete.join(","));
        let params = set.clone().with_some("delete", delete).with_some("digest", digest);
        Job::new(self.client, self.post(&["config"]).params(params))
    }

    /// Sets options and takes others away at once, without a task: for what neither plugs nor allocates anything.
    ///
    /// # Errors
    /// As every write; with the digest of what was read, [`Class::Conflict`](crate::Class::Conflict) if it was changed since.
    pub async fn configure_now(&self, set: &Params, delete: &[String], digest: Option<&str>) -> Result<(), Error> {
        let delete = (!delete.is_empty()).then(|| delete.join(","));
        let params = set.clone().with_some("delete", delete).with_some("digest", digest);
        self.client.call::<IgnoredAny>(self.put(&["config"]).params(params)).await.map(drop)
    }

    /// Takes drives away and destroys their volumes, in a task. A volume that cannot go now becomes an `unusedN`.
    pub fn discard(&self, drives: &[String]) -> Job<'a> {
        let params = Params::new().with("delete", drives.join(",")).flag("force", true);
        Job::new(self.client, self.post(&["config"]).params(params))
    }

    /// Grows a drive to an absolute size in bytes; the same size again is content.
    pub fn resize(&self, drive: &str, bytes: u64) -> Job<'a> {
        let params = Params::new().with("disk", drive).with("size", Size(bytes));
        Job::new(self.client, self.put(&["resize"]).params(params))
    }

    /// Lets a paused VM go on.
    pub fn resume(&self) -> Job<'a> {
        self.power("resume", Params::new())
    }

    /// Starts the VM.
    pub fn start(&self) -> Job<'a> {
        self.power("start", Params::new())
    }

    /// Cuts its power; content with a stopped VM. Shutdowns in progress are given up.
    pub fn stop(&self) -> Job<'a> {
        self.power("stop", Params::new())
    }

    /// Asks the guest to power off, and cuts its power if it does not within `seconds`.
    pub fn shutdown(&self, seconds: u64) -> Job<'a> {
        self.power("shutdown", Params::new().with("timeout", seconds).flag("forceStop", true))
    }

    /// Restarts the guest through a power cycle that applies pending changes. The task ends when the VM is off.
    pub fn reboot(&self, seconds: u64) -> Job<'a> {
        self.power("reboot", Params::new().with("timeout", seconds))
    }

    /// Presses the reset button; pending changes stay pending.
    pub fn reset(&self) -> Job<'a> {
        self.power("reset", Params::new())
    }

    /// Makes a template of it.
    pub fn template(&self) -> Job<'a> {
        Job::new(self.client, self.post(&["template"]))
    }

    /// Copies it. The task runs on this node and is about this VM.
    pub fn clone_to(&self, copy: &CloneVm) -> Job<'a> {
        let params = Params::new()
            .with("newid", copy.newid)
            .with("name", &copy.name)
            .flag("full", copy.full)
            .with_some("description", copy.description.as_ref())
            .with_some("storage", copy.storage.as_ref())
            .with_some("target", copy.target.as_ref())
            .with_some("pool", copy.pool.as_ref());
        Job::new(self.client, self.post(&["clone"]).params(params))
    }

    /// Removes the VM with the volumes its configuration names, and every entry about it in backup and HA lists.
    pub fn delete(&self) -> Job<'a> {
        let params = Params::new().flag("purge", true).flag("destroy-unreferenced-disks", false);
        Job::new(self.client, Call::delete(&self.path(&[])).params(params))
    }

    fn power(&self, command: &str, params: Params) -> Job<'a> {
        Job::new(self.client, self.post(&["status", command]).params(params))
    }

    fn path(&self, rest: &[&str]) -> Vec<String> {
        let own = ["nodes".to_owned(), self.node.to_string(), "qemu".to_owned(), self.vmid.to_string()];
        own.into_iter().chain(rest.iter().map(|&part| part.to_owned())).collect()
    }

    fn get(&self, rest: &[&str]) -> Call {
        Call::get(&self.path(rest))
    }

    fn post(&self, rest: &[&str]) -> Call {
        Call::post(&self.path(rest))
    }

    fn put(&self, rest: &[&str]) -> Call {
        Call::put(&self.path(rest))
    }
}
