//! Which key a host must show. What is pinned counts alone; else `known_hosts` does; nothing is learnt, and nobody is believed unseen.

use super::known_hosts::Known;
use super::{Error, Hop, ShownKey};
use russh::keys::{Algorithm, HashAlg, PublicKey, parse_public_key_base64};
use russh::{Preferred, keys::EcdsaCurve};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// What is believed.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    /// This key.
    Key(Box<PublicKey>),
    /// A key with this fingerprint.
    Fingerprint(String),
    /// What a file says.
    Known(PathBuf, Known),
}

impl Expected {
    /// What is believed of `hop`.
    pub(super) fn of(hop: &Hop, known_hosts: Option<&Path>) -> Result<Self, Error> {
        let attribute = hop.attribute("host_key");
        if let Some(given) = &hop.host_key {
            return pinned(given).ok_or_else(|| Error::Unusable {
                attribute,
                why: "it is neither a public key, `ssh-ed25519 AAAA…`, nor a fingerprint, `SHA256:…`".to_owned(),
            });
        }
        let path = known_hosts
            .map_or_else(|| super::home().map(|home| home.join(".ssh/known_hosts")), |path| Some(path.to_owned()));
        let path = path.unwrap_or_default();
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if known_hosts.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) if known_hosts.is_none() => {
                return Err(Error::Unusable {
                    attribute,
                    why: format!("there is none, and {}: {error}", path.display()),
                });
            }
            Err(error) => {
                let why = format!("{}: {error}", path.display());
                return Err(Error::Unusable { attribute: "known_hosts".to_owned(), why });
            }
        };
        Ok(Self::Known(path, Known::of(&text, &hop.host, hop.port)))
    }

    /// Whether the key that `hop` showed is to be believed.
    pub(super) fn judge(&self, hop: &Hop, shown: &PublicKey) -> Result<(), Error> {
        let (host, attribute, found) = (hop.place(), hop.attribute("host_key"), Box::new(told(shown)));
        let other = |expected: Vec<String>, source_of: String| Error::OtherKey {
            host: host.clone(),
            found: found.clone(),
            expected,
            source_of,
            attribute: attribute.clone(),
        };
        match self {
            Self::Key(key) if key.key_data() == shown.key_data() => Ok(()),
            Self::Key(key) => Err(other(vec![told(key).told()], format!("`{attribute}`"))),
            Self::Fingerprint(print) if *print == found.fingerprint => Ok(()),
            Self::Fingerprint(print) => Err(other(vec![print.clone()], format!("`{attribute}`"))),
            Self::Known(path, known) => {
                let is_shown = |key: &PublicKey| key.key_data() == shown.key_data();
                if known.revoked.iter().any(is_shown) {
                    return Err(Error::Revoked { host, found, file: path.display().to_string() });
                }
                if known.keys.iter().any(is_shown) {
                    return Ok(());
                }
                if !known.keys.iter().any(|key| CHECKED.contains(&key.algorithm())) {
                    let none = if known.keys.is_empty() {
                        "no key"
                    } else {
                        "only kinds of keys that are not looked at (RSA)"
                    };
                    let looked = format!("{} has {none} of it, and `{attribute}` is not given", path.display());
                    return Err(Error::UnknownHost { host, found, looked, attribute });
                }
                Err(other(known.keys.iter().map(|key| told(key).told()).collect(), path.display().to_string()))
            }
        }
    }

    /// The kinds of keys to ask for: those that are known first, as ssh does, for a host has several.
    pub(super) fn preferred(&self) -> Cow<'static, [Algorithm]> {
        let mut kinds: Vec<Algorithm> = match self {
            Self::Key(key) => vec![key.algorithm()],
            Self::Fingerprint(_) => Vec::new(),
            Self::Known(_, known) => known.keys.iter().map(PublicKey::algorithm).collect(),
        };
        // Signatures of RSA host keys are not looked at: every server has another key as well.
        kinds.retain(|kind| CHECKED.contains(kind));
        for kind in CHECKED {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.into()
    }
}

/// The algorithms to offer, with these kinds of host keys.
pub(super) fn algorithms(expected: &Expected) -> Preferred {
    Preferred { key: expected.preferred(), ..Preferred::DEFAULT }
}

