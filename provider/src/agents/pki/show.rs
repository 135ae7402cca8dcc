//! What a file of a PKI is, for people.

use super::{CertificateDer, certificates, private_key, read};
use rcgen::PublicKeyData as _;
use std::path::Path;
use std::time::{Duration, SystemTime};
use trust::{Certificate, Pin, Usage};

/// Explains a file: who, which role, until when, issued by whom. Of a key no more than which one it is.
///
/// # Errors
/// A sentence for the person at the terminal.
pub(crate) fn show(path: &Path) -> Result<String, String> {
    let text = read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.contains("PRIVATE KEY-----") {
        let (_, key) =
            private_key("key", &text).map_err(|_| format!("{} is not a private key in PEM", path.display()))?;
        return Ok(format!("private key of {}\n", Pin::of(&key.subject_public_key_info())));
    }
    let chain = certificates("file", &text).map_err(|error| error.to_string())?;
    chain.iter().map(explained).collect::<Result<Vec<_>, _>>().map(|parts| parts.join("\n"))
}

fn explained(certificate: &CertificateDer<'static>) -> Result<String, String> {
    let read = Certificate::read(certificate).map_err(|error| error.to_string())?;
    let mut text = String::new();
    // What stands in a certificate is its maker's choice.
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<10} {}\n", value.escape_debug()));
    line("what", &what(&read));
    line("subject", &read.subject);
    line("issued by", if read.self_issued { "itself" } else { &read.issuer });
    line("until", &format!("{}{}", read.until(), left(read.not_after)));
    line("key", &Pin::of(read.public_key()).to_string());
    Ok(text)
}

fn what(read: &Certificate) -> String {
    let issuers = match read.path_len {
        Some(0) => ", no issuer below it",
        _ => "",
    };
    let machine = read.uris.iter().find_map(|uri| uri.strip_prefix("groundwork:machine:"));
    match (read.is_ca, read.ceiling(), read.role(), machine) {
        (true, Some(highest), ..) => format!("issuer, {} at most{issuers}", highest.word()),
        (true, None, ..) if read.self_issued => format!("CA{issuers}"),
        (true, ..) => "issuer that names no highest role: agents take nothing of it".to_owned(),
        (false, _, Ok(Some(role)), _) if read.is_for(Usage::Client) => format!("client, {}", role.word()),
        (false, _, Ok(Some(role)), _) => format!("{}, not made for clients: agents refuse it", role.word()),
        (false, _, Err(_), _) => "of several roles: agents refuse it".to_owned(),
        (false, _, Ok(None), Some(uuid)) => format!("machine {uuid}"),
        (false, _, Ok(None), None) => "not of Groundwork: it carries no role and no machine".to_owned(),
    }
}

fn left(not_after: u64) -> String {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(not_after);
    match end.duration_since(SystemTime::now()) {
        Ok(left) if left < Duration::from_secs(2 * 86_400) => format!(" (in {} h)", left.as_secs() / 3_600),
        Ok(left) => format!(" (in {} days)", left.as_secs() / 86_400),
        Err(_) => " (over)".to_owned(),
    }
}
