//! Whose an unfinished VM is: a token in Terraform's own folder, held with a lock for as long as the creation goes on.
//!
//! Terraform tells a provider nothing that one state has and no other, and what a killed provider did not return is in no state. So before
//! a VM is asked for, a random token is written into the working folder (`.terraform/groundwork/creating/`), one file for each cluster,
//! workspace and name; the VM's mark is made of it. The next apply of the same folder has the token, and goes on with the VM; any other has
//! not, and leaves it alone. The operating system drops the lock when the process ends, however it ends: who gets it knows that nobody
//! creates that VM any more.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use pve::Vmid;
use serde::{Deserialize, Serialize};

/// One creation that nobody else goes on with while this lives.
#[derive(Debug)]
pub(super) struct Claim {
    /// Locked; none where the folder cannot be written.
    file: Option<File>,
    token: String,
    before: Option<Begun>,
}

/// A creation as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    token: String,
    vmid: u32,
    /// What the VM was made of: with another configuration it is another VM.
    made_of: String,
}

/// Why there is no claim.
#[derive(Debug)]
pub(super) struct Taken;

impl Claim {
    /// Takes the name on the cluster at `endpoints`. Fails if another apply in this folder is creating a VM of that name there now.
    pub(super) fn take(endpoints: &[String], name: &str) -> Result<Self, Taken> {
        Self::take_in(&terraforms_folder(), endpoints, name)
    }

    fn take_in(folder: &Path, endpoints: &[String], name: &str) -> Result<Self, Taken> {
        let nothing = || Self { file: None, token: token(), before: None };
        let mut file = match open(folder, endpoints, name) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(%error, "the working folder cannot be written: a creation that is cut off cannot be gone on with");
                return Ok(nothing());
            }
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(Taken),
            Err(TryLockError::Error(error)) => tracing::warn!(%error, "the file of a creation cannot be locked"),
            Ok(()) => {}
        }
        let mut text = String::new();
        let read = (&mut file).take(LARGEST).read_to_string(&mut text);
        let before: Option<Begun> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
        let token = before.as_ref().map_or_else(token, |begun| begun.token.clone());
        Ok(Self { file: Some(file), token, before })
    }

    /// What the mark of the VM is made of.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The number that an interrupted creation asked for, and whether it made the same of it.
    pub(super) fn interrupted(&self, made_of: &str) -> Option<(Vmid, bool)> {
        let begun = self.before.as_ref()?;
        Some((Vmid::new(i64::from(begun.vmid))?, begun.made_of == made_of))
    }

    /// Notes that a VM with this number is about to be asked for.
    pub(super) fn begin(&mut self, vmid: Vmid, made_of: &str) {
        let begun = Begun { token: self.token.clone(), vmid: vmid.get(), made_of: made_of.to_owned() };
        self.write(&serde_json::to_vec(&begun).unwrap_or_default());
        self.before = Some(begun);
    }

    /// Nothing is unfinished any more. The file stays, empty: whoever waits for its lock must not wait for another file.
    pub(super) fn end(mut self) {
        self.write(b"");
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let mut written = || {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(bytes)
        };
        if let Err(error) = written() {
            tracing::warn!(%error, "the file of a creation cannot be written");
        }
    }
}

/// The file of one creation.
fn open(folder: &Path, endpoints: &[String], name: &str) -> io::Result<File> {
    let whose = [workspace(folder), endpoints.join(" "), name.to_owned()].join("\0");
    let id = digest(&SHA256, whose.as_bytes());
    let folder = folder.join("groundwork/creating");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(hex::encode(id.as_ref().get(..12).unwrap_or_default()));
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// Where Terraform keeps what belongs to the working folder.
fn terraforms_folder() -> PathBuf {
    let named = std::env::var_os("TF_DATA_DIR").filter(|dir| !dir.is_empty());
    named.map_or_else(|| PathBuf::from(".terraform"), PathBuf::from)
}

/// Each workspace of a folder has a state of its own.
fn workspace(folder: &Path) -> String {
    let chosen = || {
        let mut text = String::new();
        File::open(folder.join("environment")).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
        Some(text.trim().to_owned())
    };
    let named = std::env::var("TF_WORKSPACE").ok().filter(|name| !name.is_empty());
    named.or_else(chosen).unwrap_or_default()
}

fn token() -> String {
    hex::encode(trust::nonce())
}

const LARGEST: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn take(folder: &Path, name: &str) -> Result<Claim, Taken> {
        Claim::take_in(folder, &["https://pve1:8006".to_owned()], name)
    }

    #[test]
    fn a_name_is_claimed_once_at_a_time_and_the_token_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = take(folder.path(), "web").unwrap();
        assert!(take(folder.path(), "web").is_err(), "it is being created");
        assert!(take(folder.path(), "db").is_ok());
        assert!(Claim::take_in(folder.path(), &["https://other:8006".to_owned()], "web").is_ok(), "another cluster");
        assert_eq!(first.interrupted("x"), None);
        let token = first.token().to_owned();
        first.begin(Vmid::new(1234).unwrap(), "x");
        // As a process that is killed.
        drop(first);
        let again = take(folder.path(), "web").unwrap();
        assert_eq!((again.token(), again.interrupted("x")), (token.as_str(), Some((Vmid::new(1234).unwrap(), true))));
        assert_eq!(again.interrupted("y"), Some((Vmid::new(1234).unwrap(), false)), "the configuration was changed");
        again.end();
        let new = take(folder.path(), "web").unwrap();
        assert_eq!(new.interrupted("x"), None);
        assert_ne!(new.token(), token);
    }

    #[test]
    fn any_file_is_answered() {
        total::text("claim", &[r#"{"token":"t","vmid":100,"made_of":"x"}"#], |text| {
            serde_json::from_str::<Begun>(text).ok()
        });
    }

    #[test]
    fn another_folder_has_another_token() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        take(one.path(), "web").unwrap().begin(Vmid::new(100).unwrap(), "x");
        let theirs = take(other.path(), "web").unwrap();
        assert_eq!(theirs.interrupted("x"), None);
        assert_ne!(take(one.path(), "web").unwrap().token(), theirs.token());
    }

    #[test]
    fn a_workspace_has_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        take(folder.path(), "web").unwrap().begin(Vmid::new(100).unwrap(), "x");
        File::create(folder.path().join("environment")).unwrap().write_all(b"staging").unwrap();
        assert_eq!(take(folder.path(), "web").unwrap().interrupted("x"), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_only_what_it_would_hold() {
        let claim = take(Path::new("/proc/nothing"), "web").unwrap();
        assert_eq!(claim.interrupted("x"), None);
    }
}
