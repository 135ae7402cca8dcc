//! The networks of pods and services: what kubeadm refuses when machines are made already is refused before anything is.
//!
//! Source: kubeadm, ValidateNetworking, asked with `kubeadm config validate` of 1.36; kube-controller-manager,
//! `--node-cidr-mask-size-ipv4` and `-ipv6`. What kubeadm takes and no cluster works with is refused too: networks that overlap, or
//! are of other kinds.

use super::model::Cluster;
use crate::cidr;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use tf::check::Verdict;
use tf::{Diagnostic, Path};

/// One network, or one of IPv4 and one of IPv6.
pub(super) fn form(text: &str) -> Verdict {
    let good = match read(text).as_deref() {
        Some([_]) => true,
        Some([one, other]) => one.address.is_ipv4() != other.address.is_ipv4(),
        _ => false,
    };
    if good {
        return Ok(());
    }
    Err("must be a network such as `10.244.0.0/16`, or one of IPv4 and one of IPv6 with a comma between them"
        .to_owned())
}

/// A network.
#[derive(Clone, Copy)]
struct Network {
    address: IpAddr,
    length: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Network {
    fn bits(self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    fn kind(self) -> &'static str {
        if self.address.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    fn overlaps(self, other: Self) -> bool {
        cidr::agree(self.address, other.address, self.length.min(other.length))
    }
}

fn read(text: &str) -> Option<Vec<Network>> {
    let one = |part: &str| {
        let (address, length) = cidr::parse(part)?;
        let network = Network { address, length };
        (length <= network.bits()).then_some(network)
    };
    text.split(',').map(one).collect()
}

/// A network of the configuration and the attribute it stands in.
struct Subnet {
    attribute: &'static str,
    text: String,
    networks: Vec<Network>,
}

pub(super) fn problems(m: &Cluster) -> Vec<Diagnostic> {
    let [usual_pods, usual_services] = super::k3s::networks(m);
    let pods = if m.pod_subnet.is_null() { usual_pods } else { m.pod_subnet.text() };
    let pods = pods.and_then(|text| Some(subnet("pod_subnet", text, read(text)?)));
    // Unknown, or not of their form: nothing can be said yet.
    let services = if m.service_subnet.is_null() { usual_services } else { m.service_subnet.text() };
    let services = services.and_then(|text| Some(subnet("service_subnet", text, read(text)?)));
    let mut found = Vec::new();
    if let Some(services) = services.as_ref().filter(|_| !m.service_subnet.is_null()) {
        found.extend(services.networks.iter().filter_map(|network| size_of_services(*network)));
    }
    if let Some(pods) = pods.as_ref().filter(|_| !has_own_node_mask(m)) {
        found.extend(pods.networks.iter().filter_map(|network| size_of_pods(*network)));
    }
    if let (Some(pods), Some(services)) = (&pods, &services) {
        let whose = super::k3s::of(m).map_or("Kubernetes'", |own| own.whose);
        let own = if m.service_subnet.is_null() { format!(", {whose} own") } else { String::new() };
        found.extend(overlap(pods, services, &own).or_else(|| kinds(pods, services, &own)));
    }
    let of_cluster = [&pods, &services].into_iter().flatten();
    found.extend(of_cluster.filter_map(|subnet| machine_within(m, subnet)));
    found
}

/// The networks of pods and services, and where the API server is by its name.
pub(super) fn near(m: &Cluster) -> Vec<String> {
    let usual = super::k3s::networks(m).map(|network| network.map(str::to_owned));
    let [pods, services] = usual;
    let (pods, services) = (m.pod_subnet.cloned().or(pods), m.service_subnet.cloned().or(services));
    let endpoint = super::api(m).map(|endpoint| host(&endpoint).to_owned());
    [pods, services, endpoint].into_iter().flatten().collect()
}

/// `host` of `host:port`, `[address]:port` or `host`.
fn host(endpoint: &str) -> &str {
    match endpoint.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')) => {
            host.trim_matches(['[', ']'])
        }
        _ => endpoint,
    }
}

fn subnet(attribute: &'static str, text: &str, networks: Vec<Network>) -> Subnet {
    Subnet { attribute, text: text.to_owned(), networks }
}

fn wrong(attribute: &str, what: &str, happened: String, next: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot use this network for {what}")).happened(happened).next(next).at(attribute)
}

fn size_of_services(network: Network) -> Option<Diagnostic> {
    let hosts = network.bits().saturating_sub(network.length);
    let (widest, narrowest) = (network.bits() - MOST_HOST_BITS, network.bits() - LEAST_HOST_BITS);
    let size = if hosts > MOST_HOST_BITS { "more" } else { "less" };
    let happened = format!(
        "`service_subnet` has {network}, which is {size} than Kubernetes takes: of {} a /{widest} to a /{narrowest}.",
        network.kind()
    );
    let good = (LEAST_HOST_BITS..=MOST_HOST_BITS).contains(&hosts);
    (!good).then(|| wrong("service_subnet", "services", happened, "Give `service_subnet` another network."))
}

