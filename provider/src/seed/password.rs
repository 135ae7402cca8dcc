//! A password as it goes into a seed: a hash of crypt(3), the user's own or ours.
//!
//! A seed image lies on a storage until the machine has booted, and cloud-init keeps what it was told: neither needs the password.
//! Source: crypt(5) of libxcrypt, which says what each kind of hash looks like.

use sha_crypt::{PasswordHasher as _, ShaCrypt};

/// The password as a hash: left alone if it is one, otherwise SHA-512 with a salt of its own.
pub(super) fn hashed(password: &str) -> Option<String> {
    if is_hash(password) {
        return Some(password.to_owned());
    }
    let salt: Vec<u8> = trust::nonce().iter().take(SALT).copied().collect();
    let hash = ShaCrypt::default().hash_password_with_salt(password.as_bytes(), &salt).ok()?;
    Some(hash.as_str().to_owned())
}

/// Whether crypt(3) would compare with it. What only begins like a hash is a password.
pub(crate) fn is_hash(text: &str) -> bool {
    let Some((id, rest)) = text.strip_prefix('$').and_then(|text| text.split_once('$')) else { return false };
    let parts: Vec<&str> = rest.split('$').collect();
    match (id, parts.as_slice()) {
        ("1", [salt, hash]) => is_salt(salt, 8) && is_text(hash, 22),
        ("5", [salt, hash]) => is_salt(salt, 16) && is_text(hash, 43),
        ("5", [rounds, salt, hash]) => is_rounds(rounds) && is_salt(salt, 16) && is_text(hash, 43),
        ("6", [salt, hash]) => is_salt(salt, 16) && is_text(hash, 86),
        ("6", [rounds, salt, hash]) => is_rounds(rounds) && is_salt(salt, 16) && is_text(hash, 86),
        ("2a" | "2b" | "2x" | "2y", [cost, hash]) => is_number(cost) && cost.len() == 2 && is_text(hash, 53),
        ("y" | "gy", [params, salt, hash]) => is_some_text(params) && is_text_up_to(salt, 86) && is_text(hash, 43),
        // Parameters and salt in one.
        ("7", [salt, hash]) => salt.len() > 11 && is_text_up_to(salt, 97) && is_text(hash, 43),
        ("sha1", [rounds, salt, hash]) => is_number(rounds) && is_salt(salt, 64) && is_text(hash, 28),
        _ => false,
    }
}

/// `rounds=5000`
fn is_rounds(text: &str) -> bool {
    text.strip_prefix("rounds=").is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Salts may be empty, and their alphabet is larger than that of hashes.
fn is_salt(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b':' | b'*' | b'!'))
}

fn is_text(text: &str, length: usize) -> bool {
    text.len() == length && is_some_text(text)
}

fn is_text_up_to(text: &str, longest: usize) -> bool {
    text.len() <= longest && (text.is_empty() || is_some_text(text))
}

fn is_some_text(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'))
}

/// Bytes of a salt, which become 16 characters.
const SALT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const HASHES: [&str; 9] = [
        "$1$abcdefgh$irWbblnpmw.5z7wgBnprh0",
        "$5$rounds=535000$MPR/XS6tS3eJHMdC$NpzWSCHEQHRqXEOdYHqVKk6c4kyqkDeovhl5lF1IVD0",
        "$6$52450745$k5ka2p8bFuSmoVT1tzOyyuaREkkKBcCNqoDKzYiJL9RaE8yMnPgh2XzzF0NDrUhgrcLwg78xs1w5pJiypEdFX/",
        "$6$rounds=5000$52450745$k5ka2p8bFuSmoVT1tzOyyuaREkkKBcCNqoDKzYiJL9RaE8yMnPgh2XzzF0NDrUhgrcLwg78xs1w5pJiypEdFX/",
        "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$2y$05$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
        "$gy$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
        "$sha1$40000$jtNX3nZ2$hBNaIXkt4wBI2o5rsi8KejSjNqIq",
    ];

    #[test]
    fn every_kind_of_hash_is_known_and_left_alone() {
        for hash in HASHES {
            assert!(is_hash(hash), "{hash}");
            assert_eq!(hashed(hash).as_deref(), Some(hash));
            let cut = &hash[..hash.len() - 1];
            assert!(!is_hash(cut) && !is_hash(&format!("{hash}!")), "{cut}");
        }
    }

    #[test]
    fn a_password_that_only_begins_like_a_hash_is_hashed() {
        for plain in
            ["$ecret", "$6$", "$6$salt$short", "$$$", "$1$", "plain", "pä$$wörd", "$y$j9T$$", "$2b$12$tooshort"]
        {
            let hash = hashed(plain).unwrap();
            assert!(!is_hash(plain) && is_hash(&hash) && hash.starts_with("$6$"), "{plain}: {hash}");
        }
        assert_ne!(hashed("one"), hashed("one"), "each with a salt of its own");
    }
}
