//! Bringing a VM into being: find one that an interrupted run left, or create or clone a new one.
//!
//! The id goes into the model before the first wait. What the call leaves is completed by `finish`.

use std::time::Duration;

use pve::{Class, Client, CloneVm, CreateVm, Drive, Error, Guest, GuestKind, NodeName, Params, Upid, Vmid};
use tf::{Attr, Diagnostic, Diagnostics, Path};

use super::claims::{self, Claim};
use super::config;
use super::finish::{self, Begun};
use super::locate::{self, Found};
use super::marker::Mark;
use super::model::{CloudInit, Vm};
use super::site::{CREATE, Site};
use super::{disks, probe, seeding, slots};
use crate::context::Cx;
use crate::timeouts::Limit;

/// Creates the VM of the model, or goes on with its creation.
pub(super) async fn create(cx: &Cx, m: &mut Vm) -> Result<(), Diagnostics> {
    let (name, node) = (m.name.need()?.clone(), node(m)?);
    let what = m.vmid.get().map_or_else(|| name.clone(), i64::to_string);
    let limit = Limit::of("create", m.timeouts.get().map(|timeouts| &timeouts.create), CREATE);
    let site = Site::new(cx, format!("create VM {what} on node {node}"), limit, UNFINISHED)?;
    slots::begun(cx.private());
    let Some(_claim) = Claim::take(&name) else { return Err(exists(&site, &name, None).into()) };
    let found = unfinished(&site, m, &name).await?;
    if let Some(found) = found {
        cx.progress(&format!("going on with the creation of VM {}", found.vmid));
        record(m, &node, found.vmid);
        return finish::finish(&site, m, found, Begun::Earlier).await;
    }
    if seeding::is_wanted(m) {
        seeding::can_be_made(&site, m)?;
        let storage = seeding::storage(&site, m, (&node, NOTHING)).await?;
        seeding::may_be_deleted(&site, &storage, NOTHING).await?;
    }
    probe::addresses_are_free(&site, m).await?;
    let found = if m.clone.is_known() { cloned(&site, m, &node).await? } else { made(&site, m, &node).await? };
    finish::finish(&site, m, found, Begun::Now).await
}

fn node(m: &Vm) -> Result<NodeName, Diagnostic> {
    m.node.need()?.parse().map_err(|_| Diagnostic::bug("the name of a node was not checked"))
}

/// From here on the VM may exist.
fn record(m: &mut Vm, node: &NodeName, vmid: Vmid) {
    m.vmid.set(i64::from(vmid.get()));
    m.id.set(format!("{node}/{vmid}"));
    claims::made(vmid, m.name.text().unwrap_or_default());
}

/// Nothing exists after all.
fn forget(m: &mut Vm, vmid: Vmid, automatic: bool) {
    claims::unmade(vmid);
    m.id = Attr::Null;
    if automatic {
        m.vmid = Attr::Unknown;
    }
}

/// The VM that an interrupted creation left, by name and mark. A stranger's VM of that name or number is an error.
async fn unfinished(site: &Site<'_>, m: &Vm, name: &str) -> Result<Option<Found>, Diagnostics> {
    let failed = |error: Error| site.failed(m, &error, NOTHING);
    let guests = site.client.cluster().guests_since(RECENT).await.map_err(failed)?;
    let wanted = m.vmid.get().and_then(|number| Vmid::new(*number));
    let mark = Mark::of(m, &site.cx.agents);
    let mut down = std::collections::BTreeSet::new();
    for guest in guests.iter().filter(|guest| may_be(guest, name, wanted)) {
        if guest.kind == GuestKind::Lxc {
            return Err(exists(site, name, Some(guest)).into());
        }
        if down.contains(&guest.node) {
            continue;
        }
        let place = (&guest.node, guest.vmid);
        if guest.lock.is_some() && !site.unlocked(&site.client, place).await.map_err(failed)? {
            continue;
        }
        let found = match locate::look(&site.client, guest).await {
            Err(error) if error.is(Class::NoGuest) => continue,
            // The guests of a node that is down for minutes have no name either, and ours was made a moment ago or long before.
            Err(error) if error.never_sent() && guest.name.is_none() && wanted != Some(guest.vmid) => {
                down.insert(&guest.node);
                continue;
            }
            found => found.map_err(failed)?,
        };
        let has_name = found.settings.written("name") == Some(name);
        if has_name && mark.is_in(found.settings.written("description").unwrap_or_default()) {
            return Ok(Some(found));
        }
        if has_name || wanted == Some(guest.vmid) {
            return Err(exists(site, name, Some(guest)).into());
        }
    }
    Ok(None)
}

