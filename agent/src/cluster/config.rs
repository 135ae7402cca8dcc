//! kubeadm's configuration files. JSON is YAML, and needs no rules for quoting.
//!
//! Two forms: `v1beta3` up to Kubernetes 1.30 and `v1beta4` from 1.31 on, where extra arguments are lists and time-outs have a
//! place of their own. Source: kubeadm configuration reference, v1beta3 and v1beta4.

use super::kube_vip::KubeVip;
use super::overlay::{Overlay, lay};
use super::version::Version;
use agent_proto::overlay::{Fragment, Part};
use serde_json::{Map, Value, json};

/// Where containerd listens.
pub(super) const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// What the first control plane is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitPlan {
    /// Name of the cluster.
    pub name: String,
    /// Kubernetes version.
    pub version: Version,
    /// Name of this node.
    pub node_name: String,
    /// Address of this node that the others reach; kubeadm's choice if there is none.
    pub advertise_address: Option<String>,
    /// `host:port` of the control plane, if it is not this node's.
    pub endpoint: Option<String>,
    /// CIDR of pods.
    pub pod_subnet: Option<String>,
    /// CIDR of services.
    pub service_subnet: Option<String>,
    /// More names and addresses for the API server's certificate.
    pub certificate_names: Vec<String>,
    /// Taints of this node; kubeadm's own without.
    pub taints: Option<Vec<Taint>>,
    /// Checks whose failure is no obstacle.
    pub ignored_checks: Vec<String>,
    /// What the user lays over the documents.
    pub overlay: Overlay,
    /// Pin of the cluster that this node is a control plane of already: nothing is made anew then.
    pub cluster_id: Option<String>,
    /// The virtual address of the control planes, if kube-vip is to give them one.
    pub kube_vip: Option<KubeVip>,
    /// Path of a snapshot of etcd that the new cluster begins with.
    pub restore_from: Option<String>,
}

/// What a node joins.
#[derive(Clone)]
pub struct JoinPlan {
    /// Kubernetes version of the cluster.
    pub version: Version,
    /// Name of this node.
    pub node_name: String,
    /// Address of this node that the others reach.
    pub advertise_address: Option<String>,
    /// `host:port` of the API server.
    pub endpoint: String,
    /// Secret.
    pub token: String,
    /// `sha256:<hex>` of the cluster CA's public key.
    pub ca_hash: String,
    /// What nodes of the cluster reach without a proxy.
    pub near: Vec<String>,
    /// Checks whose failure is no obstacle.
    pub ignored_checks: Vec<String>,
    /// What the user lays over the documents.
    pub overlay: Overlay,
    /// What a control plane needs besides; `None` for a worker.
    pub control_plane: Option<ControlPlane>,
}

/// What a joining control plane needs besides.
#[derive(Clone)]
pub struct ControlPlane {
    /// Secret: opens the certificates that are laid up for it.
    pub certificate_key: String,
    /// Taints of the node; kubeadm's own without.
    pub taints: Option<Vec<Taint>>,
    /// The virtual address of the control planes, if kube-vip is to give them one.
    pub kube_vip: Option<KubeVip>,
}

impl std::fmt::Debug for JoinPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinPlan").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane").finish_non_exhaustive()
    }
}

/// `key=value:Effect` or `key:Effect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Before the equals sign.
    pub key: String,
    /// After it; may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`.
    pub effect: String,
}

impl Taint {
    /// Reads the usual form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (pair, effect) = text.rsplit_once(':')?;
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
        (known && !key.is_empty()).then(|| Self { key: key.into(), value: value.into(), effect: effect.into() })
    }

    /// The usual form.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { key, value, effect } = self;
        if value.is_empty() { format!("{key}:{effect}") } else { format!("{key}={value}:{effect}") }
    }

    fn document(&self) -> Value {
        json!({ "key": self.key, "value": self.value, "effect": self.effect })
    }
}

/// The file for `kubeadm init`. `token` lives for minutes: kubeadm makes one that lives for a day if it is given none.
///
/// # Errors
/// What the overlay has in another form than the document.
pub(super) fn init(plan: &InitPlan, kubeadm_version: Version, token: &str) -> Result<String, String> {
    let new = kubeadm_version.has_v1beta4();
    let mut own = kubeadm("InitConfiguration", new);
    own.insert("bootstrapTokens".into(), json!([{ "token": token, "ttl": "15m0s" }]));
    if let Some(address) = &plan.advertise_address {
        own.insert("localAPIEndpoint".into(), api_server(address));
    }
    let node = registration(&plan.node_name, plan.advertise_address.as_deref(), new);
    own.insert("nodeRegistration".into(), tainted(node, plan.taints.as_deref()).into());
    if new {
        own.insert("timeouts".into(), json!({ "controlPlaneComponentHealthCheck": PATIENCE }));
    }
    let over = &plan.overlay;
    let mut all = vec![
        overlaid(own, Part::Init, &over.init)?,
        overlaid(cluster(plan, new), Part::Cluster, &over.cluster)?,
        overlaid(kubelet(), Part::Kubelet, &over.kubelet)?,
    ];
    if !over.kube_proxy.is_empty() {
        all.push(overlaid(kube_proxy(), Part::KubeProxy, &over.kube_proxy)?);
    }
    Ok(documents(&all))
}

