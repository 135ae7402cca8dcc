//! A host as Terraform is one: starts a provider, reads its line, and talks to it over mutual TLS.

#![expect(clippy::expect_used, reason = "a host without its provider can only fail")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P521_SHA512};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

/// Who we are to the provider: Terraform's kind of certificate, P-521 and self-signed.
pub(crate) struct Identity {
    pub(crate) pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

/// A started provider; ended when dropped.
pub(crate) struct Provider {
    pub(crate) process: Child,
    /// The parts of the handshake line.
    pub(crate) line: Vec<String>,
    /// Held open: its end would say that the host has died.
    pub(crate) stdout: Option<BufReader<ChildStdout>>,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { pem: certificate.pem(), certificate: certificate.der().clone(), key: key.serialize_der() }
    }
}

impl Provider {
    /// Starts a provider for a host with this identity, or without TLS.
    pub(crate) fn start(binary: &Path, identity: Option<&Identity>, more: &HashMap<&str, String>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a host starts its provider")]
        let mut command = Command::new(binary);
        command.env("TF_PLUGIN_MAGIC_COOKIE", COOKIE).env("PLUGIN_PROTOCOL_VERSIONS", "6,5").envs(more);
        if let Some(identity) = identity {
            command.env("PLUGIN_CLIENT_CERT", &identity.pem);
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the provider starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let line = line.trim().split('|').map(str::to_owned).collect();
        Self { process, line, stdout: Some(stdout) }
    }

    /// Connects as somebody, or as nobody in particular.
    pub(crate) async fn connect(&self, identity: Option<&Identity>) -> Result<Channel, tonic::transport::Error> {
        let path = self.line[3].clone();
        let server = STANDARD_NO_PAD.decode(&self.line[5]).expect("base64 without padding");
        let tls = (!server.is_empty()).then(|| client_config(CertificateDer::from(server), identity));
        let connect = move |_: Uri| {
            let (path, tls) = (path.clone(), tls.clone());
            async move {
                let stream = UnixStream::connect(path).await?;
                let Some(tls) = tls else { return Ok(TokioIo::new(Either::Plain(stream))) };
                let name = ServerName::try_from("localhost").expect("a name");
                let stream = TlsConnector::from(tls).connect(name, stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(Either::Tls(Box::new(stream))))
            }
        };
        Endpoint::from_static("http://localhost").connect_with_connector(tower::service_fn(connect)).await
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Ended already, or it does not matter.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn client_config(server: CertificateDer<'static>, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let only = Arc::new(OnlyServer { certificate: server, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS");
    let builder = builder.dangerous().with_custom_certificate_verifier(only);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.clone()));
            builder.with_client_auth_cert(vec![identity.certificate.clone()], key).expect("an identity")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// The server of the handshake line and no other.
#[derive(Debug)]
struct OnlyServer {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OnlyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        assert_eq!(*end_entity, self.certificate, "the provider shows the certificate of its handshake line");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection with or without TLS.
enum Either {
    Plain(UnixStream),
    Tls(Box<tokio_rustls::client::TlsStream<UnixStream>>),
}

mod io {
    use std::io::Result;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Either;

    impl AsyncRead for Either {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
                Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            }
        }
    }

    impl AsyncWrite for Either {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
                Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
                Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            }
        }
    }
}
