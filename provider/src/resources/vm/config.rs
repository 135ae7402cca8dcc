//! Plain options: between the model and Proxmox VE's own keys. With `disks`, the only code that knows them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pve::{Params, PropertyString, Settings};

use super::disks;
use super::model::Vm;

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
    let delta = plain(m, &Settings::default());
    let mut params = Params::new();
    for (key, value) in
        [("cpu", DEFAULT_CPU), ("ostype", "l26"), ("scsihw", "virtio-scsi-single"), ("serial0", "socket")]
    {
        params.set(key, value);
    }
    if m.serial_console.get() == Some(&false) {
        params = params.iter().filter(|(key, _)| *key != "serial0").fold(Params::new(), |p, (k, v)| p.with(k, v));
    }
    params.extend(&delta.params());
    params.set("smbios1", format!("uuid={uuid}"));
    let all = disks::of(m);
    let first = disks::first(&all).map(str::to_owned);
    for (slot, disk) in &all {
        let image = m.image.text().filter(|_| first.as_deref() == Some(slot.as_str()));
        params.set(slot, disks::fresh(disk, image));
    }
    let cards = disks::cards_of(m);
    for (slot, card) in &cards {
        params.set(slot, disks::card(None, card));
    }
    if m.firmware.text() == Some("ovmf") {
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
    let mut delta = plain(m, now);
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
    for (slot, card) in &disks::cards_of(m) {
        let present = now.written(slot).or_else(|| now.leaving(slot));
        differs(&mut delta, slot, now.written(slot).unwrap_or_default(), disks::card(present, card));
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
    let (disks, cards) = (disks::of(m), disks::cards_of(m));
    let is_ours = |key: &str| {
        let plain = matches!(key, "cores" | "sockets" | "memory" | "cpu" | "agent" | "serial0");
        plain || disks.contains_key(key) || cards.contains_key(key)
    };
    waiting.filter(|key| is_ours(key)).map(str::to_owned).collect()
}

/// Slots that were ours and are not any more.
#[derive(Debug, Default, PartialEq, Eq)]
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
        cards: less(disks::cards_of(prior).into_keys().collect(), disks::cards_of(m).into_keys().collect()),
    }
}

fn differs(delta: &mut Delta, slot: &str, present: &str, wanted: String) {
    if present != wanted {
        delta.set.insert(slot.to_owned(), wanted);
    }
}

/// The options that have an attribute of their own, as far as they differ.
fn plain(m: &Vm, now: &Settings) -> Delta {
    let mut delta = Delta::default();
    let mut set = |key: &str, value: Option<String>, is_so: bool| {
        if let Some(value) = value.filter(|_| !is_so) {
            delta.set.insert(key.to_owned(), value);
        }
    };
    let seen = Seen(now);
    let number = |value: Option<&i64>| value.map(i64::to_string);
    set("name", m.name.cloned(), now.written("name") == m.name.text());
    set("tags", m.tags.get().map(join), m.tags.get().is_some_and(|tags| lower(tags) == lower(&seen.tags())));
    set("cores", number(m.cores.get()), m.cores.get() == Some(&seen.cores()));
    set("sockets", number(m.sockets.get()), m.sockets.get() == Some(&seen.sockets()));
    set("memory", number(m.memory_mib.get()), m.memory_mib.get() == Some(&seen.memory()));
    set("cpu", m.cpu_type.cloned(), m.cpu_type.text().is_some_and(|cpu| same_cpu(cpu, &seen.cpu())));
    set("bios", m.firmware.cloned(), m.firmware.text() == Some(&seen.firmware()));
    set("onboot", m.on_boot.get().map(|on| u8::from(*on).to_string()), m.on_boot.get() == Some(&seen.on_boot()));
    let agent = m.guest_agent.get().map(|on| with_agent(now.written("agent"), *on));
    set("agent", agent, m.guest_agent.get() == Some(&seen.guest_agent()));
    let serial = m.serial_console.get();
    set("serial0", serial.filter(|on| **on).map(|_| "socket".to_owned()), seen.serial());
    if serial == Some(&false) && seen.serial() {
        delta.delete.push("serial0".to_owned());
    }
    if delta.set.get("tags").is_some_and(String::is_empty) {
        delta.set.remove("tags");
        delta.delete.push("tags".to_owned());
    }
    delta
}

