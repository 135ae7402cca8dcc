//! The file on this computer that an image is uploaded from: what it was when it was sent, and whether it is another one now.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use pve::{Error, VolumeId};
use tf::Diagnostic;

use crate::context::Cx;

/// SHA-256 of a file, in hex.
pub(super) async fn sum(path: PathBuf) -> Result<String, Error> {
    let file = path.clone();
    let hashed = tokio::task::spawn_blocking(move || hash(&file)).await.unwrap_or_else(|gone| Err(gone.into()));
    hashed.map_err(|source| Error::File { path, source })
}

fn hash(path: &Path) -> std::io::Result<String> {
    // A pipe would be waited for, and a device has no end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut file = std::fs::File::open(path)?;
    let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(context.finish())),
            length => context.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// Remembers the sum of what was uploaded.
pub(super) fn remember(cx: &Cx, sum: &str) {
    cx.private().set(SUM, &sum);
}

/// What is different now: nothing where nothing was uploaded from here. A file that cannot be read costs a warning.
pub(super) async fn drift(cx: &Cx, source_file: Option<&str>, volume: &VolumeId) -> Vec<String> {
    let (Some(path), Some(before)) = (source_file, cx.private().get::<String>(SUM)) else { return Vec::new() };
    match sum(path.into()).await {
        Ok(now) if now == before => Vec::new(),
        Ok(_) => vec![format!("source_file: {path} has changed since it was uploaded")],
        Err(error) => {
            cx.warn(
                Diagnostic::warning(format!("Cannot compare image {volume} with its source"))
                    .happened(format!("Whether `source_file` has changed cannot be seen: {}.", tf::chain(&error)))
                    .holds("The image on the storage is kept as it is.")
                    .next("Put the file back, or correct `source_file`: with another value the image is uploaded anew.")
                    .at("source_file"),
            );
            Vec::new()
        }
    }
}

/// Key in the image's private state.
const SUM: &str = "source_sha256";

const CHUNK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn a_sum_is_of_the_content() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        let sum = sum(file.path().into()).await.unwrap();
        assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        for bad in ["/nowhere", "/dev/zero", "/"] {
            assert!(matches!(super::sum(bad.into()).await, Err(Error::File { .. })), "{bad}");
        }
    }
}
