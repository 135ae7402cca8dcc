//! The certificates that control planes have in common, laid up in the cluster for one join: by kubeadm, under a key of that join alone.
//!
//! The key stands in a file that only root can read, never among a program's arguments. kubeadm has them live for two hours, by a token that
//! owns them; both are deleted when the join is over. Source: kubeadm, phase `upload-certs`.

use super::Distribution;
use super::config;
use super::kube::{ADMIN, kubeadm, kubectl};
use super::output::{mask, reasons};
use super::status::{self, ClusterError};
use super::version::Version;
use crate::host::{Access, Command, Host};
use std::time::Duration;

/// Lays them up and gives the key, a secret. What an earlier join has left goes first.
///
/// # Errors
/// When this is no control plane or the API server does not answer.
pub(super) async fn lay_up(host: &dyn Host) -> Result<String, ClusterError> {
    let version: Version = status::version(host)?.parse().map_err(|_| ClusterError::NotControlPlane)?;
    let address = status::advertised(host)?.ok_or(ClusterError::NotControlPlane)?;
    forget(host).await?;
    let key = hex::encode(trust::nonce());
    host.write(FILE, config::upload(version, &address, &key).as_bytes(), Access::PRIVATE)
        .map_err(ClusterError::Host)?;
    let upload = ["init", "phase", "upload-certs", "--upload-certs", "--skip-certificate-key-print", "--config", FILE];
    let said = host.run(&Command::new(kubeadm(host), upload).timeout(UPLOAD), &|_| {}).await;
    host.remove(FILE).map_err(ClusterError::Host)?;
    let said = said.map_err(ClusterError::Host)?;
    if said.code == Some(0) {
        return Ok(key);
    }
    let why: Vec<String> = reasons(&said.stderr).iter().map(|line| mask(line)).collect();
    Err(ClusterError::Certificates(why.join("; ")))
}

/// Deletes what was laid up, and the token that owns it. Fine if it is gone.
///
/// # Errors
/// When the API server does not do it; kubeadm's two hours end it then.
pub(super) async fn forget(host: &dyn Host) -> Result<(), ClusterError> {
    let left = |stderr: &str| ClusterError::CertificatesLeft(reasons(stderr).join("; "));
    let owners = "jsonpath={.metadata.ownerReferences[*].name}";
    let question = ["get", "secret", SECRET, "--namespace", "kube-system", "--ignore-not-found", "-o", owners];
    let said = kubectl(host, (Distribution::Kubeadm, ADMIN), &question).await.map_err(ClusterError::Host)?;
    if said.code != Some(0) {
        return Err(left(&said.stderr));
    }
    let tokens = said.stdout.split_whitespace().filter(|name| name.starts_with("bootstrap-token-"));
    let delete = ["delete", "secret", "--namespace", "kube-system", "--ignore-not-found", SECRET];
    let words: Vec<&str> = delete.into_iter().chain(tokens).collect();
    let said = kubectl(host, (Distribution::Kubeadm, ADMIN), &words).await.map_err(ClusterError::Host)?;
    if said.code == Some(0) { Ok(()) } else { Err(left(&said.stderr)) }
}

const SECRET: &str = "kubeadm-certs";
const FILE: &str = "/run/groundwork/kubeadm-upload.yaml";
const UPLOAD: Duration = Duration::from_secs(100);
