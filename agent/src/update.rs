//! The agent's own program, and a newer one in its place: on trial, until somebody reaches it.
//!
//! `/usr/local/bin/groundwork-agent` is what systemd starts: a file as the seed brought it or, after an update, a link to one of the
//! programs in `FOLDER`, each of which has its digest in its name. To switch is to replace that link. A new program that cannot do
//! its work must not be the one to notice that, so the old one does: while there is a trial, the unit has it count every start
//! ([`guard`]) and a timer has it look whether the new one was reached ([`revert`]). Whatever is cut off wherever, the link
//! leads to a program that was checked or that has run before.
//!
//! In order: the program is stored and asked for its version; the old one becomes the `fallback`; the trial is noted; the link is
//! switched; systemd restarts the agent. The first call that is let in ends the trial ([`Trial::passed`]).

mod program;
mod trial;

pub use program::{Incoming, LARGEST, Program, Refusal};
pub use trial::{Trial, guard, revert};

use crate::host::{Access, Command, Host, HostError, Kind};
use serde::{Deserialize, Serialize};

/// What systemd starts.
pub const BIN: &str = "/usr/local/bin/groundwork-agent";
/// Where the `.deb` and the `.rpm` put the program, with a link to it where systemd starts it.
const PACKAGED: &str = "/usr/bin/groundwork-agent";
/// Where programs and what there is to note about them are.
const FOLDER: &str = "/usr/local/libexec/groundwork";
/// A link to the program before, while there is a trial.
const FALLBACK: &str = "/usr/local/libexec/groundwork/fallback";
const NOTE: &str = "/usr/local/libexec/groundwork/update.json";
const EXECUTABLE: Access = Access { mode: 0o755, uid: 0, gid: 0 };

/// An update that is on trial, or was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    version: String,
    sha256: String,
    new: String,
    old: String,
    /// How often the new program was started.
    starts: u32,
    /// Why it was taken back.
    failed: Option<String>,
}

/// An update that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its version.
    pub version: String,
    /// The program's digest.
    pub sha256: String,
    /// Why.
    pub why: String,
}

/// An update that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The machine said no.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Nothing stands where systemd looks for the agent, or something else.
    #[error("{BIN} is not the agent's program: {0}")]
    Elsewhere(String),
    /// What was sent does not run here, or is not what it was said to be.
    #[error("the program does not work on this machine: {0}")]
    Unfit(String),
}

/// Puts the program in the place of the agent's own, on trial. Repeating it is fine.
///
/// # Errors
/// When it cannot be put there; the old one is still in its place.
pub async fn install(host: &dyn Host, program: &Program) -> Result<(), UpdateError> {
    let new = path_of(&program.sha256);
    if host.read(&new)?.as_deref() != Some(&program.content) {
        host.write(&new, &program.content, EXECUTABLE)?;
        label(host, &new).await?;
    }
    if let Err(why) = program::fits(host, &new, &program.version).await {
        host.remove(&new)?;
        return Err(UpdateError::Unfit(why));
    }
    let old = match current(host)? {
        // An earlier call came as far as here.
        to if to == new => note(host)?.map_or(to, |note| note.old),
        to => to,
    };
    host.link(FALLBACK, &old)?;
    let Program { version, sha256, .. } = program.clone();
    keep(host, &Note { version, sha256, new: new.clone(), old, starts: 0, failed: None })?;
    host.link(BIN, &new)?;
    Ok(())
}

/// [`install`], and the restart that makes the program run: in a second, so that an answer gets out before.
///
/// # Errors
/// When it cannot be put there, or systemd does not take the order; the old program is in its place.
pub async fn replace(host: &dyn Host, program: &Program) -> Result<(), UpdateError> {
    install(host, program).await?;
    if let Err(error) = restart(host).await {
        trial::take_back(host, "systemd does not restart the agent")?;
        return Err(error.into());
    }
    Ok(())
}

async fn restart(host: &dyn Host) -> Result<(), HostError> {
    let restart = ["--on-active=1", "--collect", "/usr/bin/systemctl", "restart", UNIT];
    host.run_ok(&Command::new("/usr/bin/systemd-run", restart), &|_| ()).await.map(drop)
}

/// The last update, if it was taken back.
///
/// # Errors
/// When the note cannot be read.
pub fn failed(host: &dyn Host) -> Result<Option<Failed>, HostError> {
    let note = note(host)?.and_then(|note| Some((note.failed?, note.version, note.sha256)));
    Ok(note.map(|(why, version, sha256)| Failed { version, sha256, why }))
}

/// The program that systemd starts, in the folder of programs: copied there if the seed or a package put it elsewhere.
fn current(host: &dyn Host) -> Result<String, UpdateError> {
    match host.stat(BIN)?.map(|stat| stat.kind) {
        Some(Kind::Link(to)) if to.starts_with(FOLDER) && host.exists(&to)? => Ok(to),
        Some(Kind::Link(to)) if to == PACKAGED => kept_copy(host, PACKAGED),
        Some(Kind::Link(to)) => Err(UpdateError::Elsewhere(format!("it is a link to {to}"))),
        Some(Kind::File) => kept_copy(host, BIN),
        Some(Kind::Folder | Kind::Other) | None => Err(UpdateError::Elsewhere("there is no file".to_owned())),
    }
}

/// Copies a program into the folder of programs, where nobody else replaces it.
fn kept_copy(host: &dyn Host, from: &str) -> Result<String, UpdateError> {
    let content = host.read(from)?.unwrap_or_default();
    let path = path_of(&program::digest(&content));
    host.write(&path, &content, EXECUTABLE)?;
    Ok(path)
}

fn path_of(sha256: &str) -> String {
    format!("{FOLDER}/agent-{}", sha256.get(..16).unwrap_or(sha256))
}

/// Where a policy says so, a program needs a label before systemd may start it.
async fn label(host: &dyn Host, path: &str) -> Result<(), HostError> {
    const RESTORECON: &str = "/usr/sbin/restorecon";
    if host.exists(RESTORECON)? {
        host.run_ok(&Command::new(RESTORECON, ["-F", path]), &|_| ()).await?;
    }
    Ok(())
}

/// A note that cannot be understood is none: what it said of a trial is then found out by nobody, and the program goes on.
fn note(host: &dyn Host) -> Result<Option<Note>, HostError> {
    Ok(host.text(NOTE)?.and_then(|text| serde_json::from_str(&text).ok()))
}

fn keep(host: &dyn Host, note: &Note) -> Result<(), HostError> {
    let text = serde_json::to_string(note).unwrap_or_default();
    host.write(NOTE, text.as_bytes(), Access { mode: 0o644, ..EXECUTABLE })
}

const UNIT: &str = "groundwork-agent.service";

#[cfg(test)]
mod tests;
