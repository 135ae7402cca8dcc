//! What stands in a certificate, read and not verified.

use crate::chain::{NotTrusted, Usage};
use crate::role::Role;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use std::net::IpAddr;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate as it describes itself. Anybody can write one: nothing here is proof of anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is: `CN=groundwork operator`.
    pub subject: String,
    /// The subject, DER: what stands as issuer in what it issues.
    pub subject_der: Vec<u8>,
    /// Organizations in its subject, which are groups to Kubernetes.
    pub organizations: Vec<String>,
    /// Who issued it, as it says.
    pub issuer: String,
    /// Whether subject and issuer are the same, as in a CA of its own.
    pub self_issued: bool,
    /// Seconds since 1970 from which on it counts.
    pub not_before: u64,
    /// Seconds since 1970 until which it counts.
    pub not_after: u64,
    /// Whether it may issue others.
    pub is_ca: bool,
    /// How many issuers there may be between it and what is issued; `None`: any number.
    pub path_len: Option<usize>,
    /// URI names, which carry roles, the UUID of a machine and an issuer's highest role.
    pub uris: Vec<String>,
    /// Names and addresses of servers that it is for.
    pub hosts: Vec<String>,
    client: bool,
    server: bool,
    key: Vec<u8>,
    until: String,
    end: String,
}

/// A certificate as PEM.
#[must_use]
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> = (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// An address of four bytes or of sixteen.
fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.ok().map(|address| address.to_string())
}

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// [`NotTrusted::Unusable`]
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, NotTrusted> {
        let unreadable = || NotTrusted::Unusable("it cannot be read");
        let (_, read) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
        let basic = read.basic_constraints().map_err(|_| unreadable())?.map(|extension| extension.value);
        let usage = read.extended_key_usage().map_err(|_| unreadable())?.map(|extension| extension.value);
        let names = read.subject_alternative_name().map_err(|_| unreadable())?;
        let uri = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        };
        let host = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        };
        let named = |of: &dyn Fn(&GeneralName<'_>) -> Option<String>| -> Vec<String> {
            names.iter().flat_map(|names| names.value.general_names.iter().filter_map(of)).collect()
        };
        let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
        let end = read.validity().not_after;
        let when = end.to_datetime();
        Ok(Self {
            subject: read.subject().to_string(),
            subject_der: read.subject().as_raw().to_vec(),
            organizations: read
                .subject()
                .iter_organization()
                .filter_map(|o| o.as_str().ok().map(str::to_owned))
                .collect(),
            issuer: read.issuer().to_string(),
            self_issued: read.subject().as_raw() == read.issuer().as_raw(),
            not_before: seconds(read.validity().not_before.timestamp()),
            not_after: seconds(end.timestamp()),
            is_ca: basic.is_some_and(|basic| basic.ca),
            path_len: basic.and_then(|basic| basic.path_len_constraint).and_then(|most| most.try_into().ok()),
            uris: named(&uri),
            hosts: named(&host),
            client: usage.is_some_and(|usage| usage.client_auth),
            server: usage.is_some_and(|usage| usage.server_auth),
            key: read.public_key().raw.to_vec(),
            end: format!("{}T{:02}:{:02}:{:02}Z", when.date(), when.hour(), when.minute(), when.second()),
            until: format!("{} {:02}:{:02} UTC", when.date(), when.hour(), when.minute()),
        })
    }

    /// Whether it says that it is for this usage.
    #[must_use]
    pub fn is_for(&self, usage: Usage) -> bool {
        match usage {
            Usage::Client => self.client,
            Usage::Server => self.server,
        }
    }

    /// The role it carries, if any.
    ///
    /// # Errors
    /// [`NotTrusted::Unusable`] when it carries several: nobody could tell which one counts.
    pub fn role(&self) -> Result<Option<Role>, NotTrusted> {
        let mut roles = self.uris.iter().filter_map(|uri| Role::of_uri(uri));
        match (roles.next(), roles.next()) {
            (role, None) => Ok(role),
            (_, Some(_)) => Err(NotTrusted::Unusable("it carries several roles")),
        }
    }

    /// The highest role it may give, if it is an issuer that names one.
    #[must_use]
    pub fn ceiling(&self) -> Option<Role> {
        Role::lowest_ceiling(self.uris.iter().map(String::as_str))
    }

    /// When it ends, for people: `2026-11-27 21:00 UTC`.
    #[must_use]
    pub fn until(&self) -> &str {
        &self.until
    }

    /// When it ends, as RFC 3339 has it: `2026-11-27T21:00:00Z`.
    #[must_use]
    pub fn end(&self) -> &str {
        &self.end
    }

    /// Its public key, DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.key
    }

    /// Whether its key is this one: the content of a SubjectPublicKeyInfo, without the head of the sequence.
    pub(crate) fn has_key(&self, content: &[u8]) -> bool {
        self.key.ends_with(content)
    }
}
