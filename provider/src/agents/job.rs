//! What an agent can be set to do, and how that is said to it.

use super::call::JoinMaterial;
use super::configuration::Configure;
use super::manifests::{Manifest, Removal};
use super::snapshots::SnapshotSchedule;
use agent_proto::v1 as wire;
use agent_proto::v1::machine::NodeSpec;
use std::collections::BTreeMap;
use std::time::Duration;
use tf::Secret;
use trust::Role;

/// The first control plane to be, or one that is to be put right.
#[derive(Debug, Clone, Default)]
pub(crate) struct Init {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) node_name: String,
    pub(crate) advertise_address: String,
    /// Empty: the node's own address.
    pub(crate) endpoint: String,
    pub(crate) pod_subnet: String,
    pub(crate) service_subnet: String,
    pub(crate) certificate_names: Vec<String>,
    /// `None` leaves kubeadm's own taint.
    pub(crate) taints: Option<Vec<String>>,
    pub(crate) kubeadm: Kubeadm,
    /// Of K3s or a relative; `None`: of kubeadm.
    pub(crate) k3s: Option<K3s>,
    /// The cluster it is a control plane of already, and nothing is made anew; empty while there is none.
    pub(crate) cluster_id: String,
    pub(crate) kube_vip: Option<KubeVip>,
    /// Path of a snapshot of etcd on its machine that it begins with; empty: with nothing.
    pub(crate) restore_from: String,
    /// One in a bucket in its place; as the contract has it.
    pub(crate) restore_s3: Option<Box<wire::S3Object>>,
    /// Of K3s or a relative: path of a file there with the secret that the cluster had then.
    pub(crate) restore_token_path: String,
}

/// The virtual address of a cluster's control planes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KubeVip {
    pub(crate) address: String,
    /// Empty: the card of the default route.
    pub(crate) interface: String,
    pub(crate) image: String,
    /// Whom it is announced to, in place of neighbours.
    pub(crate) bgp: Option<Bgp>,
}

/// Routers that are told of an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bgp {
    /// Of the machines.
    pub(crate) asn: u32,
    pub(crate) peers: Vec<Peer>,
}

/// A router.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: String,
    pub(crate) asn: u32,
    /// It is not in the machines' own network.
    pub(crate) multihop: bool,
}

/// How kubeadm's work is changed by the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kubeadm {
    /// Checks whose failure is no obstacle.
    pub(crate) ignore_preflight_errors: Vec<String>,
    /// Fragments of its documents, as JSON; empty: none.
    pub(crate) cluster: String,
    pub(crate) init: String,
    pub(crate) join: String,
    pub(crate) kubelet: String,
    pub(crate) kube_proxy: String,
}

/// Where K3s or a relative comes from, and how it is changed by the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct K3s {
    /// Which of them.
    pub(crate) distribution: String,
    pub(crate) url: String,
    pub(crate) sha256: String,
    /// Empty: images come from registries.
    pub(crate) images_url: String,
    pub(crate) images_sha256: String,
    /// Fragments of `config.yaml`, as JSON; empty: none.
    pub(crate) server: String,
    pub(crate) agent: String,
    /// What else all servers are told alike, each by itself.
    pub(crate) pod_subnet: String,
    pub(crate) service_subnet: String,
    pub(crate) certificate_names: Vec<String>,
}

/// A further node to be.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) version: String,
    pub(crate) node_name: String,
    /// Address of this node that the others reach; empty: the kubelet's choice.
    pub(crate) node_ip: String,
    /// What the cluster's nodes reach without a proxy.
    pub(crate) near: Vec<String>,
    pub(crate) material: JoinMaterial,
    pub(crate) kubeadm: Kubeadm,
    /// Of K3s or a relative; `None`: of kubeadm.
    pub(crate) k3s: Option<K3s>,
    /// `None`: a worker.
    pub(crate) control_plane: Option<ControlPlaneJoin>,
}

/// What a further control plane is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ControlPlaneJoin {
    /// `None` leaves kubeadm's own taint.
    pub(crate) taints: Option<Vec<String>>,
    pub(crate) kube_vip: Option<KubeVip>,
}

/// Labels and taints of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeSettings {
    pub(crate) node_name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<String>,
    pub(crate) remove_labels: Vec<String>,
    pub(crate) remove_taints: Vec<String>,
}