/// A document with the user's fragment over it. Where the fragment says its API version it must be ours, or its fields mean nothing.
fn overlaid(mut ours: Map<String, Value>, part: Part, over: &Fragment) -> Result<Map<String, Value>, String> {
    let place = |path: &str| format!("config.{}: {path}", part.name());
    if let Some(theirs) =
        over.get("apiVersion").filter(|theirs| !theirs.is_null() && ours.get("apiVersion") != Some(*theirs))
    {
        let needed = ours.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        return Err(place(&format!("apiVersion {theirs} is not what kubeadm of this version is given, {needed}")));
    }
    lay(&mut ours, over).map_err(|path| place(&format!("{path} is of another type in kubeadm's configuration")))?;
    Ok(ours)
}

fn cluster(plan: &InitPlan, new: bool) -> Map<String, Value> {
    let mut cluster = kubeadm("ClusterConfiguration", new);
    cluster.insert("kubernetesVersion".into(), json!(plan.version.to_string()));
    cluster.insert("clusterName".into(), json!(plan.name));
    if let Some(endpoint) = &plan.endpoint {
        cluster.insert("controlPlaneEndpoint".into(), json!(endpoint));
    }
    let subnets = [("podSubnet", &plan.pod_subnet), ("serviceSubnet", &plan.service_subnet)];
    let networking: Map<String, Value> =
        subnets.into_iter().filter_map(|(key, subnet)| Some((key.to_owned(), json!(subnet.as_ref()?)))).collect();
    cluster.insert("networking".into(), networking.into());
    let mut server = Map::new();
    if !plan.certificate_names.is_empty() {
        server.insert("certSANs".into(), json!(plan.certificate_names));
    }
    if !new {
        server.insert("timeoutForControlPlane".into(), json!(PATIENCE));
    }
    cluster.insert("apiServer".into(), server.into());
    cluster
}

fn kubelet() -> Map<String, Value> {
    let document = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
    });
    object(document)
}

fn kube_proxy() -> Map<String, Value> {
    object(json!({ "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration" }))
}

/// The file for `kubeadm join`.
///
/// # Errors
/// What the overlay has in another form than the document.
pub(super) fn join(plan: &JoinPlan, kubeadm_version: Version) -> Result<String, String> {
    let new = kubeadm_version.has_v1beta4();
    let mut own = kubeadm("JoinConfiguration", new);
    let discovery = json!({ "bootstrapToken": {
        "token": plan.token,
        "apiServerEndpoint": plan.endpoint,
        "caCertHashes": [plan.ca_hash],
    }});
    own.insert("discovery".into(), discovery);
    let mut node = registration(&plan.node_name, plan.advertise_address.as_deref(), new);
    if let Some(ControlPlane { certificate_key, taints, kube_vip: _ }) = &plan.control_plane {
        node = tainted(node, taints.as_deref());
        let mut control_plane = object(json!({ "certificateKey": certificate_key }));
        if let Some(address) = &plan.advertise_address {
            control_plane.insert("localAPIEndpoint".into(), api_server(address));
        }
        own.insert("controlPlane".into(), control_plane.into());
        if new {
            own.insert("timeouts".into(), json!({ "controlPlaneComponentHealthCheck": PATIENCE }));
        }
    }
    own.insert("nodeRegistration".into(), node.into());
    Ok(documents(&[overlaid(own, Part::Join, &plan.overlay.join)?]))
}

/// The file for `kubeadm init phase upload-certs` on a control plane of this version that is known by this address.
pub(super) fn upload(version: Version, address: &str, certificate_key: &str) -> String {
    let new = version.has_v1beta4();
    let mut own = kubeadm("InitConfiguration", new);
    own.insert("certificateKey".into(), json!(certificate_key));
    own.insert("localAPIEndpoint".into(), api_server(address));
    own.insert("nodeRegistration".into(), json!({ "criSocket": CRI_SOCKET }));
    let mut cluster = kubeadm("ClusterConfiguration", new);
    // Without one kubeadm looks for the newest on the internet.
    cluster.insert("kubernetesVersion".into(), json!(version.to_string()));
    documents(&[own, cluster])
}

