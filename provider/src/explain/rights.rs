//! Which privilege is missing where: as Proxmox VE says it, or, where it says nothing, as the call needs it.

/// What to grant after a refusal of `call` (`POST /nodes/pve1/qemu`; empty where nobody knows it).
pub(super) fn missing(call: &str, message: &str) -> String {
    // `Permission check failed (/storage/fast, Datastore.AllocateSpace)`
    let named = message.rsplit_once('(').and_then(|(_, rest)| rest.split_once(')')?.0.split_once(", "));
    let (privilege, path) = match (named, unnamed(call)) {
        (Some((path, privilege)), _) => (privilege.replace('|', " or "), path.to_owned()),
        (None, Some((privilege, path))) => (privilege.to_owned(), path),
        (None, None) => {
            return "Grant the missing privilege to the user and, if it is separate, to the API token. The guide \
                \"What the Proxmox VE API token needs\" has them all."
                .to_owned();
        }
    };
    format!("Grant {privilege} on {path} to the user and, if it is separate, to the API token.")
}

/// What calls need whose refusal says no more than `Permission check failed`, because more than one path would do.
///
/// Source: seen on 9.1.8 for creations and clones; pve-storage 9.1, `download-url`.
fn unnamed(call: &str) -> Option<(&'static str, String)> {
    let (method, path) = call.split_once(' ')?;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        ("POST", ["nodes", _, "qemu"] | ["nodes", _, "qemu", _, "clone"]) => Some((
            "VM.Allocate",
            "/vms, or on the path of the new VM (`/vms/NUMBER`) or of its pool (`/pool/NAME`),".to_owned(),
        )),
        ("POST", ["nodes", node, "storage", _, "download-url"]) => {
            Some(("Sys.AccessNetwork", format!("/nodes/{node}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_does_not_name_the_call_tells() {
        let bare = "Permission check failed";
        for (call, message, wanted) in [
            ("POST /nodes/pve1/qemu", bare, "Grant VM.Allocate on /vms,"),
            ("POST /nodes/pve1/qemu/100/clone", bare, "Grant VM.Allocate on /vms,"),
            (
                "POST /nodes/pve1/qemu/100/clone",
                "Permission check failed (/vms/100, VM.Clone)",
                "Grant VM.Clone on /vms/100 ",
            ),
            ("POST /nodes/pve1/storage/local/download-url", bare, "Grant Sys.AccessNetwork on /nodes/pve1 "),
            ("PUT /nodes/pve1/qemu/100/config", "Permission check failed (/vms/1, A|B)", "Grant A or B on /vms/1 "),
            ("PUT /nodes/pve1/qemu/100/config", bare, "Grant the missing privilege"),
            ("", "", "Grant the missing privilege"),
        ] {
            assert!(missing(call, message).starts_with(wanted), "{call} {message}: {}", missing(call, message));
        }
    }
}
