//! Mutual TLS 1.3: who gets in, and what a connection knows about its client.
//!
//! From the first second on only certificates of the operator's CA are accepted, and only those that carry a role. There is no
//! resumption: every connection is authenticated anew, and its exporter is its own.

use crate::clock::Floor;
use crate::host::Host;
use crate::identity::{Identity, Standing};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use trust::{NotTrusted, Role, Usage};

/// What a connection knows about its client.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What it may do.
    pub role: Role,
    /// The session's exporter, which enrolment proofs cover.
    pub exporter: [u8; 32],
}

/// The certificate that the agent presents: its own until it is enrolled, the operator's from then on.
#[derive(Debug)]
pub struct Presented(RwLock<Arc<CertifiedKey>>);

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The agent's key or the versions on offer.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    /// The certificate that the agent makes for itself.
    #[error("no certificate can be made for the agent's key")]
    SelfSigned(#[source] rcgen::Error),
}

impl Presented {
    /// What the identity has to present.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        let certificate = match &identity.standing {
            Standing::Enrolled(certificate) => certificate.clone(),
            Standing::Unknown | Standing::Waiting(_) => {
                let params = rcgen::CertificateParams::default();
                params.self_signed(&identity.key).map_err(TlsError::SelfSigned)?.der().clone()
            }
        };
        Ok(Self(RwLock::new(Arc::new(certified(certificate, &identity.key)?))))
    }

    /// Presents the operator's certificate from the next connection on.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn replace(&self, certificate: CertificateDer<'static>, key: &rcgen::KeyPair) -> Result<(), TlsError> {
        let certified = Arc::new(certified(certificate, key)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(certificate: CertificateDer<'static>, key: &rcgen::KeyPair) -> Result<CertifiedKey, TlsError> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(TlsError::Setup)?;
    Ok(CertifiedKey::new(vec![certificate], key))
}

/// Whether the agent is enrolled, asked at every handshake.
pub type IsEnrolled = Arc<dyn Fn() -> bool + Send + Sync>;

/// The server's side of every handshake.
///
/// # Errors
/// When rustls cannot offer TLS 1.3.
pub fn config(
    ca: CertificateDer<'static>,
    presented: Arc<Presented>,
    clock: Arc<Floor>,
    is_enrolled: IsEnrolled,
) -> Result<ServerConfig, TlsError> {
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let clients = Clients { ca, clock, is_enrolled, crypto: Arc::clone(&crypto) };
    let mut config = ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(presented);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Accepts clients that the operator's CA signed and that carry a role.
struct Clients {
    ca: CertificateDer<'static>,
    clock: Arc<Floor>,
    is_enrolled: IsEnrolled,
    crypto: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain: Vec<_> = std::iter::once(certificate).chain(between).cloned().collect();
        let clock = self.clock.clock((self.is_enrolled)());
        let seen = trust::verify(&chain, &self.ca, Usage::Client, clock).map_err(|error| {
            tracing::warn!(error = %error, "a client's certificate was refused");
            rustls::Error::InvalidCertificate(refusal(&error))
        })?;
        if role(&seen.uris).is_none() {
            tracing::warn!("a client's certificate carries no role");
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.crypto.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}

fn role(uris: &[String]) -> Option<Role> {
    uris.iter().find_map(|uri| Role::of_uri(uri))
}

/// The alert by which the client learns why: another CA, a wrong clock, or something else.
fn refusal(error: &NotTrusted) -> CertificateError {
    match error {
        NotTrusted::OtherIssuer => CertificateError::UnknownIssuer,
        NotTrusted::Expired { .. } => CertificateError::Expired,
        NotTrusted::NotYetValid { .. } => CertificateError::NotValidYet,
        NotTrusted::Unusable(_) => CertificateError::BadEncoding,
    }
}

/// An authenticated connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts connections until the receiver of `out` is dropped. Each handshake has its own task and a time limit.
///
/// Nothing is known of a peer before its handshake ends, so nobody waits for another's: who comes when all places are taken gets
/// the place of the oldest.
pub async fn accept(
    listener: TcpListener,
    config: ServerConfig,
    clock: Arc<Floor>,
    host: Arc<dyn Host>,
    out: mpsc::Sender<io::Result<Connection>>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut places = Places::default();
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        // Both arms are cancel-safe.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = out.closed() => return,
        };
        let (tcp, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, clock, host, out) = (acceptor.clone(), Arc::clone(&clock), Arc::clone(&host), out.clone());
        let handshake = handshakes.spawn(async move {
            match timeout(HANDSHAKE, handshake(&acceptor, tcp, &clock, &*host)).await {
                Ok(Ok(connection)) => drop(out.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::debug!(error = %error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
        });
        places.take(Source::of(from.ip()), handshake);
    }
}

/// Handshakes under way, the oldest first.
#[derive(Default)]
struct Places(VecDeque<(Source, AbortHandle)>);

impl Places {
    /// Takes a place. If there is none left, the oldest handshake ends: of the same source if that has its share, else of all.
    fn take(&mut self, source: Source, handshake: AbortHandle) {
        self.0.retain(|(_, under_way)| !under_way.is_finished());
        let all = self.0.iter().enumerate();
        let of_source: Vec<usize> = all.filter(|(_, (other, _))| *other == source).map(|(at, _)| at).collect();
        let oldest = match of_source.first() {
            Some(oldest) if of_source.len() >= SHARE => Some(*oldest),
            _ => (self.0.len() >= HANDSHAKES).then_some(0),
        };
        if let Some((_, oldest)) = oldest.and_then(|at| self.0.remove(at)) {
            tracing::debug!("a handshake had to make room");
            oldest.abort();
        }
        self.0.push_back((source, handshake));
    }
}

/// Whom an address stands for: with IPv6 one peer has a whole /64 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source(IpAddr);

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

async fn handshake(acceptor: &TlsAcceptor, tcp: TcpStream, clock: &Floor, host: &dyn Host) -> io::Result<Connection> {
    tcp.set_nodelay(true)?;
    // A client speaks first, and at once. What comes after that may take its time: machines are slow and networks lose packets.
    timeout(HELLO, tcp.peek(&mut [0])).await??;
    clock.look(host).await;
    let stream = acceptor.accept(tcp).await?;
    let session = stream.get_ref().1;
    let exporter = session.export_keying_material([0; 32], trust::CHANNEL_BINDING, None).map_err(io::Error::other)?;
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let role = certificate.and_then(|certificate| role(&trust::uris_of(certificate)));
    let role = role.ok_or_else(|| io::Error::other("the client's certificate carries no role"))?;
    Ok(Connection { stream, peer: Peer { role, exporter } })
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Handshakes at one time. Each may hold a client's longest message, 64 KiB: all together stay far below the unit's `MemoryMax`.
const HANDSHAKES: usize = 128;
/// Of these for one source: many providers may share an address behind a NAT.
const SHARE: usize = 32;
const HANDSHAKE: Duration = Duration::from_secs(30);
const HELLO: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// A handshake that does not end by itself.
    fn pending(handshakes: &mut JoinSet<()>) -> AbortHandle {
        handshakes.spawn(std::future::pending())
    }

    fn v4(number: u16) -> Source {
        let [high, low] = number.to_be_bytes();
        Source::of(IpAddr::from([10, 0, high, low]))
    }

    #[tokio::test]
    async fn a_source_that_has_its_share_drops_its_own() {
        let (mut places, mut handshakes) = (Places::default(), JoinSet::new());
        places.take(v4(1), pending(&mut handshakes));
        for _ in 0..10 * SHARE {
            places.take(v4(2), pending(&mut handshakes));
        }
        assert_eq!((places.0[0].0, places.0.len()), (v4(1), 1 + SHARE));
    }

    #[tokio::test]
    async fn without_a_free_place_the_oldest_of_all_goes() {
        let (mut places, mut handshakes) = (Places::default(), JoinSet::new());
        for source in 0..=u16::try_from(HANDSHAKES).unwrap() {
            places.take(v4(source), pending(&mut handshakes));
        }
        assert_eq!((places.0[0].0, places.0.len()), (v4(1), HANDSHAKES));
        assert!(handshakes.join_next().await.unwrap().unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn a_handshake_that_has_ended_leaves_its_place() {
        let (mut places, mut handshakes) = (Places::default(), JoinSet::new());
        places.take(v4(1), handshakes.spawn(std::future::ready(())));
        handshakes.join_next().await;
        places.take(v4(2), pending(&mut handshakes));
        assert_eq!(places.0.len(), 1);
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_half_an_ipv6_address() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::2:3:4:5"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }
}
