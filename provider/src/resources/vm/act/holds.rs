//! What holds in the course of an operation: the second paragraph of its every failure.

/// What there is of the VM, and what of it is recorded, if the operation fails now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A creation has not asked for anything yet, or all that it asked for is gone again.
    NothingCreated,
    /// Another apply is creating the VM.
    Claimed,
    /// Another guest has the name or the number.
    NotTouched,
    /// The VM was made beside another of its name, and taken back.
    TakenBack,
    /// What an earlier creation left is there still.
    LeftBefore,
    /// Nobody can say whether the VM that was asked for is there; its UUID is known.
    PerhapsCreated,
    /// The same of a clone, whose UUID is not known.
    PerhapsCloned,
    /// Nobody waits for the clone any more.
    CloneGoesOn,
    /// The VM is there, and not finished.
    Unfinished,
    /// The VM is finished but for what its first boot was to do.
    BadFirstBoot,
    /// A change has not begun.
    NothingChanged,
    /// A change has begun.
    PartlyChanged,
    /// Everything is written, and a power cycle goes on.
    Cycling,
    /// Everything is written, and the VM is to start.
    Off,
    /// A replacement has destroyed nothing yet.
    NothingDestroyed,
    /// A destruction has not stopped the VM.
    NotStopped,
    /// A destruction has begun.
    Kept,
    /// Nobody can say whether the VM is gone.
    PerhapsGone,
    /// The VM is gone, and its seed may not be.
    SeedLeft,
}

impl Holds {
    /// The paragraph.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::NothingCreated => "Nothing was created and nothing was recorded in the state.",
            Self::Claimed => "Nothing was created.",
            Self::NotTouched => "Nothing was created, and that guest was not touched.",
            Self::TakenBack => "The VM that was made here was taken back, and the other one was not touched.",
            Self::LeftBefore => {
                "The unfinished VM of an earlier apply exists still, and nothing was recorded in the state."
            }
            Self::PerhapsCreated => {
                "Whether the VM exists is not known. It is recorded in the state as tainted: the next apply looks, and replaces it."
            }
            Self::PerhapsCloned => {
                "Whether the VM exists is not known, and nothing was recorded in the state. If it does, the next apply in this folder goes on with it."
            }
            Self::CloneGoesOn => {
                "The clone goes on in Proxmox VE, and nothing was recorded in the state. The next apply in this folder goes on with it."
            }
            Self::Unfinished => {
                "The VM exists unfinished and is recorded in the state as tainted: the next apply replaces it."
            }
            Self::BadFirstBoot => {
                "The VM runs and its agent is enrolled; it is recorded in the state as tainted: the next apply replaces it."
            }
            Self::NothingChanged => "Nothing was changed.",
            Self::PartlyChanged => {
                "The VM exists; some of the changes may have been made. The next plan shows which are missing."
            }
            Self::Cycling => "The changes were written; the VM is off or still runs with the old values.",
            Self::Off => "The changes were written, and the VM is off; the next apply starts it.",
            Self::NothingDestroyed => "Nothing was destroyed: the VM is as it was.",
            Self::NotStopped => "Nothing was changed: the VM exists, and was not stopped.",
            Self::Kept => "The VM exists and stays in the state. It may have been stopped.",
            Self::PerhapsGone => "Whether the VM is gone is not known. The next run looks.",
            Self::SeedLeft => "The VM is gone; its seed image may still be there.",
        }
    }
}
