//! The attributes of `groundwork_agent`, and what they are to the ways in. Those of `ssh` have the names of Terraform's own `connection` blocks where these have one.

use crate::endpoint::AgentEndpoint;
use crate::ssh::{Hop, Way};
use crate::{cidr, guest, names, ssh, timeouts};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tf::check::{Verdict, between, not_blank};
use tf::{Attr, Model, Row, Secret, block, computed, optional, required};

/// The agent on one machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Agent {
    pub(super) id: Attr<String>,
    pub(super) ssh: Attr<Ssh>,
    pub(super) guest_agent: Attr<GuestAgent>,
    pub(super) address: Attr<String>,
    pub(super) port: Attr<i64>,
    pub(super) allow_from: Attr<Vec<String>>,
    pub(super) uninstall_on_destroy: Attr<bool>,
    pub(super) timeouts: Attr<Timeouts>,
    pub(super) endpoint: Attr<AgentEndpoint>,
    pub(super) drift: Attr<Vec<String>>,
    pub(super) facts: Attr<BTreeMap<String, String>>,
}

impl Model for Agent {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self {
            id,
            ssh,
            guest_agent,
            address,
            port,
            allow_from,
            uninstall_on_destroy,
            timeouts,
            endpoint,
            drift,
            facts,
        } = self;
        vec![
            computed("id", id, "Fingerprint of the agent.").keep(),
            block("ssh", ssh, "The way into the machine by SSH. Used when the agent is installed and when it is repaired, and never otherwise. `ssh` or `guest_agent` is required."),
            block("guest_agent", guest_agent, "The way into a VM of this Proxmox VE through QEMU's guest agent: no account, no password and no SSH. Used as `ssh` is."),
            optional("address", address, "Address or name under which the agent is reached from here. Default: `ssh.host`, or with `guest_agent` what the guest agent tells of the VM's cards. Another one is looked at with the agent's fingerprint; nothing is written on the machine for it.")
                .check(host),
            optional("port", port, "TCP port the agent listens on. Default: 7443. A change is written by the way in.").check(between(1, 65_535)),
            optional("allow_from", allow_from, "Networks and addresses from which the agent takes connections, such as `192.0.2.0/24`: all others are cut off before they are read. Default: from everywhere. A change is written by the way in.")
                .check(cidr::source),
            optional("uninstall_on_destroy", uninstall_on_destroy, "Whether destroying takes the agent away: its unit, its program and its folders. What was made with it stays as it is. Default: `false`.")
                .default(false),
            block("timeouts", timeouts, "How long to wait."),
            computed("endpoint", endpoint, "The machine's agent, for `groundwork_machine`.").keep(),
            computed("drift", drift, "What is found in the agent's place where it is not the agent of the state, one line each; the next apply repairs it by the way in."),
            computed("facts", facts, "Facts about the machine: `os`, `kernel`, `architecture`, `virtualization`, `cpus`, `memory_mib` …").keep(),
        ]
    }
}

/// The way into the machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ssh {
    pub(super) host: Attr<String>,
    port: Attr<i64>,
    user: Attr<String>,
    private_key: Attr<Secret<String>>,
    private_key_passphrase: Attr<Secret<String>>,
    agent: Attr<bool>,
    password: Attr<Secret<String>>,
    host_key: Attr<String>,
    known_hosts: Attr<String>,
    sudo: Attr<bool>,
    sudo_password: Attr<Secret<String>>,
    bastion_host: Attr<String>,
    bastion_port: Attr<i64>,
    bastion_user: Attr<String>,
    bastion_private_key: Attr<Secret<String>>,
    bastion_private_key_passphrase: Attr<Secret<String>>,
    bastion_password: Attr<Secret<String>>,
    bastion_host_key: Attr<String>,
    timeout: Attr<String>,
}

