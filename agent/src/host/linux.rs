//! The real machine. Files here; programs in `program`, the runtime's socket in `cri`.

mod cri;
mod program;

use super::{Access, BoxFuture, Command, Host, HostError, Kind, Lines, Output, Probe, Runtime, Stat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The machine this process runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linux;

impl Host for Linux {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        some(fs::read(path)).map_err(failed("read", path))
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
        some(fs::remove_file(path)).and_then(|_| sync_folder(Path::new(path))).map_err(failed("remove", path))
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

/// Temporary file beside it, mode and owner, fsync, rename, fsync of the folder.
fn replace(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let temporary = beside(path)?;
    // The link is replaced, not what it leads to: a write must not end up in a vendor's file.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = (|| {
        file.write_all(content)?;
        if nix::unistd::geteuid().is_root() {
            nix::unistd::fchown(&file, Some(Uid::from_raw(access.uid)), Some(Gid::from_raw(access.gid)))?;
        }
        nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(access.mode))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        some(fs::remove_file(&temporary))?;
    }
    written?;
    sync_folder(path)
}

/// As [`replace`], by a link.
fn replace_by_link(path: &Path, to: &str) -> io::Result<()> {
    let temporary = beside(path)?;
    std::os::unix::fs::symlink(to, &temporary)?;
    fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// A free name in the same folder, which is made.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.groundwork"));
    some(fs::remove_file(&temporary))?;
    Ok(temporary)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match some(File::open(path.parent().unwrap_or(Path::new("/"))))? {
        Some(folder) => folder.sync_all(),
        None => Ok(()),
    }
}

fn probe(device: &str) -> io::Result<Option<Probe>> {
    let Some(metadata) = some(fs::metadata(device))? else { return Ok(None) };
    if !metadata.file_type().is_block_device() {
        return Err(io::Error::other("not a block device"));
    }
    // Exclusive: the kernel refuses while the device is mounted, swapped to, or part of something.
    let exclusive = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_EXCL.bits()).open(device);
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
}
