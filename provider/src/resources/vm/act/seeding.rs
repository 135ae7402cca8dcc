//! The seed image of a VM: made, uploaded to the node that owns the VM, attached, and taken away again.

use pve::{Class, Drive, NodeName, Params, Settings, Source, Upload, Vmid, VolumeId};
use tf::{Attr, Path};

use super::error::{Error, Problem};
use super::operation::{Operation, Target};
use crate::agents::{Agents, PendingEnrolment, SeedFor};
use crate::resources::vm::model::{CloudInit, Interface as Addresses, Route as GivenRoute, Vm};
use crate::resources::vm::{cards, checks, config, disks};
use crate::seed::{Asks6, Interface, Route, Seed};

/// A seed image in its drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) slot: String,
    pub(super) volume: VolumeId,
}

/// The seed of this VM that is attached now. A clone carries its source's, which is not this VM's to delete.
pub(super) fn attached(vmid: Vmid, now: &Settings) -> Option<Attached> {
    let own = file_start(vmid, &config::uuid(now).unwrap_or_default());
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
    target: &Target<'_>,
    m: &Vm,
    now: &Settings,
) -> Result<(Attached, Option<PendingEnrolment>), Error> {
    let before = attached(target.vmid, now);
    let uuid = config::uuid(now).unwrap_or_default();
    let generation = before.as_ref().map_or(1, |seed| generation(&seed.volume) + 1);
    let storage = storage(target.op, m, &target.node).await?;
    let architecture = if m.agent.is_known() { architecture(target, now).await } else { None };
    let (seed, pending) = seed(&target.op.cx.agents, m, (now, architecture.as_deref()), (&uuid, generation))?;
    let name = format!("{}{generation}.iso", file_start(target.vmid, &uuid));
    let volume = VolumeId::new(storage.as_str(), name);
    upload(target, &volume, &seed).await?;
    let slot = before.as_ref().map_or_else(|| slot(m, now), |seed| seed.slot.clone());
    let params = Params::new().with(&slot, format!("{volume},media=cdrom"));
    // Two drives with the same label would confuse cloud-init.
    let others: Vec<String> =
        now.keys().filter(|key| **key != *slot && is_other_seed(now, key)).map(str::to_owned).collect();
    target.calls().configure(&params, &others, None).done_at_least_once().await?;
    boot_as_before(target, now).await?;
    if let Some(before) = before.filter(|before| before.volume != volume) {
        target.op.client.storages(&target.node).delete(&before.volume).await?;
    }
    Ok((Attached { slot, volume }, pending))
}

/// Proxmox VE puts a new CD drive into the boot order, and a running machine does not let go of a drive that stands there: the seed
/// could not be taken away after the first boot. So the order is written as it was before the machine starts, in a call of its own.
async fn boot_as_before(target: &Target<'_>, before: &Settings) -> Result<(), pve::Error> {
    let order = before.written("boot").map(str::trim).filter(|order| !order.is_empty());
    let (params, delete) = match order {
        Some(order) => (Params::new().with("boot", order), Vec::new()),
        None => (Params::new(), vec!["boot".to_owned()]),
    };
    target.configured_now(&params, &delete).await
}

/// Brings the image to the node.
async fn upload(target: &Target<'_>, volume: &VolumeId, seed: &Seed) -> Result<(), pve::Error> {
    let file_name = volume.name().trim_start_matches("iso/").to_owned();
    let upload = Upload { content: "iso", file_name, source: Source::Bytes(seed.image()), checksum: None };
    let storages = target.op.client.storages(&target.node);
    let upid = match storages.upload(volume.storage(), &upload).await {
        // The file has a name of its own: a second one of it takes nobody's place.
        Err(error) if error.outcome_unknown() => storages.upload(volume.storage(), &upload).await,
        sent => sent,
    };
    let upid = upid?;
    let ended = target.op.client.wait(&upid).await;
    // What came in later would be found by nobody, and holds a secret.
    if matches!(ended, Err(pve::Error::Deadline { .. })) {
        target.op.calm().stop(&upid).await;
    }
    ended.map(drop)
}