impl Model for Ssh {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self {
            host,
            port,
            user,
            private_key,
            private_key_passphrase,
            agent,
            password,
            host_key,
            known_hosts,
            sudo,
            sudo_password,
            bastion_host,
            bastion_port,
            bastion_user,
            bastion_private_key,
            bastion_private_key_passphrase,
            bastion_password,
            bastion_host_key,
            timeout,
        } = self;
        let port_doc = |default| format!("TCP port. Default: {default}.");
        vec![
            required("host", host, "Address or name of the machine.").check(self::host),
            optional("port", port, port_doc("22")).check(between(1, 65_535)),
            optional("user", user, "Account to log in as. Default: `root`.").check(not_blank),
            secret("private_key", private_key, "Private key, or the path of its file."),
            secret("private_key_passphrase", private_key_passphrase, "Passphrase of the key."),
            optional("agent", agent, "Whether the keys of the SSH agent (`SSH_AUTH_SOCK`) are offered, on Linux and macOS. Default: where neither `private_key` nor `password` is given."),
            secret("password", password, "Password of the account, also for servers that ask for it (keyboard-interactive)."),
            optional("host_key", host_key, "The machine's public host key, `ssh-ed25519 AAAA…`, or its fingerprint, `SHA256:…`. Without it the host has to stand in `known_hosts`.").check(pin),
            optional("known_hosts", known_hosts, "File to know hosts by. Default: `~/.ssh/known_hosts`. It is only read.").check(not_blank),
            optional("sudo", sudo, "Whether to become root with `sudo`. Default: unless the account is root already."),
            secret("sudo_password", sudo_password, "What `sudo` asks for, where it does."),
            optional("bastion_host", bastion_host, "A host to go through.").check(self::host),
            optional("bastion_port", bastion_port, port_doc("22")).check(between(1, 65_535)),
            optional("bastion_user", bastion_user, "Account there. Default: `user`.").check(not_blank),
            secret("bastion_private_key", bastion_private_key, "Private key for it, or the path of its file. Without it and `bastion_password`: what `private_key` and `password` give."),
            secret("bastion_private_key_passphrase", bastion_private_key_passphrase, "Passphrase of that key."),
            secret("bastion_password", bastion_password, "Password there."),
            optional("bastion_host_key", bastion_host_key, "Its public host key, or the fingerprint of it.").check(pin),
            optional("timeout", timeout, "How long to call a host that does not answer: it may be starting. Default: `1m`.").check(timeouts::check),
        ]
    }
}

/// The way into a VM through QEMU's guest agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct GuestAgent {
    vmid: Attr<i64>,
    node: Attr<String>,
    timeout: Attr<String>,
}

impl Model for GuestAgent {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { vmid, node, timeout } = self;
        vec![
            required("vmid", vmid, "Number of the VM. Its option `agent` has to be on, and qemu-guest-agent to run in it.").check(between(100, 999_999_999)),
            optional("node", node, "Node where the VM is looked for first. Default: where the cluster lists it. A VM that has moved is found.").check(names::node),
            optional("timeout", timeout, "How long to ask a guest agent that does not answer: the VM may be starting. Default: `1m`.").check(timeouts::check),
        ]
    }
}

impl GuestAgent {
    /// As that side wants it; `None` while the VM is unknown.
    pub(super) fn way(&self) -> Option<guest::Way> {
        Some(guest::Way {
            vmid: pve::Vmid::new(*self.vmid.get()?)?,
            node: self.node.text().and_then(|node| node.parse().ok()),
            timeout: self.timeout.text().and_then(timeouts::parse).unwrap_or(TIMEOUT),
        })
    }
}

/// A secret is read from the configuration when it is needed, and stands in no plan and no state.
fn secret<'a>(name: &'static str, field: &'a mut Attr<Secret<String>>, doc: &'static str) -> Row<'a> {
    optional(name, field, doc).sensitive().write_only()
}