/// Whether a listed guest may be the one: the name of a new VM is not listed for some seconds.
fn may_be(guest: &Guest, name: &str, wanted: Option<Vmid>) -> bool {
    if wanted == Some(guest.vmid) {
        return true;
    }
    if guest.kind == GuestKind::Lxc {
        return guest.name.as_deref() == Some(name);
    }
    let listed = guest.name.clone().filter(|listed| *listed != format!("VM {}", guest.vmid));
    listed.or_else(|| claims::name_of(guest.vmid)).is_none_or(|listed| listed == name)
}

fn exists(site: &Site<'_>, name: &str, guest: Option<&Guest>) -> Diagnostic {
    let (happened, at) = match guest {
        None => (format!("Another resource of this configuration is creating a VM named {name} now."), "name"),
        Some(guest) if guest.name.as_deref() == Some(name) => {
            (format!("A guest named {name} exists already: {} on node {}.", guest.vmid, guest.node), "name")
        }
        Some(guest) => (format!("A guest with number {} exists already on node {}.", guest.vmid, guest.node), "vmid"),
    };
    let cure = "Choose another `name` or `vmid`, or import that VM if it is yours.";
    site.error(happened).holds("Nothing was created, and that guest was not touched.").next(cure).at(at)
}

/// A new VM from an image or with empty disks.
async fn made(site: &Site<'_>, m: &mut Vm, node: &NodeName) -> Result<Found, Diagnostics> {
    let uuid = random_uuid();
    let wanted = m.vmid.get().and_then(|number| Vmid::new(*number));
    let mut params = config::creation(m, &uuid);
    params.set("description", Mark::of(m, &site.cx.agents).on(m.description.text().unwrap_or_default()));
    params.extend(&recorded_addresses(m.cloud_init.get()));
    loop {
        let (vmid, answer) = claim(site, m, (node, wanted), &params).await?;
        let ended = match answer {
            Ok(upid) => {
                record(m, node, vmid);
                m.uuid.set(uuid.clone());
                site.client.wait(&upid).await.map(|_| ())
            }
            // Whether it was done is not known: look.
            Err(error) if error.outcome_unknown() => Err(error),
            Err(error) if wanted.is_none() && error.is(Class::Exists) => continue,
            Err(error) => return Err(site.failed(m, &error, NOTHING).into()),
        };
        let Err(error) = ended else { return there(site, m, vmid).await };
        match after_failure(site, m, (node, vmid), &uuid).await {
            Some(found) if error.outcome_unknown() => {
                record(m, node, vmid);
                m.uuid.set(uuid);
                return Ok(found);
            }
            Some(_) => return Err(site.failed(m, &error, UNFINISHED).into()),
            None => forget(m, vmid, wanted.is_none()),
        }
        if !error.is(Class::Busy) {
            return Err(site.failed(m, &error, NOTHING).into());
        }
        site.pause(RETRY, "the creation").await?;
    }
}

/// Asks for a free number, unless one is wanted, and takes it with the create call itself.
async fn claim(
    site: &Site<'_>,
    m: &Vm,
    (node, wanted): (&NodeName, Option<Vmid>),
    config: &Params,
) -> Result<(Vmid, Result<Upid, Error>), Diagnostics> {
    let _alone = claims::numbers().await;
    let vmid = match wanted {
        Some(vmid) => vmid,
        None => free_id(&site.client).await.map_err(|error| site.failed(m, &error, NOTHING))?,
    };
    let new = CreateVm { vmid, config: config.clone(), pool: m.pool.cloned() };
    Ok((vmid, site.client.qemu(node).create(&new).begin().await))
}

/// A number that is free and that this process has not given to another VM.
async fn free_id(client: &Client) -> Result<Vmid, Error> {
    let mut vmid = client.cluster().next_id().await?;
    while claims::name_of(vmid).is_some() || vmid_was_skipped(client, vmid).await? {
        vmid = vmid.next().ok_or_else(|| Error::Deadline { what: "a free VM id".to_owned() })?;
    }
    Ok(vmid)
}

/// Numbers above the one the server named must be asked for one by one.
async fn vmid_was_skipped(client: &Client, vmid: Vmid) -> Result<bool, Error> {
    let before = Vmid::new(i64::from(vmid.get()) - 1);
    match before.and_then(claims::name_of) {
        Some(_) => client.cluster().is_taken(vmid).await,
        None => Ok(false),
    }
}

