//! The seed image of a VM: made, uploaded to the node that owns the VM, attached, and taken away again.

use pve::{Drive, NodeName, Params, Settings, Source, Upload, Vmid, VolumeId};
use tf::{Diagnostic, Diagnostics, Path};

use super::config::Seen;
use super::finish::{Place, machine};
use super::model::{CloudInit, Interface as Addresses, Vm};
use super::site::Site;
use super::{checks, disks};
use crate::agents::{Agents, PendingEnrolment, SeedFor};
use crate::explain;
use crate::seed::{Interface, Seed};

/// A seed image in its drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) slot: String,
    pub(super) volume: VolumeId,
}

/// Whether the machine is told anything on its first boot.
pub(super) fn is_wanted(m: &Vm) -> bool {
    m.cloud_init.is_known() || m.agent.is_known()
}

/// The seed of this VM that is attached now. A clone carries its source's, which is not this VM's to delete.
pub(super) fn attached(vmid: Vmid, now: &Settings) -> Option<Attached> {
    let own = file_start(vmid, &Seen(now).uuid().unwrap_or_default());
    now.keys().find_map(|slot| {
        let volume = cd(now, slot)?;
        volume.name().starts_with(&own).then(|| Attached { slot: slot.to_owned(), volume })
    })
}

/// The file in a CD drive.
fn cd(now: &Settings, slot: &str) -> Option<VolumeId> {
    let drive = Drive::parse(now.written(slot)?);
    drive.is_cdrom().then(|| drive.volume().parse().ok())?
}

/// What the names of a VM's seed images begin with: numbers are used again, UUIDs are not.
fn file_start(vmid: Vmid, uuid: &str) -> String {
    format!("iso/groundwork-{vmid}-{}-", uuid.get(..8).unwrap_or("00000000"))
}

/// Makes a seed with a new secret and puts it in its drive, in place of an older one.
pub(super) async fn attach(
    site: &Site<'_>,
    m: &Vm,
    place: &Place,
    now: &Settings,
) -> Result<(Attached, Option<PendingEnrolment>), Diagnostics> {
    let before = attached(place.1, now);
    let uuid = Seen(now).uuid().unwrap_or_default();
    let generation = before.as_ref().map_or(1, |seed| generation(&seed.volume) + 1);
    let storage = storage(site, m, (&place.0, site.holds)).await?;
    let architecture = if m.agent.is_known() { architecture(site, place, now).await } else { None };
    let (seed, pending) = seed(&site.cx.agents, m, (now, architecture.as_deref()), (&uuid, generation))?;
    let name = format!("{}{generation}.iso", file_start(place.1, &uuid));
    let file_name = name.trim_start_matches("iso/").to_owned();
    let volume = VolumeId::new(storage.as_str(), name);
    let upload = Upload { content: "iso", file_name, source: Source::Bytes(seed.image()), checksum: None };
    let storages = site.client.storages(&place.0);
    let failed = |error: pve::Error| site.failed(m, &error, site.holds);
    let upid = match storages.upload(&storage, &upload).await {
        // The file has a name of its own: a second one of it takes nobody's place.
        Err(error) if error.outcome_unknown() => storages.upload(&storage, &upload).await,
        sent => sent,
    };
    let upid = upid.map_err(failed)?;
    if let Err(error) = site.client.wait(&upid).await {
        // What came in later would be found by nobody, and holds a secret.
        if matches!(error, pve::Error::Deadline { .. }) {
            site.calm().stop(&upid).await;
        }
        return Err(failed(error).into());
    }
    let slot = before.as_ref().map_or_else(|| slot(m, now), |seed| seed.slot.clone());
    let params = Params::new().with(&slot, format!("{volume},media=cdrom"));
    // Two drives with the same label would confuse cloud-init.
    let others: Vec<String> =
        now.keys().filter(|key| **key != *slot && is_other_seed(now, key)).map(str::to_owned).collect();
    let machine = machine(site, place);
    machine.configure(&params, &others, None).done().await.map_err(failed)?;
    if let Some(before) = before.filter(|before| before.volume != volume) {
        storages.delete(&before.volume).await.map_err(failed)?;
    }
    Ok((Attached { slot, volume }, pending))
}

