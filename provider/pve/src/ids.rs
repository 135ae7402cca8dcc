//! Names and numbers that Proxmox VE gives to things, checked once where they enter.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Text that is not what its type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct BadId {
    what: &'static str,
    text: String,
}

impl BadId {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.to_owned() }
    }
}

/// The number of a guest, unique in its cluster: 100 to 999999999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vmid(u32);

impl Vmid {
    /// The number, if it may be one of a guest.
    #[must_use]
    pub fn new(number: i64) -> Option<Self> {
        u32::try_from(number).ok().filter(|number| (100..=999_999_999).contains(number)).map(Self)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next higher number.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(i64::from(self.0) + 1)
    }
}

impl fmt::Display for Vmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vmid {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        number.and_then(Self::new).ok_or_else(|| BadId::new("VM id", text))
    }
}

impl<'de> Deserialize<'de> for Vmid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = crate::quirks::int(from)?;
        Self::new(number).ok_or_else(|| D::Error::custom(format!("{number} is no VM id")))
    }
}

/// The name of a node: a DNS label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NodeName {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let good = !text.is_empty() && text.len() <= 63 && text.bytes().all(inner);
        let good = good && !text.starts_with('-') && !text.ends_with('-');
        if good { Ok(Self(text.to_owned())) } else { Err(BadId::new("node name", text)) }
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The name of a task: `UPID:<node>:<pid>:<pstart>:<starttime>:<type>:<id>:<user>:`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upid {
    text: String,
    node: NodeName,
}

impl Upid {
    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The node that runs the task. For an upload it is the node that took the stream.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.node
    }

    /// What the task does: `qmcreate`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.part(5)
    }

    /// What it does it to: mostly a VM id; the source's for a clone.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.part(6)
    }

    fn part(&self, index: usize) -> &str {
        self.text.split(':').nth(index).unwrap_or_default()
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl FromStr for Upid {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId::new("task id", text);
        let parts: Vec<&str> = text.split(':').collect();
        let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match parts.as_slice() {
            ["UPID", node, pid, pstart, start, kind, _id, user, ""]
                if hex(pid) && hex(pstart) && hex(start) && !kind.is_empty() && !user.is_empty() =>
            {
                Ok(Self { text: text.to_owned(), node: node.parse().map_err(|_| bad())? })
            }
            _ => Err(bad()),
        }
    }
}

impl<'de> Deserialize<'de> for Upid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A volume: `<storage>:<name>`, as in `local:import/debian-12.qcow2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId {
    storage: String,
    name: String,
}

impl VolumeId {
    /// The volume of that name on a storage.
    pub fn new(storage: impl Into<String>, name: impl Into<String>) -> Self {
        Self { storage: storage.into(), name: name.into() }
    }

    /// The storage.
    #[must_use]
    pub fn storage(&self) -> &str {
        &self.storage
    }

    /// The rest, as in `import/debian-12.qcow2` or `vm-100-disk-0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.storage, self.name)
    }
}

impl FromStr for VolumeId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        match text.split_once(':') {
            Some((storage, name)) if !storage.is_empty() && !name.is_empty() && !storage.contains('/') => {
                Ok(Self::new(storage, name))
            }
            _ => Err(BadId::new("volume", text)),
        }
    }
}

impl<'de> Deserialize<'de> for VolumeId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_id_has_bounds() {
        assert_eq!("100".parse::<Vmid>().unwrap().get(), 100);
        for bad in ["99", "1000000000", "+100", "1e3", ""] {
            assert!(bad.parse::<Vmid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_task_id_is_taken_apart() {
        let upid: Upid = "UPID:pve1:00000148:000BF2D3:6B01181E:qmcreate:150:root@pam!lab:".parse().unwrap();
        assert_eq!((upid.node().as_str(), upid.kind(), upid.subject()), ("pve1", "qmcreate", "150"));
        let upload: Upid = "UPID:pve1:00000C29:000E9874:6B011EE4:imgcopy::root@pam!lab:".parse().unwrap();
        assert_eq!((upload.kind(), upload.subject()), ("imgcopy", ""));
        for bad in ["", "UPID:pve1:1:2:3:x:y:z", "UPID:pve1:1:2:g:x:y:z:", "UPID:a b:1:2:3:x:y:z:"] {
            assert!(bad.parse::<Upid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_volume_keeps_what_follows_its_storage() {
        let volume: VolumeId = "local:9000/base-9000-disk-0.qcow2/101/vm-101-disk-0.qcow2".parse().unwrap();
        assert_eq!(volume.storage(), "local");
        assert_eq!(volume.to_string(), "local:9000/base-9000-disk-0.qcow2/101/vm-101-disk-0.qcow2");
        assert!("none".parse::<VolumeId>().is_err());
        assert!("/dev/sda:1".parse::<VolumeId>().is_err());
    }
}
