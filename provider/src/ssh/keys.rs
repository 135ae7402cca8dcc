//! Private keys: read from a file or a text, with or without a passphrase, and what they sign.
//!
//! RSA keys are signed with by aws-lc-rs: the crate that `russh` would take for them is a pre-release, and leaks its keys by its timing
//! (RUSTSEC-2023-0071).

use aws_lc_rs::rsa::KeyPairComponents;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair};
use aws_lc_rs::{rand::SystemRandom, rsa::PublicKeyComponents};
use num_bigint::BigUint;
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_key::private::{KeypairData, RsaKeypair};
use russh::keys::{Error as KeyError, HashAlg, PrivateKey, PublicKey, decode_secret_key};
use std::sync::Arc;

/// A key that can sign.
pub(super) enum Key {
    /// One that `russh` signs with.
    Plain(Arc<PrivateKey>),
    /// An RSA key.
    Rsa(Rsa, Box<PublicKey>),
}

/// Signs with an RSA key.
pub(super) struct Rsa(RsaKeyPair);

/// What did not become a signature.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    /// The session has ended.
    #[error("the connection was closed")]
    Closed,
    /// The key does not sign.
    #[error("the key does not sign")]
    Sign,
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Closed
    }
}

/// Reads a private key; `given` is its text or the path of its file. The error says why, and nothing of its content.
pub(super) fn read(given: &str, passphrase: Option<&str>) -> Result<Key, String> {
    let text = if given.contains("-----BEGIN ") || given.starts_with("PuTTY-User-Key-File-") {
        given.to_owned()
    } else {
        let path = super::expanded(given.trim());
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?
    };
    if text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("-----BEGIN RSA PRIVATE KEY-----") {
        return Err(OLD.to_owned());
    }
    match decode_secret_key(&text, passphrase) {
        Ok(key) => usable(key),
        Err(KeyError::KeyIsEncrypted) => Err("it has a passphrase, and none is given".to_owned()),
        Err(KeyError::UnknownAlgorithm(_) | KeyError::UnsupportedKeyType { .. }) => Err(OLD.to_owned()),
        Err(_) if text.contains("ENCRYPTED") && passphrase.is_none() => {
            Err("it has a passphrase, and none is given".to_owned())
        }
        Err(KeyError::SshKey(_) | KeyError::Pkcs8(_)) if passphrase.is_some() => {
            Err("the passphrase is not that of the key, or this is no private key".to_owned())
        }
        Err(_) => Err("this is no private key that can be read".to_owned()),
    }
}

fn usable(key: PrivateKey) -> Result<Key, String> {
    let KeypairData::Rsa(rsa) = key.key_data() else { return Ok(Key::Plain(Arc::new(key))) };
    let pair = pair(rsa)
        .ok_or("this RSA key cannot be used: its parts do not fit one another, or it is shorter than 2048 bits")?;
    Ok(Key::Rsa(Rsa(pair), Box::new(key.public_key().clone())))
}

fn pair(key: &RsaKeypair) -> Option<RsaKeyPair> {
    let (public, private) = (key.public(), key.private());
    let number = |bytes: Option<&[u8]>| bytes.map(BigUint::from_bytes_be);
    let (d, p, q) = (
        number(private.d().as_positive_bytes())?,
        number(private.p().as_positive_bytes())?,
        number(private.q().as_positive_bytes())?,
    );
    let one = BigUint::from(1_u8);
    if p <= one || q <= one {
        return None;
    }
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n: public.n().as_positive_bytes()?, e: public.e().as_positive_bytes()? },
        d: d.to_bytes_be(),
        dP: (&d % (&p - &one)).to_bytes_be(),
        dQ: (&d % (&q - &one)).to_bytes_be(),
        p: p.to_bytes_be(),
        q: q.to_bytes_be(),
        qInv: private.iqmp().as_positive_bytes()?.to_vec(),
    };
    RsaKeyPair::from_components(&components).ok()
}

impl russh::Signer for Rsa {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        let (name, padding) = match hash {
            Some(HashAlg::Sha256) => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
            _ => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
        };
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(padding, &SystemRandom::new(), &to_sign, &mut signature).map_err(|_| SignError::Sign)?;
        let blob = [string(name.as_bytes()), string(&signature)].concat();
        to_sign.extend(string(&blob));
        Ok(to_sign)
    }
}

/// A string as SSH writes it (RFC 4251).
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

/// What is said of keys in the forms of before 2014.
const OLD: &str = "it is written in an old form; `ssh-keygen -p -f FILE` writes it anew in OpenSSH's own";

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for this test with `ssh-keygen -t ed25519`, passphrase `swordfish`.
    const WITH_PASSPHRASE: &str = include_str!("testdata/ed25519-swordfish");
    const RSA: &str = include_str!("testdata/rsa");

    fn why(given: &str, passphrase: Option<&str>) -> String {
        read(given, passphrase).err().expect("refused")
    }

    #[test]
    fn a_key_is_a_text_or_a_file_and_needs_its_passphrase() {
        assert!(matches!(read(WITH_PASSPHRASE, Some("swordfish")), Ok(Key::Plain(_))));
        assert!(why(WITH_PASSPHRASE, None).contains("none is given"));
        assert!(why(WITH_PASSPHRASE, Some("herring")).contains("not that of the key"));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ssh/testdata/ed25519-swordfish");
        assert!(matches!(read(path, Some("swordfish")), Ok(Key::Plain(_))));
        assert!(why("/nowhere/id", None).contains("/nowhere/id"));
        assert!(
            why("-----BEGIN RSA PRIVATE KEY-----\nAA==\n-----END RSA PRIVATE KEY-----\n", None)
                .contains("ssh-keygen -p")
        );
    }

    #[tokio::test]
    async fn an_rsa_key_signs_what_its_public_key_proves() {
        use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents};
        use russh::Signer as _;
        let Ok(Key::Rsa(mut rsa, public)) = read(RSA, None) else { panic!("an RSA key") };
        let identity = AgentIdentity::from((*public).clone());
        let signed = rsa.auth_sign(&identity, Some(HashAlg::Sha512), b"data".to_vec()).await.unwrap();
        let signature = signed.get(signed.len() - 256..).unwrap();
        let key = public.key_data().rsa().unwrap();
        let key =
            RsaPublicKeyComponents { n: key.n().as_positive_bytes().unwrap(), e: key.e().as_positive_bytes().unwrap() };
        key.verify(&RSA_PKCS1_2048_8192_SHA512, b"data", signature).unwrap();
        assert_eq!(signed.len(), 4 + 4 + 4 + 12 + 4 + 256, "data, and the signature in its envelope");
    }

    #[test]
    fn any_text_is_answered() {
        total::text("private-key", &[RSA, WITH_PASSPHRASE], |text| read(&format!("-----BEGIN {text}"), None).is_ok());
    }
}
