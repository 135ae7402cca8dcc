//! Tells the neighbours which card our addresses are at: when the agent starts, and when an address comes.
//!
//! A machine that is made again has the old one's address and a new card. Until the tables of its neighbours and of the router forget
//! the old card, nobody reaches it. An announcement puts them right at once: for IPv4 as in RFC 5227 (2.3), for IPv6 an unsolicited
//! neighbour advertisement as in RFC 4861 (7.2.6); once, and again after a second, for one may be lost.
//!
//! The kernel tells of changes (rtnetlink(7)); nothing is asked by a timer. A machine that cannot announce goes on without.

mod frame;
mod interfaces;

use interfaces::{Address, Interfaces};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, sendto, socket};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::time::{Instant, sleep_until};

/// Announces the machine's addresses for as long as this is awaited.
pub async fn addresses(in_container: bool) {
    if let Err(error) = follow(in_container).await {
        tracing::debug!(error = %error, "addresses are not announced");
    }
}

async fn follow(in_container: bool) -> io::Result<()> {
    // Before the first look, so that no change is missed.
    let changes = changes()?;
    let (mut known, mut again) = (BTreeSet::new(), None);
    loop {
        let interfaces = Interfaces::look(in_container)?;
        let now = interfaces.addresses();
        let new: BTreeSet<_> = now.difference(&known).cloned().collect();
        known = now;
        if !new.is_empty() {
            announce(&interfaces, &new);
            again = Some((Instant::now() + AGAIN, new));
        }
        let repeat = again.as_ref().map(|(at, _)| *at);
        // Both arms are cancel-safe.
        tokio::select! {
            changed = changed(&changes) => changed?,
            () = sleep_until(repeat.unwrap_or_else(Instant::now)), if repeat.is_some() => {
                if let Some((_, new)) = again.take() {
                    announce(&interfaces, &new);
                }
            }
        }
    }
}

fn announce(interfaces: &Interfaces, addresses: &BTreeSet<Address>) {
    for address in addresses {
        if let Err(error) = send(interfaces, address) {
            tracing::debug!(address = %address.ip, error = %error, "an address could not be announced");
        }
    }
}

fn send(interfaces: &Interfaces, address: &Address) -> io::Result<()> {
    let Some(link) = interfaces.link(&address.interface) else { return Ok(()) };
    // For no protocol: it receives nothing.
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    sendto(socket.as_raw_fd(), &frame::announcement(address.mac, address.ip), link, MsgFlags::empty())?;
    tracing::debug!(address = %address.ip, interface = address.interface, "an address was announced");
    Ok(())
}

/// A socket on which the kernel tells of changed addresses and of cards that come and go.
fn changes() -> io::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, LINKS | ADDRESSES_V4 | ADDRESSES_V6))?;
    // Sent and received on like any socket of datagrams.
    UnixDatagram::from_std(socket.into())
}

/// Waits until something has changed. What, is looked up: the kernel drops messages when there are too many.
async fn changed(changes: &UnixDatagram) -> io::Result<()> {
    changes.readable().await?;
    let mut message = [0; 8 << 10];
    loop {
        match changes.try_recv(&mut message) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

const AGAIN: Duration = Duration::from_secs(1);
/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`. Source: linux/rtnetlink.h.
const LINKS: u32 = 0x1;
const ADDRESSES_V4: u32 = 0x10;
const ADDRESSES_V6: u32 = 0x100;

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{LinkAddr, recvfrom};
    use tokio::io::Interest;
    use tokio::task::JoinSet;

    #[expect(clippy::disallowed_methods, reason = "the test's own network, not the machine's")]
    fn ip(arguments: &str) {
        let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    /// The next announcement that arrives at the other end: whose, and of what.
    async fn heard(end: &UnixDatagram) -> Vec<u8> {
        loop {
            let mut frame = [0; 128];
            end.readable().await.unwrap();
            let received = end.try_io(Interest::READABLE, || Ok(recvfrom::<LinkAddr>(end.as_raw_fd(), &mut frame)?));
            match received {
                // Not what is sent, but what comes in.
                Ok((length, Some(from))) if from.pkttype() != OUTGOING => match frame.get(12..length) {
                    Some([8, 6, arp @ ..]) => return arp[14..18].to_vec(),
                    Some([0x86, 0xdd, ip @ ..]) if ip[40] == 136 => return ip[48..64].to_vec(),
                    _ => {}
                },
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_announced_twice_when_it_is_there_and_when_it_comes() {
        // A network of this thread alone.
        if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            return;
        }
        ip("link add host0 type veth peer name other");
        ip("link add pod type veth peer name pod-end");
        for interface in ["host0", "other", "pod", "pod-end", "lo"] {
            ip(&format!("link set {interface} up"));
        }
        ip("address add 192.0.2.7/24 dev host0");
        ip("address add 198.51.100.1/24 dev pod");
        ip("route add default via 192.0.2.1");
        let flags = SockFlag::SOCK_NONBLOCK;
        let end = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        let end = UnixDatagram::from_std(end.into()).unwrap();
        let mut announcing = JoinSet::new();
        announcing.spawn(addresses(true));
        assert_eq!([heard(&end).await, heard(&end).await], [[192, 0, 2, 7], [192, 0, 2, 7]]);
        ip("address add 192.0.2.8/24 dev host0");
        assert_eq!([heard(&end).await, heard(&end).await], [[192, 0, 2, 8], [192, 0, 2, 8]]);
        ip("address add 198.51.100.2/24 dev pod");
        ip("address add 2001:db8::7/64 dev host0 nodad");
        let want = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!([heard(&end).await, heard(&end).await], [want, want]);
    }

    /// `PACKET_OUTGOING`
    const OUTGOING: u8 = 4;
}
