//! Folders and files opened step by step, so that no user's link leads root elsewhere.
//!
//! A file may be declared below a folder that belongs to a user. He could put a link in the place of the file or of a folder on the
//! way, and root would write wherever he likes, or read what only root may and give it to him. So every step is taken from the open
//! folder before it, and only root's own links are followed, such as `/var/run` and `/lib`. What was opened stays what it is,
//! whatever becomes of the path: content, mode and owner are asked of the same open file.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// What to do about a folder that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Fails,
    IsMade,
}

/// Opens the folder in which `path` stands.
pub(super) fn of(path: &Path, missing: Missing) -> io::Result<OwnedFd> {
    below(root()?, path.parent().unwrap_or(Path::new("/")), missing)
}

/// Opens the file at `path` for reading, also through links of root's.
pub(super) fn file(path: &Path) -> io::Result<File> {
    let (mut folder, mut name) = (of(path, Missing::Fails)?, name(path)?);
    for _ in 0..LINKS {
        if let Some(file) = open(&folder, &name)? {
            return Ok(file);
        }
        let to = PathBuf::from(target(&folder, &name)?);
        folder = below(folder, to.parent().unwrap_or(Path::new("")), Missing::Fails)?;
        name = self::name(&to)?;
    }
    Err(Errno::ELOOP.into())
}

/// Opens a regular file in a folder; `None` if a link stands there.
///
/// Neither a pipe nor the kernel's log can keep us waiting, and what is looked at afterwards is what was opened.
pub(super) fn open(folder: &OwnedFd, name: &OsStr) -> io::Result<Option<File>> {
    const FLAGS: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);
    let file = match openat(folder, name, FLAGS, Mode::empty()) {
        Err(Errno::ELOOP) => return Ok(None),
        file => File::from(file?),
    };
    if file.metadata()?.is_file() { Ok(Some(file)) } else { Err(io::Error::other("it is not a regular file")) }
}

/// The last name of a path.
pub(super) fn name(path: &Path) -> io::Result<OsString> {
    path.file_name().map(OsStr::to_owned).ok_or_else(|| Errno::EISDIR.into())
}

