//! The API's calls, in modules that mirror its paths. Only calls that somebody makes are here.

pub(crate) mod access;
pub(crate) mod cluster;
pub(crate) mod nodes;
pub(crate) mod pools;
pub(crate) mod qemu;
pub(crate) mod storage;
pub(crate) mod tasks;
pub(crate) mod version;
