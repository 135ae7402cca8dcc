//! Bootstrap tokens: one for each join, deleted when the join is over. Secrets but for their ids, the part before the dot.

use super::Distribution;
use super::kube::{ADMIN, kubeadm, kubectl};
use super::output::{is_token, reasons};
use super::status::{ClusterError, ask_nodes, cluster_id, endpoint};
use super::{Foreign, certificates, etcd, k3s};
use crate::host::{Command, Host};
use std::time::Duration;

/// What a machine needs to join. The token is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinMaterial {
    /// `host:port`
    pub endpoint: String,
    /// Lives for minutes.
    pub token: String,
    /// Pin of the cluster CA's key, as kubeadm writes it.
    pub ca_hash: String,
    /// Opens the certificates that are laid up for a control plane; empty for a worker, and with K3s and its relatives. Secret.
    pub certificate_key: String,
    /// The token is the cluster's own, which lives as long as that: servers of K3s join with no other.
    pub lasting: bool,
}

/// Who is to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joiner {
    /// A worker.
    Worker,
    /// A control plane, and with it a member of etcd.
    ControlPlane,
}

impl std::fmt::Debug for JoinMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinMaterial").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A token that lives for `ttl`, and what goes with it.
///
/// # Errors
/// When this is no control plane, the API server does not answer, or etcd takes no further member just now.
pub async fn join_material(host: &dyn Host, ttl: Duration, joiner: Joiner) -> Result<JoinMaterial, ClusterError> {
    if let Distribution::K3s(own) = Distribution::here(host).map_err(ClusterError::Host)? {
        return k3s::mint(host, own, (ttl, joiner)).await;
    }
    let endpoint = endpoint(host)?;
    let certificate_key = match joiner {
        Joiner::Worker => String::new(),
        Joiner::ControlPlane => {
            let etcd = Foreign::look(host).map_err(ClusterError::Host)?.etcd;
            if !etcd.is_empty() {
                return Err(ClusterError::ForeignEtcd(etcd.join(", ")));
            }
            let nodes = ask_nodes(host).await?.map_err(ClusterError::Silent)?;
            etcd::admit(host, &nodes).await.map_err(ClusterError::Etcd)?;
            certificates::lay_up(host).await?
        }
    };
    let ttl = format!("{}s", ttl.as_secs());
    let create = ["token", "create", "--kubeconfig", ADMIN, "--ttl", &ttl, "--description", "one join, by Groundwork"];
    let said = host.run(&Command::new(kubeadm(host), create).timeout(Duration::from_secs(100)), &|_| {}).await;
    let said = said.map_err(ClusterError::Host)?;
    let token = said.stdout.split_whitespace().find(|word| is_token(word)).filter(|_| said.code == Some(0));
    let token = token.ok_or_else(|| ClusterError::Token(reasons(&said.stderr).join("; ")))?;
    Ok(JoinMaterial { endpoint, token: token.to_owned(), ca_hash: cluster_id(host)?, certificate_key, lasting: false })
}

/// Deletes what was made for a join that is over, however it ended. Fine if it is gone.
///
/// # Errors
/// When the API server does not do it; it then dies by itself.
pub async fn join_ended(host: &dyn Host, token_id: &str, joiner: Joiner) -> Result<(), ClusterError> {
    let certificates = match joiner {
        Joiner::Worker => Ok(()),
        Joiner::ControlPlane => certificates::forget(host).await,
    };
    forget(host, token_id).await.and(certificates)
}

/// Deletes a token. Fine if it is gone.
///
/// # Errors
/// When the API server does not do it; the token then dies by itself in minutes.
pub(super) async fn forget(host: &dyn Host, id: &str) -> Result<(), ClusterError> {
    if id.len() != 6 || !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Err(ClusterError::TokenId(id.to_owned()));
    }
    let name = format!("bootstrap-token-{id}");
    let delete = ["delete", "secret", &name, "--namespace", "kube-system", "--ignore-not-found"];
    let own = Distribution::here(host).map_err(ClusterError::Host)?;
    let said = kubectl(host, (own, own.admin()), &delete).await.map_err(ClusterError::Host)?;
    if said.code == Some(0) {
        return Ok(());
    }
    Err(ClusterError::TokenLeft { id: id.to_owned(), why: reasons(&said.stderr).join("; ") })
}

/// A token's public part.
pub(super) fn id(token: &str) -> &str {
    token.split('.').next().unwrap_or_default()
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`, from the system's random numbers.
pub(super) fn make() -> Option<String> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz012345";
    let random = trust::nonce();
    let letters = random.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 31)));
    let letters: String = letters.map(|byte| char::from(*byte)).collect();
    Some(format!("{}.{}", letters.get(..6)?, letters.get(6..22)?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_token_has_kubeadms_form() {
        let token = super::make().unwrap();
        assert!(super::is_token(&token), "{token}");
        assert_ne!(token, super::make().unwrap());
        assert_eq!(super::id(&token).len(), 6);
    }
}
