//! What each change of a VM does to the running machine, one line per attribute. Pure.
//!
//! Source: qemu-server 9.2's hot-plug code: what is written at once, what waits for a power cycle.

use tf::{Path, Value};

use super::model::Vm;

/// How a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Live,
    Reboot,
    /// Somebody moved the VM there.
    Moved,
    /// Creation-only: written down, without any effect.
    Recorded,
    Starts,
    Stops,
    /// Says nothing: computed, or about Terraform only.
    Silent,
}

/// Whether the configuration has values that are not known before the apply and have an effect.
pub(super) fn are_open(config: &Vm) -> bool {
    fn any(value: &Value, at: &Path) -> bool {
        match value {
            Value::Map(entries) => entries
                .iter()
                .any(|(key, value)| any(value, &if at.steps().is_empty() { at.name(key) } else { at.key(key) })),
            Value::List(items) => items.iter().any(|value| any(value, at)),
            value => value.is_unknown() && (how(at, value) != How::Silent || root(at) == "reboot"),
        }
    }
    any(&tf::dump(config), &Path::root())
}

/// Whether the plan demands a new machine, by these attributes or by a row that says so itself.
pub(super) fn replaces(prior: &Vm, m: &Vm, replacing: &[Path]) -> bool {
    let (before, after) = (tf::dump(prior), tf::dump(m));
    let other = |name: &str| before.attribute(name) != after.attribute(name) && !after.attribute(name).is_unknown();
    !replacing.is_empty() || ALWAYS_REPLACES.into_iter().any(other)
}

/// One line per attribute that changes; `replacing` are the attributes that need a new machine. `owned` is the prior machine
/// with only those disks and cards that were in the configuration.
pub(super) fn lines((prior, owned): (&Vm, &Vm), m: &Vm, replacing: &[Path]) -> Vec<String> {
    let (before, after, owned) = (tf::dump(prior), tf::dump(m), tf::dump(owned));
    let mut found = Vec::new();
    differences(&before, &after, &Path::root(), &mut found);
    found.into_iter().filter_map(|(path, old, new)| line((prior, &owned), m, replacing, (&path, &old, &new))).collect()
}

fn line(
    (prior, owned): (&Vm, &Value),
    m: &Vm,
    replacing: &[Path],
    (path, old, new): (&Path, &Value, &Value),
) -> Option<String> {
    if let [first, slot] = path.steps()
        && ["disks", "networks"].contains(&step(first).as_str())
        && new.is_null()
        && owned.attribute(&step(first)).attribute(&step(slot)).is_null()
    {
        return Some(format!("{}: was never applied from the configuration: stays as it is", plain(path)));
    }
    let how = how(path, new);
    let whole = |replaced: &Path| path.steps().starts_with(replaced.steps());
    let effect = if replacing.iter().any(whole) || ALWAYS_REPLACES.contains(&root(path)) {
        "replaces the machine".to_owned()
    } else {
        match how {
            How::Silent => return None,
            How::Live => "live".to_owned(),
            How::Moved => "the machine is there already".to_owned(),
            How::Starts => "starts the machine".to_owned(),
            How::Stops => "shuts the machine down".to_owned(),
            How::Recorded => "recorded; used at creation only".to_owned(),
            How::Reboot if !prior.started.is_true() || !m.started.is_true() => "at the next start".to_owned(),
            How::Reboot if m.reboot.is_true() => "needs a reboot, which this apply makes".to_owned(),
            How::Reboot => "needs a reboot, which `reboot = false` leaves to you".to_owned(),
        }
    };
    let what = match path.steps() {
        [first, _slot] if step(first) == "disks" && new.is_null() => "goes, with all its data".to_owned(),
        _ => shown(path, old, new),
    };
    Some(format!("{}: {what}: {effect}", plain(path)))
}

/// Every attribute whose value differs, down to single values of disks and cards.
fn differences(before: &Value, after: &Value, at: &Path, found: &mut Vec<(Path, Value, Value)>) {
    if before == after || after.is_unknown() {
        return;
    }
    match (before, after) {
        (Value::Map(old), Value::Map(new)) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if at.steps().is_empty() { at.name(key) } else { at.key(key) };
                differences(before.attribute(key), after.attribute(key), &path, found);
            }
        }
        _ => found.push((at.clone(), before.clone(), after.clone())),
    }
}

