//! Certificates of a control plane: until when they count, and renewing them with kubeadm.
//!
//! kubeadm writes new files and restarts nothing: what runs holds the certificates of before until they end. So each static pod gets another
//! annotation, by which the kubelet starts it anew. A renewal is noted before it begins and crossed out when the new pods are up. The
//! kubelet's own certificate is renewed by itself. Source: kubernetes.io, "Certificate management with kubeadm"; recordings of
//! `kubeadm certs`, 1.35.

use super::Distribution;
use super::control_plane::{self, Noted};
use super::kube::{ADMIN, Kube, failed, failure, kubeadm, refused};
use super::kubelet;
use super::snapshots::is_of;
use super::static_pods::{self, Pod};
use crate::host::{Access, Command, Host, HostError};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::{State, StateError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant, UNIX_EPOCH};
use trust::Certificate;

/// A certificate that kubeadm or the kubelet keeps on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// As kubeadm calls it; `kubelet` for the kubelet's own as a client.
    pub name: String,
    /// Seconds since 1970 until which it counts.
    pub ends: u64,
    /// The same moment, RFC 3339.
    pub until: String,
    /// It is a CA's.
    pub authority: bool,
}

/// A control plane whose certificates are to be renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RenewalPlan {
    /// The cluster that is meant.
    pub cluster_id: String,
    /// Name of this machine's node.
    pub node_name: String,
    /// How near the end of one is that has all renewed.
    pub within: Duration,
}

/// The certificates that stand here. One that cannot be read is left out: whatever needs it complains by itself.
///
/// # Errors
/// When the machine cannot be looked at.
pub(super) fn certificates(host: &dyn Host) -> Result<Vec<NodeCertificate>, HostError> {
    let mut found = Vec::new();
    for (name, path, kind) in FILES {
        let Some(content) = host.read(path)? else { continue };
        let pem = if kind == Kind::Kubeconfig { embedded(&content) } else { Some(content) };
        let read = pem.as_deref().and_then(certificate);
        found.extend(read.map(|read| NodeCertificate {
            name: name.to_owned(),
            ends: read.not_after,
            until: read.end().to_owned(),
            authority: kind == Kind::Authority,
        }));
    }
    Ok(found)
}