/// What is there after a failed creation: the VM that carries our UUID, once its lock is gone.
async fn after_failure(site: &Site<'_>, m: &Vm, place: (&NodeName, Vmid), uuid: &str) -> Option<Found> {
    let calm = site.calm();
    let unlocked = site.unlocked(&calm, place).await;
    let found = match unlocked {
        Ok(false) => None,
        Ok(true) | Err(_) => locate::by_id(&calm, place.1).await.ok().flatten(),
    }?;
    let own = config::Seen(&found.settings).uuid();
    let ours = own.as_deref() == Some(uuid) || (own.is_none() && m.id.is_known());
    ours.then_some(found)
}

/// The VM that was just made.
async fn there(site: &Site<'_>, m: &Vm, vmid: Vmid) -> Result<Found, Diagnostics> {
    let found = locate::by_id(&site.client, vmid).await.map_err(|error| site.failed(m, &error, UNFINISHED))?;
    found.ok_or_else(|| site.error(format!("VM {vmid} was created and is not there.")).next("Apply again.").into())
}

/// A copy of another VM.
async fn cloned(site: &Site<'_>, m: &mut Vm, node: &NodeName) -> Result<Found, Diagnostics> {
    let source = source(site, m, node).await?;
    storages_fit(site, m, &source).await?;
    let wanted = m.vmid.get().and_then(|number| Vmid::new(*number));
    loop {
        let (vmid, answer) = start_clone(site, m, &source, (node, wanted)).await?;
        let ended = match answer {
            Ok(upid) => site.client.wait(&upid).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let Err(error) = ended else { return there(site, m, vmid).await };
        let found = match locate::by_id(&site.calm(), vmid).await {
            Ok(found) => found.filter(|found| marked(site, found, m)),
            Err(_) => None,
        };
        match found {
            Some(found) if error.outcome_unknown() => return Ok(found),
            Some(found) => {
                // The server may still be taking it back: whoever gets its number then is told apart by the UUID.
                m.uuid.put(config::Seen(&found.settings).uuid());
                return Err(site.failed(m, &error, UNFINISHED).into());
            }
            None => forget(m, vmid, wanted.is_none()),
        }
        let again = error.is(Class::Busy) || (wanted.is_none() && error.is(Class::Exists));
        if !again {
            return Err(site.failed(m, &error, NOTHING).into());
        }
        site.pause(RETRY, "the clone").await?;
    }
}

fn marked(site: &Site<'_>, found: &Found, m: &Vm) -> bool {
    Mark::of(m, &site.cx.agents).is_in(found.settings.written("description").unwrap_or_default())
}

/// The number of a clone is taken by its task: within this process it counts as taken from the call on.
async fn start_clone(
    site: &Site<'_>,
    m: &mut Vm,
    source: &Guest,
    (node, wanted): (&NodeName, Option<Vmid>),
) -> Result<(Vmid, Result<Upid, Error>), Diagnostics> {
    let _alone = claims::numbers().await;
    let newid = match wanted {
        Some(vmid) => vmid,
        None => free_id(&site.client).await.map_err(|error| site.failed(m, &error, NOTHING))?,
    };
    let clone = m.clone.cloned().unwrap_or_default();
    let full = clone.full.or(!source.template);
    let name = m.name.need()?.clone();
    let copy = CloneVm {
        newid,
        description: Some(Mark::of(m, &site.cx.agents).on(m.description.text().unwrap_or_default())),
        name,
        full,
        storage: clone.storage.cloned().filter(|_| full),
        target: (source.node != *node).then(|| node.clone()),
        pool: m.pool.cloned(),
    };
    record(m, node, newid);
    Ok((newid, site.client.vm(&source.node, source.vmid).clone_to(&copy).begin().await))
}

/// Refuses what a clone cannot do: its disks stay where their originals are, or all go to one storage.
async fn storages_fit(site: &Site<'_>, m: &Vm, source: &Guest) -> Result<(), Diagnostics> {
    let clone = m.clone.need()?;
    let full = clone.full.or(!source.template);
    if !full && clone.storage.is_known() {
        let said = "A linked clone shares the disks of its template, and stays on their storage.";
        let cure = "Leave `clone.storage` out, or set `clone.full = true`.";
        return Err(site.error(said).holds(NOTHING).next(cure).at(Path::from("clone").name("storage")).into());
    }
    let original = site.client.vm(&source.node, source.vmid).pending().await;
    let original = original.map_err(|error| site.failed(m, &error, NOTHING))?;
    for (slot, disk) in disks::of(m) {
        let Some(present) = original.written(&slot).map(Drive::parse) else { continue };
        let there = clone.storage.text().filter(|_| full).or_else(|| present.storage());
        if disk.storage.text().is_some_and(|wanted| there != Some(wanted)) {
            let there = there.unwrap_or_default();
            let cure = if full {
                "Say the same storage in `clone.storage`, which is for all disks, or leave this one out."
            } else {
                "Leave it out, or make a full clone: `clone = { full = true, storage = … }`."
            };
            let said = format!("Disk {slot} of the clone would be on storage {there}.");
            let at = Path::from("disks").key(&slot).name("storage");
            return Err(site.error(said).holds(NOTHING).next(cure).at(at).into());
        }
    }
    Ok(())
}

/// The VM to copy.
async fn source(site: &Site<'_>, m: &Vm, node: &NodeName) -> Result<Guest, Diagnostics> {
    let clone = m.clone.need()?;
    let guests = site.client.cluster().guests().await.map_err(|error| site.failed(m, &error, NOTHING))?;
    let is_it = |guest: &&Guest| match (clone.vmid.get(), clone.name.text(), clone.tag.text()) {
        (Some(vmid), _, _) => i64::from(guest.vmid.get()) == *vmid,
        (_, Some(name), _) => guest.name.as_deref() == Some(name),
        (_, _, Some(tag)) => guest.template && guest.tags().iter().any(|own| own.eq_ignore_ascii_case(tag)),
        _ => false,
    };
    let mut all: Vec<&Guest> = guests.iter().filter(|guest| guest.kind == GuestKind::Qemu).filter(is_it).collect();
    if all.len() > 1 && all.iter().any(|guest| guest.node == *node) {
        all.retain(|guest| guest.node == *node);
    }
    match all.as_slice() {
        [one] => Ok((*one).clone()),
        none_or_many => {
            let count =
                if none_or_many.is_empty() { "No VM fits".to_owned() } else { format!("{} VMs fit", all.len()) };
            let cure = "Name one source by `clone.vmid`, or give the API token VM.Audit and VM.Clone on it.";
            Err(site.error(format!("{count} `clone`.")).holds(NOTHING).next(cure).at("clone").into())
        }
    }
}

/// The static addresses as Proxmox VE's own options: without its cloud-init drive they do nothing but tell an import.
pub(super) fn recorded_addresses(cloud_init: Option<&CloudInit>) -> Params {
    let mut params = Params::new();
    let interfaces = cloud_init.and_then(|cloud_init| cloud_init.network.get()).into_iter().flatten();
    for (slot, interface) in interfaces {
        let part = |key: &str, value: Option<&str>| value.map(|value| format!("{key}={value}"));
        let parts = [part("ip", interface.address.text()), part("ip6", interface.address6.text())];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            params.set(&slot.replace("net", "ipconfig"), parts.join(","));
        }
    }
    params
}

