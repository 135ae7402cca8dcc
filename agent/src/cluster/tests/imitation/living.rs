//! The configuration of the imitated cluster: kubeadm's documents in it, manifests that kubeadm writes on trial, and what does not start.
//!
//! An argument `nonsense` ends a part of the control plane, and a field of that name a kubelet, as unknown ones do.

use super::versions::FIRST;
use super::{Inner, Machine, failed, said};
use crate::host::{Command, Output};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::iter::Peekable;

/// What a change of the configuration changes.
#[derive(Default)]
pub(super) struct Living {
    /// Texts by the names of their ConfigMaps, once somebody has written them.
    maps: BTreeMap<String, String>,
    /// How often the pods of kube-proxy were replaced.
    pub(super) rollouts: u32,
    lease: u32,
}

impl Machine {
    /// The cluster's documents and this control plane's manifests, as kubeadm makes them.
    pub(in super::super) fn living(&self) {
        let mut inner = self.inner();
        let kubelet = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 110\n";
        let proxy = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: \"\"\n";
        inner.living.maps.insert("kubelet-config".into(), kubelet.into());
        inner.living.maps.insert("kube-proxy".into(), proxy.into());
        inner.files.insert(KUBELET.into(), kubelet.into());
        let cluster = inner.document("kubeadm-config");
        inner.certify(&cluster);
        for (name, section) in COMPONENTS {
            let text = inner.manifest(&cluster, name, section);
            inner.files.insert(path(name), text);
        }
    }

    /// A ConfigMap's document.
    pub(in super::super) fn document(&self, map: &str) -> Value {
        self.inner().document(map)
    }

    /// Somebody writes one by hand.
    pub(in super::super) fn set_document(&self, map: &str, document: &Value) {
        self.inner().living.maps.insert(map.to_owned(), yaml(document));
    }

    /// Somebody has taken it away.
    pub(in super::super) fn take_document(&self, map: &str) {
        self.inner().living.maps.remove(map);
    }

    pub(in super::super) fn rollouts(&self) -> u32 {
        self.inner().living.rollouts
    }

