//! The agent's door as peers find it: those who never say who they are, those who are gone, and (`attacks`) clients that want all.
#![expect(clippy::disallowed_methods, reason = "servers and peers of a test end with its runtime")]

mod attacks;

use super::*;
use crate::about::About;
use crate::anchors::Anchors;
use crate::host::Host;
use crate::host::fake::Fake;
use crate::identity::{self, Identity, Machine, Pending};
use crate::records::Records;
use crate::run::Runner;
use crate::state::State;
use crate::update::Trial;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, pause, resume, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trust::Role;

/// An agent that serves, and the operator it listens to.
struct Door {
    address: SocketAddr,
    host: Arc<Fake>,
    ca: CertifiedIssuer<'static, KeyPair>,
    _state: tempfile::TempDir,
}

impl Door {
    async fn open() -> Self {
        Self::with(|_, _| (), Vec::new()).await
    }

    /// An agent that lets in from this network alone.
    async fn from_network(network: &str) -> Self {
        Self::with(|_, _| (), vec![network.parse().unwrap()]).await
    }

    /// The agent of a machine that has its operator.
    async fn enrolled() -> Self {
        Self::with(
            |state, ca| {
                let secret = trust::Secret::generate();
                let pending = Pending { id: "e".to_owned(), generation: 1, machine_uuid: String::new(), secret };
                let identity = Identity::load(state, &Machine::default()).unwrap();
                let certificate = CertificateParams::default().signed_by(&identity.key, ca).unwrap();
                identity::enrolled(state, &Machine::default(), &pending, &[certificate.der().clone()]).unwrap();
            },
            Vec::new(),
        )
        .await
    }

    async fn with(prepare: fn(&State, &CertifiedIssuer<'static, KeyPair>), allow_from: Vec<Network>) -> Self {
        let ca = authority();
        let folder = tempfile::tempdir().unwrap();
        let host = Arc::new(Fake::template());
        let runner = Runner::new(Arc::clone(&host) as Arc<dyn Host>);
        let state = State::open(folder.path()).unwrap();
        prepare(&state, &ca);
        let anchors = Anchors::of_pem(&folder.path().join("ca.pem"), &ca.pem()).unwrap();
        let trust = Arc::new(Trust::load(state.clone(), Machine::default(), anchors).unwrap());
        let records = Records::new(state.clone());
        let service = AgentService {
            trust: Arc::clone(&trust),
            records,
            state,
            runner,
            about: About::default(),
            trial: Trial::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(
            async move { serve((listener, allow_from), trust, service, std::future::pending()).await.unwrap() },
        );
        Self { address, host, ca, _state: folder }
    }

    async fn knock(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn enter(&self) -> TlsStream<TcpStream> {
        self.enter_as(Role::Observer).await
    }

    async fn enter_as(&self, role: Role) -> TlsStream<TcpStream> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(role.uri().try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.present(params, &self.ca).await.unwrap()
    }

    /// A handshake with this certificate.
    async fn present(
        &self,
        params: CertificateParams,
        ca: &CertifiedIssuer<'static, KeyPair>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, ca).unwrap().der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("agent").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.knock().await).await
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Whoever answers is the agent: there is nobody else.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
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
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_peer_of_another_network_is_not_talked_to() {
    let (near, far) = (Door::from_network("127.0.0.0/8").await, Door::from_network("198.51.100.0/24").await);
    near.enter().await;
    let mut peer = far.knock().await;
    // Closed before anything of TLS was read: what was sent comes back as a reset, or the end was first.
    peer.write_all(&[0x16]).await.ok();
    assert!(matches!(peer.read(&mut [0; 8]).await, Ok(0) | Err(_)), "it was answered");
    assert_eq!(far.host.looks(), 0, "nobody's certificate is judged");
}

#[tokio::test]
async fn peers_that_say_nothing_keep_nobody_out() {
    let door = Door::open().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(door.knock().await);
    }
    timeout(Duration::from_secs(5), door.enter()).await.expect("a place is free at once");
}

#[tokio::test]
async fn peers_that_begin_and_do_not_go_on_keep_nobody_out() {
    let door = Door::open().await;
    let mut begun = Vec::new();
    for _ in 0..300 {
        let mut peer = door.knock().await;
        // A handshake record of 512 bytes, of which there will be one.
        peer.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        begun.push(peer);
    }
    timeout(Duration::from_secs(5), door.enter()).await.expect("a place is free at once");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_sent_away_soon() {
    let door = Door::open().await;
    let (mut peer, began) = (door.knock().await, Instant::now());
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "closed");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_has_vanished_is_forgotten() {
    let door = Door::open().await;
    let mut client = door.enter().await;
    // The preface of HTTP/2 and empty settings (RFC 9113, 3.4), and no answer to anything after that.
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    client.flush().await.unwrap();
    assert_ne!(client.read(&mut [0; 64]).await.unwrap(), 0, "the agent's settings");
    pause();
    let mut said = Vec::new();
    let closed = timeout(2 * (QUIET + SILENT), client.read_to_end(&mut said)).await;
    assert!(closed.is_ok(), "the connection is still open");
}

#[tokio::test]
async fn an_idle_agent_asks_nothing() {
    let door = Door::open().await;
    door.host.take("/run/systemd/timesync/synchronized");
    pause();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    resume();
    assert_eq!(door.host.looks(), 0);
    let _client = door.enter().await;
    assert_eq!(door.host.looks(), 1, "a client is about to be judged");
}
