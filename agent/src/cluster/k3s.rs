//! K3s and its relatives: servers, each with a member of etcd, and agents. What is made and unmade otherwise than by kubeadm; the rest of the cluster's work is shared.
//!
//! A relative, such as RKE2, has K3s' code in it and other names, places and ports: these stand in `variant`, and in a file of its own; nothing else here
//! names one. Each is a program that the agent fetches, checks by its sum, and runs by a unit of its own making; nobody's script is run. They differ from kubeadm in
//! that they never end by themselves: an agent that cannot join tries for ever, a server that cannot start is started again, and an exit code
//! of 0 says nothing. So nothing waits on `systemctl start`: a unit is started without waiting, and watched. Start with `server`.
//! Source: recordings of v1.34.3+k3s1, its `install.sh`, and its documentation; of RKE2 what `rke2` says.

mod agent;
mod config;
mod further;
mod processes;
mod program;
mod removal;
mod restore;
mod rke2;
mod server;
#[cfg(test)]
mod tests;
mod tokens;
mod unit;
mod upgrade;
mod variant;

use super::Distribution;
use super::evidence::Attempt;
use super::kube::Kube;
use crate::host::{Host, HostError};
use crate::run::Failure;

pub use agent::{AgentPlan, join};
pub(super) use config::endpoint;
pub use further::{FurtherPlan, join_server};
pub use program::{Release, Source};
pub(super) use removal::{left, remove, stop};
pub use restore::Restore;
#[cfg(test)]
pub(super) use rke2::RKE2;
pub use server::{ServerPlan, init};
pub(super) use tokens::mint;
pub use upgrade::{UpgradePlan, upgrade};
pub(super) use variant::ALL;
pub use variant::{K3S, Variant};

/// Whether what stands here is of this attempt, which was cut off before it knew its CA: both carry the same mark.
pub(super) fn has_begun(kube: &Kube<'_>, attempt: &Attempt) -> Result<bool, Failure> {
    if attempt.cluster_id.is_some() || attempt.authority.is_some() || attempt.mark.is_none() {
        return Ok(false);
    }
    let Distribution::K3s(own) = kube.distribution else { return Ok(false) };
    let note = config::note(kube.host(), own).map_err(super::kube::failed("look", "read what it was begun with"))?;
    Ok(note.mark == attempt.mark)
}

/// The unit of what stands here.
pub(super) fn unit_here(host: &dyn Host, own: &Variant) -> Result<&'static str, HostError> {
    Ok(if host.exists(own.server.path)? { own.server.name } else { own.agent.name })
}

/// The node that a member of etcd is of: K3s names it by its node, with eight hex digits of its own making.
pub(super) fn node_of(member: &str) -> &str {
    let is_mark = |mark: &str| mark.len() == 8 && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
    member.rsplit_once('-').filter(|(_, mark)| is_mark(mark)).map_or(member, |(node, _)| node)
}
