//! The virtual address of a cluster's control planes, by kube-vip: its attributes, and what agents are told of it.

use super::address;
use super::model::Cluster;
use crate::agents::{self, form};
use std::collections::BTreeMap;
use tf::check::{between, keys};
use tf::{Attr, Diagnostic, Model, Path, Row, block, optional, required};

/// A virtual address by kube-vip.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct KubeVip {
    pub(super) address: Attr<String>,
    pub(super) interface: Attr<String>,
    pub(super) image: Attr<String>,
    pub(super) bgp: Attr<Bgp>,
}

impl Model for KubeVip {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { address, interface, image, bgp } = self;
        vec![
            required(
                "address",
                address,
                "A free address: in the network of the control planes, or with `bgp` any that the routers take. It is the cluster's `endpoint`, if \
                 you give none.",
            )
            .replaces()
            .check(address::form),
            optional(
                "interface",
                interface,
                "Card that carries it, such as `eth0`, or with `bgp` mostly `lo`. Default: the one of the default route.",
            )
            .check(form::interface),
            optional("image", image, "kube-vip's image. A change is made on one control plane after the other.")
                .default(KUBE_VIP)
                .check(form::image),
            block(
                "bgp",
                bgp,
                "Routers are told of the address by BGP, in place of ARP and neighbour discovery: the control planes may be in different networks. \
                 The one that has the address announces it, with its node's address as router id (of one of IPv6 the last four bytes). A change \
                 is made on one control plane after the other.",
            ),
        ]
    }
}

/// How routers are told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Bgp {
    asn: Attr<i64>,
    peer: Attr<BTreeMap<String, Peer>>,
}

impl Model for Bgp {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { asn, peer } = self;
        vec![
            required("asn", asn, "Number of the machines' autonomous system, such as `64512`.").check(between(1, ASN)),
            block("peer", peer, "A router, with its address as label; it is reached at TCP 179. One at least.")
                .check(keys(form::address)),
        ]
    }
}

/// A router.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Peer {
    asn: Attr<i64>,
    multihop: Attr<bool>,
}

impl Model for Peer {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { asn, multihop } = self;
        vec![
            required("asn", asn, "Number of the router's autonomous system.").check(between(1, ASN)),
            optional(
                "multihop",
                multihop,
                "`true`: the router is of another autonomous system and not in the machines' own network. Default `false`.",
            ),
        ]
    }
}

/// What agents are told.
pub(super) fn of(m: &Cluster) -> Option<agents::KubeVip> {
    let vip = m.kube_vip.get()?;
    let number = |asn: &Attr<i64>| u32::try_from(asn.or(0)).unwrap_or_default();
    let peer = |(address, peer): (&String, &Peer)| agents::Peer {
        address: address.clone(),
        asn: number(&peer.asn),
        multihop: peer.multihop.or(false),
    };
    let bgp = vip.bgp.get().map(|bgp| agents::Bgp {
        asn: number(&bgp.asn),
        peers: bgp.peer.get().into_iter().flatten().map(peer).collect(),
    });
    Some(agents::KubeVip { address: vip.address.or(""), interface: vip.interface.or(""), image: vip.image.or(""), bgp })
}

/// Without a router nobody hears of the address.
pub(super) fn problems(m: &Cluster) -> Option<Diagnostic> {
    let bgp = m.kube_vip.get()?.bgp.get()?;
    let none = bgp.peer.is_null() || bgp.peer.get().is_some_and(BTreeMap::is_empty);
    none.then(|| {
        Diagnostic::error("Cannot announce the virtual address to nobody")
            .happened("`kube_vip` has a `bgp` block without a router.")
            .next("Add a `peer \"ADDRESS\" { asn = … }` block for each router; or take `bgp` away, and the control planes' own network is told.")
            .at(Path::from("kube_vip").name("bgp"))
    })
}

/// The version that this one was tried with.
const KUBE_VIP: &str = "ghcr.io/kube-vip/kube-vip:v0.9.1";
/// The last number of four bytes.
const ASN: i64 = 4_294_967_295;

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(peers: &[&str]) -> Cluster {
        let peer = |address: &&str| ((*address).to_owned(), Peer { asn: 64_513.into(), multihop: Attr::Null });
        let bgp = Bgp { asn: ASN.into(), peer: peers.iter().map(peer).collect::<BTreeMap<_, _>>().into() };
        let vip = KubeVip { address: "198.51.100.10".into(), bgp: bgp.into(), ..KubeVip::default() };
        Cluster { kube_vip: vip.into(), ..Cluster::default() }
    }

    #[test]
    fn agents_are_told_of_the_routers() {
        let told = of(&cluster(&["192.0.2.1", "fd00::1"])).unwrap().bgp.unwrap();
        assert_eq!((told.asn, told.peers.len()), (u32::MAX, 2));
        assert_eq!(told.peers[0], agents::Peer { address: "192.0.2.1".into(), asn: 64_513, multihop: false });
        assert_eq!(of(&Cluster::default()), None);
    }

    #[test]
    fn somebody_must_hear_of_the_address() {
        assert!(problems(&cluster(&["192.0.2.1"])).is_none() && problems(&Cluster::default()).is_none());
        let path = problems(&cluster(&[])).unwrap().path().map(ToString::to_string);
        assert_eq!(path.as_deref(), Some("kube_vip.bgp"));
    }
}
