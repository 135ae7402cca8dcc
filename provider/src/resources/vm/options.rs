//! The plain options of a VM: one row says all that is known of each. What else an option needs, follows from its row.
//!
//! Source of keys, types and bounds: the schema beside this file, which the tests walk. Source of what is live: qemu-server 9's
//! hot-plug code, and what a Proxmox VE 9.1.8 did.

use std::collections::BTreeSet;

use pve::{PropertyString, Settings};
use tf::Attr;

use super::checks;
use super::config::Delta;
use super::effect::{Attribute, Class, Takes};
use super::option::{self, Form, New, Table, Values, VmOption, Write, flag, text, whole};

/// What a VM has by one key of its own each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Options {
    pub(super) tags: Attr<BTreeSet<String>>,
    pub(super) cores: Attr<i64>,
    pub(super) sockets: Attr<i64>,
    pub(super) cpu_type: Attr<String>,
    pub(super) memory_mib: Attr<i64>,
    pub(super) firmware: Attr<String>,
    pub(super) on_boot: Attr<bool>,
    pub(super) guest_agent: Attr<bool>,
    pub(super) serial_console: Attr<bool>,
}

impl Options {
    /// One row per option. A new one is a field, its name in the pattern, and a row.
    #[rustfmt::skip]
    pub(super) fn table(&mut self) -> Table<'_> {
        let Self { tags, cores, sockets, cpu_type, memory_mib, firmware, on_boot, guest_agent, serial_console } = self;
        vec![
            VmOption {
                attribute: "tags", field: tags, key: "tags", form: TAGS, absent: Some(BTreeSet::new()),
                new: New::Value(BTreeSet::new()), takes: Takes::Live, privilege: "VM.Config.Options",
                doc: "Tags. Proxmox VE keeps them in lower case.",
            }.row(),
            VmOption {
                attribute: "cores", field: cores, key: "cores", form: whole(1, Some(1024)), absent: Some(1),
                new: New::Value(1), takes: Takes::PowerCycle, privilege: "VM.Config.CPU",
                doc: "Cores per socket.",
            }.row(),
            VmOption {
                attribute: "sockets", field: sockets, key: "sockets", form: whole(1, Some(16)), absent: Some(1),
                new: New::Value(1), takes: Takes::PowerCycle, privilege: "VM.Config.CPU",
                doc: "CPU sockets.",
            }.row(),
            VmOption {
                attribute: "cpu_type", field: cpu_type, key: "cpu", form: CPU, absent: Some("kvm64".to_owned()),
                new: New::Value("x86-64-v2-AES".to_owned()), takes: Takes::PowerCycle, privilege: "VM.Config.CPU",
                doc: "CPU model and flags, such as `host` or `x86-64-v2-AES,flags=+aes`.",
            }.row(),
            VmOption {
                attribute: "memory_mib", field: memory_mib, key: "memory", form: MEMORY, absent: Some(512),
                new: New::Value(512), takes: Takes::Plugged(Class::Memory), privilege: "VM.Config.Memory",
                doc: "Memory in MiB.",
            }.row(),
            VmOption {
                attribute: "firmware", field: firmware, key: "bios", form: text(Values::Words(&["seabios", "ovmf"])),
                absent: Some("seabios".to_owned()), new: New::Value("seabios".to_owned()), takes: Takes::NewMachine,
                privilege: "VM.Config.Options",
                doc: "`seabios` or `ovmf` (UEFI).",
            }.row(),
            VmOption {
                attribute: "on_boot", field: on_boot, key: "onboot", form: flag(), absent: Some(false),
                new: New::Value(false), takes: Takes::Live, privilege: "VM.Config.Options",
                doc: "Whether the node starts the VM when it boots.",
            }.row(),
            VmOption {
                attribute: "guest_agent", field: guest_agent, key: "agent", form: AGENT, absent: Some(false),
                new: New::Value(false), takes: Takes::PowerCycle, privilege: "VM.Config.Options",
                doc: "Whether the VM has a channel for QEMU's guest agent, which the image must carry.",
            }.row(),
            VmOption {
                attribute: "serial_console", field: serial_console, key: "serial0", form: SERIAL, absent: Some(false),
                new: New::Value(true), takes: Takes::PowerCycle, privilege: "VM.Config.HWType",
                doc: "Whether the VM has a serial console, `serial0`.",
            }.row(),
        ]
    }

    /// As attributes.
    pub(super) fn attributes(&mut self) -> impl Iterator<Item = Attribute<'_>> {
        option::attributes(self.table(), "Default for new VMs")
    }

    /// What is to be written so that a VM has the options that are given.
    pub(super) fn delta(&self, now: &Settings) -> Delta {
        let mut delta = Delta::default();
        for option in self.clone().table() {
            let key = option.facts().key;
            match option.difference(now.written(key)) {
                Some(Write::Set(value)) => drop(delta.set.insert(key.to_owned(), value)),
                Some(Write::Away) => delta.delete.push(key.to_owned()),
                None => {}
            }
        }
        delta
    }

    /// What a VM really has.
    pub(super) fn fill(&mut self, now: &Settings) {
        option::fill(self.table(), |key| now.written(key));
    }

    /// What a new VM gets beside what is given.
    pub(super) fn with_defaults(&self) -> Self {
        let mut all = self.clone();
        all.table().into_iter().for_each(|mut option| option.default_if_not_given());
        all
    }

    /// Whether a key is one of an option whose change may wait for a power cycle.
    pub(super) fn may_wait(key: &str) -> bool {
        Self::default().table().iter().any(|option| option.facts().key == key && option.facts().takes.may_wait())
    }
}

