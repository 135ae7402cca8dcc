//! Contents of files: read, compared, copied and replaced, each below a folder that was opened safely.
//!
//! Whoever owns a folder can put something else in a file's place at any moment. So a file is opened once, and everything that is
//! said of it (what it is, who may read it, what it holds) is said of what was opened. Where contents can be large and need not be
//! known, they are compared or copied piece by piece: a plan over large files must not fill the memory.

use super::folder::{self, Missing};
use super::some;
use crate::host::{Access, Compared, Kind, Stat};
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a file holds.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    folder::file(path)?.take(LARGEST + 1).read_to_end(&mut content)?;
    fits(u64::try_from(content.len()).unwrap_or(u64::MAX))?;
    Ok(content)
}

/// What stands at a path.
pub(super) fn stat(path: &Path) -> io::Result<Stat> {
    let folder = folder::of(path, Missing::Fails)?;
    let Ok(name) = folder::name(path) else { return Ok(seen(&fstat(&folder)?, Kind::Folder)) };
    stat_in(&folder, &name)
}

fn stat_in(folder: &OwnedFd, name: &OsStr) -> io::Result<Stat> {
    let stat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = match SFlag::from_bits_truncate(stat.st_mode).intersection(SFlag::S_IFMT) {
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFDIR => Kind::Folder,
        SFlag::S_IFLNK => Kind::Link(readlinkat(folder, name)?.to_string_lossy().into_owned()),
        _ => Kind::Other,
    };
    Ok(seen(&stat, kind))
}

fn seen(stat: &FileStat, kind: Kind) -> Stat {
    let access = Access { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid };
    // Times before 1970 are as old as can be.
    let (s, ns) = (u64::try_from(stat.st_mtime).unwrap_or(0), u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    Stat { kind, access, modified: UNIX_EPOCH.checked_add(Duration::new(s, ns)).unwrap_or(SystemTime::UNIX_EPOCH) }
}

/// Opens what stands at a path if that is a file; says what it is in any case.
fn open(folder: &OwnedFd, name: &OsStr) -> io::Result<(Stat, Option<File>)> {
    let stat = stat_in(folder, name)?;
    if stat.kind != Kind::File {
        return Ok((stat, None));
    }
    match folder::open(folder, name)? {
        Some(file) => Ok((seen(&fstat(&file)?, Kind::File), Some(file))),
        // Somebody put a link in its place just now.
        None => Ok((stat_in(folder, name)?, None)),
    }
}

/// Whether a file has this content.
pub(super) fn compare(path: &Path, content: &[u8]) -> io::Result<Compared> {
    let (stat, file) = open(&folder::of(path, Missing::Fails)?, &folder::name(path)?)?;
    let same = file.map_or(Ok(false), |file| holds(file, content))?;
    Ok(Compared { stat, same })
}

fn holds(mut file: File, mut content: &[u8]) -> io::Result<bool> {
    if file.metadata()?.len() != u64::try_from(content.len()).unwrap_or(u64::MAX) {
        return Ok(false);
    }
    let mut chunk = [0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        match (chunk.get(..read).unwrap_or_default(), content.split_at_checked(read)) {
            ([], _) => return Ok(content.is_empty()),
            (piece, Some((want, rest))) if piece == want => content = rest,
            _ => return Ok(false),
        }
    }
}

/// Copies a file; nothing else than a file is copied.
pub(super) fn copy(from: &Path, to: &Path, access: Access) -> io::Result<Stat> {
    let (stat, file) = open(&folder::of(from, Missing::Fails)?, &folder::name(from)?)?;
    if let Some(file) = file {
        fits(file.metadata()?.len())?;
        // It may still grow.
        replace(to, &mut file.take(LARGEST), access)?;
    }
    Ok(stat)
}

pub(super) fn write(path: &Path, mut content: &[u8], access: Access) -> io::Result<()> {
    fits(u64::try_from(content.len()).unwrap_or(u64::MAX))?;
    replace(path, &mut content, access)
}

/// What could not be read back is not written either: it could never be restored.
fn fits(length: u64) -> io::Result<()> {
    let refused = || io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} MiB", LARGEST >> 20));
    if length <= LARGEST { Ok(()) } else { Err(refused()) }
}

/// Temporary file beside it, mode and owner, fsync, rename, fsync of the folder.
pub(super) fn replace(path: &Path, content: &mut impl Read, access: Access) -> io::Result<()> {
    let folder = folder::of(path, Missing::IsMade)?;
    let (name, temporary) = (folder::name(path)?, free(&folder, path)?);
    // The link is replaced, not what it leads to: a write must not end up in a vendor's file.
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(&folder, temporary.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let written = (|| -> io::Result<()> {
        transfer(content, &mut file)?;
        if nix::unistd::geteuid().is_root() {
            nix::unistd::fchown(&file, Some(Uid::from_raw(access.uid)), Some(Gid::from_raw(access.gid)))?;
        }
        fchmod(&file, Mode::from_bits_truncate(access.mode))?;
        file.sync_all()?;
        Ok(renameat(&folder, temporary.as_os_str(), &folder, name.as_os_str())?)
    })();
    if written.is_err() {
        some(unlink(&folder, &temporary))?;
    }
    written?;
    File::from(folder).sync_all()
}

fn transfer(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    let mut chunk = [0; CHUNK];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            read => to.write_all(chunk.get(..read).unwrap_or_default())?,
        }
    }
}

/// A free name in the same folder.
pub(super) fn free(folder: &OwnedFd, path: &Path) -> io::Result<OsString> {
    let temporary = OsString::from(format!(".{}.groundwork", folder::name(path)?.to_string_lossy()));
    some(unlink(folder, &temporary))?;
    Ok(temporary)
}

