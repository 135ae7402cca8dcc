//! What a running VM takes at once: the option itself decides, the classes in the VM's `hotplug`, and the line it stands in. Proxmox VE
//! applies a disk's or a card's line as a whole: with one value that has to wait, all of that line wait. Pure.
//!
//! Source: qemu-server 9's hot-plug code, and what a Proxmox VE 9.1.8 did.

use crate::resources::vm::effect::{Class, Takes};
use crate::resources::vm::notes::noted::Noted;

impl Takes {
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
            Self::PowerCycle | Self::NewMachine => true,
        }
    }
}

/// Of a whole network card that comes or goes.
pub(super) const WHOLE_CARD: Takes = Takes::Plugged(Class::Network);

#[cfg(test)]
mod tests {
    use super::*;

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
