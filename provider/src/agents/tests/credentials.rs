//! Access to a cluster for one run: made by a control plane that answers, for those who may.

use super::*;
use crate::agents::{Access, Credential};
use rcgen::{CertifiedIssuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use trust::Certificate;

/// Makes a control plane of a machine; the pin of its CA.
fn control_plane(agent: &Running) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    agent.host.put("/etc/kubernetes/pki/ca.crt", &ca.pem());
    agent.host.put("/etc/kubernetes/pki/ca.key", &ca.key().serialize_pem());
    agent.host.put("/etc/kubernetes/admin.conf", "clusters:\n- cluster:\n    server: https://192.0.2.11:6443\n");
    crate::kubeconfig::pin(&ca.pem()).unwrap()
}

fn access(cluster_id: &str) -> Access {
    let groups = vec!["example:a".to_owned(), "example:b".to_owned()];
    Access { cluster_id: cluster_id.to_owned(), user: "alice".to_owned(), groups, ttl: Duration::from_secs(300) }
}

fn named(name: &str, endpoint: &Endpoint) -> (String, Endpoint) {
    (name.to_owned(), endpoint.clone())
}

/// The certificate, or what each control plane said.
async fn asked(agents: &Agents, members: &[(String, Endpoint)], access: &Access) -> String {
    match agents.credential(members, access, &soon()).await {
        Ok((Credential { certificate, .. }, _)) => certificate,
        Err(all) => all.iter().map(|(name, error)| format!("{name}: {}\n", tf::chain(error))).collect(),
    }
}

#[tokio::test]
async fn a_control_plane_gives_a_certificate_for_a_key_that_it_never_sees() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let cluster_id = control_plane(&agent);
    let members = [named("cp-1", &endpoint)];
    let given = operator.agents.credential(&members, &access(&cluster_id), &soon()).await.unwrap().0;
    let der = CertificateDer::from_pem_slice(given.certificate.as_bytes()).unwrap();
    let read = Certificate::read(&der).unwrap();
    assert_eq!((read.organizations.join(" ").as_str(), given.expires.as_str()), ("example:a example:b", read.end()));
    assert!(KeyPair::from_pem(given.key.expose()).is_ok() && !format!("{given:?}").contains("PRIVATE"));
    assert_eq!(given.endpoint, "192.0.2.11:6443");
    let text = crate::kubeconfig::with_key("main", "alice", &given);
    let document: serde_json::Value = serde_json::from_str(text.expose()).unwrap();
    assert_eq!(document["users"][0]["user"]["exec"], serde_json::Value::Null);
    assert_eq!(document["contexts"][0]["context"]["user"], "alice");
}

#[tokio::test]
async fn a_control_plane_that_is_down_is_passed_over() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let cluster_id = control_plane(&agent);
    // Nobody listens there any more.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let down = Endpoint { address: free, ..endpoint.clone() };
    let members = [named("a", &down), named("b", &endpoint), named("c", &down)];
    let (_, passed) = operator.agents.credential(&members, &access(&cluster_id), &soon()).await.unwrap();
    let [(name, Error::Closed { .. })] = &passed[..] else { panic!("{passed:?}") };
    assert_eq!(name, "a");
    let none = operator.agents.credential(&members[..1], &access(&cluster_id), &soon()).await.unwrap_err();
    assert_eq!(none.len(), 1);
}

#[tokio::test]
async fn a_cluster_that_is_not_meant_and_a_machine_of_none_give_nothing() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let members = [named("cp-1", &endpoint)];
    let said = asked(&operator.agents, &members, &access("sha256:00")).await;
    assert!(said.contains("this machine is not a control plane"), "{said}");
    control_plane(&agent);
    let said = asked(&operator.agents, &members, &access("sha256:00")).await;
    assert!(said.contains("a control plane of another cluster"), "{said}");
    let said = asked(&operator.agents, &members, &Access { ttl: Duration::from_secs(86_401), ..access("x") }).await;
    assert!(said.contains("a day at most"), "{said}");
}

#[tokio::test]
async fn who_only_observes_is_refused_on_both_ends() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let cluster_id = control_plane(&agent);
    let members = [named("a", &endpoint), named("b", &endpoint)];
    let said = asked(&roles::holder(&operator, Role::Observer), &members, &access(&cluster_id)).await;
    assert!(said.starts_with("a: ") && said.contains("has the role observer, and this needs operator"), "{said}");
    assert!(!said.contains("b: "), "another would be asked in vain: {said}");
    // The agent does not take it either, whoever asks.
    let mut observer = operator.agents.connect(&endpoint, Role::Observer, &soon()).await.unwrap();
    let request = agent_proto::v1::ClusterCredentialRequest::default();
    let refused =
        observer.0.ask("ClusterCredential", |mut client| async move { client.cluster_credential(request).await });
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains("observer"), "{refused}");
    let said = asked(&roles::holder(&operator, Role::Operator), &members, &access(&cluster_id)).await;
    assert!(said.starts_with("-----BEGIN CERTIFICATE-----"), "{said}");
}
