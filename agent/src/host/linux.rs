//! The real machine. Files in `content` and `folder`; programs in `program`, the runtime's socket in `cri`, etcd in `etcd`;
//! `announce` tells the neighbours of the machine's addresses.

pub mod announce;
mod content;
mod cri;
mod etcd;
mod folder;
mod program;

use super::etcd::Etcd;
use super::{Access, BoxFuture, Command, Compared, Host, HostError, Lines, Output, Probe, Runtime, Stat};
use folder::Missing;
use nix::fcntl::{OFlag, renameat};
use nix::unistd::symlinkat;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
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
        some(content::read(Path::new(path))).map_err(failed("read", path))
    }

    fn stat(&self, path: &str) -> Result<Option<Stat>, HostError> {
        some(content::stat(Path::new(path))).map_err(failed("look at", path))
    }

    fn compare(&self, path: &str, content: &[u8]) -> Result<Option<Compared>, HostError> {
        some(content::compare(Path::new(path), content)).map_err(failed("look at", path))
    }

    fn copy(&self, from: &str, to: &str, access: Access) -> Result<Option<Stat>, HostError> {
        some(content::copy(Path::new(from), Path::new(to), access)).map_err(failed("copy", from))
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
        content::write(Path::new(path), content, access).map_err(failed("write", path))
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

    fn etcd(&self) -> &dyn Etcd {
        etcd::here()
    }
}

fn replace_by_link(path: &Path, to: &str) -> io::Result<()> {
    let folder = folder::of(path, Missing::IsMade)?;
    let (name, temporary) = (folder::name(path)?, content::free(&folder, path)?);
    symlinkat(to, &folder, temporary.as_os_str())?;
    renameat(&folder, temporary.as_os_str(), &folder, name.as_os_str())?;
    File::from(folder).sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    let folder = folder::of(path, Missing::Fails)?;
    content::unlink(&folder, &folder::name(path)?)?;
    File::from(folder).sync_all()
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
    move |source| {
        let path = path.to_owned();
        match source.get_ref().and_then(|inner| inner.downcast_ref::<folder::Foreign>()) {
            Some(foreign) => HostError::Foreign { act, path, why: foreign.to_string() },
            None => HostError::File { act, path, source },
        }
    }
}

/// Both ends of a device that are looked at: partition tables, boot sectors and superblocks live there.
const EDGE: u64 = 1 << 20;

const HOSTNAME: &str = "/proc/sys/kernel/hostname";
