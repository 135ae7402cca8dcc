//! The gate before every call: role against the table, and enrolment first.
//!
//! A call that is not in the table of the crate `trust` is denied, whoever asks.

use crate::enrol::Trust;
use crate::tls::Peer;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// Puts the gate before a service.
#[derive(Clone)]
pub struct Gate(pub Arc<Trust>);

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { trust: Arc::clone(&self.0), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    trust: Arc<Trust>,
    inner: S,
}

impl<S, B> Service<http::Request<B>> for Gated<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Passed<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let role = request.extensions().get::<Peer>().map(|peer| peer.role);
        match judge(role, request.uri().path(), self.trust.is_enrolled(), &self.trust) {
            Ok(()) => Passed::In(Box::pin(self.inner.call(request))),
            Err(status) => Passed::Out(ready(Ok(status.into_http()))),
        }
    }
}

/// The inner service's answer, or ours.
pub enum Passed<F, E> {
    /// Let through.
    In(Pin<Box<F>>),
    /// Sent away.
    Out(Ready<Result<http::Response<Body>, E>>),
}

impl<F, E> Future for Passed<F, E>
where
    F: Future<Output = Result<http::Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.get_mut() {
            Self::In(answer) => answer.as_mut().poll(cx),
            Self::Out(answer) => Pin::new(answer).poll(cx),
        }
    }
}

fn judge(role: Option<trust::Role>, path: &str, enrolled: bool, trust: &Trust) -> Result<(), Status> {
    let role = role.ok_or_else(|| Status::unauthenticated("the connection carries no role"))?;
    if !role.may(path) {
        tracing::warn!(role = role.word(), path, "denied");
        return Err(Status::permission_denied(format!("the role {} may not call {path}", role.word())));
    }
    match (enrolled, trust::needs(path).is_some_and(|need| need.enrolment)) {
        (false, false) => Err(Status::failed_precondition("this agent is not enrolled")),
        (true, true) => Err(Status::already_exists(trust.pin().to_string())),
        (true, false) | (false, true) => Ok(()),
    }
}
