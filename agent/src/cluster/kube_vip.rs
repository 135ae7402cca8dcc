//! kube-vip: a virtual address that one of the control planes has, by a static pod on each of them.
//!
//! On the first control plane it must run before there is an API server, or nobody reaches the endpoint; and from 1.29 on the administrator
//! has no rights until kubeadm has given them, so it begins with those of `super-admin.conf`, which only that machine has, and goes on with the
//! administrator's. A manifest that is not ours, such as a file of the user's, is left alone. Source: kube-vip 0.9.1, `manifest pod`,
//! `ParseEnvironment` and `ParseBGPPeerConfig`; node preparation of kubeadm 1.29.

use super::kube::{ADMIN, Kube, failed, failure};
use super::status;
use super::version::Version;
use crate::host::{Access, Host, HostError};
use crate::run::Failure;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// What it is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeVip {
    /// The virtual address.
    pub address: String,
    /// Card that carries it; empty: the one of the default route.
    pub interface: String,
    /// Its image.
    pub image: String,
    /// Routers are told of the address; `None`: neighbours are, by ARP or neighbour discovery.
    pub bgp: Option<Bgp>,
}

/// Whom the address is announced to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bgp {
    /// Number of the machines' autonomous system.
    pub asn: u32,
    /// One at least.
    pub peers: Vec<Peer>,
}

/// A router.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: String,
    /// Number of its autonomous system.
    pub asn: u32,
    /// It is not in the machines' own network.
    pub multihop: bool,
}

/// Before kubeadm makes a control plane of version `version`, with this address of its own, on a machine that has no cluster.
pub(super) fn before_init(
    kube: &Kube<'_>,
    wanted: Option<&KubeVip>,
    (version, own): (Version, Option<&str>),
) -> Result<(), Failure> {
    let Some(wanted) = wanted else { return Ok(()) };
    let credentials = if version.has_super_admin() { SUPER_ADMIN } else { ADMIN };
    if wanted.bgp.is_some() && own.is_none() {
        return Err(failure(STEP, NAMELESS));
    }
    has_card(kube.host(), wanted)?;
    put(kube, &manifest(wanted, credentials, own.unwrap_or_default()))
}

/// kube-vip would end again and again, and nobody would reach the API server by the address.
fn has_card(host: &dyn Host, wanted: &KubeVip) -> Result<(), Failure> {
    let cards = host.list(CARDS).map_err(failed(STEP, &format!("look into {CARDS}")))?;
    let wanted = &wanted.interface;
    if wanted.is_empty() || cards.is_empty() || cards.contains(wanted) {
        return Ok(());
    }
    let message = format!("`kube_vip.interface` is {wanted}, which this machine has not: it has {}", cards.join(", "));
    Err(failure(STEP, message))
}

/// On a finished control plane: as it is wanted, or not at all.
pub(super) fn settle(kube: &Kube<'_>, wanted: Option<&KubeVip>) -> Result<(), Failure> {
    let there = kube.host().text(FILE).map_err(failed(STEP, &format!("read {FILE}")))?;
    let is_ours = there.as_deref().is_some_and(|text| read(text).is_some());
    let since = Instant::now();
    match wanted {
        Some(wanted) => {
            let own = status::advertised(kube.host()).map_err(failed(STEP, "read the API server's manifest"))?;
            let own = own.ok_or_else(|| failure(STEP, "the API server's manifest does not tell its address"))?;
            let text = manifest(wanted, ADMIN, &own);
            if there.as_deref() != Some(&text) {
                has_card(kube.host(), wanted)?;
                put(kube, &text)?;
                kube.made(STEP, "write kube-vip's manifest", "the control planes have a virtual address", since);
            }
        }
        None if is_ours => {
            kube.host().remove(FILE).map_err(failed(STEP, &format!("remove {FILE}")))?;
            kube.made(STEP, "remove kube-vip's manifest", "it is not wanted any more", since);
        }
        None => {}
    }
    Ok(())
}

/// What runs here by our hand.
pub(super) fn look(host: &dyn Host) -> Result<Option<KubeVip>, HostError> {
    Ok(host.text(FILE)?.as_deref().and_then(read))
}

