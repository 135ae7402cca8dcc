//! The proxy of a machine: what is told to programs that reach the outside, and what they reach without it.
//!
//! Source: Go's golang.org/x/net/http/httpproxy, which containerd, the kubelet and kubeadm use; apt.conf(5), apt-transport-http(1).

use crate::host::{Access, Command, Host, HostError};
use agent_proto::v1::machine::ProxySpec;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Variables by name.
pub(crate) type Environment = Vec<(String, String)>;

/// What programs are told: the proxies, and what they reach without, the cluster of this node last.
///
/// # Errors
/// When the machine cannot say which network it is in.
pub(crate) async fn environment(host: &dyn Host, proxy: &ProxySpec) -> Result<Environment, HostError> {
    let own = networks(host).await?.into_iter().chain(near(host)?);
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
        for network in networks.iter().flat_map(|networks| networks.split(',')) {
            if !value.split(',').any(|entry| entry == network) {
                value.push_str(&format!(",{network}"));
            }
        }
    }
    Ok(environment)
}

/// Networks and hosts of the cluster that this machine is a node of, noted when it became one.
fn near(host: &dyn Host) -> Result<Vec<String>, HostError> {
    Ok(host.text(NEAR)?.unwrap_or_default().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

/// Has containerd and the kubelet reach these without the proxy, if the machine has one, and notes them: for a node of a cluster, before
/// its kubelet starts. Without any, the machine is no node any more. Says whether containerd was restarted.
///
/// # Errors
/// When files cannot be written, or systemd does not answer.
pub(crate) async fn follow(host: &dyn Host, wanted: &[String]) -> Result<bool, HostError> {
    let (before, mut after) = (near(host)?, Vec::new());
    for entry in wanted.iter().flat_map(|entry| entry.split(',')).filter(|entry| !entry.is_empty()) {
        if !after.iter().any(|own| own == entry) {
            after.push(entry.to_owned());
        }
    }
    if after.is_empty() {
        host.remove(NEAR)?;
    } else if before != after {
        host.write(NEAR, format!("{NOTE}{}\n", after.join("\n")).as_bytes(), Access::PRIVATE)?;
    }
    let mut changed = false;
    for unit in UNITS {
        let path = place(unit);
        let Some(text) = host.text(&path)? else { continue };
        let environment = told(of_drop_in(&text), &before, &after);
        let fresh = drop_in(&environment);
        if !environment.is_empty() && fresh != text {
            host.write(&path, fresh.as_bytes(), Access::OPEN)?;
            changed = true;
        }
    }
    if changed {
        host.run_ok(&Command::new(SYSTEMCTL, ["daemon-reload"]), &|_| ()).await?;
        host.run_ok(&Command::new(SYSTEMCTL, ["try-restart", UNITS[0]]), &|_| ()).await?;
    }
    Ok(changed)
}

/// The environment of a drop-in with another cluster's networks at the end of what is reached directly.
fn told(mut environment: Environment, before: &[String], after: &[String]) -> Environment {
    for (_, value) in environment.iter_mut().filter(|(name, _)| name == NO_PROXY) {
        let mut entries: Vec<&str> = value.split(',').collect();
        while entries.last().is_some_and(|last| before.iter().any(|own| own == last)) {
            entries.pop();
        }
        for entry in after {
            if !entries.contains(&entry.as_str()) {
                entries.push(entry);
            }
        }
        *value = entries.join(",");
    }
    environment
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
const NEAR: &str = "/etc/groundwork/cluster-networks";
const NOTE: &str = "# Noted by Groundwork: what the nodes of this machine's cluster reach without a proxy.\n";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
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
    fn a_node_reaches_its_cluster_without_the_proxy_and_no_longer_than_it_is_one() {
        let of =
            |list: &str| vec![("HTTP_PROXY".to_owned(), "http://p".to_owned()), (NO_PROXY.to_owned(), list.to_owned())];
        let near = ["10.244.0.0/16", "10.96.0.0/12", "api.example.org"].map(str::to_owned);
        let plain = of(".lan,10.0.0.0/24");
        let joined = told(plain.clone(), &[], &near);
        assert_eq!(joined, of(".lan,10.0.0.0/24,10.244.0.0/16,10.96.0.0/12,api.example.org"));
        assert_eq!(told(joined.clone(), &near, &near), joined, "again");
        assert_eq!(told(joined, &near, &[]), plain);
        let named = of("10.96.0.0/12,.lan");
        assert_eq!(told(told(named.clone(), &[], &near), &near, &[]), named, "the user's own stays");
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
