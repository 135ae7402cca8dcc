//! Questions to an agent that are answered at once: what it is, what is missing, how its cluster stands.
//!
//! Work that takes its time is in `run`. Answers leave here as plain structs; protocol messages stay behind.

use super::job::KubeVip;
use super::line::Line;
use super::snapshots::{NodeCertificate, Scheduled};
use super::{Agents, Endpoint, Error, Wait};
use agent_proto::LARGEST_LOOK;
use agent_proto::v1::machine::NodeSpec;
use agent_proto::v1::{self as wire, node_evidence::Standing as WireStanding};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use trust::Role;

/// A connection to one agent, in one role.
pub(crate) struct Agent(pub(super) Line);

/// What an agent says about itself and its machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Description {
    pub(crate) version: String,
    /// Fields of a specification that it knows.
    pub(crate) fields: BTreeSet<String>,
    /// Facts by name, as text.
    pub(crate) facts: BTreeMap<String, String>,
    /// Its addresses with the lengths of their prefixes, `192.0.2.11/24`.
    pub(crate) addresses: Vec<String>,
    /// Documents stored by [`Agent::record`], by kind.
    pub(crate) records: BTreeMap<String, String>,
    /// cloud-init's part in the boot it is in; empty for observers and from agents that do not know.
    pub(crate) first_boot: wire::FirstBoot,
    /// Since when it has its key, in seconds since 1970; 0 if it does not say.
    pub(crate) key_since: u64,
    /// The last update of itself, if it took it back.
    pub(crate) failed_update: Option<wire::FailedUpdate>,
    /// The run in progress; empty if there is none.
    pub(crate) run_id: String,
}

/// What a machine still lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// One readable line per change: "swap: /swap.img is active".
    pub(crate) drift: Vec<String>,
    /// Steps that this machine cannot do, with the reason.
    pub(crate) skipped: Vec<String>,
    /// What an observer may not look at.
    pub(crate) not_looked_at: Vec<String>,
    /// What a person should know, and no apply puts right.
    pub(crate) warnings: Vec<String>,
}

/// What a machine has of a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    #[default]
    Clean,
    /// Something unfinished.
    Partial,
    /// A finished control plane.
    ControlPlane,
    /// A finished worker.
    Worker,
}

/// A machine's part in a cluster and, on a control plane, the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClusterStatus {
    pub(crate) standing: Standing,
    /// Pin of the cluster's CA, which tells clusters apart; empty without one.
    pub(crate) cluster_id: String,
    pub(crate) found: Vec<String>,
    pub(crate) node_name: String,
    pub(crate) api_ready: bool,
    pub(crate) api_message: String,
    pub(crate) version: String,
    pub(crate) nodes: Vec<Node>,
    /// systemd's word for the state of the kubelet's unit; empty where there is none, or the agent is too old to say.
    pub(crate) kubelet: String,
    /// Version of Kubernetes that the machine's specification declares; empty if it declares none.
    pub(crate) declared: String,
    /// Members of etcd; on a control plane.
    pub(crate) etcd: Vec<EtcdMember>,
    /// Why they are not told.
    pub(crate) etcd_message: String,
    /// The virtual address that kube-vip gives by the agent's hand.
    pub(crate) kube_vip: Option<KubeVip>,
    /// How a timer takes snapshots of etcd; on a control plane.
    pub(crate) snapshots: Option<Box<Scheduled>>,
    /// Certificates of the machine's part in the cluster.
    pub(crate) certificates: Vec<NodeCertificate>,
    /// A renewal of them was cut off.
    pub(crate) renewal_unfinished: bool,
    /// kubeadm cannot renew them here: the key of a CA is kept elsewhere.
    pub(crate) certificates_external: bool,
    /// A change of its configuration was cut off.
    pub(crate) configuration_unfinished: bool,
    /// The last recovery of etcd's quorum from its member.
    pub(crate) quorum_recovery: Option<Recovery>,
    /// What others than kubeadm and the packages of Kubernetes made of its node.
    pub(crate) foreign: Box<Foreign>,
}

/// What others than kubeadm and the packages of Kubernetes made of a node; empty where nobody else did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Foreign {
    /// Path of a kubelet that no package brought.
    pub(crate) kubelet: String,
    /// What that reads in the place of kubeadm's file.
    pub(crate) config: String,
    /// Where the cluster's etcd is, if kubeadm did not make it; on a control plane.
    pub(crate) etcd: Vec<String>,
    /// A member of that has its data on this machine.
    pub(crate) member: bool,
}

