//! Enrolment: how a provider and an agent that has just booted prove to each other that they know one secret.
//!
//! Both proofs are HMAC-SHA256 over a transcript that includes the exporter of the TLS session (RFC 9266), under keys derived
//! from the secret by HKDF-SHA256, one per direction. A relay that ends TLS in the middle has two sessions with two exporters,
//! so no proof it can get hold of fits the other side. The secret has 256 bits: nothing can be guessed from a proof.

use aws_lc_rs::{hkdf, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

/// Label of the TLS exporter that both proofs cover. Source: RFC 9266.
pub const CHANNEL_BINDING: &[u8] = b"EXPORTER-Channel-Binding";

/// Length of a nonce, in bytes.
pub const NONCE_LEN: usize = 32;

/// Length of a proof, in bytes.
pub const PROOF_LEN: usize = 32;

/// A one-time enrolment secret. Its `Debug` prints nothing, and what it was is overwritten when it goes. It lies on the heap: whoever moves
/// it moves the place of it, and leaves no copy behind.
#[derive(Clone)]
pub struct Secret(Box<[u8; 32]>);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Secret {
    /// A new one from the system's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let mut secret = Self(Box::new([0; 32]));
        fill(secret.0.as_mut_slice());
        secret
    }

    /// As it stands in a seed image.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// Reads what [`Secret::to_base64`] wrote.
    ///
    /// # Errors
    /// When `text` is not the Base64 of 32 bytes; the text is not repeated.
    pub fn from_base64(text: &str) -> Result<Self, BadSecret> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| BadSecret)?);
        let mut secret = Self(Box::new([0; 32]));
        if bytes.len() != secret.0.len() {
            return Err(BadSecret);
        }
        secret.0.copy_from_slice(&bytes);
        Ok(secret)
    }

    fn key(&self, label: &[u8]) -> hmac::Key {
        let mut bytes = Zeroizing::new([0; 32]);
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(self.0.as_slice());
        let filled = derived.expand(&[label], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(bytes.as_mut_slice()));
        debug_assert!(filled.is_ok(), "32 bytes are within what HKDF gives");
        hmac::Key::new(hmac::HMAC_SHA256, bytes.as_slice())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A text that is no enrolment secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an enrolment secret is the Base64 of 32 bytes")]
pub struct BadSecret;

/// Fresh random bytes.
///
/// # Panics
/// When the system has no random numbers to give: nothing that follows would be safe.
#[must_use]
pub fn nonce() -> [u8; NONCE_LEN] {
    let mut bytes = [0; NONCE_LEN];
    fill(&mut bytes);
    bytes
}

fn fill(bytes: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "without random numbers there is no enrolment to go on with")]
    rand::fill(bytes).expect("the system gives random numbers");
}

/// Everything the two proofs cover.
#[derive(Debug, Clone)]
pub struct Transcript<'a> {
    /// The TLS session's exporter under [`CHANNEL_BINDING`].
    pub exporter: &'a [u8],
    /// Which secret.
    pub enrolment_id: &'a str,
    /// How many secrets were issued for this machine before.
    pub generation: u64,
    /// Made by the provider for this enrolment.
    pub provider_nonce: &'a [u8],
    /// Made by the agent for this enrolment.
    pub agent_nonce: &'a [u8],
    /// The agent's public key, DER SubjectPublicKeyInfo.
    pub public_key: &'a [u8],
    /// SMBIOS UUID, lower case.
    pub machine_uuid: &'a str,
}