/// Ejects the seed and deletes its image: it would keep the VM from moving, and it held a secret.
pub(super) async fn remove(target: &Target<'_>, seed: &Attached) -> Result<(), pve::Error> {
    let calls = target.calls();
    let empty = Params::new().with(&seed.slot, "none,media=cdrom");
    match calls.configure(&empty, &[], None).done_at_least_once().await {
        // A removal of before that a snapshot keeps from being made: this one is done.
        Err(error) if error.is(Class::InUse) => {}
        ended => drop(ended?),
    }
    target.op.client.storages(&target.node).delete(&seed.volume).await?;
    // An IDE drive goes with the next power cycle only; an empty one does no harm.
    if seed.slot.starts_with("scsi") {
        let slot = [seed.slot.clone()];
        let unplugged = calls.configure(&Params::new(), &slot, None).done().await;
        if let Err(error) = unplugged {
            tracing::warn!(error = %error, "the empty drive stays");
        }
    }
    Ok(())
}

/// Deletes every seed image that was made for the VM, attached or left by an upload that was cut off. Fine if there is none.
pub(super) async fn remove_all(target: &Target<'_>, m: &Vm) -> Result<(), pve::Error> {
    let start = file_start(target.vmid, m.uuid.text().unwrap_or_default());
    let storages = target.op.client.storages(&target.node);
    let named = m.cloud_init.get().and_then(|cloud_init| cloud_init.storage.text());
    for storage in storages.list().await?.iter().filter(|storage| storage.active && storage.holds("iso")) {
        if named.is_some_and(|named| named != storage.storage && named != tf::IMPORTED) {
            continue;
        }
        for file in storages.content(&storage.storage, "iso").await? {
            if file.volid.name().starts_with(&start) {
                storages.delete(&file.volid).await?;
            }
        }
    }
    Ok(())
}

/// Refuses an agent that this provider cannot install, before there is a VM.
pub(super) fn can_be_made(op: &Operation<'_>, m: &Vm) -> Result<(), Error> {
    if m.agent.is_null() {
        return Ok(());
    }
    op.cx.agents.can_install().map_err(Error::InstallAgent)
}

/// What the machine is, as `uname -m` says it there: as its option `arch` says, or as its node is. Not known without the right to look at
/// the node.
async fn architecture(target: &Target<'_>, now: &Settings) -> Option<String> {
    if let Some(said) = now.written("arch") {
        return Some(said.to_owned());
    }
    let said = target.op.client.nodes().machine(&target.node).await;
    said.inspect_err(|error| tracing::debug!(error = %error, "the node does not say what it is")).ok()
}

/// The seed, with a fresh secret for the agent.
fn seed(
    agents: &Agents,
    m: &Vm,
    (now, machine): (&Settings, Option<&str>),
    (uuid, generation): (&str, u64),
) -> Result<(Seed, Option<PendingEnrolment>), Error> {
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
    let allow_from = agent.allow_from.or(Vec::new());
    let wanted = SeedFor { machine_uuid: uuid, generation, port, machine, allow_from: &allow_from };
    let (part, pending) = agents.seed(&wanted).map_err(Error::MakeSeed)?;
    seed.agent = Some(part);
    Ok((seed, Some(pending)))
}

