//! Rules across attributes: what no row can see alone. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tf::{Attr, Diagnostic, Diagnostics, Path};

use crate::cidr;
use crate::resources::vm::checks;
use crate::resources::vm::model::{CloudInit, Interface, Vm};

/// Rules across attributes. Unknown means "ask again later".
pub(crate) fn validate(m: &Vm) -> Diagnostics {
    let mut found = Diagnostics::new();
    if m.image.is_known() && m.clone.is_known() {
        found.push(wrong("Set `image` or `clone`, not both.", "clone"));
    }
    if let Some(clone) = m.clone.get() {
        let given = [!clone.vmid.is_null(), !clone.name.is_null(), !clone.tag.is_null()];
        if given.iter().filter(|given| **given).count() != 1 {
            found.push(wrong("Give exactly one of `vmid`, `name` and `tag` of what to clone.", "clone"));
        }
    }
    if m.image.is_known() && m.disk.get().map_or(m.disk.is_null(), |disks| disks.is_empty()) {
        found.push(wrong("`image` needs a disk to be copied to.", "disk"));
    }
    let diskless = m.disk.get().map_or(m.disk.is_null(), |disks| disks.is_empty());
    if m.options.firmware.text() == Some("ovmf") && diskless && m.efi_storage.is_null() && m.clone.is_null() {
        found.push(wrong("UEFI keeps its variables on a disk: say on which storage.", "efi_storage"));
    }
    check_disks(m, &mut found);
    for (slot, card) in m.network.get().into_iter().flatten() {
        let other = card.model.text().filter(|model| *model != "virtio");
        if let (Some(model), true) = (other, card.mtu.is_known()) {
            let why = format!("Proxmox VE sets the MTU of `virtio` cards only, and this one is `{model}`.");
            found.push(wrong(&why, Path::from("network").key(slot).name("mtu")));
        }
    }
    if let Some(cloud_init) = m.cloud_init.get() {
        check_network(m, cloud_init, &mut found);
    }
    check_agent(m, &mut found);
    found
}

fn check_disks(m: &Vm, found: &mut Diagnostics) {
    let seed = m.cloud_init.get().and_then(|cloud_init| cloud_init.slot.text()).unwrap_or(checks::SEED_SLOT);
    for (slot, disk) in m.disk.get().into_iter().flatten() {
        let at = Path::from("disk").key(slot);
        if slot == seed {
            found.push(wrong(
                &format!("`{slot}` is the drive of the seed image; a disk cannot be there too."),
                at.clone(),
            ));
        }
        if disk.ssd.is_true() && slot.starts_with("virtio") {
            found.push(wrong("A `virtio` disk cannot be shown as SSD; use a `scsi` slot.", at.name("ssd")));
        }
        if disk.iothread.is_true() && slot.starts_with("sata") {
            found.push(wrong("A `sata` disk has no thread of its own; use a `scsi` slot.", at.name("iothread")));
        }
    }
}

fn check_network(m: &Vm, cloud_init: &CloudInit, found: &mut Diagnostics) {
    let mut addresses = BTreeSet::new();
    check_default_routes(cloud_init, found);
    for (slot, interface) in cloud_init.network.get().into_iter().flatten() {
        let at = Path::from("cloud_init").name("network").key(slot);
        let cards = m.network.get();
        // A clone without a word about cards has those of its template.
        let copied = cards.is_some_and(BTreeMap::is_empty) && !m.clone.is_null();
        let card = copied || cards.is_none_or(|cards| cards.contains_key(slot));
        if !card {
            found.push(wrong(&format!("There is no `network \"{slot}\"` for it."), at.clone()));
        }
        for (name, gateway, of, address) in [
            ("gateway", &interface.gateway, "address", &interface.address),
            ("gateway6", &interface.gateway6, "address6", &interface.address6),
        ] {
            let own = address.text().and_then(cidr::parse);
            if gateway.is_known() && own.is_none() && !address.is_unknown() {
                found.push(wrong(&format!("A gateway needs a static `{of}`."), at.name(name)));
            }
            let (Some(gateway), Some(text), Some((own, _))) = (gateway.text(), address.text(), own) else { continue };
            if gateway.parse() == Ok(own) {
                found.push(wrong(&format!("{gateway} is the machine's own `{of}`."), at.name(name)));
            } else if !checks::reaches(text, gateway) {
                found.push(wrong(&format!("{gateway} is not in the network of {text}."), at.name(name)));
            }
        }
        for (destination, route) in interface.route.get().into_iter().flatten() {
            let to = cidr::parse(destination).map(|(address, _)| address.is_ipv4());
            let via = route.via.text().and_then(|via| via.parse::<IpAddr>().ok()).map(|via| via.is_ipv4());
            if to.is_some() && via.is_some() && to != via {
                let at = at.name("route").key(destination).name("via");
                found.push(wrong("The gateway of a route is of the same kind as its destination: IPv4 or IPv6.", at));
            }
        }
        for (name, address) in [("address", &interface.address), ("address6", &interface.address6)] {
            let own = address.text().and_then(cidr::parse).map(|(address, _)| address);
            if own.is_some_and(|own| !addresses.insert(own)) {
                found.push(wrong("Two cards have this address.", at.name(name)));
            }
        }
    }
}

/// Two default routes of the same metric are a matter of luck: which one is taken differs from boot to boot.
fn check_default_routes(cloud_init: &CloudInit, found: &mut Diagnostics) {
    let interfaces = || cloud_init.network.get().into_iter().flatten();
    if interfaces().any(|(_, interface)| interface.metric.is_unknown()) {
        return;
    }
    type Gateway = fn(&Interface) -> &Attr<String>;
    let kinds: [(&str, Gateway); 2] = [("gateway", |card| &card.gateway), ("gateway6", |card| &card.gateway6)];
    for (name, gateway) in kinds {
        let mut metrics = BTreeMap::new();
        for (slot, card) in interfaces().filter(|(_, card)| !gateway(card).is_null()) {
            if let Some(first) = metrics.insert(card.metric.get(), slot) {
                let why = format!(
                    "`{first}` has a default route of the same metric: leave one of the gateways out, reach what is behind it by \
                     `route` blocks, or give the cards different values of `metric`."
                );
                found.push(wrong(&why, Path::from("cloud_init").name("network").key(slot).name(name)));
            }
        }
    }
}

fn check_agent(m: &Vm, found: &mut Diagnostics) {
    let Some(agent) = m.agent.get() else { return };
    let asks = agent.address.is_null() && !m.options.guest_agent.is_true() && !m.options.guest_agent.is_unknown();
    if asks && !m.cloud_init.is_unknown() && !m.cloud_init.get().is_some_and(may_have_address) {
        let why = "The agent is reached by its address, and nothing here says which: give a static `address` in \
            `cloud_init.network`, or set `guest_agent = true` for an image that carries QEMU's guest agent.";
        found.push(wrong(why, "agent"));
    }
}

fn may_have_address(cloud_init: &CloudInit) -> bool {
    let interfaces = cloud_init.network.get().into_iter().flatten();
    let may_be_static =
        |address: &Attr<String>| address.is_unknown() || address.text().is_some_and(|text| cidr::parse(text).is_some());
    let mut any =
        interfaces.map(|(_, interface)| may_be_static(&interface.address) || may_be_static(&interface.address6));
    cloud_init.network.is_unknown() || any.any(|has| has)
}

fn wrong(problem: &str, at: impl Into<Path>) -> Diagnostic {
    let at = at.into();
    Diagnostic::error(format!("Cannot use this value of {at}")).happened(problem).at(at)
}