/// The file for phases of `kubeadm init` on a control plane of a living cluster: its documents, and who this machine is.
pub(super) fn living(living: &[&Map<String, Value>], (name, address): (&str, &str), patches: Option<&str>) -> String {
    let is_new =
        living.first().is_none_or(|cluster| cluster.get("apiVersion") != Some(&json!("kubeadm.k8s.io/v1beta3")));
    let mut own = kubeadm("InitConfiguration", is_new);
    own.insert("localAPIEndpoint".into(), api_server(address));
    own.insert("nodeRegistration".into(), json!({ "name": name, "criSocket": CRI_SOCKET }));
    if let Some(patches) = patches {
        own.insert("patches".into(), json!({ "directory": patches }));
    }
    let all: Vec<Map<String, Value>> = std::iter::once(own).chain(living.iter().map(|one| (*one).clone())).collect();
    documents(&all)
}

fn api_server(address: &str) -> Value {
    json!({ "advertiseAddress": address, "bindPort": 6443 })
}

/// With taints as they are given, even none.
fn tainted(mut node: Map<String, Value>, taints: Option<&[Taint]>) -> Map<String, Value> {
    if let Some(taints) = taints {
        node.insert("taints".into(), taints.iter().map(Taint::document).collect());
    }
    node
}

fn registration(name: &str, address: Option<&str>, new: bool) -> Map<String, Value> {
    let mut node = object(json!({ "name": name, "criSocket": CRI_SOCKET }));
    if let Some(address) = address {
        let arguments =
            if new { json!([{ "name": "node-ip", "value": address }]) } else { json!({ "node-ip": address }) };
        node.insert("kubeletExtraArgs".into(), arguments);
    }
    node
}

