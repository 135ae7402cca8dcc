//! Whom we believe to be the Proxmox VE server: a CA, a pinned certificate, or, on request, anybody.

use std::sync::Arc;

use ::aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::misconfigured::ConfigError;
use crate::unsent::OtherFingerprint;

/// How the server's certificate is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// By the CAs of the system.
    #[default]
    System,
    /// By these CAs, in PEM. A node's own CA is `/etc/pve/pve-root-ca.pem`.
    Ca(String),
    /// By its SHA-256 fingerprint: 32 hex pairs, with or without colons.
    Fingerprint(String),
    /// Not at all.
    Nobody,
}

impl Trust {
    /// A TLS configuration; `None` leaves it to the HTTP client, which knows the system's CAs.
    pub(crate) fn client_config(&self) -> Result<Option<ClientConfig>, ConfigError> {
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::System => return Ok(None),
            Self::Ca(pem) => by_ca(pem)?,
            Self::Fingerprint(text) => Arc::new(Pinned { expected: Some(fingerprint(text)?), known: algorithms() }),
            Self::Nobody => Arc::new(Pinned { expected: None, known: algorithms() }),
        };
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| ConfigError::Tls(error.to_string()))?;
        let config = builder.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Some(config.with_no_client_auth()))
    }
}

fn by_ca(pem: &str) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
    let bad = |why: String| ConfigError::Ca(why);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    Ok(verifier.map_err(|error| bad(error.to_string()))?)
}

fn fingerprint(text: &str) -> Result<[u8; 32], ConfigError> {
    let bad = || ConfigError::Fingerprint(text.to_owned());
    let digits: String = text.trim().chars().filter(|c| *c != ':').collect();
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(bad());
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let pair = digits.get(2 * at..2 * at + 2).ok_or_else(bad)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
    }
    Ok(bytes)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

/// Accepts one certificate, or every one. That the server holds its key is checked in both cases.
#[derive(Debug)]
struct Pinned {
    expected: Option<[u8; 32]>,
    known: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = sha256(certificate);
        match self.expected {
            Some(expected) if expected != found => {
                let why = CertificateError::Other(OtherError(Arc::new(OtherFingerprint { found, expected })));
                Err(Error::InvalidCertificate(why))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_schemes()
    }
}

fn sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let value = digest::digest(&digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(value.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons() {
        let plain = "BCFA57D82EB254F159AFFD21A9D7E035968EA5356A94364EB29E000201FBFAA8";
        let pairs: Vec<&str> = (0..32).map(|at| &plain[2 * at..2 * at + 2]).collect();
        assert_eq!(fingerprint(plain).unwrap(), fingerprint(&pairs.join(":").to_lowercase()).unwrap());
        assert!(fingerprint("BC:FA").is_err());
        assert!(fingerprint(&"é".repeat(32)).is_err());
    }

    #[test]
    fn a_ca_without_a_certificate_is_refused() {
        assert!(Trust::Ca("nothing".to_owned()).client_config().is_err());
        assert!(Trust::System.client_config().unwrap().is_none());
    }
}
