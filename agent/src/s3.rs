//! A bucket of S3, or of what speaks like it (MinIO, Ceph, Garage): objects are put, fetched, listed and deleted.
//!
//! One connection, for one request. A server is believed by the machine's own CAs, and by those that are given. Source: AWS, "Amazon S3 API
//! Reference": `PutObject`, `GetObject`, `ListObjectsV2`, `DeleteObject`, "Error responses".

mod sign;
#[cfg(test)]
mod tests;

use crate::chain::chain;
use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream;
use http::{Request, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sign::Keys;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// Where it is, and who asks.
pub(crate) struct Bucket {
    /// `https://minio.example.org:9000`: scheme, host and port alone.
    pub(crate) endpoint: String,
    /// Its name.
    pub(crate) name: String,
    /// What the server takes for its place in signatures.
    pub(crate) region: String,
    /// The bucket stands in the path of a URL, and not before the host.
    pub(crate) path_style: bool,
    /// Of the access key.
    pub(crate) access_key_id: String,
    /// Of the access key.
    pub(crate) secret_access_key: Zeroizing<String>,
    /// PEM, besides the machine's own.
    pub(crate) ca_certificate: String,
}

/// What is asked of it.
struct Ask<'a> {
    method: &'a str,
    /// Empty for the bucket itself.
    key: &'a str,
    pairs: &'a [(&'a str, &'a str)],
    /// Of the body: SHA-256, hex, and bytes.
    sum: &'a str,
    size: u64,
    patience: Duration,
}

impl<'a> Ask<'a> {
    /// Without a body.
    fn short(sum: &'a str) -> Self {
        Self { method: "GET", key: "", pairs: &[], sum, size: 0, patience: TIME }
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Where the body of an answer goes.
struct Sink<'a> {
    file: tokio::fs::File,
    /// Is shown each piece.
    seen: &'a mut (dyn FnMut(&[u8]) + Send),
    /// Bytes so far.
    size: u64,
}

impl Bucket {
    /// Makes an object of a file.
    ///
    /// # Errors
    /// When it cannot be read, or the server does not take it: then there is no such object, or the one of before.
    pub(crate) async fn put(&self, key: &str, file: &Path) -> Result<(), String> {
        let odd = |error: io::Error| format!("{}: {error}", file.display());
        let size = tokio::fs::metadata(file).await.map_err(odd)?.len();
        if size > LARGEST {
            return Err(format!("{} has {size} bytes, and S3 takes {LARGEST} in one piece", file.display()));
        }
        let sum = summed(file).await.map_err(odd)?;
        let body = StreamBody::new(pieces(tokio::fs::File::open(file).await.map_err(odd)?));
        let ask = Ask { method: "PUT", key, pairs: &[], sum: &sum, size, patience: LONGEST };
        self.ask(&ask, BodyExt::boxed_unsync(body), None).await.map(drop)
    }

    /// Makes a file of an object, readable by its owner alone, in the place of what stands there; each piece is shown to `seen`. Gives its bytes.
    ///
    /// # Errors
    /// When the server does not give it whole, or it cannot be written: then no file is left.
    pub(crate) async fn get(&self, key: &str, to: &Path, seen: &mut (dyn FnMut(&[u8]) + Send)) -> Result<u64, String> {
        let odd = |error: io::Error| format!("{}: {error}", to.display());
        // Not through a link, and with no mode of somebody else's.
        gone(to).await.map_err(odd)?;
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(to).await.map_err(odd)?;
        let mut sink = Sink { file, seen, size: 0 };
        let (nothing, patience) = (sign::sum(b""), LONGEST);
        let asked = self.ask(&Ask { key, patience, ..Ask::short(&nothing) }, empty(), Some(&mut sink)).await;
        let written = match asked {
            Ok(_) => sink.file.sync_all().await.map_err(odd),
            Err(why) => Err(why),
        };
        match written {
            Ok(()) => Ok(sink.size),
            Err(why) => {
                gone(to).await.map_err(odd)?;
                Err(why)
            }
        }
    }

