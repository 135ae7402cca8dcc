//! The client: configuration, endpoints, limits, and what is repeated when.
//!
//! Repeated are: requests that were never sent (at the next endpoint), reads whose answer was lost, and writes refused
//! because of a lock. A write whose outcome is unknown is never repeated here: the caller looks first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::api::cluster::Snapshot;
use crate::auth::{Auth, Login, Next, Session};
use crate::error::{Class, Error};
use crate::http::{Call, exchange, typed};
use crate::ids::NodeName;
use crate::params::Params;
use crate::tls::Trust;

/// Where and how to reach a cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// `https://host:8006`, one or more nodes of the same cluster.
    pub endpoints: Vec<String>,
    /// Who we are.
    pub auth: Auth,
    /// Whom we believe.
    pub trust: Trust,
    /// Requests in flight per node; 0 takes the default.
    pub per_node: usize,
}

/// A configuration that can never work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No endpoint, or one that is no URL of a server.
    #[error("{0:?} is no URL of the form https://host:8006")]
    Endpoint(String),
    /// Credentials of another form.
    #[error("the credentials are not of the form {0}")]
    Credentials(&'static str),
    /// No usable CA certificate.
    #[error("the CA certificate cannot be used: {0}")]
    Ca(String),
    /// Not a SHA-256 fingerprint.
    #[error("{0:?} is no SHA-256 fingerprint")]
    Fingerprint(String),
    /// The TLS library or the HTTP client refused to start.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl From<rustls::client::VerifierBuilderError> for ConfigError {
    fn from(error: rustls::client::VerifierBuilderError) -> Self {
        Self::Ca(error.to_string())
    }
}

/// Access to one cluster. Cheap to clone; clones share connections, ticket, limits and the view of the cluster.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    limits: Limits,
}

struct Shared {
    http: reqwest::Client,
    endpoints: Vec<String>,
    /// Which endpoint answered last.
    current: AtomicUsize,
    /// Whether any has answered yet.
    reached: AtomicBool,
    session: Session,
    login: tokio::sync::Mutex<()>,
    per_node: usize,
    gates: Mutex<HashMap<Option<NodeName>, Arc<Semaphore>>>,
    snapshot: Snapshot,
}

/// What is ready for a request.
pub(crate) struct Prepared {
    pub(crate) http: reqwest::Client,
    pub(crate) endpoint: String,
    pub(crate) headers: HeaderMap,
    _permit: Option<OwnedSemaphorePermit>,
}

/// What ends waiting.
#[derive(Clone, Default)]
struct Limits {
    deadline: Option<Instant>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.shared.endpoints).finish_non_exhaustive()
    }
}

