//! Destroying a VM: off, gone with its own volumes, and its seed image too.

use pve::{Class, Settings};
use tf::{Diagnostic, Diagnostics};
use tokio::time::Instant;

use super::error::{Error, Problem};
use super::holds::Holds;
use super::operation::{DELETE, Operation, Target};
use super::seeding;
use crate::agents::Endpoint;
use crate::context::Cx;
use crate::departure;
use crate::resources::vm::locate::{self, Found};
use crate::resources::vm::model::Vm;
use crate::timeouts::Limit;

/// Removes the VM; content when it is not there. Of files, only its own seed images go.
pub(crate) async fn remove(cx: &Cx, m: &Vm) -> Result<(), Diagnostics> {
    let mut found = locate::find(cx, m).await?;
    let mut limit = Limit::of("delete", m.timeouts.get().map(|timeouts| &timeouts.delete), DELETE);
    let since = Instant::now();
    if let Some(found) = &mut found {
        let op = Operation::new(cx, format!("destroy VM {}", m.id.or("")), limit, Holds::NotStopped)?;
        let looked = looked_at(&op, m, found).await;
        looked.map_err(|error| op.explained(m, error))?;
    }
    if found.as_ref().is_some_and(|found| found.status != "stopped" && !is_protected(&found.settings)) {
        leave_cluster(cx, m, limit).await?;
    }
    // The time for Proxmox VE's own work begins when the node has left.
    limit.time += since.elapsed();
    let op = Operation::new(cx, format!("destroy VM {}", m.id.or("")), limit, Holds::Kept)?;
    all_removed(&op, m, found).await.map_err(|error| op.explained(m, error))
}

/// Looks before anything is begun: whether the VM may be deleted, and whether it runs, which the cluster's list tells some seconds late.
async fn looked_at(op: &Operation<'_>, m: &Vm, found: &mut Found) -> Result<(), Error> {
    const NEEDED: &str = "VM.Allocate";
    let path = format!("/vms/{}", found.vmid);
    // Who may not ask will hear of it at the deletion.
    if op.client.privileges(&path).await.is_ok_and(|own| !own.contains(NEEDED)) {
        let said = format!("The API token may not delete VM {}.", found.vmid);
        let cure = format!("Grant {NEEDED} on {path} to the user and, if it is separate, to the API token.");
        return Err(Problem::new(said, cure).into());
    }
    if found.status == "stopped" && m.endpoint.is_known() {
        match op.client.vm(&found.node, found.vmid).status().await {
            Ok(status) => found.status = status.status,
            Err(error) if error.is(Class::NoGuest) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A machine that is a node of a cluster leaves it first, if its agent can be asked.
async fn leave_cluster(cx: &Cx, m: &Vm, limit: Limit) -> Result<(), Diagnostics> {
    let endpoint = m.endpoint.get().and_then(|endpoint| endpoint.address.cloned().zip(endpoint.fingerprint.cloned()));
    let Some((address, fingerprint)) = endpoint else { return Ok(()) };
    departure::depart(cx, &format!("destroy VM {}", m.id.or("")), &Endpoint { address, fingerprint }, limit).await
}

async fn all_removed(op: &Operation<'_>, m: &Vm, mut found: Option<Found>) -> Result<(), Error> {
    let place = m.node.text().and_then(|node| node.parse().ok()).zip(locate::vmid(m));
    let Some((node, vmid)) = place else { return Ok(()) };
    let mut last = op.on(node, vmid);
    while let Some(here) = found {
        last = op.on(here.node, here.vmid);
        if removed(&last, m, &here.settings).await? {
            op.cx.numbers.forget(here.vmid);
            return Ok(());
        }
        // It was on its way to another node.
        found = locate::find(op.cx, m).await?;
    }
    op.now(Holds::SeedLeft);
    Ok(seeds(&last, m).await?)
}

/// Removes the VM from the node it was found on; false if it is not there any more. `now` is what it has.
pub(super) async fn removed(target: &Target<'_>, m: &Vm, now: &Settings) -> Result<bool, Error> {
    if is_protected(now) {
        target.op.now(Holds::NotStopped);
        return Err(protected().into());
    }
    match stopped(target).await {
        Ok(()) => {}
        Err(error) if error.is(Class::NoGuest) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    // While the VM is there, a failure leaves its record in the state, and the seed with it is found again.
    if let Some(seed) = seeding::attached(target.vmid, now) {
        seeding::remove(target, &seed).await?;
    }
    seeds(target, m).await?;
    match target.calls().delete().done().await {
        Ok(finished) if !finished.warnings.is_empty() => target.op.cx.warn(
            Diagnostic::warning(format!("VM {} left something behind", target.vmid))
                .happened(finished.warnings.join("\n"))
                .next("Remove the volumes that Proxmox VE names."),
        ),
        Ok(_) => {}
        Err(error) if error.is(Class::NoGuest) => return Ok(false),
        Err(error) => {
            if error.outcome_unknown() {
                target.op.now(Holds::PerhapsGone);
            }
            return Err(error.into());
        }
    }
    Ok(true)
}

/// Deletes what there is of the VM's seed images.
async fn seeds(target: &Target<'_>, m: &Vm) -> Result<(), pve::Error> {
    if m.is_seeded() { seeding::remove_all(target, m).await } else { Ok(()) }
}

async fn stopped(target: &Target<'_>) -> Result<(), pve::Error> {
    if target.is_running().await? { target.stop().await } else { Ok(()) }
}

fn is_protected(now: &Settings) -> bool {
    now.written("protection") == Some("1")
}

fn protected() -> Problem {
    Problem::new(
        "Proxmox VE protects the VM: its option `protection` is set.",
        "Take the protection off in Proxmox VE if the VM is really to go, and apply again.",
    )
}