/// A UUID of version 4.
fn random_uuid() -> String {
    let mut bytes = [0_u8; 16];
    for (byte, random) in bytes.iter_mut().zip(trust::nonce()) {
        *byte = random;
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default()).join("-")
}

const NOTHING: &str = "Nothing was created and nothing was recorded in the state.";
const UNFINISHED: &str =
    "The VM exists unfinished and is recorded in the state as tainted: the next apply replaces it.";
const RECENT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::model::Interface;
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_uuid_says_that_it_is_random() {
        let uuid = random_uuid();
        assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'4'), "{uuid}");
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{uuid}");
    }

    #[test]
    fn static_addresses_are_recorded_and_read_back() {
        let interface =
            Interface { address: "10.77.0.11/24".into(), address6: "fd00::1/64".into(), ..Interface::default() };
        let network = BTreeMap::from([("net1".to_owned(), interface)]);
        let params = recorded_addresses(Some(&CloudInit { network: network.into(), ..CloudInit::default() }));
        assert_eq!(params.get("ipconfig1"), Some("ip=10.77.0.11/24,ip6=fd00::1/64"));
        let rows = serde_json::json!([{ "key": "ipconfig1", "value": params.get("ipconfig1") }]);
        let settings = serde_json::from_value(rows).unwrap();
        assert_eq!(super::super::fill::recorded_addresses(&settings), ["10.77.0.11", "fd00::1"]);
    }
}
