//! One TLS 1.3 connection to an agent, judged before a byte of a request is sent.
//!
//! An agent is recognised by its public key, or by what leads there from the key that is known: names and dates of its certificate do
//! not count, for nothing of ours runs between two applies that could renew it. The connector waits for the agent's first bytes, because in TLS 1.3 a server
//! refuses a client's certificate only after the client has finished its own part of the handshake.

use super::Error;
use super::pki::Authority;
use super::until::Until;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, DigitallySignedStruct, SignatureScheme};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin as StdPin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tf::chain;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use trust::{Pin, Role};

/// An open connection and what its handshake told.
pub(super) struct Dialled {
    /// For calls.
    pub(super) channel: Channel,
    /// The session's exporter, for enrolment proofs.
    pub(super) exporter: [u8; 32],
    /// The agent's certificate and those of its issuers; not verified beyond the possession of its key.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Its public key, DER SubjectPublicKeyInfo.
    pub(super) public_key: Vec<u8>,
    /// The machine's keys, the one that served this handshake last.
    pub(super) lineage: Vec<Pin>,
}

impl Dialled {
    /// The pin by which the machine is known: that of its first key.
    pub(super) fn pin(&self) -> Pin {
        self.lineage.first().copied().unwrap_or_else(|| Pin::of(&self.public_key))
    }
}

/// Connects with a fresh client certificate of `role`. Nothing is known about the other side but that it accepts our CA.
pub(super) async fn dial(authority: &Authority, role: Role, address: &str, until: &Until) -> Result<Dialled, Error> {
    // What we may not do is said before anybody is asked.
    let connector = TlsConnector::from(Arc::new(config(authority, role)?));
    let tcp = connected(address, until).await?;
    let greeted = async {
        let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let mut tls = connector.connect(name, tcp).await?;
        let mut first = vec![0; 512];
        let length = tls.read(&mut first).await?;
        first.truncate(length);
        if length == 0 { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) } else { Ok((tls, first)) }
    };
    let greeted = until.bound((address, "the handshake"), HANDSHAKE, greeted).await?;
    let (tls, first) = greeted.map_err(|error| judge(address, &error))?;
    // On the heap: it is large, and every operation on an agent would carry it in its own future.
    until.bound((address, "HTTP/2"), HANDSHAKE, Box::pin(dialled(address, tls, first))).await?
}

/// A TCP connection: short attempts that each start afresh. The first packet to a machine that was made anew under its old address may
/// go to the hardware address of the old one; a repeated packet of the same attempt would come ever later.
async fn connected(address: &str, until: &Until) -> Result<TcpStream, Error> {
    let lost = |error: io::Error| judge(address, &error);
    let mut last = no_answer(address);
    let sockets = until.bound((address, "the look-up of its name"), LOOK_UP, sockets(address)).await??;
    for patience in ATTEMPTS {
        match until.bound((address, "the call"), patience, TcpStream::connect(&*sockets)).await {
            Ok(tcp) => {
                let tcp = tcp.map_err(lost)?;
                tcp.set_nodelay(true).map_err(lost)?;
                return Ok(tcp);
            }
            Err(error @ Error::Unreachable { .. }) => last = error,
            Err(over) => return Err(over),
        }
    }
    Err(last)
}

/// What `host:port` means.
async fn sockets(address: &str) -> Result<Vec<SocketAddr>, Error> {
    let odd = |why: String| Error::Unreachable { address: address.to_owned(), why };
    let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) = split.ok_or_else(|| odd("it is no host:port".to_owned()))?;
    let found = resolve::addresses(host).await.map_err(|unknown| odd(unknown.to_string()))?;
    Ok(found.into_iter().map(|address| (address, port).into()).collect())
}

