//! The operator's CAs, in force and on disk: one file, replaced as a whole, so that a machine that loses its power in between
//! believes the old ones or the new ones, and never nobody.

use crate::state::{State, StateError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use trust::pem;

/// All CAs that are believed.
#[derive(Debug, Clone)]
pub struct Anchors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    certificates: RwLock<Arc<[CertificateDer<'static>]>>,
}

impl Anchors {
    /// From the text of `file`: every certificate in it.
    ///
    /// # Errors
    /// Why they are no CAs; the text is not repeated.
    pub fn of_pem(file: &Path, text: &str) -> Result<Self, String> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let read = usable(read.map_err(|error| error.to_string())?)?;
        Ok(Self(Arc::new(Inner { file: file.to_owned(), certificates: RwLock::new(read.into()) })))
    }

    /// Those that are believed now.
    #[must_use]
    pub fn now(&self) -> Arc<[CertificateDer<'static>]> {
        Arc::clone(&self.0.certificates.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Believes these from now on, and after the next start.
    ///
    /// # Errors
    /// When they cannot be kept; the old ones then still count.
    pub fn replace(&self, certificates: Vec<CertificateDer<'static>>) -> Result<(), StateError> {
        let text: String = certificates.iter().map(pem).collect();
        let mut now = self.0.certificates.write().unwrap_or_else(PoisonError::into_inner);
        let (folder, name) = (self.0.file.parent(), self.0.file.file_name().and_then(|name| name.to_str()));
        State::open(folder.unwrap_or(Path::new("/")))?.write(name.unwrap_or_default(), &text)?;
        *now = certificates.into();
        Ok(())
    }
}

/// Certificates that can serve as CAs: one at least, and not so many that a handshake would take its time.
///
/// # Errors
/// Why not.
pub fn usable(certificates: Vec<CertificateDer<'static>>) -> Result<Vec<CertificateDer<'static>>, String> {
    if certificates.is_empty() || certificates.len() > MOST {
        return Err(format!("there must be 1 to {MOST} certificates, and there are {}", certificates.len()));
    }
    for certificate in &certificates {
        trust::anchor_is_usable(certificate).map_err(|error| error.to_string())?;
        if !trust::Certificate::read(certificate).is_ok_and(|read| read.is_ca) {
            return Err("one of the certificates is no CA's".to_owned());
        }
    }
    Ok(certificates)
}

const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    fn authority() -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn every_certificate_of_a_bundle_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let (one, other) = (authority(), authority());
        let anchors = Anchors::of_pem(&file, &(pem(&one) + &pem(&other))).unwrap();
        assert_eq!(*anchors.now(), [one.clone(), other.clone()]);
        anchors.replace(vec![other.clone()]).unwrap();
        assert_eq!(&*anchors.clone().now(), std::slice::from_ref(&other), "in force");
        let kept = std::fs::read_to_string(&file).unwrap();
        assert_eq!(*Anchors::of_pem(&file, &kept).unwrap().now(), [other], "and on disk");
    }

    #[test]
    fn what_is_no_ca_is_refused() {
        let leaf = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
        let file = Path::new("/nowhere/ca.pem");
        assert!(Anchors::of_pem(file, "").unwrap_err().contains("there are 0"));
        assert!(Anchors::of_pem(file, &leaf.cert.pem()).unwrap_err().contains("no CA's"));
        assert!(Anchors::of_pem(file, &pem(&authority()).repeat(9)).unwrap_err().contains("there are 9"));
    }
}
