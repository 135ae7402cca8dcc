//! Snapshots of etcd: taken from a member piece by piece, looked at, and made the beginning of another cluster.
//!
//! etcd sends its database and, last, the SHA-256 of it, and so the file stands: whoever has `etcdutl` can use it. A file may be larger than
//! the memory. Source: etcd 3.6, `Maintenance.Snapshot` and `etcdutl snapshot restore`.

use super::{At, bounded};
use crate::chain::chain;
use crate::host::bolt::Database;
use crate::host::etcd::{Snapshot, Sum};
use crate::host::linux::folder::{self, Missing};
use crate::host::linux::{content, failed, some};
use crate::host::{Access, HostError};
use aws_lc_rs::digest;
use http::uri::PathAndQuery;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

impl At {
    /// See [`Etcd::snapshot`](crate::host::etcd::Etcd::snapshot).
    pub(super) async fn take(&self, at: &str, to: &str) -> Result<Snapshot, HostError> {
        let path = Path::new(to);
        let mut file = fresh(path).map_err(failed("make", to))?;
        let taken = match self.receive(at, &mut file).await {
            Ok(received) => received.map_err(failed("write", to)),
            Err(error) => Err(error),
        };
        let taken = taken.and_then(|()| {
            file.sync_all().map_err(failed("write", to))?;
            sync_folder(path).map_err(failed("write", to))?;
            look(to)?.ok_or_else(|| none(to, "it is gone"))
        });
        if taken.is_err() {
            unlink(path).map_err(failed("remove", to))?;
        }
        taken
    }

    /// Writes what a member sends, and compares it with the sum at its end. The inner failure is the file's.
    async fn receive(&self, at: &str, file: &mut File) -> Result<io::Result<()>, HostError> {
        let begin = async {
            let mut client = Grpc::new(self.dial(at).await?);
            client.ready().await.map_err(|error| chain(&error))?;
            let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Snapshot");
            let codec = ProstCodec::<super::Empty, Piece>::default();
            let said = client.server_streaming(tonic::Request::new(super::Empty {}), path, codec).await;
            said.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
        };
        let mut pieces = bounded(at, STALL, begin).await?;
        let mut sum = Sum::new();
        loop {
            let piece = async { pieces.message().await.map_err(|status| status.message().to_owned()) };
            let Some(Piece { blob }) = bounded(at, STALL, piece).await? else { break };
            sum.add(&blob);
            if let Err(error) = file.write_all(&blob) {
                return Ok(Err(error));
            }
        }
        match sum.fault() {
            None => Ok(Ok(())),
            Some(why) => Err(HostError::Etcd { at: at.to_owned(), why: why.to_owned() }),
        }
    }
}

/// See [`Etcd::look`](crate::host::etcd::Etcd::look).
pub(super) fn look(path: &str) -> Result<Option<Snapshot>, HostError> {
    let Some(mut file) = some(folder::file(Path::new(path))).map_err(failed("read", path))? else { return Ok(None) };
    let said = odd(path);
    let metadata = file.metadata().map_err(said)?;
    let size = metadata.len();
    let database = database(size).ok_or_else(|| none(path, "its length is not that of a database and its sum"))?;
    let mut sum = [0; digest::SHA256_OUTPUT_LEN];
    let read = file.seek(SeekFrom::Start(database)).and_then(|_| file.read_exact(&mut sum));
    read.map_err(said)?;
    let revision = Database::open(&mut file, database).and_then(|mut database| database.revision()).map_err(said)?;
    let taken = metadata.modified().map_err(said)?;
    Ok(Some(Snapshot { size, sha256: hex::encode(sum), revision, taken }))
}

/// See [`Etcd::keys`](crate::host::etcd::Etcd::keys).
pub(super) fn keys(path: &str, prefix: &str) -> Result<BTreeSet<String>, HostError> {
    let snapshot = look(path)?.ok_or_else(|| none(path, "there is no such file"))?;
    let mut file = folder::file(Path::new(path)).map_err(failed("read", path))?;
    let length = database(snapshot.size).unwrap_or_default();
    let found = Database::open(&mut file, length).and_then(|mut database| database.keys(prefix.as_bytes()));
    let texts = found.map_err(odd(path))?.into_iter().map(|key| String::from_utf8_lossy(&key).into_owned());
    Ok(texts.collect())
}

