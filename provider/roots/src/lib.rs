//! Whom this computer believes to be a server: the CAs of the system's bundle and Mozilla's, or those that `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name, and then no others.
//!
//! The HTTP client calls this crate by the name and the functions of the one that it was written for, `rustls-platform-verifier` 0.7.
//! That one asks macOS and Windows through frameworks of theirs; this one reads files, the same way everywhere.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Judges servers by the roots of this computer.
#[derive(Debug)]
pub struct Verifier(Arc<WebPkiServerVerifier>);

impl Verifier {
    /// By the roots as they are now.
    ///
    /// # Errors
    /// When `SSL_CERT_FILE` or `SSL_CERT_DIR` name something that holds no certificate.
    pub fn new(provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        Self::new_with_extra_roots([], provider)
    }

    /// The same, and by these certificates.
    ///
    /// # Errors
    /// As [`Verifier::new`].
    pub fn new_with_extra_roots(
        extra: impl IntoIterator<Item = CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = roots(|name| std::env::var_os(name), &BUNDLES.map(Path::new))?;
        for certificate in extra {
            roots.add(certificate)?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map(Self).map_err(|error| Error::General(error.to_string()))
    }
}

/// The roots, by the environment and the first of the bundles that is there.
fn roots(variable: impl Fn(&str) -> Option<OsString>, bundles: &[&Path]) -> Result<RootCertStore, Error> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let mut roots = RootCertStore::empty();
    let (file, folders) = (set(FILE), set(FOLDER));
    if let Some(file) = &file {
        named(&mut roots, FILE, [PathBuf::from(file)])?;
    }
    if let Some(folders) = &folders {
        named(&mut roots, FOLDER, std::env::split_paths(folders).flat_map(|folder| files(&folder)))?;
    }
    if file.is_none() && folders.is_none() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let bundle = bundles.iter().find_map(|path| std::fs::read(path).ok());
        // A bundle may hold what no verifier of today takes; the others count.
        roots.add_parsable_certificates(certificates(&bundle.unwrap_or_default()));
    }
    Ok(roots)
}

/// Adds what a variable names, which must be something.
fn named(roots: &mut RootCertStore, variable: &str, files: impl IntoIterator<Item = PathBuf>) -> Result<(), Error> {
    let mut added = 0;
    for file in files {
        let read = std::fs::read(&file);
        let bytes = read.map_err(|error| Error::General(format!("{variable}: {}: {error}", file.display())))?;
        added += roots.add_parsable_certificates(certificates(&bytes)).0;
    }
    if added == 0 { Err(Error::General(format!("{variable} names no certificate"))) } else { Ok(()) }
}

/// The regular files of a folder, links followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

fn certificates(pem: &[u8]) -> impl Iterator<Item = CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

const FILE: &str = "SSL_CERT_FILE";
const FOLDER: &str = "SSL_CERT_DIR";
/// Where systems keep all their CAs in one file: Debian, Alpine and Arch; Red Hat, old and new; SUSE; macOS and the BSDs.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.self_signed(&key).unwrap().pem()
    }

    #[expect(clippy::disallowed_methods, reason = "a scratch file of a test needs no atomicity")]
    fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn mozillas_and_the_first_bundle_that_is_there_count() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = file(folder.path(), "bundle", &format!("# ours\n{}{}", ca(), ca()));
        let other = file(folder.path(), "other", &ca());
        let missing = folder.path().join("missing");
        let mozillas = webpki_roots::TLS_SERVER_ROOTS.len();
        assert!(mozillas > 100);
        let count = |bundles: &[&Path]| roots(|_| None, bundles).unwrap().len();
        assert_eq!(count(&[&missing, &bundle, &other]), mozillas + 2);
        assert_eq!(count(&[&missing]), mozillas);
    }

    #[test]
    fn what_the_environment_names_counts_alone() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = file(folder.path(), "bundle", &ca());
        let own = file(folder.path(), "own", &ca());
        let by = |name: &'static str, path: &Path| {
            let path = path.as_os_str().to_owned();
            roots(move |asked| (asked == name).then(|| path.clone()), &[&bundle])
        };
        assert_eq!(by(FILE, &own).unwrap().len(), 1);
        assert_eq!(by(FOLDER, folder.path()).unwrap().len(), 2);
        let empty = file(folder.path(), "empty", "");
        assert!(by(FILE, &empty).unwrap_err().to_string().contains("SSL_CERT_FILE names no certificate"));
        let missing = by(FILE, &folder.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("SSL_CERT_FILE") && missing.contains("missing"), "{missing}");
    }
}