/// Proxmox VE keeps tags in lower case.
const TAGS: Form<BTreeSet<String>> = Form {
    values: Values::Each(checks::tag),
    read: |text| {
        let separator = |c: char| matches!(c, ';' | ',' | ' ');
        Some(text.split(separator).filter(|tag| !tag.is_empty()).map(str::to_owned).collect())
    },
    write: |tags, _| {
        let all = tags.iter().map(String::as_str).collect::<Vec<_>>().join(";");
        Some(all).filter(|all| !all.is_empty())
    },
    same: |a, b| {
        let lower = |tags: &BTreeSet<String>| tags.iter().map(|tag| tag.to_lowercase()).collect::<BTreeSet<_>>();
        lower(a) == lower(b)
    },
};

/// The same model with the same flags is the same in whatever order and spelling.
const CPU: Form<String> = Form {
    same: |a, b| {
        let parts = |text: &str| {
            let property = PropertyString::parse(text);
            let named = |key: Option<&str>| key.unwrap_or("cputype").to_owned();
            property.iter().map(|(key, value)| (named(key), value.to_owned())).collect::<BTreeSet<_>>()
        };
        parts(a) == parts(b)
    },
    ..text(Values::Name(checks::cpu))
};

/// `2048` or `current=2048`
const MEMORY: Form<i64> = Form {
    values: Values::Mib(16),
    read: |text| {
        let property = PropertyString::parse(text);
        property.bare().or_else(|| property.get("current"))?.parse().ok()
    },
    ..whole(16, None)
};

/// `1`, or `enabled=1`, and options that stay as they are.
const AGENT: Form<bool> = Form {
    read: |text| {
        let property = PropertyString::parse(text);
        property.bare().map_or_else(|| property.truth("enabled"), |bare| Some(bare == "1"))
    },
    write: |on, present| {
        let property = PropertyString::parse(present.unwrap_or_default());
        let mut agent = PropertyString::of(u8::from(*on).to_string());
        for (key, value) in property.iter().filter_map(|(key, value)| Some((key?, value))) {
            if key != "enabled" {
                agent.set(key, value);
            }
        }
        Some(agent.to_string())
    },
    ..flag()
};

/// A device that is there or not.
const SERIAL: Form<bool> = Form { read: |_| Some(true), write: |on, _| on.then(|| "socket".to_owned()), ..flag() };

#[cfg(test)]
mod tests;
