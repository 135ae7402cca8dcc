//! What the provider holds of the operator's PKI, read from the provider block, its environment or a folder: an issuer's key, with which
//! it signs what it needs, or a ready client certificate, which may do no more than its role.
//!
//! Keys live in memory only. Client certificates that are signed here are minted per connection and live for hours; machine
//! certificates live for decades, because agents are recognised by their key and nothing of ours runs to renew them.
//! Making and explaining the files is `issue`'s and `show`'s work.

mod issue;
mod show;

pub(crate) use issue::{Issued, init, intermediate, issue};
pub(crate) use show::show;

use super::keys::Keys;
use super::restart::Restarts;
use super::{Error, Updates};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tf::Secret;
use trust::{Certificate, Role};

/// File names in `pki_dir`. The certificate's file holds the CAs and, of an issuer below them, its own certificate first.
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
const CLIENT: &str = "client.pem";
const CLIENT_KEY: &str = "client-key.pem";
/// A certificate or a key takes some KiB at most.
const LARGEST: u64 = 256 << 10;

/// Whom agents believe, and what we can show them.
pub(crate) struct Authority {
    /// The CAs' certificates.
    anchors: Vec<CertificateDer<'static>>,
    pem: String,
    holds: Holds,
    /// What is done about agents of other versions.
    pub(super) updates: Updates,
    /// Which keys machines were seen with.
    pub(super) keys: Keys,
    /// Which agents refuse connections just now.
    pub(super) restarts: Restarts,
}

enum Holds {
    Issuer(Box<Signer>),
    Client(Ready),
}

/// An issuer, with its key.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate and those between it and a CA; none if it is a CA itself.
    between: Vec<CertificateDer<'static>>,
    /// The highest role it may give.
    highest: Role,
    /// Nothing that it issues lives longer.
    end: SystemTime,
}

/// A client certificate, with its key.
struct Ready {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    role: Role,
    end: SystemTime,
    until: String,
}

/// The texts or files that the provider block or its environment give.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    pub(crate) ca_cert_pem: Option<String>,
    pub(crate) ca_key_pem: Option<Secret<String>>,
    pub(crate) client_cert_pem: Option<String>,
    pub(crate) client_key_pem: Option<Secret<String>>,
    pub(crate) pki_dir: Option<String>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Given {
    /// Whether nothing is given.
    pub(crate) const fn is_empty(&self) -> bool {
        let Self { ca_cert_pem, ca_key_pem, client_cert_pem, client_key_pem, pki_dir } = self;
        ca_cert_pem.is_none()
            && ca_key_pem.is_none()
            && client_cert_pem.is_none()
            && client_key_pem.is_none()
            && pki_dir.is_none()
    }

    /// What GROUNDWORK_AGENT_* give. `variable` reads one that is set to something.
    pub(crate) fn in_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| variable(&format!("GROUNDWORK_AGENT_{name}"));
        Self {
            ca_cert_pem: read("CA_CERT_PEM"),
            ca_key_pem: read("CA_KEY_PEM").map(Secret::new),
            client_cert_pem: read("CLIENT_CERT_PEM"),
            client_key_pem: read("CLIENT_KEY_PEM").map(Secret::new),
            pki_dir: read("PKI_DIR"),
        }
    }
}

