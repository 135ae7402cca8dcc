//! Names and numbers that this process is using for VMs, so that two resources never take the same one.
//!
//! Proxmox VE reserves nothing: `nextid` says the same to everybody, and the cluster's list lacks the names of new VMs for
//! some seconds.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pve::Vmid;

/// A name in use until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    name: String,
}

impl Claim {
    /// Takes a name; `None` if another resource is creating a VM of that name now.
    pub(super) fn take(name: &str) -> Option<Self> {
        let mut names = names();
        if names.iter().any(|own| own == name) {
            return None;
        }
        names.push(name.to_owned());
        Some(Self { name: name.to_owned() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        names().retain(|own| *own != self.name);
    }
}

/// Remembers that this process made the VM with that number and name.
pub(super) fn made(vmid: Vmid, name: &str) {
    vmids().insert(vmid, name.to_owned());
}

/// Forgets a VM that is not there after all.
pub(super) fn unmade(vmid: Vmid) {
    vmids().remove(&vmid);
}

/// The name of a VM that this process made.
pub(super) fn name_of(vmid: Vmid) -> Option<String> {
    vmids().get(&vmid).cloned()
}

/// Held between asking for a free number and the call that takes it.
pub(super) async fn numbers() -> tokio::sync::MutexGuard<'static, ()> {
    NUMBERS.lock().await
}

fn names() -> MutexGuard<'static, Vec<String>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn vmids() -> MutexGuard<'static, BTreeMap<Vmid, String>> {
    VMIDS.lock().unwrap_or_else(PoisonError::into_inner)
}

static NAMES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static VMIDS: Mutex<BTreeMap<Vmid, String>> = Mutex::new(BTreeMap::new());
static NUMBERS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