/// A recovery of etcd's quorum, made from a control plane's member or begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recovery {
    /// After what, in the user's words.
    pub(crate) incident: String,
    /// It was cut off.
    pub(crate) unfinished: bool,
}

/// What a node that kubeadm made tells of its cluster. A worker knows its name alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClusterFound {
    /// Name of the machine's node.
    pub(crate) node_name: String,
    /// `host:port`; empty: the cluster was made without one.
    pub(crate) endpoint: String,
    /// Further names in the API server's certificate.
    pub(crate) certificate_names: Vec<String>,
    pub(crate) pod_subnet: String,
    pub(crate) service_subnet: String,
}

/// A member of etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EtcdMember {
    /// Of its node; empty until it has started for the first time.
    pub(crate) name: String,
    /// Host of its address for the other members.
    pub(crate) address: String,
    /// It has no vote yet.
    pub(crate) learner: bool,
    /// Why it is not well; `None` if it is.
    pub(crate) ailing: Option<String>,
    /// `NOSPACE`, `CORRUPT`
    pub(crate) alarms: Vec<String>,
}

/// A node as the API server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) ready: bool,
    /// Of the condition Ready, in the kubelet's or the node controller's words.
    pub(crate) ready_message: String,
    pub(crate) version: String,
    pub(crate) control_plane: bool,
    /// What its kubelet registered as internal.
    pub(crate) address: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// `key=value:Effect`
    pub(crate) taints: Vec<String>,
    pub(crate) cordoned: bool,
    /// What its kubelet is short of.
    pub(crate) pressures: Vec<String>,
    /// Its machine has left in order.
    pub(crate) leaving: bool,
    /// An upgrade has cordoned it, and did not come to its end.
    pub(crate) upgrading: bool,
}

/// The administrator's access to a cluster. The kubeconfig is a secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Kubeconfig {
    pub(crate) text: String,
    pub(crate) ca_certificate: String,
    pub(crate) endpoint: String,
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// What a machine needs to join. Its `Debug` prints nothing.
#[derive(Clone)]
pub(crate) struct JoinMaterial(pub(super) wire::JoinMaterialReply);

impl std::fmt::Debug for JoinMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinMaterial")
    }
}

impl Node {
    /// Whether it waits for a network plugin, by the kubelet's own word for it, the same since 1.9.
    pub(crate) fn without_network(&self) -> bool {
        !self.ready && self.ready_message.contains("NetworkPluginNotReady")
    }
}

/// As what a machine is to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joiner {
    Worker,
    /// Certificates are laid up for it.
    ControlPlane,
}

impl ClusterStatus {
    /// Why the kubelet of a node is at no work; `None` if it is, or nobody says.
    pub(crate) fn kubelet_down(&self) -> Option<&str> {
        let up = ["", "active", "activating", "reloading"].contains(&self.kubelet.as_str());
        (!up).then_some(self.kubelet.as_str())
    }
}

impl Agents {
    /// As [`Self::connect`], and asks again for `patience` while the machine gives no answer at all: it may be restarting.
    pub(crate) async fn reach(
        &self,
        endpoint: &Endpoint,
        role: Role,
        wait: &Wait<'_>,
        patience: Duration,
    ) -> Result<Agent, Error> {
        let all = wait.until();
        let wait = Wait { deadline: wait.deadline.min(Instant::now() + patience), ..*wait };
        let mut told = false;
        loop {
            let error = match self.connect_once(endpoint, role, &all).await {
                Err(error) if error.is_unreachable() => error,
                other => return other,
            };
            if !told {
                (wait.progress)(&format!("{}: no answer; asking again for {} s", endpoint.address, patience.as_secs()));
                told = true;
            }
            wait.pause(PAUSE, "the agent to answer", error).await?;
        }
    }
}

impl Agent {
    /// Version, known fields, facts, records.
    pub(crate) async fn describe(&mut self) -> Result<Description, Error> {
        let said =
            self.0.ask("Describe", |mut client| async move { client.describe(wire::DescribeRequest {}).await }).await?;
        Ok(Description {
            addresses: said.facts.as_ref().map(|facts| plain::list(facts.addresses.clone())).unwrap_or_default(),
            facts: said.facts.map(facts).unwrap_or_default(),
            version: said.version,
            fields: said.fields.into_iter().collect(),
            records: said.records,
            first_boot: said.first_boot.unwrap_or_default(),
            key_since: said.key_since,
            failed_update: said.failed_update,
            run_id: said.run_id,
        })
    }