/// Options as they will be after the next power cycle, with Proxmox VE's own defaults.
pub(super) struct Seen<'a>(pub(super) &'a Settings);

impl Seen<'_> {
    fn number(&self, key: &str, default: i64) -> i64 {
        self.0.written(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    pub(super) fn cores(&self) -> i64 {
        self.number("cores", 1)
    }

    pub(super) fn sockets(&self) -> i64 {
        self.number("sockets", 1)
    }

    /// `2048` or `current=2048`
    pub(super) fn memory(&self) -> i64 {
        let text = PropertyString::parse(self.0.written("memory").unwrap_or_default());
        text.bare().or_else(|| text.get("current")).and_then(|text| text.parse().ok()).unwrap_or(512)
    }

    pub(super) fn cpu(&self) -> String {
        self.0.written("cpu").unwrap_or("kvm64").to_owned()
    }

    pub(super) fn firmware(&self) -> String {
        self.0.written("bios").unwrap_or("seabios").to_owned()
    }

    pub(super) fn on_boot(&self) -> bool {
        self.0.written("onboot").is_some_and(|text| text == "1")
    }

    pub(super) fn guest_agent(&self) -> bool {
        let text = PropertyString::parse(self.0.written("agent").unwrap_or("0"));
        text.bare().map_or_else(|| text.truth("enabled").unwrap_or(false), |bare| bare == "1")
    }

    pub(super) fn serial(&self) -> bool {
        self.0.written("serial0").is_some()
    }

    pub(super) fn tags(&self) -> BTreeSet<String> {
        let separator = |c: char| matches!(c, ';' | ',' | ' ');
        let text = self.0.written("tags").unwrap_or_default();
        text.split(separator).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
    }

    /// The SMBIOS UUID, in lower case.
    pub(super) fn uuid(&self) -> Option<String> {
        PropertyString::parse(self.0.written("smbios1")?).get("uuid").map(str::to_ascii_lowercase)
    }
}

/// The same model with the same options, in whatever order and spelling.
pub(super) fn same_cpu(a: &str, b: &str) -> bool {
    let parts = |text: &str| {
        let property = PropertyString::parse(text);
        let named = |key: Option<&str>| key.unwrap_or("cputype").to_owned();
        property.iter().map(|(key, value)| (named(key), value.to_owned())).collect::<BTreeSet<_>>()
    };
    parts(a) == parts(b)
}

/// Proxmox VE keeps tags in lower case.
pub(super) fn lower(tags: &BTreeSet<String>) -> BTreeSet<String> {
    tags.iter().map(|tag| tag.to_lowercase()).collect()
}

fn join(tags: &BTreeSet<String>) -> String {
    tags.iter().map(String::as_str).collect::<Vec<_>>().join(";")
}

fn with_agent(present: Option<&str>, on: bool) -> String {
    let text = PropertyString::parse(present.unwrap_or_default());
    let rest = text.iter().filter_map(|(key, value)| key.filter(|key| *key != "enabled").map(|key| (key, value)));
    let mut agent = PropertyString::of(u8::from(on).to_string());
    rest.for_each(|(key, value)| agent.set(key, value));
    agent.to_string()
}

/// Proxmox VE's own default lacks what newer distributions are built for.
pub(super) const DEFAULT_CPU: &str = "x86-64-v2-AES";

#[cfg(test)]
mod tests {
    use super::super::model::{Disk, Network};
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
            cores: 2.into(),
            memory_mib: 512.into(),
            tags: BTreeSet::from(["K8s".to_owned()]).into(),
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
        assert_eq!((get("cores"), get("cpu"), get("serial0")), (Some("2"), Some(DEFAULT_CPU), Some("socket")));
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
        let m = Vm { cores: tf::Attr::Null, tags: BTreeSet::new().into(), serial_console: false.into(), ..vm() };
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

    #[test]
    fn the_guest_agents_other_options_stay() {
        assert_eq!(with_agent(Some("enabled=0,type=isa"), true), "1,type=isa");
        let m = Vm { guest_agent: true.into(), ..Vm::default() };
        assert!(delta(None, &m, &settings(&[("agent", "enabled=1,fstrim_cloned_disks=1")])).is_empty());
    }

    #[test]
    fn cpu_types_are_compared_by_meaning() {
        assert!(same_cpu("host,flags=+aes", "flags=+aes,cputype=host"));
        assert!(!same_cpu("host", "host,flags=+aes"));
    }
}
