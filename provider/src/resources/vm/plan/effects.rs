//! What each change of a VM does to the machine, one line per attribute. Pure.

use std::collections::BTreeSet;

use tf::{Path, Value};

use super::hotplug::WHOLE_CARD;
use crate::resources::vm::cards::Network;
use crate::resources::vm::disks::Disk;
use crate::resources::vm::effect::{Attribute, Class, Effect, Takes};
use crate::resources::vm::model::Vm;
use crate::resources::vm::notes::noted::{Held, Noted};

/// How a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// An option of the VM.
    Change(Takes),
    /// Somebody moved the VM there.
    Moved,
    /// Creation-only: written down, without any effect.
    Recorded,
    Starts,
    Stops,
    /// A disk that a snapshot uses: asked for again, with no power cycle.
    Held,
    /// A disk would shrink.
    Refused,
    /// Says nothing: computed, or about Terraform only.
    Silent,
}

/// A planned change.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) prior: &'a Vm,
    /// The prior machine with only those disks and cards that were in the configuration.
    pub(super) owned: &'a Vm,
    pub(super) m: &'a Vm,
    /// The attributes that need a new machine.
    pub(super) replacing: &'a [Path],
    pub(super) noted: &'a Noted,
}

/// One attribute that differs.
struct Difference {
    path: Path,
    parts: Vec<String>,
    old: Value,
    new: Value,
}

/// Whether the configuration has values that are not known before the apply and have an effect.
pub(super) fn are_open(config: &Vm) -> bool {
    fn any(value: &Value, at: &Path) -> bool {
        match value {
            Value::Map(entries) => entries
                .iter()
                .any(|(key, value)| any(value, &if at.steps().is_empty() { at.name(key) } else { at.key(key) })),
            Value::List(items) => items.iter().any(|value| any(value, at)),
            value => {
                let speaks = how(&names(at), &Value::Null, value, &Noted::default()) != How::Silent;
                value.is_unknown() && (speaks || root(at) == "reboot")
            }
        }
    }
    any(&tf::dump(config), &Path::root())
}

/// What demands a new machine: these attributes, and rows that say so themselves.
pub(super) fn replacing(prior: &Vm, m: &Vm, named: &[Path]) -> Vec<Path> {
    let (before, after) = (tf::dump(prior), tf::dump(m));
    let other = |name: &&str| before.attribute(name) != after.attribute(name) && !after.attribute(name).is_unknown();
    let mut all = Vm::default();
    let always = all.attributes().into_iter().filter(needs_a_new_machine).map(|attribute| attribute.row.name());
    named.iter().cloned().chain(always.filter(other).map(Path::from)).collect()
}

/// Rows that demand a new machine themselves.
fn needs_a_new_machine(attribute: &Attribute<'_>) -> bool {
    attribute.effect == Effect::Option(Takes::NewMachine)
}

/// Whether one of these lines announces a reboot by this apply.
pub(super) fn announce_reboot(lines: &[String]) -> bool {
    lines.iter().any(|line| line.ends_with(REBOOTS))
}

/// One line per attribute that changes.
pub(super) fn lines(change: Change<'_>) -> Vec<String> {
    let (before, after, owned) = (tf::dump(change.prior), tf::dump(change.m), tf::dump(change.owned));
    let mut found = Vec::new();
    differences(&before, &after, &Path::root(), &mut found);
    let waiting = waiting_lines(change, &found);
    found.iter().filter_map(|difference| line(change, &owned, &waiting, difference)).collect()
}

/// The slots whose whole line waits: for a value that cannot change live, now or since an earlier change.
fn waiting_lines(change: Change<'_>, found: &[Difference]) -> BTreeSet<String> {
    let waits = |difference: &&Difference| {
        let how = how(&difference.parts, &difference.old, &difference.new, change.noted);
        matches!(how, How::Change(takes) if takes.waits(change.noted))
    };
    let slot = |difference: &Difference| difference.parts.get(1).cloned();
    let now = found.iter().filter(waits).filter_map(slot);
    now.chain(change.prior.waiting.cloned().unwrap_or_default()).collect()
}

