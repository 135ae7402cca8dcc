//! What Proxmox VE's own words mean: the one place where they are matched, each with the version it was read from.
//!
//! A text that is new, or that a later version spells differently, gets a line here; everybody else asks for a [`Class`].

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The guest is not on the node that was asked: moved, or gone.
    NoGuest,
    /// A storage, a volume or a file is not there.
    NoStorage,
    /// The cluster knows no node of that name.
    NoNode,
    /// There is no such pool.
    NoPool,
    /// A pool has members or pools below it.
    NotEmpty,
    /// The node has no such bridge.
    NoBridge,
    /// More CPUs than the node has.
    TooManyCpus,
    /// The guest does not give a device up.
    HeldByGuest,
    /// A volume is not deleted while a snapshot or a linked clone uses it.
    InUse,
    /// A task nobody remembers.
    NoTask,
    /// The name or number is taken.
    Exists,
    /// Somebody holds a lock, or no worker could be started; nothing was done: wait and repeat.
    Busy,
    /// Somebody changed the configuration meanwhile: read again.
    Conflict,
    /// The storage is full.
    Full,
    /// The storage does not hold what is asked of it.
    WrongContent,
    /// A file is another than its checksum says.
    OtherSum,
    /// The node could not download a file.
    NoDownload,
    /// These disks cannot be cloned without a copy.
    NoLinkedClone,
    /// Another node does not see these disks.
    NotShared,
    /// A privilege is missing.
    Rights,
    /// Credentials were not accepted.
    Credentials,
    /// The cluster has no quorum: wait.
    NoQuorum,
    /// The VM is off.
    NotRunning,
    /// The VM has no connection to a QEMU guest agent: its option `agent` is off.
    AgentOff,
    /// The QEMU guest agent does not answer.
    NoAgent,
    /// The QEMU guest agent is told by its administrator not to do that, or does not know it.
    AgentForbids,
    /// The QEMU guest agent knows no such process, or has told its end before.
    NoProcess,
    /// The QEMU guest agent could not do it, inside the guest.
    InGuest,
    /// Anything else.
    Other,
}

/// The class of a text; [`Class::Other`] if nobody here knows it.
pub(crate) fn class_of(text: &str) -> Class {
    let fits = |parts: &[&str]| parts.iter().all(|part| text.contains(part));
    TEXTS.iter().find(|(parts, _, _)| fits(parts)).map_or(Class::Other, |(_, class, _)| *class)
}