/// Ejects the seed and deletes its image: it would keep the VM from moving, and it held a secret. `holds` is said if it fails.
pub(super) async fn remove(
    site: &Site<'_>,
    m: &Vm,
    place: &Place,
    (seed, holds): (&Attached, &str),
) -> Result<(), Diagnostics> {
    let failed = |error: pve::Error| site.failed(m, &error, holds);
    let machine = machine(site, place);
    let empty = Params::new().with(&seed.slot, "none,media=cdrom");
    machine.configure(&empty, &[], None).done().await.map_err(failed)?;
    site.client.storages(&place.0).delete(&seed.volume).await.map_err(failed)?;
    // An IDE drive goes with the next power cycle only; an empty one does no harm.
    if seed.slot.starts_with("scsi") {
        let slot = [seed.slot.clone()];
        let unplugged = machine.configure(&Params::new(), &slot, None).done().await;
        if let Err(error) = unplugged {
            tracing::warn!(error = %error, "the empty drive stays");
        }
    }
    Ok(())
}

/// Deletes every seed image that was made for the VM with that UUID. Fine if there is none. `holds` is said if it fails.
pub(super) async fn remove_all(
    site: &Site<'_>,
    m: &Vm,
    place: &Place,
    (uuid, holds): (&str, &str),
) -> Result<(), Diagnostics> {
    let start = file_start(place.1, uuid);
    let failed = |error: pve::Error| site.failed(m, &error, holds);
    let storages = site.client.storages(&place.0);
    let all = storages.list().await.map_err(failed)?;
    let named = m.cloud_init.get().and_then(|cloud_init| cloud_init.storage.text());
    for storage in all.iter().filter(|storage| storage.active && storage.holds("iso")) {
        if named.is_some_and(|named| named != storage.storage && named != tf::IMPORTED) {
            continue;
        }
        for file in storages.content(&storage.storage, "iso").await.map_err(failed)? {
            if file.volid.name().starts_with(&start) {
                storages.delete(&file.volid).await.map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Refuses an agent that this provider cannot install, before there is a VM.
pub(super) fn can_be_made(site: &Site<'_>, m: &Vm) -> Result<(), Diagnostic> {
    if m.agent.is_null() {
        return Ok(());
    }
    let refused = |error| explain::agent(&format!("install the agent of VM {}", m.name.or("")), &error).at("agent");
    site.cx.agents.can_install().map_err(refused)
}

/// What the machine is, as `uname -m` says it there: as its option `arch` says, or as its node is. Not known without the right to look at
/// the node.
async fn architecture(site: &Site<'_>, place: &Place, now: &Settings) -> Option<String> {
    if let Some(said) = now.written("arch") {
        return Some(said.to_owned());
    }
    let said = site.client.nodes().machine(&place.0).await;
    said.inspect_err(|error| tracing::debug!(error = %error, "the node does not say what it is")).ok()
}

/// The seed, with a fresh secret for the agent.
fn seed(
    agents: &Agents,
    m: &Vm,
    (now, machine): (&Settings, Option<&str>),
    (uuid, generation): (&str, u64),
) -> Result<(Seed, Option<PendingEnrolment>), Diagnostics> {
    let cloud_init = m.cloud_init.cloned().unwrap_or_default();
    let mut seed = Seed {
        instance_id: uuid.to_owned(),
        hostname: m.name.or(""),
        user: cloud_init.user.cloned(),
        ssh_keys: cloud_init.ssh_keys.or(Vec::new()),
        password: cloud_init.password.get().map(|password| password.expose().clone()),
        interfaces: interfaces(&cloud_init, now),
        user_data: cloud_init.user_data.cloned(),
        agent: None,
    };
    let Some(agent) = m.agent.get() else { return Ok((seed, None)) };
    let port = agent.port.get().and_then(|port| u16::try_from(*port).ok()).unwrap_or(trust::PORT);
    let made = agents.seed(&SeedFor { machine_uuid: uuid, generation, port, machine });
    let (part, pending) =
        made.map_err(|error| explain::agent(&format!("make the seed image of VM {}", m.name.or("")), &error))?;
    seed.agent = Some(part);
    Ok((seed, Some(pending)))
}

/// The cards that are named, or else all, for DHCP; with the hardware addresses they really have. Names of interfaces
/// would not do: not every renderer of cloud-init understands a pattern of them.
fn interfaces(cloud_init: &CloudInit, now: &Settings) -> Vec<Interface> {
    let mut named = cloud_init.network.cloned().unwrap_or_default();
    if named.is_empty() {
        named = disks::card_slots(now).into_iter().map(|slot| (slot, Addresses::default())).collect();
    }
    let card = |(slot, given): (&String, &Addresses)| {
        let mac = pve::Net::parse(now.written(slot)?).mac()?.to_owned();
        let present = |attrs: [&tf::Attr<String>; 2]| attrs.into_iter().filter_map(tf::Attr::cloned).collect();
        Some(Interface {
            name: slot.clone(),
            mac,
            addresses: present([&given.address, &given.address6]),
            gateways: present([&given.gateway, &given.gateway6]),
            dns: given.dns.or(Vec::new()),
            search: given.search.or(Vec::new()),
        })
    };
    let mut all: Vec<Interface> = named.iter().filter_map(card).collect();
    all.sort_by_key(|interface| disks::number(&interface.name));
    all
}

/// The storage for the image: the one that is named, or one that may hold images of CDs, `local` before others. `holds` is
/// said if there is none.
pub(super) async fn storage(site: &Site<'_>, m: &Vm, (node, holds): (&NodeName, &str)) -> Result<String, Diagnostics> {
    let failed = |error: pve::Error| site.failed(m, &error, holds);
    let all = site.client.storages(node).list().await.map_err(failed)?;
    if let Some(named) = m.cloud_init.get().and_then(|cloud_init| cloud_init.storage.text()) {
        if all.iter().any(|storage| storage.storage == named && storage.holds("iso")) {
            return Ok(named.to_owned());
        }
        let said = format!("Node {node} has no storage {named} with content `iso` that the API token may see.");
        let cure = "Name one that has it, or leave `storage` out to have one chosen.";
        return Err(site.error(said).holds(holds).next(cure).at(Path::from("cloud_init").name("storage")).into());
    }
    let usable = all.iter().filter(|storage| storage.active && storage.holds("iso"));
    let chosen = usable.min_by_key(|storage| (storage.storage != "local", storage.shared));
    chosen.map(|storage| storage.storage.clone()).ok_or_else(|| {
        let cure = format!(
            "Allow content `iso` on a storage of node {node}, and Datastore.AllocateTemplate on it to the API token."
        );
        let said = format!("No storage of node {node} that the API token may see can hold the seed image.");
        site.error(said).holds(holds).next(cure).at("cloud_init").into()
    })
}

/// Refuses a storage from which the image could not be deleted afterwards: it may hold a secret, and keeps the VM from moving.
pub(super) async fn may_be_deleted(site: &Site<'_>, storage: &str, holds: &str) -> Result<(), Diagnostics> {
    const NEEDED: &str = "Datastore.Allocate";
    let path = format!("/storage/{storage}");
    // Who may not ask will hear of it at the deletion.
    let Ok(privileges) = site.client.privileges(&path).await else { return Ok(()) };
    if privileges.contains(NEEDED) {
        return Ok(());
    }
    let said = format!(
        "The API token may not delete files of storage {storage}, as the seed image must be after the first boot."
    );
    let cure = format!("Grant {NEEDED} on {path} to the API token, or give another `cloud_init.storage`.");
    Err(site.error(said).holds(holds).next(cure).at("cloud_init").into())
}

/// The drive for the image.
fn slot(m: &Vm, now: &Settings) -> String {
    let named = m.cloud_init.get().and_then(|cloud_init| cloud_init.slot.cloned());
    let virtio = now.written("scsihw").is_some_and(|kind| kind.starts_with("virtio-scsi"));
    named.unwrap_or_else(|| if virtio { checks::SEED_SLOT } else { checks::SEED_SLOT_IDE }.to_owned())
}

/// Proxmox VE's own seed, or ours of the VM that this one was cloned from.
fn is_other_seed(now: &Settings, key: &str) -> bool {
    let drive = now.written(key).map(Drive::parse);
    let is_proxmox = drive.is_some_and(|drive| drive.is_cdrom() && drive.volume().contains("-cloudinit"));
    is_proxmox || cd(now, key).is_some_and(|volume| is_file_of_ours(volume.name()))
}

/// `iso/groundwork-100-0b5e0000-3.iso`
fn is_file_of_ours(name: &str) -> bool {
    let parts = name.strip_prefix("iso/groundwork-").and_then(|name| name.strip_suffix(".iso"));
    let parts: Vec<&str> = parts.unwrap_or_default().split('-').collect();
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let hex = |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    matches!(parts.as_slice(), [vmid, uuid, generation] if number(vmid) && hex(uuid) && number(generation))
}

fn generation(volume: &VolumeId) -> u64 {
    let number = volume.name().strip_suffix(".iso").and_then(|name| name.rsplit_once('-')?.1.parse().ok());
    number.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rows: &[(&str, &str)]) -> Settings {
        let rows: Vec<_> = rows.iter().map(|(key, value)| serde_json::json!({ "key": key, "value": value })).collect();
        serde_json::from_value(rows.into()).unwrap()
    }

    #[test]
    fn our_seed_is_told_from_other_cds() {
        let now = settings(&[
            ("ide0", "local:iso/debian.iso,media=cdrom"),
            ("ide2", "local-lvm:vm-100-cloudinit,media=cdrom"),
            ("scsi0", "local-lvm:vm-100-disk-0,size=4G"),
            ("scsi29", "local:iso/groundwork-90-0a5e0000-1.iso,media=cdrom,size=12M"),
            ("scsi30", "local:iso/groundwork-100-0b5e0000-3.iso,media=cdrom,size=12M"),
            ("smbios1", "uuid=0B5E0000-0000-4000-8000-000000000000"),
        ]);
        let (vmid, other) = (Vmid::new(100).unwrap(), Vmid::new(101).unwrap());
        let seed = attached(vmid, &now).unwrap();
        assert_eq!((seed.slot.as_str(), generation(&seed.volume)), ("scsi30", 3));
        assert_eq!(attached(other, &now), None, "a clone's source needs it still");
        assert_eq!(attached(vmid, &settings(&[("ide2", "none,media=cdrom")])), None);
        assert!(["ide2", "scsi29"].iter().all(|slot| is_other_seed(&now, slot)));
        assert!(["ide0", "scsi0"].iter().all(|slot| !is_other_seed(&now, slot)));
        assert!(!is_file_of_ours("iso/groundwork-installer.iso"));
    }

    #[test]
    fn every_card_asks_for_an_address_unless_some_are_named() {
        let now = settings(&[("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"), ("net1", "e1000=BC:24:11:00:00:02")]);
        let names = |cloud_init: &CloudInit| interfaces(cloud_init, &now).into_iter().map(|card| (card.name, card.mac));
        let both = [("net0", "BC:24:11:00:00:01"), ("net1", "BC:24:11:00:00:02")];
        let both = both.map(|(name, mac)| (name.to_owned(), mac.to_owned()));
        assert_eq!(names(&CloudInit::default()).collect::<Vec<_>>(), both);
        let network = std::collections::BTreeMap::from([("net1".to_owned(), Addresses::default())]);
        let one = CloudInit { network: network.into(), ..CloudInit::default() };
        assert_eq!(names(&one).collect::<Vec<_>>(), both[1..]);
    }

    #[test]
    fn the_drive_suits_the_controller() {
        let m = Vm::default();
        assert_eq!(slot(&m, &settings(&[("scsihw", "virtio-scsi-single")])), "scsi30");
        assert_eq!(slot(&m, &settings(&[])), "ide2");
    }
}
