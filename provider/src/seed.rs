//! A machine's cloud-init seed: what stands on the NoCloud CD-ROM that `groundwork_vm` makes, uploads and attaches.
//!
//! Pure: from [`Seed`] to the bytes of an image. Uploading, attaching and ejecting belong to the VM resource.
//! The documents are written as JSON, which is YAML. Source: cloud-init's NoCloud data source and network configuration version 2.
//!
//! The order of the user-data is what makes the user's word the last one: first the script that installs the agent, which nothing in
//! a broken document can keep from running; then the user's own parts, as cloud-init would take them alone; and at the end our
//! cloud-config, which adds what is not said yet.

pub(crate) mod iso;
mod password;
pub(crate) mod user_data;

pub(crate) use iso::File;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

use self::user_data::Part;
use crate::cidr;

/// Everything that a machine is told on its first boot.
#[derive(Default)]
pub(crate) struct Seed {
    /// Decides what cloud-init takes for a new machine. It never changes for a VM, so that no later seed repeats first-boot work.
    pub(crate) instance_id: String,
    /// Hostname before `groundwork_machine` sets one.
    pub(crate) hostname: String,
    /// Account to make; none leaves the image's default account.
    pub(crate) user: Option<String>,
    /// Public keys of that account.
    pub(crate) ssh_keys: Vec<String>,
    /// Password of that account, plain or as crypt(3) hash; a secret.
    pub(crate) password: Option<String>,
    /// Interfaces by name; none leaves DHCP on the first.
    pub(crate) interfaces: Vec<Interface>,
    /// The user's own document: cloud-config, a script, anything cloud-init takes.
    pub(crate) user_data: Option<String>,
    /// What installs the agent.
    pub(crate) agent: Option<AgentPart>,
}

/// The agent's part of a seed.
#[derive(Default)]
pub(crate) struct AgentPart {
    /// Shell lines that are run early on every boot.
    pub(crate) hook: String,
    /// Files of the image, below `groundwork/`.
    pub(crate) files: Vec<File>,
}

/// How an interface comes by an IPv6 address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Asks6 {
    /// As the image does.
    #[default]
    Unsaid,
    /// Router advertisements.
    Auto,
    /// DHCPv6.
    Dhcp,
}

/// A way to another network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// Destination with prefix length.
    pub(crate) to: String,
    /// Its gateway.
    pub(crate) via: String,
    /// Its metric.
    pub(crate) metric: Option<i64>,
}

/// One network interface, matched by its hardware address: interface names differ between images.
pub(crate) struct Interface {
    /// The slot, `net0`.
    pub(crate) name: String,
    /// Hardware address as Proxmox has it.
    pub(crate) mac: String,
    /// Static addresses with prefix length.
    pub(crate) addresses: Vec<String>,
    /// Whether DHCP is asked for an IPv4 address.
    pub(crate) dhcp4: bool,
    /// How an IPv6 address is had beside static ones.
    pub(crate) asks6: Asks6,
    /// Metric of the default routes.
    pub(crate) metric: Option<i64>,
    /// Further routes.
    pub(crate) routes: Vec<Route>,
    /// Default gateways, IPv4 or IPv6.
    pub(crate) gateways: Vec<String>,
    /// Name servers.
    pub(crate) dns: Vec<String>,
    /// Search domains.
    pub(crate) search: Vec<String>,
}

impl Seed {
    /// The image, ready to upload.
    pub(crate) fn image(&self) -> Vec<u8> {
        iso::image("CIDATA", &self.files())
    }

    fn files(&self) -> Vec<File> {
        let file = |path: &str, text: String| File { path: path.to_owned(), mode: 0o644, bytes: text.into_bytes() };
        let mut files = vec![
            file("meta-data", self.meta_data()),
            file("network-config", self.network_config()),
            file("user-data", self.user_data()),
        ];
        files.extend(self.agent.iter().flat_map(|agent| agent.files.iter().cloned()));
        files
    }

    fn meta_data(&self) -> String {
        json!({ "instance-id": self.instance_id, "local-hostname": self.hostname }).to_string()
    }

    fn network_config(&self) -> String {
        let interfaces = self.interfaces.iter().map(|interface| (interface.name.clone(), interface.document()));
        if self.interfaces.is_empty() {
            return json!({ "version": 2, "ethernets": { "any": { "match": { "name": "e*" }, "dhcp4": true } } })
                .to_string();
        }
        json!({ "version": 2, "ethernets": interfaces.collect::<Map<_, _>>() }).to_string()
    }

