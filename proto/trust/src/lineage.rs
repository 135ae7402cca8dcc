//! The keys of one machine, one after the other: each has signed that the next one follows it.
//!
//! A machine is known by the pin of its first key. When it gets another, the key before makes a certificate for it: the statement. An
//! agent presents its statements behind its certificate, the first key's before all others, and whoever knows the pin of one of the keys
//! is led from there to the one in force. Statements have no end, as pins have none.
//!
//! Nothing else that a machine's key signs can be taken for a statement: none of it carries the name.

use crate::certificate::Certificate;
use crate::chain::key_of;
use crate::pin::Pin;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// URI name of a statement.
pub const FOLLOWS: &str = "groundwork:follows";

/// How many keys a machine may have had: all of them are presented at every handshake.
pub const MOST_KEYS: usize = 32;

/// What an agent presents, taken apart: its certificate with those of its issuers, and the statements.
#[must_use]
pub fn apart(presented: &[CertificateDer<'_>]) -> (Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>) {
    presented.iter().map(|der| der.clone().into_owned()).partition(|der| !is_statement(der))
}

/// The pins of a machine's keys from its first one to `key`, which is in force (DER SubjectPublicKeyInfo). Statements that do not lead
/// there one by one say nothing, and the key stands alone.
#[must_use]
pub fn lineage(key: &[u8], statements: &[CertificateDer<'_>]) -> Vec<Pin> {
    let keys: Vec<_> = statements.iter().filter_map(|der| key_of(der).ok()).collect();
    let leads_here =
        keys.len() == statements.len() && keys.len() <= MOST_KEYS && keys.last().is_some_and(|own| own == key);
    let is_whole = statements.iter().zip(statements.iter().skip(1)).all(|(before, next)| follows(before, next));
    if leads_here && is_whole { keys.iter().map(|key| Pin::of(key)).collect() } else { vec![Pin::of(key)] }
}

fn is_statement(der: &CertificateDer<'_>) -> bool {
    Certificate::read(der).is_ok_and(|read| read.uris.iter().any(|uri| uri == FOLLOWS))
}

/// Whether the key in `before` signed the statement `next`.
fn follows(before: &CertificateDer<'_>, next: &CertificateDer<'_>) -> bool {
    let (Ok(before), Ok(next)) = (anchor_from_trusted_cert(before), EndEntityCert::try_from(next)) else {
        return false;
    };
    let usage = KeyUsage::server_auth();
    next.verify_for_usage(ALL_VERIFICATION_ALGS, &[before], &[], ALWAYS, usage, None, None).is_ok()
}

/// A time within the life of every statement, which is that of all times.
const ALWAYS: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, PublicKeyData as _, SanType};

    fn statement(before: &KeyPair, next: &KeyPair) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "groundwork key");
        params.subject_alt_names = vec![SanType::URI(FOLLOWS.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = Issuer::from_params(&params, before);
        params.signed_by(next, &issuer).unwrap().der().clone()
    }

    fn keys() -> [KeyPair; 3] {
        [0; 3].map(|_| KeyPair::generate().unwrap())
    }

    fn pin(key: &KeyPair) -> Pin {
        Pin::of(&key.subject_public_key_info())
    }

    #[track_caller]
    fn check(key: &KeyPair, statements: &[CertificateDer<'_>], wanted: &[&KeyPair]) {
        let wanted: Vec<_> = wanted.iter().map(|key| pin(key)).collect();
        assert_eq!(lineage(&key.subject_public_key_info(), statements), wanted);
    }

    #[test]
    fn a_key_is_reached_from_each_before_it() {
        let [one, two, three] = &keys();
        let all = [statement(one, one), statement(one, two), statement(two, three)];
        check(three, &all, &[one, two, three]);
        check(two, &all[..2], &[one, two]);
        check(one, &[], &[one]);
    }

    #[test]
    fn what_the_key_before_did_not_sign_says_nothing() {
        let [one, two, three] = &keys();
        let (first, second) = (statement(one, one), statement(one, two));
        check(three, &[first.clone(), statement(three, three)], &[three]);
        check(three, &[first.clone(), second.clone(), statement(one, three)], &[three]);
        check(three, &[first.clone(), statement(two, three)], &[three]);
        // Of another key than the one that serves.
        check(three, &[first.clone(), second.clone()], &[three]);
        check(two, &[first, CertificateDer::from(vec![1]), second], &[two]);
    }

    #[test]
    fn no_more_than_so_many_are_looked_at() {
        let [one, two, _] = &keys();
        let mut many = vec![statement(one, one); MOST_KEYS];
        check(one, &many, &vec![one; MOST_KEYS]);
        many.push(statement(one, two));
        check(two, &many, &[two]);
    }

    #[test]
    fn statements_are_told_from_certificates() {
        let [one, two, _] = &keys();
        let own = CertificateParams::default().self_signed(two).unwrap().der().clone();
        let said = [statement(one, one), statement(one, two)];
        let presented = [own.clone(), said[0].clone(), said[1].clone()];
        assert_eq!(apart(&presented), (vec![own], said.to_vec()));
    }

    #[test]
    fn any_statements_are_answered() {
        let [one, two, _] = &keys();
        let (first, second) = (statement(one, one), statement(one, two));
        total::bytes("statement", &[&second], |bytes| {
            let presented = [first.clone(), CertificateDer::from(bytes.to_vec())];
            let (_, statements) = apart(&presented);
            lineage(&two.subject_public_key_info(), &statements)
        });
    }
}