impl Transcript<'_> {
    /// "I am the machine that the secret was made for": what the agent sends.
    #[must_use]
    pub fn agent_proof(&self, secret: &Secret) -> [u8; PROOF_LEN] {
        tag(&hmac::sign(&secret.key(AGENT), &self.bytes(&[])))
    }

    /// Whether `proof` is the agent's; in constant time.
    #[must_use]
    pub fn agent_proved(&self, secret: &Secret, proof: &[u8]) -> bool {
        hmac::verify(&secret.key(AGENT), &self.bytes(&[]), proof).is_ok()
    }

    /// "I made the secret, and this is the certificate for your key": what the provider answers.
    #[must_use]
    pub fn provider_proof(&self, secret: &Secret, certificate: &[u8]) -> [u8; PROOF_LEN] {
        tag(&hmac::sign(&secret.key(PROVIDER), &self.bytes(certificate)))
    }

    /// Whether `proof` is the provider's, for this certificate; in constant time.
    #[must_use]
    pub fn provider_proved(&self, secret: &Secret, certificate: &[u8], proof: &[u8]) -> bool {
        hmac::verify(&secret.key(PROVIDER), &self.bytes(certificate), proof).is_ok()
    }

    /// Every part with its length before it, so that no two transcripts have the same bytes.
    fn bytes(&self, certificate: &[u8]) -> Vec<u8> {
        let generation = self.generation.to_be_bytes();
        let parts: [&[u8]; 8] = [
            self.exporter,
            self.enrolment_id.as_bytes(),
            &generation,
            self.provider_nonce,
            self.agent_nonce,
            self.public_key,
            self.machine_uuid.as_bytes(),
            certificate,
        ];
        let mut bytes = Vec::with_capacity(512);
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

fn tag(tag: &hmac::Tag) -> [u8; PROOF_LEN] {
    let mut bytes = [0; PROOF_LEN];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

const SALT: &[u8] = b"groundwork enrolment v1";
const AGENT: &[u8] = b"groundwork enrolment v1: agent";
const PROVIDER: &[u8] = b"groundwork enrolment v1: provider";

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript() -> Transcript<'static> {
        Transcript {
            exporter: &[1; 32],
            enrolment_id: "e-1",
            generation: 1,
            provider_nonce: &[2; 32],
            agent_nonce: &[3; 32],
            public_key: &[4; 91],
            machine_uuid: "00000000-0000-0000-0000-000000000001",
        }
    }

    #[test]
    fn each_side_recognises_the_other() {
        let secret = Secret::generate();
        let transcript = transcript();
        assert!(transcript.agent_proved(&secret, &transcript.agent_proof(&secret)));
        assert!(transcript.provider_proved(&secret, b"cert", &transcript.provider_proof(&secret, b"cert")));
    }

    #[test]
    fn any_difference_breaks_both_proofs() {
        let secret = Secret::generate();
        let (agent, provider) = (transcript().agent_proof(&secret), transcript().provider_proof(&secret, b"cert"));
        let others = [
            Transcript { exporter: &[9; 32], ..transcript() },
            Transcript { enrolment_id: "e-2", ..transcript() },
            Transcript { generation: 2, ..transcript() },
            Transcript { provider_nonce: &[9; 32], ..transcript() },
            Transcript { agent_nonce: &[9; 32], ..transcript() },
            Transcript { public_key: &[9; 91], ..transcript() },
            Transcript { machine_uuid: "00000000-0000-0000-0000-000000000002", ..transcript() },
        ];
        for other in others {
            assert!(!other.agent_proved(&secret, &agent), "{other:?}");
            assert!(!other.provider_proved(&secret, b"cert", &provider), "{other:?}");
        }
        assert!(!transcript().provider_proved(&secret, b"other", &provider));
        assert!(!transcript().agent_proved(&Secret::generate(), &agent));
    }

    #[test]
    fn one_direction_proves_nothing_in_the_other() {
        let secret = Secret::generate();
        let proof = transcript().agent_proof(&secret);
        assert!(!transcript().provider_proved(&secret, b"", &proof));
        assert!(!transcript().agent_proved(&secret, &[]));
    }

    #[test]
    fn a_secret_prints_nothing_and_survives_its_text() {
        let secret = Secret::generate();
        assert_eq!(format!("{secret:?}"), "Secret");
        let again = Secret::from_base64(&secret.to_base64()).unwrap();
        assert_eq!(transcript().agent_proof(&secret), transcript().agent_proof(&again));
        for text in ["", "AAAA", "not base64", "\u{e9}"] {
            assert!(Secret::from_base64(text).is_err(), "{text}");
        }
    }
}
