//! The proxy of a machine: what is told to programs that reach the outside, and what they reach without it.
//!
//! Source: Go's golang.org/x/net/http/httpproxy, which containerd, the kubelet and kubeadm use; apt.conf(5), apt-transport-http(1).

use crate::host::{Command, Host, HostError};
use agent_proto::v1::machine::ProxySpec;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Variables by name.
pub(crate) type Environment = Vec<(String, String)>;

/// What programs are told.
///
/// # Errors
/// When the machine cannot say which network it is in.
pub(crate) async fn environment(host: &dyn Host, proxy: &ProxySpec) -> Result<Environment, HostError> {
    let own = networks(host).await?;
    let always = ALWAYS.iter().map(|name| (*name).to_owned());
    let mut seen = BTreeSet::new();
    let all = proxy.no_proxy.iter().cloned().chain(always).chain(own);
    let without: Vec<_> = all.filter(|entry| seen.insert(entry.clone())).collect();
    let given = [("HTTP_PROXY", &proxy.http), ("HTTPS_PROXY", &proxy.https)];
    let proxies = given.into_iter().filter_map(|(name, url)| Some((name.to_owned(), url.clone()?)));
    Ok(proxies.chain([(NO_PROXY.to_owned(), without.join(","))]).collect())
}

/// The networks of the cards that lead outside. Others come and go with the pods, and their addresses with a virtual one: what is
/// written down must not follow them.
async fn networks(host: &dyn Host) -> Result<Vec<String>, HostError> {
    let routes = host.text("/proc/net/route")?.unwrap_or_default();
    let cards: BTreeSet<_> = routes.lines().filter_map(default_route).collect();
    let ask = Command::new("/usr/sbin/ip", ["-oneline", "address", "show", "scope", "global"]);
    let said = host.run_ok(&ask, &|_| ()).await?.stdout;
    let found: BTreeSet<_> = said.lines().filter_map(|line| network(line, &cards)).collect();
    Ok(found.into_iter().collect())
}

/// The card of a default route. Source: proc(5), `/proc/net/route`.
fn default_route(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let card = words.next()?;
    (words.next()? == "00000000" && words.nth(5)? == "00000000").then_some(card)
}

/// The network of an address in a line of `ip -oneline address`, on one of the cards; none of a single address.
fn network(line: &str, cards: &BTreeSet<&str>) -> Option<String> {
    let mut words = line.split_whitespace().skip(1);
    let card = words.next()?;
    if !cards.contains(card) || !words.next()?.starts_with("inet") {
        return None;
    }
    let (address, length) = words.next()?.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    Some(match address.parse().ok()? {
        IpAddr::V4(address) if (1..32).contains(&length) => {
            let network = std::net::Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - length)));
            format!("{network}/{length}")
        }
        IpAddr::V6(address) if (1..128).contains(&length) => {
            let network = std::net::Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - length)));
            format!("{network}/{length}")
        }
        _ => return None,
    })
}

/// The drop-in of a service that is told.
pub(crate) fn drop_in(environment: &Environment) -> String {
    let line = |(name, value): &(String, String)| format!("Environment=\"{name}={}\"\n", escape(value));
    format!("{HEAD}[Service]\n{}", environment.iter().map(line).collect::<String>())
}

/// Source: systemd.exec(5), `Environment=`; systemd.unit(5), specifiers.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")
}

/// What a drop-in of ours says.
fn of_drop_in(text: &str) -> Environment {
    let line = |line: &str| {
        let (name, value) = line.strip_prefix("Environment=\"")?.strip_suffix('"')?.split_once('=')?;
        Some((name.to_owned(), value.replace("%%", "%").replace("\\\"", "\"").replace("\\\\", "\\")))
    };
    text.lines().filter_map(line).collect()
}

/// What kubeadm is told, in whose static pods it ends: as the kubelet, and the networks of the cluster.
///
/// # Errors
/// When the kubelet's drop-in cannot be read.
pub(crate) fn for_kubeadm(host: &dyn Host, networks: &[String]) -> Result<Environment, HostError> {
    let mut environment = of_drop_in(&host.text(&place("kubelet.service"))?.unwrap_or_default());
    for (_, value) in environment.iter_mut().filter(|(name, _)| name == NO_PROXY) {
        let more = networks.iter().flat_map(|networks| networks.split(',')).map(|network| format!(",{network}"));
        value.extend(more);
    }
    Ok(environment)
}

/// Where the drop-in of a service is.
pub(crate) fn place(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}.d/groundwork-proxy.conf")
}

/// apt's configuration. It knows no networks and no domains to leave out, so each of its hosts that is one is named.
pub(crate) fn apt(proxy: &ProxySpec, hosts: &BTreeSet<String>, environment: &Environment) -> String {
    let list = environment.iter().find(|(name, _)| name == NO_PROXY).map(|(_, list)| list.as_str()).unwrap_or_default();
    let direct: Vec<_> = hosts.iter().filter(|host| is_direct(host, list)).collect();
    let mut text = HEAD.to_owned().replace('#', "//");
    for (scheme, url) in [("http", &proxy.http), ("https", &proxy.https)] {
        let Some(url) = url else { continue };
        text.push_str(&format!("Acquire::{scheme}::Proxy \"{url}\";\n"));
        for host in &direct {
            text.push_str(&format!("Acquire::{scheme}::Proxy::{host} \"DIRECT\";\n"));
        }
    }
    text
}

