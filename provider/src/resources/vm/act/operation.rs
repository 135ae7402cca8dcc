//! One operation on one VM: its client, its time, what holds if it fails now, and how its failure is told.
//!
//! Steps take an [`Operation`] while there is no VM yet, or its [`Target`], and return an [`Error`]. They say what holds when that
//! changes; nobody else carries it around.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pve::{Class, Client, NodeName, Settings, Vmid};
use tf::{CancellationToken, Diagnostic, Diagnostics};
use tokio::time::Instant;

use super::blame;
use super::error::{Error, Problem};
use super::holds::Holds;
use crate::agents::{self, Until, Wait};
use crate::context::Cx;
use crate::explain::{self, Own};
use crate::resources::vm::model::Vm;
use crate::timeouts::Limit;

/// A creation, a change or a destruction that goes on.
pub(super) struct Operation<'a> {
    pub(super) cx: &'a Cx,
    /// Ends with the operation's deadline, or when Terraform wants to stop.
    pub(super) client: Client,
    pub(super) deadline: Instant,
    /// `create VM 120 on node pve1`
    act: String,
    /// Which attribute gives the time.
    limit: Limit,
    holds: Mutex<Holds>,
}

/// The VM that an operation is on, and where it is.
pub(super) struct Target<'a> {
    pub(super) op: &'a Operation<'a>,
    pub(super) node: NodeName,
    pub(super) vmid: Vmid,
}

impl<'a> Operation<'a> {
    pub(super) fn new(cx: &'a Cx, act: String, limit: Limit, holds: Holds) -> Result<Self, Diagnostic> {
        let deadline = cx.deadline(limit.time);
        let client = cx.pve()?.within(deadline, &cx.stop);
        Ok(Self { cx, client, deadline, act, limit, holds: Mutex::new(holds) })
    }

    /// From here on this holds.
    pub(super) fn now(&self, holds: Holds) {
        *self.holds.lock().unwrap_or_else(PoisonError::into_inner) = holds;
    }

    fn holds(&self) -> &'static str {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    /// The operation on a VM that is there.
    pub(super) fn on(&self, node: NodeName, vmid: Vmid) -> Target<'_> {
        Target { op: self, node, vmid }
    }

    /// A client for cleaning up and looking around after a failure or a stop.
    pub(super) fn calm(&self) -> Client {
        self.client.within(Instant::now() + CALM, &CancellationToken::new())
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
    pub(super) async fn pause(&self, pause: Duration, what: &str) -> Result<(), Error> {
        let wake = Instant::now() + pause;
        if wake > self.deadline {
            return Err(pve::Error::Deadline { what: what.to_owned() }.into());
        }
        // Both arms are cancel-safe: a token and a timer.
        tokio::select! {
            () = self.cx.stop.cancelled() => Err(Error::Stopped),
            () = tokio::time::sleep_until(wake) => Ok(()),
        }
    }

    /// Waits until nobody holds the VM's lock any more; false if the VM is gone then.
    pub(super) async fn unlocked(&self, client: &Client, (node, vmid): (&NodeName, Vmid)) -> Result<bool, pve::Error> {
        let mut pause = Duration::from_millis(200);
        loop {
            match client.vm(node, vmid).status().await {
                Ok(status) if status.lock.is_none() => return Ok(true),
                Ok(_) => {}
                Err(error) if error.is(Class::NoGuest) => return Ok(false),
                Err(error) => return Err(error),
            }
            let late = || pve::Error::Deadline { what: format!("the lock of VM {vmid}") };
            self.rest(&mut pause).await.ok_or_else(late)?;
        }
    }

    /// Sleeps before another look, each time longer; `None` when there is no time for one.
    pub(super) async fn rest(&self, pause: &mut Duration) -> Option<()> {
        let wake = Instant::now() + *pause;
        if wake > self.deadline || self.cx.stop.is_cancelled() {
            return None;
        }
        tokio::time::sleep_until(wake).await;
        *pause = (*pause * 2).min(Duration::from_secs(2));
        Some(())
    }

    /// The failure of the operation: what happened, what holds now, what to do next, and the attribute whose editing is the cure.
    pub(super) fn explained(&self, m: &Vm, error: Error) -> Diagnostics {
        let holds = self.holds();
        match error {
            Error::Proxmox(error) => {
                let own = Own { holds: Some(holds), limit: Some(self.limit), cure: blame::cure(m, &error) };
                explain::pve_own(&self.act, &error, own).into()
            }
            Error::InstallAgent(error) => {
                explain::agent(&format!("install the agent of VM {}", m.name.or("")), &error).at("agent").into()
            }
            Error::MakeSeed(error) => {
                explain::agent(&format!("make the seed image of VM {}", m.name.or("")), &error).into()
            }
            Error::Enrol(vmid, error) => {
                let hint = if error.is_unreachable() { unreached(m) } else { "" };
                self.not_seen(&format!("enrol the agent of VM {vmid}"), &error, hint).into()
            }
            Error::FirstBoot(vmid, error) => {
                self.not_seen(&format!("see the first boot of VM {vmid} through"), &error, "").into()
            }
            Error::Wrong(all) => all.into_iter().map(|problem| self.wrong(problem)).collect(),
            Error::Stopped => self.wrong(Problem::new("It was stopped on request.", "Apply again.")).into(),
            Error::Several(all) => all.into_iter().flat_map(|error| self.explained(m, error)).collect(),
            Error::Told(told) => told,
        }
    }

    /// An agent that did not come, or a first boot whose end was not seen.
    fn not_seen(&self, act: &str, error: &agents::Error, hint: &str) -> Diagnostic {
        let diagnostic = explain::enrolment(act, error, self.holds(), (&self.limit.name(), hint));
        match self.limit.path().filter(|_| matches!(error, agents::Error::Deadline { .. })) {
            Some(path) => diagnostic.at(path),
            None => diagnostic,
        }
    }

    fn wrong(&self, Problem { happened, next, at }: Problem) -> Diagnostic {
        let diagnostic =
            Diagnostic::error(format!("Cannot {}", self.act)).happened(happened).holds(self.holds()).next(next);
        match at {
            Some(path) => diagnostic.at(path),
            None => diagnostic,
        }
    }
}

