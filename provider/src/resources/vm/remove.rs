//! Destroying a VM: off, gone with its own volumes, and its seed image too.

use pve::{Class, Error};
use tf::{Diagnostic, Diagnostics};
use tokio::time::Instant;

use super::finish::{Place, machine};
use super::locate::{self, Found};
use super::model::Vm;
use super::seeding;
use super::site::{DELETE, Site};
use crate::agents::Endpoint;
use crate::context::Cx;
use crate::departure;
use crate::timeouts::Limit;

/// Removes the VM; content when it is not there. Of files, only its own seed images go.
pub(super) async fn remove(cx: &Cx, m: &Vm) -> Result<(), Diagnostics> {
    let mut found = locate::find(cx, m).await?;
    let mut limit = Limit::of("delete", m.timeouts.get().map(|timeouts| &timeouts.delete), DELETE);
    let since = Instant::now();
    let runs = |found: &Found| found.status != "stopped" && found.settings.written("protection") != Some("1");
    if found.as_ref().is_some_and(runs) {
        leave_cluster(cx, m, limit).await?;
    }
    // The time for Proxmox VE's own work begins when the node has left.
    limit.time += since.elapsed();
    let site = Site::new(cx, format!("destroy VM {}", m.id.or("")), limit, KEPT)?;
    let place = m.node.text().and_then(|node| node.parse().ok()).zip(locate::vmid(m));
    let Some(mut place) = place else { return Ok(()) };
    while let Some(here) = found {
        place = (here.node.clone(), here.vmid);
        if removed(&site, m, (&here, KEPT)).await? {
            cx.numbers.forget(place.1);
            return Ok(());
        }
        // It was on its way to another node.
        found = locate::find(cx, m).await?;
    }
    seeds(&site, m, &place, SEED_LEFT).await
}

/// A machine that is a node of a cluster leaves it first, if its agent can be asked.
async fn leave_cluster(cx: &Cx, m: &Vm, limit: Limit) -> Result<(), Diagnostics> {
    let endpoint = m.endpoint.get().and_then(|endpoint| endpoint.address.cloned().zip(endpoint.fingerprint.cloned()));
    let Some((address, fingerprint)) = endpoint else { return Ok(()) };
    departure::depart(cx, &format!("destroy VM {}", m.id.or("")), &Endpoint { address, fingerprint }, limit).await
}

/// Removes the VM from the node it was found on; false if it is not there any more. `holds` is said if it fails.
pub(super) async fn removed(
    site: &Site<'_>,
    m: &Vm,
    (found, holds): (&Found, &'static str),
) -> Result<bool, Diagnostics> {
    let place = (found.node.clone(), found.vmid);
    if found.settings.written("protection") == Some("1") {
        return Err(protected(site).into());
    }
    let ended = async {
        let machine = machine(site, &place);
        if machine.status().await?.is_running() {
            machine.stop().done().await?;
            site.power(&place, false).await?;
        }
        Ok(())
    };
    match ended.await {
        Ok(()) => {}
        Err(error) if Error::is(&error, Class::NoGuest) => return Ok(false),
        Err(error) => return Err(site.failed(m, &error, holds).into()),
    }
    // While the VM is there, a failure leaves its record in the state, and the seed with it is found again.
    if let Some(seed) = seeding::attached(found.vmid, &found.settings) {
        seeding::remove(site, m, &place, (&seed, holds)).await?;
    }
    seeds(site, m, &place, holds).await?;
    let deleted = machine(site, &place).delete().done().await;
    match deleted {
        Ok(finished) if !finished.warnings.is_empty() => site.cx.warn(
            Diagnostic::warning(format!("VM {} left something behind", place.1))
                .happened(finished.warnings.join("\n"))
                .next("Remove the volumes that Proxmox VE names."),
        ),
        Ok(_) => {}
        Err(error) if error.is(Class::NoGuest) => return Ok(false),
        Err(error) if error.outcome_unknown() => return Err(site.failed(m, &error, UNKNOWN).into()),
        Err(error) => return Err(site.failed(m, &error, holds).into()),
    }
    Ok(true)
}

/// Deletes what there is of the VM's seed images, attached or left by an upload that was cut off.
async fn seeds(site: &Site<'_>, m: &Vm, place: &Place, holds: &str) -> Result<(), Diagnostics> {
    if !seeding::is_wanted(m) {
        return Ok(());
    }
    seeding::remove_all(site, m, place, (m.uuid.text().unwrap_or_default(), holds)).await
}

fn protected(site: &Site<'_>) -> Diagnostic {
    site.error("Proxmox VE protects the VM: its option `protection` is set.")
        .holds("Nothing was changed: the VM exists, and was not stopped.")
        .next("Take the protection off in Proxmox VE if the VM is really to go, and apply again.")
}

const SEED_LEFT: &str = "The VM is gone; its seed image may still be there.";
const UNKNOWN: &str = "Whether the VM is gone is not known. The next run looks.";
const KEPT: &str = "The VM exists and stays in the state. It may have been stopped.";
