//! SSH's errors, told as: what happened, what holds now, what to do next. Attributes are those of an `ssh` block.

use super::sentence;
use crate::ssh::Error;
use tf::{Diagnostic, chain};

/// The diagnostic for a failed act over SSH; `act` reads `install the agent of 192.0.2.7`.
pub(crate) fn ssh(act: &str, error: &Error, holds: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot {act}")).happened(sentence(&chain(error))).holds(holds).next(next(error))
}

/// The attribute of the block that is the cure, if one is.
pub(crate) fn ssh_attribute(error: &Error) -> Option<String> {
    match error {
        Error::UnknownHost { attribute, .. }
        | Error::OtherKey { attribute, .. }
        | Error::Unusable { attribute, .. } => Some(attribute.clone()),
        Error::Refused { prefix, .. } => Some(format!("{prefix}user")),
        Error::NotRoot { attribute, .. } => Some((*attribute).to_owned()),
        Error::Deadline { last: Some(last), .. } => ssh_attribute(last),
        Error::Unreachable { .. }
        | Error::Revoked { .. }
        | Error::NoWay { .. }
        | Error::Lost { .. }
        | Error::Failed { .. }
        | Error::Deadline { last: None, .. }
        | Error::Stopped => None,
    }
}

fn next(error: &Error) -> String {
    match error {
        Error::UnknownHost { found, attribute, .. } => format!(
            "Compare this fingerprint with the machine's own (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on its console). If they are the \
             same, pin it: `{attribute} = \"{}\"`.",
            found.fingerprint
        ),
        Error::OtherKey { found, attribute, .. } => format!(
            "If the machine was installed anew, compare the new fingerprint with the machine's own on its console, and then pin it: \
             `{attribute} = \"{}\"`. If it was not, somebody else answers at its address.",
            found.fingerprint
        ),
        Error::Revoked { .. } => "Give the machine another host key, or find out who answers in its place.".to_owned(),
        Error::Unusable { attribute, .. } => format!("Correct `{attribute}`, and apply again."),
        Error::Refused { prefix, .. } => format!(
            "Check `{prefix}user`, and give a `{prefix}private_key`, an SSH agent with a key that the account takes, or a `{prefix}password`."
        ),
        Error::NotRoot { attribute, .. } => match *attribute {
            "sudo_password" => "Give the right `sudo_password`, and apply again.".to_owned(),
            "sudo" => "Leave `sudo` out, or log in as root.".to_owned(),
            _ => "Log in as root, or as an account that may run every command with sudo.".to_owned(),
        },
        Error::Unreachable { .. } => "See that the machine runs and that SSH is reached there from here, and apply again.".to_owned(),
        Error::NoWay { .. } => {
            "See that the jump host reaches the machine, and lets TCP connections through (`AllowTcpForwarding`), and apply again.".to_owned()
        }
        Error::Failed { .. } => "Remove the cause, and apply again.".to_owned(),
        Error::Lost { .. } | Error::Stopped => "Apply again: what is there already is found.".to_owned(),
        Error::Deadline { last: Some(last), .. } => next(last),
        Error::Deadline { last: None, .. } => "Raise `timeouts`, and apply again.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_host_is_shown_with_how_to_pin_it() {
        let found = crate::ssh::ShownKey { fingerprint: "SHA256:abc".to_owned(), kind: "ssh-ed25519".to_owned() };
        let error = Error::UnknownHost {
            host: "pi:22".to_owned(),
            found: Box::new(found),
            looked: "nowhere".to_owned(),
            attribute: "host_key".to_owned(),
        };
        let told = ssh("install the agent of pi", &error, "Nothing was changed.").to_string();
        for part in ["Cannot install the agent of pi", "ssh-ed25519 SHA256:abc", "`host_key = \"SHA256:abc\"`"] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert_eq!(told.split("\n\n").count(), 4, "{told}");
        assert_eq!(ssh_attribute(&error).as_deref(), Some("host_key"));
    }
}