/// The cards that are named, or else all, for DHCP; with the hardware addresses they really have. Names of interfaces
/// would not do: not every renderer of cloud-init understands a pattern of them.
fn interfaces(cloud_init: &CloudInit, now: &Settings) -> Vec<Interface> {
    let mut named = cloud_init.network.cloned().unwrap_or_default();
    if named.is_empty() {
        named = cards::slots(now).into_iter().map(|slot| (slot, Addresses::default())).collect();
    }
    let card = |(slot, given): (&String, &Addresses)| {
        let mac = pve::Net::parse(now.written(slot)?).mac()?.to_owned();
        let addresses: Vec<String> = [&given.address, &given.address6]
            .into_iter()
            .filter_map(Attr::cloned)
            .filter(|text| is_static(text))
            .collect();
        let route = |(to, route): (&String, &GivenRoute)| Route {
            to: to.clone(),
            via: route.via.or(""),
            metric: route.metric.cloned(),
        };
        Some(Interface {
            name: slot.clone(),
            mac,
            dhcp4: given.address.text().map_or(addresses.is_empty(), |text| text == checks::DHCP),
            asks6: match given.address6.text() {
                Some(checks::AUTO) => Asks6::Auto,
                Some(checks::DHCP) => Asks6::Dhcp,
                _ => Asks6::Unsaid,
            },
            addresses,
            gateways: [&given.gateway, &given.gateway6].into_iter().filter_map(Attr::cloned).collect(),
            metric: given.metric.cloned(),
            routes: given.route.get().into_iter().flatten().map(route).collect(),
            dns: given.dns.or(Vec::new()),
            search: given.search.or(Vec::new()),
        })
    };
    let mut all: Vec<Interface> = named.iter().filter_map(card).collect();
    all.sort_by_key(|interface| disks::number(&interface.name));
    all
}

fn is_static(address: &str) -> bool {
    crate::cidr::parse(address).is_some()
}

/// The storage for the image: the one that is named, or one that may hold images of CDs, `local` before others.
pub(super) async fn storage(op: &Operation<'_>, m: &Vm, node: &NodeName) -> Result<String, Error> {
    let all = op.client.storages(node).list().await?;
    if let Some(named) = m.cloud_init.get().and_then(|cloud_init| cloud_init.storage.text()) {
        if all.iter().any(|storage| storage.storage == named && storage.holds("iso")) {
            return Ok(named.to_owned());
        }
        let said = format!("Node {node} has no storage {named} with content `iso` that the API token may see.");
        let cure = "Name one that has it, or leave `storage` out to have one chosen.";
        return Err(Problem::new(said, cure).at(Path::from("cloud_init").name("storage")).into());
    }
    let usable = all.iter().filter(|storage| storage.active && storage.holds("iso"));
    let chosen = usable.min_by_key(|storage| (storage.storage != "local", storage.shared));
    chosen.map(|storage| storage.storage.clone()).ok_or_else(|| {
        let cure = format!(
            "Allow content `iso` on a storage of node {node}, and Datastore.AllocateTemplate on it to the API token."
        );
        let said = format!("No storage of node {node} that the API token may see can hold the seed image.");
        Problem::new(said, cure).at("cloud_init").into()
    })
}

/// Refuses when there is no storage for the image, or none from which it could be deleted.
pub(super) async fn can_be_kept(op: &Operation<'_>, m: &Vm, node: &NodeName) -> Result<(), Error> {
    let storage = storage(op, m, node).await?;
    may_be_deleted(op, &storage).await
}

/// Refuses a storage from which the image could not be deleted afterwards: it may hold a secret, and keeps the VM from moving.
pub(super) async fn may_be_deleted(op: &Operation<'_>, storage: &str) -> Result<(), Error> {
    const NEEDED: &str = "Datastore.Allocate";
    let path = format!("/storage/{storage}");
    // Who may not ask will hear of it at the deletion.
    let Ok(privileges) = op.client.privileges(&path).await else { return Ok(()) };
    if privileges.contains(NEEDED) {
        return Ok(());
    }
    let said = format!(
        "The API token may not delete files of storage {storage}, as the seed image must be after the first boot."
    );
    let cure = format!("Grant {NEEDED} on {path} to the API token, or give another `cloud_init.storage`.");
    Err(Problem::new(said, cure).at("cloud_init").into())
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
