//! What a cluster is reached with: its kubeconfig, its CA and its endpoint.

use super::control_planes::{self, Through};
use super::model::Cluster;
use super::upgrade;
use crate::agents::{Endpoint, Until};
use crate::context::Cx;
use crate::explain;
use tf::{Diagnostic, Diagnostics};
use trust::Role;

/// The kubeconfig holds no key: `kubectl` asks this binary for a credential, and that asks the agent.
pub(super) async fn fill(cx: &Cx, m: &mut Cluster, through: &Through, until: &Until) -> Result<(), Diagnostics> {
    let name = m.name.or("");
    let act = format!("read the kubeconfig of cluster {name}");
    let agent = cx.agents.connect(&through.endpoint, Role::Admin, until).await;
    let mut agent = agent.map_err(|error| explain::agent(&act, &error))?;
    let access = agent.kubeconfig().await.map_err(|error| explain::agent(&act, &error))?;
    let status = agent.cluster_status().await.map_err(|error| explain::agent(&act, &error))?;
    // The state's, which no answer of a machine changes; a new cluster, and one that was imported, have that of the status.
    let ours = m.ca_fingerprint.cloned().filter(|ours| !ours.is_empty());
    believed(&act, &access.ca_certificate, &ours.unwrap_or_else(|| status.cluster_id.clone()))?;
    let agents: Vec<Endpoint> = control_planes::known(&[m])?.into_iter().map(|plane| plane.endpoint).collect();
    m.kubeconfig.set(crate::kubeconfig::write(&name, &access, &agents));
    m.ca_certificate.set(access.ca_certificate);
    m.api_endpoint.set(access.endpoint);
    upgrade::note(cx.private(), m, &status);
    m.ca_fingerprint.set(status.cluster_id);
    Ok(())
}

/// Whoever uses the kubeconfig believes its CA: it must be the one that tells this cluster from others.
fn believed(act: &str, ca_certificate: &str, cluster_id: &str) -> Result<(), Diagnostic> {
    if crate::kubeconfig::pin(ca_certificate).as_deref() == Some(cluster_id) {
        return Ok(());
    }
    Err(Diagnostic::error(format!("Cannot {act}"))
        .happened("The CA certificate on the control plane is not the CA of this cluster.")
        .holds("The cluster is as it is, and no kubeconfig was taken over.")
        .next(
            "See who changed it there (`/etc/kubernetes/pki/ca.crt`, with K3s and RKE2 `server/tls/server-ca.crt` in their folder of `/var/lib/rancher`), \
             put the cluster's own back, and apply again.",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_with_another_authority_is_not_taken_over() {
        let ca = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap().pem()
        };
        let (ours, other) = (ca("ours"), ca("other"));
        let cluster_id = crate::kubeconfig::pin(&ours).unwrap();
        assert!(believed("read it", &ours, &cluster_id).is_ok());
        // Of several the first one counts, as it does for the cluster's id.
        assert!(believed("read it", &format!("{ours}{other}"), &cluster_id).is_ok());
        for text in [other.clone(), format!("{other}{ours}"), String::new()] {
            let refused = believed("read it", &text, &cluster_id).unwrap_err();
            assert!(refused.to_string().contains("is not the CA of this cluster"), "{refused}");
        }
    }
}
