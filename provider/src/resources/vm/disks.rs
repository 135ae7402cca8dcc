//! Disks and network cards: between the model and the property strings of their slots. Pure.

use std::collections::BTreeMap;

use pve::{Drive, Net, PropertyString, Settings, Size};
use tf::Attr;

use super::model::{Disk, Network, Vm};

/// The slot that an image is copied to and the machine boots from: the lowest of `scsi`, then `virtio`, then `sata`.
pub(super) fn first(disks: &BTreeMap<String, Disk>) -> Option<&str> {
    disks.keys().map(String::as_str).min_by_key(|slot| order(slot))
}

fn order(slot: &str) -> (usize, u32) {
    let bus = BUSES.iter().position(|bus| slot.starts_with(bus)).unwrap_or(BUSES.len());
    (bus, number(slot))
}

/// The number at the end of a slot's name.
pub(super) fn number(slot: &str) -> u32 {
    slot.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse().unwrap_or(u32::MAX)
}

/// The disks the model manages.
pub(super) fn of(m: &Vm) -> BTreeMap<String, Disk> {
    m.disk.cloned().unwrap_or_default()
}

/// The network cards the model manages.
pub(super) fn cards_of(m: &Vm) -> BTreeMap<String, Network> {
    m.network.cloned().unwrap_or_default()
}

/// A disk to be made: empty, or as a copy of `image`.
pub(super) fn fresh(disk: &Disk, image: Option<&str>) -> String {
    let storage = disk.storage.or("");
    let size = if image.is_some() { 0 } else { disk.size_gib.or(DEFAULT_GIB) };
    let mut text = PropertyString::of(format!("{storage}:{size}"));
    if let Some(image) = image {
        text.set("import-from", image);
    }
    if let Some(format) = disk.format.get() {
        text.set("format", format);
    }
    options(&mut text, disk);
    text.to_string()
}

/// An existing disk with the options the model gives; what the model does not know stays.
pub(super) fn changed(present: &str, disk: &Disk) -> String {
    let mut text = PropertyString::parse(present);
    options(&mut text, disk);
    text.to_string()
}

fn options(text: &mut PropertyString, disk: &Disk) {
    let mut word = |key: &str, value: Option<&str>, default: &str| match value {
        Some(value) if value == default => text.remove(key),
        Some(value) if text.get(key) != Some(value) => text.set(key, value),
        _ => {}
    };
    let flag = |flag: &Attr<bool>, yes: &'static str, no: &'static str| flag.get().map(|on| if *on { yes } else { no });
    word("discard", flag(&disk.discard, "on", "ignore"), "ignore");
    word("ssd", flag(&disk.ssd, "1", "0"), "0");
    word("iothread", flag(&disk.iothread, "1", "0"), "0");
    word("backup", flag(&disk.backup, "1", "0"), "1");
    word("cache", disk.cache.text(), "");
    word("serial", disk.serial.text(), "");
}

/// What is really there. The storage stays as written: a disk that was moved since is no difference.
pub(super) fn fill(disk: &mut Disk, present: &str) {
    let drive = Drive::parse(present);
    let flag = |key: &str, default: bool| drive.0.truth(key).unwrap_or(default);
    if disk.storage.get().is_none() {
        disk.storage.put(drive.storage());
    }
    disk.size_gib.put(drive.size().and_then(|size| i64::try_from(size.gib_up()).ok()));
    disk.discard.set(drive.0.get("discard") == Some("on"));
    disk.ssd.set(flag("ssd", false));
    disk.iothread.set(flag("iothread", false));
    disk.backup.set(flag("backup", true));
    disk.cache.put(drive.0.get("cache"));
    disk.serial.put(drive.0.get("serial"));
    disk.volume.set(drive.volume());
    if disk.format.get().is_none() {
        let end = drive.volume().rsplit_once('.').map(|(_, end)| end).filter(|end| FORMATS.contains(end));
        disk.format.put(drive.0.get("format").or(end));
    }
}

/// The size a disk must be grown to, in bytes; `Err` with the present size if it is larger.
pub(super) fn growth(disk: &Disk, present: &str) -> Result<Option<u64>, u64> {
    let wanted = disk.size_gib.get().and_then(|gib| u64::try_from(*gib).ok()).map(|gib| Size::gib(gib).0);
    let (Some(wanted), Some(present)) = (wanted, Drive::parse(present).size()) else { return Ok(None) };
    // Storages round up to their own units: what fills the same number of GiB is not too large.
    if Size(wanted).gib_up() < present.gib_up() {
        return Err(present.gib_up());
    }
    Ok((wanted > present.0).then_some(wanted))
}

/// Whether an option is the slot of a disk.
pub(super) fn is_slot(key: &str) -> bool {
    BUSES.iter().any(|bus| key.strip_prefix(bus).is_some_and(|rest| rest.parse::<u32>().is_ok()))
}