/// The hosts that apt is to reach: those of its repositories, and those that are named as they are. One with a colon in it cannot be
/// written in apt's configuration.
pub(crate) fn hosts<'a>(proxy: &ProxySpec, urls: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let of_url = |url: &'a str| {
        let rest = url.split_once("://").map(|(_, rest)| rest)?;
        let authority = rest.split('/').next()?;
        Some(authority.rsplit('@').next()?.split(':').next()?.to_owned())
    };
    let named = proxy.no_proxy.iter().map(|entry| entry.trim_start_matches('.').to_owned());
    let is_host = |host: &String| !host.is_empty() && !host.contains(['/', '*', ':', '[', ']']);
    urls.filter_map(of_url).chain(named).filter(is_host).collect()
}

/// Whether a host is reached without the proxy.
fn is_direct(host: &str, list: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    list.split(',').any(|entry| {
        let network = address.zip(entry.split_once('/')).is_some_and(|(address, network)| is_within(address, network));
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        let below =
            !domain.is_empty() && host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        entry == "*" || network || address.is_none() && below || entry == host
    })
}

fn is_within(address: IpAddr, (network, length): (&str, &str)) -> bool {
    let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let common = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return false,
    };
    common >= length
}

/// Services that are told.
pub(crate) const UNITS: [&str; 2] = ["containerd.service", "kubelet.service"];
/// apt's.
pub(crate) const APT: &str = "/etc/apt/apt.conf.d/95groundwork-proxy";
const NO_PROXY: &str = "NO_PROXY";
/// The machine itself, and names of a cluster.
const ALWAYS: [&str; 5] = ["localhost", "127.0.0.1", "::1", ".svc", ".cluster.local"];
const HEAD: &str = "# Written by Groundwork; changes made here are taken back.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_that_of_a_card_that_leads_outside() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t01024D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                      cni0\t0001F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let cards: BTreeSet<_> = routes.lines().filter_map(default_route).collect();
        assert_eq!(cards, ["eth0"].into());
        let of = |line| network(line, &cards);
        assert_eq!(
            of("2: eth0    inet 10.77.2.11/24 brd 10.77.2.255 scope global eth0").as_deref(),
            Some("10.77.2.0/24")
        );
        assert_eq!(of("2: eth0    inet6 fd00::11/64 scope global").as_deref(), Some("fd00::/64"));
        assert_eq!(of("2: eth0    inet 10.77.2.10/32 scope global eth0"), None, "a virtual address");
        assert_eq!(of("3: cni0    inet 10.244.1.1/24 scope global cni0"), None);
    }

    #[test]
    fn a_drop_in_is_read_as_it_was_written() {
        let value = "http://proxy:3128/a%20\\\"b";
        let environment = vec![("HTTP_PROXY".to_owned(), value.to_owned()), ("NO_PROXY".to_owned(), "a,b".to_owned())];
        let text = drop_in(&environment);
        assert!(text.contains("Environment=\"HTTP_PROXY=http://proxy:3128/a%%20\\\\\\\"b\""), "{text}");
        assert_eq!(of_drop_in(&text), environment);
    }

    #[test]
    fn apt_is_told_which_of_its_hosts_need_no_proxy() {
        let proxy = ProxySpec {
            http: Some("http://proxy:3128".into()),
            https: None,
            no_proxy: vec!["mirror".into(), ".lan".into(), "10.0.0.0/8".into()],
        };
        let urls = ["http://10.1.2.3:8080/debian", "https://apt.lan/x", "http://deb.debian.org/debian", "file:///srv"];
        let hosts = hosts(&proxy, urls.into_iter());
        let environment = vec![(NO_PROXY.to_owned(), proxy.no_proxy.join(","))];
        let text = apt(&proxy, &hosts, &environment);
        let want = "// Written by Groundwork; changes made here are taken back.\n\
                    Acquire::http::Proxy \"http://proxy:3128\";\n\
                    Acquire::http::Proxy::10.1.2.3 \"DIRECT\";\n\
                    Acquire::http::Proxy::apt.lan \"DIRECT\";\n\
                    Acquire::http::Proxy::lan \"DIRECT\";\n\
                    Acquire::http::Proxy::mirror \"DIRECT\";\n";
        assert_eq!(text, want);
    }

    #[test]
    fn any_text_is_answered() {
        total::text(
            "ip-address",
            &["2: eth0    inet 10.77.2.11/24 scope global eth0", "2: eth0 inet6 fd00::1/64"],
            |text| network(text, &["eth0"].into()),
        );
        total::text("routes", &["eth0 00000000 01024D0A 0003 0 0 0 00000000"], |text| {
            text.lines().filter_map(default_route).count()
        });
        total::text("proxy-drop-in", &["[Service]\nEnvironment=\"A=b%%c\"\n"], of_drop_in);
        total::text("no-proxy", &["10.0.0.0/8,.lan,*,fd00::/8,a"], |text| is_direct("10.1.2.3", text));
    }
}
