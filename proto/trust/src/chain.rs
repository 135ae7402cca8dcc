//! Whether a certificate chains to one of the operator's CAs, and what its issuers allow it.
//!
//! An issuer between the CA and a certificate must name the highest role below it ([`Role::ceiling_uri`]): one that names none gives none.
//! A machine's certificate is worth as much as an administrator's: whoever may sign one can pose as a machine that is looked for.
//!
//! Dates count only as far as the clock can be trusted: a machine that has just booted may be years off, and neither the chain
//! nor the key that signs the handshake depends on the time. How far to trust it is the caller's [`Clock`].
//!
//! What is said about a certificate is never taken from it: anybody can present one.

use crate::certificate::Certificate;
use crate::role::Role;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, VerifiedPath,
    anchor_from_trusted_cert,
};

/// What a certificate is presented for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// By a provider, to an agent.
    Client,
    /// By an agent, to a provider.
    Server,
}

/// What time it is and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Best knowledge of the present.
    pub now: UnixTime,
    /// How far off that may be; `None` if dates are not to be looked at.
    pub tolerance: Option<Duration>,
    /// Whether the clock may stand in the past by any time: a certificate from its future then tells of the time, not of a fraud.
    pub may_be_slow: bool,
}

/// A certificate that chains to the CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// URI names, which carry the role of a client and the UUID of a machine.
    pub uris: Vec<String>,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// What its holder may do, if it is a client's that names one role.
    pub role: Option<Role>,
}

/// Why a certificate does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// Of another CA, or of none.
    #[error("the certificate was not issued by the expected CA")]
    OtherIssuer,
    /// Its life is over, by this clock.
    #[error("the certificate expired {by_s} s ago by this clock")]
    Expired {
        /// Seconds since.
        by_s: u64,
    },
    /// Its life has not begun, by this clock.
    #[error("the certificate is valid only in {by_s} s by this clock")]
    NotYetValid {
        /// Seconds until.
        by_s: u64,
    },
    /// Of our CA, and made for something else.
    #[error("the certificate was made for another usage")]
    OtherUsage,
    /// Of our CA, by an issuer that may not give so much.
    #[error("the certificate gives more than its issuer may")]
    AboveCeiling,
    /// Cannot be read, or breaks a rule.
    #[error("the certificate is not usable: {0}")]
    Unusable(&'static str),
}

/// Verifies that `chain` (end entity first) leads to one of `anchors`, was made for `usage`, and gives no more than its issuers may.
///
/// # Errors
/// [`NotTrusted`]; trying again helps only with another certificate or clock.
pub fn verify(
    chain: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    usage: Usage,
    clock: Clock,
) -> Result<Verified, NotTrusted> {
    let (der, between) = chain.split_first().ok_or(NotTrusted::Unusable("there is none"))?;
    let leaf = EndEntityCert::try_from(der).map_err(|error| refused(&error))?;
    let trusted: Vec<TrustAnchor<'_>> = anchors
        .iter()
        .map(|der| anchor_from_trusted_cert(der).map_err(|error| refused(&error)))
        .collect::<Result<_, _>>()?;
    let between: Vec<CertificateDer<'_>> = between.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
    let path = Path { leaf: &leaf, between: &between, anchors: &trusted };
    // The issuer first: what a stranger's certificate says of itself is not worth a look.
    let at = path.is_issued(clock)?;
    let found = path.verify(at, key_usage(usage)).map_err(|error| refused(&error))?;
    let own = Certificate::read(der)?;
    // webpki takes a certificate that says nothing of its usage for one of every usage.
    if !own.is_for(usage) {
        return Err(NotTrusted::OtherUsage);
    }
    let role = own.role()?;
    let gives = match usage {
        Usage::Client => role,
        Usage::Server => Some(Role::Admin),
    };
    within_limits(&found, anchors, gives)?;
    Ok(Verified { uris: own.uris, public_key: leaf.subject_public_key_info().as_ref().to_vec(), role })
}

/// What the issuers on the way to the CA, and the CA itself, say about those below them.
fn within_limits(
    path: &VerifiedPath<'_>,
    anchors: &[CertificateDer<'_>],
    gives: Option<Role>,
) -> Result<(), NotTrusted> {
    let mut issuers = 0;
    for issuer in path.intermediate_certificates() {
        issuers += 1;
        let highest = Role::lowest_ceiling(issuer.valid_uri_names());
        if gives.is_some_and(|role| !highest.is_some_and(|highest| highest.includes(role))) {
            return Err(NotTrusted::AboveCeiling);
        }
    }
    // webpki holds issuers to their `pathlen`, and the CA not.
    let key = path.anchor().subject_public_key_info.as_ref();
    let ca = anchors.iter().filter_map(|der| Certificate::read(der).ok()).find(|ca| ca.has_key(key));
    let too_long = ca.and_then(|ca| ca.path_len).is_some_and(|most| issuers > most);
    if too_long { Err(refused(&Error::PathLenConstraintViolated)) } else { Ok(()) }
}

/// From an end entity to the CA.
struct Path<'a> {
    leaf: &'a EndEntityCert<'a>,
    between: &'a [CertificateDer<'a>],
    anchors: &'a [TrustAnchor<'a>],
}

