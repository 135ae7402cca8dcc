//! What is written: a whole new VM, or what differs. Which options there are, the tables say. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pve::{Params, PropertyString, Settings};

use super::model::Vm;
use super::options::Options;
use super::{cards, disks};

/// What is to be written: options to set, and options to take away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) set: BTreeMap<String, String>,
    pub(super) delete: Vec<String>,
}

impl Delta {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.delete.is_empty()
    }

    pub(super) fn params(&self) -> Params {
        self.set.iter().fold(Params::new(), |params, (key, value)| params.with(key, value))
    }
}

/// Everything a new VM is created with.
pub(super) fn creation(m: &Vm, uuid: &str) -> Params {
    let mut params =
        Params::new().with_some("name", m.name.text()).with("ostype", "l26").with("scsihw", "virtio-scsi-single");
    params.extend(&m.options.with_defaults().delta(&Settings::default()).params());
    params.set("smbios1", format!("uuid={uuid}"));
    let all = disks::of(m);
    let first = disks::first(&all).map(str::to_owned);
    for (slot, disk) in &all {
        let image = m.image.text().filter(|_| first.as_deref() == Some(slot.as_str()));
        params.set(slot, disks::fresh(disk, image));
    }
    let cards = cards::of(m);
    for (slot, card) in &cards {
        params.set(slot, cards::line(None, card));
    }
    if m.options.firmware.text() == Some("ovmf") {
        let storage =
            m.efi_storage.cloned().or_else(|| all.get(first.as_deref()?)?.storage.cloned()).unwrap_or_default();
        params.set("efidisk0", format!("{storage}:1,efitype=4m,pre-enrolled-keys=0"));
    }
    let boot: Vec<&str> = first.as_deref().into_iter().chain(cards.keys().next().map(String::as_str)).collect();
    if !boot.is_empty() {
        params.set("boot", format!("order={}", boot.join(";")));
    }
    params
}

/// What is to be written so that the VM has everything the model gives. `prior` says which slots were ours before.
pub(super) fn delta(prior: Option<&Vm>, m: &Vm, now: &Settings) -> Delta {
    let mut delta = m.options.delta(now);
    if let Some(name) = m.name.text() {
        differs(&mut delta, "name", now.written("name").unwrap_or_default(), name.to_owned());
    }
    // A removal that waits is taken back by writing the line again.
    for (slot, disk) in &disks::of(m) {
        let wanted = match disks::line(now, slot) {
            None => disks::fresh(disk, None),
            Some(line) => disks::changed(&line, disk),
        };
        differs(&mut delta, slot, now.written(slot).unwrap_or_default(), wanted);
        if let Some(order) = now.leaving(slot).and_then(|_| boot_with(slot, now)) {
            delta.set.insert("boot".to_owned(), order);
        }
    }
    for (slot, card) in &cards::of(m) {
        let present = now.written(slot).or_else(|| now.leaving(slot));
        differs(&mut delta, slot, now.written(slot).unwrap_or_default(), cards::line(present, card));
    }
    let gone = prior.map(|prior| gone(prior, m)).unwrap_or_default();
    delta.delete.extend(gone.cards.into_iter().filter(|slot| now.written(slot).is_some()));
    delta
}

/// The boot order in force, if a removal that waits would take the slot out of it.
fn boot_with(slot: &str, now: &Settings) -> Option<String> {
    let names = |order: &str| order.trim_start_matches("order=").split(';').any(|own| own == slot);
    let current = now.current("boot").filter(|order| names(order))?;
    now.written("boot").is_none_or(|order| !names(order)).then(|| current.to_owned())
}

/// The waiting options that an attribute stands for. Others are somebody else's business, and no reason for a reboot.
pub(super) fn ours<'a>(m: &Vm, waiting: impl Iterator<Item = &'a str>) -> Vec<String> {
    let (disks, cards) = (disks::of(m), cards::of(m));
    let is_ours = |key: &str| Options::may_wait(key) || disks.contains_key(key) || cards.contains_key(key);
    waiting.filter(|key| is_ours(key)).map(str::to_owned).collect()
}

/// Slots that were ours and are not any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) disks: Vec<String>,
    pub(super) cards: Vec<String>,
}

pub(super) fn gone(prior: &Vm, m: &Vm) -> Gone {
    let less = |before: Vec<String>, after: BTreeSet<String>| {
        before.into_iter().filter(|slot| !after.contains(slot)).collect()
    };
    Gone {
        disks: less(disks::of(prior).into_keys().collect(), disks::of(m).into_keys().collect()),
        cards: less(cards::of(prior).into_keys().collect(), cards::of(m).into_keys().collect()),
    }
}