    /// Keys that begin so.
    ///
    /// # Errors
    /// When the server does not tell.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<String>, String> {
        let (mut keys, mut from, nothing) = (Vec::new(), String::new(), sign::sum(b""));
        loop {
            let mut pairs = vec![("list-type", "2"), ("prefix", prefix)];
            pairs.extend((!from.is_empty()).then_some(("continuation-token", from.as_str())));
            let said = self.ask(&Ask { method: "GET", pairs: &pairs, ..Ask::short(&nothing) }, empty(), None).await?;
            keys.extend(all(&said, "Key"));
            match all(&said, "NextContinuationToken").into_iter().next() {
                Some(next) if next != from => from = next,
                _ => return Ok(keys),
            }
        }
    }

    /// Deletes an object; content if there is none.
    ///
    /// # Errors
    /// When the server does not.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), String> {
        self.ask(&Ask { method: "DELETE", key, ..Ask::short(&sign::sum(b"")) }, empty(), None).await.map(drop)
    }

    async fn ask(&self, ask: &Ask<'_>, body: Body, sink: Option<&mut Sink<'_>>) -> Result<String, String> {
        let said = timeout(ask.patience, self.exchange(ask, body, sink)).await;
        let said = said.unwrap_or_else(|_| Err(format!("no answer in {} s", ask.patience.as_secs())));
        said.map_err(|why| format!("{} of {}: {why}", self.name, self.endpoint))
    }

    async fn exchange(&self, ask: &Ask<'_>, body: Body, sink: Option<&mut Sink<'_>>) -> Result<String, String> {
        let Ask { method, key, pairs, sum, size, .. } = *ask;
        let (scheme, authority) = self.endpoint.split_once("://").ok_or("the endpoint is no URL")?;
        let (host, path) = if self.path_style {
            (authority.to_owned(), format!("/{}/{}", self.name, sign::encoded(key, "/")))
        } else {
            (format!("{}.{authority}", self.name), format!("/{}", sign::encoded(key, "/")))
        };
        let (date, query) = (sign::date(SystemTime::now()), sign::query(pairs));
        let keys = Keys { id: &self.access_key_id, secret: &self.secret_access_key, region: &self.region };
        let signed = sign::Request { method, host: &host, path: &path, query: &query, sum, date: &date };
        let request = Request::builder()
            .method(method)
            .uri(if query.is_empty() { path.clone() } else { format!("{path}?{query}") })
            .header(header::HOST, &host)
            .header(header::CONTENT_LENGTH, size)
            .header("x-amz-content-sha256", sum)
            .header("x-amz-date", &date)
            .header(header::AUTHORIZATION, sign::authorization(&keys, &signed))
            .body(body)
            .map_err(|error| error.to_string())?;
        let (status, text) = self.send(scheme == "https", &host, request, sink).await?;
        if status.is_success() { Ok(text) } else { Err(refusal(status, &text)) }
    }

    async fn send(
        &self,
        is_tls: bool,
        host: &str,
        request: Request<Body>,
        sink: Option<&mut Sink<'_>>,
    ) -> Result<(StatusCode, String), String> {
        let at = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:{}", if is_tls { 443 } else { 80 })
        };
        let tcp = timeout(CONNECT, TcpStream::connect(&at)).await;
        let tcp = tcp.map_err(|_| format!("no connection in {} s", CONNECT.as_secs()))?;
        let tcp = tcp.map_err(|error| error.to_string())?;
        if !is_tls {
            return spoken(tcp, request, sink).await;
        }
        let name = at.rsplit_once(':').map_or(at.as_str(), |(name, _)| name).trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let tls = TlsConnector::from(Arc::new(self.tls()?)).connect(name, tcp).await;
        spoken(tls.map_err(|error| error.to_string())?, request, sink).await
    }

    fn tls(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        let own = BUNDLES.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        // What of the machine's bundle cannot be used is left out, as everywhere.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&own).flatten());
        for given in CertificateDer::pem_slice_iter(self.ca_certificate.as_bytes()) {
            let given = given.map_err(|error| format!("its `ca_certificate` cannot be read: {error}"))?;
            roots.add(given).map_err(|error| format!("its `ca_certificate` cannot be used: {error}"))?;
        }
        Ok(ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}

/// The answer to the one request on a connection.
async fn spoken(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
    sink: Option<&mut Sink<'_>>,
) -> Result<(StatusCode, String), String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let answer = pin!(async move {
        let said = sender.send_request(request).await.map_err(|error| chain(&error))?;
        let (head, body) = said.into_parts();
        if let Some(sink) = sink.filter(|_| head.status.is_success()) {
            sink.take(body).await?;
            return Ok((head.status, String::new()));
        }
        let bytes = Limited::new(body, ANSWER).collect().await.map_err(|error| chain(&*error))?.to_bytes();
        Ok((head.status, String::from_utf8_lossy(&bytes).into_owned()))
    });
    match select(answer, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // It may end when all has been read.
        Either::Right((_, answer)) => answer.await,
    }
}

