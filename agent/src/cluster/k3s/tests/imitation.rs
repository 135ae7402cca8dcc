//! A machine on which K3s can be run, imitated after the recordings in `recorded/` (v1.34.3+k3s1), or RKE2, which has the same in its own places.
//!
//! A unit runs when it is started, unless it is told never to; then its journal says what the recording says, and it tries for ever. The
//! power goes after so many writes.

pub(super) mod etcd;
mod host;

use crate::cluster::k3s::{K3S, Variant};
use crate::cluster::tests::files::Files;
use crate::host::{Command, HostError, Output};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

/// How many writes and starts it takes.
pub(super) struct Moment;

impl Moment {
    pub(super) const SERVER: usize = 10;
    pub(super) const FURTHER: usize = 11;
    pub(super) const AGENT: usize = 11;
}

/// The machine.
pub(super) struct Machine {
    pub(super) own: &'static Variant,
    inner: Mutex<Inner>,
    pub(super) authority: String,
    clients: [String; 3],
}

#[derive(Default)]
struct Inner {
    files: Files,
    links: BTreeSet<String>,
    commands: Vec<String>,
    left: Option<usize>,
    /// What the server at the other end of a download gives.
    offered: String,
    running: Option<String>,
    cluster: String,
    journal: String,
    restarts: u32,
    nodes: BTreeMap<String, Node>,
    members: etcd::Members,
    rules: String,
}

/// A node, as the API server has it.
#[derive(Default)]
struct Node {
    server: bool,
    leaving: bool,
    upgrading: bool,
    version: String,
}

impl Node {
    fn to_json(&self, name: &str) -> String {
        let labels = if self.server { json!({ "node-role.kubernetes.io/control-plane": "true" }) } else { json!({}) };
        let mut marks = json!({});
        for (mark, is_set) in [("groundwork/leaving", self.leaving), ("groundwork/upgrading", self.upgrading)] {
            if is_set {
                marks[mark] = json!("true");
            }
        }
        json!({
            "metadata": { "name": name, "labels": labels, "annotations": marks },
            "spec": { "unschedulable": self.upgrading },
            "status": {
                "conditions": [{ "type": "Ready", "status": "True" }],
                "nodeInfo": { "kubeletVersion": self.version },
            },
        })
        .to_string()
    }
}

/// SHA-256 of a text.
pub(super) fn sum(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()))
}

/// In the form in which K3s writes keys.
const KEY: &str = "\
-----BEGIN EC PRIVATE KEY-----\n\
MHcCAQEEIDgnKJDsaFOCld5ECqQxJSDowIivqcp58a4FlVRSVWF3oAoGCCqGSM49\n\
AwEHoUQDQgAEOpJmjOjudwX7tNPh829i1oZqG1ajuDxRh1dFw+5ekVaWpaCNV0Ei\n\
Tl/5O9aaL7Kgn3MjonrhbtDKdZlZrRdOaQ==\n\
-----END EC PRIVATE KEY-----\n\
";

fn authority(name: &str) -> (String, String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = if name == "k3s-client-ca" { KeyPair::from_pem(KEY).unwrap() } else { KeyPair::generate().unwrap() };
    let ca = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, &key);
    let mut admin = CertificateParams::default();
    admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
    let admin = admin.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    (ca.pem(), KEY.to_owned(), admin.pem())
}

const OLD: &str = "v1.34.3+k3s1";
/// A program of v1.34.4+k3s1.
pub(super) const NEWER: &str = "a newer program";

impl Machine {
    pub(super) fn new() -> Self {
        Self::of(&K3S)
    }

    pub(super) fn of(own: &'static Variant) -> Self {
        let (server, ..) = authority("k3s-server-ca");
        let (clients, key, admin) = authority("k3s-client-ca");
        let inner = Inner {
            offered: "a program".to_owned(),
            cluster: of_variant(own, OLD),
            rules: "*filter\n-A INPUT -j DROP\n-A INPUT -j KUBE-FIREWALL\nCOMMIT\n".to_owned(),
            ..Inner::default()
        };
        let machine = Self { own, inner: Mutex::new(inner), authority: server, clients: [clients, key, admin] };
        machine.put("/usr/sbin/iptables-save", "");
        machine
    }

    /// A path as this distribution has it.
    pub(super) fn at(&self, path: &str) -> String {
        path.replace("/rancher/k3s", &format!("/rancher/{}", self.own.program))
    }