/// A file that is no snapshot is told from one that cannot be read.
fn odd(path: &str) -> impl Fn(io::Error) -> HostError + Copy {
    move |error| match error.kind() {
        io::ErrorKind::InvalidData => none(path, &error.to_string()),
        _ => failed("read", path)(error),
    }
}

/// See [`Etcd::rename`](crate::host::etcd::Etcd::rename).
pub(super) fn rename(from: &str, to: &str) -> Result<(), HostError> {
    let rename = || -> io::Result<()> {
        let (old, new) = (Path::new(from), Path::new(to));
        let folder = folder::of(old, Missing::Fails)?;
        let (old, new) = (folder::name(old)?, folder::name(new)?);
        // A second name and then the end of the first: unlike a renaming this replaces nothing. Cut in between it has both.
        match nix::unistd::linkat(&folder, old.as_os_str(), &folder, new.as_os_str(), AtFlags::empty()) {
            Err(Errno::EEXIST) if is_one(&folder, &old, &new)? => {}
            done => done?,
        }
        content::unlink(&folder, &old)?;
        File::from(folder).sync_all()
    };
    rename().map_err(failed("name", to))
}

/// Whether both are names of one file.
fn is_one(folder: &OwnedFd, one: &OsStr, other: &OsStr) -> io::Result<bool> {
    let identity = |name: &OsStr| -> io::Result<(u64, u64)> {
        let stat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok((stat.st_dev, stat.st_ino))
    };
    Ok(identity(one)? == identity(other)?)
}

/// See [`Etcd::restore`](crate::host::etcd::Etcd::restore).
pub(super) fn restore(from: &str, to: &str) -> Result<Snapshot, HostError> {
    let snapshot = look(from)?.ok_or_else(|| none(from, "there is no such file"))?;
    let part = format!("{to}.part");
    let length = database(snapshot.size).unwrap_or_default();
    let copied = || -> io::Result<Option<&'static str>> {
        let mut source = Summed { file: folder::file(Path::new(from))?, sum: Sum::new() };
        content::replace(Path::new(&part), &mut source.by_ref().take(length), Access::PRIVATE)?;
        io::copy(&mut source, &mut io::sink())?;
        Ok(source.sum.fault())
    };
    let freed = || -> io::Result<()> {
        let mut file = open(Path::new(&part), OFlag::O_RDWR)?;
        Database::open(&mut file, length)?.set_free()?;
        file.sync_all()?;
        rename(&part, to).map_err(io::Error::other)
    };
    let done = match copied().map_err(failed("copy", from)) {
        Ok(None) => freed().map_err(failed("restore", to)),
        Ok(Some(why)) => Err(none(from, why)),
        Err(error) => Err(error),
    };
    if done.is_err() {
        unlink(Path::new(&part)).map_err(failed("remove", &part))?;
    }
    done.map(|()| snapshot)
}

/// The length of the database in a file of this one: bbolt's is of whole sectors.
fn database(size: u64) -> Option<u64> {
    let database = size.checked_sub(digest::SHA256_OUTPUT_LEN as u64)?;
    (database > 0 && database.is_multiple_of(SECTOR)).then_some(database)
}

/// A new file for root alone, in the place of what stands there.
fn fresh(path: &Path) -> io::Result<File> {
    let (folder, name) = (folder::of(path, Missing::IsMade)?, folder::name(path)?);
    some(content::unlink(&folder, &name))?;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    Ok(File::from(openat(&folder, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
}

fn open(path: &Path, access: OFlag) -> io::Result<File> {
    let (folder, name) = (folder::of(path, Missing::Fails)?, folder::name(path)?);
    let flags = access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(File::from(openat(&folder, name.as_os_str(), flags, Mode::empty())?))
}

fn unlink(path: &Path) -> io::Result<()> {
    let folder = folder::of(path, Missing::Fails)?;
    some(content::unlink(&folder, &folder::name(path)?)).map(drop)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::from(folder::of(path, Missing::Fails)?).sync_all()
}

fn none(path: &str, why: &str) -> HostError {
    HostError::NoSnapshot { path: path.to_owned(), why: why.to_owned() }
}

struct Summed {
    file: File,
    sum: Sum,
}

impl Read for Summed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(bytes)?;
        self.sum.add(bytes.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Piece {
    #[prost(bytes = "vec", tag = "3")]
    blob: Vec<u8>,
}

const SECTOR: u64 = 512;
/// A member that sends nothing for so long does not any more.
const STALL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
