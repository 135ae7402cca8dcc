//! Whether a plan announced a reboot. What turns out to need one without that word waits for the next plan.

use tf::Private;

/// Notes at plan time whether the apply may reboot the machine.
pub(crate) fn set(private: &Private, announced: bool) {
    private.set(REBOOTS, &announced);
}

/// Whether this apply may. A plan of before this was noted says nothing against it.
pub(crate) fn is(private: &Private) -> bool {
    private.get(REBOOTS).unwrap_or(true)
}

const REBOOTS: &str = "reboots";
