//! OpenSSH's `known_hosts` (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): which keys a host has, and which are revoked.
//!
//! Names may be plain, patterns, negated or hashed. Lines that cannot be understood are passed over, as ssh does. Certificates of hosts
//! are not looked at.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::{PublicKey, parse_public_key_base64};

/// What a file says of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Its keys.
    pub(super) keys: Vec<PublicKey>,
    /// Keys that nobody may have.
    pub(super) revoked: Vec<PublicKey>,
}

impl Known {
    /// What `text` says of `host`.
    pub(super) fn of(text: &str, host: &str, port: u16) -> Self {
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        let mut known = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace().peekable();
            let marker = words.next_if(|word| word.starts_with('@'));
            let (Some(names), Some(kind), Some(key)) = (words.next(), words.next(), words.next()) else { continue };
            if names.starts_with('#') || kind.contains("-cert-") || !is_named(&name, names) {
                continue;
            }
            let Ok(key) = parse_public_key_base64(key) else { continue };
            match marker {
                None => known.keys.push(key),
                Some("@revoked") => known.revoked.push(key),
                Some(_) => {}
            }
        }
        known
    }
}

/// Whether a list of names is this host's.
fn is_named(name: &str, names: &str) -> bool {
    let mut is = false;
    for pattern in names.split(',') {
        if let Some(hashed) = pattern.strip_prefix("|1|") {
            is |= is_hash_of(name, hashed).unwrap_or(false);
        } else if let Some(not) = pattern.strip_prefix('!') {
            if fits(name.as_bytes(), not.to_ascii_lowercase().as_bytes()) {
                return false;
            }
        } else {
            is |= fits(name.as_bytes(), pattern.to_ascii_lowercase().as_bytes());
        }
    }
    is
}

/// `salt|hash`, HMAC-SHA1 of the name.
fn is_hash_of(name: &str, hashed: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let (salt, hash) = (STANDARD.decode(salt).ok()?, STANDARD.decode(hash).ok()?);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    Some(hmac::verify(&key, name.as_bytes(), &hash).is_ok())
}

/// Whether a name is as a pattern of `*` and `?` says; in time that grows with the product of both.
fn fits(name: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut in_pattern, mut star) = (0, 0, None);
    while let Some(byte) = name.get(at) {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                star = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at += 1;
                in_pattern += 1;
            }
            _ => {
                // The last star takes one byte more.
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                (at, in_pattern) = (taken + 1, place + 1);
            }
        }
    }
    pattern.get(in_pattern..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    #[track_caller]
    fn check(names: &str, host: &str, port: u16, is: bool) {
        let known = Known::of(&format!("{names} ssh-ed25519 {ONE} a comment\n"), host, port);
        assert_eq!(!known.keys.is_empty(), is, "{names} and {host}:{port}");
    }

    #[test]
    fn names_are_matched_as_openssh_does() {
        check("pi", "pi", 22, true);
        check("pi", "Pi", 22, true);
        check("pi,192.0.2.7", "192.0.2.7", 22, true);
        check("pi", "pie", 22, false);
        check("pi", "pi", 2222, false);
        check("[pi]:2222", "pi", 2222, true);
        check("[pi]:2222", "pi", 22, false);
        check("*.lab", "a.lab", 22, true);
        check("*.lab,!b.lab", "b.lab", 22, false);
        check("192.0.2.?", "192.0.2.7", 22, true);
        check("*", "anything", 22, true);
        check("a*b*c", "aXbYbZc", 22, true);
        check("a*b*c", "aXbYbZ", 22, false);
        check("#pi", "#pi", 22, false);
    }

    #[test]
    fn hashed_names_are_found() {
        let line = format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= ssh-ed25519 {TWO}\n");
        assert_eq!(Known::of(&line, "example.com", 22).keys, [parse_public_key_base64(TWO).unwrap()]);
        assert_eq!(Known::of(&line, "example.org", 22), Known::default());
    }

    #[test]
    fn a_revoked_key_and_an_authority_are_no_keys_of_a_host() {
        let text = format!("@revoked * ssh-ed25519 {ONE}\n@cert-authority pi ssh-ed25519 {TWO}\n\nnonsense\npi x y\n");
        let known = Known::of(&text, "pi", 22);
        assert_eq!((known.keys.len(), known.revoked.len()), (0, 1));
    }

    #[test]
    fn any_text_is_answered() {
        let good = format!(
            "pi,192.0.2.7,*.lab,!x ssh-ed25519 {ONE}\n|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= ssh-ed25519 {TWO}\n@revoked * ssh-ed25519 {TWO}\n"
        );
        total::text("known-hosts", &[&good], |text| Known::of(text, "pi", 22));
        total::text("known-hosts", &[&good], |text| fits(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", text.as_bytes()));
    }
}
