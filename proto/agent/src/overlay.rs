//! What users lay over the configuration that is written for kubeadm: fragments of its documents, as JSON objects.
//!
//! A fragment is free but for what has an attribute of its own, and for places where an agent looks for a cluster afterwards. Both
//! ends refuse those by name: the provider when a configuration is validated, the agent when a request arrives.

use crate::form::Verdict;
use serde_json::{Map, Value};

/// A JSON object.
pub type Fragment = Map<String, Value>;

/// One of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The whole cluster.
    Cluster,
    /// The first control plane.
    Init,
    /// Every node that joins.
    Join,
    /// All kubelets.
    Kubelet,
    /// All of kube-proxy's pods.
    KubeProxy,
    /// Servers of K3s or RKE2.
    Server,
    /// Agents of K3s or RKE2.
    Agent,
}

impl Part {
    /// Its name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Init => "init",
            Self::Join => "join",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube_proxy",
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }

    /// What Kubernetes calls it.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Cluster => "ClusterConfiguration",
            Self::Init => "InitConfiguration",
            Self::Join => "JoinConfiguration",
            Self::Kubelet => "KubeletConfiguration",
            Self::KubeProxy => "KubeProxyConfiguration",
            Self::Server | Self::Agent => "config.yaml of K3s or RKE2",
        }
    }

    const fn group(self) -> &'static str {
        match self {
            Self::Cluster | Self::Init | Self::Join => "kubeadm.k8s.io/",
            Self::Kubelet => "kubelet.config.k8s.io/",
            Self::KubeProxy => "kubeproxy.config.k8s.io/",
            // It has neither versions nor kinds.
            Self::Server | Self::Agent => "",
        }
    }

    /// Settings that a fragment must not have, and why. The last name may be that of an argument in a list of arguments.
    const fn reserved(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Cluster => &CLUSTER,
            Self::Init => &INIT,
            Self::Join => &JOIN,
            Self::Kubelet => &KUBELET,
            Self::KubeProxy => &KUBE_PROXY,
            Self::Server => &SERVER,
            Self::Agent => &AGENT,
        }
    }
}

/// Reads the fragment of one document. Empty text is an empty fragment.
///
/// # Errors
/// How it must be instead, so that it completes "`attribute` …".
pub fn read(part: Part, text: &str) -> Result<Fragment, String> {
    if text.is_empty() {
        return Ok(Fragment::new());
    }
    let wrong = || {
        format!(
            "must be an object in JSON: `jsonencode({{ … }})` with fields of {}, or `jsonencode(yamldecode(file(…)))`",
            part.kind()
        )
    };
    let Ok(Value::Object(fragment)) = serde_json::from_str(text) else { return Err(wrong()) };
    let (kind, version) = (text_of(&fragment, "kind"), text_of(&fragment, "apiVersion"));
    if kind.is_some_and(|kind| kind != part.kind()) {
        return Err(format!("must be of kind {}", part.kind()));
    }
    if version.is_some_and(|version| !version.starts_with(part.group())) {
        return Err(format!("must be of an API version of {}", part.group().trim_end_matches('/')));
    }
    // Of K3s and RKE2, `key+` adds to what other files say.
    let is_reserved = |path: &str| has(&fragment, path) || has(&fragment, &format!("{path}+"));
    match part.reserved().iter().find(|(path, _)| is_reserved(path)) {
        Some((path, why)) => Err(format!("must not have `{path}`: {why}")),
        None => Ok(fragment),
    }
}

fn text_of<'a>(fragment: &'a Fragment, key: &str) -> Option<&'a str> {
    fragment.get(key).and_then(Value::as_str)
}

fn has(fragment: &Fragment, path: &str) -> bool {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    match (fragment.get(first), rest) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(Value::Object(inner)), Some(rest)) => has(inner, rest),
        // kubeadm's arguments since v1beta4: `[{ name = "node-ip", value = "…" }]`.
        (Some(Value::Array(arguments)), Some(rest)) => arguments.iter().any(|one| one["name"] == rest),
        (Some(_), Some(_)) => false,
    }
}

/// Fields of `ClusterConfiguration` that differ and that no living cluster can be given, by their paths: kubeadm reads them when it makes a
/// cluster, and they stand in certificates, in objects or on every node since.
#[must_use]
pub fn fixed(before: &Fragment, after: &Fragment) -> Vec<String> {
    let mut found = Vec::new();
    differ("", before, after, &mut found);
    found
}