/// Whether an option is the slot of a network card.
pub(super) fn is_card_slot(key: &str) -> bool {
    key.strip_prefix("net").is_some_and(|rest| rest.parse::<u32>().is_ok())
}

/// The slots of hard disks that the VM really has.
pub(super) fn slots(settings: &Settings) -> Vec<String> {
    let hard = |key: &str| settings.written(key).is_some_and(|text| !Drive::parse(text).is_cdrom());
    settings.keys().filter(|key| is_slot(key) && hard(key)).map(str::to_owned).collect()
}

/// A slot's line as it was last written, or as it is while its removal waits. The size is the one in force: a line that waits may
/// have been written before the disk grew, and the disk does not become smaller by it.
pub(super) fn line(settings: &Settings, slot: &str) -> Option<String> {
    let written = settings.written(slot).or_else(|| settings.leaving(slot))?;
    let (mut drive, current) = (Drive::parse(written), settings.current(slot).map(Drive::parse));
    let current = current.filter(|current| current.volume() == drive.volume());
    if let Some(size) =
        current.as_ref().and_then(|current| current.0.get("size")).filter(|_| drive.0.get("size").is_some())
    {
        drive.0.set("size", size);
    }
    Some(drive.0.to_string())
}

/// Where volumes are that were in `slots` before, and now are kept without a slot.
pub(super) fn detached(slots: &[String], before: &Settings, after: &Settings) -> Vec<String> {
    fn volume(settings: &Settings, slot: &str) -> Option<String> {
        let drive = settings.written(slot).or_else(|| settings.leaving(slot))?;
        Some(Drive::parse(drive).volume().to_owned())
    }
    let gone: Vec<String> = slots.iter().filter_map(|slot| volume(before, slot)).collect();
    let is_one = |key: &&str| key.starts_with("unused") && volume(after, key).is_some_and(|own| gone.contains(&own));
    after.keys().filter(is_one).map(str::to_owned).collect()
}

/// The slots of network cards that the VM really has.
pub(super) fn card_slots(settings: &Settings) -> Vec<String> {
    settings.keys().filter(|key| is_card_slot(key)).map(str::to_owned).collect()
}

/// A card as the model gives it, on top of what is there.
pub(super) fn card(present: Option<&str>, wanted: &Network) -> String {
    let before = Net::parse(present.unwrap_or_default());
    let model =
        wanted.model.cloned().or_else(|| before.model().map(str::to_owned)).unwrap_or_else(|| "virtio".to_owned());
    let mac = wanted.mac.cloned().or_else(|| before.mac().map(str::to_owned));
    let same_mac = before.mac().is_some_and(|own| mac.as_deref().is_some_and(|mac| mac.eq_ignore_ascii_case(own)));
    let mut text = if present.is_some() && same_mac && before.model() == Some(model.as_str()) {
        before.0
    } else {
        replug(&before, &model, mac.as_deref())
    };
    let mut word = |key: &str, value: Option<String>, default: &str| match value {
        Some(value) if value == default => text.remove(key),
        Some(value) if text.get(key) != Some(value.as_str()) => text.set(key, value),
        _ => {}
    };
    word("bridge", wanted.bridge.cloned(), "");
    word("tag", wanted.vlan.get().map(i64::to_string), "");
    word("firewall", wanted.firewall.get().map(|on| u8::from(*on).to_string()), "0");
    word("mtu", wanted.mtu.get().map(i64::to_string), "");
    text.to_string()
}

/// Another card in the same slot, with the other options kept.
fn replug(before: &Net, model: &str, mac: Option<&str>) -> PropertyString {
    let mut text = match mac {
        Some(mac) => PropertyString::parse(&format!("{model}={mac}")),
        None => PropertyString::of(model),
    };
    let own = |key: &str| Some(key) == before.model() || matches!(key, "model" | "macaddr");
    for (key, value) in before.0.iter() {
        if let Some(key) = key.filter(|key| !own(key)) {
            text.set(key, value);
        }
    }
    text
}

/// What is really there; the spelling of a hardware address stays.
pub(super) fn fill_card(card: &mut Network, present: &str) {
    let net = Net::parse(present);
    card.bridge.put(net.0.get("bridge"));
    card.model.put(net.model());
    let mac = net.mac().unwrap_or_default();
    if !card.mac.text().is_some_and(|own| own.eq_ignore_ascii_case(mac)) {
        card.mac.put(net.mac());
    }
    card.vlan.put(net.0.get("tag").and_then(|text| text.parse::<i64>().ok()));
    card.firewall.set(net.0.truth("firewall").unwrap_or(false));
    card.mtu.put(net.0.get("mtu").and_then(|text| text.parse::<i64>().ok()));
}