/// A node that is to have another version of Kubernetes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upgrade {
    pub(crate) version: String,
    pub(crate) node_name: String,
    /// The cluster it is a node of.
    pub(crate) cluster_id: String,
    pub(crate) drain: Duration,
    pub(crate) ignore_preflight_errors: Vec<String>,
    /// Of K3s or a relative; `None`: of kubeadm.
    pub(crate) k3s: Option<K3s>,
    /// Only whether it could be done.
    pub(crate) only_check: bool,
    /// By then the cluster has this version; empty: the one it has.
    pub(crate) after: String,
}

/// What an agent can be set to do.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// Make the machine as the specification says.
    Apply(Box<NodeSpec>),
    /// `kubeadm init`
    Init(Box<Init>),
    /// `kubeadm join`
    Join(Box<Join>),
    /// Leave the cluster with this id (empty: any) and clean up.
    Reset { cluster_id: String },
    /// Bring the machine's node to another version.
    Upgrade(Upgrade),
    /// Give the machine's node another configuration.
    Configure(Box<Configure>),
    /// Set labels and taints; on a control plane.
    NodeSet(NodeSettings),
    /// Drain and delete a node; on a control plane. Without a time its pods are not waited for: the machine is gone.
    NodeRemove { node_name: String, drain: Option<Duration> },
    /// Apply a manifest; on a control plane.
    ManifestApply(Box<Manifest>),
    /// Forget a manifest; on a control plane.
    ManifestRemove(Removal),
    /// Take a snapshot of etcd that becomes this file; on a control plane of the cluster.
    SnapshotTake { cluster_id: String, path: String },
    /// Have snapshots of etcd taken by a timer, or no more; on a control plane of the cluster.
    SnapshotSchedule {
        cluster_id: String,
        schedule: Option<SnapshotSchedule>,
        /// Of its bucket's access key; empty without one.
        secret: Secret<String>,
    },
    /// Renew the certificates of a control plane if one of them ends within a time.
    CertificatesRenew { cluster_id: String, node_name: String, within: Duration },
    /// Make the member of etcd there the only one, or have it stand down.
    QuorumRecover { cluster_id: String, incident: String, stand_down: bool },
    /// Leave the cluster in order, because the machine is to go.
    Leave { drain: Duration },
}

impl Job {
    pub(super) fn role(&self) -> Role {
        match self {
            Self::Reset { .. } | Self::Leave { .. } | Self::QuorumRecover { .. } => Role::Admin,
            Self::Apply(_)
            | Self::Init(_)
            | Self::Join(_)
            | Self::Upgrade(_)
            | Self::Configure(_)
            | Self::NodeSet(_)
            | Self::NodeRemove { .. }
            | Self::ManifestApply(_)
            | Self::SnapshotTake { .. }
            | Self::SnapshotSchedule { .. }
            | Self::CertificatesRenew { .. }
            | Self::ManifestRemove(_) => Role::Operator,
        }
    }
}

impl Init {
    pub(super) fn to_wire(&self) -> wire::ClusterInitRequest {
        wire::ClusterInitRequest {
            distribution: distribution(self.k3s.as_ref()),
            name: self.name.clone(),
            version: self.version.clone(),
            node_name: self.node_name.clone(),
            advertise_address: self.advertise_address.clone(),
            endpoint: self.endpoint.clone(),
            pod_subnet: self.pod_subnet.clone(),
            service_subnet: self.service_subnet.clone(),
            certificate_names: self.certificate_names.clone(),
            labels: BTreeMap::new(),
            taints: self.taints.clone().unwrap_or_default(),
            taints_given: self.taints.is_some(),
            ignore_preflight_errors: self.kubeadm.ignore_preflight_errors.clone(),
            config: Some(wire::ConfigOverlay {
                join: String::new(),
                server: self.k3s.as_ref().map(|k3s| k3s.server.clone()).unwrap_or_default(),
                ..self.kubeadm.to_wire()
            }),
            k3s: self.k3s.as_ref().map(K3s::to_wire),
            cluster_id: self.cluster_id.clone(),
            kube_vip: self.kube_vip.as_ref().map(KubeVip::to_wire),
            restore_from: self.restore_from.clone(),
            restore_token_path: self.restore_token_path.clone(),
            restore_s3: self.restore_s3.as_deref().cloned(),
        }
    }
}

