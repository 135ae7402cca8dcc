//! Who this agent is: its key, the certificate it was enrolled with, and the one-time secret it still waits to use.
//!
//! The key is made on the first start and never leaves the machine; another one follows it in `renewal`. A machine that finds the identity of another one on its disk
//! is a clone: it throws that identity away and waits for an enrolment of its own. What else it inherited is `clone`'s business.

mod renewal;

pub use renewal::{key_since, next};

use crate::state::{State, StateError};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use trust::{Pin, Secret, pem};
use zeroize::Zeroizing;

/// What tells this machine from its clones. Empty if the machine does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// SMBIOS UUID, lower case.
    pub uuid: String,
    /// `/etc/machine-id`
    pub id: String,
}

impl Machine {
    /// Whether what was noted is of another machine; what either does not say tells nothing.
    pub(crate) fn differs_from(&self, uuid: &str, id: &str) -> bool {
        let differ = |ours: &str, theirs: &str| !ours.is_empty() && !theirs.is_empty() && ours != theirs;
        differ(&self.uuid, uuid) || differ(&self.id, id)
    }
}

/// Key, certificate, pending enrolment.
pub struct Identity {
    /// The agent's key pair.
    pub key: KeyPair,
    /// What leads to it from its first key, for those who know one before it; nothing if it is the first one.
    pub statements: Vec<CertificateDer<'static>>,
    /// How the agent stands with its operator.
    pub standing: Standing,
}

/// How the agent stands with its operator.
#[derive(Debug, Clone)]
pub enum Standing {
    /// No seed, or a seed that was used: nothing can happen until there is a new one.
    Unknown,
    /// Waits for the provider that knows this secret.
    Waiting(Pending),
    /// Signed by the operator: the agent's certificate, and those of its issuers below the CA.
    Enrolled(Vec<CertificateDer<'static>>),
}

/// `enrol.json`, as the seed brought it.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Which secret.
    pub id: String,
    /// How many were issued before, plus one.
    pub generation: u64,
    /// The machine the seed was made for.
    pub machine_uuid: String,
    /// Known to the provider that made the seed, and to nobody else.
    pub secret: Secret,
}

/// The secret stays where it was read, so that there is one copy to overwrite.
#[derive(Deserialize)]
struct WrittenPending<'a> {
    id: String,
    generation: u64,
    machine_uuid: String,
    secret: &'a str,
}

/// What remains of an enrolment. Its presence is what makes an agent enrolled.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
struct Enrolled {
    id: String,
    generation: u64,
    machine_uuid: String,
    machine_id: String,
}

/// An identity that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file of the agent's own folder.
    #[error("the identity cannot be kept")]
    Keep(#[source] StateError),
    /// The key on disk is damaged, or none can be made.
    #[error("{KEY} cannot be used")]
    Key(#[source] rcgen::Error),
    /// The certificate on disk is damaged.
    #[error("{CERTIFICATE} cannot be used: {0}")]
    Certificate(String),
    /// All keys of a machine are told at every handshake.
    #[error("the machine has had {} keys, and more are not told: enrol it anew to begin again", trust::MOST_KEYS)]
    TooManyKeys,
    /// A note on disk is damaged.
    #[error("{name} cannot be understood: {why}")]
    Note {
        /// Which file.
        name: &'static str,
        /// Why; never its content.
        why: String,
    },
}

impl Identity {
    /// Reads what is there, discards what belongs to another machine, and makes what is missing.
    ///
    /// # Errors
    /// When a file is damaged; a person has to look.
    pub fn load(state: &State, machine: &Machine) -> Result<Self, IdentityError> {
        let mut enrolled: Option<Enrolled> = note(state, ENROLLED)?;
        if enrolled.as_ref().is_some_and(|enrolled| enrolled.is_of_another(machine)) {
            tracing::warn!("this machine is a clone: the identity of the other one is discarded");
            state.remove_folder(FOLDER).map_err(IdentityError::Keep)?;
            enrolled = None;
        }
        renewal::finish(state)?;
        let key = key(state)?;
        let statements = renewal::statements(state, &key.subject_public_key_info())?;
        let standing = match pending(state, machine, enrolled.as_ref())? {
            Some(pending) => Standing::Waiting(pending),
            None if enrolled.is_some() => {
                // Agents of before noted nothing.
                if key_since(state) == 0 {
                    renewal::begins(state)?;
                }
                Standing::Enrolled(certificate(state)?)
            }
            None => Standing::Unknown,
        };
        Ok(Self { key, statements, standing })
    }

    /// SubjectPublicKeyInfo of the key, DER.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// What is presented to clients: this chain, and behind it what leads to the key.
    #[must_use]
    pub fn presented(&self, chain: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
        chain.iter().chain(&self.statements).cloned().collect()
    }

    /// The pin of the key.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin::of(&self.public_key())
    }
}