impl Authority {
    /// From what is given: texts before a folder, and a CA key before a client certificate. `None` if nothing is.
    pub(crate) fn from_given(given: &Given) -> Result<Option<Self>, Error> {
        if given.is_empty() {
            return Ok(None);
        }
        let secret = |name: &'static str, given: &Option<Secret<String>>| {
            given.as_ref().map(|text| text_of(name, text.expose())).transpose()
        };
        let ca = given.ca_cert_pem.as_ref().map(|text| text_of("ca_cert_pem", text)).transpose()?;
        let ca_key = secret("ca_key_pem", &given.ca_key_pem)?;
        let client = given.client_cert_pem.as_ref().map(|text| text_of("client_cert_pem", text)).transpose()?;
        let client_key = secret("client_key_pem", &given.client_key_pem)?;
        match (ca, ca_key, client, client_key, &given.pki_dir) {
            (Some(ca), Some(key), ..) => Self::from_pem(&ca, &key).map(Some),
            (Some(ca), None, Some(client), Some(key), _) => Self::ready(&ca, &client, &key).map(Some),
            (None, None, None, None, Some(dir)) => Self::from_dir(Path::new(dir)).map(Some),
            (None, ..) => Err(bad("`ca_cert_pem` is missing: without it nobody knows whose machines they are")),
            (Some(_), None, Some(_), None, _) => Err(bad("`client_cert_pem` is given, and `client_key_pem` is not")),
            (Some(_), None, None, Some(_), _) => Err(bad("`client_key_pem` is given, and `client_cert_pem` is not")),
            (Some(_), None, None, None, _) => {
                Err(bad("`ca_cert_pem` is given, and neither `ca_key_pem` nor `client_cert_pem` with `client_key_pem`"))
            }
        }
    }

    /// An issuer, from the CAs' certificates and a key that belongs to one of them, or to an issuer below that stands beside them.
    pub(crate) fn from_pem(certificates_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let (anchors, others) = bundle(certificates_pem)?;
        let (_, key) = private_key("CA key", key_pem)?;
        let spki = key.subject_public_key_info();
        let has_key = |certificate: &&CertificateDer<'static>| trust::key_of(certificate).is_ok_and(|own| own == spki);
        let (own, between) = match (anchors.iter().find(has_key), others.iter().position(|other| has_key(&other))) {
            (Some(ca), _) => (ca, Vec::new()),
            (None, Some(at)) => {
                let mut between = others.clone();
                between.swap(0, at);
                (&others[at], between)
            }
            (None, None) => return Err(bad("the CA key does not belong to the certificate")),
        };
        let read = readable(own)?;
        let highest = if between.is_empty() { Role::Admin } else { read.ceiling().ok_or_else(|| bad(NO_CEILING))? };
        let issuer = Issuer::from_ca_cert_der(own, key)
            .map_err(|error| Error::BadAuthority(format!("the certificate is not a CA's: {error}")))?;
        let signer = Signer { issuer, between, highest, end: time(read.not_after) };
        Ok(Self::of(anchors, Holds::Issuer(Box::new(signer))))
    }

    /// A client certificate (with its issuers below the CA behind it) and its key.
    pub(crate) fn ready(ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let (anchors, _) = bundle(ca_pem)?;
        let chain = certificates("client certificate", certificate_pem)?;
        let (key, pair) = private_key("client key", key_pem)?;
        let spki = pair.subject_public_key_info();
        if !trust::key_of(&chain[0]).is_ok_and(|own| own == spki) {
            return Err(bad("the client key does not belong to the client certificate"));
        }
        let clock = trust::Clock { now: rustls::pki_types::UnixTime::now(), tolerance: None, may_be_slow: true };
        let seen = trust::verify(&chain, &anchors, trust::Usage::Client, clock);
        let seen = seen.map_err(|error| Error::BadAuthority(format!("client certificate: {error}")))?;
        let role = seen.role.ok_or_else(|| bad("the client certificate carries no role (`groundwork:role:…`)"))?;
        let read = readable(&chain[0])?;
        let (end, until) = (time(read.not_after), read.until().to_owned());
        Ok(Self::of(anchors, Holds::Client(Ready { chain, key, role, end, until })))
    }

    fn of(anchors: Vec<CertificateDer<'static>>, holds: Holds) -> Self {
        let pem = anchors.iter().map(trust::pem).collect();
        Self { anchors, pem, holds, updates: Updates::default(), keys: Keys::default(), restarts: Restarts::default() }
    }

    /// The same, and this about agents of other versions.
    pub(crate) fn with(self, updates: Updates) -> Self {
        Self { updates, ..self }
    }

    /// From the files that [`init`], [`intermediate`] or [`issue`] wrote.
    pub(crate) fn from_dir(dir: &Path) -> Result<Self, Error> {
        let read = |name| {
            let path = dir.join(name);
            read(&path).map_err(|source| Error::PkiFile { path, source })
        };
        let ca = read(CERTIFICATE)?;
        if !dir.join(KEY).exists() && dir.join(CLIENT).exists() {
            return Self::ready(&ca, &read(CLIENT)?, &read(CLIENT_KEY)?);
        }
        Self::from_pem(&ca, &read(KEY)?)
    }

    /// What GROUNDWORK_AGENT_* give.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        Self::from_given(&Given::in_environment(variable))
    }

    /// The CAs' certificates, as they go into seeds.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The CAs' certificates.
    pub(crate) fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.anchors
    }

    /// The highest role it can show an agent.
    pub(crate) const fn highest(&self) -> Role {
        match &self.holds {
            Holds::Issuer(signer) => signer.highest,
            Holds::Client(ready) => ready.role,
        }
    }

    /// Fails unless machines can be enrolled with it, which takes the key of an administrator's issuer.
    pub(crate) fn can_enrol(&self) -> Result<(), Error> {
        match &self.holds {
            Holds::Issuer(signer) if signer.highest == Role::Admin => Ok(()),
            Holds::Issuer(signer) => Err(Error::Ceiling { highest: signer.highest, needs: Role::Admin }),
            Holds::Client(ready) => Err(Error::NoKey { role: ready.role }),
        }
    }

    /// A certificate to show an agent that wants at least `role`: a fresh one, or the one that was given, with its key.
    pub(crate) fn client(&self, role: Role) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        match &self.holds {
            Holds::Issuer(signer) if !signer.highest.includes(role) => {
                Err(Error::Ceiling { highest: signer.highest, needs: role })
            }
            Holds::Issuer(signer) => signer
                .client(role, 12 * HOUR)
                .map(|(chain, key)| (chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())),
            Holds::Client(ready) if ready.end < SystemTime::now() => Err(Error::Over { until: ready.until.clone() }),
            Holds::Client(ready) if !ready.role.includes(role) => {
                Err(Error::LesserRole { has: ready.role, needs: role })
            }
            Holds::Client(ready) => Ok((ready.chain.clone(), ready.key.clone_key())),
        }
    }

    /// The certificate of a machine's key (P-256, DER SubjectPublicKeyInfo), carrying its SMBIOS UUID, and its issuers' behind it.
    /// That the machine holds the private key was proven by the TLS handshake.
    pub(crate) fn machine(&self, spki: &[u8], machine_uuid: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
        self.can_enrol()?;
        let Holds::Issuer(signer) = &self.holds else { return Err(Error::NoAuthority) };
        let key = MachineKey::of(spki).ok_or_else(|| bad("the machine's key is not P-256"))?;
        let mut params = named("groundwork machine");
        params.subject_alt_names = vec![uri(&trust::machine_name(machine_uuid))?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        signer.lives(&mut params, 30 * YEAR);
        let issued = params.signed_by(&key, &signer.issuer).map_err(cannot_sign)?;
        Ok(std::iter::once(issued.der().clone()).chain(signer.between.iter().cloned()).collect())
    }

    /// What of it comes near its end, or is over: its name in the provider block, and when.
    pub(crate) fn endings(&self) -> Vec<Ending> {
        let (name, own) = match &self.holds {
            Holds::Issuer(signer) => ("ca_cert_pem", signer.between.as_slice()),
            Holds::Client(ready) => ("client_cert_pem", ready.chain.as_slice()),
        };
        let named = own.iter().map(|certificate| (name, certificate));
        let anchors = self.anchors.iter().map(|certificate| ("ca_cert_pem", certificate));
        named.chain(anchors).filter_map(|(attribute, certificate)| Ending::of(attribute, certificate)).collect()
    }
}