    /// The answer of a program that has to do with the configuration.
    pub(super) fn of_configuration(&self, name: &str, args: &[&str], command: &Command) -> Option<Output> {
        let mut inner = self.inner();
        let given = || String::from_utf8(command.stdin.clone().unwrap_or_default()).unwrap();
        Some(match (name, args) {
            ("kubectl", [.., "patch", "--local", "--type=merge", "--patch={}", form, _]) => local(form, &given()),
            ("kubectl", _) if inner.is_down() => return None,
            (
                "kubectl",
                [.., "get", "configmaps", _, _, _, _, "--namespace", "kube-system", "--ignore-not-found", "-o", "json"],
            ) => {
                let item = |(map, key): &(&str, &str)| {
                    Some(json!({ "metadata": { "name": map }, "data": { (*key): inner.text(map)? } }))
                };
                said(&json!({ "items": MAPS.iter().filter_map(item).collect::<Vec<_>>() }).to_string())
            }
            ("kubectl", [.., "apply", "--server-side", _, _, "-f", "-"]) => {
                let object: Value = serde_json::from_str(&given()).unwrap();
                let (map, data) = (object["metadata"]["name"].as_str().unwrap(), object["data"].as_object().unwrap());
                let text = data.values().next().unwrap().as_str().unwrap().to_owned();
                inner.change(|inner| drop(inner.living.maps.insert(map.to_owned(), text)))
            }
            ("kubectl", [.., "patch", "daemonset", "kube-proxy", "--namespace", "kube-system", _, _, _]) => {
                inner.change(|inner| inner.living.rollouts += 1)
            }
            ("kubectl", [.., "get", "daemonset", "kube-proxy", "--namespace", "kube-system", "-o", "json"]) => {
                let up = u32::from(inner.document("kube-proxy")["nonsense"].is_null());
                let status = json!({ "observedGeneration": 1, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": up });
                said(&json!({ "metadata": { "generation": 1 }, "status": status }).to_string())
            }
            ("kubectl", [.., "get", "lease", _, "--namespace", "kube-node-lease", "-o", _]) => {
                if !inner.files[KUBELET].contains("nonsense") {
                    inner.living.lease += 1;
                }
                said(&inner.living.lease.to_string())
            }
            (
                "kubectl",
                [.., "get", "pods", "--namespace", "kube-system", "--selector=k8s-app=kube-proxy", "-o", "json"],
            ) => said("{\"items\":[]}"),
            ("kubeadm", _) => return inner.of_kubeadm(args),
            ("systemctl", ["show", "--property=NRestarts", ..]) => {
                said(if inner.files[KUBELET].contains("nonsense") { "3\n" } else { "0\n" })
            }
            _ => return None,
        })
    }
}

impl Inner {
    fn of_kubeadm(&mut self, args: &[&str]) -> Option<Output> {
        Some(match args {
            ["init", "phase", "control-plane" | "etcd", part, "--config", file, "--dry-run"] => {
                let (name, section) = COMPONENTS
                    .into_iter()
                    .find(|(name, _)| part == &"local" && *name == "etcd" || name.ends_with(part))
                    .unwrap();
                let documents: Vec<Value> =
                    self.files[*file].split("---\n").map(|text| serde_json::from_str(text).unwrap()).collect();
                let cluster = documents.iter().find(|one| one["kind"] == "ClusterConfiguration").unwrap();
                let text = self.manifest(cluster, name, section);
                self.files.insert(format!("/etc/kubernetes/tmp/kubeadm-init-dryrun7/{name}.yaml"), text);
                said("")
            }
            ["init", "phase", "certs", "apiserver", "--config", file] => {
                let documents = self.files[*file].clone();
                let mut documents = documents.split("---\n").map(|text| serde_json::from_str::<Value>(text).unwrap());
                let cluster = documents.find(|one| one["kind"] == "ClusterConfiguration").unwrap();
                self.change(|inner| inner.certify(&cluster))
            }
            ["upgrade", "node", "phase", "kubelet-config"] => {
                let text = self.text("kubelet-config").unwrap();
                self.change(|inner| drop(inner.files.insert(KUBELET.to_owned(), text)))
            }
            _ => return None,
        })
    }

    /// kubeadm makes a certificate for the API server where none stands.
    fn certify(&mut self, cluster: &Value) {
        if self.files.contains_key(SERVING) {
            return;
        }
        let declared = cluster["apiServer"]["certSANs"].as_array().into_iter().flatten();
        let names = ["kubernetes", "10.99.0.11"].into_iter().chain(declared.filter_map(Value::as_str));
        let names: Vec<String> = names.map(str::to_owned).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        self.files.insert(SERVING.to_owned(), certificate.pem());
        self.files.insert(SERVING.replace(".crt", ".key"), key.serialize_pem());
    }

    /// Whether the API server does not start.
    pub(super) fn is_down(&self) -> bool {
        self.files.get(&path("kube-apiserver")).is_some_and(|text| text.contains("--nonsense"))
    }

    /// Annotations and readiness of a static pod.
    pub(super) fn configured(&self, name: &str) -> (Option<String>, bool) {
        let text = self.files.get(&path(name)).map_or("", String::as_str);
        let stamp = text.split_once("groundwork/configuration: \"").and_then(|(_, rest)| rest.split_once('"'));
        (stamp.map(|(stamp, _)| stamp.to_owned()), !text.contains("--nonsense"))
    }

    /// The kubelet starts what a manifest says, again and again.
    pub(super) fn starts(&mut self, manifest: &str) {
        if manifest == super::kubeadm::ETCD && self.files[manifest].contains("--force-new-cluster") {
            let own = self.own_node();
            self.members.forced(own);
        }
        let Some(name) =
            manifest.strip_prefix("/etc/kubernetes/manifests/").and_then(|name| name.strip_suffix(".yaml"))
        else {
            return;
        };
        let (stamp, lives) = self.configured(name);
        if !lives {
            let log = "2026-11-27T18:00:00.000000000Z stderr F Error: unknown flag: --nonsense\n";
            let stamp = stamp.unwrap_or_default();
            self.files.insert(format!("/var/log/pods/kube-system_{name}-cp-1_{stamp}/{name}/2.log"), log.to_owned());
        }
    }

    fn text(&self, map: &str) -> Option<String> {
        let noted = self.living.maps.get(map).cloned();
        noted.or_else(|| (map == "kubeadm-config").then(|| self.cluster_configuration()))
    }

    /// What kubeadm has noted, if somebody has written it anew.
    pub(super) fn noted_by_hand(&self) -> Option<String> {
        self.living.maps.get("kubeadm-config").cloned()
    }

    fn document(&self, map: &str) -> Value {
        Value::Object(read(&self.text(map).unwrap_or_default()))
    }

    fn manifest(&self, cluster: &Value, name: &str, section: &str) -> String {
        let section = section.split('.').fold(cluster, |inner, key| &inner[key]);
        let mut text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - command:\n    - {name}\n"
        );
        text.push_str("    - --advertise-address=10.99.0.11\n");
        for argument in section["extraArgs"].as_array().into_iter().flatten() {
            let word = |key: &str| argument[key].as_str().unwrap().to_owned();
            writeln!(text, "    - --{}={}", word("name"), word("value")).unwrap();
        }
        let version = cluster["kubernetesVersion"].as_str().unwrap_or(FIRST);
        writeln!(text, "    image: registry.k8s.io/{name}:{version}").unwrap();
        text
    }
}

/// kubectl without a server.
fn local(form: &str, given: &str) -> Output {
    let mut printed = String::new();
    for text in given.split("\n---\n") {
        let object = match serde_json::from_str::<Value>(text) {
            Ok(object) => object,
            Err(_) if text.contains("kind: Pod") => {
                let command: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    - ")).collect();
                json!({ "kind": "Pod", "spec": { "containers": [{ "command": command }] } })
            }
            Err(_) => Value::Object(read(text)),
        };
        if object["kind"].is_null() {
            return failed("error: unable to decode \"STDIN\": Object 'Kind' is missing\n");
        }
        printed.push_str(&if form == "--output=yaml" { yaml(&object) } else { object.to_string() });
    }
    said(&printed)
}

/// Fields one a line, lists in one.
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    fields(&mut text, value.as_object().unwrap(), 0);
    text
}