impl Ssh {
    /// As the SSH side wants it.
    pub(super) fn way(&self) -> Way {
        let machine = Hop {
            prefix: "",
            host: self.host.or(""),
            port: port(&self.port, 22),
            user: self.user.or("root"),
            host_key: self.host_key.cloned(),
            private_key: self.private_key.cloned(),
            private_key_passphrase: self.private_key_passphrase.cloned(),
            password: self.password.cloned(),
        };
        let own = !self.bastion_private_key.is_null() || !self.bastion_password.is_null();
        let bastion = self.bastion_host.cloned().map(|host| Hop {
            prefix: "bastion_",
            host,
            port: port(&self.bastion_port, 22),
            user: self.bastion_user.cloned().unwrap_or_else(|| machine.user.clone()),
            host_key: self.bastion_host_key.cloned(),
            private_key: if own { self.bastion_private_key.cloned() } else { machine.private_key.clone() },
            private_key_passphrase: if own {
                self.bastion_private_key_passphrase.cloned()
            } else {
                machine.private_key_passphrase.clone()
            },
            password: if own { self.bastion_password.cloned() } else { machine.password.clone() },
        });
        Way {
            machine,
            bastion,
            agent: self.agent.cloned(),
            known_hosts: self.known_hosts.text().map(ssh::expanded),
            sudo: self.sudo.cloned(),
            sudo_password: self.sudo_password.cloned(),
            timeout: self.timeout.text().and_then(timeouts::parse).unwrap_or(TIMEOUT),
        }
    }
}

impl Agent {
    /// `host:port` of the agent; `None` while a part of it is unknown, and where nobody has said it.
    pub(super) fn place(&self) -> Option<String> {
        let host = match &self.address {
            Attr::Null => &self.ssh.get()?.host,
            given => given,
        };
        let host = host.text()?;
        if self.port.is_unknown() {
            return None;
        }
        let port = self.listens_on();
        Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    /// The same for addresses that somebody else has told.
    pub(super) fn places(&self, addresses: Vec<IpAddr>) -> Vec<String> {
        let port = self.listens_on();
        addresses.into_iter().map(|address| SocketAddr::new(address, port).to_string()).collect()
    }

    /// The number of the VM whose guest agent says where the agent is, if nobody else does.
    pub(super) fn vm(&self) -> Attr<i64> {
        self.guest_agent.get().filter(|_| self.address.is_null()).map_or(Attr::Null, |guest| guest.vmid)
    }

    /// The same as the way to it.
    pub(super) fn asks(&self) -> Option<guest::Way> {
        if self.address.is_null() { self.guest_agent.get()?.way() } else { None }
    }

    /// The port that the agent is to listen on.
    pub(super) fn listens_on(&self) -> u16 {
        port(&self.port, trust::PORT)
    }

    /// How a person calls the machine.
    pub(super) fn name(&self) -> String {
        let host = self.ssh.get().and_then(|ssh| ssh.host.cloned());
        let vm = || self.guest_agent.get().and_then(|guest| Some(format!("VM {}", guest.vmid.get()?)));
        let given = host.or_else(vm).or_else(|| self.address.cloned());
        given.or_else(|| self.endpoint.get()?.address.cloned()).unwrap_or_default()
    }
}

fn port(attr: &Attr<i64>, default: u16) -> u16 {
    attr.get().and_then(|port| u16::try_from(*port).ok()).unwrap_or(default)
}

fn host(text: &str) -> Verdict {
    let good = text.parse::<IpAddr>().is_ok()
        || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if good { Ok(()) } else { Err("must be an address or the name of a host, without a port".to_owned()) }
}

fn pin(text: &str) -> Verdict {
    if ssh::is_pin(text) {
        Ok(())
    } else {
        Err("must be a public key, `ssh-ed25519 AAAA…`, or a fingerprint, `SHA256:…`".to_owned())
    }
}

/// How long to wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Timeouts {
    pub(super) create: Attr<String>,
    pub(super) update: Attr<String>,
    pub(super) delete: Attr<String>,
}

impl Model for Timeouts {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { create, update, delete } = self;
        vec![
            optional("create", create, "Until the agent is installed and enrolled. Default: `10m`.")
                .check(timeouts::check),
            optional("update", update, "Until it is repaired or set anew. Default: `10m`.").check(timeouts::check),
            optional("delete", delete, "Until a node has left its cluster and the agent is gone. Default: `10m`.")
                .check(timeouts::check),
        ]
    }
}

const TIMEOUT: Duration = Duration::from_secs(60);