fn differ(at: &str, before: &Fragment, after: &Fragment, found: &mut Vec<String>) {
    let (none, keys) = (Fragment::new(), before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))));
    for key in keys {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        let (old, new) = (before.get(key).unwrap_or(&Value::Null), after.get(key).unwrap_or(&Value::Null));
        if old == new || CHANGEABLE.contains(&path.as_str()) {
            continue;
        }
        match (old.as_object(), new.as_object()) {
            (None, None) => found.push(path),
            (old, new) => differ(&path, old.unwrap_or(&none), new.unwrap_or(&none), found),
        }
    }
}

/// Of a fragment of `ClusterConfiguration` what a living cluster can be given: of the rest nothing is compared, and nothing changed.
#[must_use]
pub fn changeable(fragment: &Fragment) -> Fragment {
    within("", fragment)
}

fn within(at: &str, fragment: &Fragment) -> Fragment {
    let part = |(key, value): (&String, &Value)| {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        if CHANGEABLE.contains(&path.as_str()) {
            return Some((key.clone(), value.clone()));
        }
        let inner = within(&path, value.as_object()?);
        (!inner.is_empty()).then(|| (key.clone(), inner.into()))
    };
    fragment.iter().filter_map(part).collect()
}

/// What a living cluster can be given; the last ones hold for what is joined, and for certificates that are made, from then on.
const CHANGEABLE: [&str; 17] = [
    "apiVersion",
    "kind",
    "apiServer.extraArgs",
    "apiServer.extraVolumes",
    "apiServer.extraEnvs",
    // Of its own attribute, which a fragment of a user's never has.
    "apiServer.certSANs",
    "controllerManager.extraArgs",
    "controllerManager.extraVolumes",
    "controllerManager.extraEnvs",
    "scheduler.extraArgs",
    "scheduler.extraVolumes",
    "scheduler.extraEnvs",
    "etcd.local.extraArgs",
    "etcd.local.extraEnvs",
    "apiServer.timeoutForControlPlane",
    "certificateValidityPeriod",
    "encryptionAlgorithm",
];

/// Fields of `ClusterConfiguration`.
#[expect(clippy::missing_errors_doc, reason = "the anything-else of a form")]
pub fn cluster(text: &str) -> Verdict {
    read(Part::Cluster, text).map(drop)
}

/// Fields of `InitConfiguration`.
#[expect(clippy::missing_errors_doc, reason = "the anything-else of a form")]
pub fn init(text: &str) -> Verdict {
    read(Part::Init, text).map(drop)
}

/// Fields of `JoinConfiguration`.
#[expect(clippy::missing_errors_doc, reason = "the anything-else of a form")]
pub fn join(text: &str) -> Verdict {
    read(Part::Join, text).map(drop)
}

/// Fields of `KubeletConfiguration`.
#[expect(clippy::missing_errors_doc, reason = "the anything-else of a form")]
pub fn kubelet(text: &str) -> Verdict {
    read(Part::Kubelet, text).map(drop)
}

/// Fields of `KubeProxyConfiguration`.
#[expect(clippy::missing_errors_doc, reason = "the anything-else of a form")]
pub fn kube_proxy(text: &str) -> Verdict {
    read(Part::KubeProxy, text).map(drop)
}

/// Settings of servers in `config.yaml` of K3s or RKE2.
#[expect(clippy::missing_errors_doc, reason = "the anything-else of a form")]
pub fn server(text: &str) -> Verdict {
    read(Part::Server, text).map(drop)
}

/// Settings of agents in `config.yaml` of K3s or RKE2.
#[expect(clippy::missing_errors_doc, reason = "the anything-else of a form")]
pub fn agent(text: &str) -> Verdict {
    read(Part::Agent, text).map(drop)
}