fn kubeadm(kind: &str, new: bool) -> Map<String, Value> {
    let version = if new { "kubeadm.k8s.io/v1beta4" } else { "kubeadm.k8s.io/v1beta3" };
    object(json!({ "apiVersion": version, "kind": kind }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn documents(all: &[Map<String, Value>]) -> String {
    let texts: Vec<String> = all.iter().map(|one| format!("{:#}\n", Value::Object(one.clone()))).collect();
    texts.join("---\n")
}

/// How long the control plane may take to become healthy: small machines pull its images meanwhile.
const PATIENCE: &str = "8m0s";

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(version: &str) -> InitPlan {
        InitPlan {
            name: "example".into(),
            version: version.parse().unwrap(),
            node_name: "cp-1".into(),
            advertise_address: Some("10.99.0.11".into()),
            pod_subnet: Some("10.244.0.0/16".into()),
            ..InitPlan::default()
        }
    }

    fn parts(text: &str) -> Vec<Value> {
        text.split("---\n").map(|part| serde_json::from_str(part).unwrap()).collect()
    }

    #[test]
    fn the_form_follows_the_version() {
        let old = parts(&init(&plan("1.30.9"), "1.30.9".parse().unwrap(), "abcdef.0123456789abcdef").unwrap());
        assert_eq!(old[0]["apiVersion"], "kubeadm.k8s.io/v1beta3");
        assert_eq!(old[0]["nodeRegistration"]["kubeletExtraArgs"]["node-ip"], "10.99.0.11");
        assert_eq!(old[1]["apiServer"]["timeoutForControlPlane"], "8m0s");
        let new = parts(&init(&plan("1.31.0"), "1.31.0".parse().unwrap(), "abcdef.0123456789abcdef").unwrap());
        assert_eq!(new[0]["apiVersion"], "kubeadm.k8s.io/v1beta4");
        assert_eq!(new[0]["nodeRegistration"]["kubeletExtraArgs"][0]["name"], "node-ip");
        assert_eq!(new[0]["timeouts"]["controlPlaneComponentHealthCheck"], "8m0s");
        assert_eq!(new[1]["apiServer"], json!({}));
    }

    #[test]
    fn what_is_not_given_is_not_written() {
        let documents = parts(&init(&plan("1.28.4"), "1.28.4".parse().unwrap(), "abcdef.0123456789abcdef").unwrap());
        assert_eq!(documents[1]["kubernetesVersion"], "v1.28.4");
        assert_eq!(documents[1]["networking"], json!({ "podSubnet": "10.244.0.0/16" }));
        assert_eq!(documents[1].get("controlPlaneEndpoint"), None);
        assert_eq!(documents[0]["nodeRegistration"].get("taints"), None, "kubeadm's own");
        let open = InitPlan { taints: Some(Vec::new()), ..plan("1.28.4") };
        assert_eq!(
            parts(&init(&open, open.version, "").unwrap())[0]["nodeRegistration"]["taints"],
            json!([]),
            "none at all"
        );
    }

    #[test]
    fn documents_of_a_living_cluster_stand_beside_who_this_machine_is() {
        let document = |version: &str| object(json!({ "apiVersion": version, "kind": "ClusterConfiguration" }));
        for version in ["kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta4"] {
            let all = parts(&living(&[&document(version), &kubelet()], ("cp-2", "fd00::12"), Some("/etc/patches")));
            assert_eq!(
                (all.len(), &all[0]["apiVersion"], &all[1]["apiVersion"]),
                (3, &json!(version), &json!(version))
            );
            assert_eq!(all[0]["localAPIEndpoint"]["advertiseAddress"], "fd00::12");
            assert_eq!(
                (&all[0]["nodeRegistration"]["name"], &all[0]["patches"]["directory"]),
                (&json!("cp-2"), &json!("/etc/patches"))
            );
        }
    }

    #[test]
    fn a_join_pins_the_authority() {
        let plan = JoinPlan {
            version: "1.28.4".parse().unwrap(),
            node_name: "worker-1".into(),
            advertise_address: None,
            endpoint: "10.99.0.11:6443".into(),
            token: "abcdef.0123456789abcdef".into(),
            ca_hash: "sha256:00".into(),
            near: Vec::new(),
            ignored_checks: Vec::new(),
            overlay: Overlay::default(),
            control_plane: None,
        };
        let documents = parts(&join(&plan, plan.version).unwrap());
        assert_eq!(documents[0]["discovery"]["bootstrapToken"]["caCertHashes"], json!(["sha256:00"]));
        assert_eq!(documents[0].get("controlPlane"), None);
        assert!(!format!("{plan:?}").contains("abcdef"), "{plan:?}");
        let control_plane = ControlPlane { certificate_key: "ab".repeat(32), taints: Some(Vec::new()), kube_vip: None };
        let plan =
            JoinPlan { advertise_address: Some("10.99.0.12".into()), control_plane: Some(control_plane), ..plan };
        for (version, timeouts) in [("1.30.1", Value::Null), ("1.36.3", json!("8m0s"))] {
            let document = &parts(&join(&plan, version.parse().unwrap()).unwrap())[0];
            assert_eq!(document["controlPlane"]["localAPIEndpoint"]["advertiseAddress"], "10.99.0.12");
            assert_eq!(document["controlPlane"]["certificateKey"].as_str().unwrap().len(), 64);
            assert_eq!(document["nodeRegistration"]["taints"], json!([]));
            assert_eq!(document["timeouts"]["controlPlaneComponentHealthCheck"], timeouts, "{version}");
        }
        assert!(!format!("{plan:?}").contains("abab"), "{plan:?}");
    }

    #[test]
    fn certificates_are_laid_up_without_a_look_at_the_internet() {
        let documents = parts(&upload("1.36.3".parse().unwrap(), "10.99.0.11", "key"));
        assert_eq!(documents[0]["localAPIEndpoint"]["advertiseAddress"], "10.99.0.11");
        assert_eq!(
            (&documents[0]["certificateKey"], &documents[1]["kubernetesVersion"]),
            (&json!("key"), &json!("v1.36.3"))
        );
    }

    #[test]
    fn taints_are_read_and_written() {
        for text in ["a/b=c:NoSchedule", "dedicated:NoExecute"] {
            assert_eq!(Taint::parse(text).unwrap().text(), text);
        }
        for text in ["", "a", "a=b", "a:Never", ":NoSchedule"] {
            assert_eq!(Taint::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_overlay_reaches_its_documents() {
        let fragment = |value: Value| object(value);
        let overlay = Overlay {
            kubelet: fragment(json!({ "failCgroupV1": false })),
            kube_proxy: fragment(json!({ "conntrack": { "maxPerCore": 0 } })),
            cluster: fragment(json!({ "networking": { "dnsDomain": "example.org" } })),
            ..Overlay::default()
        };
        let plan = InitPlan { overlay, ..plan("1.36.3") };
        let documents = parts(&init(&plan, plan.version, "").unwrap());
        assert_eq!(documents[1]["networking"], json!({ "podSubnet": "10.244.0.0/16", "dnsDomain": "example.org" }));
        assert_eq!(documents[2]["failCgroupV1"], false);
        assert_eq!(documents[2]["cgroupDriver"], "systemd");
        assert_eq!(documents[3]["kind"], "KubeProxyConfiguration");
    }

    #[test]
    fn an_overlay_of_another_api_version_is_refused() {
        let cluster = object(json!({ "apiVersion": "kubeadm.k8s.io/v1beta3" }));
        let plan = InitPlan { overlay: Overlay { cluster, ..Overlay::default() }, ..plan("1.36.3") };
        let said = init(&plan, plan.version, "").unwrap_err();
        assert!(said.starts_with("config.cluster: ") && said.contains("kubeadm.k8s.io/v1beta4"), "{said}");
    }
}