    /// What the machine lacks to be as `spec` says.
    pub(crate) async fn plan(&mut self, spec: &NodeSpec) -> Result<Missing, Error> {
        let request = wire::PlanRequest { spec: Some(spec.clone()) };
        let said = self.0.ask("Plan", |mut client| async move { client.plan(request).await }).await?;
        Ok(Missing {
            drift: lines(said.changes, |change| format!("{}: {}", change.step, change.summary)),
            skipped: lines(said.skipped, |left| format!("{}: {}", left.step, left.reason)),
            not_looked_at: lines(said.not_looked_at, |left| format!("{}: {}", left.step, left.reason)),
            warnings: lines(said.warnings, |warning| warning.reason),
        })
    }

    /// Stores a document for a later import; without secrets.
    pub(crate) async fn record(&mut self, kind: &str, document: &str) -> Result<(), Error> {
        let request = wire::RecordRequest { kind: kind.to_owned(), document: document.to_owned() };
        self.0.ask("Record", |mut client| async move { client.record(request).await }).await.map(drop)
    }

    /// Has the agent take itself away; when this returns, it is about to.
    pub(crate) async fn uninstall(&mut self) -> Result<(), Error> {
        let request = wire::UninstallRequest {};
        self.0.ask("Uninstall", |mut client| async move { client.uninstall(request).await }).await.map(drop)
    }

    /// What a node that kubeadm made tells of its cluster.
    pub(crate) async fn cluster_found(&mut self) -> Result<ClusterFound, Error> {
        let ask =
            |mut client: super::line::Client| async move { client.cluster_found(wire::ClusterFoundRequest {}).await };
        let wire::ClusterFoundReply { node_name, endpoint, certificate_names, pod_subnet, service_subnet } =
            self.0.ask("ClusterFound", ask).await?;
        Ok(ClusterFound { node_name, endpoint, certificate_names, pod_subnet, service_subnet })
    }

    /// Has the machine's node of this cluster be ours from now on.
    pub(crate) async fn adopt_cluster(&mut self, cluster_id: &str) -> Result<(), Error> {
        let request = wire::ClusterAdoptRequest { cluster_id: cluster_id.to_owned() };
        let ask = |mut client: super::line::Client| async move { client.cluster_adopt(request).await };
        self.0.ask("ClusterAdopt", ask).await.map(drop)
    }

    /// The newest version of a minor version, such as `1.35`, that the machine's package repositories offer.
    pub(crate) async fn upgrade_offer(&mut self, minor: &str) -> Result<Option<String>, Error> {
        let request = wire::UpgradeOfferRequest { minor: minor.to_owned() };
        let said = self.0.ask("UpgradeOffer", |mut client| async move { client.upgrade_offer(request).await }).await?;
        Ok(Some(plain::line(&said.version).into_owned()).filter(|version| !version.is_empty()))
    }

    /// How the machine stands in its cluster.
    pub(crate) async fn cluster_status(&mut self) -> Result<ClusterStatus, Error> {
        let said = self
            .0
            .ask(
                "ClusterStatus",
                |mut client| async move { client.cluster_status(wire::ClusterStatusRequest {}).await },
            )
            .await?;
        let evidence = said.evidence.unwrap_or_default();
        Ok(ClusterStatus {
            standing: standing(evidence.standing()),
            cluster_id: evidence.cluster_id,
            found: evidence.found,
            node_name: evidence.node_name,
            kubelet: evidence.kubelet,
            api_ready: said.api_ready,
            api_message: said.api_message,
            version: said.version,
            declared: said.declared_version,
            nodes: said.nodes.into_iter().map(node).collect(),
            etcd: said.etcd.into_iter().map(member).collect(),
            etcd_message: said.etcd_message,
            kube_vip: said.kube_vip.map(KubeVip::of),
            snapshots: said.snapshots.map(|told| Box::new(Scheduled::of(told))),
            certificates: said.certificates.into_iter().map(NodeCertificate::of).collect(),
            renewal_unfinished: said.renewal_unfinished,
            certificates_external: said.certificates_external,
            configuration_unfinished: said.configuration_unfinished,
            quorum_recovery: said
                .quorum_recovery
                .map(|wire::QuorumRecovery { incident, unfinished }| Recovery { incident, unfinished }),
            foreign: Box::new(Foreign {
                kubelet: plain::line(&said.foreign_kubelet).into_owned(),
                config: plain::line(&said.kubelet_config).into_owned(),
                etcd: plain::list(said.external_etcd),
                member: said.external_etcd_member,
            }),
        })
    }

