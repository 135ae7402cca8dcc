//! Questions that are answered at once: how this machine stands, how the cluster does, what is needed to administer it.

use super::configuration;
use super::etcd::{self, EtcdMember};
use super::evidence::{Attempt, Standing, Trace, standing};
use super::k3s;
use super::kube::{ADMIN, CA, kubectl, traces};
use super::kube_vip::{self, KubeVip};
use super::kubelet;
use super::nodes::{self, Node};
use super::output::reasons;
use super::quorum::{self, QuorumRecovery};
use super::renewal::{self, NodeCertificate};
use super::snapshots::schedule::{self, Scheduled};
use super::{Distribution, Foreign};
use crate::chain::chain;
use crate::host::{Host, HostError};
use crate::state::State;
use crate::steps;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use trust::Pin;

/// What stands on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// How far it is in a cluster.
    pub standing: Standing,
    /// Pin of the cluster CA's key; empty without one.
    pub cluster_id: String,
    /// Files that tell.
    pub found: Vec<String>,
    /// Name of the node.
    pub node_name: String,
    /// systemd's word for the state of the kubelet's unit; empty where nothing of a cluster stands.
    pub kubelet: String,
}

/// This machine's part in a cluster and, on a control plane, the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What stands here.
    pub evidence: Evidence,
    /// Nodes, or why the API server does not tell them; on a control plane.
    pub nodes: Result<Vec<Node>, String>,
    /// Version of the control plane's manifest.
    pub version: String,
    /// Version of Kubernetes that is declared for the machine; empty if none is.
    pub declared: String,
    /// Members of etcd, or why none of them tells; on a control plane.
    pub etcd: Result<Vec<EtcdMember>, String>,
    /// The virtual address that kube-vip gives by our hand.
    pub kube_vip: Option<KubeVip>,
    /// How a timer takes snapshots of etcd.
    pub snapshots: Option<Scheduled>,
    /// Certificates that stand here.
    pub certificates: Vec<NodeCertificate>,
    /// A renewal of them was cut off.
    pub renewal_unfinished: bool,
    /// kubeadm cannot renew them here.
    pub certificates_external: bool,
    /// A change of the configuration was cut off.
    pub configuration_unfinished: bool,
    /// The last recovery of etcd's quorum from this machine's member.
    pub quorum_recovery: Option<QuorumRecovery>,
    /// What others than kubeadm and its packages made of this node.
    pub foreign: Foreign,
}

