//! Where a VM is now. VMs move; a VM that is not in the list may only be hidden from us.

use pve::{Class, Client, Error, Guest, NodeName, Vmid};
use tf::{Diagnostic, Diagnostics};

use super::config;
use super::model::Vm;
use crate::context::Cx;
use crate::explain;

/// A VM that exists.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) node: NodeName,
    pub(super) vmid: Vmid,
    /// As the cluster listed it, some seconds old; empty where the list is older than our own last change.
    pub(super) status: String,
    pub(super) settings: pve::Settings,
}

impl Found {
    /// Whether somebody has made a template of it.
    pub(super) fn is_template(&self) -> bool {
        self.settings.written("template").is_some_and(|flag| flag == "1")
    }
}

/// What a look for a VM gives.
#[derive(Debug)]
pub(super) enum Look {
    Here(Box<Found>),
    /// It certainly is gone, or another one has its number.
    Gone,
    /// It exists on a node that cannot be reached.
    Unseen(Error),
}

/// Finds the VM of the model with its options; `None` if it is gone.
pub(super) async fn find(cx: &Cx, m: &Vm) -> Result<Option<Found>, Diagnostics> {
    match look_for(cx, m).await? {
        Look::Here(found) => Ok(Some(*found)),
        Look::Gone => Ok(None),
        Look::Unseen(error) => Err(explain::pve(&format!("read VM {}", m.id.or("")), &error).into()),
    }
}

/// Looks for the VM of the model.
pub(super) async fn look_for(cx: &Cx, m: &Vm) -> Result<Look, Diagnostics> {
    let Some(vmid) = vmid(m) else { return Ok(Look::Gone) };
    let client = cx.pve()?;
    let failed = |error: Error| Diagnostics::from(explain::pve(&format!("read VM {vmid}"), &error));
    let found = match by_id(client, vmid).await {
        // The cluster answers, and the VM's node does not.
        Err(error) if error.never_sent() && client.cluster().guests().await.is_ok() => return Ok(Look::Unseen(error)),
        found => found.map_err(failed)?,
    };
    let Some(found) = found else {
        if client.cluster().is_taken(vmid).await.map_err(failed)? {
            let may_see = client.privileges(&format!("/vms/{vmid}")).await.map(|own| own.contains("VM.Audit"));
            return Err(hidden(vmid, may_see.ok()).into());
        }
        return Ok(Look::Gone);
    };
    // Proxmox VE gives every VM a UUID: one without is not the one that we gave ours.
    let other = |uuid: &String| config::uuid(&found.settings).is_none_or(|own| own != uuid.to_ascii_lowercase());
    if m.uuid.get().is_some_and(other) {
        cx.warn(
            Diagnostic::warning(format!("VM {vmid} is another machine now"))
                .happened(format!("The VM that Terraform knows is gone, and one with another SMBIOS UUID has its number on node {}.", found.node))
                .holds("That machine was not touched.")
                .next("If that is your machine, import it; otherwise the next apply makes a new one, and `vmid` needs another number."),
        );
        return Ok(Look::Gone);
    }
    Ok(Look::Here(Box::new(found)))
}

/// The VM with that number where the last list has it, however old that is, or else as it is now. A moved VM costs a new list.
pub(super) async fn by_id(client: &Client, vmid: Vmid) -> Result<Option<Found>, Error> {
    let (guests, is_current) = match client.cluster().guests_known() {
        Some(known) => known,
        None => (client.cluster().guests().await?, true),
    };
    if let Some(guest) = guests.find(vmid) {
        match look(client, guest).await {
            Err(error) if error.is(Class::NoGuest) => {}
            Ok(mut found) => {
                if !is_current {
                    found.status.clear();
                }
                return Ok(Some(found));
            }
            Err(error) => return Err(error),
        }
    }
    match client.cluster().guests_now().await?.find(vmid) {
        Some(guest) => match look(client, guest).await {
            Err(error) if error.is(Class::NoGuest) => Ok(None),
            looked => looked.map(Some),
        },
        None => Ok(None),
    }
}

/// A listed VM with its options.
pub(super) async fn look(client: &Client, guest: &Guest) -> Result<Found, Error> {
    let settings = client.vm(&guest.node, guest.vmid).pending().await?;
    Ok(Found { node: guest.node.clone(), vmid: guest.vmid, status: guest.status.clone(), settings })
}

/// The number in the state.
pub(super) fn vmid(m: &Vm) -> Option<Vmid> {
    let from_id = || m.id.text()?.rsplit_once('/')?.1.parse().ok();
    m.vmid.get().and_then(|number| Vmid::new(*number)).or_else(from_id)
}

/// A number that is taken by no guest that is listed; `may_see` is what Proxmox VE says of VM.Audit on it.
fn hidden(vmid: Vmid, may_see: Option<bool>) -> Diagnostic {
    let (listed, next) = match may_see {
        Some(true) => (
            "and lists none, although the API token may see it",
            format!(
                "Plan again: the list is some seconds old. If it stays so, look for `{vmid}.conf` below `/etc/pve/nodes` on a node of the \
                 cluster: Proxmox VE takes the number for that file's."
            ),
        ),
        Some(false) => (
            "and does not show it to the API token",
            format!("Grant VM.Audit on /vms/{vmid} to the user and, if it is separate, to the API token."),
        ),
        None => (
            "and does not show it to the API token",
            format!("See that the API token has VM.Audit on /vms/{vmid}, and plan again."),
        ),
    };
    Diagnostic::error(format!("Cannot read VM {vmid}"))
        .happened(format!("Proxmox VE has a guest with number {vmid}, {listed}."))
        .holds("The state was kept as it is.")
        .next(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privilege_is_the_advice_only_where_it_is_the_cause() {
        let said = |may_see| hidden(Vmid::new(120).unwrap(), may_see).to_string();
        assert!(said(Some(false)).contains("Grant VM.Audit on /vms/120"), "{}", said(Some(false)));
        assert!(!said(Some(true)).contains("Grant") && said(Some(true)).contains("120.conf"), "{}", said(Some(true)));
        assert!(!said(None).contains("Grant"), "{}", said(None));
    }
}
