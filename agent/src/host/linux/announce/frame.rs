//! Announcements as they go over the wire.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The Ethernet frame that announces an address.
pub(super) fn announcement(mac: [u8; 6], ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(mac, ip),
        IpAddr::V6(ip) => advertisement(mac, ip),
    }
}

/// An ARP request for the address itself, which everybody hears and nobody answers. Source: RFC 826, RFC 5227 (2.3).
fn arp(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], mac, 0x0806);
    // Ethernet, IPv4, lengths of their addresses, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame.resize(SHORTEST, 0);
    frame
}

/// A neighbour advertisement to all nodes, which overrides what they know. Source: RFC 4861 (4.4, 7.2.6), RFC 2464 (7).
fn advertisement(mac: [u8; 6], ip: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // Type, code, checksum, flags; the target; its link-layer address, one unit of eight bytes.
    let mut message = vec![136, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(ip.octets());
    message.extend([2, 1]);
    message.extend(mac);
    let sum = checksum(ip, all_nodes, &message);
    message.splice(2..4, sum);

    let mut frame = ethernet([0x33, 0x33, 0, 0, 0, 1], mac, 0x86dd);
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    frame.extend([0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    frame.extend(ip.octets());
    frame.extend(all_nodes.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16) -> Vec<u8> {
    [to.as_slice(), &from, &kind.to_be_bytes()].concat()
}

/// Over the pseudo-header and the message. Source: RFC 4443 (2.3), RFC 8200 (8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> [u8; 2] {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let whole = [from.octets().as_slice(), &to.octets(), &length, &[0, 0, 0, ICMPV6], message].concat();
    let words = whole.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

/// Without the checksum that the card adds.
const SHORTEST: usize = 60;
const ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_ipv4_address_is_asked_for_by_its_owner() {
        let frame = announcement(MAC, "10.0.0.7".parse().unwrap());
        assert_eq!(frame.len(), 60);
        let want = "ffffffffffff525400123456080600010800060400015254001234560a0000070000000000000a000007";
        assert_eq!(hex(&frame[..42]), want);
    }

    #[test]
    fn an_ipv6_address_is_advertised_to_all_nodes() {
        let ip = "2001:db8::7".parse().unwrap();
        let frame = announcement(MAC, IpAddr::V6(ip));
        let want = "33330000000152540012345686dd6000000000203aff20010db8000000000000000000000007\
                    ff020000000000000000000000000001880074632000000020010db80000000000000000000000070201525400123456";
        assert_eq!(hex(&frame), want);
        // Over a message with its checksum in it the sum is none.
        let all_nodes = "ff02::1".parse().unwrap();
        assert_eq!(checksum(ip, all_nodes, &frame[54..]), [0, 0]);
    }
}
