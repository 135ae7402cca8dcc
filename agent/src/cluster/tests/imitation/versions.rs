//! Versions of the imitated machine: its packages, its kubelet, its control plane, and `kubeadm upgrade`, which changes them.

use super::{Inner, Machine, failed, said};
use crate::host::{Command, Output};
use std::fmt::Write as _;

/// What a new cluster has.
pub(super) const FIRST: &str = "v1.35.1";

/// What upgrades change.
#[derive(Default)]
pub(super) struct Versions {
    /// As kubeadm has noted it; empty: the first one.
    cluster: String,
    /// How often an upgrade comes too early.
    restless: u32,
    /// Changes until the machine is dead.
    life: Option<u32>,
}

impl Machine {
    /// Gives the machine packages of the first version, held.
    pub(in super::super) fn with_packages(&self) {
        self.put("/usr/bin/apt-get", "");
        let mut inner = self.inner();
        ["kubeadm", "kubectl", "kubelet"].iter().for_each(|name| inner.install(name, FIRST, "hold"));
    }

    /// What kubeadm has noted of the cluster.
    pub(in super::super) fn cluster_is(&self, version: &str) {
        self.inner().versions.cluster = version.to_owned();
    }

    pub(in super::super) fn is_restless(&self, times: u32) {
        self.inner().versions.restless = times;
    }

    /// The machine dies after so many changes.
    pub(in super::super) fn lives_for(&self, changes: Option<u32>) {
        self.inner().versions.life = changes;
    }

    /// Somebody forbids pods on a node.
    pub(in super::super) fn cordon(&self, name: &str) {
        self.inner().nodes.get_mut(name).unwrap().cordoned = true;
    }

    /// Version of a kubelet, whether it is cordoned, and whether an upgrade did that.
    pub(in super::super) fn of_node(&self, name: &str) -> (String, bool, bool) {
        let inner = self.inner();
        let node = &inner.nodes[name];
        let version = if node.version.is_empty() { FIRST } else { &node.version };
        (version.to_owned(), node.cordoned, node.upgrading)
    }

    pub(in super::super) fn set_version(&self, name: &str, version: &str) {
        self.inner().nodes.get_mut(name).unwrap().version = version.to_owned();
    }

    pub(in super::super) fn status_of(&self, package: &str) -> String {
        let inner = self.inner();
        let held = inner.files[DPKG].contains(&format!("Package: {package}\nStatus: hold "));
        format!("{} {}", inner.installed(package), if held { "held" } else { "free" })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.inner().versions.life == Some(0)
    }

    /// Whether the machine lives to see a file changed.
    pub(super) fn change_file(&self) -> bool {
        self.inner().change(|_| ()) != DEAD
    }

    /// The answer of a program that has to do with versions. A dead machine answers nothing.
    pub(super) fn of_versions(&self, name: &str, args: &[&str], command: &Command) -> Option<Output> {
        let mut inner = self.inner();
        if inner.versions.life == Some(0) {
            return Some(DEAD);
        }
        let output = match (name, args) {
            ("kubeadm", ["version", ..]) => said(&format!("{}\n", inner.installed("kubeadm"))),
            ("kubeadm", ["upgrade", work @ ..]) => inner.upgrade(work),
            ("apt-get", [.., "update"]) => said(""),
            ("apt-get", ["install", words @ ..]) => inner.apt(words),
            ("apt-cache", ["madison", "kubeadm"]) => {
                let table = |minor: &&str| {
                    format!(
                        " kubeadm | {minor}.9-1.1 | http://lab Packages\n kubeadm | {minor}.10-1.1 | http://lab Packages\n"
                    )
                };
                said(&OFFERED.iter().filter(|minor| inner.offers(minor)).map(table).collect::<String>())
            }
            ("dpkg", ["--set-selections"]) => {
                let text = String::from_utf8(command.stdin.clone().unwrap()).unwrap();
                let (package, state) = text.trim().split_once(' ').unwrap();
                let version = inner.installed(package);
                inner.change(|inner| inner.install(package, &version, state))
            }
            // The change itself is made by whoever answers these.
            ("systemctl", ["restart", _]) | ("kubectl", [.., "patch", _, _, _, _] | [.., "-f", "-"]) => {
                inner.change(|_| ());
                return (inner.versions.life == Some(0)).then_some(DEAD);
            }
            _ => return None,
        };
        Some(output)
    }
}