fn size_of_pods(network: Network) -> Option<Diagnostic> {
    let node = if network.address.is_ipv4() { 24 } else { 64 };
    let widest = node - MOST_NODE_BITS;
    let happened = format!(
        "`pod_subnet` has {network}. Each node takes a /{node} of it, and Kubernetes divides a network among at most 2^{MOST_NODE_BITS} \
         nodes, so it takes a /{widest} to a /{node} of {}.",
        network.kind()
    );
    let good = (widest..=node).contains(&network.length);
    let next = "Give `pod_subnet` another network, or another size to the nodes' parts by `config.cluster`.";
    (!good).then(|| wrong("pod_subnet", "pods", happened, next))
}

/// Whether the user gives the nodes' parts another size.
fn has_own_node_mask(m: &Cluster) -> bool {
    m.config.get().is_some_and(|config| {
        let has = |part: &tf::Attr<String>| {
            !part.is_null() && part.text().is_none_or(|text| text.contains("node-cidr-mask-size"))
        };
        has(&config.cluster) || has(&config.server)
    })
}

fn overlap(pods: &Subnet, services: &Subnet, own: &str) -> Option<Diagnostic> {
    let clash = pods.networks.iter().any(|pods| services.networks.iter().any(|services| pods.overlaps(*services)));
    let happened = format!("`pod_subnet` overlaps the network of the services, {}{own}.", services.text);
    clash.then(|| wrong("pod_subnet", "pods", happened, "Give `pod_subnet` or `service_subnet` another network."))
}

fn kinds(pods: &Subnet, services: &Subnet, own: &str) -> Option<Diagnostic> {
    let of = |subnet: &Subnet| {
        let mut kinds: Vec<_> = subnet.networks.iter().map(|network| network.kind()).collect();
        kinds.sort_unstable();
        kinds.join(" and ")
    };
    let (of_pods, of_services) = (of(pods), of(services));
    let happened = format!(
        "`pod_subnet`, {}, is of {of_pods}, and the network of the services, {}{own}, is of {of_services}.",
        pods.text, services.text
    );
    let next = "Give both networks of the same kinds: one of IPv4, one of IPv6, or one of each with a comma.";
    (of_pods != of_services).then(|| wrong("pod_subnet", "pods", happened, next))
}

/// Whoever has an address in the pods' or services' network is not reached from the nodes.
fn machine_within(m: &Cluster, subnet: &Subnet) -> Option<Diagnostic> {
    let members = [("control_planes", &m.control_planes), ("workers", &m.workers)];
    for (attribute, members) in members {
        for (name, member) in members.get().into_iter().flatten() {
            let reached =
                member.endpoint.get().and_then(|endpoint| endpoint.address.text()?.parse::<SocketAddr>().ok());
            let given = member.address.text().and_then(|text| text.parse().ok());
            let (name_of, address) = match (given, reached) {
                (Some(given), _) => ("address", given),
                (None, Some(reached)) => ("endpoint", reached.ip()),
                (None, None) => continue,
            };
            let machine = Network { address, length: if address.is_ipv4() { 32 } else { 128 } };
            if let Some(network) = subnet.networks.iter().find(|network| network.overlaps(machine)) {
                let at = Path::from(attribute).key(name).name(name_of);
                let what = if subnet.attribute == "pod_subnet" { "pods" } else { "services" };
                let happened = format!(
                    "The machine of {at}, {address}, is within {network}: the nodes would take it for one of the {what}."
                );
                let next = format!("Give `{}` a network that no machine is in.", subnet.attribute);
                return Some(wrong(subnet.attribute, what, happened, &next));
            }
        }
    }
    None
}

/// kubeadm's default.
pub(super) const SERVICES: &str = "10.96.0.0/12";
/// The API server keeps a bit for each address of a service.
const MOST_HOST_BITS: u8 = 20;
/// kubeadm's least is 10 addresses, for the tenth is the name server's.
const LEAST_HOST_BITS: u8 = 4;
/// How many times a network of pods can be divided.
const MOST_NODE_BITS: u8 = 16;

#[cfg(test)]
mod tests {
    use super::super::model::{Config, Member};
    use super::*;
    use crate::endpoint::EndpointModel;
    use std::collections::BTreeMap;
    use tf::Attr;

    #[test]
    fn networks_are_one_of_each_kind() {
        for text in ["10.244.0.0/16", "10.244.0.0/16,fd00::/48"] {
            assert_eq!(form(text), Ok(()), "{text}");
        }
        for text in ["10.244.0.0/33", "10.244.0.0", "10.1.0.0/16,10.2.0.0/16", "", "10.244.0.0/16,"] {
            assert!(form(text).is_err(), "{text}");
        }
    }