impl KubeVip {
    fn to_wire(&self) -> wire::KubeVip {
        let Self { address, interface, image, bgp } = self.clone();
        let peer = |Peer { address, asn, multihop }| wire::BgpPeer { address, asn, multihop };
        let bgp = bgp.map(|Bgp { asn, peers }| wire::Bgp { asn, peers: peers.into_iter().map(peer).collect() });
        wire::KubeVip { address, interface, image, bgp }
    }

    /// As an agent tells it.
    pub(super) fn of(wire: wire::KubeVip) -> Self {
        let wire::KubeVip { address, interface, image, bgp } = wire;
        let peer = |wire::BgpPeer { address, asn, multihop }| Peer { address, asn, multihop };
        let bgp = bgp.map(|wire::Bgp { asn, peers }| Bgp { asn, peers: peers.into_iter().map(peer).collect() });
        Self { address, interface, image, bgp }
    }
}

impl K3s {
    fn to_wire(&self) -> wire::K3s {
        let Self { url, sha256, images_url, images_sha256, .. } = self.clone();
        wire::K3s { url, sha256, images_url, images_sha256 }
    }
}

fn distribution(k3s: Option<&K3s>) -> String {
    k3s.map_or_else(|| "kubeadm".to_owned(), |k3s| k3s.distribution.clone())
}

impl Kubeadm {
    pub(super) fn to_wire(&self) -> wire::ConfigOverlay {
        let Self { ignore_preflight_errors: _, cluster, init, join, kubelet, kube_proxy } = self.clone();
        wire::ConfigOverlay { cluster, init, join, kubelet, kube_proxy, ..Default::default() }
    }
}

impl Join {
    pub(super) fn to_wire(&self) -> wire::ClusterJoinRequest {
        let k3s = self.k3s.clone().unwrap_or_default();
        let is_server = self.control_plane.is_some();
        wire::ClusterJoinRequest {
            distribution: distribution(self.k3s.as_ref()),
            version: self.version.clone(),
            node_name: self.node_name.clone(),
            advertise_address: self.node_ip.clone(),
            near: self.near.clone(),
            material: Some(self.material.0.clone()),
            control_plane: self.control_plane.as_ref().map(|join| wire::ControlPlaneJoin {
                certificate_key: self.material.0.certificate_key.clone(),
                taints: join.taints.clone().unwrap_or_default(),
                taints_given: join.taints.is_some(),
                kube_vip: join.kube_vip.as_ref().map(KubeVip::to_wire),
                pod_subnet: k3s.pod_subnet,
                service_subnet: k3s.service_subnet,
                certificate_names: k3s.certificate_names,
            }),
            ignore_preflight_errors: self.kubeadm.ignore_preflight_errors.clone(),
            config: Some(wire::ConfigOverlay {
                join: self.kubeadm.join.clone(),
                server: if is_server { k3s.server } else { String::new() },
                agent: if is_server { String::new() } else { k3s.agent },
                ..Default::default()
            }),
            k3s: self.k3s.as_ref().map(K3s::to_wire),
        }
    }
}

impl Upgrade {
    pub(super) fn to_wire(&self) -> wire::ClusterUpgradeRequest {
        wire::ClusterUpgradeRequest {
            version: self.version.clone(),
            node_name: self.node_name.clone(),
            cluster_id: self.cluster_id.clone(),
            drain_timeout_s: seconds(self.drain),
            ignore_preflight_errors: self.ignore_preflight_errors.clone(),
            only_check: self.only_check,
            after: self.after.clone(),
            k3s: self.k3s.as_ref().map(K3s::to_wire),
        }
    }
}

impl NodeSettings {
    pub(super) fn to_wire(&self) -> wire::NodeSetRequest {
        wire::NodeSetRequest {
            node_name: self.node_name.clone(),
            labels: self.labels.clone(),
            taints: self.taints.clone(),
            remove_labels: self.remove_labels.clone(),
            remove_taints: self.remove_taints.clone(),
        }
    }
}

/// Whole seconds, one at least: none would be the agent's own choice.
pub(super) fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1)
}