fn put(kube: &Kube<'_>, text: &str) -> Result<(), Failure> {
    kube.host().write(FILE, text.as_bytes(), Access::PRIVATE).map_err(failed(STEP, &format!("write {FILE}")))
}

/// JSON is YAML. The kubelet waits for a file of the credentials to be there.
fn manifest(wanted: &KubeVip, credentials: &str, own: &str) -> String {
    let KubeVip { address, interface, image, bgp } = wanted;
    let prefix = if address.contains(':') { "128" } else { "32" };
    let pairs = [
        ("vip_arp", if bgp.is_none() { "true" } else { "false" }),
        ("port", "6443"),
        ("vip_interface", interface.as_str()),
        ("vip_subnet", prefix),
        ("dns_mode", "first"),
        ("cp_enable", "true"),
        ("cp_namespace", "kube-system"),
        ("vip_leaderelection", "true"),
        ("vip_leasename", "plndr-cp-lock"),
        ("vip_leaseduration", "5"),
        ("vip_renewdeadline", "3"),
        ("vip_retryperiod", "1"),
        ("address", address.as_str()),
    ];
    let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    let mut environment: Vec<Value> = given.map(|(name, value)| json!({ "name": name, "value": value })).collect();
    for (name, value) in bgp.iter().flat_map(|bgp| bgp.environment(own)) {
        environment.push(json!({ "name": name, "value": value }));
    }
    environment.push(json!({ "name": "vip_nodename", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }));
    let container = json!({
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["manager"],
        "env": environment,
        "securityContext": { "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] } },
        "volumeMounts": [{ "name": "kubeconfig", "mountPath": ADMIN }],
    });
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": NAME, "namespace": "kube-system", "annotations": { (MARK): "true" } },
        "spec": {
            "hostNetwork": true,
            // Its credentials name the virtual address, and it asks the API server beside it.
            "hostAliases": [{ "ip": "127.0.0.1", "hostnames": ["kubernetes"] }],
            "containers": [container],
            "volumes": [{ "name": "kubeconfig", "hostPath": { "path": credentials, "type": "File" } }],
        },
    });
    format!("{pod:#}\n")
}

/// The settings in a manifest of ours.
fn read(text: &str) -> Option<KubeVip> {
    let pod: Value = serde_json::from_str(text).ok()?;
    pod["metadata"]["annotations"][MARK].as_str()?;
    let container = &pod["spec"]["containers"][0];
    let of = |name: &str| {
        let entry = container["env"].as_array().into_iter().flatten().find(|entry| entry["name"] == name);
        entry.and_then(|entry| entry["value"].as_str()).unwrap_or_default().to_owned()
    };
    let image = container["image"].as_str().unwrap_or_default().to_owned();
    let peers = || of("bgp_peers").split(',').filter_map(Peer::read).collect();
    let bgp =
        (of("bgp_enable") == "true").then(|| Bgp { asn: of("bgp_as").parse().unwrap_or_default(), peers: peers() });
    Some(KubeVip { address: of("address"), interface: of("vip_interface"), image, bgp })
}

impl Bgp {
    /// The leader of the control planes alone announces: one whose API server is down must not.
    fn environment(&self, own: &str) -> [(&'static str, String); 4] {
        let peers: Vec<String> = self.peers.iter().map(Peer::written).collect();
        [
            ("bgp_enable", "true".to_owned()),
            ("bgp_routerid", router_id(own)),
            ("bgp_as", self.asn.to_string()),
            ("bgp_peers", peers.join(",")),
        ]
    }
}

impl Peer {
    /// `address:asn:password:multihop`; a password would stand in a file and in Terraform's state.
    fn written(&self) -> String {
        let Self { address, asn, multihop } = self;
        let address = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        format!("{address}:{asn}::{multihop}")
    }

    fn read(text: &str) -> Option<Self> {
        let (address, rest) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:")?,
            None => text.split_once(':')?,
        };
        let mut words = rest.split(':');
        let asn = words.next()?.parse().ok()?;
        Some(Self { address: address.to_owned(), asn, multihop: words.nth(1) == Some("true") })
    }
}