/// Makes an enrolment lasting: from here on the agent is enrolled, and the secret is worth nothing.
///
/// # Errors
/// When it cannot be written; the secret is then still good.
pub fn enrolled(
    state: &State,
    machine: &Machine,
    pending: &Pending,
    chain: &[CertificateDer<'_>],
) -> Result<(), IdentityError> {
    let note = Enrolled {
        id: pending.id.clone(),
        generation: pending.generation,
        machine_uuid: machine.uuid.clone(),
        machine_id: machine.id.clone(),
    };
    let text =
        serde_json::to_string(&note).map_err(|error| IdentityError::Note { name: ENROLLED, why: error.to_string() })?;
    certified(state, chain)?;
    renewal::begins(state)?;
    state.write(ENROLLED, &text).map_err(IdentityError::Keep)?;
    state.burn(PENDING).map_err(IdentityError::Keep)
}

/// Keeps another certificate for the agent's key.
///
/// # Errors
/// When it cannot be written; the old one then still stands.
pub fn certified(state: &State, chain: &[CertificateDer<'_>]) -> Result<(), IdentityError> {
    let text: String = chain.iter().map(pem).collect();
    state.write(CERTIFICATE, &text).map_err(IdentityError::Keep)
}

impl Enrolled {
    fn is_of_another(&self, machine: &Machine) -> bool {
        machine.differs_from(&self.machine_uuid, &self.machine_id)
    }
}

/// The secret that waits to be used. One that was used, or an older one, is burnt: a snapshot may have brought it back.
fn pending(state: &State, machine: &Machine, enrolled: Option<&Enrolled>) -> Result<Option<Pending>, IdentityError> {
    let Some(text) = state.read(PENDING).map_err(IdentityError::Keep)?.map(Zeroizing::new) else { return Ok(None) };
    let Pending { id, generation, machine_uuid: wanted, secret } = read_pending(&text)?;
    if enrolled.is_some_and(|enrolled| generation <= enrolled.generation) {
        state.burn(PENDING).map_err(IdentityError::Keep)?;
        return Ok(None);
    }
    if !machine.uuid.is_empty() && machine.uuid != wanted {
        tracing::warn!(wanted, machine = machine.uuid, "the seed was made for another machine: it is ignored");
        state.burn(PENDING).map_err(IdentityError::Keep)?;
        return Ok(None);
    }
    Ok(Some(Pending { id, generation, machine_uuid: wanted, secret }))
}

fn read_pending(text: &str) -> Result<Pending, IdentityError> {
    let written: WrittenPending<'_> = understood(PENDING, text)?;
    let secret = Secret::from_base64(written.secret)
        .map_err(|error| IdentityError::Note { name: PENDING, why: error.to_string() })?;
    let machine_uuid = written.machine_uuid.to_ascii_lowercase();
    Ok(Pending { id: written.id, generation: written.generation, machine_uuid, secret })
}

fn key(state: &State) -> Result<KeyPair, IdentityError> {
    if let Some(text) = state.read(KEY).map_err(IdentityError::Keep)? {
        return KeyPair::from_pem(&text).map_err(IdentityError::Key);
    }
    let key = KeyPair::generate().map_err(IdentityError::Key)?;
    state.write(KEY, &key.serialize_pem()).map_err(IdentityError::Keep)?;
    Ok(key)
}

fn certificate(state: &State) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    read_chain(&state.read(CERTIFICATE).map_err(IdentityError::Keep)?.unwrap_or_default())
}

fn read_chain(text: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(IdentityError::Certificate("it holds none".to_owned())),
        Err(error) => Err(IdentityError::Certificate(error.to_string())),
    }
}

fn note<T: for<'a> Deserialize<'a>>(state: &State, name: &'static str) -> Result<Option<T>, IdentityError> {
    let Some(text) = state.read(name).map_err(IdentityError::Keep)? else { return Ok(None) };
    understood(name, &text).map(Some)
}

fn understood<'a, T: Deserialize<'a>>(name: &'static str, text: &'a str) -> Result<T, IdentityError> {
    // The parser's own words would repeat the text, which may hold a secret: only the place is said.
    let place = |error: serde_json::Error| format!("line {}, column {}", error.line(), error.column());
    serde_json::from_str(text).map_err(|error| IdentityError::Note { name, why: place(error) })
}

