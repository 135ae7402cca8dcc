//! `/nodes/{node}/storage`: what storages there are, and files and volumes on them.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use crate::client::Client;
use crate::error::{Class, Error};
use crate::http::{Call, exchange, typed};
use crate::ids::{NodeName, Upid, Vmid, VolumeId};
use crate::params::Params;

/// A storage as one node sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Storage {
    /// Its name.
    pub storage: String,
    /// `dir`, `lvmthin`, `zfspool` …
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    content: String,
    /// Whether it can be used now.
    #[serde(default, deserialize_with = "crate::quirks::flag")]
    pub active: bool,
    /// Whether it is switched on.
    #[serde(default, deserialize_with = "crate::quirks::flag")]
    pub enabled: bool,
    /// Whether all nodes see the same.
    #[serde(default, deserialize_with = "crate::quirks::flag")]
    pub shared: bool,
    /// Size in bytes.
    #[serde(default, deserialize_with = "crate::quirks::bytes")]
    pub total: u64,
    /// Free bytes.
    #[serde(default, deserialize_with = "crate::quirks::bytes")]
    pub avail: u64,
}

impl Storage {
    /// What it may hold: `images`, `iso`, `import` …
    #[must_use]
    pub fn content(&self) -> Vec<String> {
        crate::quirks::words(&self.content)
    }

    /// Whether it may hold that.
    #[must_use]
    pub fn holds(&self, content: &str) -> bool {
        self.content().iter().any(|own| own == content)
    }
}

/// A volume or a file on a storage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Content {
    /// Its id.
    pub volid: VolumeId,
    /// What it is: `images`, `iso`, `import` …
    #[serde(default)]
    pub content: String,
    /// How it is written: `qcow2`, `raw`, `iso` …
    #[serde(default)]
    pub format: String,
    /// Size in bytes.
    #[serde(default, deserialize_with = "crate::quirks::bytes")]
    pub size: u64,
    /// Whose disk it is.
    #[serde(default)]
    pub vmid: Option<Vmid>,
}

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

/// What the node is to download.
#[derive(Debug, Clone)]
pub struct Download {
    /// From where.
    pub url: String,
    /// `iso` or `import`
    pub content: &'static str,
    /// Name on the storage.
    pub file_name: String,
    /// Algorithm and hex value.
    pub checksum: Option<(String, String)>,
    /// Whether the server's certificate is checked.
    pub verify_certificates: bool,
}

/// The storages of a node.
#[derive(Debug, Clone, Copy)]
pub struct Storages<'a> {
    client: &'a Client,
    node: &'a NodeName,
}

impl Client {
    /// The storages of a node.
    #[must_use]
    pub const fn storages<'a>(&'a self, node: &'a NodeName) -> Storages<'a> {
        Storages { client: self, node }
    }
}