fn fields(text: &mut String, object: &Map<String, Value>, depth: usize) {
    for (key, value) in object {
        let blank = " ".repeat(depth);
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                writeln!(text, "{blank}{key}:").unwrap();
                fields(text, inner, depth + 2);
            }
            Value::String(word) if !word.is_empty() && serde_json::from_str::<Value>(word).is_err() => {
                writeln!(text, "{blank}{key}: {word}").unwrap()
            }
            other => writeln!(text, "{blank}{key}: {other}").unwrap(),
        }
    }
}

fn read(text: &str) -> Map<String, Value> {
    read_fields(&mut text.lines().filter(|line| !line.trim().is_empty()).peekable(), 0)
}

fn read_fields<'a>(lines: &mut Peekable<impl Iterator<Item = &'a str>>, depth: usize) -> Map<String, Value> {
    let mut object = Map::new();
    let is_here = |line: &&str| line.len() - line.trim_start().len() == depth;
    while let Some(line) = lines.next_if(is_here) {
        let Some((key, rest)) = line.trim().split_once(':') else { continue };
        let value = match rest.trim() {
            "" => Value::Object(read_fields(lines, depth + 2)),
            rest => serde_json::from_str(rest).unwrap_or_else(|_| rest.into()),
        };
        object.insert(key.to_owned(), value);
    }
    object
}

fn path(name: &str) -> String {
    format!("/etc/kubernetes/manifests/{name}.yaml")
}

const COMPONENTS: [(&str, &str); 4] = [
    ("etcd", "etcd.local"),
    ("kube-apiserver", "apiServer"),
    ("kube-controller-manager", "controllerManager"),
    ("kube-scheduler", "scheduler"),
];
const MAPS: [(&str, &str); 4] = [
    ("kubeadm-config", "ClusterConfiguration"),
    ("kubelet-config", "kubelet"),
    ("kube-proxy", "config.conf"),
    ("groundwork-configuration", "laid"),
];
const KUBELET: &str = "/var/lib/kubelet/config.yaml";
const SERVING: &str = "/etc/kubernetes/pki/apiserver.crt";