fn line(
    change: Change<'_>,
    owned: &Value,
    waiting: &BTreeSet<String>,
    Difference { path, parts, old, new }: &Difference,
) -> Option<String> {
    let Change { m, replacing, noted, .. } = change;
    if let [first, slot] = parts.as_slice()
        && ["disk", "network"].contains(&first.as_str())
        && new.is_null()
        && owned.attribute(first).attribute(slot).is_null()
    {
        return Some(format!("{}: was never applied from the configuration: stays as it is", parts.join(".")));
    }
    let whole = |replaced: &Path| path.steps().starts_with(replaced.steps());
    let how = how(parts, old, new, noted);
    let effect = if replacing.iter().any(whole) || how == How::Change(Takes::NewMachine) {
        "replaces the machine".to_owned()
    } else {
        match how {
            How::Silent => return None,
            How::Moved => "the machine is there already".to_owned(),
            How::Starts => "starts the machine".to_owned(),
            How::Stops => "shuts the machine down".to_owned(),
            How::Recorded => "recorded; used at creation only".to_owned(),
            How::Held => "not while a snapshot uses it, which this apply looks for again".to_owned(),
            How::Refused => "refused, for a disk cannot shrink: this apply will change nothing".to_owned(),
            How::Change(takes) => {
                let in_a_waiting_line =
                    matches!(parts.as_slice(), [_, slot, name] if name != "size_gib" && waiting.contains(slot));
                let waits = takes.waits(noted) || in_a_waiting_line;
                format!("{}{}", time(change.prior, m, waits), aside(parts, old, new))
            }
        }
    };
    let what = match parts.as_slice() {
        [first, slot] if new.is_null() && ["disk", "network"].contains(&first.as_str()) => {
            let what = if first == "disk" { "goes, with all its data" } else { "goes" };
            let why = if noted.held(slot) == Some(Held::Guest) { UNYIELDING } else { "" };
            format!("{what}{why}")
        }
        _ => shown(path, old, new),
    };
    Some(format!("{}: {what}: {effect}", parts.join(".")))
}

/// When a change is in force.
fn time(prior: &Vm, m: &Vm, waits: bool) -> &'static str {
    match waits {
        false => "live",
        true if !prior.started.is_true() || !m.started.is_true() => "at the next start",
        true if m.reboot.is_true() => REBOOTS,
        true => "needs a reboot, which `reboot = false` leaves to you",
    }
}

/// What the guest notices beside the change itself.
fn aside(parts: &[String], old: &Value, new: &Value) -> &'static str {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["network", _, "mac"] if !old.is_null() && !new.is_null() => CUT_OFF,
        _ => "",
    }
}

/// Every attribute whose value differs, down to single values of disks and cards.
fn differences(before: &Value, after: &Value, at: &Path, found: &mut Vec<Difference>) {
    if before == after || after.is_unknown() {
        return;
    }
    match (before, after) {
        (Value::Map(old), Value::Map(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if at.steps().is_empty() { at.name(key) } else { at.key(key) };
                differences(before.attribute(key), after.attribute(key), &path, found);
            }
        }
        _ => {
            let (path, parts) = (at.clone(), names(at));
            found.push(Difference { path, parts, old: before.clone(), new: after.clone() });
        }
    }
}

fn how(parts: &[String], old: &Value, new: &Value, noted: &Noted) -> How {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["disk", slot] if new.is_null() && noted.held(slot) == Some(Held::Snapshot) => How::Held,
        // Asked for earlier, and the machine did not let go of it.
        ["disk" | "network", slot] if new.is_null() && noted.is_leaving(slot) => How::Change(Takes::PowerCycle),
        ["disk", slot] if new.is_null() => How::Change(Takes::old_disk(slot, noted)),
        ["disk", slot] => How::Change(Takes::new_disk(slot)),
        ["disk", _, "size_gib"] if shrinks(old, new) => How::Refused,
        ["disk"] => How::Change(Takes::Plugged(Class::Disk)),
        ["network"] | ["network", _] => How::Change(WHOLE_CARD),
        parts => match declared(parts).map(|(effect, _)| effect) {
            Some(Effect::Option(takes)) => How::Change(takes),
            Some(Effect::Recorded) => How::Recorded,
            Some(Effect::Moves) => How::Moved,
            Some(Effect::Power) if *new == Value::Bool(true) => How::Starts,
            Some(Effect::Power) => How::Stops,
            Some(Effect::Nothing | Effect::Devices) | None => How::Silent,
        },
    }
}