/// Opens the folder at `path`, which begins at `at` unless it is absolute.
fn below(at: OwnedFd, path: &Path, missing: Missing) -> io::Result<OwnedFd> {
    let mut at = if path.is_absolute() { root()? } else { at };
    let mut left = steps(path);
    let mut links = 0;
    while let Some(step) = left.pop() {
        match openat(&at, step.as_os_str(), FOLDER, Mode::empty()) {
            Ok(folder) => at = folder,
            Err(Errno::ENOENT) if missing == Missing::IsMade => at = make(&at, &step)?,
            // Something else stands there.
            Err(Errno::ENOTDIR | Errno::ELOOP) if links < LINKS => {
                links += 1;
                let to = target(&at, &step)?;
                if Path::new(&to).is_absolute() {
                    at = root()?;
                }
                left.extend(steps(Path::new(&to)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(at)
}

fn root() -> io::Result<OwnedFd> {
    Ok(openat(AT_FDCWD, "/", FOLDER, Mode::empty())?)
}

/// The names on a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().rev().filter_map(|step| match step {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    steps.collect()
}

fn make(at: &OwnedFd, step: &OsStr) -> io::Result<OwnedFd> {
    mkdirat(at, step, ENTERED_BY_ALL)?;
    let made = openat(at, step, FOLDER, Mode::empty())?;
    // The unit's umask is for the agent's own files: who may read a file must get to it.
    fchmod(&made, ENTERED_BY_ALL)?;
    Ok(made)
}

/// Where a link leads, if it is root's.
fn target(at: &OwnedFd, step: &OsStr) -> io::Result<OsString> {
    let link = openat(at, step, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&link)?;
    if !is_link(&stat) {
        return Err(Errno::ENOTDIR.into());
    }
    let to = readlinkat(&link, "")?;
    if is_ours(&link, &stat)? { Ok(to) } else { Err(foreign(step, &to, &stat)) }
}

fn is_link(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode).intersection(SFlag::S_IFMT) == SFlag::S_IFLNK
}

/// Root's, or the kernel's. In a test without root, the tester's.
fn is_ours(link: &OwnedFd, stat: &FileStat) -> io::Result<bool> {
    if stat.st_uid == 0 || stat.st_uid == nix::unistd::geteuid().as_raw() {
        return Ok(true);
    }
    // In a container without privileges the links of `/proc` and `/sys` are nobody's.
    Ok([PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&fstatfs(link)?.filesystem_type()))
}

/// A user's link on the way: a refusal, and no failure of the machine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Foreign(String);

fn foreign(step: &OsStr, to: &OsStr, stat: &FileStat) -> io::Error {
    io::Error::other(Foreign(format!(
        "{} on the way is a link to {}, made by the user with the number {}. Links of users are not followed: remove it, or \
         declare the path it leads to",
        step.display(),
        to.display(),
        stat.st_uid
    )))
}

const ENTERED_BY_ALL: Mode = Mode::from_bits_truncate(0o755);
/// Not `O_PATH`, which would not set off an automount.
const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// As many as the kernel follows. Source: path_resolution(7).
const LINKS: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::linux::Linux;
    use crate::host::{Access, Host as _};
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, lchown, symlink};
    use tempfile::{TempDir, tempdir};

    fn mine() -> Access {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Access { mode: 0o644, uid, gid }
    }

    /// Two folders, and a link in the first that leads to the second, in which a file stands.
    fn linked() -> (TempDir, TempDir) {
        let (home, system) = (tempdir().unwrap(), tempdir().unwrap());
        symlink(system.path(), home.path().join(".config")).unwrap();
        Linux.write(system.path().join("there").to_str().unwrap(), b"old", mine()).unwrap();
        (home, system)
    }

    #[test]
    fn links_of_roots_are_followed() {
        let (home, system) = linked();
        fs::create_dir(home.path().join("inner")).unwrap();
        symlink("inner/../.config/made", home.path().join("relative")).unwrap();
        let path = home.path().join("relative/again/file");
        Linux.write(path.to_str().unwrap(), b"x", mine()).unwrap();
        assert_eq!(fs::read(system.path().join("made/again/file")).unwrap(), b"x");
        Linux.link(path.to_str().unwrap(), "/dev/null").unwrap();
        assert_eq!(fs::read_link(system.path().join("made/again/file")).unwrap(), Path::new("/dev/null"));
        Linux.remove(path.to_str().unwrap()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_is_made_can_be_entered_whatever_the_umask() {
        let home = tempdir().unwrap();
        // Of this thread alone: the process shares its umask with the other tests.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
        Linux.write(home.path().join("new/file").to_str().unwrap(), b"x", mine()).unwrap();
        assert_eq!(fs::metadata(home.path().join("new")).unwrap().mode() & 0o777, 0o755);
    }

    #[test]
    fn links_in_a_circle_come_to_an_end() {
        let home = tempdir().unwrap();
        symlink("b", home.path().join("a")).unwrap();
        symlink("a", home.path().join("b")).unwrap();
        of(&home.path().join("a/file"), Missing::IsMade).unwrap_err();
    }

    #[test]
    fn what_is_not_there_is_made_only_for_a_write() {
        let home = tempdir().unwrap();
        let path = home.path().join("none/file");
        Linux.remove(path.to_str().unwrap()).unwrap();
        assert!(!home.path().join("none").exists());
        Linux.write(home.path().join("file").to_str().unwrap(), b"x", mine()).unwrap();
        let below_a_file = home.path().join("file/below/it");
        Linux.remove(below_a_file.to_str().unwrap()).unwrap();
        Linux.write(below_a_file.to_str().unwrap(), b"x", mine()).unwrap_err();
    }

    #[test]
    fn a_users_link_does_not_lead_roots_write() {
        // Only root can give a link away.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (home, system) = linked();
        // bob: ln -s /etc/profile.d ~/.config
        lchown(home.path().join(".config"), Some(1000), Some(1000)).unwrap();
        let path = |name: &str| home.path().join(".config").join(name).to_str().unwrap().to_owned();
        let error = Linux.write(&path("app.sh"), b"x", Access { uid: 1000, gid: 1000, ..mine() }).unwrap_err();
        let said = crate::chain::chain(&error);
        let want = format!(
            "cannot write {}: .config on the way is a link to {}, made by the user with the number 1000. Links of users are \
             not followed: remove it, or declare the path it leads to",
            path("app.sh"),
            system.path().display()
        );
        assert_eq!(said, want);
        Linux.link(&path("app.sh"), "/dev/null").unwrap_err();
        Linux.remove(&path("there")).unwrap_err();
        // Nor what root reads.
        Linux.read(&path("there")).unwrap_err();
        Linux.stat(&path("there")).unwrap_err();
        Linux.compare(&path("there"), b"old").unwrap_err();
        Linux.copy(&path("there"), "/nowhere", mine()).unwrap_err();
        lchown(home.path().join(".config"), Some(0), Some(0)).unwrap();
        assert_eq!(Linux.read(&path("there")).unwrap().unwrap(), b"old", "root's own");
        assert_eq!(Linux.list(system.path().to_str().unwrap()).unwrap(), ["there"]);
    }
}
