//! The certificate that an API server shows: the names and addresses in it, and making it anew when they are to be others.
//!
//! kubeadm makes one only where none stands, so the old pair goes first; it is kept like everything that a change takes the place of, and put
//! back where the new one does not come up. Names that kubeadm gives it by itself, such as the endpoint's, are its own affair: those of
//! `certSANs` alone are compared. Source: kubeadm 1.36, phase `certs apiserver`.

use super::pods::{self, COMPONENTS};
use super::{FILE, Work, kept};
use crate::cluster::kube::{failed, failure, kubeadm, refused};
use crate::cluster::renewal::annotated;
use crate::host::{Access, Command, Host, HostError};
use crate::run::Failure;
use agent_proto::overlay::Fragment;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use trust::Certificate;

/// Names of `certSANs` that the certificate on this machine does not have.
pub(super) fn lacks(host: &dyn Host, cluster: &Fragment) -> Result<Vec<String>, HostError> {
    let Some(there) = shown(host)? else { return Ok(Vec::new()) };
    Ok(names(cluster).difference(&there).cloned().collect())
}

/// Has the API server show a certificate with these names, and without those that were declared before; whether it showed another one.
pub(super) async fn renewed(work: &Work<'_>, wanted: &Fragment, laid: &[Fragment]) -> Result<bool, Failure> {
    let kube = work.kube;
    let there = shown(kube.host()).map_err(failed(STEP, &format!("read {CERTIFICATE}")))?;
    let (Some(there), wanted) = (there, names(wanted)) else { return Ok(false) };
    let mut gone = laid.iter().flat_map(names).filter(|name| !wanted.contains(name));
    if wanted.is_subset(&there) && !gone.any(|name| there.contains(&name)) {
        return Ok(false);
    }
    kube.may_go_on(STEP)?;
    kube.cx.step_began(STEP, 1);
    if !kube.host().exists(AUTHORITY).map_err(failed(STEP, &format!("look at {AUTHORITY}")))? {
        return Err(failure(
            STEP,
            format!(
                "the key of the cluster's CA, {AUTHORITY}, is kept elsewhere, and without it no certificate is made"
            ),
        ));
    }
    let since = Instant::now();
    make(work).await?;
    let shows = shown(kube.host()).map_err(failed(STEP, &format!("read {CERTIFICATE}")))?.unwrap_or_default();
    if let Some(name) = wanted.difference(&shows).next() {
        return Err(failure(STEP, format!("kubeadm has made a certificate without {name}")));
    }
    restart(work).await?;
    kube.made(STEP, "make the API server's certificate anew", "it has other names", since);
    Ok(true)
}

/// Lets kubeadm make another pair in the place of the one that stands.
async fn make(work: &Work<'_>) -> Result<(), Failure> {
    let host = work.kube.host();
    for path in [CERTIFICATE, KEY] {
        if let Some(text) = host.text(path).map_err(failed(STEP, &format!("read {path}")))? {
            kept::file(work, path, &text, None)?;
        }
    }
    for path in [CERTIFICATE, KEY] {
        host.remove(path).map_err(failed(STEP, &format!("remove {path}")))?;
    }
    let words = ["init", "phase", "certs", "apiserver", "--config", FILE];
    let said = work.kube.kubeadm(STEP, &words, TIME).await?;
    if said.code == Some(0) { Ok(()) } else { Err(refused(STEP, &Command::new(kubeadm(host), words), &said)) }
}

/// Starts the API server anew, which has read the pair of before.
async fn restart(work: &Work<'_>) -> Result<(), Failure> {
    let Some(server) = COMPONENTS.iter().find(|component| component.name == SERVER) else { return Ok(()) };
    let (kube, path) = (work.kube, server.path());
    let disk = kube.host().text(&path).map_err(failed(STEP, &format!("read {path}")))?;
    let disk = disk.ok_or_else(|| failure(STEP, format!("{path} is not there")))?;
    // Another mark than that of a manifest that this change writes later.
    let stamp = format!("{}-certificate", work.stamp);
    let next = annotated(&disk, pods::MARK, &stamp);
    let next = next.ok_or_else(|| failure(STEP, format!("{path} is not of a form that is known")))?;
    let known = pods::known(kube);
    kept::file(work, &path, &disk, Some(&next))?;
    kube.host().write(&path, next.as_bytes(), Access::PRIVATE).map_err(failed(STEP, &format!("write {path}")))?;
    pods::up(kube, (&work.plan.node_name, SERVER), Some(&stamp), Some(&known)).await
}

/// Names and addresses in the certificate that stands here; `None` where none does that can be read.
fn shown(host: &dyn Host) -> Result<Option<BTreeSet<String>>, HostError> {
    let pem = host.read(CERTIFICATE)?;
    let der = pem.and_then(|pem| CertificateDer::from_pem_slice(&pem).ok());
    let read = der.and_then(|der| Certificate::read(&der).ok());
    Ok(read.map(|read| read.hosts.iter().map(|name| plain(name)).collect()))
}

/// Those of `certSANs`.
fn names(cluster: &Fragment) -> BTreeSet<String> {
    let list = cluster.get("apiServer").and_then(|server| server.get("certSANs")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(plain).collect()
}

/// In the one spelling in which they are compared.
fn plain(name: &str) -> String {
    name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |address| address.to_string())
}

pub(super) const STEP: &str = "certificate names";
/// Where the pair stands, which the API server alone reads.
pub(super) const PKI: &str = "/etc/kubernetes/pki/";
const CERTIFICATE: &str = "/etc/kubernetes/pki/apiserver.crt";
const KEY: &str = "/etc/kubernetes/pki/apiserver.key";
const AUTHORITY: &str = "/etc/kubernetes/pki/ca.key";
const SERVER: &str = "kube-apiserver";
const TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_compared_in_one_spelling() {
        let cluster = json!({ "apiServer": { "certSANs": ["API.example.org", "2001:DB8:0::1", "192.0.2.10"] } });
        let found: Vec<String> = names(cluster.as_object().unwrap()).into_iter().collect();
        assert_eq!(found, ["192.0.2.10", "2001:db8::1", "api.example.org"]);
        for none in [json!({}), json!({ "apiServer": {} }), json!({ "apiServer": { "certSANs": 3 } })] {
            assert!(names(none.as_object().unwrap()).is_empty());
        }
    }
}
