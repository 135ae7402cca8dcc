//! Every row against Proxmox VE's own schema, every key of the schema against the rows, and what follows from a row.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect_file;

use super::super::cards::Network;
use super::super::disks::Disk;
use super::super::model::Vm;
use super::super::option::{Facts, Table};
use super::*;

/// What the schema says of a key.
#[derive(Debug)]
struct Declared<'a> {
    kind: &'a str,
    low: Option<i64>,
    high: Option<i64>,
    words: Vec<&'a str>,
}

/// The schema by key, and the sub-key of each property string whose name may be left out.
fn schema() -> (BTreeMap<&'static str, Declared<'static>>, BTreeMap<&'static str, &'static str>) {
    let (mut all, mut bare) = (BTreeMap::new(), BTreeMap::new());
    for line in include_str!("schema.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split(' ');
        let (name, kind) = (columns.next().unwrap(), columns.next().unwrap());
        let mut declared = Declared { kind, low: None, high: None, words: Vec::new() };
        for column in columns {
            match column.split_once("..") {
                Some((low, high)) => (declared.low, declared.high) = (low.parse().ok(), high.parse().ok()),
                None => declared.words = column.split('|').collect(),
            }
        }
        let key = name.trim_end_matches('*');
        if let Some((parent, _)) = key.split_once('.').filter(|_| name.ends_with('*')) {
            bare.insert(parent, key);
        }
        all.insert(key, declared);
    }
    (all, bare)
}

fn facts(table: &Table<'_>) -> Vec<Facts> {
    table.iter().map(|option| option.facts()).collect()
}

/// `serial0` is one of `serial[n]`.
fn numbered(key: &str) -> String {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    if name == key { key.to_owned() } else { format!("{name}[n]") }
}

/// What is wrong with a row's values by the schema.
fn fault(facts: &Facts, declared: &Declared<'_>) -> Option<String> {
    let fits = match facts.values {
        // A switch has words of its own, and a device is there or not.
        Values::Flag => declared.kind == "boolean" || declared.words.len() == 2 || facts.key.ends_with('0'),
        Values::Whole(low, high) => {
            let below = |ours: Option<i64>| declared.high.is_none_or(|theirs| ours.is_some_and(|ours| ours <= theirs));
            declared.kind == "integer" && declared.low.is_none_or(|theirs| theirs == low) && below(high)
        }
        Values::Mib(low) => declared.kind == "integer" && declared.low == Some(low),
        Values::Words(words) => !words.is_empty() && words.iter().all(|word| declared.words.contains(word)),
        Values::Name(_) | Values::Text(_) | Values::Each(_) => declared.kind == "string" && declared.words.is_empty(),
    };
    (!fits).then(|| format!("{}: {:?} is not {declared:?}", facts.attribute, facts.values))
}