impl Client {
    /// Prepares everything and connects to nothing yet.
    ///
    /// # Errors
    /// For a configuration that can never work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let endpoints: Vec<String> = config.endpoints.iter().map(|url| endpoint(url)).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(ConfigError::Endpoint(String::new()));
        }
        credentials(&config.auth)?;
        let shared = Shared {
            http: http(&config.trust)?,
            endpoints,
            current: AtomicUsize::new(0),
            reached: AtomicBool::new(false),
            session: Session::new(config.auth),
            login: tokio::sync::Mutex::new(()),
            per_node: if config.per_node == 0 { PER_NODE } else { config.per_node },
            gates: Mutex::default(),
            snapshot: Snapshot::default(),
        };
        Ok(Self { shared: Arc::new(shared), limits: Limits::default() })
    }

    /// The same client for work that must end by `deadline`, or when `stop` is set.
    #[must_use]
    pub fn within(&self, deadline: Instant, stop: &CancellationToken) -> Self {
        let limits = Limits { deadline: Some(deadline), stop: stop.clone() };
        Self { shared: Arc::clone(&self.shared), limits }
    }

    /// The endpoint that is used first.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        let current = self.shared.current.load(Ordering::Relaxed);
        self.shared.endpoints.get(current).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.shared.snapshot
    }

    /// Makes a call; `T` is the type of its answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let data = self.send(&call).await?;
        typed(&call.name(), data)
    }

    /// What a call needs whose request is more than a form: client, endpoint, headers, and a place in the node's queue.
    pub(crate) async fn prepared(&self, call: &Call) -> Result<Prepared, Error> {
        self.still_wanted(call)?;
        let permit = self.gate(call.node.as_ref()).await;
        let endpoint = self.endpoint().to_owned();
        let headers = self.headers(&endpoint).await?;
        Ok(Prepared { http: self.shared.http.clone(), endpoint, headers, _permit: permit })
    }

    async fn send(&self, call: &Call) -> Result<Value, Error> {
        for attempt in 1_u32.. {
            self.still_wanted(call)?;
            let node = call.node.as_ref().map(NodeName::as_str);
            let span = tracing::debug_span!("pve", pve_path = call.name(), pve_node = node, attempt);
            let error = match self.everywhere(call).instrument(span).await {
                Ok(data) => return Ok(data),
                Err(error) => error,
            };
            let Some(pause) = self.repeat_after(call, &error, attempt) else { return Err(error) };
            tracing::debug!(attempt, error = %error, "repeating");
            if self.pause(pause).await.is_err() {
                return Err(error);
            }
        }
        Err(Error::Deadline { what: call.name() })
    }

    /// One attempt: at every endpoint in turn until a request could be sent.
    async fn everywhere(&self, call: &Call) -> Result<Value, Error> {
        let _permit = self.gate(call.node.as_ref()).await;
        let shared = &self.shared;
        let first = shared.current.load(Ordering::Relaxed);
        let mut last = None;
        for at in (0..shared.endpoints.len()).map(|step| (first + step) % shared.endpoints.len()) {
            let Some(endpoint) = shared.endpoints.get(at) else { break };
            match self.at(endpoint, call).await {
                Err(error) if error.never_sent() => last = Some(error),
                answer => {
                    shared.current.store(at, Ordering::Relaxed);
                    shared.reached.store(true, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::Deadline { what: call.name() }))
    }

    /// At one endpoint; a ticket that is not accepted any more is renewed once.
    async fn at(&self, endpoint: &str, call: &Call) -> Result<Value, Error> {
        let headers = self.headers(endpoint).await?;
        let answer = exchange(call.request(&self.shared.http, endpoint, headers), &call.name(), endpoint).await;
        match answer {
            Err(error) if error.is(Class::Credentials) && self.shared.session.forget().await => {
                let headers = self.headers(endpoint).await?;
                exchange(call.request(&self.shared.http, endpoint, headers), &call.name(), endpoint).await
            }
            answer => answer,
        }
    }

    async fn headers(&self, endpoint: &str) -> Result<HeaderMap, Error> {
        let session = &self.shared.session;
        if let Next::Send(headers) = session.next().await {
            return Ok(headers);
        }
        // One login for all that wait for it.
        let _single = self.shared.login.lock().await;
        let mut params = match session.next().await {
            Next::Send(headers) => return Ok(headers),
            Next::LogIn(params) => params,
        };
        for _step in 0..2 {
            let answer: Login = self.log_in(endpoint, params).await?;
            match session.logged_in(answer).await {
                Some(second) => params = second,
                None => break,
            }
        }
        match session.next().await {
            Next::Send(headers) => Ok(headers),
            Next::LogIn(_) => Ok(HeaderMap::new()),
        }
    }

    async fn log_in(&self, endpoint: &str, params: Params) -> Result<Login, Error> {
        let call = Call::post(&["access", "ticket"]).params(params);
        let request = call.request(&self.shared.http, endpoint, HeaderMap::new());
        typed(&call.name(), exchange(request, &call.name(), endpoint).await?)
    }

    /// Whether and when a failed call is made again.
    fn repeat_after(&self, call: &Call, error: &Error, attempt: u32) -> Option<Duration> {
        let reached = self.shared.reached.load(Ordering::Relaxed);
        let attempts = match error {
            Error::Connect { .. } if error.certificate().is_some() => 1,
            // A server that answered before may be restarting its proxy.
            Error::Connect { .. } => {
                if reached {
                    6
                } else {
                    2
                }
            }
            Error::Lost { .. } if call.is_read() => 4,
            Error::Refused(refused) if refused.status == 599 && call.is_read() => 4,
            Error::Refused(_) if error.is(Class::Busy) => {
                if self.limits.deadline.is_some() {
                    u32::MAX
                } else {
                    6
                }
            }
            Error::Refused(_) if error.is(Class::NoQuorum) => 4,
            _ => 1,
        };
        (attempt < attempts).then(|| back_off(attempt))
    }

    /// Waits; fails if the deadline would pass meanwhile, or somebody asks to stop.
    pub(crate) async fn pause(&self, pause: Duration) -> Result<(), Interrupted> {
        let wake = Instant::now() + pause;
        if self.limits.deadline.is_some_and(|deadline| wake > deadline) {
            return Err(Interrupted::Deadline);
        }
        // Both arms are cancel-safe: a token and a timer.
        tokio::select! {
            () = self.limits.stop.cancelled() => Err(Interrupted::Stop),
            () = tokio::time::sleep_until(wake) => Ok(()),
        }
    }

    /// Does work that may be given up halfway: when the deadline passes, or somebody asks to stop.
    pub(crate) async fn unless_stopped<T>(
        &self,
        call: &Call,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let over = async {
            match self.limits.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A stop that was asked for before goes first.
            biased;
            () = self.limits.stop.cancelled() => Err(Error::Stopped { what: call.name() }),
            () = over => Err(Error::Deadline { what: call.name() }),
            done = work => done,
        }
    }

    fn still_wanted(&self, call: &Call) -> Result<(), Error> {
        if !call.is_read() && self.limits.stop.is_cancelled() {
            return Err(Error::Stopped { what: call.name() });
        }
        Ok(())
    }

    async fn gate(&self, node: Option<&NodeName>) -> Option<OwnedSemaphorePermit> {
        let gate = {
            let mut gates = self.shared.gates.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || Arc::new(Semaphore::new(self.shared.per_node));
            Arc::clone(gates.entry(node.cloned()).or_insert_with(fresh))
        };
        // Never closed, so there is always a permit.
        gate.acquire_owned().await.ok()
    }
}

/// Why a pause ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupted {
    Deadline,
    Stop,
}