/// What tells a router from the others, in the form of an address of IPv4: the node's own, or the end of one of IPv6.
fn router_id(own: &str) -> String {
    match own.parse() {
        Ok(IpAddr::V6(own)) => {
            let [.., a, b, c, d] = own.octets();
            Ipv4Addr::new(a, b, c, d).to_string()
        }
        Ok(IpAddr::V4(_)) | Err(_) => own.to_owned(),
    }
}

/// kubeadm's check that our manifest does not pass. Source: kubeadm before 1.30 asked for an empty folder.
pub(super) const CHECK: &str = "DirAvailable--etc-kubernetes-manifests";
const FILE: &str = "/etc/kubernetes/manifests/kube-vip.yaml";
const SUPER_ADMIN: &str = "/etc/kubernetes/super-admin.conf";
/// Annotation of a manifest of ours.
const MARK: &str = "groundwork/kube-vip";
const NAME: &str = "kube-vip";
const STEP: &str = "kube-vip";
const CARDS: &str = "/sys/class/net";
const NAMELESS: &str = "routers tell control planes by the addresses of their nodes, and this node is given none that its machine has: set `address` of it in `control_planes`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_a_users_own_is_not_ours() {
        let (address, interface, image) = ("192.0.2.10".into(), "eth1".into(), "kube-vip:v1".into());
        let wanted = KubeVip { address, interface, image, bgp: None };
        assert_eq!(read(&manifest(&wanted, ADMIN, "192.0.2.11")), Some(wanted.clone()));
        let anywhere = KubeVip { interface: String::new(), address: "fd00::10".into(), ..wanted };
        let text = manifest(&anywhere, SUPER_ADMIN, "fd00::11");
        assert_eq!(read(&text), Some(anywhere));
        assert!(
            text.contains("super-admin.conf") && text.contains("\"128\"") && !text.contains("vip_interface"),
            "{text}"
        );
        for theirs in ["apiVersion: v1\nkind: Pod\n", "{\"kind\":\"Pod\"}", ""] {
            assert_eq!(read(theirs), None);
        }
    }

    /// With two routers, one of them in another network.
    fn routed() -> KubeVip {
        let peer = |address: &str, multihop| Peer { address: address.into(), asn: 64_513, multihop };
        let bgp = Bgp { asn: 4_200_000_001, peers: vec![peer("192.0.2.1", false), peer("fd00::1", true)] };
        KubeVip { address: "198.51.100.10".into(), interface: "lo".into(), image: "kube-vip:v1".into(), bgp: Some(bgp) }
    }

    #[test]
    fn routers_are_told_in_place_of_neighbours() {
        let text = manifest(&routed(), ADMIN, "192.0.2.11");
        assert_eq!(read(&text), Some(routed()));
        let pod: Value = serde_json::from_str(&text).unwrap();
        let value = |name: &str| {
            let all = pod["spec"]["containers"][0]["env"].as_array().unwrap();
            all.iter().find(|one| one["name"] == name).map(|one| one["value"].as_str().unwrap().to_owned())
        };
        for (name, wanted) in [
            ("vip_arp", "false"),
            ("vip_interface", "lo"),
            ("vip_leaderelection", "true"),
            ("bgp_enable", "true"),
            ("bgp_routerid", "192.0.2.11"),
            ("bgp_as", "4200000001"),
            ("bgp_peers", "192.0.2.1:64513::false,[fd00::1]:64513::true"),
        ] {
            assert_eq!(value(name).as_deref(), Some(wanted), "{name}");
        }
        assert!(!manifest(&KubeVip { bgp: None, ..routed() }, ADMIN, "192.0.2.11").contains("bgp"));
    }

    #[test]
    fn a_router_is_told_from_the_others_by_its_own_address() {
        assert_eq!(router_id("192.0.2.11"), "192.0.2.11");
        assert_eq!(router_id("2001:db8::c000:20b"), "192.0.2.11");
    }

    #[test]
    fn any_text_is_answered() {
        let good = manifest(&routed(), ADMIN, "192.0.2.11");
        total::text("kube-vip", &[&good], read);
        total::text("kube-vip-peer", &["[fd00::1]:64513::true", "192.0.2.1:1"], Peer::read);
    }
}
