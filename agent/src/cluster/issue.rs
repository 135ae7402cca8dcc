//! A client certificate of a cluster's CA, written out: what kubeadm makes for its own users, with any number of groups.
//!
//! Source: RFC 5280, section 4; Kubernetes reads the user from `CN` and the groups from each `O`. The library that makes our other
//! certificates has one value for each part of a name, and keeps no CA's name to the byte.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SigningKey as _};
use std::time::SystemTime;
use yasna::models::{GeneralizedTime, ObjectIdentifier, UTCTime};
use yasna::{DERWriter, Tag};

/// A CA: its name, DER, and its key.
pub(super) struct Issuer<'a> {
    pub(super) name: &'a [u8],
    pub(super) key: &'a KeyPair,
}

/// What is to stand in a certificate.
pub(super) struct Wanted<'a> {
    pub(super) user: &'a str,
    pub(super) groups: &'a [String],
    /// SubjectPublicKeyInfo, DER.
    pub(super) public_key: &'a [u8],
    pub(super) life: [SystemTime; 2],
    pub(super) serial: [u8; 16],
}

/// The certificate, DER.
///
/// # Errors
/// For a key of a kind that no kubeadm makes, or one that does not sign.
pub(super) fn issue(issuer: &Issuer<'_>, wanted: &Wanted<'_>) -> Result<Vec<u8>, String> {
    let algorithm = algorithm(issuer.key).ok_or("the CA's key is neither RSA nor of P-256 or P-384")?;
    let body = yasna::construct_der(|writer| body(writer, issuer, wanted, algorithm));
    let signature = issuer.key.sign(&body).map_err(|error| error.to_string())?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&body);
            identifier(writer.next(), algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    }))
}

fn body(writer: DERWriter<'_>, issuer: &Issuer<'_>, wanted: &Wanted<'_>, algorithm: Algorithm) {
    writer.write_sequence(|writer| {
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(VERSION_3));
        writer.next().write_bigint_bytes(&wanted.serial, true);
        identifier(writer.next(), algorithm);
        writer.next().write_der(issuer.name);
        writer.next().write_sequence(|writer| {
            for moment in wanted.life {
                time(writer.next(), moment);
            }
        });
        writer.next().write_sequence(|writer| {
            let groups = wanted.groups.iter().map(|group| (ORGANIZATION, group.as_str()));
            for (kind, value) in groups.chain([(COMMON_NAME, wanted.user)]) {
                writer.next().write_set(|writer| {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&ObjectIdentifier::from_slice(kind));
                        writer.next().write_utf8_string(value);
                    });
                });
            }
        });
        writer.next().write_der(wanted.public_key);
        writer.next().write_tagged(Tag::context(3), extensions);
    });
}

/// As kubeadm has them: not a CA, for signatures, for clients.
fn extensions(writer: DERWriter<'_>) {
    let no_ca = yasna::construct_der(|writer| writer.write_sequence(|_| ()));
    let signatures = yasna::construct_der(|writer| writer.write_bitvec_bytes(&[0b1000_0000], 1));
    let clients = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| writer.next().write_oid(&ObjectIdentifier::from_slice(CLIENT_AUTH)));
    });
    let all: [(&[u64], bool, Vec<u8>); 3] =
        [(BASIC_CONSTRAINTS, true, no_ca), (KEY_USAGE, true, signatures), (EXTENDED_KEY_USAGE, false, clients)];
    writer.write_sequence(|writer| {
        for (kind, critical, value) in &all {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&ObjectIdentifier::from_slice(kind));
                if *critical {
                    writer.next().write_bool(true);
                }
                writer.next().write_bytes(value);
            });
        }
    });
}

/// Years that UTCTime has no room for are written out. Source: RFC 5280, section 4.1.2.5.
fn time(writer: DERWriter<'_>, moment: SystemTime) {
    let general = GeneralizedTime::from_datetime(moment.into());
    if general.datetime().year() < 2050 {
        writer.write_utctime(&UTCTime::from_datetime(moment.into()));
    } else {
        writer.write_generalized_time(&general);
    }
}

/// Name of a signature's algorithm, and whether its parameters are the null that RSA wants.
type Algorithm = (&'static [u64], bool);

fn algorithm(key: &KeyPair) -> Option<Algorithm> {
    let known = [
        (&PKCS_RSA_SHA256, (RSA_SHA256, true)),
        (&PKCS_ECDSA_P256_SHA256, (ECDSA_SHA256, false)),
        (&PKCS_ECDSA_P384_SHA384, (ECDSA_SHA384, false)),
    ];
    known.into_iter().find(|(own, _)| *own == key.algorithm()).map(|(_, algorithm)| algorithm)
}

fn identifier(writer: DERWriter<'_>, (name, null): Algorithm) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(name));
        if null {
            writer.next().write_null();
        }
    });
}

const VERSION_3: u8 = 2;
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
const RSA_SHA256: &[u64] = &[1, 2, 840, 113_549, 1, 1, 11];
const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10_045, 4, 3, 2];
const ECDSA_SHA384: &[u64] = &[1, 2, 840, 10_045, 4, 3, 3];
