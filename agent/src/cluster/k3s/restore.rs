//! A new cluster of K3s that begins with a snapshot of another one's etcd.
//!
//! What the servers of a cluster have in common, the CAs among it, stands in etcd, encrypted with the cluster's secret. So the new cluster has the CA of the
//! one before, and needs the secret that this had when the snapshot was taken. K3s finds out that a secret is another one when it has replaced the
//! database already; here it is looked at first, for the name under which the rest is kept is made of the secret.
//! Source: K3s, `pkg/cluster/encrypt.go` and `pkg/etcd/etcd.go`; recordings of restores, 1.34.3.

use super::unit;
use super::variant::Variant;
use crate::cluster::kube::{Kube, failed, failure};
use crate::cluster::{join, members, restore};
use crate::host::{Access, Command};
use crate::run::Failure;
use aws_lc_rs::digest::{SHA256, digest};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What a new cluster begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restore {
    /// A snapshot of etcd.
    pub path: String,
    /// A file with the secret that the cluster had then.
    pub token_path: String,
}

/// The secret, once it is known to open the snapshot. Changes nothing.
pub(super) fn secret(kube: &Kube<'_>, from: &Restore) -> Result<Zeroizing<String>, Failure> {
    let Restore { path, token_path } = from;
    restore::is_there(kube, path)?;
    let text = kube.host().text(token_path).map_err(failed(STEP, &format!("read {token_path}")))?;
    let none = || failure(STEP, format!("no secret of a cluster stands at {token_path} on this machine"));
    let text = Zeroizing::new(text.filter(|text| !text.trim().is_empty()).ok_or_else(none)?);
    let secret = Zeroizing::new(secret_in(&text).to_owned());
    let keys = kube.host().etcd().keys(path, COMMON).map_err(failed(STEP, &format!("read {path}")))?;
    if keys.is_empty() {
        return Err(failure(STEP, format!("the snapshot at {path} is of no cluster of K3s or RKE2")));
    }
    if keys.contains(&name_of(&secret)) {
        return Ok(secret);
    }
    let message = format!(
        "the secret at {token_path} does not open the snapshot at {path}: the cluster had another one when it was taken"
    );
    Err(failure(STEP, message))
}

/// Has K3s begin a database with it. Its success is told by what it says: the exit code is the same when it had nothing to do.
pub(super) async fn place(kube: &Kube<'_>, own: &Variant, from: &Restore, secret: &str) -> Result<(), Failure> {
    kube.may_go_on(STEP)?;
    kube.cx.step_began(STEP, 1);
    let since = Instant::now();
    // K3s asks whether this file is there, and reads the one that its configuration names.
    kube.must(STEP, &Command::new("/usr/bin/install", ["-d", "-m", "0700", own.places.server])).await?;
    let token = own.places.secret;
    kube.host().write(token, secret.as_bytes(), Access::PRIVATE).map_err(failed(STEP, &format!("write {token}")))?;
    let path = format!("--cluster-reset-restore-path={}", from.path);
    let reset = Command::new(own.places.program, ["server", "--cluster-reset", &path]).timeout(TIME);
    let said = kube.run(STEP, &reset).await?;
    if said.code != Some(0) || !said.stderr.contains(DONE) {
        let why = unit::complaint(&said.stderr).unwrap_or_else(|| "it does not say why".to_owned());
        return Err(failure(STEP, format!("{} cannot begin with the snapshot at {}: {why}", own.name, from.path)));
    }
    let summary = format!("restore the snapshot of etcd at {}", from.path);
    kube.made(STEP, &summary, "the cluster begins with what it holds", since);
    Ok(())
}

/// Nodes of before go, and all passwords: K3s would not let in a machine that has the name of one of before. Waits until this machine has its node.
pub(super) async fn leave_behind(kube: &Kube<'_>, own: &str) -> Result<(), Failure> {
    for name in restore::forget_nodes(kube, own).await?.iter().map(String::as_str).chain([own]) {
        members::forget_password(kube, STEP, name).await?;
    }
    let until = tokio::time::Instant::now() + REGISTERED;
    loop {
        match join::known(kube, kube.distribution.admin(), own).await {
            Ok(Some(node)) if node.control_plane => return Ok(()),
            Err(failure) if failure.cancelled || tokio::time::Instant::now() > until => return Err(failure),
            Ok(_) if tokio::time::Instant::now() > until => {
                return Err(failure(STEP, format!("the cluster has no server {own} after {} s", REGISTERED.as_secs())));
            }
            Ok(_) | Err(_) => kube.pause(STEP, Duration::from_millis(500)).await?,
        }
    }
}

/// The secret alone, of a token as K3s writes it, `K10<sum of the CA>::server:<secret>`, or by itself.
fn secret_in(text: &str) -> &str {
    let text = text.trim();
    let own = text.strip_prefix("K10").and_then(|rest| rest.split_once("::")).map_or(text, |(_, own)| own);
    own.split_once(':').map_or(own, |(_, secret)| secret)
}

/// What K3s calls that which is encrypted with a secret.
fn name_of(secret: &str) -> String {
    let sum = hex::encode(digest(&SHA256, secret.as_bytes()));
    format!("{COMMON}{}", sum.get(..12).unwrap_or_default())
}

const STEP: &str = "restore";
/// What servers have in common.
const COMMON: &str = "/bootstrap/";
const DONE: &str = "Managed etcd cluster membership has been reset";
const TIME: Duration = Duration::from_secs(600);
/// A machine that K3s kept out tries again every few seconds.
const REGISTERED: Duration = Duration::from_secs(180);

#[cfg(test)]
mod secret_tests {
    use super::{name_of, secret_in};

    #[test]
    fn a_secret_is_found_in_a_token_and_gives_its_data_a_name() {
        for text in ["K1000ff::server:5ecret\n", "server:5ecret", " 5ecret\n"] {
            assert_eq!(secret_in(text), "5ecret", "{text:?}");
        }
        // sha256sum of the word.
        assert_eq!(name_of("5ecret"), "/bootstrap/f65da3a06da0");
        total::text("k3s-token", &["K1000ff::server:5ecret\n"], |text| secret_in(text).len());
    }
}
