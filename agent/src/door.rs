//! The way in: connections are accepted, their clients authenticated and given a seat, or sent away.
//!
//! What anybody can do (knock) and what any client can do (stay) is bounded in number and time.

mod places;
mod seats;

use crate::clock::Floor;
use crate::host::Host;
use crate::tally::Tally;
use crate::tls;
use places::{Places, Source};
use rustls::server::ServerConfig;
use seats::{Seat, Seats, Taken};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use trust::Role;

pub use seats::Busy;

/// What a connection knows about its client.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What it may do.
    pub role: Role,
    /// The session's exporter, which enrolment proofs cover.
    pub exporter: [u8; 32],
    seat: Arc<Seat>,
}

impl Peer {
    /// Has the connection count as in use, for as long as this is kept.
    #[must_use]
    pub fn busy(&self) -> Busy {
        Busy::on(&self.seat)
    }
}

/// A connection of a client that may stay.
pub struct Connection {
    /// How much of the preface is still to come, and until when. A client may wait for the agent's before it sends its own.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    stream: TlsStream<TcpStream>,
    peer: Peer,
    taken: Taken,
    gone: bool,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts connections until the receiver of `out` is dropped. Each handshake has its own task and a time limit.
pub async fn accept(
    listener: TcpListener,
    config: ServerConfig,
    clock: Arc<Floor>,
    host: Arc<dyn Host>,
    out: mpsc::Sender<io::Result<Connection>>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (mut places, seats, failed) = (Places::default(), Arc::new(Seats::default()), Tally::default());
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
                if let Some(times) = failed.count() {
                    tracing::warn!(error = %error, times, "connections could not be accepted");
                }
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, clock, host, out) = (acceptor.clone(), Arc::clone(&clock), Arc::clone(&host), out.clone());
        let seats = Arc::clone(&seats);
        let handshake = handshakes.spawn(async move {
            let greeted = async { seated(handshake(&acceptor, tcp, &clock, &*host).await?, &seats) };
            match timeout(HANDSHAKE, greeted).await {
                Ok(Ok(connection)) => drop(out.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::debug!(error = %error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
        });
        places.take(Source::of(from.ip()), handshake);
    }
}

/// A client that has shown who it is.
struct Greeted {
    stream: TlsStream<TcpStream>,
    role: Role,
    exporter: [u8; 32],
}

fn seated(Greeted { stream, role, exporter }: Greeted, seats: &Arc<Seats>) -> io::Result<Connection> {
    let taken = seats.take(role).ok_or_else(|| io::Error::other("all connections of this role are in use"))?;
    let peer = Peer { role, exporter, seat: Arc::clone(&taken.seat) };
    Ok(Connection { preface: Some((PREFACE, Box::pin(sleep(HANDSHAKE)))), stream, peer, taken, gone: false })
}

async fn handshake(acceptor: &TlsAcceptor, tcp: TcpStream, clock: &Floor, host: &dyn Host) -> io::Result<Greeted> {
    tcp.set_nodelay(true)?;
    // A client speaks first, and at once. What comes after that may take its time: machines are slow and networks lose packets.
    timeout(HELLO, tcp.peek(&mut [0])).await??;
    clock.look(host).await;
    let stream = acceptor.accept(tcp).await?;
    let session = stream.get_ref().1;
    let exporter = session.export_keying_material([0; 32], trust::CHANNEL_BINDING, None).map_err(io::Error::other)?;
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let role = certificate.and_then(|certificate| tls::role(&trust::uris_of(certificate)));
    let role = role.ok_or_else(|| io::Error::other("the client's certificate carries no role"))?;
    Ok(Greeted { stream, role, exporter })
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Somebody else gets the seat: nothing more is read, as if the client had gone.
        if self.gone || Pin::new(&mut self.taken.leave).poll(cx).is_ready() {
            self.gone = true;
            return Poll::Ready(Ok(()));
        }
        if self.preface.as_mut().is_some_and(|(_, late)| late.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        // What it is, is for HTTP/2 to judge.
        self.preface =
            self.preface.take().and_then(|(left, late)| Some((left.checked_sub(came).filter(|left| *left > 0)?, late)));
        read
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

/// Bytes with which a client begins. Source: RFC 9113, 3.4.
const PREFACE: usize = 24;
/// All of a handshake, and then all of the preface.
const HANDSHAKE: Duration = Duration::from_secs(30);
const HELLO: Duration = Duration::from_secs(2);