    fn user_data(&self) -> String {
        let mut parts = Vec::new();
        if let Some(agent) = &self.agent {
            parts.push(hook("groundwork-agent", &agent.hook));
        }
        let routes: String = self.interfaces.iter().map(Interface::routes_by_hand).collect();
        if !routes.is_empty() {
            parts.push(hook("groundwork-routes", &(ROUTES.to_owned() + &routes)));
        }
        parts.extend(self.user_data.iter().flat_map(|text| user_data::parts(text)));
        let ours = format!("#cloud-config\n{}\n", Value::Object(self.cloud_config()));
        parts.push(Part::new("text/cloud-config", &format!("{}{MERGE}", file_name("groundwork.cfg")), &ours));
        user_data::document(&parts)
    }

    fn cloud_config(&self) -> Map<String, Value> {
        let mut config = Map::new();
        let mut set = |key: &str, value: Value| {
            config.insert(key.to_owned(), value);
        };
        // A template may say otherwise, and the machine is to have a name of its own: that of the meta-data.
        set("preserve_hostname", json!(false));
        set("manage_etc_hosts", json!("localhost"));
        // The agent installs what is declared, in one transaction; cloud-init would only hold the package lock before it.
        set("package_update", json!(false));
        set("package_upgrade", json!(false));
        if let Some(user) = self.account() {
            set("users", json!([user]));
        }
        config
    }

    fn account(&self) -> Option<Value> {
        if self.user.is_none() && self.ssh_keys.is_empty() && self.password.is_none() {
            return None;
        }
        let mut account = Map::new();
        account.insert("name".to_owned(), json!(self.user.as_deref().unwrap_or("admin")));
        account.insert("sudo".to_owned(), json!("ALL=(ALL) NOPASSWD:ALL"));
        account.insert("shell".to_owned(), json!("/bin/bash"));
        // cloud-init takes no empty list.
        if !self.ssh_keys.is_empty() {
            account.insert("ssh_authorized_keys".to_owned(), self.ssh_keys.iter().map(|key| key.trim()).collect());
        }
        if let Some(password) = &self.password {
            account.insert("hashed_passwd".to_owned(), json!(password::hashed(password)));
            account.insert("lock_passwd".to_owned(), json!(false));
        }
        Some(Value::Object(account))
    }
}

impl Interface {
    fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("match".to_owned(), json!({ "macaddress": self.mac.to_lowercase() }));
        if self.dhcp4 {
            document.insert("dhcp4".to_owned(), json!(true));
        }
        match self.asks6 {
            Asks6::Unsaid => None,
            Asks6::Auto => document.insert("accept-ra".to_owned(), json!(true)),
            Asks6::Dhcp => document.insert("dhcp6".to_owned(), json!(true)),
        };
        for (asked, overrides) in [(self.dhcp4, "dhcp4-overrides"), (self.asks6 == Asks6::Dhcp, "dhcp6-overrides")] {
            if let Some(metric) = self.metric.filter(|_| asked) {
                document.insert(overrides.to_owned(), json!({ "route-metric": metric }));
            }
        }
        if !self.addresses.is_empty() {
            document.insert("addresses".to_owned(), json!(self.addresses));
        }
        let mut routes: Vec<Value> = self.gateways.iter().flat_map(|gateway| self.default_routes(gateway)).collect();
        routes
            .extend(self.routes.iter().map(|Route { to, via, metric }| with(json!({ "to": to, "via": via }), *metric)));
        if !routes.is_empty() {
            document.insert("routes".to_owned(), json!(routes));
        }
        if !self.dns.is_empty() || !self.search.is_empty() {
            document.insert("nameservers".to_owned(), json!({ "addresses": self.dns, "search": self.search }));
        }
        Value::Object(document)
    }

    /// The default route, and the way to a gateway that is in no network of the interface. netplan takes `on-link` for that; other
    /// renderers of cloud-init drop it in silence, and take the route to the gateway itself. One that has no gateway would do,
    /// but some renderers fall over it: nothing but zeros means the same.
    fn default_routes(&self, gateway: &String) -> Vec<Value> {
        let v6 = gateway.contains(':');
        // Older cloud-init knows no `to: default`.
        let all = if v6 { "::/0" } else { "0.0.0.0/0" };
        if !self.is_outside(gateway) {
            return vec![with(json!({ "to": all, "via": gateway }), self.metric)];
        }
        let (length, none) = if v6 { (128, "::") } else { (32, "0.0.0.0") };
        vec![
            json!({ "to": format!("{gateway}/{length}"), "via": none }),
            with(json!({ "to": all, "via": gateway, "on-link": true }), self.metric),
        ]
    }

    /// Calls of [`ROUTES`]: before 23.1 cloud-init took `::/0` for `::/64` with every renderer but netplan, and ifupdown's commands
    /// can say neither what lies outside nor whose link a link-local address is on.
    fn routes_by_hand(&self) -> String {
        let by_hand = |gateway: &&String| gateway.contains(':') || self.is_outside(gateway);
        let metric = self.metric.map(|metric| format!(" {metric}")).unwrap_or_default();
        let call = |gateway: &String| format!("default_route {} {gateway}{metric}\n", self.mac.to_lowercase());
        self.gateways.iter().filter(by_hand).map(call).collect()
    }

    /// Whether no network of the interface holds the gateway.
    fn is_outside(&self, gateway: &str) -> bool {
        let Ok(address) = gateway.parse::<IpAddr>() else { return false };
        let own = self.addresses.iter().filter_map(|own| cidr::parse(own));
        let holds = |(own, length): (IpAddr, u8)| cidr::agree(own, address, length);
        !is_link_local(gateway) && !own.into_iter().any(holds)
    }
}