/// What the attribute says of itself: what a change of it does, and whether its text is a name. What is below a block follows it.
fn declared(parts: &[&str]) -> Option<(Effect, bool)> {
    let find = |all: Vec<Attribute<'_>>, name: &str| {
        all.into_iter().find(|one| one.row.name() == name).map(|one| (one.effect, one.is_name))
    };
    match parts {
        ["disk", _, name] => find(Disk::default().attributes(), name),
        ["network", _, name] => find(Network::default().attributes(), name),
        [name] => find(Vm::default().attributes(), name),
        [name, .., last] => {
            find(Vm::default().attributes(), name).map(|(effect, _)| (effect, NAMES_IN_BLOCKS.contains(last)))
        }
        [] => None,
    }
}

fn shrinks(old: &Value, new: &Value) -> bool {
    matches!((old, new), (Value::Number(old), Value::Number(new)) if new.to_i64() < old.to_i64())
}

/// The attribute's own name, or a map's key.
fn step(step: &tf::PathStep) -> String {
    match step {
        tf::PathStep::Name(name) | tf::PathStep::Key(name) => name.clone(),
        tf::PathStep::Index(index) => index.to_string(),
    }
}

fn root(path: &Path) -> &str {
    match path.steps().first() {
        Some(tf::PathStep::Name(name) | tf::PathStep::Key(name)) => name,
        Some(tf::PathStep::Index(_)) | None => "",
    }
}

/// `disks`, `scsi0`, `size_gib`
fn names(path: &Path) -> Vec<String> {
    path.steps().iter().map(step).collect()
}

fn shown(path: &Path, old: &Value, new: &Value) -> String {
    match (text(path, old), text(path, new)) {
        _ if new.text() == Some("") => "is emptied".to_owned(),
        (Some(old), Some(new)) => format!("{old} -> {new}"),
        (None, Some(new)) => new,
        (Some(old), None) if new.is_null() => format!("{old} goes"),
        _ if new.is_null() => "goes".to_owned(),
        _ if old.is_null() => "is added".to_owned(),
        _ => "changes".to_owned(),
    }
}

/// Numbers and names of things are shown, the rest is not: Terraform hides what the user marks as sensitive, and we cannot
/// see the mark.
fn text(path: &Path, value: &Value) -> Option<String> {
    let parts = names(path);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match value {
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if declared(&parts).is_some_and(|(_, is_name)| is_name) => Some(text.clone()),
        _ => None,
    }
}

/// Names in blocks that are used at creation only.
const NAMES_IN_BLOCKS: [&str; 2] = ["name", "storage"];

const UNYIELDING: &str = ", and the guest has not given it up yet";

const REBOOTS: &str = "needs a reboot, which this apply makes";

