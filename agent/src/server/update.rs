//! The call `Update`: takes the program in, has it put in place as a run of its own, and answers before the restart.
//!
//! As a run it waits for none and lets none begin: what is in progress is finished first, by the caller, and what comes later meets the
//! new agent.

use super::wire::busy;
use crate::chain::chain;
use crate::run::{Busy, Failure, Outcome, RunCx, Runner};
use crate::update::{self, Program, UpdateError};
use agent_proto::v1::{UpdateRequest, update_request::Part};
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

pub(super) async fn take(runner: &Runner, mut parts: Streaming<UpdateRequest>) -> Result<(), Status> {
    if let Some(id) = runner.current() {
        return Err(busy(&id));
    }
    let program = whole(&mut parts).await?;
    tracing::info!(?program, "an update arrived");
    let (done, installed) = oneshot::channel();
    runner.start("agent update", |cx| replace(cx, program, done)).map_err(|Busy(id)| busy(&id))?;
    let lost = |_| Status::internal("the update ended without a word");
    installed.await.map_err(lost)?.map_err(|error| Status::failed_precondition(chain(&error)))
}

async fn whole(parts: &mut Streaming<UpdateRequest>) -> Result<Program, Status> {
    let refused = |refusal: update::Refusal| Status::invalid_argument(refusal.to_string());
    let Some(Part::Begin(begin)) = next(parts).await? else {
        return Err(Status::invalid_argument("an update begins with what is to come"));
    };
    let mut incoming = Program::announced(&begin.version, &begin.sha256, begin.size).map_err(refused)?;
    while let Some(part) = next(parts).await? {
        let Part::Piece(piece) = part else { return Err(Status::invalid_argument("an update begins once")) };
        incoming.take(&piece).map_err(refused)?;
    }
    incoming.whole().map_err(refused)
}

async fn next(parts: &mut Streaming<UpdateRequest>) -> Result<Option<Part>, Status> {
    let late = |_| Status::deadline_exceeded("the program stopped coming");
    let message = tokio::time::timeout(SILENCE, parts.message()).await.map_err(late)??;
    message
        .map(|message| message.part.ok_or_else(|| Status::invalid_argument("a part of an update is empty")))
        .transpose()
}

/// Holds the place of a run until the restart comes, so that none begins in between.
async fn replace(
    mut cx: RunCx,
    program: Program,
    done: oneshot::Sender<Result<(), UpdateError>>,
) -> Result<Outcome, Failure> {
    let version = program.version.clone();
    let replaced = update::replace(cx.host(), &program).await;
    let failure = replaced.as_ref().err().map(|error| Failure { message: chain(error), ..Failure::default() });
    drop(done.send(replaced));
    if let Some(failure) = failure {
        return Err(failure);
    }
    tracing::info!(version, "the new agent is in place; restarting");
    // Both arms are cancel-safe.
    tokio::select! {
        () = cx.cancelled() => Ok(Outcome { changes: 1, reboot_needed: false }),
        () = tokio::time::sleep(RESTART) => Err(Failure { message: "systemd did not restart the agent".to_owned(), ..Failure::default() }),
    }
}

/// How long the next piece may take.
const SILENCE: Duration = Duration::from_secs(60);
/// How long systemd may take to begin with the restart.
const RESTART: Duration = Duration::from_secs(60);