#[test]
fn every_row_is_as_proxmox_ve_has_it() {
    let (schema, bare) = schema();
    let mut wrong = Vec::new();
    for facts in facts(&Options::default().table()) {
        let key = numbered(facts.key);
        let key = bare.get(key.as_str()).copied().unwrap_or(&key);
        wrong.extend(fault(&facts, &schema[key]));
    }
    for facts in facts(&Network::default().table()) {
        wrong.extend(fault(&facts, &schema[format!("net[n].{}", facts.key).as_str()]));
    }
    for bus in ["scsi[n]", "virtio[n]", "sata[n]"] {
        for facts in facts(&Disk::default().table()) {
            let key = format!("{bus}.{}", facts.key);
            match schema.get(key.as_str()) {
                Some(declared) => wrong.extend(fault(&facts, declared)),
                // `plan/validate` says that these are not.
                None => assert!(["virtio[n].ssd", "sata[n].iothread"].contains(&key.as_str()), "{key}"),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_key_of_proxmox_ve_is_a_row_or_has_a_reason() {
    let (schema, _) = schema();
    let mut known: BTreeSet<String> =
        facts(&Options::default().table()).iter().map(|facts| numbered(facts.key)).collect();
    known.extend(facts(&Network::default().table()).iter().map(|facts| format!("net[n].{}", facts.key)));
    for bus in ["scsi[n]", "virtio[n]", "sata[n]"] {
        known.extend(facts(&Disk::default().table()).iter().map(|facts| format!("{bus}.{}", facts.key)));
    }
    for (key, reason) in REASONS {
        assert!(schema.contains_key(key), "the schema has no {key}");
        assert!(!known.contains(*key), "{key} has a row, and no reason not to: {reason}");
    }
    let reasons: BTreeSet<&str> = REASONS.iter().map(|(key, _)| *key).collect();
    let mut open = String::new();
    for key in schema.keys() {
        let parent = key.split_once('.').map(|(parent, _)| parent);
        // A key that is written as a whole, or not at all, speaks for what is in it.
        let by_parent = parent.is_some_and(|parent| !DEVICES.contains(&parent));
        if !known.contains(*key) && !reasons.contains(key) && !by_parent {
            open.push_str(key);
            open.push('\n');
        }
    }
    expect_file!["not_yet.txt"].assert_eq(&open);
}

/// Property strings with a table of their sub-keys.
const DEVICES: [&str; 4] = ["net[n]", "scsi[n]", "virtio[n]", "sata[n]"];

/// Keys that will not have a row.
const REASONS: &[(&str, &str)] = &[
    ("node", WHERE),
    ("vmid", WHERE),
    ("name", "it is the machine's hostname too"),
    ("description", "it carries the mark of a creation"),
    ("pool", "a call of its own changes it"),
    ("boot", DERIVED),
    ("scsihw", DERIVED),
    ("ostype", DERIVED),
    ("smbios1", DERIVED),
    ("efidisk0", DERIVED),
    ("ipconfig[n]", "it only records the addresses of `cloud_init`"),
    ("net[n]", TABLE),
    ("scsi[n]", TABLE),
    ("virtio[n]", TABLE),
    ("sata[n]", TABLE),
    ("scsi[n].file", VOLUME),
    ("scsi[n].format", VOLUME),
    ("scsi[n].import-from", VOLUME),
    ("scsi[n].size", VOLUME),
    ("scsi[n].media", SEED),
    ("virtio[n].file", VOLUME),
    ("virtio[n].format", VOLUME),
    ("virtio[n].import-from", VOLUME),
    ("virtio[n].size", VOLUME),
    ("virtio[n].media", SEED),
    ("sata[n].file", VOLUME),
    ("sata[n].format", VOLUME),
    ("sata[n].import-from", VOLUME),
    ("sata[n].size", VOLUME),
    ("sata[n].media", SEED),
    ("unused[n]", "a volume without a slot is shown by `lost_on_destroy`, and nobody gives one"),
    ("cicustom", SEED),
    ("cipassword", SEED),
    ("citype", SEED),
    ("ciupgrade", SEED),
    ("ciuser", SEED),
    ("nameserver", SEED),
    ("searchdomain", SEED),
    ("sshkeys", SEED),
    ("archive", CALL),
    ("bwlimit", CALL),
    ("delete", CALL),
    ("digest", CALL),
    ("force", CALL),
    ("ha-managed", CALL),
    ("import-working-storage", CALL),
    ("live-restore", CALL),
    ("lock", CALL),
    ("revert", CALL),
    ("skiplock", CALL),
    ("start", CALL),
    ("storage", CALL),
    ("unique", CALL),
    ("bootdisk", OLD),
    ("cdrom", OLD),
    ("smp", OLD),
];

const WHERE: &str = "it says which VM";
const DERIVED: &str = "it follows from other attributes";
const TABLE: &str = "it has a table of its own";
const VOLUME: &str = "it is the volume, which other calls make and grow";
const SEED: &str = "the seed image takes its place";
const CALL: &str = "it is about the call, not the VM";
const OLD: &str = "another key took its place";

#[test]
fn the_guide_names_every_privilege() {
    let guide = include_str!("../../../../../docs/guides/privileges.md");
    let mut all = facts(&Options::default().table());
    all.extend(facts(&Disk::default().table()));
    all.extend(facts(&Network::default().table()));
    for Facts { attribute, privilege, .. } in all {
        assert!(guide.contains(privilege), "{privilege}, for {attribute}");
    }
}

/// One line per attribute: read a difference as somebody whose machine runs.
#[test]
fn every_attribute_says_what_a_change_of_it_does() {
    let lines = |of: &str, all: Vec<Attribute<'_>>| -> String {
        all.iter().map(|one| format!("{of}{}: {:?}\n", one.row.name(), one.effect)).collect()
    };
    let said = [
        lines("", Vm::default().attributes()),
        lines("disk.", Disk::default().attributes()),
        lines("network.", Network::default().attributes()),
    ];
    expect_file!["effects.txt"].assert_eq(&said.concat());
}

fn settings(rows: &[(&str, &str)]) -> Settings {
    let rows: Vec<_> = rows.iter().map(|(key, value)| serde_json::json!({ "key": key, "value": value })).collect();
    serde_json::from_value(rows.into()).unwrap()
}

#[test]
fn what_is_not_written_is_proxmox_ves_default_and_new_vms_get_ours() {
    let mut there = Options::default();
    there.fill(&Settings::default());
    assert_eq!((there.cpu_type.text(), there.memory_mib.get()), (Some("kvm64"), Some(&512)));
    assert_eq!((there.serial_console.get(), there.firmware.text()), (Some(&false), Some("seabios")));
    let given = Options { cores: 4.into(), ..Options::default() };
    let delta = given.with_defaults().delta(&Settings::default());
    let set: Vec<_> = delta.set.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(set, [("cores", "4"), ("cpu", "x86-64-v2-AES"), ("serial0", "socket")]);
    assert!(delta.delete.is_empty());
}

#[test]
fn what_a_row_writes_it_reads_back() {
    let (mut options, mut disk, mut card) = (Options::default(), Disk::default(), Network::default());
    let mut written = 0;
    for mut option in [options.table(), disk.table(), card.table()].into_iter().flatten() {
        option.default_if_not_given();
        let Some(Write::Set(text)) = option.difference(None) else { continue };
        assert_eq!(option.difference(Some(&text)), None, "{:?}", option.facts());
        option.fill(Some(&text));
        assert_eq!(option.difference(Some(&text)), None, "{:?}", option.facts());
        written += 1;
    }
    assert!(written >= 3, "what new ones get beside Proxmox VE's own defaults: {written}");
}

#[test]
fn what_means_the_same_keeps_its_spelling_and_is_not_written() {
    let own = Options {
        cpu_type: "flags=+aes,cputype=host".into(),
        tags: BTreeSet::from(["K8s".to_owned()]).into(),
        memory_mib: 2048.into(),
        ..Options::default()
    };
    let now = settings(&[("cpu", "host,flags=+aes"), ("tags", "k8s"), ("memory", "current=2048")]);
    assert_eq!(own.delta(&now), Delta::default());
    let mut read = own.clone();
    read.fill(&now);
    assert_eq!((&read.cpu_type, &read.tags), (&own.cpu_type, &own.tags));
    assert!(!own.delta(&settings(&[("cpu", "host"), ("tags", "k8s"), ("memory", "2048")])).is_empty());
}

#[test]
fn the_guest_agents_other_options_stay() {
    let on = Options { guest_agent: true.into(), ..Options::default() };
    assert_eq!(on.delta(&settings(&[("agent", "enabled=0,type=isa")])).set["agent"], "1,type=isa");
    assert!(on.delta(&settings(&[("agent", "enabled=1,fstrim_cloned_disks=1")])).is_empty());
}

#[test]
fn what_is_given_up_is_taken_away() {
    let none = Options { tags: BTreeSet::new().into(), serial_console: false.into(), ..Options::default() };
    assert_eq!(none.delta(&settings(&[("tags", "a"), ("serial0", "socket")])).delete, ["tags", "serial0"]);
    assert!(none.delta(&Settings::default()).is_empty());
}