    fn version_of(&self, program: &str) -> String {
        of_variant(self.own, if self.text(program) == NEWER { "v1.34.4+k3s1" } else { OLD })
    }

    pub(super) fn put(&self, path: &str, text: &str) {
        self.inner().files.insert(path.to_owned(), text.to_owned());
    }

    pub(super) fn forget(&self, path: &str) {
        self.inner().files.remove(path);
    }

    /// A file's text; empty where there is none.
    pub(super) fn text(&self, path: &str) -> String {
        self.inner().files.get(path).cloned().unwrap_or_default()
    }

    pub(super) fn files(&self) -> BTreeMap<String, String> {
        self.inner().files.clone()
    }

    pub(super) fn commands(&self) -> Vec<String> {
        self.inner().commands.clone()
    }

    pub(super) fn rules(&self) -> String {
        self.inner().rules.clone()
    }

    pub(super) fn dies_after(&self, writes: Option<usize>) {
        self.inner().left = writes;
    }

    pub(super) fn offers(&self, text: &str) {
        text.clone_into(&mut self.inner().offered);
    }

    /// With this journal it tries for ever; with an empty one it runs.
    pub(super) fn never_runs(&self, journal: &str) {
        journal.clone_into(&mut self.inner().journal);
    }

    pub(super) fn runs(&self) -> bool {
        self.inner().running.is_some()
    }

    /// Somebody stops it.
    pub(super) fn stop(&self) {
        self.inner().running = None;
    }

    pub(super) fn forget_node(&self, name: &str) {
        self.inner().nodes.remove(name);
    }

    /// A container, whose shim outlives the unit.
    pub(super) fn runs_a_pod(&self) {
        let shim = self.at(
            "/var/lib/rancher/k3s/data/00/bin/containerd-shim-runc-v2\0-address\0/run/k3s/containerd/containerd.sock\0",
        );
        for (pid, stat, line) in [
            ("1", "1 (init) S 0", "/sbin/init\0"),
            ("20", "20 (shim) S 1", shim.as_str()),
            ("21", "21 (pause) S 20", "/pause\0"),
        ] {
            self.put(&format!("/proc/{pid}/stat"), stat);
            self.put(&format!("/proc/{pid}/cmdline"), line);
        }
        self.put("/run/netns/cni-0123", "");
    }

    /// A token of the cluster.
    pub(super) fn token(&self) -> String {
        format!("K10{}::aaaaaa.0123456789abcdef", sum(&self.authority))
    }

    /// The cluster's own.
    pub(super) fn secret(&self) -> String {
        format!("K10{}::server:5ecret5ecret", sum(&self.authority))
    }

    /// Another server of the cluster.
    pub(super) fn has_server(&self, name: &str) {
        let mut inner = self.inner();
        let version = of_variant(self.own, OLD);
        inner.nodes.insert(name.to_owned(), Node { server: true, version, ..Node::default() });
        inner.members.add(name);
    }

    /// What the API server says that it is.
    pub(super) fn cluster_is(&self, version: &str) {
        version.clone_into(&mut self.inner().cluster);
    }

    /// The version of a node, and whether it is marked as being upgraded.
    pub(super) fn stands(&self, name: &str) -> (String, bool) {
        let inner = self.inner();
        (inner.nodes[name].version.clone(), inner.nodes[name].upgrading)
    }

