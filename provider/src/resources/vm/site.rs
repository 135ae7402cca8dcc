//! The surroundings of one operation on one VM: client with a deadline, and how its failures are told.

use std::time::Duration;

use pve::{Class, Client, Error, NodeName, Vmid};
use tf::{CancellationToken, Diagnostic, Diagnostics, Path};
use tokio::time::Instant;

use super::disks;
use super::model::Vm;
use crate::agents::{Error as AgentError, Until, Wait};
use crate::context::Cx;
use crate::explain;
use crate::timeouts::Limit;

/// One operation.
pub(super) struct Site<'a> {
    pub(super) cx: &'a Cx,
    /// Ends with the operation's deadline, or when Terraform wants to stop.
    pub(super) client: Client,
    pub(super) deadline: Instant,
    /// `create VM 120 on node pve1`
    act: String,
    /// Which attribute gives the time.
    limit: Limit,
    /// What holds if the operation fails half-way.
    pub(super) holds: &'static str,
}

impl<'a> Site<'a> {
    pub(super) fn new(cx: &'a Cx, act: String, limit: Limit, holds: &'static str) -> Result<Self, Diagnostic> {
        let deadline = cx.deadline(limit.time);
        Ok(Self { cx, client: cx.pve()?.within(deadline, &cx.stop), deadline, act, limit, holds })
    }

    /// A client for cleaning up and looking around after a failure or a stop.
    pub(super) fn calm(&self) -> Client {
        self.client.within(Instant::now() + CALM, &CancellationToken::new())
    }

    /// The diagnostic of a failure, with what holds now and the attribute whose editing is the cure.
    pub(super) fn failed(&self, m: &Vm, error: &Error, holds: &str) -> Diagnostic {
        let diagnostic = explain::pve_within(&self.act, error, holds, &self.limit.name());
        let late = || self.limit.path().filter(|_| matches!(error, Error::Deadline { .. }));
        match blamed(m, error).or_else(late) {
            Some(path) => diagnostic.at(path),
            None => diagnostic,
        }
    }

    /// The diagnostic of an enrolment that failed.
    pub(super) fn not_enrolled(&self, vmid: Vmid, error: &AgentError) -> Diagnostic {
        let act = format!("enrol the agent of VM {vmid}");
        let diagnostic = explain::enrolment(&act, error, self.holds, &self.limit.name());
        match self.limit.path().filter(|_| matches!(error, AgentError::Deadline { .. })) {
            Some(path) => diagnostic.at(path),
            None => diagnostic,
        }
    }

    /// The diagnostic of a first boot whose end was not seen.
    pub(super) fn not_booted(&self, vmid: Vmid, error: &AgentError) -> Diagnostic {
        let act = format!("see the first boot of VM {vmid} through");
        let diagnostic = explain::enrolment(&act, error, self.holds, &self.limit.name());
        match self.limit.path().filter(|_| matches!(error, AgentError::Deadline { .. })) {
            Some(path) => diagnostic.at(path),
            None => diagnostic,
        }
    }

    /// An error of our own in this operation.
    pub(super) fn error(&self, happened: impl Into<String>) -> Diagnostic {
        Diagnostic::error(format!("Cannot {}", self.act)).happened(happened)
    }

    /// The limits of the operation, for agents.
    pub(super) fn until(&self) -> Until {
        Until::new(self.deadline, &self.cx.stop)
    }

    /// How long to wait for the machine's agent.
    pub(super) fn wait<'w>(&'w self, progress: &'w (dyn Fn(&str) + Send + Sync)) -> Wait<'w> {
        Wait { deadline: self.deadline, stop: &self.cx.stop, progress }
    }

    /// Sleeps a little; fails when the deadline has passed or Terraform wants to stop.
    pub(super) async fn pause(&self, pause: Duration, what: &str) -> Result<(), Diagnostics> {
        self.pause_holding(pause, what, self.holds).await
    }

