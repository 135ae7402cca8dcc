//! Another key for the agent, so that whoever knows the one before finds it.
//!
//! The next key waits beside the one in force until the operator has certified it. Then the statement that it follows is kept, then the
//! certificate: that is the moment from which the next key counts, on whichever of the two files the power is cut. The key before is
//! overwritten last, and whatever is left of that is done at the next start.

use super::{CERTIFICATE, Identity, IdentityError, KEY, Standing, certificate, certified};
use crate::state::State;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, PublicKeyData as _, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use trust::pem;

/// The key that waits to follow, if one was made.
///
/// # Errors
/// When it is damaged.
pub(super) fn waiting(state: &State) -> Result<Option<KeyPair>, IdentityError> {
    let Some(text) = state.read(NEXT).map_err(IdentityError::Keep)? else { return Ok(None) };
    KeyPair::from_pem(&text).map(Some).map_err(IdentityError::Key)
}

/// The public key (DER SubjectPublicKeyInfo) that is to follow, made if there is none.
///
/// # Errors
/// When it cannot be made or kept.
pub fn next(state: &State) -> Result<Vec<u8>, IdentityError> {
    if let Ok(Some(key)) = waiting(state) {
        return Ok(key.subject_public_key_info());
    }
    let key = KeyPair::generate().map_err(IdentityError::Key)?;
    state.write(NEXT, &key.serialize_pem()).map_err(IdentityError::Keep)?;
    Ok(key.subject_public_key_info())
}

