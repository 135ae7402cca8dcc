//! `/nodes/{node}/storage`: what storages there are, and files and volumes on them.

use serde::Deserialize;

use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::ids::{NodeName, Upid, Vmid, VolumeId};
use crate::params::Params;
use crate::units::Size;
use crate::upload::Upload;
use crate::wording::Class;

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

/// What is told of one volume alone.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(deserialize_with = "crate::quirks::bytes")]
    size: u64,
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

    /// The size that a disk made of this volume has: of a packed image, unpacked.
    ///
    /// # Errors
    /// As every read; also if there is no such volume.
    pub async fn size(&self, volume: &VolumeId) -> Result<Size, Error> {
        let name = volume.to_string();
        let path = self.path(&[volume.storage(), "content", &name]);
        let info: Info = self.client.call(Call::get(&path)).await?;
        Ok(Size(info.size))
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

    /// Sends a file. One of that name is overwritten without question, so a file that may have come in whole is not sent
    /// again. A stop or the deadline cuts the sending off: the server throws away what it has of the file.
    ///
    /// # Errors
    /// As every write; [`Error::File`] if the file cannot be read.
    pub async fn upload(&self, storage: &str, wanted: &Upload) -> Result<Upid, Error> {
        self.client.call(Call::post(&self.path(&[storage, "upload"])).upload(wanted.clone())).await
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
