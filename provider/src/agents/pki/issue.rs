//! Making the files of a PKI: a CA, an issuer below it, client certificates.

use super::{
    Authority, CERTIFICATE, CLIENT, CLIENT_KEY, DAY, Holds, KEY, Signer, YEAR, cannot_sign, named, readable, uri,
};
use crate::agents::Error;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use trust::{Role, pem};

/// What was made, for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// Until when it counts.
    pub(crate) until: String,
}

/// Makes a CA in `dir`: `ca.pem` and `ca-key.pem` (readable by the owner only). Existing files are never overwritten.
///
/// # Errors
/// A sentence for the person at the terminal.
pub(crate) fn init(dir: &Path) -> Result<(), String> {
    let (certificate, key) = make().map_err(|error| format!("cannot make a CA: {error}"))?;
    folder(dir, 0o755)?;
    write_new(dir, [(KEY, 0o600, key), (CERTIFICATE, 0o644, certificate)])
}

/// Issues a client certificate by the CA or issuer in `dir`, into the folder `out`, which `pki_dir` can name then. An earlier one of the
/// folder is replaced.
///
/// # Errors
/// A sentence for the person at the terminal.
pub(crate) fn issue(dir: &Path, out: &Path, role: Role, life: Duration) -> Result<Issued, String> {
    let authority = authority(dir)?;
    let signer = signer(&authority, dir)?;
    if !signer.highest.includes(role) {
        return Err(Error::Ceiling { highest: signer.highest, needs: role }.to_string());
    }
    if out.join(KEY).exists() {
        return Err(format!("{} is the folder of an issuer: name another with --out", out.display()));
    }
    let (chain, key) = signer.client(role, life).map_err(|error| error.to_string())?;
    let until = readable(&chain[0]).map_err(|error| error.to_string())?.until().to_owned();
    folder(out, 0o700)?;
    let chain: String = chain.iter().map(pem).collect();
    // The certificate last: a key without one is nothing.
    let files =
        [(CERTIFICATE, 0o644, authority.pem.clone()), (CLIENT_KEY, 0o600, key.serialize_pem()), (CLIENT, 0o644, chain)];
    for (name, mode, text) in files {
        let path = out.join(name);
        replace(&path, mode, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(Issued { folder: out.to_owned(), until })
}

/// Makes an issuer below the CA in `dir` that gives no more than `highest`, in the folder `out`. Existing files are never overwritten.
///
/// # Errors
/// A sentence for the person at the terminal.
pub(crate) fn intermediate(dir: &Path, out: &Path, highest: Role, life: Duration) -> Result<Issued, String> {
    let authority = authority(dir)?;
    let signer = signer(&authority, dir)?;
    if !signer.highest.includes(highest) {
        return Err(Error::Ceiling { highest: signer.highest, needs: highest }.to_string());
    }
    let own = signer.between.first().unwrap_or(&authority.anchors[0]);
    let room = readable(own).map_err(|error| error.to_string())?.path_len;
    if room == Some(0) {
        return Err(format!(
            "the certificate in {} allows no issuer below it (`pathlen` 0): make a new CA with `pki init`, and go over to it with `pki rotate`",
            dir.display()
        ));
    }
    let (certificate, key) = below(signer, highest, life).map_err(|error| error.to_string())?;
    let until = readable(&certificate).map_err(|error| error.to_string())?.until().to_owned();
    folder(out, 0o700)?;
    let between = std::iter::once(&certificate).chain(&signer.between).map(pem).collect::<String>();
    write_new(out, [(KEY, 0o600, key.serialize_pem()), (CERTIFICATE, 0o644, between + &authority.pem)])?;
    Ok(Issued { folder: out.to_owned(), until })
}

fn below(signer: &Signer, highest: Role, life: Duration) -> Result<(CertificateDer<'static>, KeyPair), Error> {
    let key = KeyPair::generate().map_err(cannot_sign)?;
    let mut params = named(&format!("Groundwork issuer: {} at most", highest.word()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![uri(&highest.ceiling_uri())?];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if highest == Role::Admin {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    signer.lives(&mut params, life);
    let certificate = params.signed_by(&key, &signer.issuer).map_err(cannot_sign)?;
    Ok((certificate.der().clone(), key))
}

pub(super) fn make() -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = named("Groundwork agents");
    // One issuer below it: `pki intermediate`.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + 30 * YEAR).into();
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn authority(dir: &Path) -> Result<Authority, String> {
    Authority::from_dir(dir).map_err(|error| tf::chain(&error))
}

fn signer<'a>(authority: &'a Authority, dir: &Path) -> Result<&'a Signer, String> {
    match &authority.holds {
        Holds::Issuer(signer) => Ok(signer),
        Holds::Client(_) => {
            Err(format!("{} holds a client certificate, and no key to issue others with", dir.display()))
        }
    }
}

fn write_new<const N: usize>(dir: &Path, files: [(&str, u32, String); N]) -> Result<(), String> {
    for (name, mode, text) in files {
        let path = dir.join(name);
        let write = || -> std::io::Result<()> {
            let mut file = create_new(&path, mode)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn replace(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_new(&temporary, mode)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(unix)]
fn folder(dir: &Path, mode: u32) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir);
    made.map_err(|error| format!("cannot write {}: {error}", dir.display()))
}

#[cfg(not(unix))]
fn folder(dir: &Path, _mode: u32) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|error| format!("cannot write {}: {error}", dir.display()))
}

#[cfg(unix)]
fn create_new(path: &Path, mode: u32) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(not(unix))]
fn create_new(path: &Path, _mode: u32) -> std::io::Result<std::fs::File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}
