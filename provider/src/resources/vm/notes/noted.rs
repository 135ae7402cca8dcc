//! What a refresh sees and the model has no attribute for, kept in the VM's private state for plans, which look at nothing themselves.

use std::collections::{BTreeMap, BTreeSet};

use pve::{Net, NodeName, Settings};
use serde::{Deserialize, Serialize};
use tf::Private;

use crate::resources::vm::effect::Class;
use crate::resources::vm::{cards, disks};

/// As the VM and its cluster were at the last refresh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Noted {
    /// The option of that name, in force.
    hotplug: Option<String>,
    /// What the machine boots from.
    boot: Vec<String>,
    /// Slots whose removal waits for a power cycle: the device is still there.
    leaving: BTreeSet<String>,
    /// Of those, the ones that a power cycle was not asked for, and why.
    held: BTreeMap<String, Held>,
    /// Hardware address by slot, also of cards that somebody has taken away since.
    macs: BTreeMap<String, String>,
    /// The nodes of the cluster, and whether they were online.
    nodes: BTreeMap<String, bool>,
}

/// Why a removal that was asked for has not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Held {
    /// The running guest did not give the device up.
    Guest,
    /// A snapshot uses the volume: no power cycle helps.
    Snapshot,
}

impl Noted {
    /// What the last refresh noted; nothing if none did yet.
    pub(crate) fn of(private: &Private) -> Self {
        private.get(NOTED).unwrap_or_default()
    }

    /// Whether a running VM takes devices of this class. Without a word, `hotplug` is `network,disk,usb`.
    pub(crate) fn allows(&self, class: Class) -> bool {
        match self.hotplug.as_deref() {
            None | Some("1") => class != Class::Memory,
            Some(classes) => classes.split([',', ';', ' ']).any(|own| own == class.word()),
        }
    }

    pub(crate) fn boots_from(&self, slot: &str) -> bool {
        self.boot.iter().any(|own| own == slot)
    }

    pub(crate) fn is_leaving(&self, slot: &str) -> bool {
        self.leaving.contains(slot)
    }

    /// Why a removal that was asked for has not come about, if that is known.
    pub(crate) fn held(&self, slot: &str) -> Option<Held> {
        self.held.get(slot).copied().filter(|_| self.is_leaving(slot))
    }

    /// The address that a card in this slot has or last had.
    pub(crate) fn mac(&self, slot: &str) -> Option<&str> {
        self.macs.get(slot).map(String::as_str)
    }

    /// Why no machine can be made on a node; `None` if one can, or if nobody knows.
    pub(crate) fn no_node(&self, node: &str) -> Option<String> {
        if self.nodes.is_empty() {
            return None;
        }
        no_node(node, self.nodes.get(node).copied(), self.nodes.keys().map(String::as_str))
    }

