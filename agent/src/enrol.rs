//! The agent's side of an enrolment: prove to know the secret, check that the provider does, take its certificate.
//!
//! Until that has happened nothing else is offered. Wrong proofs are counted for the log alone: a secret of 256 bits is not guessed, and a
//! lock would be a weapon of whoever stole a certificate, since before the enrolment dates do not count. An hour after the start its time is
//! over, until the machine is started again or gets a new seed.

use crate::anchors::{self, Anchors};
use crate::clock::Floor;
use crate::door::Peer;
use crate::identity::{self, Identity, Machine, Pending, Standing};
use crate::state::State;
use crate::tally::Tally;
use crate::tls::Presented;
use agent_proto::v1::enrolment_server::Enrolment;
use agent_proto::v1::{
    EnrollAccept, EnrollDone, EnrollHello, EnrollProof, EnrollReply, EnrollRequest, enroll_reply, enroll_request,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use trust::{Clock, Pin, Transcript, Usage};

/// The agent's trust: who it is, and whom it believes.
pub struct Trust {
    state: State,
    machine: Machine,
    anchors: Anchors,
    identity: Mutex<Identity>,
    /// What is shown to clients.
    pub presented: Arc<Presented>,
    /// By which their certificates are judged.
    pub clock: Arc<Floor>,
    wrong: Tally,
    started: Instant,
}

impl Trust {
    /// From what stands on disk.
    ///
    /// # Errors
    /// When the agent's own folder or key cannot be used.
    pub fn load(state: State, machine: Machine, anchors: Anchors) -> Result<Self, TrustError> {
        let clock = Arc::new(Floor::default());
        let identity = Identity::load(&state, &machine).map_err(TrustError::Identity)?;
        let presented = Arc::new(Presented::new(&identity).map_err(TrustError::Tls)?);
        let (identity, wrong, started) = (Mutex::new(identity), Tally::default(), Instant::now());
        Ok(Self { state, machine, anchors, identity, presented, clock, wrong, started })
    }

    /// Whether an operator has signed this agent.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        matches!(self.standing(), Standing::Enrolled(_))
    }

    /// The pin of the agent's key.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin::of(&self.public_key())
    }

    /// When the agent's key was first certified, in seconds since 1970; 0 if that is not known.
    #[must_use]
    pub fn key_since(&self) -> u64 {
        identity::key_since(&self.state)
    }

    /// The agent's key, DER SubjectPublicKeyInfo.
    fn public_key(&self) -> Vec<u8> {
        self.identity().public_key()
    }

    /// The operator's CAs.
    #[must_use]
    pub const fn anchors(&self) -> &Anchors {
        &self.anchors
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
        self.identity().standing.clone()
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The secret to enrol with, if `hello` names it and there is still time.
    fn pending(&self, hello: &EnrollHello) -> Result<Pending, Status> {
        let pending = match self.standing() {
            Standing::Enrolled(_) => return Err(Status::already_exists(self.pin().to_string())),
            Standing::Unknown => return Err(Status::failed_precondition("this machine has no seed to enrol with")),
            Standing::Waiting(pending) => pending,
        };
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
            if let Some(times) = self.wrong.count() {
                tracing::warn!(times, "enrolments with a wrong proof were refused");
            }
            return Err(Status::permission_denied("the proof does not hold"));
        }
        let chain = chain_of(&accept.certificate, &accept.issuers);
        let key = self.certified(&chain)?;
        let mut identity = self.identity();
        if matches!(identity.standing, Standing::Enrolled(_)) {
            return Err(Status::already_exists(identity.pin().to_string()));
        }
        if key != identity.public_key() {
            return Err(for_another_key());
        }
        let kept = identity::enrolled(&self.state, &self.here(pending), pending, &chain);
        kept.map_err(|error| internal(&error))?;
        identity.standing = Standing::Enrolled(chain);
        self.presented.replace(&identity).map_err(|error| internal(&error))
    }

    /// The key that is to follow the agent's own, DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When it cannot be made or kept.
    pub fn next_key(&self) -> Result<Vec<u8>, Status> {
        // Held, so that two who ask at one time are told the same.
        let _identity = self.identity();
        identity::next(&self.state).map_err(|error| internal(&error))
    }

    /// Takes another certificate for the agent's key, or with its certificate the key that follows.
    ///
    /// # Errors
    /// When it is not of a CA that is believed, or for no key of the agent's, or cannot be kept; the old one then still stands.
    pub fn certify(&self, certificate: &[u8], issuers: &[Vec<u8>]) -> Result<(), Status> {
        let chain = chain_of(certificate, issuers);
        let key = self.certified(&chain)?;
        let mut identity = self.identity();
        if key == identity.public_key() {
            identity::certified(&self.state, &chain).map_err(|error| internal(&error))?;
            identity.standing = Standing::Enrolled(chain);
            tracing::info!("the agent has another certificate");
        } else if identity.renew(&self.state, &key, &chain).map_err(|error| internal(&error))? {
            tracing::info!(fingerprint = %identity.pin(), "the agent has another key");
        } else {
            return Err(for_another_key());
        }
        self.presented.replace(&identity).map_err(|error| internal(&error))
    }

    /// Believes other CAs from now on.
    ///
    /// # Errors
    /// When they are no CAs, when `caller`'s own certificate would not count any more, or when they cannot be kept.
    pub fn believe(&self, certificates: &[Vec<u8>], caller: &[CertificateDer<'_>]) -> Result<(), Status> {
        let certificates = certificates.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let certificates = anchors::usable(certificates).map_err(Status::invalid_argument)?;
        let counts = trust::verify(caller, &certificates, Usage::Client, at_any_time());
        counts.map_err(|error| {
            Status::failed_precondition(format!("the caller would lock itself out: by these CAs {error}"))
        })?;
        let number = certificates.len();
        self.anchors.replace(certificates).map_err(|error| internal(&error))?;
        tracing::info!(number, "the agent believes other CAs");
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

    /// The key for which our CA made this certificate.
    fn certified(&self, chain: &[CertificateDer<'static>]) -> Result<Vec<u8>, Status> {
        let seen = trust::verify(chain, &self.anchors.now(), Usage::Server, at_any_time());
        seen.map(|seen| seen.public_key).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

fn for_another_key() -> Status {
    Status::invalid_argument("the certificate is for another key")
}

/// The agent's certificate, and those of its issuers below the CA.
fn chain_of(certificate: &[u8], issuers: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    std::iter::once(certificate.to_vec()).chain(issuers.iter().cloned()).map(CertificateDer::from).collect()
}

/// What a certificate is for does not depend on this machine's clock.
fn at_any_time() -> Clock {
    Clock { now: UnixTime::now(), tolerance: None, may_be_slow: true }
}

fn internal(error: &dyn std::error::Error) -> Status {
    Status::internal(crate::chain::chain(error))
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
    let (agent_nonce, public_key) = (trust::nonce(), trust.public_key());
    let transcript = Transcript {
        exporter: &peer.exporter,
        enrolment_id: &pending.id,
        generation: pending.generation,
        provider_nonce: &hello.provider_nonce,
        agent_nonce: &agent_nonce,
        public_key: &public_key,
        machine_uuid: &pending.machine_uuid,
    };
    let proof = EnrollProof {
        agent_nonce: agent_nonce.to_vec(),
        generation: pending.generation,
        public_key: public_key.clone(),
        machine_uuid: pending.machine_uuid.clone(),
        proof: transcript.agent_proof(&pending.secret).to_vec(),
    };
    send(replies, enroll_reply::Message::Proof(proof)).await;
    let Some(enroll_request::Message::Accept(accept)) = next(requests).await? else {
        return Err(Status::invalid_argument("Hello is followed by Accept"));
    };
    trust.take(pending, &transcript, &accept)?;
    tracing::info!(fingerprint = %trust.pin(), "enrolled");
    if let Err(error) = crate::notify::status(trust.word()) {
        tracing::debug!(error = %error, "systemd was not told");
    }
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

const WINDOW: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);