/// Whether a CA's key is kept elsewhere, so that kubeadm renews nothing here.
pub(super) fn is_external(host: &dyn Host) -> Result<bool, HostError> {
    for (name, path, kind) in FILES {
        let key = path.replace(".crt", ".key");
        if kind == Kind::Authority && host.exists(path)? && !host.exists(&key)? {
            tracing::debug!(name, key, "the key of a CA is kept elsewhere");
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a renewal was cut off.
pub(super) fn is_unfinished(state: &State) -> Result<bool, StateError> {
    Ok(state.read(NOTE)?.is_some())
}

/// Renews all certificates of this control plane if one ends soon, and has its pods take the new ones. Changes nothing otherwise.
///
/// # Errors
/// At `health` when the cluster is not well before: nothing is changed then, unless a certificate is over.
pub async fn renew(cx: RunCx, state: State, plan: RenewalPlan) -> Result<Outcome, Failure> {
    let mut kube = Kube::begin(&cx, &state).await?;
    is_of(&kube, &plan.cluster_id)?;
    if let Distribution::K3s(own) = kube.distribution {
        return Err(failure("look", format!("{} renews its certificates by itself, when it starts", own.name)));
    }
    let all = certificates(kube.host()).map_err(failed(STEP, "look at the certificates"))?;
    let now = kube.host().now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let renewable = || all.iter().filter(|one| !one.authority && one.name != KUBELET);
    let due = renewable().any(|one| one.ends < now.saturating_add(plan.within.as_secs()));
    let noted = kube.state.read(NOTE).map_err(failed(STEP, "read the note of a renewal"))?;
    if !due && noted.is_none() {
        return Ok(kube.done());
    }
    if due && is_external(kube.host()).map_err(failed(STEP, "look for the keys of the CAs"))? {
        return Err(failure(STEP, "the key of a CA is not on this machine, and kubeadm renews nothing without it"));
    }
    kubelet::up(&kube, STEP).await?;
    // With certificates that are over nothing answers any more, and there is nobody to wait for.
    let is_over = renewable().any(|one| one.ends <= now);
    if !is_over {
        control_plane::healthy(&kube, ADMIN).await?;
        kube.near = Noted::ask(&kube, ADMIN).await?.near();
    }
    let stamp = noted.unwrap_or_else(|| now.to_string());
    kube.state.write(NOTE, &stamp).map_err(failed(STEP, "note the renewal"))?;
    if due {
        certs_renew(&kube).await?;
    }
    let pods = restart(&kube, &stamp)?;
    if is_over {
        kube.cx.warn(STEP, OVER);
    } else {
        taken(&kube, &plan.node_name, &stamp, pods).await?;
        control_plane::healthy(&kube, ADMIN).await?;
    }
    kube.state.burn(NOTE).map_err(failed(STEP, "forget the renewal"))?;
    Ok(kube.done())
}

async fn certs_renew(kube: &Kube<'_>) -> Result<(), Failure> {
    kube.may_go_on(STEP)?;
    kube.cx.step_began(STEP, 1);
    let since = Instant::now();
    let renew = ["certs", "renew", "all"];
    let said = kube.kubeadm(STEP, &renew, RENEW).await?;
    if said.code != Some(0) {
        return Err(refused(STEP, &Command::new(kubeadm(kube.host()), renew), &said));
    }
    kube.made(STEP, "kubeadm certs renew all", "certificates of this control plane end soon", since);
    Ok(())
}

/// Gives every static pod that uses certificates another annotation; how many there are.
fn restart(kube: &Kube<'_>, stamp: &str) -> Result<usize, Failure> {
    let (since, mut pods, mut changed) = (Instant::now(), 0, false);
    for name in kube.host().list(MANIFESTS).map_err(failed(STEP, &format!("list {MANIFESTS}")))? {
        let path = format!("{MANIFESTS}/{name}");
        let is_manifest = !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        let text =
            if is_manifest { kube.host().text(&path).map_err(failed(STEP, &format!("read {path}")))? } else { None };
        let Some(text) = text.filter(|text| text.contains("/etc/kubernetes/")) else { continue };
        let Some(wanted) = annotated(&text, MARK, stamp) else {
            kube.cx.warn(
                STEP,
                &format!("{path} is not of a form that is known: restart its pod, it holds the certificates of before"),
            );
            continue;
        };
        pods += 1;
        if wanted != text {
            kube.host()
                .write(&path, wanted.as_bytes(), Access::PRIVATE)
                .map_err(failed(STEP, &format!("write {path}")))?;
            changed = true;
        }
    }
    if changed {
        kube.made(STEP, "restart the static pods", "they hold the certificates of before", since);
    }
    Ok(pods)
}

/// A manifest with an annotation of ours. kubeadm's is YAML, two blanks a level; kube-vip's is JSON.
pub(super) fn annotated(manifest: &str, mark: &str, stamp: &str) -> Option<String> {
    if manifest.trim_start().starts_with('{') {
        let mut pod: Value = serde_json::from_str(manifest).ok()?;
        let annotations = pod.get_mut("metadata")?.as_object_mut()?.entry("annotations").or_insert_with(|| json!({}));
        annotations.as_object_mut()?.insert(mark.to_owned(), stamp.into());
        return Some(format!("{pod:#}\n"));
    }
    let mut lines: Vec<&str> = manifest.lines().filter(|line| !line.trim_start().starts_with(mark)).collect();
    let ours = format!("    {mark}: \"{stamp}\"");
    let first = lines.iter().position(|line| *line == "metadata:")? + 1;
    let mut inside = lines.iter().skip(first).take_while(|line| line.starts_with(' '));
    match inside.position(|line| *line == "  annotations:") {
        Some(at) => lines.insert(first + at + 1, &ours),
        None => drop(lines.splice(first..first, ["  annotations:", &ours])),
    }
    Some(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// Waits until so many pods with the annotation are ready on this node.
async fn taken(kube: &Kube<'_>, node_name: &str, stamp: &str, wanted: usize) -> Result<(), Failure> {
    let until = tokio::time::Instant::now() + RESTART;
    let here = static_pods::on(node_name);
    loop {
        let pods = static_pods::ask(kube, (RESTARTED, ADMIN), &here).await?;
        let up = pods.map_or(0, |pods| anew(&pods, stamp));
        if up >= wanted {
            return Ok(());
        }
        if tokio::time::Instant::now() > until {
            let message =
                format!("after {} s {up} of {wanted} static pods are up with the new certificates", RESTART.as_secs());
            return Err(failure(RESTARTED, message));
        }
        kube.pause(RESTARTED, Duration::from_secs(2)).await?;
    }
}

/// How many pods are ready and have the annotation.
fn anew(pods: &[Pod], stamp: &str) -> usize {
    pods.iter().filter(|pod| pod.annotation(MARK) == Some(stamp) && pod.is_ready()).count()
}

/// The client certificate in a kubeconfig, PEM.
pub(super) fn embedded(kubeconfig: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(kubeconfig).ok()?;
    let data = text.lines().find_map(|line| line.trim().strip_prefix("client-certificate-data:"))?;
    STANDARD.decode(data.trim().trim_matches('"')).ok()
}

fn certificate(pem: &[u8]) -> Option<Certificate> {
    Certificate::read(&CertificateDer::from_pem_slice(pem).ok()?).ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Authority,
    Pem,
    Kubeconfig,
}

/// Their names, as kubeadm has them.
const FILES: [(&str, &str, Kind); 15] = [
    ("ca", "/etc/kubernetes/pki/ca.crt", Kind::Authority),
    ("etcd-ca", "/etc/kubernetes/pki/etcd/ca.crt", Kind::Authority),
    ("front-proxy-ca", "/etc/kubernetes/pki/front-proxy-ca.crt", Kind::Authority),
    ("apiserver", "/etc/kubernetes/pki/apiserver.crt", Kind::Pem),
    ("apiserver-etcd-client", "/etc/kubernetes/pki/apiserver-etcd-client.crt", Kind::Pem),
    ("apiserver-kubelet-client", "/etc/kubernetes/pki/apiserver-kubelet-client.crt", Kind::Pem),
    ("front-proxy-client", "/etc/kubernetes/pki/front-proxy-client.crt", Kind::Pem),
    ("etcd-server", "/etc/kubernetes/pki/etcd/server.crt", Kind::Pem),
    ("etcd-peer", "/etc/kubernetes/pki/etcd/peer.crt", Kind::Pem),
    ("etcd-healthcheck-client", "/etc/kubernetes/pki/etcd/healthcheck-client.crt", Kind::Pem),
    ("admin.conf", ADMIN, Kind::Kubeconfig),
    ("super-admin.conf", "/etc/kubernetes/super-admin.conf", Kind::Kubeconfig),
    ("controller-manager.conf", "/etc/kubernetes/controller-manager.conf", Kind::Kubeconfig),
    ("scheduler.conf", "/etc/kubernetes/scheduler.conf", Kind::Kubeconfig),
    (KUBELET, "/var/lib/kubelet/pki/kubelet-client-current.pem", Kind::Pem),
];
const KUBELET: &str = "kubelet";
const STEP: &str = "certificates";
const RESTARTED: &str = "restart";
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Annotation of a static pod: of which renewal its certificates are.
const MARK: &str = "groundwork/certificates";
const NOTE: &str = "cluster/renewal";
const OVER: &str = "certificates were over, so that nobody could be asked whether the cluster is well: it is when all control planes have new ones";
const RENEW: Duration = Duration::from_secs(300);
/// The kubelet looks at its manifests every 20 seconds, and an etcd that is restarted is away for a minute or so.
const RESTART: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