    fn with(pods: &str, services: &str) -> Cluster {
        let attr = |text: &str| if text.is_empty() { Attr::Null } else { text.into() };
        Cluster { pod_subnet: attr(pods), service_subnet: attr(services), ..Cluster::default() }
    }

    #[track_caller]
    fn check(m: &Cluster, wanted: &str) {
        let found = problems(m);
        let said: Vec<_> =
            found.iter().map(|one| format!("{:?} {}", one.path().map(ToString::to_string), one.detail())).collect();
        match wanted {
            "" => assert_eq!(said, [""; 0]),
            words => {
                assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
            }
        }
    }

    /// What `kubeadm config validate` of 1.36.3 takes and refuses.
    #[test]
    fn sizes_are_those_that_kubeadm_takes() {
        for (pods, services, wanted) in [
            ("10.244.0.0/16", "10.96.0.0/12", ""),
            (
                "10.244.0.0/16",
                "10.96.0.0/11",
                "10.96.0.0/11, which is more than Kubernetes takes: of IPv4 a /12 to a /28",
            ),
            ("10.244.0.0/16", "10.96.0.0/28", ""),
            ("10.244.0.0/16", "10.96.0.0/29", "10.96.0.0/29, which is less"),
            ("10.244.0.0/24", "", ""),
            ("10.244.0.0/25", "", "10.244.0.0/25. Each node takes a /24 of it"),
            ("11.0.0.0/8", "", ""),
            ("12.0.0.0/7", "", "so it takes a /8 to a /24 of IPv4"),
            ("fd00:1::/48", "fd00:2::/108", ""),
            ("fd00:1::/47", "fd00:4::/108", "so it takes a /48 to a /64 of IPv6"),
            ("fd00:1::/65", "fd00:4::/108", "Each node takes a /64 of it"),
            ("fd00:1::/56", "fd00:4::/107", "of IPv6 a /108 to a /124"),
            ("10.1.0.0/16,fd00::/48", "10.2.0.0/16,fd00:4::/108", ""),
        ] {
            check(&with(pods, services), wanted);
        }
        let config = |cluster| Attr::Known(Config { cluster, ..Config::default() });
        let mask = r#"{"controllerManager": {"extraArgs": [{"name": "node-cidr-mask-size-ipv4", "value": "26"}]}}"#;
        check(&Cluster { config: config(mask.into()), ..with("10.244.0.0/25", "") }, "");
        check(&Cluster { config: config(Attr::Unknown), ..with("10.244.0.0/25", "") }, "");
        check(&Cluster { config: config(Attr::Null), ..with("10.244.0.0/25", "") }, "Each node takes");
    }

    #[test]
    fn pods_and_services_have_networks_of_their_own_and_of_the_same_kinds() {
        check(&with("10.100.0.0/16", ""), "overlaps the network of the services, 10.96.0.0/12, Kubernetes' own.");
        check(&Cluster { service_subnet: Attr::Unknown, ..with("10.100.0.0/16", "") }, "");
        check(&with("10.0.0.0/8", "10.1.0.0/16"), "\"pod_subnet\"");
        check(&with("10.1.0.0/16,fd00::/48", "10.2.0.0/16,fd00::/108"), "overlaps");
        check(
            &with("fd00:1::/56", "10.96.0.0/12"),
            "is of IPv6, and the network of the services, 10.96.0.0/12, is of IPv4",
        );
        check(&with("10.1.0.0/16,fd00::/48", ""), "10.96.0.0/12, Kubernetes' own, is of IPv4");
        check(&with("fd00::/48,10.1.0.0/16", "10.2.0.0/16,fd01::/108"), "");
    }

    #[test]
    fn no_machine_is_within_them() {
        let member = |address: &str| Member {
            endpoint: EndpointModel { address: address.into(), fingerprint: Attr::Unknown }.into(),
            ..Member::default()
        };
        let workers = |address: &str| Attr::Known(BTreeMap::from([("w".to_owned(), member(address))]));
        let within = |address: &str| Cluster { workers: workers(address), ..with("10.244.0.0/16", "") };
        check(&within("192.0.2.11:7443"), "");
        check(&within("node.example.org:7443"), "");
        check(&within("10.244.3.1:7443"), "workers[\"w\"].endpoint, 10.244.3.1, is within 10.244.0.0/16");
        let mut given = within("192.0.2.11:7443");
        given.workers.get_mut().unwrap().get_mut("w").unwrap().address = "10.244.3.1".into();
        check(&given, "workers[\"w\"].address, 10.244.3.1, is within 10.244.0.0/16");
        check(&within("10.96.0.20:7443"), "within 10.96.0.0/12: the nodes would take it for one of the services");
    }

    #[test]
    fn any_text_is_answered() {
        total::text("networks", &["10.244.0.0/16,fd00::/48"], |text| problems(&with(text, text)).len());
    }
}
