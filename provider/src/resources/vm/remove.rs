//! Destroying a VM: off, gone with its own volumes, and its seed image too.

use pve::Class;
use tf::{Diagnostic, Diagnostics};

use super::finish::{Place, is_running, machine};
use super::locate;
use super::model::Vm;
use super::seeding;
use super::site::{DELETE, Site};
use crate::context::Cx;
use crate::timeouts::Limit;

/// Removes the VM; content when it is not there. Of files, only its own seed images go.
pub(super) async fn remove(cx: &Cx, m: &Vm) -> Result<(), Diagnostics> {
    let found = locate::find(cx, m).await?;
    let limit = Limit::of("delete", m.timeouts.get().map(|timeouts| &timeouts.delete), DELETE);
    let site = Site::new(cx, format!("destroy VM {}", m.id.or("")), limit, KEPT)?;
    let place = match &found {
        Some(found) => Some((found.node.clone(), found.vmid)),
        None => m.node.text().and_then(|node| node.parse().ok()).zip(locate::vmid(m)),
    };
    let Some(place) = place else { return Ok(()) };
    if let Some(found) = &found {
        if found.settings.written("protection") == Some("1") {
            return Err(protected(&site).into());
        }
        if is_running(&site, m, &place).await? {
            let machine = machine(&site, &place);
            let stopped = machine.stop().done().await;
            stopped.map_err(|error| site.failed(m, &error, KEPT))?;
        }
        // While the VM is there, a failure leaves its record in the state, and the seed with it is found again.
        if let Some(seed) = seeding::attached(&found.settings) {
            seeding::remove(&site, m, &place, (&seed, KEPT)).await?;
        }
        seeds(&site, m, &place, KEPT).await?;
        let machine = machine(&site, &place);
        match machine.delete().done().await {
            Ok(finished) if !finished.warnings.is_empty() => cx.warn(
                Diagnostic::warning(format!("VM {} left something behind", place.1))
                    .happened(finished.warnings.join("\n"))
                    .next("Remove the volumes that Proxmox VE names."),
            ),
            Ok(_) => {}
            Err(error) if error.is(Class::NoGuest) => {}
            Err(error) => return Err(site.failed(m, &error, KEPT).into()),
        }
        super::claims::unmade(place.1);
        return Ok(());
    }
    seeds(&site, m, &place, SEED_LEFT).await
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
const KEPT: &str = "The VM exists and stays in the state. It may have been stopped.";
