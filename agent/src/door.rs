//! The way in: connections are accepted, their clients authenticated and given a seat, or sent away.
//!
//! What anybody can do (knock) and what any client can do (stay) is bounded in number and time.

mod networks;
mod places;
mod seats;

use crate::clock::Floor;
use crate::host::Host;
use crate::tally::Tally;
use crate::tls;
use places::{Places, Source};
use rustls::pki_types::CertificateDer;
use rustls::server::ServerConfig;
use seats::{Seat, Seats, Taken};
use std::io;
use std::pin::Pin as StdPin;
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
use trust::{Pin, Role};

pub use networks::{BadNetwork, Network};
pub use seats::Busy;

/// What a connection knows about its client.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What it may do.
    pub role: Role,
    /// The session's exporter, which enrolment proofs cover.
    pub exporter: [u8; 32],
    /// What it presented, its own certificate first.
    pub chain: Arc<[CertificateDer<'static>]>,
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
    preface: Option<(usize, StdPin<Box<Sleep>>)>,
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

/// By what is decided who gets in, and how far.
pub struct Rules {
    /// TLS: whose certificates count.
    pub config: ServerConfig,
    /// The networks from which anybody may knock; none: all.
    pub allow_from: Vec<Network>,
    /// By which certificates are judged.
    pub clock: Arc<Floor>,
    /// The machine, which is asked about its clock.
    pub host: Arc<dyn Host>,
    /// Whether the agent has its operator already.
    pub is_enrolled: tls::IsEnrolled,
}

/// Accepts connections until the receiver of `out` is dropped. Each handshake has its own task and a time limit.
pub async fn accept(listener: TcpListener, rules: Rules, out: mpsc::Sender<io::Result<Connection>>) {
    let Rules { config, allow_from, clock, host, is_enrolled } = rules;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (mut places, seats, failed, foreign) =
        (Places::default(), Arc::new(Seats::default()), Tally::default(), Tally::default());
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
        if !networks::let_in(&allow_from, from.ip()) {
            if let Some(times) = foreign.count() {
                tracing::warn!(from = %from.ip(), times, "connections from other networks than allow_from were closed");
            }
            continue;
        }
        let (acceptor, clock, host, out) = (acceptor.clone(), Arc::clone(&clock), Arc::clone(&host), out.clone());
        let (seats, is_enrolled) = (Arc::clone(&seats), Arc::clone(&is_enrolled));
        let handshake = handshakes.spawn(async move {
            let greeted = async {
                let greeted = handshake(&acceptor, tcp, &clock, &*host).await?;
                seated(greeted, &seats, is_enrolled())
            };
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
    chain: Arc<[CertificateDer<'static>]>,
}

/// Before the enrolment dates do not count, and a certificate that was stolen long ago gets in: it has one connection, whatever it does
/// with it, and takes no seat that somebody else needs.
fn seated(greeted: Greeted, seats: &Arc<Seats>, is_enrolled: bool) -> io::Result<Connection> {
    let Greeted { stream, role, exporter, chain } = greeted;
    let alone = chain.first().filter(|_| !is_enrolled).and_then(|certificate| trust::key_of(certificate).ok());
    let taken = seats.take(role, alone.map(|key| Pin::of(&key)));
    let taken = taken.ok_or_else(|| io::Error::other("all connections of this role are in use"))?;
    let peer = Peer { role, exporter, chain, seat: Arc::clone(&taken.seat) };
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
    let presented = session.peer_certificates().unwrap_or_default();
    let chain: Arc<[_]> = presented.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let role = chain.first().and_then(tls::role);
    let role = role.ok_or_else(|| io::Error::other("the client's certificate carries no role"))?;
    Ok(Greeted { stream, role, exporter, chain })
}

impl AsyncRead for Connection {
    fn poll_read(mut self: StdPin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Somebody else gets the seat: nothing more is read, as if the client had gone.
        if self.gone || StdPin::new(&mut self.taken.leave).poll(cx).is_ready() {
            self.gone = true;
            return Poll::Ready(Ok(()));
        }
        if self.preface.as_mut().is_some_and(|(_, late)| late.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = StdPin::new(&mut self.stream).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        // What it is, is for HTTP/2 to judge.
        self.preface =
            self.preface.take().and_then(|(left, late)| Some((left.checked_sub(came).filter(|left| *left > 0)?, late)));
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: StdPin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        StdPin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: StdPin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        StdPin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: StdPin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        StdPin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Bytes with which a client begins. Source: RFC 9113, 3.4.
const PREFACE: usize = 24;
/// All of a handshake, and then all of the preface.
const HANDSHAKE: Duration = Duration::from_secs(30);
const HELLO: Duration = Duration::from_secs(2);
