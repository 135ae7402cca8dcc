//! Disks: the rows of their options, and what their slots hold. Pure.

use std::collections::BTreeMap;

use pve::{Drive, PropertyString, Settings, Size};
use tf::check::{between, one_of};
use tf::{Attr, Model, Row, computed, optional_computed, required};

use super::checks;
use super::effect::{Attribute, Effect, Takes};
use super::model::Vm;
use super::option::{self, Form, New, Table, Values, VmOption, flag, flag_if_off, flag_if_on, text};
use crate::names;

/// A disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Disk {
    pub(super) storage: Attr<String>,
    pub(super) size_gib: Attr<i64>,
    pub(super) format: Attr<String>,
    pub(super) discard: Attr<bool>,
    pub(super) ssd: Attr<bool>,
    pub(super) iothread: Attr<bool>,
    pub(super) backup: Attr<bool>,
    pub(super) cache: Attr<String>,
    pub(super) serial: Attr<String>,
    pub(super) volume: Attr<String>,
}

/// The fields that have a row in the table, and the rest.
struct Parts<'a> {
    table: Table<'a>,
    others: [Attribute<'a>; 4],
}

impl Disk {
    /// One row per option of the slot's property string.
    pub(super) fn table(&mut self) -> Table<'_> {
        self.parts().table
    }

    /// Every attribute, with what a change of it does.
    pub(super) fn attributes(&mut self) -> Vec<Attribute<'_>> {
        let Parts { table, others } = self.parts();
        others.into_iter().chain(option::attributes(table, "Default")).collect()
    }

    #[rustfmt::skip]
    fn parts(&mut self) -> Parts<'_> {
        let Self { storage, size_gib, format, discard, ssd, iothread, backup, cache, serial, volume } = self;
        let table = vec![
            VmOption {
                attribute: "discard", field: discard, key: "discard", form: DISCARD, absent: Some(false),
                new: New::Value(false), takes: Takes::PowerCycle, privilege: PRIVILEGE,
                doc: "Whether the guest's discards free space.",
            }.row(),
            VmOption {
                attribute: "ssd", field: ssd, key: "ssd", form: flag_if_on(), absent: Some(false),
                new: New::Value(false), takes: Takes::PowerCycle, privilege: PRIVILEGE,
                doc: "Whether the guest sees an SSD; not on `virtio`.",
            }.row(),
            VmOption {
                attribute: "iothread", field: iothread, key: "iothread", form: flag_if_on(), absent: Some(false),
                new: New::Value(false), takes: Takes::PowerCycle, privilege: PRIVILEGE,
                doc: "Whether the disk has a thread of its own; not on `sata`.",
            }.row(),
            VmOption {
                attribute: "backup", field: backup, key: "backup", form: flag_if_off(), absent: Some(true),
                new: New::Value(true), takes: Takes::Live, privilege: PRIVILEGE,
                doc: "Whether backups contain the disk.",
            }.row(),
            VmOption {
                attribute: "cache", field: cache, key: "cache", form: text(Values::Words(&CACHES)), absent: None,
                new: New::Nothing, takes: Takes::PowerCycle, privilege: PRIVILEGE,
                doc: "Cache mode: `none`, `writethrough`, `writeback`, `unsafe` or `directsync`. Default: Proxmox VE's, which is `none`.",
            }.row(),
            VmOption {
                attribute: "serial", field: serial, key: "serial", form: text(Values::Text(checks::serial)), absent: None,
                new: New::Nothing, takes: Takes::PowerCycle, privilege: PRIVILEGE,
                doc: "Serial number the guest sees, as in `/dev/disk/by-id/`; at most 20 letters, digits, `-` and `_`.",
            }.row(),
        ];
        let others = [
            Attribute::new(
                required("storage", storage, "Storage of the disk. Another one needs a new machine.").check(names::storage),
                Effect::Option(Takes::Live),
            ).name(),
            // A call of its own, and no part of the line.
            Attribute::new(
                optional_computed("size_gib", size_gib, "Size in GiB. It can grow, while the machine runs, and never shrink: an apply that would shrink a disk fails before it changes anything. Default: the image's or the template's, and 8 for an empty disk.")
                    .check(between(1, 131_072)).keep(),
                Effect::Option(Takes::Live),
            ),
            Attribute::new(
                optional_computed("format", format, "`raw`, `qcow2` or `vmdk`, on storages that have files. Default: the storage's. Used at creation only.")
                    .check(one_of(&FORMATS)).first_boot(),
                Effect::Recorded,
            ),
            Attribute::new(computed("volume", volume, "Volume of the disk.").keep(), Effect::Nothing),
        ];
        Parts { table, others }
    }
}

impl Model for Disk {
    fn rows(&mut self) -> Vec<Row<'_>> {
        self.attributes().into_iter().map(|attribute| attribute.row).collect()
    }
}

/// `on`, or no key
const DISCARD: Form<bool> =
    Form { read: |text| Some(text == "on"), write: |on, _| on.then(|| "on".to_owned()), ..flag() };

const CACHES: [&str; 5] = ["none", "writethrough", "writeback", "unsafe", "directsync"];
/// To write a slot's options.
const PRIVILEGE: &str = "VM.Config.Disk";

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
    option::write(disk.clone().table(), &mut text);
    text.to_string()
}

/// An existing disk with the options the model gives; what the model does not know stays.
pub(super) fn changed(present: &str, disk: &Disk) -> String {
    let mut text = PropertyString::parse(present);
    option::write(disk.clone().table(), &mut text);
    text.to_string()
}

/// What is really there. The storage stays as written: a disk that was moved since is no difference.
pub(super) fn fill(disk: &mut Disk, present: &str) {
    let drive = Drive::parse(present);
    if disk.storage.get().is_none() {
        disk.storage.put(drive.storage());
    }
    disk.size_gib.put(drive.size().and_then(|size| i64::try_from(size.gib_up()).ok()));
    option::fill(disk.table(), |key| drive.0.get(key));
    disk.volume.set(drive.volume());
    if disk.format.get().is_none() {
        let end = drive.volume().rsplit_once('.').map(|(_, end)| end).filter(|end| FORMATS.contains(end));
        disk.format.put(drive.0.get("format").or(end));
    }
}

/// The size a disk must be grown to, in bytes; `Err` with the present size if it is larger.
pub(super) fn growth(disk: &Disk, present: &str) -> Result<Option<u64>, u64> {
    Drive::parse(present).size().map_or(Ok(None), |present| growth_from(disk, present))
}

/// As [`growth`], of what has this size.
pub(super) fn growth_from(disk: &Disk, present: Size) -> Result<Option<u64>, u64> {
    let wanted = disk.size_gib.get().and_then(|gib| u64::try_from(*gib).ok()).map(|gib| Size::gib(gib).0);
    let Some(wanted) = wanted else { return Ok(None) };
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
}
