//! The way into a machine by SSH, for as long as it has no agent: connect, know the host by its key, log in, become root, run a command
//! with an input.
//!
//! Start with [`Way`], which says where to and how, and [`Session`], which is there once [`connect`] has returned. There is no SFTP: a file
//! is the input of a command. What an error means for a user is said in `crate::explain`.

mod error;
mod host_key;
mod keys;
mod known_hosts;
mod login;
mod session;

pub(crate) use error::{Error, ShownKey};
pub(crate) use session::Session;

use host_key::Expected;
use russh::client;
use russh::keys::PublicKeyOrCertificate;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tf::Secret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where to, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Way {
    /// The machine.
    pub(crate) machine: Hop,
    /// A host to go through.
    pub(crate) bastion: Option<Hop>,
    /// Whether keys of the SSH agent are offered; left open, they are where nothing else is given.
    pub(crate) agent: Option<bool>,
    /// A file to know hosts by, in place of the user's own.
    pub(crate) known_hosts: Option<PathBuf>,
    /// Whether to become root with sudo; left open, unless the account is root already.
    pub(crate) sudo: Option<bool>,
    /// What sudo asks for.
    pub(crate) sudo_password: Option<Secret<String>>,
    /// How long a host may take to answer at all: it may be starting.
    pub(crate) timeout: Duration,
}

/// One host on the way, and who we are there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hop {
    /// What its attributes' names begin with: `bastion_`, or nothing.
    pub(crate) prefix: &'static str,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// Its public key or the fingerprint of it.
    pub(crate) host_key: Option<String>,
    /// The text of a private key, or the path of its file.
    pub(crate) private_key: Option<Secret<String>>,
    pub(crate) private_key_passphrase: Option<Secret<String>>,
    pub(crate) password: Option<Secret<String>>,
}

/// How long to wait, and what ends the wait early.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) deadline: Instant,
    pub(crate) stop: CancellationToken,
}

impl Hop {
    /// `host:port`
    pub(crate) fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The name of its attribute.
    fn attribute(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl Limits {
    /// Does `work`, and drops it when the limits are over. All waiting of this module is done here.
    async fn bound<T>(&self, what: &str, patience: Duration, work: impl Future<Output = T>) -> Result<T, Error> {
        let over = || Error::Deadline { what: what.to_owned(), last: None };
        // All arms are cancel-safe: a token and timers; what is dropped with the work is the connection it was on.
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::Stopped),
            () = tokio::time::sleep_until(self.deadline.min(Instant::now() + patience)) => Err(over()),
            done = work => Ok(done),
        }
    }
}

