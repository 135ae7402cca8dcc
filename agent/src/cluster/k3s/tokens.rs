//! Tokens of K3s. Agents: `K10<sum of the CA's file>::<id>.<secret>`, one for each join, deleted when the join is over. Servers:
//! `K10<sum>::server:<secret>`, the cluster's own, for all of them and for ever.
//!
//! K3s lets a server in by no other: with that secret its servers open what they have in common. So it goes from server to server, and nowhere
//! else. Source: recordings of `k3s token create`, and of a server that tried to join with such a token.

use super::server;
use super::variant::Variant;
use crate::cluster::output::reasons;
use crate::cluster::status::{ClusterError, ask_nodes, cluster_id};
use crate::cluster::tokens::{JoinMaterial, Joiner};
use crate::cluster::{Distribution, etcd};
use crate::host::{Command, Host};
use aws_lc_rs::digest::{SHA256, digest};
use std::time::Duration;

/// A token, which lives for `ttl` if it is an agent's, and what goes with it.
///
/// # Errors
/// When this is no server, K3s makes none, or etcd takes no further member just now.
pub(in crate::cluster) async fn mint(
    host: &dyn Host,
    own: &'static Variant,
    (ttl, joiner): (Duration, Joiner),
) -> Result<JoinMaterial, ClusterError> {
    let endpoint = super::endpoint(host, own).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane)?;
    let authority = Distribution::K3s(own).authority(host).map_err(ClusterError::Host)?;
    let authority = authority.ok_or(ClusterError::NotControlPlane)?;
    let sum = hex::encode(digest(&SHA256, &authority));
    let (token, lasting) = match joiner {
        Joiner::Worker => (create(host, own, ttl).await?, false),
        Joiner::ControlPlane => {
            let nodes = ask_nodes(host).await?.map_err(ClusterError::Silent)?;
            etcd::admit(host, &nodes).await.map_err(ClusterError::Etcd)?;
            (secret(host, own)?, true)
        }
    };
    if !token.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with(&sum)) {
        return Err(ClusterError::Token("the token is for another CA than the one that stands here".to_owned()));
    }
    if lasting {
        server::has_others(host, own, (&endpoint, &token))?;
    }
    Ok(JoinMaterial { endpoint, token, ca_hash: cluster_id(host)?, certificate_key: String::new(), lasting })
}

/// The secret of the cluster.
fn secret(host: &dyn Host, own: &Variant) -> Result<String, ClusterError> {
    let token = host.text(own.places.secret).map_err(ClusterError::Host)?.unwrap_or_default();
    let token = token.trim();
    if is_pinned(token) {
        return Ok(token.to_owned());
    }
    Err(ClusterError::Token(format!("{} does not hold the cluster's secret", own.places.secret)))
}

/// A token for one agent.
async fn create(host: &dyn Host, own: &Variant, ttl: Duration) -> Result<String, ClusterError> {
    let ttl = format!("{}s", ttl.as_secs());
    let create = ["token", "create", "--ttl", &ttl, "--description", "one join, by Groundwork"];
    let said = host.run(&Command::new(own.places.program, create).timeout(Duration::from_secs(100)), &|_| {}).await;
    let said = said.map_err(ClusterError::Host)?;
    let token = said.stdout.split_whitespace().find(|word| is_pinned(word)).filter(|_| said.code == Some(0));
    token.map(str::to_owned).ok_or_else(|| ClusterError::Token(reasons(&said.stderr).join("; ")))
}

/// Whether a token says which CA the cluster has.
pub(super) fn is_pinned(token: &str) -> bool {
    let parts = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once("::"));
    parts.is_some_and(|(sum, secret)| {
        sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) && !secret.is_empty()
    })
}

const PREFIX: &str = "K10";

#[cfg(test)]
mod form_tests {
    use super::is_pinned;

    #[test]
    fn a_token_without_its_cluster_is_none() {
        let recorded = include_str!("recorded/token-create.txt").split_whitespace().next().unwrap();
        assert!(is_pinned(recorded), "{recorded}");
        for bare in ["", "SECRET", "aaaaaa.0123456789abcdef", "K10::server:SECRET", "K1000::a"] {
            assert!(!is_pinned(bare), "{bare}");
        }
    }
}
