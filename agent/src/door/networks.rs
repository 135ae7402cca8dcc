//! From which networks anybody may knock at all.

use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;

/// A network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// Text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address and the length of its prefix")]
pub struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let one = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| one()).map(Self).map_err(|_| BadNetwork)
    }
}

/// Whether a connection from this address is taken: without networks all are.
pub(super) fn let_in(networks: &[Network], from: IpAddr) -> bool {
    // A socket for both families tells an IPv4 address within an IPv6 one.
    let from = from.to_canonical();
    networks.is_empty() || networks.iter().any(|network| network.0.contains(&from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(networks: &[&str], from: &str, wanted: bool) {
        let networks: Vec<Network> = networks.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(let_in(&networks, from.parse().unwrap()), wanted, "{networks:?} {from}");
    }

    #[test]
    fn an_address_is_let_in_from_the_networks_alone() {
        check(&[], "192.0.2.1", true);
        check(&["192.0.2.0/24", "2001:db8::/32"], "192.0.2.1", true);
        check(&["192.0.2.0/24", "2001:db8::/32"], "::ffff:192.0.2.1", true);
        check(&["192.0.2.0/24", "2001:db8::/32"], "2001:db8:1::1", true);
        check(&["192.0.2.0/24", "2001:db8::/32"], "198.51.100.1", false);
        check(&["192.0.2.7"], "192.0.2.7", true);
        check(&["192.0.2.7"], "192.0.2.8", false);
        for text in ["", "a", "192.0.2.0/33", "192.0.2.0/", "192.0.2.1:7443"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