    /// Mints a join token that lives for half an hour at most, and for a control plane a key for its certificates; see
    /// [`Self::join_ended`]. For a server of K3s it is told the cluster's own.
    pub(crate) async fn join_material(&mut self, joiner: Joiner) -> Result<JoinMaterial, Error> {
        let control_plane = joiner == Joiner::ControlPlane;
        let request = wire::JoinMaterialRequest { ttl_s: JOIN_TOKEN_S, control_plane };
        let said = self.0.ask(MATERIAL, |mut client| async move { client.join_material(request).await }).await?;
        if control_plane && said.certificate_key.is_empty() && !said.lasting {
            return Err(self.0.odd(MATERIAL, "it is older than this provider and lets no control plane join"));
        }
        Ok(JoinMaterial(said))
    }

    /// Has what was made for a join deleted, however the join ended.
    pub(crate) async fn join_ended(&mut self, material: &JoinMaterial) -> Result<(), Error> {
        // Nothing was made for a server of K3s, and of its token no part is public.
        if material.0.lasting {
            return Ok(());
        }
        // Before a token of K3s stands the sum of the cluster's CA.
        let token = material.0.token.rsplit("::").next().unwrap_or_default();
        let token_id = token.split('.').next().unwrap_or_default().to_owned();
        let request = wire::JoinEndedRequest { token_id, control_plane: !material.0.certificate_key.is_empty() };
        self.0.ask("JoinEnded", |mut client| async move { client.join_ended(request).await }).await.map(drop)
    }

    /// The administrator's kubeconfig.
    pub(crate) async fn kubeconfig(&mut self) -> Result<Kubeconfig, Error> {
        let said = self
            .0
            .ask("Kubeconfig", |mut client| async move { client.kubeconfig(wire::KubeconfigRequest {}).await })
            .await?;
        Ok(Kubeconfig { text: said.kubeconfig, ca_certificate: said.ca_certificate, endpoint: said.endpoint })
    }
}

/// The least role that sees all of it: guards are programs, and contents are an operator's to compare.
pub(super) fn role_to_plan(spec: &NodeSpec) -> Role {
    if spec.has_guards() || !spec.file.is_empty() { Role::Operator } else { Role::Observer }
}

/// A specification as an observer may send it, which is small: contents that are too large stay here, and are not looked at.
pub(super) fn for_observer(mut spec: NodeSpec) -> NodeSpec {
    let mut left = LARGEST_LOOK / 2;
    for file in spec.file.values_mut() {
        match left.checked_sub(file.content.len()) {
            Some(rest) => left = rest,
            None => file.content = Default::default(),
        }
    }
    spec
}

/// What a machine tells as a list ends in a state and on a terminal, and a machine may be anybody's by now.
fn lines<T>(told: Vec<T>, line: impl Fn(T) -> String) -> Vec<String> {
    plain::list(told.into_iter().map(line).collect())
}

fn standing(wire: WireStanding) -> Standing {
    match wire {
        WireStanding::Unspecified | WireStanding::Clean => Standing::Clean,
        WireStanding::Partial => Standing::Partial,
        WireStanding::ControlPlane => Standing::ControlPlane,
        WireStanding::Worker => Standing::Worker,
    }
}

fn node(wire: wire::ClusterNode) -> Node {
    Node {
        name: wire.name,
        ready: wire.ready,
        ready_message: wire.ready_message,
        version: wire.kubelet_version,
        control_plane: wire.control_plane,
        address: wire.internal_address,
        labels: wire.labels,
        taints: wire.taints,
        cordoned: wire.unschedulable,
        pressures: wire.pressures,
        leaving: wire.leaving,
        upgrading: wire.upgrading,
    }
}

fn member(wire: wire::EtcdMember) -> EtcdMember {
    EtcdMember {
        name: wire.name,
        address: wire.address,
        learner: wire.learner,
        ailing: (!wire.healthy).then_some(wire.message),
        alarms: wire.alarms,
    }
}

/// Facts that hold still between two looks: memory in use or the time of day would be a difference in every plan.
fn facts(wire: wire::Facts) -> BTreeMap<String, String> {
    let pairs = [
        ("hostname", wire.hostname),
        ("os", wire.os_name),
        ("kernel", wire.kernel),
        ("architecture", wire.architecture),
        ("virtualization", wire.virtualization),
        ("cpus", wire.cpus.to_string()),
        ("memory_mib", (wire.memory_bytes / (1 << 20)).to_string()),
        ("machine_uuid", wire.machine_uuid),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

const PAUSE: Duration = Duration::from_secs(1);
const JOIN_TOKEN_S: u32 = 1_800;
const MATERIAL: &str = "JoinMaterial";