/// `ssh-ed25519 AAAA… comment`, perhaps with a name before it, or `SHA256:…`.
pub(super) fn pinned(text: &str) -> Option<Expected> {
    let text = text.trim();
    if let Some(digest) = text.strip_prefix("SHA256:") {
        let digest = digest.trim_end_matches('=');
        let good =
            digest.len() == 43 && digest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
        return good.then(|| Expected::Fingerprint(format!("SHA256:{digest}")));
    }
    let mut words = text.split_ascii_whitespace().skip_while(|word| !is_kind(word));
    let (_, key) = (words.next()?, words.next()?);
    parse_public_key_base64(key).ok().map(|key| Expected::Key(Box::new(key)))
}

fn is_kind(word: &str) -> bool {
    word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-")
}

fn told(key: &PublicKey) -> ShownKey {
    ShownKey { fingerprint: key.fingerprint(HashAlg::Sha256).to_string(), kind: key.algorithm().to_string() }
}

/// Kinds of host keys that are checked.
const CHECKED: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn key(line: &str) -> PublicKey {
        let Some(Expected::Key(key)) = pinned(line) else { panic!("a key") };
        *key
    }

    fn hop(host_key: Option<&str>) -> Hop {
        Hop { host: "pi".to_owned(), port: 22, host_key: host_key.map(str::to_owned), ..Hop::default() }
    }

    #[test]
    fn a_pinned_key_or_its_fingerprint_lets_in_this_key_alone() {
        let print = key(ONE).fingerprint(HashAlg::Sha256).to_string();
        for pin in [ONE, &format!("{ONE} root@pi"), &format!("pi {ONE}"), &print, &format!("{print}=")] {
            let (hop, expected) = (hop(Some(pin)), Expected::of(&hop(Some(pin)), None).unwrap());
            expected.judge(&hop, &key(ONE)).unwrap();
            let refused = expected.judge(&hop, &key(TWO)).unwrap_err().to_string();
            for part in [&print, &key(TWO).fingerprint(HashAlg::Sha256).to_string()] {
                assert!(refused.contains(part.as_str()), "both fingerprints: {refused}");
            }
        }
        for bad in ["", "SHA256:x", "ssh-ed25519", "ssh-ed25519 AAAA", "MD5:00"] {
            assert!(matches!(Expected::of(&hop(Some(bad)), None), Err(Error::Unusable { .. })), "{bad}");
        }
    }

    #[test]
    fn a_file_lets_in_what_it_knows_and_an_unknown_host_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let judge = |text: &str, shown: &str| {
            std::io::copy(&mut text.as_bytes(), &mut std::fs::File::create(&file).unwrap()).unwrap();
            Expected::of(&hop(None), Some(&file)).unwrap().judge(&hop(None), &key(shown))
        };
        judge(&format!("pi {ONE}\n"), ONE).unwrap();
        assert!(matches!(judge(&format!("pi {ONE}\n"), TWO), Err(Error::OtherKey { .. })));
        assert!(matches!(judge(&format!("pi {ONE}\n@revoked * {ONE}\n"), ONE), Err(Error::Revoked { .. })));
        let unknown = judge(&format!("other {ONE}\n"), ONE).unwrap_err();
        assert!(unknown.to_string().contains(&key(ONE).fingerprint(HashAlg::Sha256).to_string()), "{unknown}");
        let missing = Expected::of(&hop(None), Some(&folder.path().join("none")));
        assert!(matches!(missing, Err(Error::Unusable { attribute, .. }) if attribute == "known_hosts"));
    }

    #[test]
    fn the_kinds_that_are_known_are_asked_for_first() {
        let ecdsa = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let mut known = Known::default();
        let of = |known: &Known| Expected::Known(PathBuf::new(), known.clone()).preferred().to_vec();
        assert_eq!(of(&known).first(), Some(&Algorithm::Ed25519));
        known.keys.push(key("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="));
        assert_eq!(of(&known).first(), Some(&ecdsa));
        assert_eq!(of(&known).len(), 4);
    }

    #[test]
    fn any_pin_is_answered() {
        total::text("host-key", &[ONE, "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"], pinned);
    }
}