impl Identity {
    /// Puts the waiting key in force, with its certificate. False if `public_key` is not the one that waits.
    ///
    /// # Errors
    /// When something cannot be kept; the key before then still counts.
    pub fn renew(
        &mut self,
        state: &State,
        public_key: &[u8],
        chain: &[CertificateDer<'static>],
    ) -> Result<bool, IdentityError> {
        let Some(next) = waiting(state)?.filter(|next| next.subject_public_key_info() == public_key) else {
            return Ok(false);
        };
        let mut statements = self.statements.clone();
        if statements.is_empty() {
            statements.push(statement(&self.key, &self.key)?);
        }
        if statements.len() >= trust::MOST_KEYS {
            return Err(IdentityError::TooManyKeys);
        }
        statements.push(statement(&self.key, &next)?);
        let text: String = statements.iter().map(pem).collect();
        state.write(STATEMENTS, &text).map_err(IdentityError::Keep)?;
        certified(state, chain)?;
        (self.key, self.statements, self.standing) = (next, statements, Standing::Enrolled(chain.to_vec()));
        if let Err(error) = finish(state) {
            tracing::warn!(error = crate::chain::chain(&error), "the key before is still there until the next start");
        }
        Ok(true)
    }
}

/// Ends a renewal whose certificate is kept already.
///
/// # Errors
/// When a file of it cannot be read or written.
pub(super) fn finish(state: &State) -> Result<(), IdentityError> {
    let Ok(Some(next)) = waiting(state) else { return Ok(()) };
    if state.read(CERTIFICATE).map_err(IdentityError::Keep)?.is_none() {
        return Ok(());
    }
    let own = certificate(state)?.first().and_then(|der| trust::key_of(der).ok());
    if own.is_none_or(|own| own != next.subject_public_key_info()) {
        return Ok(());
    }
    begins(state)?;
    state.burn(KEY).map_err(IdentityError::Keep)?;
    state.write(KEY, &next.serialize_pem()).map_err(IdentityError::Keep)?;
    state.burn(NEXT).map_err(IdentityError::Keep)
}

/// Notes that the key in force is the one of the certificate, since it counts: by the clock of whoever issued it.
pub(super) fn begins(state: &State) -> Result<(), IdentityError> {
    let read = certificate(state)?.first().and_then(|der| trust::Certificate::read(der).ok());
    let since = read.map_or(0, |read| read.not_before);
    state.write(SINCE, &since.to_string()).map_err(IdentityError::Keep)
}

/// When the key in force was first certified, in seconds since 1970; 0 if that is not known.
#[must_use]
pub fn key_since(state: &State) -> u64 {
    state.read(SINCE).ok().flatten().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// What leads from the first key to `key`; nothing if it is the first one.
///
/// # Errors
/// When the file is damaged.
pub(super) fn statements(state: &State, key: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = state.read(STATEMENTS).map_err(IdentityError::Keep)?.unwrap_or_default();
    let mut all = read_statements(&text)?;
    // The last one may be of a renewal that was cut off.
    let own = all.iter().rposition(|der| trust::key_of(der).is_ok_and(|own| own == key));
    all.truncate(own.map_or(0, |at| at + 1));
    Ok(all)
}

fn read_statements(text: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    all.map_err(|error| IdentityError::Note { name: STATEMENTS, why: error.to_string() })
}

/// A key's word that another one follows it; a first key's own is how it is shown to those who know only its pin.
fn statement(before: &KeyPair, next: &KeyPair) -> Result<CertificateDer<'static>, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "groundwork key");
    params.subject_alt_names = vec![SanType::URI(trust::FOLLOWS.try_into().map_err(IdentityError::Key)?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let issuer = Issuer::from_params(&params, before);
    Ok(params.signed_by(next, &issuer).map_err(IdentityError::Key)?.der().clone())
}

const NEXT: &str = "identity/next-key.pem";
const STATEMENTS: &str = "identity/keys.pem";
const SINCE: &str = "identity/key-since";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Machine;
    use trust::Pin;

    /// The agent's folder, its identity, and a certificate by nobody in particular.
    fn scene() -> (tempfile::TempDir, State, Identity) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.write(super::super::ENROLLED, r#"{"id":"e","generation":1,"machine_uuid":"","machine_id":""}"#).unwrap();
        let key = KeyPair::generate().unwrap();
        state.write(KEY, &key.serialize_pem()).unwrap();
        certified(&state, &[CertificateParams::default().self_signed(&key).unwrap().der().clone()]).unwrap();
        let identity = load(&state);
        (folder, state, identity)
    }

    fn load(state: &State) -> Identity {
        Identity::load(state, &Machine::default()).unwrap()
    }

    fn certificate_of_next(state: &State) -> (Vec<u8>, Vec<CertificateDer<'static>>) {
        let public_key = next(state).unwrap();
        let key = waiting(state).unwrap().unwrap();
        (public_key, vec![CertificateParams::default().self_signed(&key).unwrap().der().clone()])
    }

    fn lineage(identity: &Identity) -> Vec<Pin> {
        trust::lineage(&identity.public_key(), &identity.statements)
    }

    #[test]
    fn the_next_key_follows_and_the_one_before_is_gone() {
        let (_folder, state, mut identity) = scene();
        let first = identity.pin();
        let old = state.read(KEY).unwrap().unwrap();
        let mut known = vec![first];
        for _ in 0..2 {
            let (public_key, chain) = certificate_of_next(&state);
            assert_eq!(next(&state).unwrap(), public_key, "asked again it is the same");
            assert!(identity.renew(&state, &public_key, &chain).unwrap());
            known.push(Pin::of(&public_key));
            assert_eq!(lineage(&identity), known);
            let again = load(&state);
            assert_eq!((again.pin(), lineage(&again)), (Pin::of(&public_key), known.clone()));
        }
        assert_eq!(
            state.list("identity").unwrap(),
            ["certificate.pem", "enrolled.json", "key-since", "key.pem", "keys.pem"]
        );
        assert_ne!(state.read(KEY).unwrap().unwrap(), old);
    }

    #[test]
    fn another_key_than_the_one_that_waits_changes_nothing() {
        let (_folder, state, mut identity) = scene();
        let (_, chain) = certificate_of_next(&state);
        assert!(!identity.renew(&state, b"another", &chain).unwrap());
        assert_eq!(lineage(&load(&state)), [identity.pin()]);
    }

    /// As if the power had gone after each of the files that a renewal writes.
    #[test]
    fn a_renewal_that_is_cut_off_leaves_one_key_or_the_other() {
        let (_folder, state, mut identity) = scene();
        let first = identity.pin();
        let (public_key, chain) = certificate_of_next(&state);
        let key = state.read(KEY).unwrap().unwrap();
        let waits = state.read(NEXT).unwrap().unwrap();
        let before = state.read(CERTIFICATE).unwrap().unwrap();
        identity.renew(&state, &public_key, &chain).unwrap();
        let second = identity.pin();
        let files = |certificate: &str, key: Option<&str>| {
            state.write(NEXT, &waits).unwrap();
            state.write(CERTIFICATE, certificate).unwrap();
            state.burn(KEY).unwrap();
            if let Some(key) = key {
                state.write(KEY, key).unwrap();
            }
        };
        let after = state.read(CERTIFICATE).unwrap().unwrap();
        files(&before, Some(&key));
        assert_eq!(lineage(&load(&state)), [first], "the statement alone");
        for left in [Some(key.as_str()), None, Some(waits.as_str())] {
            files(&after, left);
            assert_eq!(lineage(&load(&state)), [first, second]);
            assert_eq!(state.read(NEXT).unwrap(), None, "finished");
        }
    }

    #[test]
    fn a_machine_has_so_many_keys_and_no_more() {
        let (_folder, state, mut identity) = scene();
        identity.statements = vec![statement(&identity.key, &identity.key).unwrap(); trust::MOST_KEYS];
        let (public_key, chain) = certificate_of_next(&state);
        let error = identity.renew(&state, &public_key, &chain).unwrap_err();
        assert!(matches!(error, IdentityError::TooManyKeys), "{error}");
    }

    #[test]
    fn any_statements_are_read_or_refused() {
        let key = KeyPair::generate().unwrap();
        let good = pem(&statement(&key, &key).unwrap());
        total::text("key-statements", &[&good], |text| read_statements(text).ok());
    }
}