impl Path<'_> {
    /// Whether the path leads to the CA, whatever it is for, and at what time that holds.
    fn is_issued(&self, clock: Clock) -> Result<UnixTime, NotTrusted> {
        let mut at = clock.now;
        // Each round moves the time into one more certificate's life, so rounds are as many as certificates.
        for _ in 0..=self.between.len() {
            match self.verify(at, AnyUsage).map(drop) {
                Ok(()) => return Ok(at),
                Err(Error::CertExpired { not_after, .. }) => at = within(clock, not_after)?,
                Err(Error::CertNotValidYet { not_before, .. }) => at = within(clock, not_before)?,
                Err(error) => return Err(refused(&error)),
            }
        }
        self.verify(at, AnyUsage).map(|_| at).map_err(|error| refused(&error))
    }

    fn verify(&self, at: UnixTime, usage: impl ExtendedKeyUsageValidator) -> Result<VerifiedPath<'_>, Error> {
        let Self { leaf, between, anchors } = self;
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, anchors, between, at, usage, None, None)
    }
}

/// Content with any usage: for a look at the issuer alone.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        Ok(())
    }
}

/// Whether `anchor` can serve as a CA at all.
///
/// # Errors
/// [`NotTrusted::Unusable`] when it cannot be read.
pub fn anchor_is_usable(anchor: &CertificateDer<'_>) -> Result<(), NotTrusted> {
    anchor_from_trusted_cert(anchor).map(drop).map_err(|error| refused(&error))
}

/// The public key in a certificate, DER SubjectPublicKeyInfo. Nothing is verified.
///
/// # Errors
/// [`NotTrusted::Unusable`] when it cannot be read.
pub fn key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, NotTrusted> {
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| refused(&error))?;
    Ok(certificate.subject_public_key_info().as_ref().to_vec())
}

/// `edge` itself if the clock may be that far off.
fn within(clock: Clock, edge: UnixTime) -> Result<UnixTime, NotTrusted> {
    let (now, edge_s) = (clock.now.as_secs(), edge.as_secs());
    let by_s = now.abs_diff(edge_s);
    match clock.tolerance {
        None => Ok(edge),
        Some(tolerance) if by_s <= tolerance.as_secs() => Ok(edge),
        Some(_) if now < edge_s && clock.may_be_slow => Ok(edge),
        Some(_) if now > edge_s => Err(NotTrusted::Expired { by_s }),
        Some(_) => Err(NotTrusted::NotYetValid { by_s }),
    }
}

fn key_usage(usage: Usage) -> KeyUsage {
    match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    }
}