const CUT_OFF: &str = ", and cuts the guest off there: its network settings name the card by the old address";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::vm::cards::Network;
    use crate::resources::vm::disks::Disk;
    use crate::resources::vm::options::Options;
    use std::collections::BTreeMap;

    fn vm() -> Vm {
        let disk = Disk { storage: "s".into(), size_gib: 4.into(), discard: true.into(), ..Disk::default() };
        Vm {
            options: Options { cores: 2.into(), ..Options::default() },
            started: true.into(),
            reboot: true.into(),
            disk: BTreeMap::from([("scsi0".to_owned(), disk)]).into(),
            ..Vm::default()
        }
    }

    fn of(prior: &Vm, m: &Vm, replacing: &[Path], noted: &Noted) -> Vec<String> {
        lines(Change { prior, owned: prior, m, replacing, noted })
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Vm), expected: &[&str]) {
        let mut m = vm();
        change(&mut m);
        assert_eq!(of(&vm(), &m, &[], &Noted::default()), expected);
    }

    #[test]
    fn each_change_says_what_it_does() {
        check(|_| {}, &[]);
        check(|m| m.options.cores.set(4), &["cores: 2 -> 4: needs a reboot, which this apply makes"]);
        check(
            |m| {
                m.options.cores.set(4);
                m.reboot.set(false);
            },
            &["cores: 2 -> 4: needs a reboot, which `reboot = false` leaves to you"],
        );
        check(|m| m.started.set(false), &["started: true -> false: shuts the machine down"]);
        check(|m| m.name.set("web"), &["name: web: live"]);
        check(|m| m.description.set(""), &["description: is emptied: live"]);
        check(|m| m.description.set("the password is x"), &["description: is added: live"]);
        check(|m| m.node.set("pve2"), &["node: pve2: the machine is there already"]);
        let disk = |m: &mut Vm, change: fn(&mut Disk)| m.disk.get_mut().unwrap().values_mut().for_each(change);
        check(|m| disk(m, |disk| disk.size_gib.set(5)), &["disk.scsi0.size_gib: 4 -> 5: live"]);
        check(
            |m| disk(m, |disk| disk.discard.set(false)),
            &["disk.scsi0.discard: true -> false: needs a reboot, which this apply makes"],
        );
        check(
            |m| drop(m.disk.get_mut().unwrap().insert("scsi1".to_owned(), Disk::default())),
            &["disk.scsi1: is added: live"],
        );
        check(|m| m.disk.set(BTreeMap::new()), &["disk.scsi0: goes, with all its data: live"]);
        check(|m| m.vmid.set(120), &["vmid: 120: replaces the machine"]);
    }

    #[test]
    fn what_replaces_says_so_and_a_new_image_does_not() {
        let mut m = vm();
        m.agent = tf::Attr::Known(crate::resources::vm::model::Agent::default());
        let replacing = ["agent".into()];
        assert_eq!(of(&vm(), &m, &replacing, &Noted::default()), ["agent: is added: replaces the machine"]);
        check(
            |m| m.image.set("local:import/x.qcow2"),
            &["image: local:import/x.qcow2: recorded; used at creation only"],
        );
    }

    #[test]
    fn what_hotplug_allows_decides() {
        let card = Network { bridge: "vmbr0".into(), mac: "BC:24:11:00:00:01".into(), ..Network::default() };
        let prior = Vm { network: BTreeMap::from([("net0".to_owned(), card)]).into(), ..vm() };
        let said = |noted: &Noted, change: fn(&mut Vm)| {
            let mut m = prior.clone();
            change(&mut m);
            of(&prior, &m, &[], noted)
        };
        let card = |m: &mut Vm| m.network.get_mut().unwrap().get_mut("net0").unwrap().bridge.set("vmbr1");
        let mac = |m: &mut Vm| m.network.get_mut().unwrap().get_mut("net0").unwrap().mac.set("BC:24:11:00:00:02");
        let both: fn(&mut Vm) = |m| {
            let disk = m.disk.get_mut().unwrap().get_mut("scsi0").unwrap();
            disk.backup.set(false);
            disk.discard.set(false);
            disk.size_gib.set(5);
        };
        let (all, none) = (Noted::default(), Noted::new(Some("0"), &[]));
        assert_eq!(said(&all, |m| m.disk.set(BTreeMap::new())), ["disk.scsi0: goes, with all its data: live"]);
        let line = format!("disk.scsi0: goes, with all its data: {REBOOTS}");
        assert_eq!(said(&none, |m| m.disk.set(BTreeMap::new())), [line.as_str()]);
        assert_eq!(said(&Noted::new(None, &["scsi0"]), |m| m.disk.set(BTreeMap::new())), [line]);
        assert_eq!(said(&none, card), ["network.net0.bridge: vmbr0 -> vmbr1: live"]);
        assert_eq!(said(&all, mac), [format!("network.net0.mac: changes: live{CUT_OFF}")]);
        assert_eq!(said(&none, mac), [format!("network.net0.mac: changes: {REBOOTS}{CUT_OFF}")]);
        assert_eq!(
            said(&all, both),
            [
                format!("disk.scsi0.backup: false: {REBOOTS}"),
                format!("disk.scsi0.discard: true -> false: {REBOOTS}"),
                "disk.scsi0.size_gib: 4 -> 5: live".to_owned(),
            ]
        );
        assert!(
            said(&all, |m| m.disk.get_mut().unwrap().get_mut("scsi0").unwrap().size_gib.set(3))[0].contains("refused")
        );
    }
}
