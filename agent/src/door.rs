//! The way in: connections are accepted, their clients authenticated and given a seat, or sent away.
//!
//! What anybody can do (knock) and what any client can do (stay) is bounded in number and time. Only a client that has sent all that
//! a connection begins with is passed on.

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
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
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
    /// The preface of HTTP/2 as far as it has not been read again.
    preface: &'static [u8],
    stream: TlsStream<TcpStream>,
    peer: Peer,
    taken: Taken,
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
                tokio::time::sleep(Duration::from_millis(100)).await;
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
    Ok(Connection { preface: PREFACE, stream, peer, taken })
}

async fn handshake(acceptor: &TlsAcceptor, tcp: TcpStream, clock: &Floor, host: &dyn Host) -> io::Result<Greeted> {
    tcp.set_nodelay(true)?;
    // A client speaks first, and at once. What comes after that may take its time: machines are slow and networks lose packets.
    timeout(HELLO, tcp.peek(&mut [0])).await??;
    clock.look(host).await;
    let mut stream = acceptor.accept(tcp).await?;
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if preface != PREFACE {
        return Err(io::Error::other("the client does not speak HTTP/2"));
    }
    let session = stream.get_ref().1;
    let exporter = session.export_keying_material([0; 32], trust::CHANNEL_BINDING, None).map_err(io::Error::other)?;
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let role = certificate.and_then(|certificate| tls::role(&trust::uris_of(certificate)));
    let role = role.ok_or_else(|| io::Error::other("the client's certificate carries no role"))?;
    Ok(Greeted { stream, role, exporter })
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.preface.is_empty() {
            let (now, later) = self.preface.split_at(self.preface.len().min(buf.remaining()));
            buf.put_slice(now);
            self.preface = later;
            return Poll::Ready(Ok(()));
        }
        // Somebody else gets the seat: nothing more is read, as if the client had gone.
        if Pin::new(&mut self.taken.leave).poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
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

/// What a client begins with. Source: RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// All that comes before a connection is passed on.
const HANDSHAKE: Duration = Duration::from_secs(30);
const HELLO: Duration = Duration::from_secs(2);
