//! The address of a node: what its kubelet registers, and where the cluster's other nodes reach it. A machine with several cards has
//! one for each, and the kubelet by itself takes the one of the default route.

use super::model::{Cluster, Member};
use crate::agents::{Endpoint, form};
use crate::cidr;
use std::net::{IpAddr, SocketAddr};
use tf::{Diagnostic, Path};

/// Where the API server is, as far as the configuration says it by an address: nodes are best in its network.
pub(super) fn of_api(m: &Cluster) -> Option<IpAddr> {
    let given = m.endpoint.text().or_else(|| m.kube_vip.get()?.address.text()).and_then(host);
    let planes = m.control_planes.get().into_iter().flatten();
    given.or_else(|| planes.filter_map(|(_, member)| given_or_reached(member)).next())
}

/// `host` or `host:port`, where the host is an address.
fn host(endpoint: &str) -> Option<IpAddr> {
    endpoint.parse().ok().or_else(|| endpoint.parse::<SocketAddr>().ok().map(|socket| socket.ip())).or_else(|| {
        let (host, port) = endpoint.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        host.parse().ok()
    })
}

fn given_or_reached(member: &Member) -> Option<IpAddr> {
    let given = member.address.text().and_then(|text| text.parse().ok());
    given.or_else(|| reached(member.endpoint.get()?.address.text()?))
}

/// The address by which the machine is reached, where that can be the address of a node.
fn reached(endpoint: &str) -> Option<IpAddr> {
    host(endpoint).filter(|address| !address.is_loopback())
}

/// The address for the node; empty where the kubelet is to choose. `own` are the machine's, with the lengths of their prefixes.
pub(super) fn of_node(
    member: &Member,
    machine: &Endpoint,
    (api, own): (Option<IpAddr>, &[String]),
    at: &Path,
) -> Result<String, Diagnostic> {
    let all: Vec<(IpAddr, u8)> = own.iter().filter_map(|text| cidr::parse(text)).collect();
    if let Some(given) = member.address.text() {
        let is_own = given.parse::<IpAddr>().is_ok_and(|given| all.iter().any(|(address, _)| *address == given));
        // An agent that cannot list them is no reason not to believe the configuration.
        return if is_own || all.is_empty() { Ok(given.to_owned()) } else { Err(not_own(given, own, at)) };
    }
    let reached = reached(&machine.address);
    let beside = |(address, length): &&(IpAddr, u8)| {
        // A virtual address is in no network, and goes.
        let single = *length == if address.is_ipv4() { 32 } else { 128 };
        api.is_some_and(|api| !single && api != *address && cidr::agree(api, *address, *length))
    };
    let mut near = all.iter().filter(beside).map(|(address, _)| *address).peekable();
    let first = near.peek().copied();
    let chosen = if near.any(|address| Some(address) == reached) { reached } else { first.or(reached) };
    Ok(chosen.map(|address| address.to_string()).unwrap_or_default())
}

fn not_own(given: &str, own: &[String], at: &Path) -> Diagnostic {
    Diagnostic::error("Cannot use this address for a node")
        .happened(format!("The machine has no address {given}. It has {}.", own.join(", ")))
        .holds("The machine was not made a node.")
        .next("Give `address` one of these, or leave it out.")
        .at(at.name("address"))
}

/// As an attribute must be.
pub(super) fn form(text: &str) -> tf::check::Verdict {
    form::address(text)?;
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() || address.is_unspecified() || address.is_multicast() => {
            Err("must be an address by which other machines reach it".to_owned())
        }
        _ => Ok(()),
    }
}

/// The warning for a node that is known by another address than the configuration gives.
pub(super) fn differs(node: &str, (wanted, real): (&str, &str), at: &Path) -> Diagnostic {
    Diagnostic::warning(format!("Node {node} has another address"))
        .happened(format!("The cluster knows it by {real}, and `address` is {wanted}."))
        .holds("A node keeps the address that it joined with: no apply changes it.")
        .next("Take the node out of the configuration, apply, and put it in again; or set `address` to what it has.")
        .at(at.name("address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointModel;
    use std::collections::BTreeMap;

    const OWN: [&str; 4] = ["192.0.2.11/24", "10.9.0.11/16", "10.9.0.250/32", "fd00:9::11/64"];

    #[track_caller]
    fn check(given: &str, reached: &str, api: &str, wanted: &str) {
        let member = Member {
            address: Some(given).filter(|given| !given.is_empty()).map_or(tf::Attr::Null, Into::into),
            ..Member::default()
        };
        let machine = Endpoint { address: reached.to_owned(), fingerprint: String::new() };
        let own = OWN.map(str::to_owned);
        let said = of_node(&member, &machine, (api.parse().ok(), &own), &"workers".into());
        assert_eq!(said.as_deref().unwrap_or("refused"), wanted, "{given} {reached} {api}");
    }

    #[test]
    fn a_node_is_known_by_its_address_in_the_network_of_the_api() {
        check("", "192.0.2.11:7443", "192.0.2.10", "192.0.2.11");
        check("", "192.0.2.11:7443", "10.9.3.1", "10.9.0.11");
        check("", "192.0.2.11:7443", "fd00:9::10", "fd00:9::11");
        // A network that the machine is not in, a name, and the machine that has the address itself.
        check("", "192.0.2.11:7443", "203.0.113.1", "192.0.2.11");
        check("", "192.0.2.11:7443", "api.example.org", "192.0.2.11");
        check("", "192.0.2.11:7443", "10.9.0.11", "192.0.2.11");
        // Behind a forwarded port the machine is not known by that address.
        check("", "127.0.0.1:7443", "10.9.3.1", "10.9.0.11");
        check("", "127.0.0.1:7443", "203.0.113.1", "");
        check("", "[fd00:9::11]:7443", "fd00:9::10", "fd00:9::11");
    }

    #[test]
    fn an_address_that_is_given_must_be_the_machines() {
        check("10.9.0.11", "192.0.2.11:7443", "192.0.2.10", "10.9.0.11");
        check("10.9.0.12", "192.0.2.11:7443", "192.0.2.10", "refused");
        for text in ["127.0.0.1", "0.0.0.0", "ff02::1", "node.example.org", "10.9.0.11/16"] {
            assert!(form(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_text_is_answered() {
        total::text("node-host", &["192.0.2.1:6443", "[fd00::1]:6443", "fd00::1"], host);
    }

    #[test]
    fn the_api_is_where_the_configuration_says() {
        let endpoint = EndpointModel { address: "192.0.2.11:7443".into(), ..EndpointModel::default() };
        let member =
            |address: &str| Member { endpoint: endpoint.clone().into(), address: address.into(), ..Member::default() };
        let cluster = |endpoint: &str, member: Member| Cluster {
            endpoint: endpoint.into(),
            control_planes: BTreeMap::from([("cp-1".to_owned(), member)]).into(),
            ..Cluster::default()
        };
        for (endpoint, api) in [
            ("10.9.3.1", "10.9.3.1"),
            ("10.9.3.1:6443", "10.9.3.1"),
            ("[fd00:9::10]:6443", "fd00:9::10"),
            ("api.example.org:6443", "10.9.0.11"),
        ] {
            assert_eq!(of_api(&cluster(endpoint, member("10.9.0.11"))), api.parse().ok(), "{endpoint}");
        }
        let none = Member { endpoint: endpoint.clone().into(), ..Member::default() };
        assert_eq!(of_api(&cluster("", none)), "192.0.2.11".parse().ok());
    }
}
