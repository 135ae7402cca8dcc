//! One file per resource. None sees another's.

pub(crate) mod agent;
pub(crate) mod cluster;
pub(crate) mod etcd_snapshot;
pub(crate) mod image;
pub(crate) mod machine;
pub(crate) mod pool;
pub(crate) mod vm;