    /// The same where something else holds than half-way.
    pub(super) async fn pause_holding(&self, pause: Duration, what: &str, holds: &str) -> Result<(), Diagnostics> {
        let wake = Instant::now() + pause;
        if wake > self.deadline {
            let late = Error::Deadline { what: what.to_owned() };
            return Err(self.failed(&Vm::default(), &late, holds).into());
        }
        // Both arms are cancel-safe: a token and a timer.
        tokio::select! {
            () = self.cx.stop.cancelled() => {
                Err(self.error("It was stopped on request.").holds(holds).next("Apply again.").into())
            }
            () = tokio::time::sleep_until(wake) => Ok(()),
        }
    }

    /// Waits until the VM runs, or is off, where HA manages it: there a power task only asks for that.
    pub(super) async fn power(&self, (node, vmid): &(NodeName, Vmid), on: bool) -> Result<(), Error> {
        let mut pause = Duration::from_millis(100);
        loop {
            let status = self.client.vm(node, *vmid).status().await?;
            if !status.is_managed_by_ha() || status.is_running() == on {
                return Ok(());
            }
            let wake = Instant::now() + pause;
            if wake > self.deadline || self.cx.stop.is_cancelled() {
                let state = if on { "running" } else { "off" };
                return Err(Error::Deadline { what: format!("VM {vmid} to be {state}") });
            }
            tokio::time::sleep_until(wake).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Waits until nobody holds the VM's lock any more; false if the VM is gone then.
    pub(super) async fn unlocked(&self, client: &Client, (node, vmid): (&NodeName, Vmid)) -> Result<bool, Error> {
        let mut pause = Duration::from_millis(200);
        loop {
            match client.vm(node, vmid).status().await {
                Ok(status) if status.lock.is_none() => return Ok(true),
                Ok(_) => {}
                Err(error) if error.is(Class::NoGuest) => return Ok(false),
                Err(error) => return Err(error),
            }
            let wake = Instant::now() + pause;
            if wake > self.deadline || self.cx.stop.is_cancelled() {
                return Err(Error::Deadline { what: format!("the lock of VM {vmid}") });
            }
            tokio::time::sleep_until(wake).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

/// The attribute that the server's words are about.
fn blamed(m: &Vm, error: &Error) -> Option<Path> {
    let said = error.to_string();
    match error.class() {
        Class::NoStorage | Class::Full => storage(m, &said),
        Class::Rights | Class::WrongContent => storage(m, &said),
        Class::NoNode => Some("node".into()),
        Class::NoPool => Some("pool".into()),
        Class::Exists => m.vmid.get().filter(|vmid| said.contains(&vmid.to_string())).map(|_| "vmid".into()),
        Class::NoLinkedClone => Some(Path::from("clone")),
        Class::NoBridge => bridge(m, &said),
        Class::TooManyCpus => Some("cores".into()),
        _ => None,
    }
}

fn storage(m: &Vm, said: &str) -> Option<Path> {
    let named = |storage: Option<&str>| {
        storage.is_some_and(|storage| {
            said.contains(&format!("'{storage}'")) || said.contains(&format!("/storage/{storage}"))
        })
    };
    let disk = disks::of(m).into_iter().find(|(_, disk)| named(disk.storage.text()));
    if let Some((slot, _)) = disk {
        return Some(Path::from("disk").key(&slot).name("storage"));
    }
    let seed = m.cloud_init.get().and_then(|cloud_init| cloud_init.storage.text());
    if named(seed) {
        return Some(Path::from("cloud_init").name("storage"));
    }
    if named(m.efi_storage.text()) {
        return Some("efi_storage".into());
    }
    let image = m
        .image
        .text()
        .filter(|image| said.contains(*image) || named(image.split_once(':').map(|(storage, _)| storage)));
    image.map(|_| "image".into())
}

fn bridge(m: &Vm, said: &str) -> Option<Path> {
    let words: Vec<&str> = said.split(|c: char| c.is_whitespace() || c == '\'').collect();
    let named = |bridge: Option<&str>| bridge.is_some_and(|bridge| words.contains(&bridge));
    let card = disks::cards_of(m).into_iter().find(|(_, card)| named(card.bridge.text()));
    card.map(|(slot, _)| Path::from("network").key(&slot).name("bridge"))
}

pub(super) const CREATE: Duration = Duration::from_secs(20 * 60);
pub(super) const UPDATE: Duration = Duration::from_secs(20 * 60);
pub(super) const DELETE: Duration = Duration::from_secs(10 * 60);
const CALM: Duration = Duration::from_secs(20);