const OWN: &str = "Groundwork sets it itself";
const PLACE: &str = "Groundwork looks for a cluster in kubeadm's usual places";
const CLUSTER: [(&str, &str); 11] = [
    ("kubernetesVersion", "that is `version`"),
    ("clusterName", "that is `name`"),
    ("controlPlaneEndpoint", "that is `endpoint`"),
    ("networking.podSubnet", "that is `pod_subnet`"),
    ("networking.serviceSubnet", "that is `service_subnet`"),
    ("apiServer.certSANs", "that is `certificate_names`"),
    ("certificatesDir", PLACE),
    ("etcd.local.dataDir", PLACE),
    ("etcd.local.extraArgs.data-dir", PLACE),
    ("etcd.local.extraArgs.force-new-cluster", "a member that is started with it throws the others out"),
    ("etcd.external", "this version makes clusters whose etcd runs on their control planes"),
];
const INIT: [(&str, &str); 9] = [
    ("bootstrapTokens", "tokens are made for each join, live for minutes and are stored nowhere"),
    ("certificateKey", OWN),
    ("localAPIEndpoint", OWN),
    ("dryRun", "nothing would be made"),
    ("nodeRegistration.name", "that is the key in `control_planes`"),
    ("nodeRegistration.taints", "that is `taints` of the node in `control_planes`"),
    ("nodeRegistration.criSocket", OWN),
    ("nodeRegistration.ignorePreflightErrors", "that is `ignore_preflight_errors`"),
    ("nodeRegistration.kubeletExtraArgs.node-ip", "that is `address` of the node"),
];
const JOIN: [(&str, &str); 9] = [
    ("discovery", OWN),
    ("controlPlane", "control planes are those of `control_planes`"),
    ("caCertPath", PLACE),
    ("dryRun", "nothing would be made"),
    ("nodeRegistration.name", "that is the key in `control_planes` or `workers`"),
    ("nodeRegistration.taints", "that is `taints` of the node in `control_planes` or `workers`"),
    ("nodeRegistration.criSocket", OWN),
    ("nodeRegistration.ignorePreflightErrors", "that is `ignore_preflight_errors`"),
    ("nodeRegistration.kubeletExtraArgs.node-ip", "that is `address` of the node"),
];
const KUBELET: [(&str, &str); 3] = [
    ("cgroupDriver", "`groundwork_machine` gives containerd the one of systemd, and both must agree"),
    ("containerRuntimeEndpoint", OWN),
    ("staticPodPath", PLACE),
];
const KUBE_PROXY: [(&str, &str); 1] = [("clusterCIDR", "that is `pod_subnet`")];
const K3S_PLACE: &str = "Groundwork looks for a cluster in the distribution's usual places";
const K3S_TOKEN: &str = "a cluster makes its own secret, by which servers join; agents have tokens that are made for each join and live for minutes; no state holds either";
const K3S_SECRET: &str = "it is a secret, and would stand in Terraform's state: put it into a file of the machine";
const SERVER: [(&str, &str); 31] = [
    ("cluster-init", OWN),
    ("server", OWN),
    ("token", K3S_TOKEN),
    ("token-file", K3S_TOKEN),
    ("agent-token", K3S_TOKEN),
    ("agent-token-file", K3S_TOKEN),
    ("vpn-auth", K3S_SECRET),
    ("etcd-s3-secret-key", K3S_SECRET),
    ("etcd-s3-session-token", K3S_SECRET),
    ("cluster-reset", "nothing would be kept"),
    ("cluster-reset-restore-path", "nothing would be kept"),
    ("datastore-endpoint", "this version makes clusters with etcd"),
    ("disable-etcd", "this version makes clusters with etcd"),
    ("disable-agent", "a server is a node here"),
    ("disable-apiserver", "a server is a whole control plane here"),
    ("node-name", "that is the key in `control_planes`"),
    ("with-node-id", "the name of a node is the key in `control_planes`"),
    ("node-ip", "that is `address` of the node"),
    ("advertise-address", "that is `address` of the node"),
    ("node-label", "that is `labels` of the node in `control_planes`"),
    ("node-taint", "that is `taints` of the node in `control_planes`"),
    ("tls-san", "that is `certificate_names`, and `endpoint`"),
    ("cluster-cidr", "that is `pod_subnet`"),
    ("service-cidr", "that is `service_subnet`"),
    ("https-listen-port", "Groundwork looks for an API server at 6443"),
    ("data-dir", K3S_PLACE),
    ("config", K3S_PLACE),
    ("write-kubeconfig", K3S_PLACE),
    ("write-kubeconfig-mode", "who is no administrator takes the cluster's `kubeconfig`"),
    ("rootless", "a node is root's here"),
    ("lb-server-port", K3S_PLACE),
];
const AGENT: [(&str, &str); 12] = [
    ("server", OWN),
    ("token", K3S_TOKEN),
    ("token-file", K3S_TOKEN),
    ("vpn-auth", K3S_SECRET),
    ("node-name", "that is the key in `workers`"),
    ("with-node-id", "the name of a node is the key in `workers`"),
    ("node-ip", "that is `address` of the node"),
    ("node-label", "that is `labels` of the node in `workers`"),
    ("node-taint", "that is `taints` of the node in `workers`"),
    ("data-dir", K3S_PLACE),
    ("rootless", "a node is root's here"),
    ("lb-server-port", K3S_PLACE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(part: Part, text: &str, words: &str) {
        let said = read(part, text).unwrap_err();
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn any_text_is_answered() {
        let good = r#"{"kind":"InitConfiguration","nodeRegistration":{"kubeletExtraArgs":[{"name":"v","value":"2"}]}}"#;
        total::text("overlay", &[good], |text| read(Part::Init, text).is_ok());
    }

    #[test]
    fn free_fields_are_taken() {
        let kubelet =
            r#"{"apiVersion":"kubelet.config.k8s.io/v1beta1","kind":"KubeletConfiguration","failCgroupV1":false}"#;
        assert_eq!(read(Part::Kubelet, kubelet).unwrap()["failCgroupV1"], Value::Bool(false));
        for (part, text) in [
            (Part::Kubelet, ""),
            (Part::KubeProxy, r#"{"conntrack":{"maxPerCore":0,"min":0}}"#),
            (Part::Cluster, r#"{"apiServer":{"extraArgs":[{"name":"audit-log-path","value":"-"}]}}"#),
            (Part::Cluster, r#"{"etcd":{"local":{"extraArgs":[]}},"networking":{"dnsDomain":"example.org"}}"#),
            (Part::Join, r#"{"nodeRegistration":{"kubeletExtraArgs":[{"name":"node-labels","value":"a=b"}]}}"#),
            (Part::Server, r#"{"disable":["traefik"],"kubelet-arg":["max-pods=50"]}"#),
            (Part::Agent, r#"{"kubelet-arg":["max-pods=50"]}"#),
        ] {
            assert!(read(part, text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_has_an_attribute_of_its_own_is_refused_by_name() {
        refused(
            Part::Cluster,
            r#"{"networking":{"podSubnet":"10.0.0.0/8"}}"#,
            "`networking.podSubnet`: that is `pod_subnet`",
        );
        refused(Part::Cluster, r#"{"certificatesDir":"/srv/pki"}"#, "`certificatesDir`");
        refused(
            Part::Join,
            r#"{"nodeRegistration":{"kubeletExtraArgs":[{"name":"node-ip"}]}}"#,
            "kubeletExtraArgs.node-ip`",
        );
        refused(
            Part::Init,
            r#"{"nodeRegistration":{"kubeletExtraArgs":{"node-ip":"::1"}}}"#,
            "kubeletExtraArgs.node-ip`",
        );
        refused(Part::Kubelet, r#"{"cgroupDriver":null}"#, "`cgroupDriver`");
        refused(Part::Server, r#"{"tls-san+":["a"]}"#, "`certificate_names`");
        for part in [Part::Cluster, Part::Init, Part::Join, Part::Kubelet, Part::KubeProxy, Part::Server, Part::Agent] {
            for (path, _) in part.reserved() {
                let inner = path.rsplit('.').fold(Value::Null, |inner, key| serde_json::json!({ key: inner }));
                refused(part, &inner.to_string(), path);
            }
        }
    }

    #[test]
    fn what_a_living_cluster_cannot_be_given_is_named() {
        let fragment = |text: &str| read(Part::Cluster, text).unwrap();
        let before = fragment(r#"{"apiServer":{"extraArgs":[{"name":"v","value":"2"}]},"featureGates":{"A":true}}"#);
        let after = fragment(
            r#"{"etcd":{"local":{"extraArgs":[],"imageTag":"3.6.4"}},"networking":{"dnsDomain":"a.b"},
                "apiServer":{"extraVolumes":[],"other":"9m"},"dns":3}"#,
        );
        assert_eq!(fixed(&before, &before), [""; 0]);
        let mut found = fixed(&before, &after);
        found.sort();
        let wanted = ["apiServer.other", "dns", "etcd.local.imageTag", "featureGates.A", "networking.dnsDomain"];
        assert_eq!(found, wanted);
        let changed =
            fragment(r#"{"apiServer":{"extraArgs":{"v":"4"}},"featureGates":{"A":true},"scheduler":{"extraEnvs":[]}}"#);
        assert_eq!(fixed(&before, &changed), [""; 0]);
        let wanted = fragment(r#"{"etcd":{"local":{"extraArgs":[]}},"apiServer":{"extraVolumes":[]}}"#);
        assert_eq!(changeable(&after), wanted);
    }

    #[test]
    fn other_forms_and_kinds_are_refused() {
        for text in ["[]", "3", "failCgroupV1: false", "{", "null"] {
            refused(Part::Kubelet, text, "jsonencode");
        }
        refused(Part::Kubelet, r#"{"kind":"ClusterConfiguration"}"#, "must be of kind KubeletConfiguration");
        refused(Part::Cluster, r#"{"apiVersion":"v1"}"#, "kubeadm.k8s.io");
    }
}
