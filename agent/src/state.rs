//! The agent's own folder (`/var/lib/groundwork`): identity, records. Root only.
//!
//! Small files, written whole: temporary file, fsync, rename. What belongs to the machine and not to the agent goes through
//! `host` instead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The folder and everything in it, by relative name.
#[derive(Debug, Clone)]
pub struct State {
    folder: PathBuf,
}

/// A file of the agent's own that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {path}")]
pub struct StateError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl State {
    /// The folder is made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(failed("make", folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// As [`State::open`], and the folder is root's alone, whoever made it with which permissions.
    ///
    /// # Errors
    /// When it cannot be made, or made so.
    pub fn own(folder: &Path) -> Result<Self, StateError> {
        use std::os::unix::fs::PermissionsExt as _;
        let state = Self::open(folder)?;
        let closed = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
        closed.map_err(failed("close", folder))?;
        Ok(state)
    }

    /// The text of a file, `None` if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.folder.join(name);
        let mut text = String::new();
        match File::open(&path).and_then(|mut file| file.read_to_string(&mut text)) {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Replaces a file as a whole; readable by root only, on disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written; the old file then still stands.
    pub fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.folder.join(name);
        self.replace(&path, text).map_err(failed("write", &path))
    }

    /// Overwrites a file with zeros and removes it; content if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn burn(&self, name: &str) -> Result<(), StateError> {
        let path = self.folder.join(name);
        let burn = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(&path)?;
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(0).min(1 << 20);
            file.write_all(&vec![0; length])?;
            file.sync_all()?;
            fs::remove_file(&path)?;
            sync_folder(&path)
        };
        absent_is_fine(burn()).map_err(failed("remove", &path))
    }

    /// Removes a folder with all in it; content if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove_folder(&self, name: &str) -> Result<(), StateError> {
        let path = self.folder.join(name);
        absent_is_fine(fs::remove_dir_all(&path)).map_err(failed("remove", &path))
    }

    /// Removes everything but the files named; secrets are overwritten first.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self, but: &[&str]) -> Result<(), StateError> {
        for name in self.list("")?.iter().filter(|name| !but.contains(&name.as_str())) {
            if self.folder.join(name).is_dir() { self.remove_folder(name)? } else { self.burn(name)? }
        }
        Ok(())
    }

    /// Names of the files in a folder, sorted.
    ///
    /// # Errors
    /// When it is there and cannot be listed.
    pub fn list(&self, name: &str) -> Result<Vec<String>, StateError> {
        let path = self.folder.join(name);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &path)(error)),
        };
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let temporary = path.with_extension("new");
        absent_is_fine(fs::remove_file(&temporary))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    }
}

/// A rename or removal is on disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError { act, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_written_whole_and_for_root_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("groundwork")).unwrap();
        assert_eq!(state.read("a/b").unwrap(), None);
        state.write("a/b", "one").unwrap();
        state.write("a/b", "two").unwrap();
        assert_eq!(state.read("a/b").unwrap().as_deref(), Some("two"));
        let mode = |name: &str| folder.path().join("groundwork").join(name).metadata().unwrap().permissions().mode();
        assert_eq!((mode("a/b") & 0o777, mode("a") & 0o777, mode("") & 0o777), (0o600, 0o700, 0o700));
        assert_eq!(state.list("a").unwrap(), ["b"]);
    }

    #[test]
    fn a_folder_that_is_open_to_others_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        State::own(folder.path()).unwrap();
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_is_burnt_is_gone_and_absence_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.write("secret", "x").unwrap();
        state.burn("secret").unwrap();
        state.burn("secret").unwrap();
        state.remove_folder("none").unwrap();
        assert_eq!(state.list("").unwrap(), Vec::<String>::new());
        assert_eq!(state.list("none").unwrap(), Vec::<String>::new());
    }
}
