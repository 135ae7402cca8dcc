//! What can go wrong on the way into a VM through QEMU's guest agent, told apart by what a person would do about it.
//!
//! No advice stands here: that is `crate::explain`'s work.

use crate::output::after;
use pve::{NodeName, Vmid};

/// A failed act through the guest agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A call of Proxmox VE failed.
    #[error("{during} failed")]
    Pve {
        /// What was being done.
        during: String,
        /// How.
        source: pve::Error,
    },
    /// The cluster lists no VM of that number.
    #[error("Proxmox VE lists {found} with the number {vmid}")]
    NoVm {
        /// Which.
        vmid: Vmid,
        /// `no guest`, or `a container`.
        found: &'static str,
    },
    /// It does not execute anything.
    #[error("VM {vmid} on node {node} is {status}")]
    Off {
        /// Which.
        vmid: Vmid,
        /// Where.
        node: NodeName,
        /// `stopped`, `paused`
        status: String,
    },
    /// The guest agent does not answer.
    #[error("QEMU's guest agent of VM {vmid} did not answer within {after_s} s")]
    Silent {
        /// Which.
        vmid: Vmid,
        /// How long it was asked.
        after_s: u64,
        /// The last answer.
        source: pve::Error,
    },
    /// Another system.
    #[error("VM {vmid} runs {system}")]
    NotLinux {
        /// Which.
        vmid: Vmid,
        /// As the guest agent says it.
        system: String,
    },
    /// The guest's administrator has switched off what is needed.
    #[error("QEMU's guest agent of VM {vmid} is not allowed to do what is needed, or does not know it: {}", commands.join(", "))]
    Forbidden {
        /// Which.
        vmid: Vmid,
        /// What is needed.
        commands: Vec<String>,
    },
    /// A script ended badly.
    #[error("{what} failed in VM {vmid} with {status}{}", after(output))]
    Failed {
        /// Which.
        vmid: Vmid,
        /// What was being done.
        what: String,
        /// `status 1`
        status: String,
        /// Its last lines.
        output: Vec<String>,
    },
    /// A script did not end.
    #[error("{what} in VM {vmid} did not end within {after_s} s")]
    TooLong {
        /// Which.
        vmid: Vmid,
        /// What was being done.
        what: String,
        /// How long it was waited for.
        after_s: u64,
    },
    /// Time ran out.
    #[error("the time for {what} is over")]
    Deadline {
        /// What was waited for.
        what: String,
    },
    /// Terraform was told to stop.
    #[error("stopped on request")]
    Stopped,
}