/// Parts of a text that must all occur, what it means, and the Proxmox VE it was read from. The first line that fits decides, so
/// narrow texts stand before wide ones.
#[rustfmt::skip]
const TEXTS: &[(&[&str], Class, &str)] = &[
    (&["Configuration file 'nodes/", "does not exist"], Class::NoGuest, "9.1.8"),
    (&["unable to find configuration file for VM"], Class::NoGuest, "9.1.8"),
    // What a guest agent says is about the guest's own files and disks, whatever the words.
    (&["Agent error: ", "Invalid parameter 'pid'"], Class::NoProcess, "9.1.8"),
    (&["Agent error: ", "has been disabled"], Class::AgentForbids, "QEMU 10.0, qapi/qmp-dispatch.c"),
    (&["Agent error: ", "has not been found"], Class::AgentForbids, "QEMU 10.0, qapi/qmp-dispatch.c"),
    (&["Agent error: "], Class::InGuest, "9.1.8"),
    (&["no such task"], Class::NoTask, "9.1.8"),
    (&["VM is locked"], Class::Busy, "9.1.8"),
    (&["can't lock file"], Class::Busy, "9.1.8"),
    (&["got lock request timeout"], Class::Busy, "pve-cluster 9.0"),
    (&["-locked command timed out"], Class::Busy, "pve-cluster 9.0"),
    // The child waits for the parent's word and is killed without it: nothing was done.
    (&["got no worker upid"], Class::Busy, "9.1.8"),
    (&["file change by other user?"], Class::Conflict, "9.1.8"),
    (&["file changed by other user?"], Class::Conflict, "9.1.8"),
    (&["checksum mismatch"], Class::OtherSum, "9.1.8"),
    (&["download failed"], Class::NoDownload, "9.1.8"),
    (&["pool '", "is not empty"], Class::NotEmpty, "9.1.8"),
    (&["pool '", "does not exist"], Class::NoPool, "9.1.8"),
    (&["parent '", "of pool '", "does not exist"], Class::NoPool, "9.1.8"),
    (&["Permission check failed"], Class::Rights, "9.1.8"),
    (&["only root can set"], Class::Rights, "9.1.8"),
    (&["Only root "], Class::Rights, "9.1.8"),
    (&["No space left on device"], Class::Full, "9.1.8"),
    (&["out of space"], Class::Full, "libpve-storage-perl 9.1"),
    (&["not enough free space"], Class::Full, "libpve-storage-perl 9.1"),
    (&["not enough space"], Class::Full, "libpve-storage-perl 9.1"),
    (&["no space left"], Class::Full, "libpve-storage-perl 9.1"),
    (&["insufficient free space"], Class::Full, "libpve-storage-perl 9.1"),
    (&["insufficient space"], Class::Full, "libpve-storage-perl 9.1"),
    (&["VM ", " is not running"], Class::NotRunning, "9.1.8"),
    (&["No QEMU guest agent configured"], Class::AgentOff, "9.1.8"),
    (&["QEMU guest agent is not running"], Class::NoAgent, "9.1.8"),
    (&["guest-", "got timeout"], Class::NoAgent, "9.1.8"),
    (&["no quorum"], Class::NoQuorum, "9.1.8"),
    (&["already exists"], Class::Exists, "9.1.8"),
    (&["File exists"], Class::Exists, "9.1.8"),
    (&["refusing to override existing file"], Class::Exists, "9.1.8"),
    (&["Linked clone feature"], Class::NoLinkedClone, "9.1.8"),
    (&["hostname lookup"], Class::NoNode, "9.1.8"),
    (&["no such cluster node"], Class::NoNode, "9.1.8"),
    (&["can't clone VM to node", "local storage"], Class::NotShared, "qemu-server 9.1"),
    (&["can't clone to non-shared storage"], Class::NotShared, "qemu-server 9.1"),
    (&["bridge '", "does not exist"], Class::NoBridge, "9.1.8"),
    (&["no such bridge"], Class::NoBridge, "qemu-server 9.1"),
    (&["no physical interface on bridge '"], Class::NoBridge, "9.1.8"),
    (&["hotplug problem - interface ", "does not exist"], Class::NoBridge, "9.1.8"),
    (&["MAX ", "vcpus allowed per VM"], Class::TooManyCpus, "9.1.8"),
    (&["still busy in guest"], Class::HeldByGuest, "9.1.8"),
    (&["can't unplug"], Class::HeldByGuest, "9.1.8"),
    (&["volume", "is still in use"], Class::InUse, "9.1.8"),
    (&["does not support"], Class::WrongContent, "9.1.8"),
    (&["content-type"], Class::WrongContent, "libpve-storage-perl 9.1"),
    (&["storage '", "does not exist"], Class::NoStorage, "9.1.8"),
    (&["storage '", "is not available on node"], Class::NoStorage, "9.1.8"),
    (&["storage '", "is disabled"], Class::NoStorage, "9.1.8"),
    (&["volume '", "does not exist"], Class::NoStorage, "9.1.8"),
    (&["no such volume"], Class::NoStorage, "9.1.8"),
    (&["failed to stat '"], Class::NoStorage, "9.1.8"),
    (&["No such file"], Class::NoStorage, "9.1.8"),
    (&["no such file"], Class::NoStorage, "9.1.8"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::error::{Error, Refused};

    #[track_caller]
    fn check(status: u16, message: &str, class: Class) {
        let errors = BTreeMap::new();
        let call = "GET /x".to_owned();
        let refused = Refused { call, endpoint: String::new(), status, message: message.to_owned(), errors };
        assert_eq!(Error::Refused(Box::new(refused)).class(), class, "{message}");
    }

    #[test]
    fn refusals_are_told_apart_by_their_text() {
        check(500, "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist", Class::NoGuest);
        check(500, "unable to create VM 100 - VM 100 already exists on node 'pve1'", Class::Exists);
        check(500, "unable to create VM 101: config file already exists", Class::Exists);
        check(500, "VM is locked (clone)", Class::Busy);
        check(500, "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout", Class::Busy);
        check(500, "cfs-lock 'storage-nfs' error: got lock request timeout", Class::Busy);
        check(500, "checksum mismatch (file change by other user?)", Class::Conflict);
        check(500, "storage 'nowhere' does not exist", Class::NoStorage);
        check(500, "volume 'local:iso/x.iso' does not exist", Class::NoStorage);
        check(500, "failed to stat '/var/lib/vz/import/x.qcow2'", Class::NoStorage);
        check(500, "can't clone VM to node 'pve2' (VM uses local storage)", Class::NotShared);
        check(403, "Permission check failed (/vms/100, VM.Audit)", Class::Rights);
        check(500, "only root can set 'args' config", Class::Rights);
        check(401, "", Class::Credentials);
        check(500, "got no worker upid - start worker failed", Class::Busy);
        check(403, "Permission check failed (pool 'x' does not exist)", Class::NoPool);
        check(500, "hostname lookup 'pve7' failed", Class::NoNode);
        check(500, "checksum mismatch: got 'a' != expect 'b'", Class::OtherSum);
        check(500, "Linked clone feature is not supported for 'x' (scsi0)", Class::NoLinkedClone);
        check(500, "MAX 4 vcpus allowed per VM on this node", Class::TooManyCpus);
        check(500, "hotplug problem - error unplugging scsi1 - still busy in guest?", Class::HeldByGuest);
        check(500, "unable to delete 'data:1/vm-1-disk-1.qcow2' - volume is still in use (snapshot?)", Class::InUse);
        check(500, "base volume '6/base-6-disk-0.qcow2' is still in use by linked clones", Class::InUse);
        check(500, "pool 'none' does not exist", Class::NoPool);
        check(500, "create pool failed: parent 'q18' of pool 'q18/sub' does not exist", Class::NoPool);
        check(500, "create pool failed: pool 'p18' already exists", Class::Exists);
        check(500, "delete pool failed: pool 'p18' is not empty (contains pool 'p18/sub')", Class::NotEmpty);
        check(500, "VM 200 is not running", Class::NotRunning);
        check(500, "No QEMU guest agent configured", Class::AgentOff);
        check(500, "QEMU guest agent is not running", Class::NoAgent);
        check(500, "VM 200 qmp command 'guest-exec' failed - got timeout", Class::NoAgent);
        check(
            500,
            "Agent error: Command guest-exec has been disabled: the command is not allowed",
            Class::AgentForbids,
        );
        check(500, "Agent error: Invalid parameter 'pid'", Class::NoProcess);
        let missing = "failed to open file '/nosuch/x' (mode: 'wb'): No such file or directory";
        check(500, &format!("Agent error: {missing}"), Class::InGuest);
        check(500, "Agent error: failed to write to file: No space left on device", Class::InGuest);
        check(500, "something else", Class::Other);
    }
}
