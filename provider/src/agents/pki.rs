//! The operator's CA: made by `pki init`, read from the provider block, and the certificates signed with it.
//!
//! The CA's key lives in memory only. Client certificates are minted per connection and live for hours; machine certificates
//! live for decades, because agents are recognised by their key and nothing of ours runs to renew them.

use super::{Error, Updates};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};
use trust::Role;

/// File names in `pki_dir`.
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
/// A certificate or a key takes some KiB at most.
const LARGEST: u64 = 256 << 10;

/// The operator's CA, ready to sign.
pub(crate) struct Authority {
    pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// What is done about agents of other versions.
    pub(super) updates: Updates,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// From the two PEM texts of the provider block.
    pub(crate) fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| bad("the certificate is not PEM (-----BEGIN CERTIFICATE-----)"))?;
        trust::anchor_is_usable(&certificate).map_err(|error| Error::BadAuthority(error.to_string()))?;
        let key = KeyPair::from_pem(key_pem).map_err(|_| bad("the key is not a PKCS #8 private key in PEM"))?;
        let matches = trust::key_of(&certificate).is_ok_and(|spki| spki == key.subject_public_key_info());
        if !matches {
            return Err(bad("the key does not belong to the certificate"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| Error::BadAuthority(format!("the certificate is not a CA's: {error}")))?;
        Ok(Self { pem: certificate_pem.to_owned(), certificate, issuer, updates: Updates::default() })
    }

    /// The same, and this about agents of other versions.
    pub(crate) fn with(self, updates: Updates) -> Self {
        Self { updates, ..self }
    }

    /// From the files that [`init`] wrote.
    pub(crate) fn from_dir(dir: &Path) -> Result<Self, Error> {
        let read = |name| {
            let path = dir.join(name);
            read(&path).map_err(|source| Error::PkiFile { path, source })
        };
        Self::from_pem(&read(CERTIFICATE)?, &read(KEY)?)
    }

    /// What GROUNDWORK_AGENT_* give: both PEM texts, or else the folder. `variable` reads one that is set to something.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let pem = |name: &str| -> Result<Option<String>, Error> {
            let Some(text) = variable(name) else { return Ok(None) };
            if text.contains("-----BEGIN ") {
                return Ok(Some(text));
            }
            // A CI variable of type "file" holds a path.
            Err(bad(&format!("{name} holds no PEM text; for files set GROUNDWORK_AGENT_PKI_DIR to their folder")))
        };
        let (certificate, key) = ("GROUNDWORK_AGENT_CA_CERT_PEM", "GROUNDWORK_AGENT_CA_KEY_PEM");
        match (pem(certificate)?, pem(key)?, variable("GROUNDWORK_AGENT_PKI_DIR")) {
            (Some(certificate), Some(key), _) => Self::from_pem(&certificate, &key).map(Some),
            (Some(_), None, _) => Err(bad(&format!("{certificate} is set, and {key} is not"))),
            (None, Some(_), _) => Err(bad(&format!("{key} is set, and {certificate} is not"))),
            (None, None, Some(dir)) => Self::from_dir(Path::new(&dir)).map(Some),
            (None, None, None) => Ok(None),
        }
    }

    /// The public part, as it goes into seeds.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The public part.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A fresh client certificate of a role, with its key. Its life begins yesterday: clocks differ.
    pub(crate) fn client(&self, role: Role) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Error> {
        let key = KeyPair::generate().map_err(cannot_sign)?;
        let mut params = named(&format!("groundwork {}", role.word()));
        params.subject_alt_names = vec![uri(&role.uri())?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        lives(&mut params, DAY, 12 * HOUR);
        let certificate = params.signed_by(&key, &self.issuer).map_err(cannot_sign)?;
        Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    /// The certificate of a machine's key (P-256, DER SubjectPublicKeyInfo), carrying its SMBIOS UUID.
    /// That the machine holds the private key was proven by the TLS handshake.
    pub(crate) fn machine(&self, spki: &[u8], machine_uuid: &str) -> Result<CertificateDer<'static>, Error> {
        let key = MachineKey::of(spki).ok_or_else(|| bad("the machine's key is not P-256"))?;
        let mut params = named("groundwork machine");
        params.subject_alt_names = vec![uri(&trust::machine_name(machine_uuid))?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        lives(&mut params, DAY, 30 * YEAR);
        Ok(params.signed_by(&key, &self.issuer).map_err(cannot_sign)?.der().clone())
    }
}

/// The point of a P-256 key, cut out of its SubjectPublicKeyInfo.
struct MachineKey<'a>(&'a [u8]);

impl<'a> MachineKey<'a> {
    /// Every P-256 SubjectPublicKeyInfo with an uncompressed point begins alike. Source: RFC 5480, section 2.
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];

    fn of(spki: &'a [u8]) -> Option<Self> {
        spki.strip_prefix(&Self::HEAD).filter(|point| point.len() == 65).map(Self)
    }
}

