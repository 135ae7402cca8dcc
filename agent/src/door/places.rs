//! Places for handshakes. Nothing is known of a peer before its handshake ends, so nobody waits for another's: who comes when all
//! places are taken gets the place of the oldest.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use tokio::task::AbortHandle;

/// Handshakes under way, the oldest first.
#[derive(Default)]
pub(super) struct Places(VecDeque<(Source, AbortHandle)>);

impl Places {
    /// Takes a place. If there is none left, the oldest handshake ends: of the same source if that has its share, else of all.
    pub(super) fn take(&mut self, source: Source, handshake: AbortHandle) {
        self.0.retain(|(_, under_way)| !under_way.is_finished());
        let all = self.0.iter().enumerate();
        let of_source: Vec<usize> = all.filter(|(_, (other, _))| *other == source).map(|(at, _)| at).collect();
        let oldest = match of_source.first() {
            Some(oldest) if of_source.len() >= SHARE => Some(*oldest),
            _ => (self.0.len() >= HANDSHAKES).then_some(0),
        };
        if let Some((_, oldest)) = oldest.and_then(|at| self.0.remove(at)) {
            tracing::debug!("a handshake had to make room");
            oldest.abort();
        }
        self.0.push_back((source, handshake));
    }
}

/// Whom an address stands for: with IPv6 one peer has a whole /64 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// Handshakes at one time. Each may hold a client's longest message, 64 KiB: all together stay far below the unit's `MemoryMax`.
const HANDSHAKES: usize = 128;
/// Of these for one source: many providers may share an address behind a NAT.
const SHARE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    /// A handshake that does not end by itself.
    fn pending(handshakes: &mut JoinSet<()>) -> AbortHandle {
        handshakes.spawn(std::future::pending())
    }

    fn v4(number: u16) -> Source {
        let [high, low] = number.to_be_bytes();
        Source::of(IpAddr::from([10, 0, high, low]))
    }

    #[tokio::test]
    async fn a_source_that_has_its_share_drops_its_own() {
        let (mut places, mut handshakes) = (Places::default(), JoinSet::new());
        places.take(v4(1), pending(&mut handshakes));
        for _ in 0..10 * SHARE {
            places.take(v4(2), pending(&mut handshakes));
        }
        assert_eq!((places.0[0].0, places.0.len()), (v4(1), 1 + SHARE));
    }

    #[tokio::test]
    async fn without_a_free_place_the_oldest_of_all_goes() {
        let (mut places, mut handshakes) = (Places::default(), JoinSet::new());
        for source in 0..=u16::try_from(HANDSHAKES).unwrap() {
            places.take(v4(source), pending(&mut handshakes));
        }
        assert_eq!((places.0[0].0, places.0.len()), (v4(1), HANDSHAKES));
        assert!(handshakes.join_next().await.unwrap().unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn a_handshake_that_has_ended_leaves_its_place() {
        let (mut places, mut handshakes) = (Places::default(), JoinSet::new());
        places.take(v4(1), handshakes.spawn(std::future::ready(())));
        handshakes.join_next().await;
        places.take(v4(2), pending(&mut handshakes));
        assert_eq!(places.0.len(), 1);
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_half_an_ipv6_address() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::2:3:4:5"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }
}
