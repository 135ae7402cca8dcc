//! The client: configuration, endpoints, limits, and what is repeated when.
//!
//! Repeated are: requests that were never sent or were refused for want of a quorum (at the next endpoint, at once), reads whose
//! answer was lost (after a pause, at the next endpoint) or failed for a reason nobody knows, calls refused because of a lock, and,
//! once, a request whose ticket was refused. A write whose outcome is unknown is never repeated here: the caller looks first.
//! Whoever took long to say that nobody is there is not asked as often as who says so at once, as a server that restarts does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::auth::{Credentials, Door, Session};
use crate::config::Config;
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::http::{Call, typed};
use crate::ids::NodeName;
use crate::limits::{Interrupted, Limits, back_off};
use crate::misconfigured::ConfigError;
use crate::silence::Silence;
use crate::snapshot::Snapshot;
use crate::tls::Trust;
use crate::wording::Class;

/// Access to one cluster. Cheap to clone; clones share connections, ticket, limits and the view of the cluster.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    limits: Limits,
}

struct Shared {
    http: reqwest::Client,
    endpoints: Endpoints,
    session: Session,
    per_node: usize,
    gates: Mutex<HashMap<Option<NodeName>, Arc<Semaphore>>>,
    snapshot: Snapshot,
    silence: Silence,
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
        config.check()?;
        let shared = Shared {
            http: http(&config.trust)?,
            endpoints: Endpoints::new(&config.endpoints)?,
            session: Session::new(config.auth),
            per_node: if config.per_node == 0 { PER_NODE } else { config.per_node },
            gates: Mutex::default(),
            snapshot: Snapshot::default(),
            silence: Silence::default(),
        };
        Ok(Self { shared: Arc::new(shared), limits: Limits::default() })
    }

    /// The same client for work that must end by `deadline`, or when `stop` is set.
    ///
    /// **Cancel**: reads and uploads end with it, wherever they are; reads get some seconds more after a stop. The answer to
    /// another write that was sent is waited for all the same, for 75 s at most, since only the answer says what was begun.
    /// Nothing is repeated after it.
    #[must_use]
    pub fn within(&self, deadline: Instant, stop: &CancellationToken) -> Self {
        Self { shared: Arc::clone(&self.shared), limits: Limits::new(deadline, stop.clone()) }
    }

    /// The endpoint that is used first.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.shared.endpoints.first()
    }

    /// All endpoints, in the order of the configuration.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        self.shared.endpoints.all()
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.shared.snapshot
    }

    /// Makes a call; `T` is the type of its answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        // On the heap: the futures of our callers hold it many levels deep, and would outgrow a thread's stack.
        let sending = Box::pin(self.send(&call));
        let data = if call.may_be_cut_off() { self.unless_over(&call, sending).await? } else { sending.await };
        typed(&call.name(), data?)
    }

    /// Waits; fails if the deadline would pass meanwhile, or somebody asks to stop.
    pub(crate) async fn pause(&self, pause: Duration) -> Result<(), Interrupted> {
        self.limits.pause(pause).await
    }

    /// Does work for a call that is dropped, wherever it is, when our limits are over.
    pub(crate) async fn unless_over<T>(&self, call: &Call, work: impl Future<Output = T>) -> Result<T, Error> {
        self.limits.unless_over(call, work).await
    }

    /// Attempts with pauses between them.
    async fn send(&self, call: &Call) -> Result<Value, Error> {
        let mut attempt = 1;
        loop {
            let node = call.node.as_ref().map(NodeName::as_str);
            let span = tracing::debug_span!("pve", pve_path = call.name(), pve_node = node, attempt);
            let asked = Instant::now();
            let error = match self.everywhere(call).instrument(span).await {
                Ok(data) => return Ok(data),
                Err(error) => error,
            };
            let Some(pause) = self.repeat_after(call, &error, attempt, asked.elapsed() < AT_ONCE) else {
                return Err(self.shared.silence.heard(call, error));
            };
            tracing::info!(attempt, error = %error, "repeating");
            if self.pause(pause).await.is_err() {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// One attempt: at every endpoint in turn, until one takes the call.
    async fn everywhere(&self, call: &Call) -> Result<Value, Error> {
        let _permit = self.unless_over(call, self.gate(call.node.as_ref())).await?;
        if let Some(known) = self.shared.silence.known(call).filter(|known| self.shares(known)) {
            return Err(known);
        }
        let endpoints = &self.shared.endpoints;
        let mut failed: Option<Error> = None;
        for (at, endpoint) in endpoints.in_turn() {
            let answer = self.at(endpoint, call).await;
            match &answer {
                Err(error) if error.is_for_another_endpoint() => {
                    let before = failed.take().filter(|before| !before.is_silence());
                    failed = before.or(answer.err());
                    continue;
                }
                Err(Error::Lost { .. }) => endpoints.lost(at),
                Ok(_) | Err(Error::Refused(_) | Error::Unreadable { .. }) => {
                    endpoints.answered(at);
                    self.shared.silence.broken(call);
                }
                Err(_) => {}
            }
            return answer;
        }
        Err(failed.unwrap_or_else(|| Error::Deadline { what: call.name() }))
    }

    /// At one endpoint; once more if the ticket is not accepted any more.
    async fn at(&self, endpoint: &str, call: &Call) -> Result<Value, Error> {
        let http = &self.shared.http;
        let carried = self.credentials(endpoint, call, None).await?;
        match call.exchange(http, endpoint, carried.headers.clone()).await {
            Err(error) if error.is(Class::Credentials) && carried.are_renewable() => {
                let others = self.credentials(endpoint, call, Some(&carried)).await?;
                call.exchange(http, endpoint, others.headers).await
            }
            answer => answer,
        }
    }

    /// What the request carries: others than those that were just refused. A login that has to come before it may be given up.
    async fn credentials(
        &self,
        endpoint: &str,
        call: &Call,
        refused: Option<&Credentials>,
    ) -> Result<Credentials, Error> {
        let door = Door { http: &self.shared.http, endpoint };
        let asking = Box::pin(self.shared.session.credentials(door, refused));
        let credentials = self.unless_over(call, asking).await?;
        credentials.map_err(|error| error.ahead_of(call.name(), endpoint))
    }

    /// Whether and when a failed call is made again.
    fn repeat_after(&self, call: &Call, error: &Error, attempt: u32, at_once: bool) -> Option<Duration> {
        let attempts = match error {
            Error::Connect { .. } if error.certificate().is_some() || Silence::is_told_in(error) => 1,
            Error::Connect { .. } if error.node().is_some() && !self.limits.has_deadline() => 1 + u32::from(at_once),
            // A server that answered before may be restarting its proxy.
            Error::Connect { .. } if self.was_reached() && (at_once || self.limits.has_deadline()) => 6,
            Error::Connect { .. } => 2,
            Error::Lost { .. } if call.is_read() => 4,
            Error::Refused(refused) if call.is_read() && refused.status >= 500 && error.is(Class::Other) => 3,
            Error::Refused(_) if error.is(Class::Busy) && self.limits.has_deadline() => u32::MAX,
            Error::Refused(_) if error.is(Class::Busy) => 6,
            Error::Refused(_) if error.is(Class::NoQuorum) => 4,
            _ => 1,
        };
        (attempt < attempts).then(|| back_off(attempt))
    }

    /// Whether what another call has just heard, or not heard, will do: for plans and refreshes, and while nobody was ever reached.
    /// Work in progress has a time limit, and waits for a server that restarts.
    fn shares(&self, known: &Error) -> bool {
        !self.limits.has_deadline() || (known.node().is_none() && !self.was_reached())
    }

    fn was_reached(&self) -> bool {
        self.shared.endpoints.were_reached()
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

/// Kept connections suit pveproxy: it closes idle ones after 5 s.
fn http(trust: &Trust) -> Result<reqwest::Client, ConfigError> {
    let failed = |error: reqwest::Error| ConfigError::Tls(error.to_string());
    let builder = reqwest::Client::builder()
        .http1_only()
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(32)
        // Two attempts: a fresh connection is answered sooner than one whose first packet was lost.
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .dns_resolver(resolve::Names)
        .user_agent(concat!("groundwork/", env!("CARGO_PKG_VERSION")));
    let builder = match trust.client_config()? {
        Some(config) => builder.tls_backend_preconfigured(config),
        None => builder,
    };
    builder.build().map_err(failed)
}

/// More than Terraform does at a time unless it is told to (10), so that by itself it is not held back.
const PER_NODE: usize = 16;
/// A connection that is refused takes no time; one that nobody answers takes seconds.
const AT_ONCE: Duration = Duration::from_secs(1);