    pub(super) fn nodes(&self) -> Vec<String> {
        self.inner().nodes.keys().cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// One more write; an error when the power is gone.
    fn writes(&self, path: &str) -> Result<(), HostError> {
        let mut inner = self.inner();
        match &mut inner.left {
            Some(0) => {
                Err(HostError::File { act: "write", path: path.to_owned(), source: std::io::Error::other("dead") })
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What K3s makes when it runs.
    fn start(&self, unit: &str) {
        let inner = self.inner();
        let is_server = unit == self.own.server.name;
        let fails = !inner.journal.is_empty();
        drop(inner);
        self.put(&self.at("/var/lib/rancher/k3s/data/00/bin/k3s"), "unpacked");
        if fails {
            return;
        }
        let agent = self.at("/var/lib/rancher/k3s/agent");
        self.put(&format!("{agent}/server-ca.crt"), &self.authority);
        for name in ["client-kubelet.crt", "kubelet.kubeconfig", "etc/containerd/config.toml"] {
            self.put(&format!("{agent}/{name}"), "");
        }
        self.put("/etc/rancher/node/password", "SECRETHEX32");
        self.put("/run/k3s/containerd/containerd.sock", "");
        let config: serde_json::Value = serde_json::from_str(&self.text(self.own.places.config)).unwrap();
        let name = config["node-name"].as_str().unwrap();
        if is_server {
            let [clients, key, admin] = &self.clients;
            let server = self.at("/var/lib/rancher/k3s/server");
            for (path, text) in [
                ("tls/server-ca.crt", self.authority.as_str()),
                ("tls/server-ca.key", ""),
                ("tls/client-ca.crt", clients),
                ("tls/client-ca.key", key),
                ("tls/client-admin.crt", admin),
                ("cred/admin.kubeconfig", "server: https://127.0.0.1:6444\n"),
                ("tls/etcd/server-ca.crt", ""),
                ("db/etcd/config", "initial-cluster: cp-1-624f1727=https://cp-1-624f1727:2380\n"),
                ("token", &format!("{}\n", self.secret())),
            ] {
                self.put(&format!("{server}/{path}"), text);
            }
            self.put(self.own.places.kubeconfig, "server: https://127.0.0.1:6443\nclient-key-data: BASE64\n");
        }
        let version = self.version_of(self.own.places.program);
        let mut inner = self.inner();
        inner.running = Some(unit.to_owned());
        let node = inner.nodes.entry(name.to_owned()).or_default();
        (node.server, node.version) = (is_server, version);
        if is_server {
            inner.members.add(name);
            name.clone_into(&mut inner.members.own);
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each program")]
    fn program(&self, command: &Command) -> Output {
        let args: Vec<&str> = command.args.iter().map(String::as_str).collect();
        let name = command.program.rsplit('/').next().unwrap().replacen(self.own.program, "k3s", 1);
        match (name.as_str(), args.as_slice()) {
            ("apt-helper", ["download-file", _, path]) => {
                let offered = self.inner().offered.clone();
                self.put(path, &offered);
                said("")
            }
            ("sha256sum", ["--", path]) => said(&format!("{}  {path}\n", sum(&self.text(path)))),
            ("k3s" | "k3s.groundwork-new", ["--version"]) => {
                let said_by = include_str!("../recorded/version.txt").replace(OLD, &self.version_of(&command.program));
                let called = command.program.rsplit('/').next().unwrap();
                said(&said_by.replacen("k3s", called, 1))
            }
            ("k3s", ["server", "--help"]) => said(include_str!("../recorded/server-help.txt")),
            ("k3s", ["agent", "--help"]) => said(include_str!("../recorded/agent-help.txt")),
            ("k3s", ["server", "--cluster-reset", _]) => {
                let secret = self.text(self.own.places.token);
                assert_eq!(secret, "5ecret5ecret\n");
                assert_eq!(self.text(self.own.places.secret), secret, "K3s asks for it");
                if self.writes("the database").is_err() {
                    return failed("dead");
                }
                self.put(&self.at("/var/lib/rancher/k3s/server/db/reset-flag"), "");
                self.put(self.own.places.authorities[0], &self.authority);
                Output { stderr: include_str!("../recorded/restore.txt").to_owned(), ..said("") }
            }
            ("k3s", ["token", "create", "--ttl", _, ..]) => said(&format!("{}\n", self.token())),
            ("kubectl", ["--kubeconfig", kubeconfig, rest @ ..]) => {
                assert_eq!(command.program, self.own.kubectl, "it brings its own");
                assert!(kubeconfig.starts_with(self.own.places.data), "{kubeconfig}");
                let options = rest.iter().take_while(|word| word.starts_with("--")).count();
                self.kubectl(&rest[options..])
            }
            ("systemctl", ["reset-failed", "--", _]) => {
                self.inner().restarts = 0;
                said("")
            }
            ("systemctl", ["restart", "--no-block", "--", unit]) => {
                self.start(unit);
                said("")
            }
            ("systemctl", ["show", _, "--", _]) => {
                let mut inner = self.inner();
                let is_server = inner.files.contains_key(self.own.server.path);
                inner.restarts += u32::from(is_server);
                let state = match (&inner.running, inner.journal.is_empty()) {
                    (Some(_), _) => "active\nSubState=running",
                    (None, false) => "activating\nSubState=start",
                    (None, true) => "inactive\nSubState=dead",
                };
                said(&format!("NRestarts={}\nActiveState={state}\n", inner.restarts / 10))
            }
            ("systemctl", ["is-active", _]) => said(if self.runs() { "active\n" } else { "inactive\n" }),
            ("systemctl", ["stop", "--", _]) => {
                self.stop();
                said("")
            }
            ("systemd-analyze", ["calendar", _]) => said(""),
            ("ip", _) => said("2: host0    inet 10.99.0.11/24 brd 10.99.0.255 scope global host0\n"),
            ("install", ["-D", "-m", _, "--", from, to]) | ("mv", [_, "--", from, to]) => self.place(from, to),
            ("systemctl", _) | ("install" | "rmdir", _) => said(""),
            ("journalctl", _) => said(&self.inner().journal.clone()),
            ("kill", ["-KILL", pids @ ..]) => {
                let mut inner = self.inner();
                for pid in pids {
                    inner.files.retain(|path, _| !path.starts_with(&format!("/proc/{pid}/")));
                }
                said("")
            }
            ("rm", [.., path]) => {
                let inside = format!("{path}/");
                self.inner().files.retain(|file, _| file != path && !file.starts_with(&inside));
                said("")
            }
            ("iptables-save", _) => said(&self.rules()),
            ("iptables-restore", _) => {
                self.inner().rules = String::from_utf8(command.stdin.clone().unwrap()).unwrap();
                said("")
            }
            _ => panic!("nobody imitates {command}"),
        }
    }

    fn place(&self, from: &str, to: &str) -> Output {
        if self.writes(to).is_err() {
            return failed("dead");
        }
        let text = self.text(from);
        self.put(to, &text);
        if from.ends_with(".groundwork-new") {
            self.inner().files.remove(from);
        }
        said("")
    }

    fn kubectl(&self, args: &[&str]) -> Output {
        let mut inner = self.inner();
        if inner.running.is_none() {
            return failed(
                "The connection to the server 127.0.0.1:6444 was refused - did you specify the right host or port?",
            );
        }
        match args {
            ["get", "--raw", "/readyz" | "/readyz/etcd"] => said("ok"),
            ["get", "--raw", "/version"] => said(&json!({ "gitVersion": inner.cluster }).to_string()),
            ["patch", "node", name, "--patch", patch] => {
                let patch: serde_json::Value = serde_json::from_str(patch).unwrap();
                inner.nodes.get_mut(*name).unwrap().upgrading = patch["spec"]["unschedulable"] == true;
                said("")
            }
            ["get", "nodes", "-o", "json"] => {
                let items: Vec<String> = inner.nodes.iter().map(|(name, node)| node.to_json(name)).collect();
                said(&format!("{{\"items\":[{}]}}", items.join(",")))
            }
            ["get", "node" | "nodes", name, "--ignore-not-found", ..] | ["get", "node", name, "-o", "json"] => {
                said(&inner.nodes.get(*name).map(|node| node.to_json(name)).unwrap_or_default())
            }
            ["get", "nodes", name] => match inner.nodes.contains_key(*name) {
                true => said(""),
                false => failed("Error from server (NotFound)"),
            },
            ["get", "pods", ..] => said("{\"items\":[]}"),
            ["get", "nodes", "-o", _] => said(""),
            ["delete", "node", name, ..] => {
                inner.nodes.remove(*name);
                said("")
            }
            ["annotate", "--overwrite", "node", name, "groundwork/leaving=true"] => {
                inner.nodes.get_mut(*name).unwrap().leaving = true;
                said("")
            }
            ["cordon" | "uncordon" | "annotate", ..] | ["delete", "secret", ..] => said(""),
            other => panic!("nobody imitates kubectl {other:?}"),
        }
    }
}

/// A version of K3s as this distribution spells it.
pub(super) fn of_variant(own: &Variant, version: &str) -> String {
    version.replace("+k3s", own.build)
}

fn said(stdout: &str) -> Output {
    Output { code: Some(0), stdout: stdout.to_owned(), stderr: String::new() }
}

fn failed(stderr: &str) -> Output {
    Output { code: Some(1), stdout: String::new(), stderr: stderr.to_owned() }
}
