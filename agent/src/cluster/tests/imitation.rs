//! A machine with kubeadm, kubectl and nothing else, imitated after the recordings in `recorded/` (Kubernetes 1.35 and 1.36).
//!
//! kubeadm writes its files one after the other and can be killed after any of them; a second init or join is refused by what stands
//! there, as the recordings show.

mod etcd;
mod kubeadm;
mod living;
mod node;
mod timers;
mod versions;

use super::files::{self, Files};
use crate::host::{Access, BoxFuture, Command, Compared, Host, HostError, Lines, Output, Probe, Runtime, Stat};
use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use kubeadm::INIT;
pub(super) use kubeadm::{CONTROL_PLANE_MOMENTS, MOMENTS};
use node::Node;

/// The machine.
pub(super) struct Machine {
    inner: Mutex<Inner>,
    pub(super) authority: String,
}

#[derive(Default)]
struct Inner {
    files: Files,
    /// Every command line, as `ps` would show it.
    commands: Vec<String>,
    /// kubeadm is killed after it has written so many files.
    dies_after: Option<usize>,
    /// Nodes that the API server has.
    nodes: BTreeMap<String, Node>,
    /// Pods on this machine, with how often their budget forbids an eviction.
    pods: BTreeMap<String, u32>,
    /// Evicted, with nobody to end them.
    ending: BTreeSet<String>,
    kubelet_down: bool,
    /// Looks at the pods until the API server takes the dead kubelet's node for lost.
    noticed_after: u32,
    api_down: bool,
    runtime_down: bool,
    /// What the kubelet complains about; with a complaint the control plane never comes up.
    journal: String,
    configuration: String,
    rules: String,
    versions: versions::Versions,
    members: etcd::Members,
    timers: timers::Timers,
    living: living::Living,
}

impl Machine {
    pub(super) fn new() -> Self {
        let authority = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
        let machine = Self { inner: Mutex::default(), authority };
        for program in ["kubeadm", "kubectl", "kubelet"] {
            machine.put(&format!("/usr/bin/{program}"), "");
        }
        for program in ["iptables-save", "iptables-restore"] {
            machine.put(&format!("/usr/sbin/{program}"), "");
        }
        machine.inner().rules = "*filter\n-A INPUT -j DROP\n-A INPUT -j KUBE-FIREWALL\nCOMMIT\n".to_owned();
        machine
    }

    pub(super) fn put(&self, path: &str, text: &str) {
        self.inner().files.insert(path.to_owned(), text.to_owned());
    }

    pub(super) fn dies_after(&self, files: Option<usize>) {
        self.inner().dies_after = files;
    }

    pub(super) fn api_down(&self, down: bool) {
        self.inner().api_down = down;
    }

    pub(super) fn runtime_down(&self, down: bool) {
        self.inner().runtime_down = down;
    }

    /// Makes a whole control plane by hand, with a CA of its own.
    pub(super) fn init_by_hand(&self) {
        let authority = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
        INIT.iter().for_each(|path| self.put(path, ADMIN));
        self.put("/etc/kubernetes/pki/ca.crt", &authority);
        self.inner().nodes = BTreeMap::from([("cp-1".to_owned(), Node { marked: true, ..Node::default() })]);
        self.inner().members.add("cp-1");
    }

    /// Programs stand where no package puts them.
    pub(super) fn without_packages(&self) {
        for program in ["kubeadm", "kubectl", "kubelet"] {
            self.inner().files.remove(&format!("/usr/bin/{program}"));
            self.put(&format!("/usr/local/bin/{program}"), "");
        }
    }

    /// `kubeadm reset` by hand.
    pub(super) fn reset_by_hand(&self) {
        let goes = |path: &String| ["/etc/kubernetes/", "/var/lib/kubelet/"].iter().any(|at| path.starts_with(at));
        self.inner().files.retain(|path, _| !goes(path));
    }

    pub(super) fn kubelet_says(&self, journal: &str) {
        self.inner().journal = journal.to_owned();
    }

    pub(super) fn forget_node(&self, name: &str) {
        self.inner().nodes.remove(name);
    }