const FORMATS: [&str; 3] = ["raw", "qcow2", "vmdk"];
const BUSES: [&str; 3] = ["scsi", "virtio", "sata"];
const DEFAULT_GIB: i64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk { storage: "local-lvm".into(), size_gib: 20.into(), discard: true.into(), ..Disk::default() }
    }

    #[test]
    fn the_first_disk_is_by_bus_and_number() {
        let slots = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Disk::default())).collect();
        assert_eq!(first(&slots(&["scsi10", "scsi2", "virtio0"])), Some("scsi2"));
        assert_eq!(first(&slots(&["sata0", "virtio1"])), Some("virtio1"));
        assert_eq!(first(&slots(&[])), None);
    }

    #[test]
    fn a_new_disk_is_allocated_or_imported() {
        assert_eq!(fresh(&disk(), None), "local-lvm:20,discard=on");
        assert_eq!(
            fresh(&disk(), Some("local:import/d.qcow2")),
            "local-lvm:0,import-from=local:import/d.qcow2,discard=on"
        );
    }

    #[test]
    fn a_change_keeps_what_the_model_does_not_know() {
        let present = "local-lvm:vm-1-disk-0,aio=native,discard=on,size=20G,ssd=1";
        assert_eq!(changed(present, &disk()), present);
        let other = Disk { discard: false.into(), backup: false.into(), ..disk() };
        assert_eq!(changed(present, &other), "local-lvm:vm-1-disk-0,aio=native,size=20G,ssd=1,backup=0");
    }

    #[test]
    fn a_disk_grows_and_never_shrinks() {
        assert_eq!(growth(&disk(), "s:v,size=2252M"), Ok(Some(20 * pve::GIB)));
        assert_eq!(growth(&disk(), "s:v,size=20G"), Ok(None));
        assert_eq!(growth(&disk(), "s:v,size=20484M"), Err(21));
        assert_eq!(growth(&Disk::default(), "s:v,size=1G"), Ok(None));
        let three = Disk { size_gib: 3.into(), ..disk() };
        assert_eq!(growth(&three, "s:v,size=2252M"), Ok(Some(3 * pve::GIB)));
    }

    #[test]
    fn a_line_that_waits_has_the_size_in_force() {
        let rows = serde_json::json!([
            {"key": "scsi0", "value": "s:v,size=9G", "pending": "s:v,serial=x,size=6G"},
            {"key": "scsi1", "value": "s:a,size=9G", "pending": "s:b,size=6G"},
            {"key": "scsi2", "value": "s:c,size=1G", "delete": 2}]);
        let settings = serde_json::from_value(rows).unwrap();
        assert_eq!(line(&settings, "scsi0").as_deref(), Some("s:v,serial=x,size=9G"));
        assert_eq!(line(&settings, "scsi1").as_deref(), Some("s:b,size=6G"), "another volume");
        assert_eq!(line(&settings, "scsi2").as_deref(), Some("s:c,size=1G"), "still there");
        assert_eq!(line(&settings, "scsi3"), None);
    }

    #[test]
    fn only_volumes_that_lost_their_slot_are_detached() {
        let settings = |rows: &[(&str, &str)]| -> Settings {
            let rows = rows.iter().map(|(key, value)| serde_json::json!({ "key": key, "value": value }));
            serde_json::from_value(rows.collect()).unwrap()
        };
        let before = settings(&[("scsi0", "s:a,size=1G"), ("scsi1", "s:b,size=1G"), ("unused0", "s:c")]);
        let after = settings(&[("scsi0", "s:a,size=1G"), ("unused0", "s:c"), ("unused1", "s:b")]);
        assert_eq!(detached(&["scsi1".to_owned()], &before, &after), ["unused1"]);
        assert!(detached(&["scsi1".to_owned()], &before, &before).is_empty());
    }

    #[test]
    fn a_card_keeps_its_address_and_unknown_options() {
        let wanted = Network { bridge: "vmbr1".into(), vlan: 7.into(), ..Network::default() };
        assert_eq!(card(None, &wanted), "virtio,bridge=vmbr1,tag=7");
        let present = "virtio=BC:24:11:00:00:01,bridge=vmbr0,queues=4";
        assert_eq!(card(Some(present), &wanted), "virtio=BC:24:11:00:00:01,bridge=vmbr1,queues=4,tag=7");
        let other = Network { model: "e1000".into(), ..wanted };
        assert_eq!(card(Some(present), &other), "e1000=BC:24:11:00:00:01,bridge=vmbr1,queues=4,tag=7");
    }

    #[test]
    fn a_hardware_address_keeps_its_spelling() {
        let mut network = Network { mac: "bc:24:11:00:00:01".into(), ..Network::default() };
        fill_card(&mut network, "virtio=BC:24:11:00:00:01,bridge=vmbr0");
        assert_eq!(network.mac.text(), Some("bc:24:11:00:00:01"));
    }
}
