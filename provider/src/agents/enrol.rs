//! The provider's side of an enrolment: wait for a machine to boot, have it prove itself, sign its certificate, pin its key.
//!
//! Interrupted anywhere, it can be repeated: an agent that took its certificate answers "enrolled already", and is then
//! recognised by that certificate.

use super::dial::{Dialled, dial};
use super::install::PendingEnrolment;
use super::pki::Authority;
use super::until::Until;
use super::{Endpoint, Error, Wait};
use agent_proto::v1::enrolment_client::EnrolmentClient;
use agent_proto::v1::{
    EnrollAccept, EnrollHello, EnrollProof, EnrollReply, EnrollRequest, enroll_reply, enroll_request,
};
use rustls::pki_types::UnixTime;
use std::time::Duration;
use tf::chain;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use trust::{Clock, Role, Transcript, Usage};

/// Tries the machine's addresses until it is enrolled at one of them, the deadline has passed or Terraform wants to stop.
pub(super) async fn enrol(
    authority: &Authority,
    addresses: &[String],
    pending: &PendingEnrolment,
    wait: &Wait<'_>,
) -> Result<Endpoint, Error> {
    let (until, mut tries, mut before) = (wait.until(), 0_u32, None);
    loop {
        let (mut passing, mut refused) = (None, None);
        for address in addresses {
            let error = match once(authority, address, pending, &until).await {
                Ok(endpoint) => return Ok(endpoint),
                Err(Error::AlreadyEnrolled { .. }) => {
                    return identify(authority, address, &pending.machine_uuid, &until).await;
                }
                Err(Error::Deadline { last, .. }) => {
                    let last = passing.or(refused).map(Box::new).or(before).or(last);
                    return Err(Error::Deadline { what: ENROLMENT.to_owned(), last });
                }
                Err(error) => error,
            };
            if tries.is_multiple_of(10) {
                (wait.progress)(&format!("waiting for the agent at {address}: {error}"));
            }
            // What somebody else says at one of several addresses is not the machine's last word.
            let first = if error.may_pass() { &mut passing } else { &mut refused };
            first.get_or_insert(error);
        }
        tries += 1;
        let error = match (passing, refused) {
            (Some(error), _) => error,
            (None, refused) => return Err(refused.unwrap_or_else(|| Error::BadEndpoint(String::new()))),
        };
        before = Some(Box::new(wait.pause_after(PAUSE, ENROLMENT, error).await?));
    }
}

/// The endpoint at `address`, if the agent there was enrolled by this CA for the machine with this SMBIOS UUID.
pub(super) async fn identify(
    authority: &Authority,
    address: &str,
    machine_uuid: &str,
    until: &Until,
) -> Result<Endpoint, Error> {
    let dialled = dial(authority, Role::Observer, address, until).await?;
    let clock = Clock { now: UnixTime::now(), tolerance: None, may_be_slow: false };
    let seen = trust::verify(&dialled.chain, authority.anchors(), Usage::Server, clock)
        .map_err(|error| Error::NotEnrolled { address: address.to_owned(), message: error.to_string() })?;
    if !seen.uris.contains(&trust::machine_name(machine_uuid)) {
        return Err(Error::OtherMachine { address: address.to_owned(), expected: machine_uuid.to_owned() });
    }
    Ok(Endpoint { address: address.to_owned(), fingerprint: dialled.pin().to_string() })
}

/// One dialogue: Hello, Proof, Accept, Done.
async fn once(
    authority: &Authority,
    address: &str,
    pending: &PendingEnrolment,
    until: &Until,
) -> Result<Endpoint, Error> {
    let dialled = dial(authority, Role::Admin, address, until).await?;
    until.bound((address, "Enroll"), ANSWER, dialogue(authority, address, pending, &dialled)).await?
}

