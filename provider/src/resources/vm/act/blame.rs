//! What the server's words mean for the attributes of a VM: which one to edit, and how.

use pve::{Class, Error};
use tf::Path;

use crate::explain::Cure;
use crate::resources::vm::model::Vm;
use crate::resources::vm::{cards, disks};

/// The cure of a refusal where an attribute of the VM has a part in it.
pub(super) fn cure(m: &Vm, error: &Error) -> Option<Cure> {
    let said = error.to_string();
    let (next, at): (&str, Option<Path>) = match error.class() {
        Class::Full => ("Free space on the storage, or set `storage` to one that has it.", storage(m, &said)),
        Class::NoStorage => {
            ("Correct `storage` or the volume's name, or add the storage to the node.", storage(m, &said))
        }
        Class::WrongContent => {
            ("Set `storage` to one that may hold this, or add it to that storage's content types.", storage(m, &said))
        }
        Class::NoNode => ("Correct `node`: the cluster knows none of this name.", Some("node".into())),
        Class::NoPool => ("Correct `pool`, or make that pool first.", Some("pool".into())),
        Class::NoBridge => ("Correct `bridge`, or make that bridge on the node.", bridge(m, &said)),
        Class::Exists => ("Choose another name or `vmid`, or import what exists.", vmid(m, &said)),
        Class::NoLinkedClone => {
            ("Set `clone.full = true`, or make a template of the source, and apply again.", Some("clone".into()))
        }
        Class::NotShared => (
            "Clone a source that is on `node`, set `node` to the source's, or keep the disks on a storage that both nodes share.",
            Some("clone".into()),
        ),
        Class::TooManyCpus => {
            ("Lower `cores` or `sockets` to what the node has, and apply again.", Some("cores".into()))
        }
        Class::AgentOff | Class::NoAgent => {
            ("See that qemu-guest-agent runs in the guest, or set `guest_agent = false`.", None)
        }
        // The general advice names the privilege and where it is missing.
        Class::Rights => return storage(m, &said).map(Cure::at),
        Class::NoGuest
        | Class::NotEmpty
        | Class::HeldByGuest
        | Class::InUse
        | Class::NoTask
        | Class::Busy
        | Class::Conflict
        | Class::OtherSum
        | Class::NoDownload
        | Class::Credentials
        | Class::NoQuorum
        | Class::NotRunning
        | Class::AgentForbids
        | Class::NoProcess
        | Class::InGuest
        | Class::Other => return None,
    };
    Some(Cure { next: Some(next), at })
}

fn vmid(m: &Vm, said: &str) -> Option<Path> {
    m.vmid.get().filter(|vmid| said.contains(&vmid.to_string())).map(|_| "vmid".into())
}

fn storage(m: &Vm, said: &str) -> Option<Path> {
    let named = |storage: Option<&str>| {
        storage.is_some_and(|storage| {
            said.contains(&format!("'{storage}'")) || said.contains(&format!("/storage/{storage}"))
        })
    };
    let disk = disks::of(m).into_iter().find(|(_, disk)| named(disk.storage.text()));
    if let Some((slot, _)) = disk {
        return Some(Path::from("disk").key(&slot).name("storage"));
    }
    let seed = m.cloud_init.get().and_then(|cloud_init| cloud_init.storage.text());
    if named(seed) {
        return Some(Path::from("cloud_init").name("storage"));
    }
    if named(m.efi_storage.text()) {
        return Some("efi_storage".into());
    }
    let image = m
        .image
        .text()
        .filter(|image| said.contains(*image) || named(image.split_once(':').map(|(storage, _)| storage)));
    image.map(|_| "image".into())
}

fn bridge(m: &Vm, said: &str) -> Option<Path> {
    let words: Vec<&str> = said.split(|c: char| c.is_whitespace() || c == '\'').collect();
    let named = |bridge: Option<&str>| bridge.is_some_and(|bridge| words.contains(&bridge));
    let card = cards::of(m).into_iter().find(|(_, card)| named(card.bridge.text()));
    card.map(|(slot, _)| Path::from("network").key(&slot).name("bridge"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{self, Own};
    use crate::resources::vm::cards::Network;
    use crate::resources::vm::disks::Disk;
    use std::collections::BTreeMap;

    #[track_caller]
    fn check(status: u16, message: &str, at: Option<&str>, next: &str) {
        let disk = Disk { storage: "fast".into(), ..Disk::default() };
        let m = Vm {
            vmid: 120.into(),
            disk: BTreeMap::from([("scsi0".to_owned(), disk)]).into(),
            network: BTreeMap::from([("net0".to_owned(), Network { bridge: "vmbr7".into(), ..Network::default() })])
                .into(),
            ..Vm::default()
        };
        let refused = pve::Refused {
            call: "POST /nodes/pve1/qemu".to_owned(),
            endpoint: "https://pve1:8006".to_owned(),
            status,
            message: message.to_owned(),
            errors: BTreeMap::new(),
        };
        let error = Error::Refused(Box::new(refused));
        let told = explain::pve_own("create VM 120", &error, Own { cure: cure(&m, &error), ..Own::default() });
        assert_eq!(told.path().map(ToString::to_string).as_deref(), at, "{message}");
        assert!(told.detail().ends_with(next), "{}", told.detail());
    }

    #[test]
    fn a_refusal_names_the_attribute_that_is_its_cure() {
        let space = "Permission check failed (/storage/fast, Datastore.AllocateSpace)";
        let storage = Some(r#"disk["scsi0"].storage"#);
        check(403, space, storage, "and, if it is separate, to the API token.");
        check(500, "storage 'fast' does not exist", storage, "or add the storage to the node.");
        check(
            400,
            "storage 'fast' does not support vm images",
            storage,
            "Set `storage` to one that may hold this, or add it to that storage's content types.",
        );
        check(500, "storage 'other' is disabled", None, "or add the storage to the node.");
        check(500, "bridge 'vmbr7' does not exist", Some(r#"network["net0"].bridge"#), "make that bridge on the node.");
        check(
            500,
            "hostname lookup 'pve7' failed",
            Some("node"),
            "Correct `node`: the cluster knows none of this name.",
        );
        check(
            403,
            "Permission check failed (pool 'x' does not exist)",
            Some("pool"),
            "Correct `pool`, or make that pool first.",
        );
        check(
            500,
            "VM 120 already exists on node 'pve1'",
            Some("vmid"),
            "Choose another name or `vmid`, or import what exists.",
        );
        check(
            500,
            "Linked clone feature is not supported for 'x' (scsi0)",
            Some("clone"),
            "Set `clone.full = true`, or make a template of the source, and apply again.",
        );
        check(500, "MAX 4 vcpus allowed per VM on this node", Some("cores"), "to what the node has, and apply again.");
        check(500, "VM is locked (clone)", None, "Wait for the other operation, and apply again.");
    }
}
