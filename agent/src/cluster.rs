//! Kubernetes on this machine: kubeadm's and K3s' operations as jobs, and questions about the cluster.
//!
//! Each operation looks first and does only what is missing, so that it may be repeated after any cut. Long programs run as units
//! that survive the agent. Tokens stand in files that only root can read, never among a program's arguments, and are cut out of
//! everything that is shown. Start with `init`; `evidence` says what is known about killed attempts.

mod adopt;
mod before;
mod causes;
mod certificates;
mod cleanup;
mod config;
mod configuration;
mod control_plane;
mod credential;
mod distribution;
mod drain;
mod etcd;
mod evidence;
mod foreign;
mod found;
mod init;
mod issue;
mod join;
pub mod k3s;
mod kube;
mod kube_vip;
mod kubelet;
mod leave;
mod leftovers;
mod manifests;
mod members;
mod nodes;
mod output;
mod overlay;
mod passage;
mod programs;
mod quorum;
mod renewal;
mod reset;
mod restore;
mod snapshots;
mod static_pods;
mod status;
#[cfg(test)]
mod tests;
mod tokens;
mod upgrade;
mod version;

pub use adopt::{FoundCluster, adopt, look_at_found};
pub use config::{ControlPlane, InitPlan, JoinPlan, Taint};
pub use configuration::{ConfigurePlan, Differences, configure, look_at_configuration};
pub use credential::{Access, AccessPlan, credential};
pub use distribution::Distribution;
pub use etcd::EtcdMember;
pub use evidence::Standing;
pub use foreign::Foreign;
pub use init::init;
pub use join::join;
pub use kube_vip::{Bgp, KubeVip, Peer};
pub use leave::leave;
pub use leftovers::{Leftovers, LoadBalancer, Volume, leftovers};
pub use manifests::{AskError, ManifestPlan, ManifestStatus, RemovalPlan};
pub use manifests::{apply as apply_manifest, look as manifests, remove as remove_manifest};
pub use members::{NodeSettings, remove, set};
pub use nodes::Node;
pub use overlay::Overlay;
pub use passage::newest;
pub use quorum::{QuorumPlan, QuorumRecovery, recover_quorum};
pub use renewal::{NodeCertificate, RenewalPlan, renew};
pub use reset::reset;
pub use restore::{FETCHED, Object, with_object};
pub use snapshots::away::{Target, send_snapshots};
pub use snapshots::schedule::{Schedule, Scheduled, Wanted, schedule, take_scheduled};
pub use snapshots::{SnapshotError, SnapshotPlan, discard, keep, look as look_at_snapshot, take as take_snapshot};
pub use status::{ClusterError, Evidence, Kubeconfig, Status, kubeconfig, status};
pub use tokens::{JoinMaterial, Joiner, join_ended, join_material};
pub use upgrade::{UpgradePlan, upgrade};
pub use version::{BadVersion, Version};
