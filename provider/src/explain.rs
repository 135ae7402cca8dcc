//! Turns errors of the Proxmox client, of agents, of SSH and of guest agents into diagnostics, with the advice that is the same for all resources. Where an
//! attribute of a resource is the cure, and what a resource finds wrong itself, it says itself.
//!
//! A caller gives what was being done, as `verb kind identity` ("create VM 120 on node pve1"), and the error.

mod agent;
mod guest;
mod manifest;
mod pve;
mod rights;
mod ssh;

pub(crate) use agent::{
    agent, configuring, ending, enrolment, leaving, newer, not_looked_at, noted, somebody_else, unreachable,
    unreachable_then, upgrading,
};
pub(crate) use guest::{guest, guest_attribute};
pub(crate) use manifest::manifest;
pub(crate) use pve::{
    CA_OF_MANY, Cure, Own, anybody, bad_proxmox_settings, no_credentials, no_endpoint, pve, pve_own, unknown_proxmox,
};
pub(crate) use ssh::{ssh, ssh_attribute};

/// Lines of somebody else's, below a sentence about them.
pub(crate) fn listed(sentence: &str, lines: &[String]) -> String {
    format!("{sentence}\n  {}", lines.join("\n  "))
}

/// Errors are written without capitals and full stops, so that they can be chained; a paragraph has both.
fn sentence(text: &str) -> String {
    // Some of the server's own texts end with a blank.
    let text = text.trim_end();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().collect::<String>()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}