impl Sink<'_> {
    /// Until the end that the server has announced.
    async fn take(&mut self, mut body: Incoming) -> Result<(), String> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("after {} bytes: {}", self.size, chain(&error)))?;
            let Ok(piece) = frame.into_data() else { continue };
            self.size = self.size.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if self.size > MOST {
                return Err(format!("it has more than {MOST} bytes"));
            }
            self.file.write_all(&piece).await.map_err(|error| format!("its copy here: {error}"))?;
            (self.seen)(&piece);
        }
        self.file.flush().await.map_err(|error| format!("its copy here: {error}"))
    }
}

/// Nothing stands there any more.
async fn gone(path: &Path) -> io::Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

async fn summed(file: &Path) -> io::Result<String> {
    let mut file = tokio::fs::File::open(file).await?;
    let (mut context, mut piece) = (digest::Context::new(&digest::SHA256), vec![0; PIECE]);
    loop {
        match file.read(&mut piece).await? {
            0 => return Ok(hex::encode(context.finish())),
            read => context.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

fn pieces(file: tokio::fs::File) -> impl futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send {
    stream::unfold(file, |mut file| async {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(Frame::data(piece.into())), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    })
}

/// Why it was refused, in the server's own words.
fn refusal(status: StatusCode, text: &str) -> String {
    let mut words = vec![status.to_string()];
    for name in ["Code", "Message"] {
        words.extend(all(text, name).into_iter().take(1));
    }
    plain::line(&words.join(": ")).into_owned()
}

/// The texts of all elements of a name that hold nothing but a text.
fn all(xml: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let inner = xml.split(begin.as_str()).skip(1).filter_map(|rest| rest.split_once(end.as_str()));
    inner.filter(|(text, _)| !text.contains('<')).map(|(text, _)| unescaped(text)).collect()
}

fn unescaped(text: &str) -> String {
    let signs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    signs.iter().fold(text.to_owned(), |text, (escaped, sign)| text.replace(escaped, sign))
}

/// Of one object that is put at once.
const LARGEST: u64 = 5 << 30;
/// A thousand keys of a kilobyte, and what is said around them.
const ANSWER: usize = 4 << 20;
const PIECE: usize = 1 << 16;
const CONNECT: Duration = Duration::from_secs(20);
const TIME: Duration = Duration::from_secs(60);
/// As long as the timer's service may take.
const LONGEST: Duration = Duration::from_secs(1_500);
/// Of one object that is fetched. etcd warns of a database of more than 8 GiB.
const MOST: u64 = 64 << 30;
/// Where distributions keep the CAs that the machine trusts.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
