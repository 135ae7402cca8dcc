//! gRPC in and out: validate, start a run, stream its events. What a call does is decided elsewhere.

mod configuration;
mod glance;
mod k3s;
mod manifests;
mod service;
mod snapshots;
mod update;
mod wire;

pub use service::AgentService;

use crate::admission::Admission;
use crate::door::{self, Network, Rules};
use crate::enrol::{EnrolmentService, Trust};
use crate::limits::STREAMS;
use crate::tls;
use agent_proto::LARGEST_REQUEST;
use agent_proto::v1::agent_server::AgentServer;
use agent_proto::v1::enrolment_server::EnrolmentServer;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

/// Serves until `stop` comes true, then lets calls in flight end for a while.
///
/// # Errors
/// When TLS cannot be set up or the transport breaks down.
pub async fn serve(
    (listener, allow_from): (TcpListener, Vec<Network>),
    trust: Arc<Trust>,
    service: AgentService,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let asked = Arc::clone(&trust);
    let is_enrolled: tls::IsEnrolled = Arc::new(move || asked.is_enrolled());
    let (presented, clock) = (Arc::clone(&trust.presented), Arc::clone(&trust.clock));
    let config = tls::config(trust.anchors().clone(), presented, clock, Arc::clone(&is_enrolled));
    let config = config.map_err(ServeError::Tls)?;
    let (out, connections) = mpsc::channel(8);
    let (clock, host) = (Arc::clone(&trust.clock), Arc::clone(service.runner.host()));
    let rules = Rules { config, allow_from, clock, host, is_enrolled };
    // Ends with this function.
    let mut background = JoinSet::new();
    let accepting = background.spawn(door::accept(listener, rules, out));
    let agent = AgentServer::new(service).max_decoding_message_size(LARGEST_REQUEST);
    let served = Server::builder()
        .http2_keepalive_interval(Some(QUIET))
        .http2_keepalive_timeout(Some(SILENT))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(AHEAD)
        .initial_connection_window_size(AHEAD)
        .layer(Admission::new(Arc::clone(&trust)))
        .add_service(EnrolmentServer::new(EnrolmentService(trust)).max_decoding_message_size(LARGEST_PROOF))
        .add_service(agent)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), bounded(stop, accepting))
        .await;
    served.map_err(ServeError::Transport)
}

/// Stops accepting as soon as `stop` comes true.
async fn bounded(stop: impl Future<Output = ()>, accepting: AbortHandle) {
    stop.await;
    accepting.abort();
}

/// Serving that cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS.
    #[error("connections cannot be secured")]
    Tls(#[source] tls::TlsError),
    /// HTTP/2.
    #[error("connections cannot be served")]
    Transport(#[source] tonic::transport::Error),
}

/// How long calls in flight may take to end at a shutdown.
pub const GRACE: Duration = Duration::from_secs(10);
/// A connection on which nothing has come for so long is asked for a sign of life; without connections nobody asks.
const QUIET: Duration = Duration::from_secs(60);
/// How long that sign may take; after it the client is gone. Its run goes on, and can be attached to.
const SILENT: Duration = Duration::from_secs(30);
/// What a client may send before it is read, on one call and on one connection.
const AHEAD: u32 = 256 << 10;
/// A certificate, a proof.
const LARGEST_PROOF: usize = 64 << 10;

#[cfg(test)]
mod tests;