    /// Another node of the cluster.
    pub(super) fn add_node(&self, name: &str, marked: bool) {
        let mut inner = self.inner();
        inner.nodes.insert(name.to_owned(), Node { marked, ..Node::default() });
        if marked {
            inner.members.add(name);
        }
    }

    /// A pod on this machine, whose budget forbids its eviction so many times.
    pub(super) fn add_pod(&self, name: &str, forbidden: u32) {
        self.inner().pods.insert(name.to_owned(), forbidden);
    }

    pub(super) fn pods(&self) -> Vec<String> {
        self.inner().pods.keys().cloned().collect()
    }

    /// Somebody stops the kubelet, and the API server has noticed.
    pub(super) fn stop_kubelet(&self) {
        let mut inner = self.inner();
        inner.kubelet_down = true;
        inner.nodes.values_mut().for_each(|node| node.silent = true);
    }

    /// Somebody stops the kubelet, which the API server notices after so many looks at its pods.
    pub(super) fn kubelet_dies(&self, noticed_after: u32) {
        let mut inner = self.inner();
        (inner.kubelet_down, inner.noticed_after) = (true, noticed_after);
    }

    /// Cordoned, and marked as leaving.
    pub(super) fn node(&self, name: &str) -> Option<(bool, bool)> {
        self.inner().nodes.get(name).map(|node| (node.cordoned, node.leaving))
    }

    pub(super) fn commands(&self) -> Vec<String> {
        self.inner().commands.clone()
    }

    pub(super) fn rules(&self) -> String {
        self.inner().rules.clone()
    }

    /// kubeadm's last configuration file.
    pub(super) fn configuration(&self) -> String {
        self.inner().configuration.clone()
    }