/// What helps where a machine is up and not reached at the addresses that are known of it.
fn unreached(m: &Vm) -> &'static str {
    match (m.agent.get().is_some_and(|agent| agent.address.is_known()), m.options.guest_agent.is_true()) {
        (true, _) => " If the machine is up, see that `agent.address` is one of its own and reached from here.",
        (false, true) => " If the machine is up, set `agent.address` to an address that is reached from here.",
        (false, false) => {
            " If the machine is up, set `agent.address` to an address that is reached from here, or `guest_agent = true` with an image that \
             carries QEMU's guest agent: then all the machine's addresses are tried."
        }
    }
}

impl Target<'_> {
    /// Calls about the VM.
    pub(super) fn calls(&self) -> pve::Vm<'_> {
        self.op.client.vm(&self.node, self.vmid)
    }

    /// What it has, and what waits.
    pub(super) async fn settings(&self) -> Result<Settings, pve::Error> {
        self.calls().pending().await
    }

    pub(super) async fn is_running(&self) -> Result<bool, pve::Error> {
        Ok(self.calls().status().await?.is_running())
    }

    /// Starts it, and waits until it runs. A second start, where the answer to the first was lost, is refused if that one did its work.
    pub(super) async fn start(&self) -> Result<(), pve::Error> {
        match self.calls().start().done_at_least_once().await {
            Ok(_) => {}
            Err(error @ (pve::Error::Deadline { .. } | pve::Error::Stopped { .. })) => return Err(error),
            // Whoever was faster: the call before, or the host after a reboot.
            Err(error) if self.is_running().await.unwrap_or_default() => {
                tracing::debug!(error = %error, "the VM runs already");
            }
            Err(error) => return Err(error),
        }
        self.power(true).await
    }

    /// Sets options and takes others away at once; again where the answer was lost.
    pub(super) async fn configured_now(&self, set: &pve::Params, delete: &[String]) -> Result<(), pve::Error> {
        match self.calls().configure_now(set, delete, None).await {
            Err(error) if error.outcome_unknown() => self.calls().configure_now(set, delete, None).await,
            ended => ended,
        }
    }

    /// Cuts its power, and waits until it is off.
    pub(super) async fn stop(&self) -> Result<(), pve::Error> {
        self.calls().stop().done_at_least_once().await?;
        self.power(false).await
    }

    /// Waits until the VM runs, or is off, where HA manages it: there a power task only asks for that.
    pub(super) async fn power(&self, on: bool) -> Result<(), pve::Error> {
        let mut pause = Duration::from_millis(100);
        loop {
            let status = self.calls().status().await?;
            if !status.is_managed_by_ha() || status.is_running() == on {
                return Ok(());
            }
            let state = if on { "running" } else { "off" };
            let late = || pve::Error::Deadline { what: format!("VM {} to be {state}", self.vmid) };
            self.op.rest(&mut pause).await.ok_or_else(late)?;
        }
    }
}

pub(super) const CREATE: Duration = Duration::from_secs(20 * 60);
pub(super) const UPDATE: Duration = Duration::from_secs(20 * 60);
pub(super) const DELETE: Duration = Duration::from_secs(10 * 60);
const CALM: Duration = Duration::from_secs(20);
