//! An open line to one agent: the only file that holds a client of its service. Every question and every event is bounded.

use super::dial::dial_pinned;
use super::pki::Authority;
use super::until::Until;
use super::{Endpoint, Error};
use agent_proto::v1 as wire;
use agent_proto::v1::agent_client::AgentClient;
use rustls::pki_types::CertificateDer;
use std::error::Error as _;
use std::time::Duration;
use tf::chain;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};
use trust::Role;

/// Calls of an agent.
pub(super) type Client = AgentClient<Channel>;

/// A line to one agent, in one role, for as long as somebody waits.
pub(super) struct Line {
    client: Client,
    address: String,
    until: Until,
    /// What the agent presented, its own certificate first. The key was compared; the certificate was not.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// The answer to what begins a run.
type Begun = Result<Response<Streaming<wire::Event>>, Status>;

/// The events of a run.
pub(super) struct Events(Streaming<wire::Event>);

impl Line {
    /// Connects to the agent with this address and key.
    pub(super) async fn open(
        authority: &Authority,
        role: Role,
        endpoint: &Endpoint,
        until: &Until,
    ) -> Result<Self, Error> {
        let Endpoint { address, fingerprint } = endpoint;
        let pin = fingerprint.parse().map_err(|_| Error::BadEndpoint(format!("{address},{fingerprint}")))?;
        let dialled = dial_pinned(authority, role, (address, pin), until).await?;
        // What may be sent is the agent's to say: it names the limit of the role.
        let client = AgentClient::new(dialled.channel).max_decoding_message_size(LARGEST_ANSWER);
        Ok(Self { client, address: address.clone(), until: until.clone(), chain: dialled.chain })
    }

    /// The answer to a question, within its time. A message has a default, and a stream has none: that is what [`Self::events`] is for.
    pub(super) async fn ask<T: Default, F: Future<Output = Result<Response<T>, Status>> + Send>(
        &mut self,
        call: &'static str,
        question: impl FnOnce(Client) -> F,
    ) -> Result<T, Error> {
        self.send((call, ANSWER), question).await
    }

    /// As [`Self::ask`], for a question that takes its time to be put.
    pub(super) async fn send<T: Default, F: Future<Output = Result<Response<T>, Status>> + Send>(
        &mut self,
        (call, patience): (&'static str, Duration),
        question: impl FnOnce(Client) -> F,
    ) -> Result<T, Error> {
        let asked = question(self.client.clone());
        let answered = self.until.bound((&self.address, call), patience, asked).await?;
        answered.map(Response::into_inner).map_err(|status| judge(&self.address, call, &status))
    }

    /// The error for an answer of no use.
    pub(super) fn odd(&self, call: &'static str, why: &str) -> Error {
        Error::Refused { address: self.address.clone(), call, message: why.to_owned() }
    }

    /// Begins something whose events are told.
    pub(super) async fn events<F: Future<Output = Begun> + Send>(
        &mut self,
        call: &'static str,
        question: impl FnOnce(Client) -> F,
    ) -> Result<Events, Error> {
        let begun = self.until.bound((&self.address, call), AT_ONCE, question(self.client.clone())).await?;
        begun.map(|events| Events(events.into_inner())).map_err(|status| judge(&self.address, call, &status))
    }

    /// The events of a run from its beginning; `None` if the agent does not know it any more.
    pub(super) async fn attach(&mut self, run_id: &str) -> Result<Option<Events>, Error> {
        let (mut client, request) = (self.client.clone(), wire::AttachRequest { run_id: run_id.to_owned() });
        match self.until.bound((&self.address, "Attach"), AT_ONCE, client.attach(request)).await? {
            Ok(events) => Ok(Some(Events(events.into_inner()))),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(judge(&self.address, "Attach", &status)),
        }
    }
}

impl Events {
    /// The next event, or why there is none; `None` if `over` comes first. Cancel-safe.
    pub(super) async fn next(&mut self, over: impl Future<Output = ()>) -> Option<Result<wire::Event, Status>> {
        // Both arms are cancel-safe: a stream's next message, and what the caller waits for.
        tokio::select! {
            biased;
            () = over => None,
            event = self.0.message() => Some(match event {
                Ok(Some(event)) => Ok(event),
                Ok(None) => Err(Status::unavailable("the events ended before the run")),
                Err(status) => Err(status),
            }),
        }
    }
}

/// What a refused or broken call means.
fn judge(address: &str, call: &'static str, status: &Status) -> Error {
    let address = address.to_owned();
    let run_id = status.metadata().get("groundwork-run").and_then(|id| id.to_str().ok());
    match (status.code(), run_id) {
        (Code::Aborted, Some(run_id)) => Error::Busy { address, run_id: run_id.to_owned() },
        (Code::Unimplemented, _) => Error::NotKnown { address, what: format!("the call {call}") },
        // Where there is a cause the connection is gone; what the agent says itself has none.
        (Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal, _) if status.source().is_some() => {
            Error::Closed { address, why: chain(status) }
        }
        (Code::Unavailable | Code::Cancelled | Code::Unknown, _) => Error::Unreachable { address, why: chain(status) },
        _ => Error::Refused { address, call, message: status.message().to_owned() },
    }
}

const ANSWER: Duration = Duration::from_secs(120);
/// A run is begun, or joined, at once.
const AT_ONCE: Duration = Duration::from_secs(30);
/// Records carry files.
const LARGEST_ANSWER: usize = 64 << 20;
