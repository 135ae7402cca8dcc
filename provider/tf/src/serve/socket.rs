//! Where Terraform connects: a Unix socket in a folder of its owner's, or TCP on the loopback where that is not possible.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::handshake::Environment;

/// Longest path of a Unix socket everywhere, with the final zero.
#[cfg(unix)]
const MAX_SOCKET_PATH: usize = 103;

/// A client that says nothing for so long is none.
const TLS_PATIENCE: Duration = Duration::from_secs(10);

/// An address as the handshake line has it.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) network: &'static str,
    pub(super) text: String,
}

/// A bound socket.
pub(super) struct Listener {
    socket: Socket,
    address: Address,
}

enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// The socket's files; gone when this is dropped.
#[derive(Default)]
#[must_use]
pub(super) struct Leftovers(Vec<PathBuf>);

impl Drop for Leftovers {
    fn drop(&mut self) {
        for path in &self.0 {
            // What cannot be removed is empty and harmless.
            drop(std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path)));
        }
    }
}

impl Listener {
    pub(super) async fn bind(environment: &Environment) -> io::Result<(Self, Leftovers)> {
        #[cfg(unix)]
        if let Some(place) = unix::place(environment)? {
            return unix::bind(place, environment);
        }
        let socket = loopback(environment.ports).await?;
        let address = Address { network: "tcp", text: socket.local_addr()?.to_string() };
        Ok((Self { socket: Socket::Tcp(socket), address }, Leftovers::default()))
    }

    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// Connections, each after its own TLS handshake and with a session from `session`, until `closing`.
    pub(super) fn incoming<S: Send + 'static>(
        self,
        tls: Option<TlsAcceptor>,
        closing: CancellationToken,
        session: impl Fn() -> S + Send + 'static,
    ) -> ReceiverStream<io::Result<Connection<S>>> {
        let (ready, incoming) = mpsc::channel(8);
        #[expect(clippy::disallowed_methods, reason = "it ends with `closing`, and what it admits with the server")]
        tokio::spawn(async move {
            let mut admitted = JoinSet::new();
            // Both arms are cancel-safe.
            loop {
                while admitted.try_join_next().is_some() {}
                let accepted = tokio::select! {
                    accepted = self.accept() => accepted,
                    () = closing.cancelled() => break,
                };
                match accepted {
                    Ok(stream) => drop(admitted.spawn(admit(stream, tls.clone(), session(), ready.clone()))),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection")
                    }
                }
            }
        });
        ReceiverStream::new(incoming)
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(Box::new(listener.accept().await?.0)),
            #[cfg(unix)]
            Socket::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// The first port of the range that is free, as go-plugin takes it.
async fn loopback((first, last): (u16, u16)) -> io::Result<TcpListener> {
    let mut bound = TcpListener::bind(("127.0.0.1", first)).await;
    for port in first.saturating_add(1)..=last {
        if bound.is_ok() {
            break;
        }
        bound = TcpListener::bind(("127.0.0.1", port)).await;
    }
    bound
}

/// Makes TLS of a stream where it is wanted, and hands the connection over.
async fn admit<S>(
    stream: Box<dyn Stream>,
    tls: Option<TlsAcceptor>,
    session: S,
    ready: mpsc::Sender<io::Result<Connection<S>>>,
) {
    let stream: io::Result<Box<dyn Stream>> = match tls {
        None => Ok(stream),
        Some(tls) => shake_hands(tls.accept(stream)).await.map(|stream| Box::new(stream) as _),
    };
    match stream {
        Ok(stream) => drop(ready.send(Ok(Connection { stream, session })).await),
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "refused a connection"),
    }
}

async fn shake_hands<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(TLS_PATIENCE, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to Terraform, and the session that every call on it finds among its extensions.
pub(super) struct Connection<S> {
    stream: Box<dyn Stream>,
    session: S,
}

impl<S: Clone + Send + Sync + 'static> Connected for Connection<S> {
    type ConnectInfo = S;

    fn connect_info(&self) -> S {
        self.session.clone()
    }
}

