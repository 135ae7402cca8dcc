//! What a change of an attribute does to a machine that exists. Every attribute of a VM says so where it is declared; what of that is
//! live in the VM at hand, `plan/hotplug` decides.

use tf::Row;

/// An attribute, and what a change of it does.
pub(super) struct Attribute<'a> {
    pub(super) row: Row<'a>,
    pub(super) effect: Effect,
    /// Whether plans show the text it holds. Terraform hides what the user marks as sensitive, and we cannot see the mark: so only
    /// names and words of Proxmox VE are shown.
    pub(super) is_name: bool,
}

/// What a change of an attribute does to a machine that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// An option of the VM.
    Option(Takes),
    /// Devices by slot, with attributes of their own.
    Devices,
    /// It is written down, and used at creation only.
    Recorded,
    /// Another node: somebody moved the VM there, or it needs a new machine.
    Moves,
    /// Starts or stops the machine.
    Power,
    /// Nothing: the provider gives the value, or it is about Terraform only.
    Nothing,
}

/// When a written change is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// At once, whatever `hotplug` says.
    Live,
    /// At once if `hotplug` has the class.
    Plugged(Class),
    /// With the next power cycle.
    PowerCycle,
    /// Never: another value needs a new machine.
    NewMachine,
}

/// A class of devices in `hotplug`. `cpu`, `usb` and `cloudinit` decide about nothing that has an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Disk,
    Network,
    Memory,
}

impl Class {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Memory => "memory",
        }
    }
}

impl Takes {
    /// Whether a change can wait for a power cycle.
    pub(super) const fn may_wait(self) -> bool {
        matches!(self, Self::Plugged(_) | Self::PowerCycle)
    }

    /// What the documentation says of it. What cards and disks do when they are plugged is said of them as a whole.
    pub(super) const fn documentation(self) -> &'static str {
        match self {
            Self::Live | Self::Plugged(Class::Disk | Class::Network) => "",
            Self::Plugged(Class::Memory) => " A change needs a reboot, unless the VM's `hotplug` has `memory`.",
            Self::PowerCycle => " A change needs a reboot.",
            Self::NewMachine => " Another one needs a new machine.",
        }
    }
}

impl<'a> Attribute<'a> {
    pub(super) const fn new(row: Row<'a>, effect: Effect) -> Self {
        Self { row, effect, is_name: false }
    }

    /// Its text is a name that plans may show.
    pub(super) fn name(self) -> Self {
        Self { is_name: true, ..self }
    }
}
