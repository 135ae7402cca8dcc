//! K3s: servers, each with a member of etcd, and agents. What is made and unmade otherwise than by kubeadm; the rest of the cluster's work is shared.
//!
//! K3s is one program that the agent fetches, checks by its sum, and runs by a unit of its own making; nobody's script is run. It differs from kubeadm in
//! that it never ends by itself: an agent that cannot join tries for ever, a server that cannot start is started again, and an exit code
//! of 0 says nothing. So nothing waits on `systemctl start`: a unit is started without waiting, and watched. Start with `server`.
//! Source: recordings of v1.34.3+k3s1, its `install.sh`, and its documentation.

mod agent;
mod config;
mod further;
mod processes;
mod program;
mod removal;
mod restore;
mod server;
#[cfg(test)]
mod tests;
mod tokens;
mod unit;
mod upgrade;

use super::evidence::{Attempt, Trace};
use super::kube::Kube;
use crate::host::{Host, HostError};
use crate::run::Failure;

pub use agent::{AgentPlan, join};
pub(super) use config::endpoint;
pub use further::{FurtherPlan, join_server};
pub use program::{Release, Source};
pub(super) use removal::{left, remove, stop};
pub use restore::Restore;
pub use server::{ServerPlan, init};
pub(super) use tokens::mint;
pub use upgrade::{UpgradePlan, upgrade};

/// Files whose presence tells how far this machine is in a cluster of K3s. What a user may have put here before, such as `registries.yaml`
/// or archives of images, is none of them.
pub(super) const TRACES: [(&str, Trace); 18] = [
    (SERVER_UNIT, Trace::Manifest),
    (ADMIN, Trace::Admin),
    (KUBELET, Trace::Kubelet),
    ("/var/lib/rancher/k3s/agent/client-kubelet.crt", Trace::Credential),
    (AUTHORITIES[0], Trace::Authority),
    (AUTHORITIES[1], Trace::Authority),
    ("/var/lib/rancher/k3s/server/tls/server-ca.key", Trace::AuthorityKey),
    ("/var/lib/rancher/k3s/server/db", Trace::Etcd),
    (AGENT_UNIT, Trace::Other),
    (config::FILE, Trace::Other),
    (config::NOTE, Trace::Other),
    ("/etc/kubernetes/admin.conf", Trace::Stranger),
    ("/etc/kubernetes/kubelet.conf", Trace::Stranger),
    ("/etc/kubernetes/bootstrap-kubelet.conf", Trace::Stranger),
    ("/etc/kubernetes/pki/ca.crt", Trace::Stranger),
    ("/var/lib/kubelet/config.yaml", Trace::Stranger),
    ("/etc/rancher/rke2", Trace::Stranger),
    ("/var/lib/rancher/rke2", Trace::Stranger),
];

/// Whether what stands here is of this attempt, which was cut off before it knew its CA: both carry the same mark.
pub(super) fn has_begun(kube: &Kube<'_>, attempt: &Attempt) -> Result<bool, Failure> {
    if attempt.cluster_id.is_some() || attempt.authority.is_some() || attempt.mark.is_none() {
        return Ok(false);
    }
    Ok(config::note(kube.host()).map_err(super::kube::failed("look", "read what K3s was begun with"))?.mark
        == attempt.mark)
}

/// The unit of what stands here.
pub(super) fn unit_here(host: &dyn Host) -> Result<&'static str, HostError> {
    Ok(if host.exists(SERVER_UNIT)? { SERVER } else { AGENT })
}

/// The node that a member of etcd is of: K3s names it by its node, with eight hex digits of its own making.
pub(super) fn node_of(member: &str) -> &str {
    let is_mark = |mark: &str| mark.len() == 8 && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
    member.rsplit_once('-').filter(|(_, mark)| is_mark(mark)).map_or(member, |(node, _)| node)
}

/// The secret in `kube-system` with the password by which K3s knows the machine of a node again.
pub(super) fn password_of(node_name: &str) -> String {
    format!("{node_name}.node-password.k3s")
}

/// It comes with the program, which unpacks itself when it starts.
pub(super) const KUBECTL: &str = "/var/lib/rancher/k3s/data/current/bin/kubectl";
pub(super) const ADMIN: &str = "/var/lib/rancher/k3s/server/cred/admin.kubeconfig";
pub(super) const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
pub(super) const KUBELET: &str = "/var/lib/rancher/k3s/agent/kubelet.kubeconfig";
/// On a server, and on an agent.
pub(super) const AUTHORITIES: [&str; 2] =
    ["/var/lib/rancher/k3s/server/tls/server-ca.crt", "/var/lib/rancher/k3s/agent/server-ca.crt"];
/// K3s has a CA of its own for clients.
pub(super) const AUTHORITY_OF_CLIENTS: [&str; 2] =
    ["/var/lib/rancher/k3s/server/tls/client-ca.crt", "/var/lib/rancher/k3s/server/tls/client-ca.key"];
/// The administrator's certificate: its kubeconfig only names it.
pub(super) const ADMINISTRATOR: &str = "/var/lib/rancher/k3s/server/tls/client-admin.crt";
/// etcd's own configuration: with whom it began.
pub(super) const ETCD_NOTE: &str = "/var/lib/rancher/k3s/server/db/etcd/config";
/// The cluster's secret, by which servers join.
const SECRET: &str = "/var/lib/rancher/k3s/server/token";
const SERVER: &str = "k3s.service";
const AGENT: &str = "k3s-agent.service";
const SERVER_UNIT: &str = "/etc/systemd/system/k3s.service";
const AGENT_UNIT: &str = "/etc/systemd/system/k3s-agent.service";
