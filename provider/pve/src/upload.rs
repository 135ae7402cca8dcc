//! A file to send: a multipart form whose file is read while it is sent.
//!
//! Source: `POST /nodes/{node}/storage/{storage}/upload`, Proxmox VE 8 and 9. The server keeps what comes in as a temporary file
//! and begins its task when it has the whole.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use tokio::io::AsyncRead;
use tokio_util::io::{InspectReader, ReaderStream};

use crate::error::Error;
use crate::unsent::CutOff;

/// What to upload.
#[derive(Debug, Clone)]
pub struct Upload {
    /// `iso` or `import`
    pub content: &'static str,
    /// Name on the storage, of letters, digits and `._-`.
    pub file_name: String,
    /// Where the bytes come from.
    pub source: Source,
    /// Algorithm and hex value.
    pub checksum: Option<(String, String)>,
}

/// Where the bytes of an upload come from.
#[derive(Clone)]
pub enum Source {
    /// A file, read while it is sent.
    File(PathBuf),
    /// Memory.
    Bytes(Vec<u8>),
}

/// Shows how much, not what: a seed holds secrets.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// How much of a file has left for the server.
#[derive(Debug)]
pub(crate) struct Sent {
    bytes: Arc<AtomicU64>,
    length: u64,
}

impl Sent {
    /// False if the server certainly has less than the whole file.
    pub(crate) fn all(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.length
    }

    /// What to say of a connection that broke for this reason.
    pub(crate) fn cut_off(&self, source: Box<dyn StdError + Send + Sync>) -> CutOff {
        CutOff { sent: self.bytes.load(Ordering::Relaxed), length: self.length, source }
    }
}

impl Upload {
    /// The order of fields is the server's: `content`, `checksum-algorithm`, `checksum`, and the file last.
    pub(crate) async fn form(&self) -> Result<(Form, Sent), Error> {
        let mut form = Form::new().text("content", self.content);
        if let Some((algorithm, sum)) = &self.checksum {
            form = form.text("checksum-algorithm", algorithm.clone()).text("checksum", sum.clone());
        }
        let (reader, length) = self.source.open().await?;
        let bytes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&bytes);
        let reader = InspectReader::new(reader, move |read| {
            count.fetch_add(read.len().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        });
        let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(reader, CHUNK));
        let file = Part::stream_with_length(body, length).file_name(self.file_name.clone());
        Ok((form.part("filename", file), Sent { bytes, length }))
    }
}

impl Source {
    async fn open(&self) -> Result<(Box<dyn AsyncRead + Send + Unpin>, u64), Error> {
        let path = match self {
            Self::Bytes(bytes) => {
                let length = bytes.len().try_into().unwrap_or(u64::MAX);
                return Ok((Box::new(std::io::Cursor::new(bytes.clone())), length));
            }
            Self::File(path) => path,
        };
        let failed = |source| Error::File { path: path.clone(), source };
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let metadata = file.metadata().await.map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(std::io::Error::other("it is no regular file")));
        }
        let length = metadata.len();
        Ok((Box::new(file), length))
    }
}

/// Some GiB over a slow line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4 * 60 * 60);
const CHUNK: usize = 256 * 1024;