const FOLDER: &str = "identity";
const KEY: &str = "identity/key.pem";
const CERTIFICATE: &str = "identity/certificate.pem";
pub(crate) const ENROLLED: &str = "identity/enrolled.json";
const PENDING: &str = "enrol.json";

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(uuid: &str, id: &str) -> Machine {
        Machine { uuid: uuid.to_owned(), id: id.to_owned() }
    }

    fn seed(state: &State, generation: u64) {
        let secret = Secret::generate().to_base64();
        let secret = secret.as_str();
        let text =
            format!(r#"{{"id":"e{generation}","generation":{generation},"machine_uuid":"AA","secret":"{secret}"}}"#);
        state.write(PENDING, &text).unwrap();
    }

    fn enrol(state: &State) -> Pin {
        let here = machine("aa", "m");
        let identity = Identity::load(state, &here).unwrap();
        let Standing::Waiting(pending) = &identity.standing else { panic!("waits") };
        let certificate = CertificateDer::from(vec![1; 100]);
        enrolled(state, &here, pending, &[certificate]).unwrap();
        identity.pin()
    }

    #[test]
    fn an_identity_lasts_and_its_secret_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        seed(&state, 1);
        let pin = enrol(&state);
        assert_eq!(state.read(PENDING).unwrap(), None, "burnt");
        let again = Identity::load(&state, &machine("aa", "m")).unwrap();
        assert!(matches!(&again.standing, Standing::Enrolled(chain) if chain[0].as_ref() == [1; 100]));
        assert_eq!(again.pin(), pin);
    }

    #[test]
    fn a_used_secret_is_burnt_and_a_newer_one_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        seed(&state, 1);
        let pin = enrol(&state);
        seed(&state, 1);
        assert!(matches!(Identity::load(&state, &machine("aa", "m")).unwrap().standing, Standing::Enrolled(_)));
        assert_eq!(state.read(PENDING).unwrap(), None, "burnt again");
        seed(&state, 2);
        let again = Identity::load(&state, &machine("aa", "m")).unwrap();
        assert!(matches!(&again.standing, Standing::Waiting(pending) if pending.generation == 2));
        assert_eq!(again.pin(), pin, "the key stays");
    }

    #[test]
    fn a_clone_discards_the_identity_it_finds() {
        for other in [machine("bb", "m"), machine("aa", "n")] {
            let folder = tempfile::tempdir().unwrap();
            let state = State::open(folder.path()).unwrap();
            seed(&state, 1);
            let pin = enrol(&state);
            let clone = Identity::load(&state, &other).unwrap();
            assert!(matches!(clone.standing, Standing::Unknown), "{other:?}");
            assert_ne!(clone.pin(), pin);
        }
    }

    #[test]
    fn a_machine_without_a_uuid_is_not_its_own_clone() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        seed(&state, 1);
        enrol(&state);
        assert!(matches!(Identity::load(&state, &machine("", "m")).unwrap().standing, Standing::Enrolled(_)));
    }

    #[test]
    fn a_seed_of_another_machine_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        seed(&state, 1);
        assert!(matches!(Identity::load(&state, &machine("bb", "m")).unwrap().standing, Standing::Unknown));
        assert_eq!(state.read(PENDING).unwrap(), None);
    }

    #[test]
    fn any_text_is_answered() {
        let secret = Secret::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap().to_base64();
        let seed = format!(r#"{{"id":"e1","generation":1,"machine_uuid":"AA","secret":"{}"}}"#, secret.as_str());
        total::text("enrol-json", &[&seed], |text| {
            read_pending(text).map(|pending| (pending.id, pending.generation)).ok()
        });
        let note = r#"{"id":"e1","generation":1,"machine_uuid":"aa","machine_id":"m"}"#;
        total::text("enrolled-json", &[note], |text| understood::<Enrolled>(ENROLLED, text).ok());
        total::text("certificate-pem", &[&pem(&CertificateDer::from(vec![1; 100]))], |text| read_chain(text).ok());
    }

    #[test]
    fn a_damaged_seed_is_reported_without_repeating_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.write(PENDING, r#"{"secret":"hush"#).unwrap();
        let error = Identity::load(&state, &machine("aa", "m")).err().unwrap().to_string();
        assert!(!error.contains("hush"), "{error}");
    }
}
