//! What planning, refreshing and applying leave for one another in the VM's private state: plans look at nothing themselves, and an apply
//! keeps to what its plan said.

pub(super) mod announced;
pub(super) mod needs;
pub(super) mod noted;
pub(super) mod slots;
