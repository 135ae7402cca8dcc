//! The agent's side of an enrolment: prove to know the secret, check that the provider does, take its certificate.
//!
//! Until that has happened nothing else is offered. Ten wrong proofs lock it, and an hour after the start its time is over: both
//! until the machine is started again or gets a new seed.

use crate::clock::Floor;
use crate::door::Peer;
use crate::identity::{self, Identity, Machine, Pending, Standing};
use crate::state::State;
use crate::tls::Presented;
use agent_proto::v1::enrolment_server::Enrolment;
use agent_proto::v1::{
    EnrollAccept, EnrollDone, EnrollHello, EnrollProof, EnrollReply, EnrollRequest, enroll_reply, enroll_request,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use trust::{Clock, Pin, Transcript, Usage};

/// The agent's trust: who it is, and whom it believes.
pub struct Trust {
    state: State,
    machine: Machine,
    ca: CertificateDer<'static>,
    identity: Mutex<Identity>,
    public_key: Vec<u8>,
    /// What is shown to clients.
    pub presented: Arc<Presented>,
    /// By which their certificates are judged.
    pub clock: Arc<Floor>,
    wrong: Mutex<u32>,
    started: Instant,
}

impl Trust {
    /// From what stands on disk.
    ///
    /// # Errors
    /// When the agent's own folder or key cannot be used.
    pub fn load(state: State, machine: Machine, ca: CertificateDer<'static>) -> Result<Self, TrustError> {
        let clock = Arc::new(Floor::default());
        let identity = Identity::load(&state, &machine).map_err(TrustError::Identity)?;
        let presented = Arc::new(Presented::new(&identity).map_err(TrustError::Tls)?);
        let public_key = identity.public_key();
        let (identity, wrong, started) = (Mutex::new(identity), Mutex::new(0), Instant::now());
        Ok(Self { state, machine, ca, identity, public_key, presented, clock, wrong, started })
    }

    /// Whether an operator has signed this agent.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        matches!(self.standing(), Standing::Enrolled(_))
    }

    /// The pin of the agent's key.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin::of(&self.public_key)
    }

    /// The operator's CA.
    #[must_use]
    pub fn ca(&self) -> CertificateDer<'static> {
        self.ca.clone()
    }

    /// One word for logs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.standing() {
            Standing::Unknown => "without a seed",
            Standing::Waiting(_) => "waiting to be enrolled",
            Standing::Enrolled(_) => "enrolled",
        }
    }

    fn standing(&self) -> Standing {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).standing.clone()
    }

    /// The secret to enrol with, if `hello` names it and there is still time.
    fn pending(&self, hello: &EnrollHello) -> Result<Pending, Status> {
        let pending = match self.standing() {
            Standing::Enrolled(_) => return Err(Status::already_exists(self.pin().to_string())),
            Standing::Unknown => return Err(Status::failed_precondition("this machine has no seed to enrol with")),
            Standing::Waiting(pending) => pending,
        };
        if *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) >= ATTEMPTS {
            return Err(Status::resource_exhausted("ten wrong proofs: restart the machine, or give it a new seed"));
        }
        if self.started.elapsed() > WINDOW {
            return Err(Status::resource_exhausted("an hour has passed since the start: restart the machine"));
        }
        if hello.enrolment_id != pending.id {
            let (waits, generation) = (&pending.id, pending.generation);
            let message = format!("this machine waits for the enrolment {waits} (generation {generation})");
            return Err(Status::failed_precondition(message));
        }
        if hello.provider_nonce.len() != trust::NONCE_LEN {
            return Err(Status::invalid_argument("the nonce has a wrong length"));
        }
        Ok(pending)
    }

    /// Checks what the provider sent and, if it is good, becomes enrolled.
    fn take(&self, pending: &Pending, transcript: &Transcript<'_>, accept: &EnrollAccept) -> Result<(), Status> {
        if !transcript.provider_proved(&pending.secret, &accept.certificate, &accept.proof) {
            let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
            *wrong += 1;
            tracing::warn!(attempts = *wrong, "an enrolment with a wrong proof was refused");
            return Err(Status::permission_denied("the proof does not hold"));
        }
        let certificate = CertificateDer::from(accept.certificate.clone());
        self.check(&certificate)?;
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(identity.standing, Standing::Enrolled(_)) {
            return Err(Status::already_exists(self.pin().to_string()));
        }
        let kept = identity::enrolled(&self.state, &self.here(pending), pending, &certificate);
        kept.map_err(|error| Status::internal(crate::chain::chain(&error)))?;
        let shown = self.presented.replace(certificate.clone(), &identity.key);
        shown.map_err(|error| Status::internal(crate::chain::chain(&error)))?;
        identity.standing = Standing::Enrolled(certificate);
        Ok(())
    }

    /// The machine, by the seed's word where it cannot say itself.
    fn here(&self, pending: &Pending) -> Machine {
        let mut machine = self.machine.clone();
        if machine.uuid.is_empty() {
            machine.uuid.clone_from(&pending.machine_uuid);
        }
        machine
    }

    /// The certificate is of our CA and for our key.
    fn check(&self, certificate: &CertificateDer<'static>) -> Result<(), Status> {
        let clock = Clock { now: UnixTime::now(), tolerance: None, may_be_slow: false };
        let seen = trust::verify(std::slice::from_ref(certificate), &self.ca, Usage::Server, clock);
        let seen = seen.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if seen.public_key == self.public_key {
            return Ok(());
        }
        Err(Status::invalid_argument("the certificate is for another key"))
    }
}

