//! Bootstrap tokens of K3s: `K10<sum of the CA's file>::<id>.<secret>`. One for each join, deleted when the join is over.
//!
//! The cluster's own secret, by which servers join, never leaves its server. Source: recordings of `k3s token create`.

use super::program::PROGRAM;
use crate::cluster::Distribution;
use crate::cluster::output::reasons;
use crate::cluster::status::{ClusterError, cluster_id};
use crate::cluster::tokens::{JoinMaterial, Joiner};
use crate::host::{Command, Host};
use aws_lc_rs::digest::{SHA256, digest};
use std::time::Duration;

/// A token for an agent that lives for `ttl`, and what goes with it.
///
/// # Errors
/// When this is no server, or K3s makes none.
pub(in crate::cluster) async fn mint(
    host: &dyn Host,
    ttl: Duration,
    joiner: Joiner,
) -> Result<JoinMaterial, ClusterError> {
    if joiner == Joiner::ControlPlane {
        return Err(ClusterError::SecondServer);
    }
    let endpoint = super::endpoint(host).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane)?;
    let authority =
        Distribution::K3s.authority(host).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane)?;
    let ttl = format!("{}s", ttl.as_secs());
    let create = ["token", "create", "--ttl", &ttl, "--description", "one join, by Groundwork"];
    let said = host.run(&Command::new(PROGRAM, create).timeout(Duration::from_secs(100)), &|_| {}).await;
    let said = said.map_err(ClusterError::Host)?;
    let token = said.stdout.split_whitespace().find(|word| is_pinned(word)).filter(|_| said.code == Some(0));
    let token = token.ok_or_else(|| ClusterError::Token(reasons(&said.stderr).join("; ")))?;
    let sum = hex::encode(digest(&SHA256, &authority));
    if !token.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with(&sum)) {
        return Err(ClusterError::Token("the token is for another CA than the one that stands here".to_owned()));
    }
    Ok(JoinMaterial { endpoint, token: token.to_owned(), ca_hash: cluster_id(host)?, certificate_key: String::new() })
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