    /// Files of a cluster.
    pub(super) fn left(&self) -> Vec<String> {
        let ours = |path: &&String| {
            ["/etc/kubernetes/", "/var/lib/kubelet/", "/var/lib/etcd/", "/var/lib/rancher/", "/run/groundwork/"]
                .iter()
                .any(|at| path.starts_with(at))
        };
        self.inner().files.keys().filter(ours).cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn program(&self, command: &Command) -> Output {
        let args: Vec<&str> = command.args.iter().map(String::as_str).collect();
        let name = command.program.rsplit('/').next().unwrap();
        if !self.is_dead()
            && let Some(output) = self.of_configuration(name, &args, command)
        {
            return output;
        }
        if let Some(output) = self.of_versions(name, &args, command).or_else(|| self.of_timers(name, &args)) {
            return output;
        }
        match (name, args.as_slice()) {
            ("kubeadm", ["config", "validate", "--config", _]) => said("ok\n"),
            ("kubeadm", ["init", "phase", "mark-control-plane", "--config", file]) => {
                if self.inner().files[*file].contains("\"token\": \"\"") {
                    return failed("error: the bootstrap token \"\" was not of the form …\n");
                }
                self.inner().nodes.entry("cp-1".to_owned()).or_default().marked = true;
                said("")
            }
            ("kubeadm", ["init" | "join", "phase", "preflight", "--config", file, ..]) => self.preflight(file),
            ("kubeadm", ["init", "phase", "certs", "ca", "--config", _]) => self.certify(),
            ("kubeadm", ["init", "--config", _, "--skip-token-print", ..]) => {
                self.write(&INIT, "cp-1", include_str!("../recorded/init.txt"))
            }
            ("kubeadm", ["join", "--config", file, ..]) => self.join(file),
            ("kubeadm", ["init", "phase", "upload-certs", .., file]) => self.upload(file),
            ("kubeadm", ["reset", .., last]) => self.reset(last),
            ("kubeadm", ["certs", "renew", "all"]) => self.renew(),
            ("kubeadm", ["token", "create", ..]) => said("abcdef.0123456789abcdef\n"),
            ("kubectl", ["--kubeconfig", _, rest @ ..]) => {
                let options = rest.iter().take_while(|word| word.starts_with("--")).count();
                self.kubectl(&rest[options..], command)
            }
            ("ip", _) => said("2: host0    inet 10.99.0.11/24 brd 10.99.0.255 scope global host0\n"),
            ("install", ["-d", "-m", "0700", _]) => said(""),
            ("cp", ["-a", "--reflink=auto", ..]) | ("mv", ["--no-target-directory", ..]) => self.inner().change(|_| ()),
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
            ("systemctl", ["is-active", _]) => said(if self.inner().kubelet_down { "inactive\n" } else { "active\n" }),
            ("systemctl", ["restart", "kubelet.service"]) => {
                let mut inner = self.inner();
                inner.kubelet_down = false;
                // The node that a kubelet registers has no role.
                let (name, version) = (inner.own_node(), inner.installed("kubelet"));
                let node = inner.nodes.entry(name.to_owned()).or_default();
                (node.silent, node.version) = (false, version);
                said("")
            }
            ("systemctl", _) => said(""),
            ("journalctl", _) => said(&self.inner().journal),
            _ => panic!("nobody imitates {command}"),
        }
    }

    fn kubectl(&self, args: &[&str], command: &Command) -> Output {
        let mut inner = self.inner();
        if inner.api_down || inner.is_down() {
            return failed(
                "The connection to the server 10.99.0.11:6443 was refused - did you specify the right host or port?",
            );
        }
        match args {
            ["get", "--raw", "/readyz" | "/readyz/etcd"] => said("ok"),
            ["get", "configmap", "kubeadm-config", ..] => said(&inner.kubeadm_config()),
            ["get", "pods", "--namespace", "kube-system", ..] => said(&inner.static_pods()),
            ["patch", "node", name, "--patch", patch] => inner.patch(name, patch),
            ["get", "configmaps", "--all-namespaces", "--field-selector=metadata.name=kube-root-ca.crt", ..] => {
                said(&serde_json::json!({ "items": [{ "metadata": { "namespace": "default" }, "data": { "ca.crt": self.authority } }] }).to_string())
            }
            ["get", "services", "--all-namespaces", ..] => said("default/web\t192.0.2.80 \n"),
            ["get", "persistentvolumes", ..] => said("pv-1\tdefault/data\t\trbd.csi.ceph.com\t\n"),
            ["get", "configmap", "cluster-info", ..] => said("{\"data\":{\"kubeconfig\":\"\"}}"),
            ["get", "nodes", "-o", "json"] => {
                let items: Vec<String> = inner.nodes.iter().map(|(name, node)| node.json(name)).collect();
                said(&format!("{{\"items\":[{}]}}", items.join(",")))
            }
            ["get", "pods", ..] => {
                inner.notice();
                let pod = |name: &String| {
                    let ending = if inner.ending.contains(name) { ",\"deletionTimestamp\":\"2026\"" } else { "" };
                    format!("{{\"metadata\":{{\"name\":{name:?},\"namespace\":\"default\",\"uid\":\"u\"{ending}}}}}")
                };
                let items: Vec<String> = inner.pods.keys().map(pod).collect();
                said(&format!("{{\"items\":[{}]}}", items.join(",")))
            }
            ["get", "node" | "nodes", name, ..] => match inner.nodes.get(*name) {
                Some(node) => said(&node.json(name)),
                None => said(""),
            },
            ["get", "secret", "kubeadm-certs", ..] => said("bootstrap-token-0wner0"),
            ["delete", "secret" | "configmap", ..] => said(""),
            ["create", "--raw", path, "-f", "-"] => inner.evict(path, command),
            _ => inner.change_node(args),
        }
    }
}

impl Inner {
    fn notice(&mut self) {
        self.noticed_after = self.noticed_after.saturating_sub(1);
        if self.kubelet_down && self.noticed_after == 0 {
            self.nodes.values_mut().for_each(|node| node.silent = true);
        }
    }

