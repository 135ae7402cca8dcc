//! The guests and nodes of a cluster as it lists them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::ids::{NodeName, Vmid};

/// A VM or a container, as the cluster lists it. `status` and `name` may be some seconds old, or missing right after creation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Guest {
    /// Its number.
    pub vmid: Vmid,
    /// Where it is.
    pub node: NodeName,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: GuestKind,
    /// Its name.
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    pub name: Option<String>,
    /// `running`, `stopped`, `paused`, `unknown` …
    #[serde(default)]
    pub status: String,
    /// True for templates.
    #[serde(default, deserialize_with = "crate::quirks::flag")]
    pub template: bool,
    /// Its tags as the server lists them.
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    pub tags: Option<String>,
    /// What it is locked for.
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    pub lock: Option<String>,
    /// Its pool.
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    pub pool: Option<String>,
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    maxcpu: Option<String>,
    /// Memory in bytes.
    #[serde(default)]
    pub maxmem: Option<u64>,
}

impl Guest {
    /// Its CPUs.
    #[must_use]
    pub fn cpus(&self) -> Option<u32> {
        self.maxcpu.as_deref()?.split('.').next()?.parse().ok()
    }

    /// Its tags, one by one.
    #[must_use]
    pub fn tags(&self) -> Vec<String> {
        self.tags.as_deref().map(crate::quirks::words).unwrap_or_default()
    }
}

/// What a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestKind {
    /// A virtual machine.
    Qemu,
    /// A container.
    Lxc,
}

/// All guests at one moment, and the nodes there were.
#[derive(Debug, Default)]
pub struct Guests(Vec<Guest>, BTreeMap<NodeName, bool>);

impl Guests {
    /// The guest with that number.
    #[must_use]
    pub fn find(&self, vmid: Vmid) -> Option<&Guest> {
        self.0.iter().find(|guest| guest.vmid == vmid)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Guest> {
        self.0.iter()
    }

    /// Every node of the cluster, and whether it is in reach of the others.
    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<NodeName, bool> {
        &self.1
    }

    /// From the rows of one answer, which are of many kinds: storages, networks and pools are nothing to us.
    pub(crate) fn of(rows: Vec<Value>) -> serde_json::Result<Self> {
        let mut all = Self::default();
        for row in rows {
            match row.get("type").and_then(Value::as_str) {
                Some("qemu" | "lxc") => all.0.push(Guest::deserialize(row)?),
                Some("node") => {
                    let node = NodeRow::deserialize(row)?;
                    all.1.insert(node.node, node.status == "online");
                }
                _ => {}
            }
        }
        all.0.sort_by_key(|guest| guest.vmid);
        Ok(all)
    }
}

#[derive(Deserialize)]
struct NodeRow {
    node: NodeName,
    #[serde(default)]
    status: String,
}