/// A certificate that comes near its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The attribute that gives it.
    pub(crate) attribute: &'static str,
    /// Whose it is, as it says.
    pub(crate) subject: String,
    /// When, for people.
    pub(crate) until: String,
    /// Whether that has passed.
    pub(crate) is_over: bool,
}

impl Ending {
    /// Near its end is a certificate in the last quarter of its life, and at most thirty days before.
    fn of(attribute: &'static str, certificate: &CertificateDer<'_>) -> Option<Self> {
        let read = Certificate::read(certificate).ok()?;
        let (end, life) = (time(read.not_after), read.not_after.saturating_sub(read.not_before));
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        let near = (30 * DAY).min(Duration::from_secs(life / 4));
        let (subject, until) = (read.subject.escape_debug().to_string(), read.until().to_owned());
        (left < near).then(|| Self { attribute, subject, until, is_over: left.is_zero() })
    }
}

impl Signer {
    /// A client certificate of a role and its key. Its life begins a day ago: clocks differ.
    fn client(&self, role: Role, life: Duration) -> Result<(Vec<CertificateDer<'static>>, KeyPair), Error> {
        let key = KeyPair::generate().map_err(cannot_sign)?;
        let mut params = named(&format!("groundwork {}", role.word()));
        params.subject_alt_names = vec![uri(&role.uri())?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.lives(&mut params, life);
        let certificate = params.signed_by(&key, &self.issuer).map_err(cannot_sign)?;
        let chain = std::iter::once(certificate.der().clone()).chain(self.between.iter().cloned());
        Ok((chain.collect(), key))
    }

    fn lives(&self, params: &mut CertificateParams, life: Duration) {
        let now = SystemTime::now();
        params.not_before = (now - DAY).into();
        params.not_after = (now + life).min(self.end).into();
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

/// The CAs in a text, and the certificates of issuers below them. Without a certificate that issued itself all are CAs.
fn bundle(pem: &str) -> Result<(Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>), Error> {
    let all = certificates("certificate", pem)?;
    for certificate in &all {
        trust::anchor_is_usable(certificate).map_err(|error| Error::BadAuthority(error.to_string()))?;
    }
    let is_own = |certificate: &CertificateDer<'static>| readable(certificate).is_ok_and(|read| read.self_issued);
    let (anchors, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_own);
    if anchors.is_empty() { Ok((others, anchors)) } else { Ok((anchors, others)) }
}

/// One certificate at least.
fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        _ => Err(bad(&format!("the {what} is not PEM (-----BEGIN CERTIFICATE-----)"))),
    }
}

/// A private key as PKCS #8, or as Vault and OpenSSL write one unasked (`EC PRIVATE KEY`, `RSA PRIVATE KEY`).
fn private_key(what: &str, pem: &str) -> Result<(PrivateKeyDer<'static>, KeyPair), Error> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok();
    let read = key.and_then(|key| KeyPair::try_from(&key).ok().map(|pair| (key, pair)));
    read.ok_or_else(|| bad(&format!("the {what} is not a private key in PEM (-----BEGIN PRIVATE KEY-----)")))
}

fn readable(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::read(certificate).map_err(|error| Error::BadAuthority(error.to_string()))
}

/// A PEM text, or what stands in the file of that path. What is neither is not repeated: it may be half a key.
fn text_of(name: &str, text: &str) -> Result<String, Error> {
    if text.contains("-----BEGIN ") {
        return Ok(text.to_owned());
    }
    let path = PathBuf::from(text.trim());
    if text.trim().contains('\n') || !path.is_file() {
        return Err(bad(&format!("`{name}` holds neither PEM (-----BEGIN …) nor the path of a file that is there")));
    }
    read(&path).map_err(|source| Error::PkiFile { path, source })
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

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn bad(why: &str) -> Error {
    Error::BadAuthority(why.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "called as map_err(cannot_sign)")]
pub(super) fn cannot_sign(error: rcgen::Error) -> Error {
    Error::BadAuthority(error.to_string())
}

const NO_CEILING: &str =
    "the issuer's certificate names no highest role (`groundwork:highest-role:…`), and agents take nothing of it";
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[cfg(test)]
mod tests;