/// In our words: webpki's own repeat what stands in the certificate, which may be as long as its owner likes.
fn refused(error: &Error) -> NotTrusted {
    match error {
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => NotTrusted::OtherIssuer,
        Error::RequiredEkuNotFoundContext(_) => NotTrusted::OtherUsage,
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => {
            NotTrusted::Unusable("its dates are contradictory")
        }
        Error::CaUsedAsEndEntity => NotTrusted::Unusable("it is a CA's own"),
        Error::EndEntityUsedAsCa => NotTrusted::Unusable("its issuer is no CA"),
        Error::PathLenConstraintViolated
        | Error::NameConstraintViolation
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => {
            NotTrusted::Unusable("the way to its issuer is too long, or goes against an issuer's limits")
        }
        Error::UnsupportedSignatureAlgorithmContext(_) | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            NotTrusted::Unusable("its kind of key or signature is not known here")
        }
        Error::UnsupportedCriticalExtension => {
            NotTrusted::Unusable("it has a critical extension that is not known here")
        }
        Error::UnsupportedCertVersion => NotTrusted::Unusable("it is not an X.509 certificate of version 3"),
        _ => NotTrusted::Unusable("it cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
        date_time_ymd,
    };

    const DAY: u64 = 86_400;
    /// 2026-01-01 and 2026-01-11.
    const FROM: u64 = 1_767_225_600;
    const UNTIL: u64 = FROM + 10 * DAY;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn client(authority: &CertifiedIssuer<'static, KeyPair>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("groundwork:role:admin".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 11);
        params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().clone()
    }

    fn at(seconds: u64, tolerance: Option<u64>) -> Clock {
        Clock {
            now: UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            tolerance: tolerance.map(Duration::from_secs),
            may_be_slow: false,
        }
    }

    #[track_caller]
    fn check(clock: Clock, want: &Result<(), NotTrusted>) {
        let authority = authority();
        let seen = verify(&[client(&authority)], &[authority.der().clone()], Usage::Client, clock);
        assert_eq!(&seen.clone().map(drop), want);
        if let Ok(seen) = seen {
            assert_eq!(seen.uris, ["groundwork:role:admin"]);
        }
    }

    #[test]
    fn dates_count_as_far_as_the_clock_is_trusted() {
        check(at(FROM + DAY, Some(0)), &Ok(()));
        check(at(UNTIL + 60, Some(0)), &Err(NotTrusted::Expired { by_s: 60 }));
        check(at(FROM - 60, Some(0)), &Err(NotTrusted::NotYetValid { by_s: 60 }));
        check(at(UNTIL + DAY, Some(DAY)), &Ok(()));
        check(at(UNTIL + DAY + 1, Some(DAY)), &Err(NotTrusted::Expired { by_s: DAY + 1 }));
        check(at(0, None), &Ok(()));
        let slow = |seconds| Clock { may_be_slow: true, ..at(seconds, Some(DAY)) };
        check(slow(0), &Ok(()));
        check(slow(UNTIL + DAY + 1), &Err(NotTrusted::Expired { by_s: DAY + 1 }));
    }

    /// A chain as a peer sends it: each certificate behind its length.
    fn split(mut bytes: &[u8]) -> Vec<CertificateDer<'_>> {
        let mut chain = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
            let (one, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
            chain.push(CertificateDer::from(one));
            bytes = rest;
        }
        chain
    }

    #[test]
    fn any_chain_is_answered() {
        let ca = authority();
        let issuer = below(&ca, &[Role::Operator.ceiling_uri()], 0);
        let leaf = client(&issuer);
        let sent: Vec<u8> = [leaf.as_ref(), issuer.der().as_ref()]
            .iter()
            .flat_map(|one| u16::try_from(one.len()).unwrap().to_be_bytes().into_iter().chain(one.iter().copied()))
            .collect();
        let anchors = [ca.der().clone()];
        total::bytes("chain", &[&sent], |bytes| {
            let chain = split(bytes);
            [Usage::Client, Usage::Server]
                .map(|usage| verify(&chain, &anchors, usage, at(FROM + DAY, Some(DAY))).is_ok())
        });
        total::bytes("anchor", &[ca.der()], |bytes| {
            let anchor = CertificateDer::from(bytes);
            (
                anchor_is_usable(&anchor).is_ok(),
                verify(std::slice::from_ref(&leaf), &[anchor], Usage::Client, at(FROM, None)).is_ok(),
            )
        });
        total::bytes("certificate", &[&leaf], |bytes| {
            let der = CertificateDer::from(bytes);
            (key_of(&der).is_ok(), Certificate::read(&der).map(|own| (own.role(), own.ceiling())).ok())
        });
        total::text("pin", &["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"], |text| {
            text.parse::<crate::Pin>().ok()
        });
        total::text("role-uri", &["groundwork:role:admin"], Role::of_uri);
        total::text("enrolment-secret", &["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="], |text| {
            crate::Secret::from_base64(text).is_ok()
        });
    }

    #[test]
    fn another_authority_or_usage_is_refused() {
        let (ours, theirs) = (authority(), authority());
        let chain = [client(&theirs)];
        assert_eq!(verify(&chain, &[ours.der().clone()], Usage::Client, at(FROM, None)), Err(NotTrusted::OtherIssuer));
        let server = verify(&chain, &[theirs.der().clone()], Usage::Server, at(FROM, None));
        assert_eq!(server, Err(NotTrusted::OtherUsage));
        let stranger = verify(&chain, &[ours.der().clone()], Usage::Server, at(FROM, None));
        assert_eq!(stranger, Err(NotTrusted::OtherIssuer), "the issuer counts before the usage");
        assert!(verify(&[], &[ours.der().clone()], Usage::Client, at(FROM, None)).is_err());
    }

    /// An issuer below `ca` with these URI names.
    fn below(ca: &CertifiedIssuer<'static, KeyPair>, uris: &[String], room: u8) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(room));
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("below {room}"));
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap())).collect();
        CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), ca).unwrap()
    }

    #[track_caller]
    fn verified(chain: &[&CertificateDer<'static>], ca: &CertificateDer<'static>) -> Result<Option<Role>, NotTrusted> {
        let chain: Vec<_> = chain.iter().map(|der| (*der).clone()).collect();
        verify(&chain, std::slice::from_ref(ca), Usage::Client, at(FROM, None)).map(|seen| seen.role)
    }

    #[test]
    fn an_issuer_gives_no_more_than_it_says_and_nothing_if_it_says_nothing() {
        let ca = authority();
        for (uris, wanted) in [
            (vec![Role::Admin.ceiling_uri()], Ok(Some(Role::Admin))),
            (vec![Role::Operator.ceiling_uri()], Err(NotTrusted::AboveCeiling)),
            (vec![Role::Admin.ceiling_uri(), Role::Observer.ceiling_uri()], Err(NotTrusted::AboveCeiling)),
            (vec![], Err(NotTrusted::AboveCeiling)),
            (vec!["groundwork:highest-role:root".to_owned()], Err(NotTrusted::AboveCeiling)),
        ] {
            let issuer = below(&ca, &uris, 0);
            assert_eq!(verified(&[&client(&issuer), issuer.der()], ca.der()), wanted, "{uris:?}");
        }
        // Along the whole chain: what is given further down does not count for more.
        let operator = below(&ca, &[Role::Operator.ceiling_uri()], 1);
        let admin = below(&operator, &[Role::Admin.ceiling_uri()], 0);
        let chain = [&client(&admin), admin.der(), operator.der()];
        assert_eq!(verified(&chain, ca.der()), Err(NotTrusted::AboveCeiling));
    }

    #[test]
    fn a_ca_and_an_issuer_say_how_many_may_follow() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issuer = below(&ca, &[Role::Admin.ceiling_uri()], 0);
        let too_long = verified(&[&client(&issuer), issuer.der()], ca.der());
        assert!(matches!(too_long, Err(NotTrusted::Unusable(why)) if why.contains("too long")), "{too_long:?}");
        assert_eq!(verified(&[&client(&ca)], ca.der()), Ok(Some(Role::Admin)));
        let ca = authority();
        let first = below(&ca, &[Role::Admin.ceiling_uri()], 0);
        let second = below(&first, &[Role::Admin.ceiling_uri()], 0);
        let chain = [&client(&second), second.der(), first.der()];
        assert!(verified(&chain, ca.der()).is_err(), "an issuer is held to its word");
        let first = below(&ca, &[Role::Admin.ceiling_uri()], 1);
        let second = below(&first, &[Role::Admin.ceiling_uri()], 0);
        let chain = [&client(&second), second.der(), first.der()];
        assert_eq!(verified(&chain, ca.der()), Ok(Some(Role::Admin)), "and not further");
    }

    #[test]
    fn a_certificate_says_what_it_is_for_and_names_one_role() {
        let ca = authority();
        let made = |usages: Vec<ExtendedKeyUsagePurpose>, roles: &[Role]| {
            let mut params = CertificateParams::default();
            let uri = |role: &Role| SanType::URI(role.uri().try_into().unwrap());
            (params.extended_key_usages, params.subject_alt_names) = (usages, roles.iter().map(uri).collect());
            params.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap().der().clone()
        };
        let client = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert_eq!(verified(&[&made(Vec::new(), &[Role::Admin])], ca.der()), Err(NotTrusted::OtherUsage));
        assert_eq!(verified(&[&made(client.clone(), &[])], ca.der()), Ok(None));
        let several = verified(&[&made(client, &[Role::Observer, Role::Admin])], ca.der());
        assert!(matches!(several, Err(NotTrusted::Unusable(_))), "{several:?}");
    }

    #[test]
    fn every_ca_is_believed() {
        let (one, other) = (authority(), authority());
        let anchors = [one.der().clone(), other.der().clone()];
        for ca in [&one, &other] {
            assert!(verify(&[client(ca)], &anchors, Usage::Client, at(FROM, None)).is_ok());
        }
        assert_eq!(verify(&[client(&one)], &[], Usage::Client, at(FROM, None)), Err(NotTrusted::OtherIssuer));
    }

    #[test]
    fn what_is_said_does_not_grow_with_the_certificate() {
        let ours = authority();
        let mut params = CertificateParams::default();
        params.extended_key_usages =
            (0..4_000).map(|arc| ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 99_999, arc])).collect();
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &ours).unwrap().der().clone();
        assert!(certificate.len() > 39_000);
        for anchor in [ours.der(), authority().der()] {
            let anchor = std::slice::from_ref(anchor);
            let error = verify(std::slice::from_ref(&certificate), anchor, Usage::Client, at(FROM, None)).unwrap_err();
            assert!(format!("{error} {error:?}").len() < 200, "{error:?}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        let ours = authority();
        let garbage = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x05]);
        assert!(verify(std::slice::from_ref(&garbage), &[ours.der().clone()], Usage::Client, at(FROM, None)).is_err());
        assert!(anchor_is_usable(&garbage).is_err());
        assert!(key_of(&garbage).is_err());
    }

    #[test]
    fn the_key_of_an_authority_can_be_read() {
        use rcgen::PublicKeyData as _;
        let ours = authority();
        assert_eq!(key_of(ours.der()).unwrap(), ours.key().subject_public_key_info());
    }
}
