//! `/nodes/{node}/qemu`: creating, configuring, powering and removing VMs.
//!
//! Calls that return a [`Upid`] have only started their work; see [`Client::wait`] and [`Client::run`].

pub(crate) mod agent;
pub(crate) mod settings;

use serde::Deserialize;

use self::settings::Settings;
use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::ids::{NodeName, Upid, Vmid};
use crate::params::Params;

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
    #[serde(default)]
    pub uptime: u64,
}

impl Status {
    /// True if the VM's process runs, executing or not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status == "running"
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

impl Qemu<'_> {
    /// Creates a VM. Once this answers, the number is ours.
    ///
    /// # Errors
    /// [`crate::Class::Exists`] if the number is taken: try the next.
    pub async fn create(&self, vm: &CreateVm) -> Result<Upid, Error> {
        let mut params = Params::new().with("vmid", vm.vmid).with_some("pool", vm.pool.as_ref());
        params.extend(&vm.config);
        let created = self.client.call(Call::post(&["nodes", self.node.as_str(), "qemu"]).params(params)).await;
        self.client.snapshot().invalidate();
        created
    }
}

impl Vm<'_> {
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

    /// Sets options and takes others away, in a task. `force` destroys the volumes of drives that are taken away.
    ///
    /// # Errors
    /// As every write; a digest that does not fit any more is [`crate::Class::Conflict`].
    pub async fn configure(&self, set: &Params, delete: &[String], digest: Option<&str>) -> Result<Upid, Error> {
        let delete = (!delete.is_empty()).then(|| delete.join(","));
        let params = set.clone().with_some("delete", delete).with_some("digest", digest);
        self.client.call(self.post(&["config"]).params(params)).await
    }

    /// Takes drives away and destroys their volumes.
    ///
    /// # Errors
    /// As every write.
    pub async fn unlink(&self, drives: &[String]) -> Result<(), Error> {
        let params = Params::new().with("idlist", drives.join(",")).flag("force", true);
        self.client.call(self.put(&["unlink"]).params(params)).await
    }

    /// Grows a drive to an absolute size in bytes; the same size again is content.
    ///
    /// # Errors
    /// As every write; shrinking fails in the task.
    pub async fn resize(&self, drive: &str, bytes: u64) -> Result<Upid, Error> {
        let params = Params::new().with("disk", drive).with("size", bytes);
        self.client.call(self.put(&["resize"]).params(params)).await
    }

    /// Starts the VM.
    ///
    /// # Errors
    /// As every write; what prevents the start fails in the task.
    pub async fn start(&self) -> Result<Upid, Error> {
        self.power("start", Params::new()).await
    }

    /// Cuts its power; content with a stopped VM. Shutdowns in progress are given up.
    ///
    /// # Errors
    /// As every write.
    pub async fn stop(&self) -> Result<Upid, Error> {
        self.power("stop", Params::new()).await
    }

    /// Asks the guest to power off, and cuts its power if it does not within `seconds`.
    ///
    /// # Errors
    /// As every write.
    pub async fn shutdown(&self, seconds: u64) -> Result<Upid, Error> {
        self.power("shutdown", Params::new().with("timeout", seconds).flag("forceStop", true)).await
    }

    /// Restarts the guest through a power cycle that applies pending changes. The task ends when the VM is off.
    ///
    /// # Errors
    /// As every write; the VM must run.
    pub async fn reboot(&self, seconds: u64) -> Result<Upid, Error> {
        self.power("reboot", Params::new().with("timeout", seconds)).await
    }

    /// Presses the reset button; pending changes stay pending.
    ///
    /// # Errors
    /// As every write; the VM must run.
    pub async fn reset(&self) -> Result<Upid, Error> {
        self.power("reset", Params::new()).await
    }

    /// Makes a template of it.
    ///
    /// # Errors
    /// As every write; the VM must be stopped and without snapshots.
    pub async fn template(&self) -> Result<Upid, Error> {
        self.client.call(self.post(&["template"])).await
    }

    /// Copies it. The task runs on this node and is about this VM.
    ///
    /// # Errors
    /// [`crate::Class::Exists`] if the number is taken, here or in the task: try the next.
    pub async fn clone_to(&self, copy: &CloneVm) -> Result<Upid, Error> {
        let params = Params::new()
            .with("newid", copy.newid)
            .with("name", &copy.name)
            .flag("full", copy.full)
            .with_some("description", copy.description.as_ref())
            .with_some("storage", copy.storage.as_ref())
            .with_some("target", copy.target.as_ref())
            .with_some("pool", copy.pool.as_ref());
        let cloned = self.client.call(self.post(&["clone"]).params(params)).await;
        self.client.snapshot().invalidate();
        cloned
    }

    /// Removes the VM with the volumes its configuration names, and every entry about it in backup and HA lists.
    ///
    /// # Errors
    /// As every write; the VM must be stopped and unprotected.
    pub async fn delete(&self) -> Result<Upid, Error> {
        let params = Params::new().flag("purge", true).flag("destroy-unreferenced-disks", false);
        let deleted = self.client.call(Call::delete(&self.path(&[])).params(params)).await;
        self.client.snapshot().invalidate();
        deleted
    }

    async fn power(&self, command: &str, params: Params) -> Result<Upid, Error> {
        let answer = self.client.call(self.post(&["status", command]).params(params)).await;
        self.client.snapshot().invalidate();
        answer
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