/// What is said in it.
async fn dialogue(
    authority: &Authority,
    address: &str,
    pending: &PendingEnrolment,
    dialled: &Dialled,
) -> Result<Endpoint, Error> {
    let failed = |status: Status| judge(address, &status);
    let (to_agent, requests) = mpsc::channel(2);
    let provider_nonce = trust::nonce();
    let hello = EnrollHello {
        enrolment_id: pending.id.clone(),
        provider_nonce: provider_nonce.to_vec(),
        provider_time: UnixTime::now().as_secs(),
    };
    send(&to_agent, address, enroll_request::Message::Hello(hello)).await?;
    let mut client = EnrolmentClient::new(dialled.channel.clone());
    let mut replies = client.enroll(ReceiverStream::new(requests)).await.map_err(failed)?.into_inner();

    let Some(enroll_reply::Message::Proof(proof)) = next(&mut replies, address).await? else {
        return Err(not_proven(address, "the agent sent no proof"));
    };
    let certificate = accept(authority, address, pending, dialled, (&provider_nonce, &proof))?;
    send(&to_agent, address, enroll_request::Message::Accept(certificate)).await?;
    let Some(enroll_reply::Message::Done(_)) = next(&mut replies, address).await? else {
        return Err(not_proven(address, "the agent did not take its certificate"));
    };
    Ok(Endpoint { address: address.to_owned(), fingerprint: dialled.pin().to_string() })
}

/// Checks the agent's proof and answers it with the machine's certificate and our own proof.
fn accept(
    authority: &Authority,
    address: &str,
    pending: &PendingEnrolment,
    dialled: &Dialled,
    (provider_nonce, proof): (&[u8], &EnrollProof),
) -> Result<EnrollAccept, Error> {
    if proof.public_key != dialled.public_key {
        return Err(not_proven(address, "the proof names another key than the one that serves this connection"));
    }
    let transcript = Transcript {
        exporter: &dialled.exporter,
        enrolment_id: &pending.id,
        generation: pending.generation,
        provider_nonce,
        agent_nonce: &proof.agent_nonce,
        public_key: &proof.public_key,
        machine_uuid: &pending.machine_uuid,
    };
    if proof.machine_uuid != pending.machine_uuid || proof.generation != pending.generation {
        return Err(not_proven(address, "the agent holds the secret of another machine or an older one"));
    }
    if !transcript.agent_proved(&pending.secret, &proof.proof) {
        return Err(not_proven(address, "the agent does not know the secret, or a relay stands in between"));
    }
    let mut chain = authority.machine(&proof.public_key, &pending.machine_uuid)?.into_iter().map(|der| der.to_vec());
    let certificate = chain.next().unwrap_or_default();
    let proof = transcript.provider_proof(&pending.secret, &certificate).to_vec();
    Ok(EnrollAccept { certificate, proof, issuers: chain.collect() })
}

async fn send(
    to_agent: &mpsc::Sender<EnrollRequest>,
    address: &str,
    message: enroll_request::Message,
) -> Result<(), Error> {
    let closed = |_| Error::Unreachable { address: address.to_owned(), why: "the connection was closed".to_owned() };
    to_agent.send(EnrollRequest { message: Some(message) }).await.map_err(closed)
}

async fn next(replies: &mut Streaming<EnrollReply>, address: &str) -> Result<Option<enroll_reply::Message>, Error> {
    let reply = replies.message().await;
    Ok(reply.map_err(|status| judge(address, &status))?.and_then(|reply| reply.message))
}

fn judge(address: &str, status: &Status) -> Error {
    let address = address.to_owned();
    let message = status.message().to_owned();
    match status.code() {
        Code::AlreadyExists => Error::AlreadyEnrolled { address },
        Code::FailedPrecondition => Error::NotEnrolled { address, message },
        Code::PermissionDenied | Code::Unauthenticated | Code::ResourceExhausted => {
            Error::NotProven { address, why: message }
        }
        Code::Unavailable | Code::Cancelled | Code::Unknown => Error::Unreachable { address, why: chain(status) },
        _ => Error::Refused { address, call: "Enroll", message },
    }
}

fn not_proven(address: &str, why: &str) -> Error {
    Error::NotProven { address: address.to_owned(), why: why.to_owned() }
}

const ENROLMENT: &str = "the enrolment";
const PAUSE: Duration = Duration::from_millis(500);
/// Of the whole dialogue.
const ANSWER: Duration = Duration::from_secs(20);
