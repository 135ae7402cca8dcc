//! The life of a provider process: handshake with Terraform, serving, and the end.
//!
//! Terraform starts the executable, reads one line from its stdout and connects to the address in it, with TLS certificates
//! that live for this one process. Source: "Starting up and transport" of the plugin protocol.

mod handshake;
mod orphan;
mod services;
mod socket;
mod tls;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tfplugin::health::health_server::HealthServer;
use tfplugin::plugin::grpc_broker_server::GrpcBrokerServer;
use tfplugin::plugin::grpc_controller_server::GrpcControllerServer;
use tfplugin::plugin::grpc_stdio_server::GrpcStdioServer;
use tfplugin::v6::provider_server::ProviderServer;
use tokio_util::sync::CancellationToken;

use self::handshake::Environment;
use self::services::Services;
use self::socket::Listener;
use crate::diagnostic::chain;
use crate::log;
use crate::resource::Provider;
use crate::server::{Server, Session};

/// States are far larger than gRPC's usual 4 MiB.
const MAX_MESSAGE: usize = 256 << 20;

/// Terraform kills a provider two seconds after it has asked it to end; [`LINGER`] comes on top.
const FAREWELL: Duration = Duration::from_millis(1300);

/// When nobody kills what takes longer, operations get a moment to stop in order.
const LONG_FAREWELL: Duration = Duration::from_secs(10);

/// How long answers may take to leave.
const LINGER: Duration = Duration::from_millis(500);

/// How long operations may take to stop after a SIGTERM, reading back included, while Terraform waits for their answers.
const TERMINATION: Duration = Duration::from_secs(300);

/// Who starts the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Terraform.
    Hosted,
    /// A developer: the provider runs until Ctrl-C and prints how to make Terraform use it.
    Debug,
}

/// Why the process has to end.
enum End {
    /// Terraform said so.
    Shutdown,
    /// A signal said so.
    Signal,
    /// Terraform is gone.
    Orphaned,
}

/// Why a provider could not serve.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot make a socket to listen on")]
    Listen(#[source] std::io::Error),
    #[error("cannot set up TLS")]
    Tls(#[from] tls::TlsError),
    #[error("cannot write the handshake line")]
    Handshake(#[source] std::io::Error),
    #[error("cannot watch for signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot serve")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves a provider until Terraform has no more use for it.
pub fn serve<P: Provider>(provider: P, mode: Mode) -> ExitCode {
    let environment = Environment::read(|name| std::env::var(name).ok());
    if mode == Mode::Hosted && !environment.is_from_terraform() {
        say(&handshake::for_humans::<P>());
        return ExitCode::FAILURE;
    }
    log::init(P::NAME, P::ADDRESS, P::LOGGED);
    match run(provider, mode, &environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("The provider {} cannot run: {}.", P::NAME, chain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run<P: Provider>(provider: P, mode: Mode, environment: &Environment) -> Result<(), ServeError> {
    // Two threads: one slow piece of work must not hold up Terraform's other calls.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let served = runtime.block_on(serve_all(provider, mode, environment));
    // What still runs is a call nobody waits for.
    runtime.shutdown_background();
    served
}

async fn serve_all<P: Provider>(provider: P, mode: Mode, environment: &Environment) -> Result<(), ServeError> {
    let closing = CancellationToken::new();
    let signals = Signals::watch().map_err(ServeError::Signals)?;
    let (listener, _leftovers) = Listener::bind(environment).await.map_err(ServeError::Listen)?;
    let acceptor = match (mode, &environment.client_certificate) {
        (Mode::Hosted, Some(pem)) => Some(tls::acceptor(pem)?),
        _ => None,
    };
    let line = match mode {
        Mode::Hosted => handshake::line(environment, listener.address(), acceptor.as_ref().map(|tls| &tls.certificate)),
        Mode::Debug => handshake::reattach::<P>(listener.address()),
    };
    announce(&line).map_err(ServeError::Handshake)?;

    let server = Server::new(provider);
    let services = Services::new(closing.clone());
    let incoming = listener.incoming(acceptor.map(|tls| tls.acceptor), closing.clone(), sessions(&server, mode));
    let serving = tonic::transport::Server::builder()
        .add_service(ProviderServer::new(server.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(GrpcControllerServer::new(services.clone()))
        .add_service(GrpcStdioServer::new(services.clone()))
        .add_service(GrpcBrokerServer::new(services.clone()))
        .add_service(HealthServer::new(services))
        .serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned());

    let mut serving = std::pin::pin!(serving);
    // All arms are cancel-safe: they only watch. `serving` ends by itself only if listening fails.
    let end = tokio::select! {
        served = &mut serving => return Ok(served?),
        () = closing.cancelled() => End::Shutdown,
        () = told_by_signal(signals, mode, &server) => End::Signal,
        () = orphan::orphaned(mode) => End::Orphaned,
    };
    let patience = match end {
        End::Shutdown => FAREWELL,
        End::Signal | End::Orphaned => LONG_FAREWELL,
    };
    // First the operations end, still connected: each has an answer to give.
    if tokio::time::timeout(patience, server.wind_down()).await.is_err() {
        tracing::warn!("operations were still running at the end");
    }
    // Then the answers leave. A host that holds its streams open is not waited for.
    closing.cancel();
    match tokio::time::timeout(LINGER, serving).await {
        Ok(served) => Ok(served?),
        Err(_) => Ok(()),
    }
}

/// Makes the session of each new connection. Terraform starts a process for every provider block; a provider that is debugged
/// is one process for all of them, and each has a connection of its own.
fn sessions<P: Provider>(server: &Server<P>, mode: Mode) -> impl Fn() -> Session<P::Data> + use<P> {
    let (server, shared) = (server.clone(), server.session());
    move || match mode {
        Mode::Hosted => shared.clone(),
        Mode::Debug => server.session(),
    }
}

/// Returns when a signal means the end. Under Terraform a SIGTERM is no end yet: Terraform has usually got it too, and waits
/// for the answers to what it has asked. So operations are stopped, and served on until Terraform says `Shutdown`.
async fn told_by_signal<P: Provider>(signals: Signals, mode: Mode, server: &Server<P>) {
    signals.told(mode).await;
    if mode == Mode::Hosted {
        tracing::info!("stopping on a signal");
        server.stop();
        tokio::time::sleep(TERMINATION).await;
    }
}

/// One line on stdout, which is for nothing else.
fn announce(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes())?;
    stdout.flush()
}

/// A text for a person at a terminal. When nobody reads any more there is nobody to tell.
fn say(text: &str) {
    drop(std::io::stderr().lock().write_all(format!("{text}\n").as_bytes()));
}

/// Signals; once watched, none of them ends the process by itself. A terminal sends Ctrl-C and its hangup to Terraform's whole
/// process group. After a Ctrl-C Terraform asks to stop in its own way; of a hangup it dies, and `orphan` notices that.
#[cfg(unix)]
struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn watch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns at a signal that has a meaning: SIGTERM, and to a developer all of them.
    async fn told(mut self, mode: Mode) {
        // All arms are cancel-safe.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv(), if mode == Mode::Debug => {}
            _ = self.hangup.recv(), if mode == Mode::Debug => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "fails on Unix")]
    const fn watch() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn told(self, mode: Mode) {
        loop {
            let interrupted = tokio::signal::ctrl_c().await;
            match mode {
                Mode::Hosted if interrupted.is_ok() => {}
                Mode::Hosted => std::future::pending().await,
                Mode::Debug => return,
            }
        }
    }
}