impl Storages<'_> {
    /// All storages we may see, by name.
    ///
    /// # Errors
    /// As every read.
    pub async fn list(&self) -> Result<Vec<Storage>, Error> {
        let mut storages: Vec<Storage> = self.client.call(Call::get(&self.path(&[]))).await?;
        storages.sort_by(|a, b| a.storage.cmp(&b.storage));
        Ok(storages)
    }

    /// The files and volumes of one kind on a storage.
    ///
    /// # Errors
    /// [`Class::NoStorage`] if there is no such storage.
    pub async fn content(&self, storage: &str, kind: &str) -> Result<Vec<Content>, Error> {
        let params = Params::new().with("content", kind);
        let mut rows: Vec<Content> =
            self.client.call(Call::get(&self.path(&[storage, "content"])).params(params)).await?;
        rows.sort_by(|a, b| a.volid.cmp(&b.volid));
        Ok(rows)
    }

    /// One file or volume, if it is there.
    ///
    /// # Errors
    /// [`Class::NoStorage`] if there is no such storage.
    pub async fn find(&self, volume: &VolumeId, kind: &str) -> Result<Option<Content>, Error> {
        let rows = self.content(volume.storage(), kind).await?;
        Ok(rows.into_iter().find(|row| row.volid == *volume))
    }

    /// Has the node download a file.
    ///
    /// # Errors
    /// As every write. A file of that name that differs fails in the task.
    pub async fn download(&self, storage: &str, wanted: &Download) -> Result<Upid, Error> {
        let (algorithm, sum) = wanted.checksum.as_ref().map(|(algorithm, sum)| (algorithm, sum)).unzip();
        let params = Params::new()
            .with("url", &wanted.url)
            .with("content", wanted.content)
            .with("filename", &wanted.file_name)
            .with_some("checksum-algorithm", algorithm)
            .with_some("checksum", sum)
            .flag("verify-certificates", wanted.verify_certificates);
        self.client.call(Call::post(&self.path(&[storage, "download-url"])).params(params)).await
    }

    /// Sends a file. One of that name is overwritten without question. A stop or the deadline cuts the sending off: the
    /// server throws away what it has of the file.
    ///
    /// # Errors
    /// As every write; [`Error::File`] if the file cannot be read.
    pub async fn upload(&self, storage: &str, wanted: &Upload) -> Result<Upid, Error> {
        let call = Call::post(&self.path(&[storage, "upload"]));
        let mut attempt = 1;
        loop {
            match self.send(&call, wanted).await {
                // Nothing was sent, or nothing but a temporary file was made: the whole may be sent again.
                Err(error) if attempt < 3 && (error.never_sent() || error.outcome_unknown()) => {
                    tracing::debug!(attempt, error = %error, "uploading again");
                    attempt += 1;
                }
                answer => return typed(&call.name(), answer?),
            }
        }
    }

    async fn send(&self, call: &Call, wanted: &Upload) -> Result<serde_json::Value, Error> {
        let ready = self.client.prepared(call).await?;
        let request = ready.http.post(call.url(&ready.endpoint)).headers(ready.headers).timeout(UPLOAD);
        let name = call.name();
        let sending = exchange(request.multipart(form(wanted).await?), &name, &ready.endpoint);
        self.client.unless_stopped(call, sending).await
    }

    /// Deletes a file or a volume; content when it is not there. Waits for the end.
    ///
    /// # Errors
    /// As every write; a volume that others build on is refused.
    pub async fn delete(&self, volume: &VolumeId) -> Result<(), Error> {
        let path = self.path(&[volume.storage(), "content"]);
        let name = volume.to_string();
        let path: Vec<&str> = path.iter().map(String::as_str).chain([name.as_str()]).collect();
        let deleted = async {
            let upid: Option<Upid> = self.client.call(Call::delete(&path)).await?;
            match upid {
                Some(upid) => self.client.wait(&upid).await.map(|_| ()),
                None => Ok(()),
            }
        };
        match deleted.await {
            Err(error) if error.is(Class::NoStorage) => self.content_without(volume, error).await,
            ended => ended,
        }
    }

    /// Fine if the volume is not listed; its own error otherwise.
    async fn content_without(&self, volume: &VolumeId, error: Error) -> Result<(), Error> {
        let kind = volume.name().split_once('/').map_or("images", |(kind, _)| kind);
        let kind = if matches!(kind, "iso" | "import" | "vztmpl" | "snippets" | "backup") { kind } else { "images" };
        if self.find(volume, kind).await?.is_some() { Err(error) } else { Ok(()) }
    }

    fn path(&self, rest: &[&str]) -> Vec<String> {
        let own = ["nodes".to_owned(), self.node.to_string(), "storage".to_owned()];
        own.into_iter().chain(rest.iter().map(|&part| part.to_owned())).collect()
    }
}

/// The order of fields is the server's: `content`, `checksum-algorithm`, `checksum`, and the file last.
async fn form(wanted: &Upload) -> Result<Form, Error> {
    let mut form = Form::new().text("content", wanted.content);
    if let Some((algorithm, sum)) = &wanted.checksum {
        form = form.text("checksum-algorithm", algorithm.clone()).text("checksum", sum.clone());
    }
    let part = match &wanted.source {
        Source::Bytes(bytes) => Part::bytes(bytes.clone()),
        Source::File(path) => {
            let failed = |source| Error::File { path: path.clone(), source };
            let file = tokio::fs::File::open(path).await.map_err(failed)?;
            let length = file.metadata().await.map_err(failed)?.len();
            Part::stream_with_length(reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, CHUNK)), length)
        }
    };
    Ok(form.part("filename", part.file_name(wanted.file_name.clone())))
}

/// An upload of some GiB over a slow line.
const UPLOAD: Duration = Duration::from_secs(4 * 60 * 60);
const CHUNK: usize = 256 * 1024;