/// 0.3 s, doubling to 5 s, spread so that many waiters do not come back together.
pub(crate) fn back_off(attempt: u32) -> Duration {
    let base = 300_u64 << attempt.saturating_sub(1).min(4);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let spread = now.subsec_micros() % 13;
    Duration::from_millis(base.min(5_000) + u64::from(spread) * 20)
}

fn endpoint(url: &str) -> Result<String, ConfigError> {
    let bad = || ConfigError::Endpoint(url.to_owned());
    let parsed = reqwest::Url::parse(url.trim()).map_err(|_| bad())?;
    let host = parsed.host_str().ok_or_else(bad)?;
    // Plain HTTP only through a tunnel that ends on this machine.
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let scheme = parsed.scheme() == "https" || (parsed.scheme() == "http" && local);
    let path = parsed.path().trim_end_matches('/');
    let path = path.is_empty() || matches!(path, "/api2" | "/api2/json");
    if !scheme || !path || parsed.query().is_some() || !parsed.username().is_empty() {
        return Err(bad());
    }
    Ok(parsed.origin().ascii_serialization())
}

fn credentials(auth: &Auth) -> Result<(), ConfigError> {
    let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    match auth {
        Auth::Token(token) => {
            let form = token.split_once('=').and_then(|(id, secret)| Some((id.split_once('!')?.0, secret)));
            let good = form.is_some_and(|(user, secret)| user.contains('@') && !secret.is_empty());
            if good && printable(token) { Ok(()) } else { Err(ConfigError::Credentials("user@realm!tokenid=secret")) }
        }
        Auth::Password { username, .. } if username.contains('@') => Ok(()),
        Auth::Password { .. } => Err(ConfigError::Credentials("user@realm")),
    }
}

/// Kept connections suit pveproxy: it closes idle ones after 5 s.
fn http(trust: &Trust) -> Result<reqwest::Client, ConfigError> {
    let failed = |error: reqwest::Error| ConfigError::Tls(error.to_string());
    let builder = reqwest::Client::builder()
        .http1_only()
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(32)
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("groundwork/", env!("CARGO_PKG_VERSION")));
    let builder = match trust.client_config()? {
        Some(config) => builder.tls_backend_preconfigured(config),
        None => builder,
    };
    builder.build().map_err(failed)
}

const PER_NODE: usize = 16;
