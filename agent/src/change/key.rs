//! OpenPGP keys as apt reads them.
//!
//! Source: RFC 4880, 4.2 (packet headers) and 6.2 (armour); apt-key(8): apt goes by the name, and `.asc` must be armoured. With a
//! byte order mark before it, or with lines that end in CR LF, apt takes an armoured key for none and says nothing of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A key in armour, as it came or put into it; `None` if this is no key.
pub(super) fn armoured(content: &[u8]) -> Option<Vec<u8>> {
    if content.windows(BEGIN.len()).any(|part| part == BEGIN.as_bytes()) {
        return Some(plain(&String::from_utf8_lossy(content)).into_bytes());
    }
    if !is_public_key(*content.first()?) {
        return None;
    }
    let mut text = format!("{BEGIN}\n\n");
    for (index, letter) in STANDARD.encode(content).chars().enumerate() {
        if index > 0 && index % LINE == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    // The checksum may be left out.
    text.push_str("\n-----END PGP PUBLIC KEY BLOCK-----\n");
    Some(text.into_bytes())
}

/// Armour as apt reads it: from its first line on, and with line ends of its own.
#[must_use]
pub(crate) fn plain(armour: &str) -> String {
    let text = armour.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    format!("{}\n", text.trim())
}

/// The first byte of a packet: its format, and its tag, which is 6 for a public key.
fn is_public_key(first: u8) -> bool {
    let (new, old) = (first & 0b1100_0000 == 0b1100_0000, first & 0b1100_0000 == 0b1000_0000);
    new && first & 0b11_1111 == PUBLIC_KEY || old && (first & 0b11_1100) >> 2 == PUBLIC_KEY
}

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const PUBLIC_KEY: u8 = 6;
const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armoured_key_stays_as_it_is() {
        let text = format!("A comment.\n{BEGIN}\n\nmQINBF\n");
        assert_eq!(armoured(text.as_bytes()), Some(text.into_bytes()));
    }

    #[test]
    fn a_key_from_another_system_is_put_right() {
        let text = format!("\u{feff}{BEGIN}\r\n\r\nmQINBF\r\n\r\n");
        let want = format!("{BEGIN}\n\nmQINBF\n");
        assert_eq!(armoured(text.as_bytes()), Some(want.clone().into_bytes()));
        assert_eq!((plain(&text), plain(&want)), (want.clone(), want));
    }

    #[test]
    fn a_binary_key_is_put_into_armour() {
        for first in [0x98, 0x99, 0xc6] {
            let binary = [[first].as_slice(), &[7; 99]].concat();
            let text = String::from_utf8(armoured(&binary).unwrap()).unwrap();
            let body: Vec<_> = text.lines().skip(2).take_while(|line| !line.starts_with("-----END")).collect();
            assert!(text.starts_with(BEGIN) && body.iter().all(|line| line.len() <= LINE), "{text}");
            assert_eq!(STANDARD.decode(body.concat()).unwrap(), binary);
        }
    }

    #[test]
    fn anything_else_is_no_key() {
        for other in
            ["", "<!DOCTYPE html>", "\u{fffd}", "-----BEGIN PGP SIGNED MESSAGE-----\n", "-----BEGIN CERTIFICATE-----"]
        {
            assert_eq!(armoured(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn any_text_is_answered() {
        total::bytes(
            "openpgp",
            &[b"\xef\xbb\xbf-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n\r\nmQINBF\r\n", b"\x98\x0d"],
            armoured,
        );
    }
}