/// The administrator's access. The text is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// As the distribution wrote it.
    pub text: String,
    /// The cluster CA's certificate, PEM.
    pub ca_certificate: String,
    /// `host:port`
    pub endpoint: String,
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A question that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The machine said no.
    #[error("the machine cannot be looked at")]
    Host(#[source] HostError),
    /// The agent's own folder.
    #[error("the note of the last attempt cannot be read")]
    State(#[source] crate::state::StateError),
    /// Only a control plane knows.
    #[error("this machine is not a control plane")]
    NotControlPlane,
    /// The cluster CA's certificate is damaged.
    #[error("{CA} holds no certificate: {0}")]
    Authority(String),
    /// What was applied cannot be looked at.
    #[error("the cluster's manifests cannot be looked at")]
    Manifests(#[source] super::manifests::AskError),
    /// Another cluster is meant.
    #[error("this machine is a control plane of another cluster, whose CA is {here}")]
    OtherCluster {
        /// The one that stands here.
        here: String,
    },
    /// A node of another cluster is meant.
    #[error("this machine is a node of another cluster, whose CA is {here}")]
    OtherNode {
        /// The one that stands here.
        here: String,
    },
    /// Kubespray, for one, made it.
    #[error("kubeadm did not make the cluster's etcd, {0}, and no control plane joins with a member of it")]
    ForeignEtcd(String),
    /// Nothing to take over.
    #[error("this machine is no whole node of a cluster that kubeadm made")]
    NoWholeNode,
    /// A cluster whose CA is kept elsewhere.
    #[error("the key of the cluster's CA is not on this control plane")]
    NoKey,
    /// A key that no certificate is made for.
    #[error("the key to make a certificate for is not P-256")]
    PublicKey,
    /// Nobody knows who may do everything.
    #[error("the administrator's certificate in {ADMIN} names no group")]
    Groups,
    /// kubeadm, or K3s, ended badly.
    #[error("no token was made: {0}")]
    Token(String),
    /// kubeadm did not lay up the certificates of control planes.
    #[error("kubeadm did not lay up the certificates of the control planes: {0}")]
    Certificates(String),
    /// The API server did not delete them.
    #[error("the certificates that were laid up for a control plane are left to expire: {0}")]
    CertificatesLeft(String),
    /// etcd takes no further member just now.
    #[error("etcd is not ready for another member: {0}")]
    Etcd(String),
    /// The API server says nothing.
    #[error("the API server does not answer: {0}")]
    Silent(String),
    /// Not a token's id.
    #[error("{0:?} is no id of a token: six letters and digits")]
    TokenId(String),
    /// The API server did not delete a token.
    #[error("the token {id} is left to expire: {why}")]
    TokenLeft {
        /// Its public part.
        id: String,
        /// The API server's words.
        why: String,
    },
}

/// How this machine stands, and how the cluster does.
///
/// # Errors
/// When the machine cannot be looked at. An API server that does not answer is part of the answer.
pub async fn status(host: &dyn Host, state: &State) -> Result<Status, ClusterError> {
    let own = Distribution::here(host).map_err(ClusterError::Host)?;
    let found = traces(host, own).map_err(ClusterError::Host)?;
    let standing = standing(&found.iter().map(|(_, trace)| *trace).collect::<Vec<Trace>>());
    let attempt = Attempt::last(state).map_err(ClusterError::State)?;
    // An attempt that did not come to its end is unfinished, however whole it looks.
    let standing = match (standing, &attempt) {
        (Standing::ControlPlane | Standing::Worker, Some(attempt)) if attempt.cluster_id.is_none() => Standing::Partial,
        (standing, _) => standing,
    };
    let node_name = attempt.map(|attempt| attempt.node_name).filter(|name| !name.is_empty());
    let evidence = Evidence {
        standing,
        cluster_id: cluster_id(host)?,
        found: found.into_iter().map(|(path, _)| path.to_owned()).collect(),
        node_name: node_name.unwrap_or_default(),
        kubelet: if standing == Standing::Clean {
            String::new()
        } else {
            kubelet::state(host).await.map_err(ClusterError::Host)?
        },
    };
    let is_control_plane = standing == Standing::ControlPlane;
    let nodes = if is_control_plane { ask_nodes(host).await? } else { Ok(Vec::new()) };
    let etcd = if is_control_plane { ask_etcd(host).await? } else { Ok(Vec::new()) };
    let cluster_id = evidence.cluster_id.clone();
    let kube_vip = kube_vip::look(host).map_err(ClusterError::Host)?;
    let version = match (own, &nodes) {
        (Distribution::Kubeadm, _) => version(host)?,
        // No file tells what runs: a new program waits for a restart.
        (Distribution::K3s(_), Ok(nodes)) => of_node(nodes, &evidence.node_name),
        (Distribution::K3s(_), Err(_)) => String::new(),
    };
    Ok(Status {
        evidence,
        nodes,
        version,
        declared: declared(host)?,
        etcd,
        kube_vip,
        snapshots: schedule::look(host).await.map_err(ClusterError::Host)?,
        certificates: renewal::certificates(host).map_err(ClusterError::Host)?,
        renewal_unfinished: renewal::is_unfinished(state).map_err(ClusterError::State)?,
        certificates_external: is_control_plane
            && own == Distribution::Kubeadm
            && renewal::is_external(host).map_err(ClusterError::Host)?,
        configuration_unfinished: configuration::is_unfinished(state, &cluster_id).map_err(ClusterError::State)?,
        quorum_recovery: quorum::last(state).map_err(ClusterError::State)?,
        foreign: if [Standing::ControlPlane, Standing::Worker].contains(&standing) {
            Foreign::look(host).map_err(ClusterError::Host)?
        } else {
            Foreign::default()
        },
    })
}

/// What the machine's specification says of its kubelet, without the package's own revision.
fn declared(host: &dyn Host) -> Result<String, ClusterError> {
    let version = steps::declared(host, "kubelet").map_err(ClusterError::Host)?;
    Ok(version.map(|version| version.split('-').next().unwrap_or_default().to_owned()).unwrap_or_default())
}

/// The administrator's kubeconfig.
///
/// # Errors
/// When this is no control plane.
pub fn kubeconfig(host: &dyn Host) -> Result<Kubeconfig, ClusterError> {
    let endpoint = endpoint(host)?;
    let own = Distribution::here(host).map_err(ClusterError::Host)?;
    let text = host.text(own.kubeconfig()).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane)?;
    let ca = own.authority(host).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane)?;
    Ok(Kubeconfig { text, ca_certificate: String::from_utf8_lossy(&ca).into_owned(), endpoint })
}

/// The pin of the cluster CA's key, in the form of kubeadm's CA hashes; empty without one.
pub(super) fn cluster_id(host: &dyn Host) -> Result<String, ClusterError> {
    cluster_id_in(host, Distribution::here(host).map_err(ClusterError::Host)?)
}

/// The same of one distribution's CA.
pub(super) fn cluster_id_in(host: &dyn Host, own: Distribution) -> Result<String, ClusterError> {
    let Some(pem) = own.authority(host).map_err(ClusterError::Host)? else { return Ok(String::new()) };
    cluster_id_of(&pem)
}