/// A route with its metric.
fn with(mut route: Value, metric: Option<i64>) -> Value {
    if let (Some(metric), Value::Object(fields)) = (metric, &mut route) {
        fields.insert("metric".to_owned(), json!(metric));
    }
    route
}

fn is_link_local(gateway: &str) -> bool {
    gateway.parse().is_ok_and(|address| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    })
}

/// A script that cloud-init runs on every boot, before it looks at anything else.
fn hook(name: &str, lines: &str) -> Part {
    Part::new("text/cloud-boothook", &file_name(name), &format!("#cloud-boothook\n#!/bin/sh\n{lines}"))
}

/// What a part is called in cloud-init's log.
fn file_name(name: &str) -> String {
    format!("Content-Disposition: attachment; filename=\"{name}\"\r\n")
}

/// What the user's parts have said stays; lists that both have become one, ours first.
const MERGE: &str = "Merge-Type: dict(no_replace,recurse_list)+list(prepend)+str()\r\n";

const ROUTES: &str = include_str!("seed/routes.sh");

#[cfg(test)]
mod tests {
    use super::{Asks6, Interface, Route, Seed};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    fn seed() -> Seed {
        Seed { instance_id: "0b5e".to_owned(), hostname: "cp-1".to_owned(), ..Seed::default() }
    }

    fn interface() -> Interface {
        Interface {
            name: "net0".to_owned(),
            mac: "BC:24:11:00:00:01".to_owned(),
            addresses: vec!["10.77.0.11/24".to_owned()],
            gateways: vec!["10.77.0.1".to_owned(), "fe80::1".to_owned()],
            dhcp4: false,
            asks6: Asks6::Unsaid,
            metric: None,
            routes: Vec::new(),
            dns: vec!["10.77.0.1".to_owned()],
            search: Vec::new(),
        }
    }

