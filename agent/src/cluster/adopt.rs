//! A cluster that somebody made with kubeadm by hand: what its machines tell of it, and one of them taken over.
//!
//! A machine is taken over by a note alone: from then on this agent upgrades, configures and resets it like one that it made. Whoever asks for
//! it names the cluster's CA. What an attempt of ours has left unfinished, and what kubeadm did not make, is not taken over.
//! Source: kubeadm, ConfigMap `kubeadm-config`; Kubernetes, node authorisation (`system:node:NAME`).

use super::evidence::{Attempt, Standing, standing};
use super::kube::traces;
use super::status::{ClusterError, cluster_id};
use super::{Distribution, configuration};
use crate::host::Host;
use crate::state::State;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use trust::Certificate;

/// What a node tells of its cluster. A worker knows its name alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundCluster {
    /// Its own name.
    pub node_name: String,
    /// `host:port` that the cluster was made with for several control planes; empty without.
    pub endpoint: String,
    /// Further names in the API server's certificate.
    pub certificate_names: Vec<String>,
    /// Network of the pods; empty without.
    pub pod_subnet: String,
    /// Network of the services.
    pub service_subnet: String,
}

/// Looks at a whole node that kubeadm made, whoever had it made.
///
/// # Errors
/// When it is none, or the API server of a control plane does not answer.
pub async fn look_at_found(host: &dyn Host) -> Result<FoundCluster, ClusterError> {
    let standing = whole(host)?;
    let node_name = node_name(host)?;
    if standing == Standing::Worker {
        return Ok(FoundCluster { node_name, ..FoundCluster::default() });
    }
    let noted = configuration::noted(host).await.map_err(ClusterError::Host)?.map_err(ClusterError::Silent)?;
    Ok(FoundCluster { node_name, ..read(&Value::Object(noted)) })
}

fn read(cluster: &Value) -> FoundCluster {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names = cluster["apiServer"]["certSANs"].as_array().into_iter().flatten();
    FoundCluster {
        node_name: String::new(),
        endpoint: text(&cluster["controlPlaneEndpoint"]),
        certificate_names: names.map(text).collect(),
        pod_subnet: text(&cluster["networking"]["podSubnet"]),
        service_subnet: text(&cluster["networking"]["serviceSubnet"]),
    }
}

/// Notes that this machine is a node of the cluster with this CA, and ours from now on. Repeating it changes nothing.
///
/// # Errors
/// When it is no whole node of that cluster, or something was begun on it and is not finished.
pub fn adopt(host: &dyn Host, state: &State, wanted: &str) -> Result<(), ClusterError> {
    whole(host)?;
    let here = cluster_id(host)?;
    if here != wanted {
        return Err(ClusterError::OtherNode { here });
    }
    match Attempt::last(state).map_err(ClusterError::State)? {
        Some(attempt) if attempt.cluster_id.is_none() => Err(ClusterError::NoWholeNode),
        Some(attempt) if attempt.has_made(&here) => Ok(()),
        _ => {
            let attempt = Attempt::new("adopt", &node_name(host)?).under(&here).finished(&here);
            attempt.note(state).map_err(ClusterError::State)
        }
    }
}

fn whole(host: &dyn Host) -> Result<Standing, ClusterError> {
    let own = Distribution::here(host).map_err(ClusterError::Host)?;
    let found = traces(host, own).map_err(ClusterError::Host)?;
    match standing(&found.iter().map(|(_, trace)| *trace).collect::<Vec<_>>()) {
        standing @ (Standing::ControlPlane | Standing::Worker) if own == Distribution::Kubeadm => Ok(standing),
        _ => Err(ClusterError::NoWholeNode),
    }
}

fn node_name(host: &dyn Host) -> Result<String, ClusterError> {
    let pem = host.read(CREDENTIAL).map_err(ClusterError::Host)?.unwrap_or_default();
    name_in(&pem).ok_or(ClusterError::NoWholeNode)
}

/// As the kubelet's certificate has it.
fn name_in(pem: &[u8]) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let subject = Certificate::read(&der).ok()?.subject;
    let name = subject.split(PREFIX).nth(1)?.split(',').next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The kubelet's certificate and key.
const CREDENTIAL: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const PREFIX: &str = "CN=system:node:";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_kubeadm_noted_is_read() {
        let noted = json!({
            "apiServer": { "certSANs": ["api.example.org", "192.0.2.10"] },
            "controlPlaneEndpoint": "api.example.org:6443",
            "networking": { "podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/12" },
        });
        let found = read(&noted);
        assert_eq!((found.endpoint.as_str(), found.pod_subnet.as_str()), ("api.example.org:6443", "10.244.0.0/16"));
        assert_eq!(found.certificate_names, ["api.example.org", "192.0.2.10"]);
        assert_eq!(read(&json!({ "networking": [] })), FoundCluster::default());
    }

    #[test]
    fn a_node_is_called_as_its_kubelets_certificate_says() {
        let pem = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.self_signed(&key).unwrap().pem()
        };
        assert_eq!(name_in(pem("system:node:cp-1").as_bytes()).as_deref(), Some("cp-1"));
        assert_eq!(name_in(pem("kubernetes-admin").as_bytes()), None);
        total::bytes("kubelet-credential", &[pem("system:node:cp-1").as_bytes()], name_in);
    }
}
