//! Mutual TLS 1.3: who gets in.
//!
//! From the first second on only certificates of the operator's CAs are accepted, and only those that carry a role that
//! their issuers may give. There is no resumption: every connection is authenticated anew, and its exporter is its own.

use crate::anchors::Anchors;
use crate::clock::Floor;
use crate::identity::{Identity, Standing};
use crate::tally::Tally;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use std::sync::{Arc, PoisonError, RwLock};
use trust::{NotTrusted, Role, Usage};

/// The certificate that the agent presents: its own until it is enrolled, the operator's from then on.
#[derive(Debug)]
pub struct Presented(RwLock<Arc<CertifiedKey>>);

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The agent's key or the versions on offer.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    /// The certificate that the agent makes for itself.
    #[error("no certificate can be made for the agent's key")]
    SelfSigned(#[source] rcgen::Error),
}

impl Presented {
    /// What the identity has to present.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        let chain = match &identity.standing {
            Standing::Enrolled(chain) => identity.presented(chain),
            Standing::Unknown | Standing::Waiting(_) => {
                let params = rcgen::CertificateParams::default();
                identity.presented(&[params.self_signed(&identity.key).map_err(TlsError::SelfSigned)?.der().clone()])
            }
        };
        Ok(Self(RwLock::new(Arc::new(certified(chain, &identity.key)?))))
    }

    /// Presents what the identity has now from the next connection on.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn replace(&self, identity: &Identity) -> Result<(), TlsError> {
        let Self(certified) = Self::new(identity)?;
        let certified = certified.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &rcgen::KeyPair) -> Result<CertifiedKey, TlsError> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(TlsError::Setup)?;
    Ok(CertifiedKey::new(chain, key))
}

/// Whether the agent is enrolled, asked at every handshake.
pub type IsEnrolled = Arc<dyn Fn() -> bool + Send + Sync>;

/// The server's side of every handshake.
///
/// # Errors
/// When rustls cannot offer TLS 1.3.
pub fn config(
    anchors: Anchors,
    presented: Arc<Presented>,
    clock: Arc<Floor>,
    is_enrolled: IsEnrolled,
) -> Result<ServerConfig, TlsError> {
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let clients = Clients { anchors, clock, is_enrolled, crypto: Arc::clone(&crypto), refused: Tally::default() };
    let mut config = ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(presented);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Accepts clients that the operator's CA signed and that carry a role.
struct Clients {
    anchors: Anchors,
    clock: Arc<Floor>,
    is_enrolled: IsEnrolled,
    crypto: Arc<CryptoProvider>,
    refused: Tally,
}

impl Clients {
    /// Whoever presents a certificate chooses what stands in it: `why` is in our words.
    fn refused(&self, why: &str) {
        if let Some(times) = self.refused.count() {
            tracing::warn!(why, times, "clients' certificates were refused");
        }
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain: Vec<_> = std::iter::once(certificate).chain(between).cloned().collect();
        let clock = self.clock.clock((self.is_enrolled)());
        let seen = trust::verify(&chain, &self.anchors.now(), Usage::Client, clock).map_err(|error| {
            self.refused(&error.to_string());
            rustls::Error::InvalidCertificate(refusal(&error))
        })?;
        if seen.role.is_none() {
            self.refused("the certificate carries no role");
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.crypto.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}

/// The role that a client's certificate carries, once its handshake was verified.
pub(crate) fn role(certificate: &CertificateDer<'_>) -> Option<Role> {
    trust::Certificate::read(certificate).ok()?.role().ok()?
}

/// The alert by which the client learns why: another CA, a wrong clock, or something else.
fn refusal(error: &NotTrusted) -> CertificateError {
    match error {
        NotTrusted::OtherIssuer => CertificateError::UnknownIssuer,
        NotTrusted::Expired { .. } => CertificateError::Expired,
        NotTrusted::NotYetValid { .. } => CertificateError::NotValidYet,
        NotTrusted::OtherUsage => CertificateError::InvalidPurpose,
        NotTrusted::AboveCeiling => CertificateError::ApplicationVerificationFailure,
        NotTrusted::Unusable(_) => CertificateError::BadEncoding,
    }
}