fn how(path: &Path, new: &Value) -> How {
    let parts: Vec<String> = path.steps().iter().map(step).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["name" | "description" | "tags" | "on_boot", ..] => How::Live,
        ["node"] => How::Moved,
        ["cores" | "sockets" | "cpu_type" | "memory_mib" | "guest_agent" | "serial_console", ..] => How::Reboot,
        ["started", ..] if *new == Value::Bool(true) => How::Starts,
        ["started", ..] => How::Stops,
        ["cloud_init" | "agent" | "pool" | "efi_storage" | "image" | "clone", ..] => How::Recorded,
        ["disks", slot] => {
            if slot.starts_with("sata") {
                How::Reboot
            } else {
                How::Live
            }
        }
        ["disks", _, "size_gib" | "backup" | "storage"] => How::Live,
        ["disks", _, "format"] => How::Recorded,
        ["disks", _, "volume"] => How::Silent,
        ["disks", _, _] => How::Reboot,
        ["networks", ..] => How::Live,
        _ => How::Silent,
    }
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

/// `disks.scsi0.size_gib`
fn plain(path: &Path) -> String {
    path.steps().iter().map(step).collect::<Vec<_>>().join(".")
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
    let last = path.steps().last().map(step).unwrap_or_default();
    match value {
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if NAMES.contains(&last.as_str()) => Some(text.clone()),
        _ => None,
    }
}

/// Attributes whose values are names and words of Proxmox VE.
const NAMES: [&str; 9] = ["name", "node", "image", "cpu_type", "firmware", "storage", "cache", "bridge", "model"];

/// Rows of the model that demand a new machine themselves.
const ALWAYS_REPLACES: [&str; 2] = ["vmid", "firmware"];

#[cfg(test)]
mod tests {
    use super::super::model::Disk;
    use super::*;
    use std::collections::BTreeMap;

    fn vm() -> Vm {
        let disk = Disk { storage: "s".into(), size_gib: 4.into(), discard: true.into(), ..Disk::default() };
        Vm {
            cores: 2.into(),
            started: true.into(),
            reboot: true.into(),
            disks: BTreeMap::from([("scsi0".to_owned(), disk)]).into(),
            ..Vm::default()
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Vm), expected: &[&str]) {
        let mut m = vm();
        change(&mut m);
        assert_eq!(lines((&vm(), &vm()), &m, &[]), expected);
    }

    #[test]
    fn each_change_says_what_it_does() {
        check(|_| {}, &[]);
        check(|m| m.cores.set(4), &["cores: 2 -> 4: needs a reboot, which this apply makes"]);
        check(
            |m| {
                m.cores.set(4);
                m.reboot.set(false);
            },
            &["cores: 2 -> 4: needs a reboot, which `reboot = false` leaves to you"],
        );
        check(|m| m.started.set(false), &["started: true -> false: shuts the machine down"]);
        check(|m| m.name.set("web"), &["name: web: live"]);
        check(|m| m.description.set(""), &["description: is emptied: live"]);
        check(|m| m.description.set("the password is x"), &["description: is added: live"]);
        check(|m| m.node.set("pve2"), &["node: pve2: the machine is there already"]);
        let disk = |m: &mut Vm, change: fn(&mut Disk)| m.disks.get_mut().unwrap().values_mut().for_each(change);
        check(|m| disk(m, |disk| disk.size_gib.set(5)), &["disks.scsi0.size_gib: 4 -> 5: live"]);
        check(
            |m| disk(m, |disk| disk.discard.set(false)),
            &["disks.scsi0.discard: true -> false: needs a reboot, which this apply makes"],
        );
        check(
            |m| drop(m.disks.get_mut().unwrap().insert("scsi1".to_owned(), Disk::default())),
            &["disks.scsi1: is added: live"],
        );
        check(|m| m.disks.set(BTreeMap::new()), &["disks.scsi0: goes, with all its data: live"]);
        check(|m| m.vmid.set(120), &["vmid: 120: replaces the machine"]);
    }

    #[test]
    fn what_replaces_says_so_and_a_new_image_does_not() {
        let mut m = vm();
        m.agent = tf::Attr::Known(super::super::model::Agent::default());
        assert_eq!(lines((&vm(), &vm()), &m, &["agent".into()]), ["agent: is added: replaces the machine"]);
        check(
            |m| m.image.set("local:import/x.qcow2"),
            &["image: local:import/x.qcow2: recorded; used at creation only"],
        );
    }
}