impl Inner {
    pub(super) fn own_node(&self) -> &'static str {
        if self.files.contains_key(super::kubeadm::ETCD) { "cp-1" } else { "worker-1" }
    }

    /// `v1.35.1`
    pub(super) fn installed(&self, package: &str) -> String {
        let status = self.files.get(DPKG).map_or("", String::as_str);
        let paragraph = status.split("\n\n").find(|text| text.starts_with(&format!("Package: {package}\n")));
        let version = paragraph.and_then(|text| text.split_once("Version: ")?.1.split('-').next());
        version.map_or_else(|| FIRST.to_owned(), |version| format!("v{version}"))
    }

    fn install(&mut self, package: &str, version: &str, state: &str) {
        let status = self.files.entry(DPKG.to_owned()).or_default();
        let others = status.split_inclusive("\n\n").filter(|text| !text.starts_with(&format!("Package: {package}\n")));
        let mut text: String = others.collect();
        let version = version.trim_start_matches('v');
        write!(text, "Package: {package}\nStatus: {state} ok installed\nVersion: {version}-1.1\n\n").unwrap();
        *status = text;
    }

    /// One more change; the machine may die of it.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Self)) -> Output {
        if let Some(life) = &mut self.versions.life {
            *life = life.saturating_sub(1);
            if *life == 0 {
                return DEAD;
            }
        }
        change(self);
        said("")
    }

    /// Every version of 1.35 and 1.36 is on offer, or of what the machine's sources name. A transaction lets go of what was held.
    fn apt(&mut self, words: &[&str]) -> Output {
        let wanted: Vec<(&str, &str)> =
            words.iter().filter(|word| word.starts_with("kube")).filter_map(|word| word.split_once('=')).collect();
        if let Some((name, version)) = wanted.iter().find(|(_, version)| {
            !OFFERED.iter().any(|minor| version.starts_with(&format!("{minor}.")) && self.offers(minor))
        }) {
            return failed(&format!("E: Version '{version}' for '{name}' was not found\n"));
        }
        if words.contains(&"--simulate") {
            return said("");
        }
        self.change(|inner| {
            wanted.iter().for_each(|(name, version)| inner.install(name, version.trim_end_matches("-*"), "install"));
        })
    }

    fn offers(&self, minor: &str) -> bool {
        let mut sources = self.files.iter().filter(|(path, _)| path.starts_with("/etc/apt/")).peekable();
        sources.peek().is_none() || sources.any(|(_, text)| text.contains(&format!("/v{minor}/")))
    }

    fn upgrade(&mut self, work: &[&str]) -> Output {
        if self.versions.restless > 0 {
            self.versions.restless -= 1;
            // As of a unit: both streams in one.
            let stdout = include_str!("../../recorded/upgrade-too-early.txt").to_owned();
            return Output { stdout, ..failed("") };
        }
        let (version, printed) = match work {
            ["apply", version, "--yes"] => (*version, include_str!("../../recorded/upgrade-apply.txt")),
            ["node"] => ("", include_str!("../../recorded/upgrade-node.txt")),
            other => panic!("nobody imitates kubeadm upgrade {other:?}"),
        };
        assert!(version.is_empty() || version == self.installed("kubeadm"), "kubeadm is to be as new as what it makes");
        let version = if version.is_empty() { self.cluster() } else { version.to_owned() };
        if self.files.contains_key(super::kubeadm::ETCD) {
            let text = manifest(&version);
            if self.change(|inner| drop(inner.files.insert(API_SERVER.to_owned(), text))) == DEAD {
                return DEAD;
            }
            let noted = version.clone();
            if self.change(|inner| inner.versions.cluster = noted) == DEAD {
                return DEAD;
            }
        }
        if self.change(|_| ()) == DEAD { DEAD } else { said(printed) }
    }

    fn cluster(&self) -> String {
        if self.versions.cluster.is_empty() { FIRST.to_owned() } else { self.versions.cluster.clone() }
    }

    pub(super) fn cluster_configuration(&self) -> String {
        include_str!("../../recorded/cluster-configuration.txt").replace(FIRST, &self.cluster())
    }

    pub(super) fn kubeadm_config(&self) -> String {
        let text = self.noted_by_hand().unwrap_or_else(|| self.cluster_configuration());
        serde_json::json!({ "data": { "ClusterConfiguration": text } }).to_string()
    }

    pub(super) fn static_pods(&self) -> String {
        let tag = self.files.get(API_SERVER).and_then(|text| text.trim().rsplit(':').next()).unwrap_or_default();
        let names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
        let pod = |name| {
            let mut annotations = self.annotations(name);
            let (stamp, lives) = self.configured(name);
            if let Some(stamp) = stamp {
                annotations["groundwork/configuration"] = stamp.into();
            }
            let ready = if lives { "True" } else { "False" };
            serde_json::json!({
                "metadata": { "name": format!("{name}-cp-1"), "labels": { "component": name }, "annotations": annotations },
                "spec": { "containers": [{ "image": format!("registry.k8s.io/{name}:{tag}") }] },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            })
        };
        serde_json::json!({ "items": names.map(pod) }).to_string()
    }

    pub(super) fn patch(&mut self, name: &str, patch: &str) -> Output {
        let patch: serde_json::Value = serde_json::from_str(patch).unwrap();
        let node = self.nodes.get_mut(name).unwrap();
        node.cordoned = patch["spec"]["unschedulable"] == true;
        node.upgrading = patch["metadata"]["annotations"]["groundwork/upgrading"] == "true";
        said("")
    }
}

/// Of the API server, as far as it is read.
pub(super) fn manifest(version: &str) -> String {
    format!("    - --advertise-address=10.99.0.11\n    image: registry.k8s.io/kube-apiserver:{version}\n")
}

const OFFERED: [&str; 2] = ["1.35", "1.36"];
const API_SERVER: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const DPKG: &str = "/var/lib/dpkg/status";
const DEAD: Output = Output { code: None, stdout: String::new(), stderr: String::new() };
