//! One file per data source. None sees another's.

pub(crate) mod version;
