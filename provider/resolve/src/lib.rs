//! Names to addresses. On Linux without the C library, for a static program has none that knows more than DNS: `/etc/hosts` and the
//! servers of `/etc/resolv.conf` are asked here, and `getent`, where there is one, about names of other kinds. Elsewhere the system is.

#[cfg(target_os = "linux")]
mod linux;

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// A name that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name {name} has no address: {}", said.join("; "))]
pub struct Unknown {
    /// Which.
    pub name: String,
    /// Who was asked, and what came of it.
    pub said: Vec<String>,
}

/// The addresses of a host, at least one, the likely ones first. `host` is a name, or an address already.
///
/// # Errors
/// When nobody knows it, within five seconds.
pub async fn addresses(host: &str) -> Result<Vec<IpAddr>, Unknown> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    let found = asked(host).await.map_err(|said| Unknown { name: host.to_owned(), said })?;
    tracing::debug!(name = host, addresses = ?found, "resolved");
    Ok(likely_first(found, has_route))
}

#[cfg(target_os = "linux")]
async fn asked(host: &str) -> Result<Vec<IpAddr>, Vec<String>> {
    linux::asked(host, &linux::System::of_this_computer()).await
}

#[cfg(not(target_os = "linux"))]
async fn asked(host: &str) -> Result<Vec<IpAddr>, Vec<String>> {
    let said = |what: String| vec![format!("the system's resolver: {what}")];
    let found: Vec<IpAddr> = match tokio::net::lookup_host((host, 0)).await {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(error) => return Err(said(error.to_string())),
    };
    if found.is_empty() { Err(said("it gave no address".to_owned())) } else { Ok(found) }
}

/// For clients of HTTP: names are resolved as on every computer that the provider runs on.
#[derive(Debug, Clone, Copy)]
pub struct Names;

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            // The client puts the port of the URL in place of 0.
            let found = addresses(name.as_str()).await?.into_iter().map(|address| (address, 0).into());
            Ok(Box::new(found.collect::<Vec<SocketAddr>>().into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// Once each, and those that no route leads to last: on a computer without IPv6 the second address is the one to try.
fn likely_first(found: Vec<IpAddr>, has_route: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for address in found {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all.sort_by_cached_key(|address| !has_route(*address));
    all
}

/// Whether the system would send something there; nothing is sent.
fn has_route(address: IpAddr) -> bool {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    UdpSocket::bind(any).is_ok_and(|socket| socket.connect((address, 9)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_its_own_and_the_loopback_has_a_name() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(addresses("192.0.2.1").await, Ok(vec![ip("192.0.2.1")]));
        assert_eq!(addresses("[2001:db8::1]").await, Ok(vec![ip("2001:db8::1")]));
        assert_eq!(addresses("::1").await, Ok(vec![ip("::1")]));
        assert!(addresses("localhost").await.unwrap().contains(&ip("127.0.0.1")));
    }

    #[test]
    fn what_no_route_leads_to_comes_last_and_nothing_twice() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = vec![ip("2001:db8::1"), ip("192.0.2.1"), ip("192.0.2.1"), ip("2001:db8::2")];
        let sorted = likely_first(all, |address| address.is_ipv4());
        assert_eq!(sorted, [ip("192.0.2.1"), ip("2001:db8::1"), ip("2001:db8::2")]);
    }
}
