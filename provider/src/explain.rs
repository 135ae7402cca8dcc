//! Turns errors of the Proxmox client and of agents into diagnostics. The only place where advice is written.
//!
//! A caller gives what was being done, as `verb kind identity` ("create VM 120 on node pve1"), and the error.

mod agent;

pub(crate) use agent::{agent, unreachable};