/// Trust that cannot be set up at the start.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Key, certificate or seed.
    #[error("the identity cannot be used")]
    Identity(#[source] identity::IdentityError),
    /// The certificate to present.
    #[error("TLS cannot be set up")]
    Tls(#[source] crate::tls::TlsError),
}

/// The service `Enrolment`.
pub struct EnrolmentService(pub Arc<Trust>);

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    type EnrollStream = ReceiverStream<Result<EnrollReply, Status>>;

    async fn enroll(&self, request: Request<Streaming<EnrollRequest>>) -> Result<Response<Self::EnrollStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection is not known"))?;
        let mut requests = request.into_inner();
        let Some(enroll_request::Message::Hello(hello)) = next(&mut requests).await? else {
            return Err(Status::invalid_argument("an enrolment begins with Hello"));
        };
        let pending = self.0.pending(&hello)?;
        let (replies, out) = mpsc::channel(2);
        let trust = Arc::clone(&self.0);
        #[expect(clippy::disallowed_methods, reason = "it ends with the stream it answers on")]
        tokio::spawn(async move {
            let told = dialogue(&trust, &pending, (&peer, &hello), &mut requests, &replies).await;
            if let Err(status) = told {
                drop(replies.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(out)))
    }
}

type Replies = mpsc::Sender<Result<EnrollReply, Status>>;

/// Proof, Accept, Done.
async fn dialogue(
    trust: &Trust,
    pending: &Pending,
    (peer, hello): (&Peer, &EnrollHello),
    requests: &mut Streaming<EnrollRequest>,
    replies: &Replies,
) -> Result<(), Status> {
    let agent_nonce = trust::nonce();
    let transcript = Transcript {
        exporter: &peer.exporter,
        enrolment_id: &pending.id,
        generation: pending.generation,
        provider_nonce: &hello.provider_nonce,
        agent_nonce: &agent_nonce,
        public_key: &trust.public_key,
        machine_uuid: &pending.machine_uuid,
    };
    let proof = EnrollProof {
        agent_nonce: agent_nonce.to_vec(),
        generation: pending.generation,
        public_key: trust.public_key.clone(),
        machine_uuid: pending.machine_uuid.clone(),
        proof: transcript.agent_proof(&pending.secret).to_vec(),
    };
    send(replies, enroll_reply::Message::Proof(proof)).await;
    let Some(enroll_request::Message::Accept(accept)) = next(requests).await? else {
        return Err(Status::invalid_argument("Hello is followed by Accept"));
    };
    trust.take(pending, &transcript, &accept)?;
    tracing::info!(fingerprint = %trust.pin(), "enrolled");
    trust.clock.set(hello.provider_time);
    send(replies, enroll_reply::Message::Done(EnrollDone { fingerprint: trust.pin().to_string() })).await;
    Ok(())
}

/// A provider that hung up learns the outcome the next time.
async fn send(replies: &Replies, message: enroll_reply::Message) {
    drop(replies.send(Ok(EnrollReply { message: Some(message) })).await);
}

async fn next(requests: &mut Streaming<EnrollRequest>) -> Result<Option<enroll_request::Message>, Status> {
    let late = |_| Status::deadline_exceeded("the provider took too long");
    let request = tokio::time::timeout(PATIENCE, requests.message()).await.map_err(late)??;
    Ok(request.and_then(|request| request.message))
}

const ATTEMPTS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);