    fn evict(&mut self, path: &str, command: &Command) -> Output {
        let name = path.split('/').nth(6).unwrap();
        assert!(command.stdin.as_ref().is_some_and(|body| String::from_utf8_lossy(body).contains("preconditions")));
        match self.pods.get_mut(name) {
            None => failed("Error from server (NotFound): pods not found\n"),
            Some(0) => {
                if self.kubelet_down {
                    self.ending.insert(name.to_owned());
                } else {
                    self.pods.remove(name);
                }
                said("")
            }
            Some(forbidden) => {
                *forbidden -= 1;
                failed(include_str!("../recorded/evict-budget.txt"))
            }
        }
    }

    fn change_node(&mut self, args: &[&str]) -> Output {
        let name = args.iter().rev().find(|word| self.nodes.contains_key(**word)).copied();
        let node = name.and_then(|name| self.nodes.get_mut(name)).unwrap_or_else(|| panic!("no node for {args:?}"));
        match args {
            ["cordon", _] => node.cordoned = true,
            ["uncordon", _] => node.cordoned = false,
            ["annotate", .., "groundwork/leaving=true"] => node.leaving = true,
            ["annotate", .., "groundwork/leaving-"] => node.leaving = false,
            ["delete", "node", name, ..] => drop(self.nodes.remove(*name)),
            other => panic!("nobody imitates kubectl {other:?}"),
        }
        said("")
    }
}

fn said(stdout: &str) -> Output {
    Output { code: Some(0), stdout: stdout.to_owned(), stderr: String::new() }
}

fn failed(stderr: &str) -> Output {
    Output { code: Some(1), stdout: String::new(), stderr: stderr.to_owned() }
}

impl Host for Machine {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.inner().files.get(path).map(|text| text.clone().into_bytes()))
    }

    fn stat(&self, path: &str) -> Result<Option<Stat>, HostError> {
        Ok(files::stat(&self.inner().files, path))
    }

    fn compare(&self, path: &str, _: &[u8]) -> Result<Option<Compared>, HostError> {
        panic!("{path} is nobody's business here")
    }

    fn copy(&self, path: &str, _: &str, _: Access) -> Result<Option<Stat>, HostError> {
        panic!("{path} is nobody's business here")
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, HostError> {
        Ok(files::list(&self.inner().files, folder))
    }

    fn write(&self, path: &str, content: &[u8], access: Access) -> Result<(), HostError> {
        let is_open =
            path == "/usr/sbin/policy-rc.d" || ["/etc/systemd/", "/etc/apt/"].iter().any(|at| path.starts_with(at));
        assert!(is_open || access.mode == 0o600, "{path} may hold a token");
        if path.starts_with("/etc/kubernetes/manifests/") && !self.change_file() {
            return Ok(());
        }
        self.put(path, &String::from_utf8_lossy(content));
        self.inner().starts(path);
        Ok(())
    }

    fn link(&self, path: &str, _: &str) -> Result<(), HostError> {
        panic!("{path} is nobody's business here")
    }

    fn remove(&self, path: &str) -> Result<(), HostError> {
        if path == kubeadm::ETCD && !self.change_file() {
            return Ok(());
        }
        self.inner().files.remove(path);
        Ok(())
    }

    fn poke(&self, path: &str, _: &str) -> Result<(), HostError> {
        panic!("{path} is nobody's business here")
    }

    fn probe(&self, _: &str) -> Result<Option<Probe>, HostError> {
        Ok(None)
    }

    fn run<'a>(&'a self, command: &'a Command, lines: Lines<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
        self.inner().commands.push(command.to_string());
        let output = self.program(command);
        output.stdout.lines().chain(output.stderr.lines()).for_each(lines);
        Box::pin(ready(Ok(output)))
    }

    fn settle<'a>(&'a self, _: Lines<'a>) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(ready(Ok(())))
    }

    fn runtime<'a>(&'a self, socket: &'a str) -> BoxFuture<'a, Result<Runtime, HostError>> {
        let why = "not imitated".to_owned();
        Box::pin(ready(Err(HostError::Runtime { socket: socket.to_owned(), why })))
    }

    fn etcd(&self) -> &dyn crate::host::etcd::Etcd {
        self
    }
}

const ADMIN: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: BASE64\n    \
    server: https://10.99.0.11:6443\n  name: example\n";
