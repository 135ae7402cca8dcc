//! What a running VM takes at once: one row per attribute. Pure.
//!
//! Source: qemu-server 9's hot-plug code, and what a Proxmox VE 9.1.8 did. Three things decide: the option itself, the classes in the
//! VM's `hotplug`, and the line it stands in. Proxmox VE applies a disk's or a card's line as a whole: with one value that has to
//! wait, all of that line wait.

use crate::resources::vm::notes::noted::Noted;

/// When a written change is in force in a VM that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// At once, whatever `hotplug` says.
    Live,
    /// At once if `hotplug` has the class.
    Plugged(Class),
    /// With the next power cycle.
    PowerCycle,
}

/// A class of devices in `hotplug`. `cpu`, `usb` and `cloudinit` decide about nothing that has an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Disk,
    Network,
    Memory,
}

impl Class {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Memory => "memory",
        }
    }
}

impl Takes {
    /// Of a plain attribute; `None` if it is no option of a running VM.
    pub(super) fn option(name: &str) -> Option<Self> {
        row(&OPTIONS, name)
    }

    /// Of a value of a disk.
    pub(super) fn of_disk(name: &str) -> Option<Self> {
        row(&DISK, name)
    }

    /// Of a value of a network card.
    pub(super) fn of_card(name: &str) -> Option<Self> {
        row(&CARD, name)
    }

    /// Of a whole disk that comes.
    pub(super) fn new_disk(slot: &str) -> Self {
        if slot.starts_with("sata") { Self::PowerCycle } else { Self::Plugged(Class::Disk) }
    }

    /// Of a whole disk that goes: Proxmox VE does not unplug what the machine boots from.
    pub(super) fn old_disk(slot: &str, noted: &Noted) -> Self {
        if noted.boots_from(slot) { Self::PowerCycle } else { Self::new_disk(slot) }
    }

    /// Whether a running VM takes it only with its next power cycle.
    pub(super) fn waits(self, noted: &Noted) -> bool {
        match self {
            Self::Live => false,
            Self::Plugged(class) => !noted.allows(class),
            Self::PowerCycle => true,
        }
    }
}

fn row(table: &[(&str, Takes)], name: &str) -> Option<Takes> {
    table.iter().find(|(own, _)| *own == name).map(|(_, takes)| *takes)
}

const OPTIONS: [(&str, Takes); 10] = [
    ("name", Takes::Live),
    ("description", Takes::Live),
    ("tags", Takes::Live),
    ("on_boot", Takes::Live),
    ("cores", Takes::PowerCycle),
    ("sockets", Takes::PowerCycle),
    ("cpu_type", Takes::PowerCycle),
    ("memory_mib", Takes::Plugged(Class::Memory)),
    ("guest_agent", Takes::PowerCycle),
    ("serial_console", Takes::PowerCycle),
];

/// `size_gib` is a call of its own, and no part of the line.
const DISK: [(&str, Takes); 8] = [
    ("size_gib", Takes::Live),
    ("storage", Takes::Live),
    ("backup", Takes::Live),
    ("discard", Takes::PowerCycle),
    ("ssd", Takes::PowerCycle),
    ("iothread", Takes::PowerCycle),
    ("cache", Takes::PowerCycle),
    ("serial", Takes::PowerCycle),
];

/// What is set on the host's side is live; the rest is another device in the guest, unplugged and plugged in.
const CARD: [(&str, Takes); 6] = [
    ("bridge", Takes::Live),
    ("vlan", Takes::Live),
    ("firewall", Takes::Live),
    ("model", Takes::Plugged(Class::Network)),
    ("mac", Takes::Plugged(Class::Network)),
    ("mtu", Takes::Plugged(Class::Network)),
];

/// Of a whole network card that comes or goes.
pub(super) const WHOLE_CARD: Takes = Takes::Plugged(Class::Network);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::vm::model::{Disk, Network, Vm};
    use tf::Model as _;

    /// A new attribute must say when it is in force, or that it is none of a running VM.
    #[test]
    fn every_attribute_has_its_row_or_its_reason() {
        const NOT_OF_A_RUNNING_VM: [&str; 24] = [
            "id",
            "vmid",
            "node",
            "image",
            "clone",
            "pool",
            "firmware",
            "efi_storage",
            "disk",
            "network",
            "cloud_init",
            "agent",
            "started",
            "reboot",
            "timeouts",
            "uuid",
            "current_node",
            "addresses",
            "endpoint",
            "waiting",
            "effects",
            "lost_on_destroy",
            "format",
            "volume",
        ];
        let check = |names: Vec<&str>, takes: fn(&str) -> Option<Takes>| {
            for name in names {
                assert!(takes(name).is_some() != NOT_OF_A_RUNNING_VM.contains(&name), "{name}");
            }
        };
        let names = |rows: Vec<tf::Row<'_>>| rows.iter().map(tf::Row::name).collect::<Vec<_>>();
        check(names(Vm::default().rows()), Takes::option);
        check(names(Disk::default().rows()), Takes::of_disk);
        check(names(Network::default().rows()), Takes::of_card);
    }

    #[test]
    fn the_classes_decide() {
        let noted = |hotplug: &str| Noted::new(Some(hotplug), &[]);
        for (hotplug, disk, card, memory) in [
            ("1", false, false, true),
            ("0", true, true, true),
            ("network,memory", true, false, false),
            ("disk,usb", false, true, true),
        ] {
            let noted = noted(hotplug);
            assert_eq!(Takes::new_disk("scsi1").waits(&noted), disk, "{hotplug}");
            assert_eq!(WHOLE_CARD.waits(&noted), card, "{hotplug}");
            assert_eq!(Takes::Plugged(Class::Memory).waits(&noted), memory, "{hotplug}");
            assert!(Takes::new_disk("sata1").waits(&noted) && !Takes::Live.waits(&noted), "{hotplug}");
        }
        assert!(!Takes::new_disk("scsi1").waits(&Noted::default()), "the default is network,disk,usb");
        let boots = Noted::new(None, &["scsi0"]);
        assert!(Takes::old_disk("scsi0", &boots).waits(&boots) && !Takes::old_disk("scsi1", &boots).waits(&boots));
    }
}
