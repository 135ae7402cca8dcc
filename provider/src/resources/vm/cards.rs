//! Network cards: the rows of their options, and what their slots hold. Pure.

use std::collections::BTreeMap;

use pve::{Net, PropertyString, Settings};
use tf::{Attr, Model, Row};

use super::checks;
use super::effect::{Attribute, Class, Takes};
use super::model::Vm;
use super::option::{self, Form, New, Table, Values, VmOption, flag_if_on, text, whole};

/// A network card.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Network {
    pub(super) bridge: Attr<String>,
    pub(super) model: Attr<String>,
    pub(super) mac: Attr<String>,
    pub(super) vlan: Attr<i64>,
    pub(super) firewall: Attr<bool>,
    pub(super) mtu: Attr<i64>,
}

impl Network {
    /// One row per option of the slot's property string. What is set on the host's side is live; the rest is another device in the
    /// guest, unplugged and plugged in.
    #[rustfmt::skip]
    pub(super) fn table(&mut self) -> Table<'_> {
        let Self { bridge, model, mac, vlan, firewall, mtu } = self;
        vec![
            VmOption {
                attribute: "bridge", field: bridge, key: "bridge", form: text(Values::Name(checks::bridge)), absent: None,
                new: New::Given, takes: Takes::Live, privilege: PRIVILEGE,
                doc: "Bridge or SDN network to attach to.",
            }.row(),
            VmOption {
                attribute: "model", field: model, key: "model", form: text(Values::Words(&CARDS)), absent: None,
                new: New::Value("virtio".to_owned()), takes: Takes::Plugged(Class::Network), privilege: PRIVILEGE,
                doc: "Model of the card.",
            }.row(),
            VmOption {
                attribute: "mac", field: mac, key: "macaddr", form: MAC, absent: None,
                new: New::Chosen, takes: Takes::Plugged(Class::Network), privilege: PRIVILEGE,
                doc: "Hardware address. Default: one that Proxmox VE makes, and that the card keeps, even when somebody takes it away and the next apply brings it back. A change cuts off a guest whose network settings name the card by its address, as those of cloud-init do.",
            }.row(),
            VmOption {
                attribute: "vlan", field: vlan, key: "tag", form: whole(1, Some(4094)), absent: None,
                new: New::Nothing, takes: Takes::Live, privilege: PRIVILEGE,
                doc: "VLAN tag.",
            }.row(),
            VmOption {
                attribute: "firewall", field: firewall, key: "firewall", form: flag_if_on(), absent: Some(false),
                new: New::Value(false), takes: Takes::Live, privilege: PRIVILEGE,
                doc: "Whether Proxmox VE's firewall filters the card.",
            }.row(),
            VmOption {
                attribute: "mtu", field: mtu, key: "mtu", form: whole(1, Some(65_520)), absent: None,
                new: New::Nothing, takes: Takes::Plugged(Class::Network), privilege: PRIVILEGE,
                doc: "MTU of a `virtio` card; 1 takes the bridge's.",
            }.row(),
        ]
    }

    /// Every attribute, with what a change of it does.
    pub(super) fn attributes(&mut self) -> Vec<Attribute<'_>> {
        option::attributes(self.table(), "Default").collect()
    }
}

impl Model for Network {
    fn rows(&mut self) -> Vec<Row<'_>> {
        self.attributes().into_iter().map(|attribute| attribute.row).collect()
    }
}

/// In upper or lower case.
const MAC: Form<String> = Form { same: |a, b| a.eq_ignore_ascii_case(b), ..text(Values::Text(checks::mac)) };

const CARDS: [&str; 6] = ["virtio", "e1000", "e1000e", "rtl8139", "vmxnet3", "pcnet"];
/// To write a slot's options.
const PRIVILEGE: &str = "VM.Config.Network";

/// The network cards the model manages.
pub(super) fn of(m: &Vm) -> BTreeMap<String, Network> {
    m.network.cloned().unwrap_or_default()
}

/// Whether an option is the slot of a network card.
pub(super) fn is_slot(key: &str) -> bool {
    key.strip_prefix("net").is_some_and(|rest| rest.parse::<u32>().is_ok())
}

/// The slots of network cards that the VM really has.
pub(super) fn slots(settings: &Settings) -> Vec<String> {
    settings.keys().filter(|key| is_slot(key)).map(str::to_owned).collect()
}

/// A card as the model gives it, on top of what is there.
pub(super) fn line(present: Option<&str>, wanted: &Network) -> String {
    let before = Net::parse(present.unwrap_or_default());
    let model =
        wanted.model.cloned().or_else(|| before.model().map(str::to_owned)).unwrap_or_else(|| "virtio".to_owned());
    let mac = wanted.mac.cloned().or_else(|| before.mac().map(str::to_owned));
    let same_mac = before.mac().is_some_and(|own| mac.as_deref().is_some_and(|mac| mac.eq_ignore_ascii_case(own)));
    let mut text = if present.is_some() && same_mac && before.model() == Some(model.as_str()) {
        before.0
    } else {
        replug(&before, &model, mac.as_deref())
    };
    let mut table = wanted.clone();
    let rest = table.table().into_iter().filter(|option| !HEAD.contains(&option.facts().key));
    option::write(rest.collect(), &mut text);
    text.to_string()
}

/// Another card in the same slot, with the other options kept.
fn replug(before: &Net, model: &str, mac: Option<&str>) -> PropertyString {
    let mut text = match mac {
        Some(mac) => PropertyString::parse(&format!("{model}={mac}")),
        None => PropertyString::of(model),
    };
    let own = |key: &str| Some(key) == before.model() || matches!(key, "model" | "macaddr");
    for (key, value) in before.0.iter() {
        if let Some(key) = key.filter(|key| !own(key)) {
            text.set(key, value);
        }
    }
    text
}

/// What is really there; the spelling of a hardware address stays.
pub(super) fn fill(card: &mut Network, present: &str) {
    let net = Net::parse(present);
    option::fill(card.table(), |key| match key {
        "model" => net.model(),
        "macaddr" => net.mac(),
        key => net.0.get(key),
    });
}

/// Model and hardware address are written as one, at the start of the line.
const HEAD: [&str; 2] = ["model", "macaddr"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_keeps_its_address_and_unknown_options() {
        let wanted = Network { bridge: "vmbr1".into(), vlan: 7.into(), ..Network::default() };
        assert_eq!(line(None, &wanted), "virtio,bridge=vmbr1,tag=7");
        let present = "virtio=BC:24:11:00:00:01,bridge=vmbr0,queues=4";
        assert_eq!(line(Some(present), &wanted), "virtio=BC:24:11:00:00:01,bridge=vmbr1,queues=4,tag=7");
        let other = Network { model: "e1000".into(), ..wanted };
        assert_eq!(line(Some(present), &other), "e1000=BC:24:11:00:00:01,bridge=vmbr1,queues=4,tag=7");
    }

    #[test]
    fn a_hardware_address_keeps_its_spelling() {
        let mut network = Network { mac: "bc:24:11:00:00:01".into(), ..Network::default() };
        fill(&mut network, "virtio=BC:24:11:00:00:01,bridge=vmbr0");
        assert_eq!(network.mac.text(), Some("bc:24:11:00:00:01"));
    }
}