    /// Parts by their type, decoded.
    #[track_caller]
    fn parts(seed: &Seed) -> Vec<(String, String)> {
        let text = seed.user_data();
        assert!(text.is_ascii());
        let boundary = text.split('"').nth(1).unwrap().to_owned();
        let decode = |part: &str| {
            let (head, body) = part.split_once("\r\n\r\n").unwrap();
            let kind = head.trim_start().strip_prefix("Content-Type: ").unwrap().split(';').next().unwrap();
            let body: String = body.split_whitespace().collect();
            (kind.to_owned(), String::from_utf8(STANDARD.decode(body).unwrap()).unwrap())
        };
        let all = text.split(&format!("--{boundary}")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(all.last().unwrap(), "--\r\n");
        all[1..all.len() - 1].iter().map(|part| decode(part)).collect()
    }

    #[track_caller]
    fn config(seed: &Seed) -> Value {
        let (kind, text) = parts(seed).pop().unwrap();
        assert_eq!(kind, "text/cloud-config");
        serde_json::from_str(text.strip_prefix("#cloud-config\n").expect("a cloud-config")).unwrap()
    }

    #[test]
    fn the_instance_id_is_the_callers_and_nothing_else_enters_it() {
        let meta: Value = serde_json::from_str(&seed().meta_data()).unwrap();
        assert_eq!(meta, json!({ "instance-id": "0b5e", "local-hostname": "cp-1" }));
    }

    #[test]
    fn no_account_is_made_unless_one_is_asked_for() {
        assert!(config(&seed()).get("users").is_none());
        let with_key = Seed { ssh_keys: vec!["ssh-ed25519 AAAA".to_owned()], ..seed() };
        assert_eq!(config(&with_key)["users"][0]["name"], "admin");
        let by_name = Seed { user: Some("ops".to_owned()), ..seed() };
        assert!(config(&by_name)["users"][0].get("ssh_authorized_keys").is_none(), "its schema wants one key at least");
    }

    #[test]
    fn no_password_stands_in_a_seed() {
        for password in ["hunter2", "$ecret", "pässwörd"] {
            let seed = Seed { password: Some(password.to_owned()), ..seed() };
            assert!(parts(&seed).iter().all(|(_, text)| !text.contains(password)), "{password}");
            let account = &config(&seed)["users"][0];
            assert!(account["hashed_passwd"].as_str().is_some_and(|hash| hash.starts_with("$6$")), "{account}");
        }
    }

    #[test]
    fn an_interface_is_matched_by_its_hardware_address() {
        let network: Value =
            serde_json::from_str(&Seed { interfaces: vec![interface()], ..seed() }.network_config()).unwrap();
        assert_eq!(
            network["ethernets"]["net0"],
            json!({
                "match": { "macaddress": "bc:24:11:00:00:01" },
                "addresses": ["10.77.0.11/24"],
                "routes": [{ "to": "0.0.0.0/0", "via": "10.77.0.1" }, { "to": "::/0", "via": "fe80::1" }],
                "nameservers": { "addresses": ["10.77.0.1"], "search": [] },
            })
        );
    }

    #[test]
    fn a_gateway_outside_is_reached_over_the_link() {
        let routes = |addresses: &[&str], gateways: &[&str]| {
            let owned = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
            let card = Interface { addresses: owned(addresses), gateways: owned(gateways), ..interface() };
            (card.document()["routes"].clone(), card.routes_by_hand())
        };
        let (routes_of, by_hand) = routes(&["10.77.2.63/32"], &["10.77.2.1"]);
        let want = json!([
            { "to": "10.77.2.1/32", "via": "0.0.0.0" },
            { "to": "0.0.0.0/0", "via": "10.77.2.1", "on-link": true }
        ]);
        assert_eq!((routes_of, by_hand.as_str()), (want, "default_route bc:24:11:00:00:01 10.77.2.1\n"));
        let (routes_of, by_hand) = routes(&["fd00::63/128"], &["fd00::1", "fe80::1"]);
        let want = json!([
            { "to": "fd00::1/128", "via": "::" },
            { "to": "::/0", "via": "fd00::1", "on-link": true },
            { "to": "::/0", "via": "fe80::1" }
        ]);
        assert_eq!((routes_of, by_hand.lines().count()), (want, 2));
        let (_, by_hand) = routes(&["10.77.2.63/24", "fd00::63/64"], &["10.77.2.1", "fd00::1"]);
        assert_eq!(by_hand, "default_route bc:24:11:00:00:01 fd00::1\n");
    }

    #[test]
    fn an_address_that_is_asked_for_stands_beside_static_ones_and_routes_have_their_metric() {
        let route = Route { to: "198.51.100.0/24".to_owned(), via: "10.77.0.2".to_owned(), metric: Some(7) };
        let card = Interface { dhcp4: true, asks6: Asks6::Dhcp, metric: Some(50), routes: vec![route], ..interface() };
        let document = card.document();
        assert_eq!((&document["dhcp4"], &document["dhcp6"]), (&json!(true), &json!(true)));
        assert_eq!(document["dhcp4-overrides"], json!({ "route-metric": 50 }));
        let want = json!([
            { "to": "0.0.0.0/0", "via": "10.77.0.1", "metric": 50 },
            { "to": "::/0", "via": "fe80::1", "metric": 50 },
            { "to": "198.51.100.0/24", "via": "10.77.0.2", "metric": 7 }
        ]);
        assert_eq!(document["routes"], want);
        assert_eq!(card.routes_by_hand(), "default_route bc:24:11:00:00:01 fe80::1 50\n");
        assert_eq!(Interface { asks6: Asks6::Auto, ..interface() }.document()["accept-ra"], json!(true));
    }

    #[test]
    fn the_users_document_stands_between_the_hook_and_our_config() {
        let script = "#!/bin/sh\necho häl\u{1f600}lo\n";
        let agent = super::AgentPart { hook: "true\n".to_owned(), files: Vec::new() };
        let all = parts(&Seed { user_data: Some(script.to_owned()), agent: Some(agent), ..seed() });
        let kinds: Vec<_> = all.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["text/cloud-boothook", "text/plain", "text/cloud-config"]);
        assert_eq!(all[0].1, "#cloud-boothook\n#!/bin/sh\ntrue\n");
        assert_eq!(all[1].1, script);
    }
}
