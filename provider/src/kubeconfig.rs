//! Kubeconfigs: the administrator's without a secret in it, with the credential plugin that it names, and those of one run with their key.
//!
//! `kubectl` runs `terraform-provider-groundwork credential ADDRESS FINGERPRINT …`, which asks the agents of the control planes, one after
//! the other, for the administrator's certificate and key and prints them as an `ExecCredential` (client.authentication.k8s.io/v1).

use crate::agents::{Agent, Agents, Authority, Credential, Endpoint, Error, Kubeconfig, Until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use std::time::Duration;
use tf::Secret;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trust::Role;

/// The kubeconfig of cluster `name`. JSON is YAML, and Kubernetes' tools read it as well.
pub(crate) fn write(name: &str, access: &Kubeconfig, agents: &[Endpoint]) -> String {
    let agents = agents.iter().flat_map(|agent| [agent.address.as_str(), &agent.fingerprint]);
    let arguments: Vec<&str> = ["credential"].into_iter().chain(agents).collect();
    let plugin = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "terraform-provider-groundwork",
        "args": arguments,
        "interactiveMode": "Never",
        "installHint": "Put the provider's binary on PATH and set GROUNDWORK_AGENT_PKI_DIR to the agents' CA.",
    }});
    document(name, &format!("{name}-admin"), (&access.endpoint, &access.ca_certificate), &plugin)
}

/// A kubeconfig with certificate and key in it.
pub(crate) fn with_key(name: &str, user: &str, access: &Credential) -> Secret<String> {
    let own = json!({
        "client-certificate-data": STANDARD.encode(&access.certificate),
        "client-key-data": STANDARD.encode(access.key.expose()),
    });
    Secret::new(document(name, user, (&access.endpoint, &access.ca_certificate), &own))
}

fn document(name: &str, user: &str, (endpoint, ca_certificate): (&str, &str), own: &Value) -> String {
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{ "name": name, "cluster": {
            "server": server(endpoint),
            "certificate-authority-data": STANDARD.encode(ca_certificate),
        }}],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": user } }],
        "users": [{ "name": user, "user": own }],
    });
    format!("{document:#}\n")
}

/// URL of the API server at `host:port`.
pub(crate) fn server(endpoint: &str) -> String {
    format!("https://{}", endpoint.trim_start_matches("https://"))
}

/// The `ExecCredential` by the first of these control planes' agents that gives one.
///
/// # Errors
/// What the last of them said, if none can be asked, or their kubeconfigs hold no certificate.
pub(crate) async fn credential(authority: Authority, endpoints: &[Endpoint]) -> Result<Value, Error> {
    let (until, agents) =
        (Until::new(Instant::now() + PATIENCE, &CancellationToken::new()), Agents::new(Some(authority)));
    let mut last = Error::BadEndpoint(String::new());
    for (at, endpoint) in endpoints.iter().enumerate() {
        // The next one is asked at once, and only the last may be restarting.
        let agent = match at + 1 < endpoints.len() {
            true => agents.connect_once(endpoint, Role::Admin, &until).await,
            false => agents.connect(endpoint, Role::Admin, &until).await,
        };
        match async { ask(agent?, &endpoint.address).await }.await {
            Ok(credential) => return Ok(credential),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask(mut agent: Agent, address: &str) -> Result<Value, Error> {
    let access = agent.kubeconfig().await?;
    let pem = |key: &str| {
        let missing = || Error::Refused {
            address: address.to_owned(),
            call: "Kubeconfig",
            message: format!("its kubeconfig has no {key}"),
        };
        decoded(&access.text, key).ok_or_else(missing)
    };
    Ok(json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {
            "clientCertificateData": pem("client-certificate-data")?,
            "clientKeyData": pem("client-key-data")?,
        },
    }))
}

/// The pin of the key of a cluster's CA, which tells clusters apart; `None` if it cannot be read.
pub(crate) fn pin(ca_certificate: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(ca_certificate.as_bytes()).ok()?;
    trust::key_of(&certificate).ok().map(|key| trust::Pin::of(&key).to_string())
}

/// The Base64 text that stands behind `key:` in a kubeconfig as kubeadm writes it, decoded.
fn decoded(kubeconfig: &str, key: &str) -> Option<String> {
    let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'))?;
    String::from_utf8(STANDARD.decode(line.trim().trim_matches('"')).ok()?).ok()
}

/// `kubectl` waits for this.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Kubeconfig {
        let key = STANDARD.encode("the key");
        Kubeconfig {
            text: format!("users:\n- user:\n    client-key-data: {key}\n"),
            ca_certificate: "ca".to_owned(),
            endpoint: "192.0.2.11:6443".to_owned(),
        }
    }

    #[test]
    fn a_clusters_ca_is_known_by_its_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let expected = trust::Pin::of(&trust::key_of(ca.der()).unwrap()).to_string();
        assert_eq!(pin(&ca.pem()), Some(expected));
        assert_eq!(pin("no certificate"), None);
    }

    #[test]
    fn the_kubeconfig_holds_no_key() {
        let agent = Endpoint { address: "192.0.2.11:7443".to_owned(), fingerprint: "sha256:00".to_owned() };
        let text = write("main", &access(), &[agent.clone(), agent]);
        assert!(!text.contains(&STANDARD.encode("the key")), "{text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["clusters"][0]["cluster"]["server"], "https://192.0.2.11:6443");
        let args = &document["users"][0]["user"]["exec"]["args"];
        assert_eq!((&args[1], &args[3]), (&json!("192.0.2.11:7443"), &json!("192.0.2.11:7443")));
    }

    #[test]
    fn a_key_is_read_from_the_line_that_kubeadm_writes() {
        assert_eq!(decoded(&access().text, "client-key-data").as_deref(), Some("the key"));
        assert_eq!(decoded(&access().text, "client-certificate-data"), None);
    }
}