/// Connects and logs in. A host that does not answer is called again for as long as the way's `timeout`.
pub(crate) async fn connect(
    way: &Way,
    limits: &Limits,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<Session, Error> {
    let until = limits.deadline.min(Instant::now() + way.timeout);
    let mut told = false;
    loop {
        let error = match once(way, limits).await {
            Err(error) if error.may_pass() => error,
            other => return other,
        };
        if Instant::now() + PAUSE > until {
            return Err(Error::Deadline {
                what: format!("{} to answer", way.machine.place()),
                last: Some(Box::new(error)),
            });
        }
        if !told {
            progress(&format!("{error}; calling again for {} s", way.timeout.as_secs()));
            told = true;
        }
        limits.bound("the pause", PAUSE * 2, tokio::time::sleep(PAUSE)).await?;
    }
}

async fn once(way: &Way, limits: &Limits) -> Result<Session, Error> {
    let Some(bastion) = &way.bastion else {
        let stream = call(&way.machine, limits).await?;
        let handle = greet(&way.machine, way, limits, stream).await?;
        return Ok(Session::new(way, limits, handle, None));
    };
    let between = greet(bastion, way, limits, call(bastion, limits).await?).await?;
    let (host, port) = (way.machine.host.clone(), u32::from(way.machine.port));
    let open = between.channel_open_direct_tcpip(host, port, "127.0.0.1", 0);
    let no_way = |why: String| Error::NoWay { bastion: bastion.place(), host: way.machine.place(), why };
    let channel = match limits.bound("the jump host to connect", ANSWER, open).await? {
        Ok(channel) => channel,
        Err(russh::Error::ChannelOpenFailure(why)) => return Err(no_way(format!("{why:?}"))),
        Err(error) => return Err(no_way(error.to_string())),
    };
    let handle = greet(&way.machine, way, limits, channel.into_stream()).await?;
    Ok(Session::new(way, limits, handle, Some(between)))
}

/// A TCP connection.
async fn call(hop: &Hop, limits: &Limits) -> Result<TcpStream, Error> {
    let lost = |why: String| Error::Unreachable { host: hop.place(), why };
    let found = limits.bound("the look-up of a name", ANSWER, resolve::addresses(&hop.host)).await?;
    let found = found.map_err(|unknown| lost(unknown.to_string()))?;
    let sockets: Vec<_> = found.into_iter().map(|address| std::net::SocketAddr::from((address, hop.port))).collect();
    let connected = match limits.bound("the call", CALL, TcpStream::connect(&*sockets)).await {
        Err(Error::Deadline { .. }) => Err(lost("no answer in time".to_owned())),
        other => other?.map_err(|error| lost(error.to_string())),
    }?;
    connected.set_nodelay(true).map_err(|error| lost(error.to_string()))?;
    Ok(connected)
}

/// Keys are exchanged, the host is known by its own, and we log in.
async fn greet<S>(hop: &Hop, way: &Way, limits: &Limits, stream: S) -> Result<client::Handle<Judge>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let expected = Expected::of(hop, way.known_hosts.as_deref())?;
    let config = client::Config {
        preferred: host_key::algorithms(&expected),
        keepalive_interval: Some(KEEP_ALIVE),
        keepalive_max: 3,
        ..client::Config::default()
    };
    let judge = Judge { hop: Hop { password: None, private_key: None, ..hop.clone() }, expected };
    let greeted = limits.bound("the exchange of keys", ANSWER, client::connect_stream(Arc::new(config), stream, judge));
    let mut handle = match greeted.await? {
        Ok(handle) => handle,
        Err(Ended::Host(error)) => return Err(error),
        Err(Ended::Russh(error)) => return Err(Error::Unreachable { host: hop.place(), why: in_words(&error) }),
    };
    login::login(&mut handle, hop, way.agent, limits).await?;
    Ok(handle)
}

/// Looks at a host's key.
pub(crate) struct Judge {
    hop: Hop,
    expected: Expected,
}

/// Why a connection did not come about.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The host is not who it should be.
    Host(Error),
    /// Anything else.
    Russh(russh::Error),
}

impl From<russh::Error> for Ended {
    fn from(error: russh::Error) -> Self {
        Self::Russh(error)
    }
}

impl client::Handler for Judge {
    type Error = Ended;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Ended> {
        self.expected.judge(&self.hop, &shown.public_key()).map(|()| true).map_err(Ended::Host)
    }
}

/// The library's words, where they say too little.
fn in_words(error: &russh::Error) -> String {
    match error {
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::SendError => {
            "the connection was closed".to_owned()
        }
        russh::Error::Version => "what answers there is no SSH server".to_owned(),
        russh::Error::KeepaliveTimeout => "nothing was heard for a while".to_owned(),
        russh::Error::NoCommonAlgo { kind, theirs, .. } => {
            format!("it has no {kind:?} algorithm that is safe, only {}", theirs.join(", "))
        }
        other => other.to_string(),
    }
}

/// Whether a text is a public key or a fingerprint, as hosts are pinned with.
pub(crate) fn is_pin(text: &str) -> bool {
    host_key::pinned(text).is_some()
}

/// A path as a shell reads it: `~/` is the home of whoever runs Terraform.
pub(crate) fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}

const PAUSE: Duration = Duration::from_secs(1);
/// Of one try to connect.
const CALL: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
