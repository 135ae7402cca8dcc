//! One file per resource. None sees another's.

pub(crate) mod cluster;
pub(crate) mod machine;