pub(super) fn unlink(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    Ok(unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)?)
}

/// As much as one call of a provider can bring, and then some.
const LARGEST: u64 = 64 << 20;
const CHUNK: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::linux::Linux;
    use crate::host::{Host as _, HostError};
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::fs::OpenOptions;

    fn mine() -> Access {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Access { mode: 0o644, uid, gid }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        let path = path.to_str().unwrap();
        assert_eq!(Linux.read(path).unwrap(), None);
        let access = Access { mode: 0o640, ..mine() };
        for content in [b"one".as_slice(), b"two"] {
            Linux.write(path, content, access).unwrap();
            assert_eq!(Linux.read(path).unwrap().unwrap(), content);
        }
        assert_eq!(Linux.stat(path).unwrap().unwrap().access, access);
        assert_eq!(Linux.list(folder.path().join("new").to_str().unwrap()).unwrap(), ["file"]);
        Linux.remove(path).unwrap();
        Linux.remove(path).unwrap();
        assert_eq!(Linux.stat(path).unwrap(), None);
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let link = link.to_str().unwrap();
        assert_eq!(Linux.stat(link).unwrap().unwrap().kind, Kind::Link("/dev/null".into()));
        Linux.write(link, b"x", Access { mode: 0o600, ..mine() }).unwrap();
        assert_eq!(Linux.stat(link).unwrap().unwrap().kind, Kind::File);
        Linux.link(link, "/dev/null").unwrap();
        assert_eq!(Linux.stat(link).unwrap().unwrap().kind, Kind::Link("/dev/null".into()));
    }

    #[test]
    fn a_file_that_keeps_readers_waiting_does_not_keep_us() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        // Somebody has it open for writing and says nothing.
        let _writer = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let pipe = pipe.to_str().unwrap();
        assert_eq!(Linux.read(pipe).unwrap_err().to_string(), format!("cannot read {pipe}"));
        let found = Linux.compare(pipe, b"").unwrap().unwrap();
        assert_eq!((found.stat.kind, found.same), (Kind::Other, false));
        assert_eq!(Linux.copy(pipe, "/nowhere", mine()).unwrap().unwrap().kind, Kind::Other);
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        for path in ["/dev/zero", "/proc"] {
            let error = Linux.read(path).unwrap_err();
            let HostError::File { source, .. } = &error else { panic!("{error:?}") };
            let said = (error.to_string(), source.to_string());
            assert_eq!(said, (format!("cannot read {path}"), "it is not a regular file".to_owned()));
        }
    }

    /// bob owns the folder, and exchanges his file for a link as fast as he can.
    #[test]
    fn a_file_that_becomes_a_link_is_never_followed() {
        let (home, system) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let (secret, kept) = (system.path().join("shadow"), system.path().join("kept"));
        let (secret, kept) = (secret.to_str().unwrap(), kept.to_str().unwrap());
        Linux.write(secret, b"root:$y$", mine()).unwrap();
        Linux.write(&path("file"), b"bob's own", Access { mode: 0o600, ..mine() }).unwrap();
        std::os::unix::fs::symlink(secret, path("other")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let (from, to, exchange) = (path("file"), path("other"), RenameFlags::EXCHANGE);
                    renameat_with(CWD, from.as_str(), CWD, to.as_str(), exchange).unwrap();
                }
            });
            for _ in 0..5_000 {
                // Ended by an error when it is exchanged between two looks.
                if let Ok(Some(Compared { same, .. })) = Linux.compare(&path("file"), b"root:$y$") {
                    assert!(!same);
                }
                if let Ok(Some(stat)) = Linux.copy(&path("file"), kept, mine()) {
                    assert!(stat.kind != Kind::File || stat.access.mode == 0o600, "{stat:?}");
                }
                assert_ne!(Linux.read(kept).unwrap().as_deref(), Some(b"root:$y$".as_slice()));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn a_file_is_compared_and_copied_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (from, to) = (path("from"), path("to"));
        let content = [7; 3 * CHUNK + 1];
        Linux.write(&from, &content, Access { mode: 0o4755, ..mine() }).unwrap();
        let same = |content: &[u8]| Linux.compare(&from, content).unwrap().unwrap().same;
        let mut other = content;
        other[3 * CHUNK] = 8;
        assert_eq!((same(&content), same(&other), same(&content[1..]), same(b"")), (true, false, false, false));
        let stat = Linux.copy(&from, &to, Access { mode: 0o600, ..mine() }).unwrap().unwrap();
        assert_eq!((stat.kind, stat.access.mode), (Kind::File, 0o4755), "of what was copied");
        assert_eq!(Linux.stat(&to).unwrap().unwrap().access.mode, 0o600);
        assert_eq!(Linux.read(&to).unwrap().unwrap(), content);
        assert_eq!(Linux.copy(&path("none"), &to, mine()).unwrap(), None);
    }

    #[test]
    fn a_link_in_the_place_of_a_file_leads_nobody_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        Linux.write(&path("secret"), b"x", mine()).unwrap();
        std::os::unix::fs::symlink(path("secret"), path("link")).unwrap();
        let found = Linux.compare(&path("link"), b"x").unwrap().unwrap();
        assert_eq!((found.stat.kind, found.same), (Kind::Link(path("secret")), false));
        assert_eq!(Linux.copy(&path("link"), &path("to"), mine()).unwrap().unwrap().kind, Kind::Link(path("secret")));
        assert_eq!(Linux.stat(&path("to")).unwrap(), None);
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content = vec![0; usize::try_from(LARGEST).unwrap() + 1];
        Linux.write(path.to_str().unwrap(), &content, Access::OPEN).unwrap_err();
        assert!(!path.exists());
    }
}