impl PublicKeyData for MachineKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Makes a CA in `dir`: `ca.pem` and `ca-key.pem` (readable by the owner only). Existing files are never overwritten.
///
/// # Errors
/// A sentence for the person at the terminal.
pub(crate) fn init(dir: &Path) -> Result<(), String> {
    let (certificate, key) = make().map_err(|error| format!("cannot make a CA: {error}"))?;
    let said = |path: &Path| format!("cannot write {}", path.display());
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", said(dir)))?;
    for (name, mode, text) in [(KEY, 0o600, key), (CERTIFICATE, 0o644, certificate)] {
        let path = dir.join(name);
        let write = || -> std::io::Result<()> {
            let mut file = create_new(&path, mode)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| format!("{}: {error}", said(&path)))?;
    }
    Ok(())
}

fn make() -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = named("Groundwork agents");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    lives(&mut params, DAY, 30 * YEAR);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// The text of a small regular file: a pipe would be waited for, and a device has no end.
fn read(path: &Path) -> std::io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(std::io::Error::other(format!("it is longer than {} KiB", LARGEST >> 10)));
    }
    Ok(text)
}

#[cfg(unix)]
fn create_new(path: &Path, mode: u32) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(not(unix))]
fn create_new(path: &Path, _mode: u32) -> std::io::Result<std::fs::File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}

fn uri(text: &str) -> Result<SanType, Error> {
    text.try_into().map(SanType::URI).map_err(cannot_sign)
}

fn lives(params: &mut CertificateParams, before: Duration, after: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - before).into();
    params.not_after = (now + after).into();
}

fn bad(why: &str) -> Error {
    Error::BadAuthority(why.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "called as map_err(cannot_sign)")]
fn cannot_sign(error: rcgen::Error) -> Error {
    Error::BadAuthority(error.to_string())
}

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use trust::{Clock, Usage, verify};

    fn clock() -> Clock {
        Clock { now: UnixTime::now(), tolerance: Some(Duration::ZERO), may_be_slow: false }
    }

    #[test]
    fn init_writes_a_ca_that_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        let authority = Authority::from_dir(dir.path()).unwrap();
        let (certificate, _) = authority.client(Role::Operator).unwrap();
        let seen = verify(&[certificate], authority.certificate(), Usage::Client, clock()).unwrap();
        assert_eq!(seen.uris, ["groundwork:role:operator"]);
        assert!(init(dir.path()).unwrap_err().contains("ca-key.pem"), "never overwritten");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |name| dir.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!((mode("ca.pem"), mode("ca-key.pem")), (0o644, 0o600));
        }
    }

    #[test]
    fn a_machine_certificate_carries_the_uuid_and_the_key() {
        let (certificate, key) = make().unwrap();
        let authority = Authority::from_pem(&certificate, &key).unwrap();
        let machine = KeyPair::generate().unwrap();
        let spki = machine.subject_public_key_info();
        let issued = authority.machine(&spki, "ABCD").unwrap();
        let seen = verify(&[issued], authority.certificate(), Usage::Server, clock()).unwrap();
        assert_eq!((seen.uris, seen.public_key), (vec!["groundwork:machine:abcd".to_owned()], spki));
        assert!(authority.machine(b"rsa", "x").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_ca_is_said() {
        let ((certificate, key), (other, _)) = (make().unwrap(), make().unwrap());
        let said = |certificate: &str, key: &str| Authority::from_pem(certificate, key).unwrap_err().to_string();
        assert!(said("x", &key).contains("certificate is not PEM"));
        assert!(said(&certificate, "x").contains("key is not"));
        assert!(said(&other, &key).contains("does not belong"));
    }

    #[test]
    fn the_environment_gives_both_texts_or_a_folder() {
        let (certificate, key) = make().unwrap();
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        let folder = dir.path().display().to_string();
        let made = |cert: Option<&str>, key: Option<&str>, dir: Option<&str>| {
            Authority::from_environment(|name| {
                let value = match name {
                    "GROUNDWORK_AGENT_CA_CERT_PEM" => cert,
                    "GROUNDWORK_AGENT_CA_KEY_PEM" => key,
                    _ => dir,
                };
                value.map(str::to_owned)
            })
        };
        let pem = made(Some(&certificate), Some(&key), Some(&folder)).unwrap().unwrap();
        assert_eq!(pem.pem(), certificate, "the texts come before the folder");
        assert_ne!(made(None, None, Some(&folder)).unwrap().unwrap().pem(), certificate);
        assert!(made(None, None, None).unwrap().is_none());
        let said = |cert, key| made(cert, key, None).unwrap_err().to_string();
        assert!(said(Some(&certificate), None).contains("CA_KEY_PEM is not"));
        assert!(said(None, Some(&key)).contains("CA_CERT_PEM is not"));
        assert!(said(Some("/builds/ca.pem"), Some(&key)).contains("CA_CERT_PEM holds no PEM text"));
    }

    #[test]
    fn the_key_is_not_printed() {
        let (certificate, key) = make().unwrap();
        let authority = Authority::from_pem(&certificate, &key).unwrap();
        assert_eq!(format!("{authority:?}"), "Authority { .. }");
    }
}