/// The pin of the key in a CA's certificate.
pub(super) fn cluster_id_of(pem: &[u8]) -> Result<String, ClusterError> {
    let certificate =
        CertificateDer::from_pem_slice(pem).map_err(|error| ClusterError::Authority(error.to_string()))?;
    let key = trust::key_of(&certificate).map_err(|error| ClusterError::Authority(error.to_string()))?;
    Ok(Pin::of(&key).to_string())
}

/// SMBIOS UUID, lower case; empty if the machine does not say.
pub(super) fn machine_uuid(host: &dyn Host) -> Result<String, HostError> {
    let text = host.text("/sys/class/dmi/id/product_uuid")?.unwrap_or_default();
    Ok(text.trim().to_ascii_lowercase())
}

/// Whether two UUIDs are of one machine, or one of them says nothing.
pub(super) fn same_machine(one: &str, other: &str) -> bool {
    let bare = |uuid: &str| uuid.replace('-', "").to_ascii_lowercase();
    let (one, other) = (bare(one), bare(other));
    let silent = |uuid: &str| uuid.bytes().all(|byte| byte == b'0');
    silent(&one) || silent(&other) || one == other
}

/// etcd's members, or why none of them tells.
async fn ask_etcd(host: &dyn Host) -> Result<Result<Vec<EtcdMember>, String>, ClusterError> {
    match etcd::look(host).await {
        Ok(members) => Ok(Ok(members.unwrap_or_default())),
        Err(error @ HostError::Etcd { .. }) => Ok(Err(chain(&error))),
        Err(error) => Err(ClusterError::Host(error)),
    }
}

pub(super) async fn ask_nodes(host: &dyn Host) -> Result<Result<Vec<Node>, String>, ClusterError> {
    let own = Distribution::here(host).map_err(ClusterError::Host)?;
    let said = kubectl(host, (own, own.admin()), &["get", "nodes", "-o", "json"]).await.map_err(ClusterError::Host)?;
    if said.code != Some(0) {
        return Ok(Err(reasons(&said.stderr).join("; ")));
    }
    Ok(nodes::read(&said.stdout).map_err(|error| format!("its answer cannot be read: {error}")))
}

/// The API server's version, by the tag of its image.
pub(super) fn version(host: &dyn Host) -> Result<String, ClusterError> {
    let manifest = host.text(MANIFEST).map_err(ClusterError::Host)?;
    let manifest = manifest.unwrap_or_default();
    let image = manifest.lines().find_map(|line| line.trim().strip_prefix("image:"));
    let tag = image.and_then(|image| image.trim().rsplit_once(':')).map(|(_, tag)| tag.trim_matches('"'));
    Ok(tag.unwrap_or_default().to_owned())
}

/// The address by which this machine's API server is known, from its manifest.
pub(super) fn advertised(host: &dyn Host) -> Result<Option<String>, ClusterError> {
    let manifest = host.text(MANIFEST).map_err(ClusterError::Host)?.unwrap_or_default();
    let flag = manifest.lines().find_map(|line| line.trim().strip_prefix("- --advertise-address="));
    Ok(flag.map(|address| address.trim().trim_matches('"').to_owned()).filter(|address| !address.is_empty()))
}

/// `host:port` of the API server, from the administrator's kubeconfig.
pub(super) fn endpoint(host: &dyn Host) -> Result<String, ClusterError> {
    if let Distribution::K3s(own) = Distribution::here(host).map_err(ClusterError::Host)? {
        // Its administrator's own kubeconfig leads to the machine itself.
        host.stat(own.places().admin).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane)?;
        return k3s::endpoint(host, own).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane);
    }
    let text = host.text(ADMIN).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane)?;
    let server = text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix("server:"));
    let server = server.map(|server| server.trim().trim_matches('"').trim_start_matches("https://").to_owned());
    server.ok_or(ClusterError::NotControlPlane)
}

/// The version of a node's kubelet.
fn of_node(nodes: &[Node], name: &str) -> String {
    nodes.iter().find(|node| node.name == name).map(|node| node.kubelet_version.clone()).unwrap_or_default()
}

const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

#[cfg(test)]
mod uuid_tests {
    use super::{cluster_id_of, same_machine};

    #[test]
    fn a_machine_is_recognised_in_both_spellings() {
        assert!(same_machine("AB-cd", "abcd"));
        assert!(same_machine("", "abcd"), "says nothing");
        assert!(same_machine("00-00", "abcd"), "says nothing");
        assert!(!same_machine("abce", "abcd"));
    }

    #[test]
    fn any_text_is_answered() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        total::bytes("cluster-ca", &[pem.as_bytes()], |pem| cluster_id_of(pem).is_ok());
    }
}
