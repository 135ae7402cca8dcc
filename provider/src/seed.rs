//! A machine's cloud-init seed: what stands on the NoCloud CD-ROM that `groundwork_vm` makes, uploads and attaches.
//!
//! Pure: from [`Seed`] to the bytes of an image. Uploading, attaching and ejecting belong to the VM resource.
//! The documents are written as JSON, which is YAML. Source: cloud-init's NoCloud data source and network configuration version 2.

pub(crate) mod iso;

pub(crate) use iso::File;
use serde_json::{Map, Value, json};

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
    /// What installs the agent: keys of a cloud-config, and files beside it.
    pub(crate) agent: Option<AgentPart>,
}

/// The agent's part of a seed.
#[derive(Default)]
pub(crate) struct AgentPart {
    /// Keys merged into our cloud-config (`bootcmd`, `write_files` …).
    pub(crate) cloud_config: Map<String, Value>,
    /// Files of the image, below `groundwork/`.
    pub(crate) files: Vec<File>,
}

/// One network interface, matched by its hardware address: interface names differ between images.
pub(crate) struct Interface {
    /// The slot, `net0`.
    pub(crate) name: String,
    /// Hardware address as Proxmox has it.
    pub(crate) mac: String,
    /// Addresses with prefix length; none means DHCP.
    pub(crate) addresses: Vec<String>,
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

    /// Our cloud-config alone, or a multipart document with the user's own beside it.
    fn user_data(&self) -> String {
        let ours = format!("#cloud-config\n{}\n", Value::Object(self.cloud_config()));
        let Some(theirs) = &self.user_data else { return ours };
        let part = |kind: &str, merge: &str, text: &str| {
            format!("--{BOUNDARY}\r\nContent-Type: {kind}; charset=\"utf-8\"\r\n{merge}\r\n{text}\r\n")
        };
        let head = format!("Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\r\nMIME-Version: 1.0\r\n\r\n");
        let ours = part("text/cloud-config", "", &ours);
        let theirs = part(content_type(theirs), MERGE, theirs);
        format!("{head}{ours}{theirs}--{BOUNDARY}--\r\n")
    }

    fn cloud_config(&self) -> Map<String, Value> {
        let mut config = Map::new();
        let mut set = |key: &str, value: Value| {
            config.insert(key.to_owned(), value);
        };
        set("hostname", json!(self.hostname));
        set("manage_etc_hosts", json!("localhost"));
        // The agent installs what is declared, in one transaction; cloud-init would only hold the package lock before it.
        set("package_update", json!(false));
        set("package_upgrade", json!(false));
        if let Some(user) = self.account() {
            set("users", json!([user]));
        }
        for (key, value) in self.agent.iter().flat_map(|agent| &agent.cloud_config) {
            set(key, value.clone());
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
            let key = if password.starts_with('$') { "hashed_passwd" } else { "plain_text_passwd" };
            account.insert(key.to_owned(), json!(password));
            account.insert("lock_passwd".to_owned(), json!(false));
        }
        Some(Value::Object(account))
    }
}

impl Interface {
    fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("match".to_owned(), json!({ "macaddress": self.mac.to_lowercase() }));
        if self.addresses.is_empty() {
            document.insert("dhcp4".to_owned(), json!(true));
        } else {
            document.insert("addresses".to_owned(), json!(self.addresses));
        }
        // Older cloud-init knows no `to: default`.
        let route = |via: &String| json!({ "to": if via.contains(':') { "::/0" } else { "0.0.0.0/0" }, "via": via });
        if !self.gateways.is_empty() {
            document.insert("routes".to_owned(), self.gateways.iter().map(route).collect());
        }
        if !self.dns.is_empty() || !self.search.is_empty() {
            document.insert("nameservers".to_owned(), json!({ "addresses": self.dns, "search": self.search }));
        }
        Value::Object(document)
    }
}

/// What cloud-init takes a document for, by its first line.
fn content_type(text: &str) -> &'static str {
    match text.lines().next().unwrap_or_default().trim_end() {
        line if line.starts_with("#!") => "text/x-shellscript",
        "#cloud-boothook" => "text/cloud-boothook",
        "#include" => "text/x-include-url",
        "## template: jinja" => "text/jinja2",
        _ => "text/cloud-config",
    }
}

/// The user's lists are appended to ours and its other keys win.
const MERGE: &str = "Merge-Type: list(append)+dict(recurse_array,recurse_list)+str()\r\n";

const BOUNDARY: &str = "==groundwork-seed==";

#[cfg(test)]
mod tests {
    use super::{Interface, Seed};
    use serde_json::{Value, json};

    fn seed() -> Seed {
        Seed { instance_id: "0b5e".to_owned(), hostname: "cp-1".to_owned(), ..Seed::default() }
    }

    fn interface() -> Interface {
        Interface {
            name: "net0".to_owned(),
            mac: "BC:24:11:00:00:01".to_owned(),
            addresses: vec!["10.77.0.11/24".to_owned()],
            gateways: vec!["10.77.0.1".to_owned(), "fd00::1".to_owned()],
            dns: vec!["10.77.0.1".to_owned()],
            search: Vec::new(),
        }
    }

    #[track_caller]
    fn config(seed: &Seed) -> Value {
        let text = seed.user_data();
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
    fn a_hashed_password_is_not_hashed_again() {
        let hashed = Seed { password: Some("$6$salt$hash".to_owned()), ..seed() };
        assert_eq!(config(&hashed)["users"][0]["hashed_passwd"], "$6$salt$hash");
        let plain = Seed { password: Some("pass".to_owned()), ..seed() };
        assert_eq!(config(&plain)["users"][0]["plain_text_passwd"], "pass");
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
                "routes": [{ "to": "0.0.0.0/0", "via": "10.77.0.1" }, { "to": "::/0", "via": "fd00::1" }],
                "nameservers": { "addresses": ["10.77.0.1"], "search": [] },
            })
        );
    }

    #[test]
    fn the_users_document_stands_beside_ours() {
        let both = Seed { user_data: Some("#!/bin/sh\necho hello\n".to_owned()), ..seed() }.user_data();
        assert!(both.starts_with("Content-Type: multipart/mixed"));
        assert!(both.contains("Content-Type: text/x-shellscript"));
        assert!(both.contains("\r\n\r\n#!/bin/sh\necho hello\n"));
        assert!(both.trim_end().ends_with("--==groundwork-seed==--"));
    }
}