/// As [`dial`], and the agent has the key with this pin, or one that followed it and was not seen to be followed by another.
pub(super) async fn dial_pinned(
    authority: &Authority,
    role: Role,
    (address, pin): (&str, Pin),
    until: &Until,
) -> Result<Dialled, Error> {
    let dialled = dial(authority, role, address, until).await?;
    authority.keys.judge(address, pin, &dialled.lineage)?;
    Ok(dialled)
}

async fn dialled(address: &str, tls: TlsStream<TcpStream>, first: Vec<u8>) -> Result<Dialled, Error> {
    let session = tls.get_ref().1;
    let odd = |why: &str| Error::Unreachable { address: address.to_owned(), why: why.to_owned() };
    let exporter = session
        .export_keying_material([0; 32], trust::CHANNEL_BINDING, None)
        .map_err(|_| odd("the session has no exporter"))?;
    let presented = session.peer_certificates().unwrap_or_default();
    let own = presented.first().ok_or_else(|| odd("it presented no certificate"))?;
    let public_key = trust::key_of(own).map_err(|error| odd(&error.to_string()))?;
    let (certificates, statements) = trust::apart(presented);
    let lineage = trust::lineage(&public_key, &statements);
    let channel = channel(Primed { first, at: 0, tls }).await.map_err(|error| odd(&chain(&error)))?;
    Ok(Dialled { channel, exporter, chain: certificates, public_key, lineage })
}

/// HTTP/2 over the one stream; a channel never dials by itself.
async fn channel(stream: Primed) -> Result<Channel, tonic::transport::Error> {
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let stream = once.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    Endpoint::from_static("http://agent")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

pub(super) fn config(authority: &Authority, role: Role) -> Result<ClientConfig, Error> {
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let (chain, key) = authority.client(role)?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&crypto))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::BadAuthority(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey(crypto)))
        .with_client_auth_cert(chain, key)
        .map_err(|error| Error::BadAuthority(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// Takes any certificate whose key signs the handshake. Who it is, is decided right after, by pin, proof or chain.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("agents speak TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A stream whose first bytes have been read already.
struct Primed {
    first: Vec<u8>,
    at: usize,
    tls: TlsStream<TcpStream>,
}

impl AsyncRead for Primed {
    fn poll_read(mut self: StdPin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.first.get(self.at..).unwrap_or_default();
        if left.is_empty() {
            return StdPin::new(&mut self.tls).poll_read(cx, buf);
        }
        let length = left.len().min(buf.remaining());
        buf.put_slice(left.get(..length).unwrap_or_default());
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Primed {
    fn poll_write(mut self: StdPin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        StdPin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: StdPin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        StdPin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: StdPin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        StdPin::new(&mut self.tls).poll_shutdown(cx)
    }
}

/// What a failure of the connection means.
fn judge(address: &str, error: &io::Error) -> Error {
    let address = address.to_owned();
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)) => Error::Clock { address },
        Some(rustls::Error::AlertReceived(alert)) if REFUSALS.contains(alert) => {
            Error::OtherAuthority { address, alert: format!("{alert:?}") }
        }
        _ if CLOSED.contains(&error.kind()) => Error::Closed { address, why: error.to_string() },
        _ => Error::Unreachable { address, why: error.to_string() },
    }
}

fn no_answer(address: &str) -> Error {
    Error::Unreachable { address: address.to_owned(), why: "no answer in time".to_owned() }
}

/// Alerts by which a server refuses a client's certificate.
const REFUSALS: [AlertDescription; 6] = [
    AlertDescription::UnknownCA,
    AlertDescription::BadCertificate,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];

/// What is told of a connection that the other side does not take, or ends.
const CLOSED: [io::ErrorKind; 5] = [
    io::ErrorKind::ConnectionRefused,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::UnexpectedEof,
];

/// Of one try to connect; together as long as a slow network may take.
const ATTEMPTS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(1), Duration::from_secs(1), Duration::from_secs(2)];
/// Longer than any look-up takes.
const LOOK_UP: Duration = Duration::from_secs(6);
const HANDSHAKE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