impl<S: Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(unix)]
mod unix {
    //! Unix sockets: in a fresh folder that only the owner can enter, or where the host wants them.

    use std::fs::{DirBuilder, Permissions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    use std::path::{Path, PathBuf};

    use nix::unistd::{Gid, Group, chown};
    use tokio::net::UnixListener;

    use super::{Address, Environment, Leftovers, Listener, MAX_SOCKET_PATH, Socket};

    /// A socket's path, and the folder made for it.
    pub(super) struct Place {
        folder: Option<PathBuf>,
        socket: PathBuf,
    }

    /// Where to bind; `None` if no path is short enough for a socket or fit for the handshake line, or if there is no folder for
    /// temporary files, as in an empty root.
    pub(super) fn place(environment: &Environment) -> io::Result<Option<Place>> {
        place_in(&std::env::temp_dir(), environment)
    }

    fn place_in(temporary: &Path, environment: &Environment) -> io::Result<Option<Place>> {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let unique = unique.get(..12).unwrap_or(&unique);
        let (folder, socket) = match &environment.socket_dir {
            Some(dir) => (None, dir.join(format!("plugin-{unique}"))),
            None => {
                let folder = temporary.join(format!("tf-{unique}"));
                (Some(folder.clone()), folder.join("s"))
            }
        };
        let fits = |text: &str| text.len() <= MAX_SOCKET_PATH && !text.contains(['|', '\n']) && socket.is_absolute();
        if !socket.to_str().is_some_and(fits) {
            return Ok(None);
        }
        match folder.as_deref().map_or(Ok(()), |folder| DirBuilder::new().mode(0o700).create(folder)) {
            Ok(()) => Ok(Some(Place { folder, socket })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn bind(
        Place { folder, socket }: Place,
        environment: &Environment,
    ) -> io::Result<(Listener, Leftovers)> {
        let leftovers = Leftovers(std::iter::once(socket.clone()).chain(folder).collect());
        let listener = UnixListener::bind(&socket)?;
        let mode = match &environment.socket_group {
            Some(group) => {
                chown(&socket, None, Some(group_id(group)?))?;
                0o660
            }
            None => 0o600,
        };
        std::fs::set_permissions(&socket, Permissions::from_mode(mode))?;
        let address = Address { network: "unix", text: text(&socket)? };
        Ok((Listener { socket: Socket::Unix(listener), address }, leftovers))
    }

    fn group_id(group: &str) -> io::Result<Gid> {
        if let Ok(number) = group.parse() {
            return Ok(Gid::from_raw(number));
        }
        Group::from_name(group)?.map(|group| group.gid).ok_or_else(|| io::Error::other(format!("no group {group}")))
    }

    fn text(path: &Path) -> io::Result<String> {
        path.to_str().map(str::to_owned).ok_or_else(|| io::ErrorKind::InvalidFilename.into())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn without_a_folder_for_temporary_files_there_is_no_unix_socket() {
            let environment = Environment::default();
            let folder = tempfile::tempdir().unwrap();
            assert!(place_in(folder.path(), &environment).unwrap().is_some());
            assert!(place_in(&folder.path().join("missing"), &environment).unwrap().is_none());
            let long = folder.path().join("x".repeat(MAX_SOCKET_PATH));
            assert!(place_in(&long, &environment).unwrap().is_none());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_free_port_of_the_range_is_taken() {
        let any = loopback((0, 0)).await.unwrap();
        let taken = any.local_addr().unwrap().port();
        let next = loopback((taken, taken.saturating_add(50))).await.unwrap().local_addr().unwrap().port();
        assert!(next > taken && next <= taken.saturating_add(50), "{next}");
        let full = loopback((taken, taken)).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::AddrInUse);
    }
}
