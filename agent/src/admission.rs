//! Before every call: role against the table, enrolment first, and no more of the agent than the role may take.
//!
//! A call that is not in the table of the crate `trust` is denied, whoever asks. What a call has been given (room for its request, a
//! place among those at work) comes back however it ends.

mod body;
mod stream;

use crate::door::{Busy, Peer};
use crate::enrol::Trust;
use crate::limits::ByRole;
use crate::tally::Tally;
use body::{Answer, Bounded};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use stream::Streamed;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use trust::{Need, Request};

/// Judges calls before a service sees them.
#[derive(Clone)]
pub struct Admission(Arc<Judge>);

struct Judge {
    trust: Arc<Trust>,
    limits: ByRole,
    denied: Tally,
}

impl Admission {
    /// By this agent's trust.
    #[must_use]
    pub fn new(trust: Arc<Trust>) -> Self {
        Self(Arc::new(Judge { trust, limits: ByRole::default(), denied: Tally::default() }))
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted { judge: Arc::clone(&self.0), inner }
    }
}

/// A service that sees only calls that were let in.
#[derive(Clone)]
pub struct Admitted<S> {
    judge: Arc<Judge>,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Admitted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        let (peer, need) = match self.judge.judge(peer, request.uri().path()) {
            Ok(admitted) => admitted,
            Err(status) => return Box::pin(async { Ok(status.into_http()) }),
        };
        let given = Arc::new(Given { _busy: peer.busy(), room: Mutex::default(), place: Mutex::default() });
        if !need.enrolment {
            let limits = &self.judge.limits;
            request = request.map(|body| match need.request {
                Request::Message => Body::new(Bounded::new(body, limits.of(peer.role), Arc::clone(&given))),
                Request::Stream => Body::new(Streamed::new(body, &limits.stream)),
            });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // What is still to be said, the story of a run among it, is no more work.
            drop(lock(&given.place).take());
            Ok(answer.map(|body| Body::new(Answer { body, _given: given })))
        })
    }
}

/// What a call has been given.
struct Given {
    /// Its connection is in use.
    _busy: Busy,
    /// Room for its request, until it is answered: what is made of a request is as large as it.
    room: Mutex<Option<OwnedSemaphorePermit>>,
    /// A place among the calls at work.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

/// A place among others, waited for.
type Place = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

fn lock(given: &Mutex<Option<OwnedSemaphorePermit>>) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
    given.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Judge {
    fn judge(&self, peer: Option<Peer>, path: &str) -> Result<(Peer, Need), Status> {
        let peer = peer.ok_or_else(|| Status::unauthenticated("the connection carries no role"))?;
        let known = trust::needs(path);
        let Some(need) = known.filter(|_| peer.role.may(path)) else {
            if let Some(times) = self.denied.count() {
                let call = if known.is_some() { path } else { "an unknown call" };
                tracing::warn!(role = peer.role.word(), call, times, "denied");
            }
            return Err(Status::permission_denied(format!("the role {} may not call {path}", peer.role.word())));
        };
        match (self.trust.is_enrolled(), need.enrolment) {
            (false, false) => Err(Status::failed_precondition("this agent is not enrolled")),
            (true, true) => Err(Status::already_exists(self.trust.pin().to_string())),
            (true, false) | (false, true) => Ok((peer, need)),
        }
    }
}
