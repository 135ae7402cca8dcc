//! The static addresses of a VM: those of its configuration, and their record in its own options.

use std::net::IpAddr;

use pve::{Params, Settings};
use tf::Path;

use super::disks;
use super::model::CloudInit;

/// Static addresses and where they are written.
pub(super) fn statics(cloud_init: &CloudInit) -> Vec<(Path, IpAddr)> {
    let mut all = Vec::new();
    for (slot, interface) in cloud_init.network.get().into_iter().flatten() {
        let at = Path::from("cloud_init").name("network").key(slot);
        for (name, value) in [("address", &interface.address), ("address6", &interface.address6)] {
            if let Some((address, _)) = value.text().and_then(crate::cidr::parse) {
                all.push((at.name(name), address));
            }
        }
    }
    all
}

/// The static addresses as Proxmox VE's own options: without its cloud-init drive they do nothing but tell an import.
pub(super) fn recording(cloud_init: Option<&CloudInit>) -> Params {
    let mut params = Params::new();
    let interfaces = cloud_init.and_then(|cloud_init| cloud_init.network.get()).into_iter().flatten();
    for (slot, interface) in interfaces {
        let part = |key: &str, value: Option<&str>| value.map(|value| format!("{key}={value}"));
        let parts = [part("ip", interface.address.text()), part("ip6", interface.address6.text())];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            params.set(&slot.replace("net", "ipconfig"), parts.join(","));
        }
    }
    params
}

/// The static addresses that were recorded in the VM's own options, for imports.
pub(super) fn recorded(now: &Settings) -> Vec<String> {
    let mut slots: Vec<&str> = now.keys().filter(|key| key.starts_with("ipconfig")).collect();
    slots.sort_by_key(|slot| disks::number(slot));
    let values = slots.into_iter().filter_map(|slot| now.written(slot)).map(pve::PropertyString::parse);
    let addresses = values.flat_map(|value| [value.get("ip").map(str::to_owned), value.get("ip6").map(str::to_owned)]);
    addresses.flatten().filter_map(|text| Some(crate::cidr::parse(&text)?.0.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::model::Interface;
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn static_addresses_are_recorded_and_read_back() {
        let interface =
            Interface { address: "10.77.0.11/24".into(), address6: "fd00::1/64".into(), ..Interface::default() };
        let network = BTreeMap::from([("net1".to_owned(), interface)]);
        let params = recording(Some(&CloudInit { network: network.into(), ..CloudInit::default() }));
        assert_eq!(params.get("ipconfig1"), Some("ip=10.77.0.11/24,ip6=fd00::1/64"));
        let rows = serde_json::json!([{ "key": "ipconfig1", "value": params.get("ipconfig1") }]);
        let settings = serde_json::from_value(rows).unwrap();
        assert_eq!(recorded(&settings), ["10.77.0.11", "fd00::1"]);
    }
}