    #[cfg(test)]
    pub(crate) fn new(hotplug: Option<&str>, boot: &[&str]) -> Self {
        let boot = boot.iter().map(|slot| (*slot).to_owned()).collect();
        Self { hotplug: hotplug.map(str::to_owned), boot, ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn with_nodes(nodes: &[(&str, bool)]) -> Self {
        let nodes = nodes.iter().map(|(node, online)| ((*node).to_owned(), *online)).collect();
        Self { nodes, ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn keep(&self, private: &Private) {
        private.set(NOTED, self);
    }
}

/// Notes what is there now.
pub(crate) fn note(private: &Private, now: &Settings, nodes: &BTreeMap<NodeName, bool>) {
    let Noted { mut macs, mut held, .. } = Noted::of(private);
    held.retain(|slot, _| now.leaving(slot).is_some());
    for slot in cards::slots(now) {
        let mac = now.written(&slot).and_then(|text| Some(Net::parse(text).mac()?.to_owned()));
        macs.extend(mac.map(|mac| (slot, mac)));
    }
    let boot = now.current("boot").and_then(|text| text.strip_prefix("order=")).unwrap_or_default();
    let waiting: Vec<&str> = now.waiting().collect();
    let noted = Noted {
        hotplug: now.current("hotplug").map(str::to_owned),
        boot: boot.split(';').filter(|slot| disks::is_slot(slot)).map(str::to_owned).collect(),
        leaving: waiting.into_iter().filter(|key| now.leaving(key).is_some()).map(str::to_owned).collect(),
        held,
        macs,
        nodes: nodes.iter().map(|(node, online)| (node.to_string(), *online)).collect(),
    };
    private.set(NOTED, &noted);
}

/// Notes why these removals have not come about, for the plans until they have.
pub(crate) fn hold<'a>(private: &Private, slots: impl Iterator<Item = &'a String>, why: Held) {
    let mut noted = Noted::of(private);
    for slot in slots {
        noted.held.insert(slot.clone(), why);
        noted.leaving.insert(slot.clone());
    }
    private.set(NOTED, &noted);
}

/// Forgets the addresses of cards in other slots than these.
pub(crate) fn only_cards(private: &Private, slots: &BTreeSet<String>) {
    let mut noted = Noted::of(private);
    noted.macs.retain(|slot, _| slots.contains(slot));
    private.set(NOTED, &noted);
}

/// Why no machine can be made on a node that is online, offline, or none of the cluster's.
pub(crate) fn no_node<'a>(node: &str, online: Option<bool>, all: impl Iterator<Item = &'a str>) -> Option<String> {
    match online {
        Some(true) => None,
        Some(false) => Some(format!("Node {node} is offline.")),
        None => Some(format!("The cluster has no node {node}; it has {}.", all.collect::<Vec<_>>().join(", "))),
    }
}

/// Key in the VM's private state.
const NOTED: &str = "noted";

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rows: serde_json::Value) -> Settings {
        serde_json::from_value(rows).unwrap()
    }

    #[test]
    fn a_card_that_somebody_took_away_is_remembered_until_it_is_given_up() {
        let private = Private::default();
        let nodes = BTreeMap::from([("pve1".parse().unwrap(), true)]);
        let there = serde_json::json!([{"key": "net0", "value": "virtio=BC:24:11:00:00:01,bridge=vmbr0"},
            {"key": "boot", "value": "order=scsi0;net0"}, {"key": "scsi1", "value": "s:v,size=1G", "delete": 2}]);
        note(&private, &settings(there), &nodes);
        note(&private, &settings(serde_json::json!([{"key": "scsi1", "value": "s:v", "delete": 1}])), &nodes);
        let noted = Noted::of(&private);
        assert_eq!(noted.mac("net0"), Some("BC:24:11:00:00:01"));
        assert!(noted.is_leaving("scsi1") && !noted.boots_from("scsi0"));
        only_cards(&private, &BTreeSet::from(["scsi0".to_owned()]));
        assert_eq!(Noted::of(&private).mac("net0"), None);
    }

    #[test]
    fn why_a_removal_waits_is_remembered_until_it_has_come_about() {
        let private = Private::default();
        hold(&private, ["scsi1".to_owned(), "net1".to_owned()].iter(), Held::Snapshot);
        let there = serde_json::json!([{"key": "scsi1", "value": "s:v,size=1G", "delete": 2}]);
        note(&private, &settings(there), &BTreeMap::new());
        assert_eq!((Noted::of(&private).held("scsi1"), Noted::of(&private).held("net1")), (Some(Held::Snapshot), None));
        note(&private, &settings(serde_json::json!([])), &BTreeMap::new());
        assert_eq!(Noted::of(&private), Noted::default());
    }

    #[test]
    fn a_node_is_there_or_not_or_nobody_knows() {
        let noted = Noted::with_nodes(&[("pve1", true), ("pve2", false)]);
        assert_eq!(noted.no_node("pve1"), None);
        assert_eq!(noted.no_node("pve2").unwrap(), "Node pve2 is offline.");
        assert_eq!(noted.no_node("pve7").unwrap(), "The cluster has no node pve7; it has pve1, pve2.");
        assert_eq!(Noted::default().no_node("pve7"), None);
    }
}