fn differs(delta: &mut Delta, slot: &str, present: &str, wanted: String) {
    if present != wanted {
        delta.set.insert(slot.to_owned(), wanted);
    }
}

/// The SMBIOS UUID, in lower case.
pub(super) fn uuid(now: &Settings) -> Option<String> {
    PropertyString::parse(now.written("smbios1")?).get("uuid").map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::super::cards::Network;
    use super::super::disks::Disk;
    use super::*;

    fn settings(rows: &[(&str, &str)]) -> Settings {
        let rows: Vec<_> = rows.iter().map(|(key, value)| serde_json::json!({ "key": key, "value": value })).collect();
        serde_json::from_value(rows.into()).unwrap()
    }

    fn vm() -> Vm {
        let disk = Disk { storage: "local-lvm".into(), size_gib: 4.into(), ..Disk::default() };
        let card = Network { bridge: "vmbr0".into(), ..Network::default() };
        Vm {
            name: "one".into(),
            options: Options {
                cores: 2.into(),
                memory_mib: 512.into(),
                tags: BTreeSet::from(["K8s".to_owned()]).into(),
                ..Options::default()
            },
            disk: BTreeMap::from([("scsi0".to_owned(), disk)]).into(),
            network: BTreeMap::from([("net0".to_owned(), card)]).into(),
            ..Vm::default()
        }
    }

    #[test]
    fn a_new_vm_gets_what_is_given_and_good_defaults() {
        let m = Vm { image: "local:import/d.qcow2".into(), ..vm() };
        let params = creation(&m, "u");
        let get = |key: &str| params.get(key);
        assert_eq!(get("scsi0"), Some("local-lvm:0,import-from=local:import/d.qcow2"));
        assert_eq!(get("net0"), Some("virtio,bridge=vmbr0"));
        assert_eq!(get("boot"), Some("order=scsi0;net0"));
        assert_eq!((get("cores"), get("cpu"), get("serial0")), (Some("2"), Some("x86-64-v2-AES"), Some("socket")));
        assert_eq!((get("smbios1"), get("tags"), get("bios")), (Some("uuid=u"), Some("K8s"), None));
    }

    #[test]
    fn nothing_is_written_when_everything_is_so() {
        let now = settings(&[
            ("name", "one"),
            ("cores", "2"),
            ("tags", "k8s"),
            ("scsi0", "local-lvm:vm-100-disk-0,size=4G"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
        ]);
        assert_eq!(delta(Some(&vm()), &vm(), &now), Delta::default());
    }

    #[test]
    fn what_is_not_given_any_more_is_left_alone_and_slots_go() {
        let now = settings(&[
            ("name", "one"),
            ("cores", "4"),
            ("scsi0", "s:v,size=4G"),
            ("net0", "virtio=A,bridge=vmbr0"),
            ("net1", "virtio=B"),
        ]);
        let mut prior = vm();
        prior.network.get_mut().unwrap().insert("net1".to_owned(), Network::default());
        let options = Options {
            cores: tf::Attr::Null,
            tags: BTreeSet::new().into(),
            serial_console: false.into(),
            ..vm().options
        };
        let m = Vm { options, ..vm() };
        let delta = delta(Some(&prior), &m, &now);
        assert_eq!(delta.set, BTreeMap::new());
        assert_eq!(delta.delete, ["net1"]);
    }

    #[test]
    fn a_removal_of_somebody_elses_is_taken_back() {
        let rows = serde_json::json!([
            {"key": "name", "value": "one"}, {"key": "cores", "value": 2}, {"key": "tags", "value": "k8s"},
            {"key": "scsi0", "value": "local-lvm:vm-100-disk-0,size=4G", "delete": 1},
            {"key": "boot", "value": "order=scsi0;net0", "pending": "order=net0"},
            {"key": "net0", "value": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "delete": 1}]);
        let delta = delta(Some(&vm()), &vm(), &serde_json::from_value(rows).unwrap());
        let set: Vec<_> = delta.set.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let kept = [
            ("boot", "order=scsi0;net0"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
            ("scsi0", "local-lvm:vm-100-disk-0,size=4G"),
        ];
        assert_eq!((set.as_slice(), delta.delete.len()), (kept.as_slice(), 0));
    }

    #[test]
    fn only_what_has_an_attribute_is_worth_a_reboot() {
        assert_eq!(ours(&vm(), ["cores", "scsi0", "scsi30", "vga"].into_iter()), ["cores", "scsi0"]);
    }
}
