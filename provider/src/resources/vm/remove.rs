//! Destroying a VM: off, gone with its own volumes, and its seed image too.

use pve::{Class, Error};
use tf::{Diagnostic, Diagnostics};

use super::finish::{is_running, machine};
use super::locate;
use super::model::Vm;
use super::seeding;
use super::site::{DELETE, Site, limit};
use crate::context::Cx;

/// Removes the VM; content when it is not there. Of files, only its own seed images go.
pub(super) async fn remove(cx: &Cx, m: &Vm) -> Result<(), Diagnostics> {
    let found = locate::find(cx, m).await?;
    let limit = limit(m.timeouts.get().map(|timeouts| &timeouts.delete), DELETE);
    let site = Site::new(cx, format!("destroy VM {}", m.id.or("")), limit, KEPT)?;
    let place = match &found {
        Some(found) => Some((found.node.clone(), found.vmid)),
        None => m.node.text().and_then(|node| node.parse().ok()).zip(locate::vmid(m)),
    };
    let Some(place) = place else { return Ok(()) };
    if found.is_some() {
        if is_running(&site, m, &place).await? {
            let machine = machine(&site, &place);
            let stopped = machine.stop().done().await;
            stopped.map_err(|error| site.failed(m, &error, KEPT))?;
        }
        let machine = machine(&site, &place);
        match machine.delete().done().await {
            Ok(finished) if !finished.warnings.is_empty() => cx.warn(
                Diagnostic::warning(format!("VM {} left something behind", place.1))
                    .happened(finished.warnings.join("\n"))
                    .next("Remove the volumes that Proxmox VE names."),
            ),
            Ok(_) => {}
            Err(error) if error.is(Class::NoGuest) => {}
            Err(error) => return Err(protected(&site, m, &error).into()),
        }
        super::claims::unmade(place.1);
    }
    if seeding::is_wanted(m) {
        let uuid = m.uuid.text().unwrap_or_default();
        seeding::remove_all(&site, m, &place, (uuid, SEED_LEFT)).await?;
    }
    Ok(())
}

fn protected(site: &Site<'_>, m: &Vm, error: &Error) -> Diagnostic {
    if error.to_string().contains("protection mode enabled") {
        return site
            .error(format!("Proxmox VE refused: {error}."))
            .holds(KEPT)
            .next("Take the VM's protection off in Proxmox VE if it is really to go, and apply again.");
    }
    site.failed(m, error, KEPT)
}

const SEED_LEFT: &str = "The VM is gone; its seed image may still be there.";
const KEPT: &str = "The VM exists and stays in the state. It may have been stopped.";
