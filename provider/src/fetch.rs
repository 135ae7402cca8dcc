//! A file of the web, fetched by the computer that Terraform runs on, and believed by its checksum alone.
//!
//! What is fetched for a cluster comes through here, and not from its machines: they may have no way out, and Terraform's computer
//! mostly has one. It goes through the proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY`), as downloads do.

use crate::agents::Wait;
use std::time::Duration;
use tokio::time::Instant;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The client.
    #[error("no connection can be made from here")]
    Client(#[source] reqwest::Error),
    /// The other side, or the way to it.
    #[error("it cannot be fetched")]
    Failed(#[source] reqwest::Error),
    /// Another answer than a file.
    #[error("the server answered {0}")]
    Status(reqwest::StatusCode),
    /// More than anybody wants.
    #[error("it is larger than {} MiB", LARGEST >> 20)]
    Large,
    /// Another file.
    #[error("its checksum is sha256:{0}")]
    Other(String),
    /// No text.
    #[error("it is no text")]
    Binary(#[source] std::string::FromUtf8Error),
    /// Nobody waits any longer.
    #[error("it did not come in time")]
    Late,
    /// Terraform wants to stop.
    #[error("Terraform was asked to stop")]
    Stopped,
}

/// The text at `url`, whose SHA-256 is `sum`, hex.
pub(crate) async fn text(url: &str, sum: &str, wait: &Wait<'_>) -> Result<String, FetchError> {
    let late = wait.deadline.min(Instant::now() + PATIENCE);
    // All arms are cancel-safe: a token and a timer; what is dropped with the work is the connection it was on.
    let bytes = tokio::select! {
        biased;
        () = wait.stop.cancelled() => Err(FetchError::Stopped),
        () = tokio::time::sleep_until(late) => Err(FetchError::Late),
        fetched = fetch(url) => fetched,
    }?;
    let found = sha256(&bytes);
    if !found.eq_ignore_ascii_case(sum) {
        return Err(FetchError::Other(found));
    }
    String::from_utf8(bytes).map_err(FetchError::Binary)
}

/// SHA-256, hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}

async fn fetch(url: &str) -> Result<Vec<u8>, FetchError> {
    let client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .dns_resolver(resolve::Names)
        .user_agent(concat!("groundwork/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(FetchError::Client)?;
    let mut answer = client.get(url).send().await.map_err(FetchError::Failed)?;
    if !answer.status().is_success() {
        return Err(FetchError::Status(answer.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(FetchError::Failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST {
            return Err(FetchError::Large);
        }
    }
    Ok(bytes)
}

/// The largest of this field, Argo CD's and Calico's, have two.
const LARGEST: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that gives this one answer.
    async fn answered(answer: &str, sum: &str) -> Result<String, FetchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/kube-flannel.yml", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            assert!(stream.read(&mut asked).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let (fetched, ()) = tokio::join!(within(&url, sum), serve);
        fetched
    }

    async fn within(url: &str, sum: &str) -> Result<String, FetchError> {
        let (deadline, stop) = (Instant::now() + Duration::from_secs(20), tf::CancellationToken::new());
        text(url, sum, &Wait { deadline, stop: &stop, progress: &|_| () }).await
    }

    const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    /// FIPS 180-2, B.1.
    const SUM: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[tokio::test]
    async fn a_file_is_fetched_and_known_by_its_checksum() {
        assert_eq!(answered(GOOD, SUM).await.unwrap(), "abc");
        assert_eq!(answered(GOOD, &SUM.to_uppercase()).await.unwrap(), "abc");
        let other = answered(GOOD, "00").await.unwrap_err();
        assert_eq!(other.to_string(), format!("its checksum is sha256:{SUM}"));
    }

    #[tokio::test]
    async fn what_is_no_file_is_an_error() {
        let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(answered(gone, SUM).await.unwrap_err().to_string(), "the server answered 404 Not Found");
        let error = within("http://127.0.0.1:1/x", SUM).await.unwrap_err();
        assert!(matches!(error, FetchError::Failed(_)), "{error:?}");
    }
}
