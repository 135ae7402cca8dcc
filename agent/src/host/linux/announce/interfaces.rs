//! Which addresses are ours to announce: those at the machine's own cards, and at bonds, VLANs and bridges of them. Not those of pods,
//! of overlays, or of services, which the node carries for others.
//!
//! Source: sysfs-class-net, proc_net(5); `IFA_F_*` in linux/if_addr.h.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::LinkAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// An address at a card.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) interface: String,
    pub(super) mac: [u8; 6],
    pub(super) ip: IpAddr,
}

/// The cards whose addresses are announced.
pub(super) struct Interfaces {
    links: BTreeMap<String, LinkAddr>,
    addresses: Vec<(String, IpAddr)>,
}

impl Interfaces {
    pub(super) fn look(in_container: bool) -> io::Result<Self> {
        let routed = if in_container { default_routes() } else { BTreeSet::new() };
        let (mut links, mut addresses, mut wide) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        for found in getifaddrs()? {
            let name = found.interface_name;
            let Some(address) = found.address else { continue };
            if let Some(link) = address.as_link_addr() {
                if is_up(found.flags) && link.hatype() == ETHERNET && link.halen() == 6 {
                    links.insert(name, *link);
                }
            } else if let Some(v4) = address.as_sockaddr_in() {
                let mask = found.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in());
                if mask.is_some_and(|mask| mask.ip() != Ipv4Addr::BROADCAST) {
                    wide.insert(name.clone());
                }
                addresses.push((name, IpAddr::V4(v4.ip())));
            }
        }
        // In a container the machine's own is half of a pair, and so are those of pods: but those have no neighbours, only a pod.
        let in_container = |name: &str| in_container && (routed.contains(name) || wide.contains(name) && is_half(name));
        links.retain(|name, _| is_real(name, 0) || in_container(name));
        let v6 = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
        addresses.extend(v6.lines().filter_map(usable_v6));
        Ok(Self { links, addresses })
    }

    /// Their addresses that can be reached from elsewhere.
    pub(super) fn addresses(&self) -> BTreeSet<Address> {
        let reachable = self.addresses.iter().filter(|(_, ip)| match ip {
            IpAddr::V4(ip) => !ip.is_link_local() && *ip != Ipv4Addr::UNSPECIFIED,
            IpAddr::V6(_) => true,
        });
        let at = |(interface, ip): &(String, IpAddr)| {
            let mac = self.links.get(interface)?.addr()?;
            Some(Address { interface: interface.clone(), mac, ip: *ip })
        };
        reachable.filter_map(at).collect()
    }

    pub(super) fn link(&self, interface: &str) -> Option<&LinkAddr> {
        self.links.get(interface)
    }
}

/// With a carrier, and with neighbours that ask.
fn is_up(flags: InterfaceFlags) -> bool {
    let must = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_BROADCAST;
    flags.contains(must) && !flags.intersects(InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_NOARP)
}

/// A card, or made of one. What stands on half of a pair, a dummy or an overlay belongs to others.
fn is_real(name: &str, depth: u32) -> bool {
    let folder = Path::new("/sys/class/net").join(name);
    if folder.join("device").exists() {
        return true;
    }
    let kind = fs::read_to_string(folder.join("uevent")).unwrap_or_default();
    let made = kind.lines().any(|line| MADE_OF_CARDS.contains(&line));
    let Ok(entries) = fs::read_dir(&folder) else { return false };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    made && depth < DEEPEST
        && names
            .filter_map(|entry| entry.strip_prefix("lower_").map(str::to_owned))
            .any(|lower| is_real(&lower, depth + 1))
}

/// Half of a pair whose other half is elsewhere, and part of no bridge.
fn is_half(name: &str) -> bool {
    let folder = Path::new("/sys/class/net").join(name);
    let index = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let (this, other) = (index("ifindex"), index("iflink"));
    this.is_some() && other.is_some() && this != other && !folder.join("master").exists()
}

/// Interfaces through which the rest of the world is reached.
fn default_routes() -> BTreeSet<String> {
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let (v4, v6) = (read("route"), read("ipv6_route"));
    let v4 = v4.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")).then(|| fields[0].to_owned())
    });
    let v6 = v6.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let everywhere = fields.first()?.bytes().all(|byte| byte == b'0') && fields.get(1) == Some(&"00");
        everywhere.then(|| fields.last().map(|name| (*name).to_owned())).flatten()
    });
    v4.chain(v6).filter(|name| name != "lo").collect()
}

/// A line of `if_inet6`: address, index, prefix, scope, flags, interface. One that may still turn out to be somebody else's is not
/// announced yet: the kernel tells when that is settled.
fn usable_v6(line: &str) -> Option<(String, IpAddr)> {
    const OPTIMISTIC_FAILED_OR_TENTATIVE: u32 = 0x04 | 0x08 | 0x40;
    let fields: Vec<_> = line.split_whitespace().collect();
    let [address, _, _, scope, flags, name] = fields[..] else { return None };
    let ip = Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?);
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let usable = scope == "00" && flags & OPTIMISTIC_FAILED_OR_TENTATIVE == 0;
    usable.then(|| (name.to_owned(), IpAddr::V6(ip)))
}

/// `ARPHRD_ETHER`
const ETHERNET: u16 = 1;
const MADE_OF_CARDS: [&str; 3] = ["DEVTYPE=bond", "DEVTYPE=vlan", "DEVTYPE=bridge"];
/// A bridge of a VLAN of a bond.
const DEEPEST: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_counts_when_it_is_settled_and_reaches_far() {
        let line = |scope: &str, flags: &str| {
            usable_v6(&format!("20010db8000000000000000000000007 02 40 {scope} {flags}     ens18"))
        };
        assert_eq!(line("00", "80"), Some(("ens18".to_owned(), "2001:db8::7".parse().unwrap())));
        for (scope, flags) in [("20", "80"), ("00", "c0"), ("00", "08"), ("10", "80"), ("00", "x")] {
            assert_eq!(line(scope, flags), None, "{scope} {flags}");
        }
        assert_eq!(usable_v6(""), None);
    }
}
