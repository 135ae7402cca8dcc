//! A passing access to a cluster: a key made here, and a certificate for it by the agent of a control plane.

use super::call::Agent;
use super::pki::cannot_sign;
use super::{Agents, Endpoint, Error, Until};
use agent_proto::v1 as wire;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::time::Duration;
use tf::Secret;
use trust::{Certificate, Role};

/// Who is to be known to Kubernetes, and for how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Pin of the cluster's CA.
    pub(crate) cluster_id: String,
    pub(crate) user: String,
    /// Empty: those of the administrator.
    pub(crate) groups: Vec<String>,
    pub(crate) ttl: Duration,
}

/// What opens a cluster for a while. Only the key is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// PEM
    pub(crate) certificate: String,
    /// PKCS #8, PEM
    pub(crate) key: Secret<String>,
    /// The cluster CA's, PEM.
    pub(crate) ca_certificate: String,
    /// `host:port` of the API server.
    pub(crate) endpoint: String,
    /// When the certificate ends, RFC 3339.
    pub(crate) expires: String,
}

/// A control plane by its name, and what it said.
pub(crate) type Refusal = (String, Error);

impl Agents {
    /// Has the first control plane that answers make a certificate, and tells which ones were passed over. The key never leaves this
    /// process.
    ///
    /// # Errors
    /// What each of them said. What is wrong here is said once: the others would be asked in vain.
    pub(crate) async fn credential(
        &self,
        control_planes: &[(String, Endpoint)],
        access: &Access,
        until: &Until,
    ) -> Result<(Credential, Vec<Refusal>), Vec<Refusal>> {
        let mut passed = Vec::new();
        for (at, (name, endpoint)) in control_planes.iter().enumerate() {
            // The next one is asked at once, and only the last may be restarting.
            let agent = match at + 1 < control_planes.len() {
                true => self.connect_once(endpoint, Role::Operator, until).await,
                false => self.connect(endpoint, Role::Operator, until).await,
            };
            match async { agent?.credential(access).await }.await {
                Ok(credential) => return Ok((credential, passed)),
                Err(error) if is_ours(&error) => return Err(vec![(name.clone(), error)]),
                Err(error) => passed.push((name.clone(), error)),
            }
        }
        Err(passed)
    }
}

/// Whether it is about what this provider holds or was told.
fn is_ours(error: &Error) -> bool {
    use Error::{BadAuthority, Ceiling, LesserRole, NoAuthority, Over, PkiFile, Stopped, UnknownAuthority};
    matches!(
        error,
        NoAuthority
            | UnknownAuthority
            | BadAuthority(_)
            | PkiFile { .. }
            | LesserRole { .. }
            | Ceiling { .. }
            | Over { .. }
            | Stopped
    )
}

impl Agent {
    async fn credential(&mut self, access: &Access) -> Result<Credential, Error> {
        let key = KeyPair::generate().map_err(cannot_sign)?;
        let request = wire::ClusterCredentialRequest {
            cluster_id: access.cluster_id.clone(),
            public_key: key.subject_public_key_info(),
            user: access.user.clone(),
            groups: access.groups.clone(),
            ttl_s: access.ttl.as_secs().try_into().unwrap_or(u32::MAX),
        };
        let said = self.0.ask(CALL, |mut client| async move { client.cluster_credential(request).await }).await?;
        let wire::ClusterCredentialReply { certificate, ca_certificate, endpoint } = said;
        let read = CertificateDer::from_pem_slice(certificate.as_bytes()).ok();
        let read = read.and_then(|der| Certificate::read(&der).ok());
        // A certificate for another key would be of no use to anybody.
        let own = read.filter(|read| read.public_key() == key.subject_public_key_info());
        let expires = own
            .map(|read| read.end().to_owned())
            .ok_or_else(|| self.0.odd(CALL, "it gave no certificate for this key"))?;
        Ok(Credential { certificate, key: Secret::new(key.serialize_pem()), ca_certificate, endpoint, expires })
    }
}

const CALL: &str = "ClusterCredential";
