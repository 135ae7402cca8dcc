//! The pin of a public key: SHA-256 over its SubjectPublicKeyInfo. Public data, safe in a state file.
//!
//! Written `sha256:` and 64 hex digits; Base64, as OpenSSL recipes print it, is read as well.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;

/// SHA-256 of a SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of the key whose DER SubjectPublicKeyInfo is `spki`.
    #[must_use]
    pub fn of(spki: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest::digest(&digest::SHA256, spki).as_ref());
        Self(pin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is \"sha256:\" and 64 hexadecimal digits")]
pub struct BadPin;

impl FromStr for Pin {
    type Err = BadPin;

    fn from_str(text: &str) -> Result<Self, BadPin> {
        let digits = text.trim().strip_prefix("sha256:").ok_or(BadPin)?;
        let bytes = if digits.len() == 64 { hex::decode(digits).ok() } else { STANDARD.decode(digits).ok() };
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(BadPin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_pin_is_the_digest_in_hex() {
        assert_eq!(Pin::of(b"abc").to_string(), HEX);
    }

    #[test]
    fn hex_and_base64_are_read_alike() {
        let from_hex: Pin = HEX.parse().unwrap();
        assert_eq!("sha256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=".parse(), Ok(from_hex));
        assert_eq!(HEX.to_uppercase().replace("SHA256", "sha256").parse(), Ok(from_hex));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "sha256:", "ba78", "sha256:00", "md5:ba7816bf", &HEX[..70], "sha256:\u{e9}"] {
            assert_eq!(text.parse::<Pin>(), Err(BadPin), "{text}");
        }
    }
}
