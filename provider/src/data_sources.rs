//! One file per data source. None sees another's.

pub(crate) mod nodes;
pub(crate) mod storages;
pub(crate) mod version;
pub(crate) mod vms;
