//! Errors of the way through QEMU's guest agent, told as: what happened, what holds now, what to do next. Attributes are those of a
//! `guest_agent` block.

use ::pve::Class;

use super::pve::next as of_pve;
use super::sentence;
use crate::guest::Error;
use tf::{Diagnostic, chain};

/// The diagnostic for a failed act through the guest agent; `act` reads `install the agent of VM 120`.
pub(crate) fn guest(act: &str, error: &Error, holds: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot {act}")).happened(sentence(&chain(error))).holds(holds).next(next(error))
}

/// The attribute of the block that is the cure, if one is.
pub(crate) fn guest_attribute(error: &Error) -> Option<&'static str> {
    match error {
        Error::NoVm { .. } => Some("vmid"),
        Error::Pve { source, .. } if source.is(Class::NoNode) => Some("node"),
        Error::Pve { .. }
        | Error::Off { .. }
        | Error::Silent { .. }
        | Error::NotLinux { .. }
        | Error::Forbidden { .. }
        | Error::Failed { .. }
        | Error::TooLong { .. }
        | Error::Deadline { .. }
        | Error::Stopped => None,
    }
}

fn next(error: &Error) -> String {
    match error {
        Error::Pve { source, .. } if source.is(Class::Rights) => RIGHTS.to_owned(),
        Error::Pve { source, .. } => of_pve(source),
        Error::NoVm { .. } => "Correct `vmid`, or grant VM.Audit on the VM to the API token: Proxmox VE lists none that it may not see.".to_owned(),
        Error::Off { status, .. } if status == "paused" => "Let the VM go on (`qm resume`), and apply again.".to_owned(),
        Error::Off { .. } => "Start the VM, and apply again.".to_owned(),
        Error::Silent { .. } => "See that the package qemu-guest-agent is installed in the VM and that its service runs, and apply again. If it was \
            installed just now, start it (`systemctl start qemu-guest-agent`) or power the VM off and on."
            .to_owned(),
        Error::NotLinux { .. } => "Agents run on Linux: give another VM.".to_owned(),
        Error::Forbidden { .. } => "Allow these commands in the VM, where RHEL and its relatives forbid them: in `/etc/sysconfig/qemu-ga` take them off \
            `BLOCK_RPCS` (before 9: `BLACKLIST_RPC`), or add them to `--allow-rpcs` of `FILTER_RPC_ARGS`; then restart qemu-guest-agent and apply again. \
            Or come in by `ssh`."
            .to_owned(),
        Error::Failed { .. } => "Remove the cause, and apply again.".to_owned(),
        Error::TooLong { .. } => "See in the VM what takes so long, and apply again.".to_owned(),
        Error::Deadline { .. } => "Raise `timeouts`, and apply again.".to_owned(),
        Error::Stopped => "Apply again: what is there already is found.".to_owned(),
    }
}

/// Source: the API's schema, 8.2 and 9.1.
const RIGHTS: &str = "Grant VM.Audit and VM.GuestAgent.Unrestricted (Proxmox VE 8: VM.Audit and VM.Monitor) on `/vms` or on the VM's own path to the \
    user and, if it is separate, to the API token: they are needed until the agent is there, and for a repair.";

#[cfg(test)]
mod tests {
    use super::*;
    use ::pve::{Refused, Vmid};
    use std::collections::BTreeMap;

    #[track_caller]
    fn refused(message: &str, parts: &[&str]) {
        let refused = Refused {
            call: "POST /nodes/pve1/qemu/120/agent/exec".to_owned(),
            endpoint: "https://pve1:8006".to_owned(),
            status: 500,
            message: message.to_owned(),
            errors: BTreeMap::new(),
        };
        let error =
            Error::Pve { during: "looking at the machine".to_owned(), source: ::pve::Error::Refused(refused.into()) };
        let told = guest("install the agent of VM 120", &error, "Nothing was changed.").to_string();
        for part in parts {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert_eq!(told.split("\n\n").count(), 4, "{told}");
    }

    #[test]
    fn a_refusal_names_its_cure() {
        refused(
            "Permission check failed (/vms/120, VM.GuestAgent.Unrestricted)",
            &["Looking at the machine failed: POST /nodes/pve1", "VM.Monitor", "VM.GuestAgent.Unrestricted"],
        );
        refused("No QEMU guest agent configured", &["qm set NUMBER --agent 1", "off and on"]);
        refused("Agent error: Command guest-exec has been disabled", &["/etc/sysconfig/qemu-ga"]);
    }

    #[test]
    fn a_number_that_is_nobodys_is_shown_where_it_stands() {
        let error = Error::NoVm { vmid: Vmid::new(120).unwrap(), found: "a container" };
        assert_eq!(guest_attribute(&error), Some("vmid"));
        let told = guest("install the agent of VM 120", &error, "Nothing was changed.").to_string();
        assert!(told.contains("Proxmox VE lists a container with the number 120."), "{told}");
    }
}
