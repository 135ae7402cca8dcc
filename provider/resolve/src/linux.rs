//! The resolvers of a Linux: `/etc/hosts`, the DNS servers of `/etc/resolv.conf`, and `getent` for what only the C library's modules know
//! (mDNS, containers' names, directories).
//!
//! Source: hosts(5), resolv.conf(5), nsswitch.conf(5). Files are read at each look-up: a change counts at once, as it does for libc.

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ServerOrderingStrategy};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, Resolver};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Where things are.
pub(crate) struct System {
    hosts: PathBuf,
    servers: PathBuf,
    getent: OsString,
}

impl System {
    pub(crate) fn of_this_computer() -> Self {
        Self { hosts: "/etc/hosts".into(), servers: "/etc/resolv.conf".into(), getent: "getent".into() }
    }
}

/// What the first says that knows the name, or what each of them said.
pub(crate) async fn asked(host: &str, system: &System) -> Result<Vec<IpAddr>, Vec<String>> {
    let by_files = match by_hosts_and_dns(host, system).await {
        Ok(found) => return Ok(found),
        Err(said) => said,
    };
    by_getent(host, system).await.map_err(|said| vec![by_files, said])
}

async fn by_hosts_and_dns(host: &str, system: &System) -> Result<Vec<IpAddr>, String> {
    let conf = std::fs::read_to_string(&system.servers).unwrap_or_default();
    let (config, mut options) =
        parse_resolv_conf(with_a_server(conf)).map_err(|error| format!("{}: {error}", system.servers.display()))?;
    options.use_hosts_file = ResolveHosts::Always;
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    // Whoever waits for a machine to come up asks again, and wants to know at once.
    options.cache_size = 0;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.timeout = options.timeout.min(ANSWER);
    let servers: Vec<String> = config.name_servers().iter().map(|server| server.ip.to_string()).collect();
    let asked = format!("{} and the DNS of {}", system.hosts.display(), servers.join(", "));
    let failed = |error: &NetError| format!("{asked}: {}", reason(error));

    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    let mut resolver = builder.build().map_err(|error| failed(&error))?;
    resolver.set_hosts(Arc::new(hosts(system)));
    let answer = timeout(DNS, resolver.lookup_ip(host)).await;
    let found = answer.unwrap_or(Err(NetError::Timeout)).map_err(|error| failed(&error))?;
    let found: Vec<IpAddr> = found.iter().collect();
    if found.is_empty() { Err(format!("{asked}: it has no address")) } else { Ok(found) }
}

/// Without a server in the file the one of this computer is asked.
fn with_a_server(conf: String) -> String {
    let names_one = conf.lines().any(|line| line.split_whitespace().next() == Some("nameserver"));
    if names_one { conf } else { format!("{conf}\nnameserver 127.0.0.1\n") }
}

fn hosts(system: &System) -> Hosts {
    let mut hosts = Hosts::default();
    if let Ok(file) = std::fs::File::open(&system.hosts)
        && let Err(error) = hosts.read_hosts_conf(file)
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot read the file of hosts");
    }
    hosts
}

fn reason(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
            "there is no such name".to_owned()
        }
        NetError::Dns(DnsError::NoRecordsFound(_)) => "it has no address".to_owned(),
        NetError::Timeout => "no answer in time".to_owned(),
        other => other.to_string(),
    }
}

/// By the C library of this computer, with all its modules, if it has one.
async fn by_getent(host: &str, system: &System) -> Result<Vec<IpAddr>, String> {
    if host.starts_with('-') {
        return Err("getent was not asked".to_owned());
    }
    let mut command = Command::new(&system.getent);
    command.args(["ahosts", host]).kill_on_drop(true);
    let output = match timeout(GETENT, command.output()).await {
        Err(_) => return Err("getent: no answer in time".to_owned()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("there is no getent to ask".to_owned());
        }
        Ok(Err(error)) => return Err(format!("getent: {error}")),
        Ok(Ok(output)) => output,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Vec<IpAddr> = text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    if found.is_empty() { Err("getent: there is no such name".to_owned()) } else { Ok(found) }
}

/// All of them together stay below the five seconds that a connection may take.
const ANSWER: Duration = Duration::from_secs(1);
const DNS: Duration = Duration::from_millis(2500);
const GETENT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    struct Etc(tempfile::TempDir);

    impl Etc {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        #[expect(clippy::disallowed_methods, reason = "a scratch file of a test needs no atomicity")]
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        /// Nothing listens at that server.
        fn system(&self) -> System {
            let getent = self.path().join("getent");
            System {
                hosts: self.path().join("hosts"),
                servers: self.write("resolv.conf", "nameserver 127.0.0.199\noptions attempts:1 nonsense\n"),
                getent: getent.into(),
            }
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn the_file_of_hosts_comes_first() {
        let etc = Etc::new();
        let system = etc.system();
        etc.write("hosts", "# ours\n192.0.2.11 pve1.example.com pve1\n2001:db8::11 pve1.example.com\n");
        assert_eq!(asked("pve1.example.com", &system).await, Ok(vec![ip("2001:db8::11"), ip("192.0.2.11")]));
        assert_eq!(asked("pve1", &system).await, Ok(vec![ip("192.0.2.11")]));
    }

    #[tokio::test]
    async fn getent_is_asked_about_what_dns_does_not_know() {
        let etc = Etc::new();
        let system = etc.system();
        let getent = etc.write("getent", "#!/bin/sh\n[ \"$*\" = 'ahosts pve.local' ] || exit 2\necho 192.0.2.12 STREAM pve.local\necho 192.0.2.12 DGRAM\n");
        std::fs::set_permissions(&getent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = asked("pve.local", &system).await.unwrap();
        assert_eq!(found, [ip("192.0.2.12"), ip("192.0.2.12")]);
        let said = asked("other.local", &system).await.unwrap_err();
        assert_eq!(said.last().unwrap(), "getent: there is no such name");
    }

    #[tokio::test]
    async fn an_unknown_name_says_who_was_asked() {
        let etc = Etc::new();
        let said = asked("nowhere.example.com", &etc.system()).await.unwrap_err();
        assert!(said[0].contains("hosts and the DNS of 127.0.0.199: "), "{said:?}");
        assert_eq!(said[1], "there is no getent to ask");
    }

    #[test]
    fn without_a_server_this_computer_is_asked() {
        assert!(with_a_server("search example.com\n".to_owned()).ends_with("nameserver 127.0.0.1\n"));
        assert_eq!(with_a_server(" nameserver ::1".to_owned()), " nameserver ::1");
    }
}
