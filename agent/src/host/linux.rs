//! The real machine. Files here and in `folder`; programs in `program`, the runtime's socket in `cri`.

mod cri;
mod folder;
mod program;

use super::{Access, BoxFuture, Command, Host, HostError, Kind, Lines, Output, Probe, Runtime, Stat};
use folder::Missing;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags, symlinkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

/// The machine this process runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linux;

impl Host for Linux {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        some(read(path)).map_err(failed("read", path))
    }

    fn stat(&self, path: &str) -> Result<Option<Stat>, HostError> {
        let look = || -> io::Result<Option<Stat>> {
            let Some(metadata) = some(fs::symlink_metadata(path))? else { return Ok(None) };
            let kind = match metadata.file_type() {
                kind if kind.is_file() => Kind::File,
                kind if kind.is_dir() => Kind::Folder,
                kind if kind.is_symlink() => Kind::Link(fs::read_link(path)?.to_string_lossy().into_owned()),
                _ => Kind::Other,
            };
            let access = Access { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() };
            Ok(Some(Stat { kind, access, modified: metadata.modified()? }))
        };
        look().map_err(failed("look at", path))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, HostError> {
        let look = || -> io::Result<Vec<String>> {
            let Some(entries) = some(fs::read_dir(folder))? else { return Ok(Vec::new()) };
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        };
        look().map_err(failed("list", folder))
    }

    fn write(&self, path: &str, content: &[u8], access: Access) -> Result<(), HostError> {
        replace(Path::new(path), content, access).map_err(failed("write", path))
    }

    fn link(&self, path: &str, to: &str) -> Result<(), HostError> {
        replace_by_link(Path::new(path), to).map_err(failed("link", path))
    }

    fn remove(&self, path: &str) -> Result<(), HostError> {
        some(remove(Path::new(path))).map(drop).map_err(failed("remove", path))
    }

    fn poke(&self, path: &str, value: &str) -> Result<(), HostError> {
        // A container may have a name of its own and yet a read-only /proc/sys.
        if path == HOSTNAME {
            return nix::unistd::sethostname(value).map_err(|errno| failed("set", path)(errno.into()));
        }
        // Truncated, for a container may have a plain file in its place.
        let poke = || OpenOptions::new().write(true).truncate(true).open(path)?.write_all(value.as_bytes());
        poke().map_err(failed("set", path))
    }

    fn probe(&self, device: &str) -> Result<Option<Probe>, HostError> {
        probe(device).map_err(failed("probe", device))
    }

    fn run<'a>(&'a self, command: &'a Command, lines: Lines<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
        Box::pin(program::run(command, lines))
    }

    fn settle<'a>(&'a self, lines: Lines<'a>) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(program::settle(lines))
    }

    fn runtime<'a>(&'a self, socket: &'a str) -> BoxFuture<'a, Result<Runtime, HostError>> {
        Box::pin(cri::ask(socket))
    }
}

/// What a file holds. Opened so that neither a pipe nor the kernel's log can keep the only thread waiting.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    is_readable(&content)?;
    Ok(content)
}

/// What could not be read back is not written either: it could never be compared or restored.
fn is_readable(content: &[u8]) -> io::Result<()> {
    let fits = u64::try_from(content.len()).is_ok_and(|length| length <= LARGEST);
    let refused = || io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} MiB", LARGEST >> 20));
    if fits { Ok(()) } else { Err(refused()) }
}

/// Temporary file beside it, mode and owner, fsync, rename, fsync of the folder.
fn replace(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    is_readable(content)?;
    let folder = folder::of(path, Missing::IsMade)?;
    let temporary = free(&folder, path)?;
    // The link is replaced, not what it leads to: a write must not end up in a vendor's file.
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(&folder, temporary.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let written = (|| -> io::Result<()> {
        file.write_all(content)?;
        if nix::unistd::geteuid().is_root() {
            nix::unistd::fchown(&file, Some(Uid::from_raw(access.uid)), Some(Gid::from_raw(access.gid)))?;
        }
        nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(access.mode))?;
        file.sync_all()?;
        Ok(renameat(&folder, temporary.as_os_str(), &folder, name(path))?)
    })();
    if written.is_err() {
        some(unlink(&folder, &temporary))?;
    }
    written?;
    File::from(folder).sync_all()
}

/// As [`replace`], by a link.
fn replace_by_link(path: &Path, to: &str) -> io::Result<()> {
    let folder = folder::of(path, Missing::IsMade)?;
    let temporary = free(&folder, path)?;
    symlinkat(to, &folder, temporary.as_os_str())?;
    renameat(&folder, temporary.as_os_str(), &folder, name(path))?;
    File::from(folder).sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    let folder = folder::of(path, Missing::Fails)?;
    unlink(&folder, name(path))?;
    File::from(folder).sync_all()
}

/// A free name in the same folder.
fn free(folder: &OwnedFd, path: &Path) -> io::Result<OsString> {
    let temporary = OsString::from(format!(".{}.groundwork", name(path).to_string_lossy()));
    some(unlink(folder, &temporary))?;
    Ok(temporary)
}

fn unlink(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    Ok(unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)?)
}

fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn probe(device: &str) -> io::Result<Option<Probe>> {
    let Some(metadata) = some(fs::metadata(device))? else { return Ok(None) };
    if !metadata.file_type().is_block_device() {
        return Err(io::Error::other("not a block device"));
    }
    // Exclusive: the kernel refuses while the device is mounted, swapped to, or part of something.
    let exclusive = OpenOptions::new().read(true).custom_flags(OFlag::O_EXCL.bits()).open(device);
    let busy = matches!(&exclusive, Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EBUSY as i32));
    let mut file = if busy { File::open(device)? } else { exclusive? };
    let size = file.seek(SeekFrom::End(0))?;
    let zeros = is_zero(&mut file, 0)? && is_zero(&mut file, size.saturating_sub(EDGE))?;
    Ok(Some(Probe { size, zeros, busy }))
}

fn is_zero(file: &mut File, from: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(from))?;
    let mut edge = Vec::new();
    file.take(EDGE).read_to_end(&mut edge)?;
    Ok(edge.iter().all(|byte| *byte == 0))
}

/// What does not exist is `None`.
fn some<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed<'a>(act: &'static str, path: &'a str) -> impl FnOnce(io::Error) -> HostError + 'a {
    move |source| HostError::File { act, path: path.to_owned(), source }
}

/// Both ends of a device that are looked at: partition tables, boot sectors and superblocks live there.
const EDGE: u64 = 1 << 20;

/// As much as one call of a provider can bring.
const LARGEST: u64 = 64 << 20;

const HOSTNAME: &str = "/proc/sys/kernel/hostname";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        let path = path.to_str().unwrap();
        assert_eq!(Linux.read(path).unwrap(), None);
        let mine = fs::metadata(folder.path()).unwrap();
        let access = Access { mode: 0o640, uid: mine.uid(), gid: mine.gid() };
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
        let mine = fs::metadata(folder.path()).unwrap();
        Linux.write(link, b"x", Access { mode: 0o600, uid: mine.uid(), gid: mine.gid() }).unwrap();
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
        let error = Linux.read(pipe.to_str().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read {}", pipe.display()));
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = Linux.read("/dev/zero").unwrap_err();
        let HostError::File { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(
            (error.to_string().as_str(), source.to_string().as_str()),
            ("cannot read /dev/zero", "larger than 64 MiB")
        );
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
