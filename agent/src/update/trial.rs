//! The trial of a new program: every start is counted and the time is limited, by the program before it.

use super::{BIN, FALLBACK, FOLDER, NOTE, Note, UNIT, keep, note};
use crate::host::{Access, Command, Host, HostError, Kind};
use std::sync::{Mutex, PoisonError};

/// Before every start of the agent, by the program before: counts the start, and takes the new program back after two.
///
/// # Errors
/// When the machine cannot be read or written; the agent is started all the same.
pub async fn guard(host: &dyn Host) -> Result<(), HostError> {
    let Some(note) = on_trial(host)? else { return Ok(()) };
    if note.starts >= STARTS {
        let why = format!("it was started {} times and nobody reached it", note.starts);
        return fall_back(host, note, why);
    }
    keep(host, &Note { starts: note.starts + 1, ..note })?;
    // One that waits already stays.
    let unit = format!("--unit={TIMER}");
    let after = format!("--on-active={}", TIME_S);
    let look = [&unit, &after, "--collect", FALLBACK, "revert"];
    host.run(&Command::new("/usr/bin/systemd-run", look), &|_| ()).await.map(drop)
}

/// When the time is over, by the program before: takes the new one back if nobody has reached it.
///
/// # Errors
/// When the machine cannot be written, or systemd does not restart the agent.
pub async fn revert(host: &dyn Host) -> Result<(), HostError> {
    let Some(note) = on_trial(host)? else { return Ok(()) };
    fall_back(host, note, format!("nobody reached it within {TIME_S} seconds of its start"))?;
    host.run_ok(&Command::new(SYSTEMCTL, ["restart", UNIT]), &|_| ()).await.map(drop)
}

/// Ends a trial that has not begun.
pub(super) fn take_back(host: &dyn Host, why: &str) -> Result<(), HostError> {
    let Some(note) = on_trial(host)? else { return Ok(()) };
    fall_back(host, note, why.to_owned())
}

/// The note of a trial in progress. One that was cut off before the switch, or after it was switched back, is over.
fn on_trial(host: &dyn Host) -> Result<Option<Note>, HostError> {
    let Some(note) = note(host)?.filter(|note| note.failed.is_none()) else { return Ok(None) };
    if is_current(host, &note)? {
        return Ok(Some(note));
    }
    host.remove(NOTE)?;
    host.remove(FALLBACK)?;
    Ok(None)
}

fn is_current(host: &dyn Host, note: &Note) -> Result<bool, HostError> {
    Ok(host.stat(BIN)?.is_some_and(|stat| stat.kind == Kind::Link(note.new.clone())))
}

fn fall_back(host: &dyn Host, note: Note, why: String) -> Result<(), HostError> {
    host.link(BIN, &note.old)?;
    keep(host, &Note { failed: Some(why), ..note })?;
    host.remove(FALLBACK)
}

/// The trial that this process is on, if it is.
#[derive(Debug, Default)]
pub struct Trial(Mutex<Option<Note>>);

impl Trial {
    /// For the program that runs; `itself` is where it was started from.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub fn of(host: &dyn Host, itself: &str) -> Result<Self, HostError> {
        let note = note(host)?.filter(|note| note.failed.is_none() && note.new == itself);
        Ok(Self(Mutex::new(note)))
    }

    /// Somebody has reached us: we stay. Tried again at the next call if it does not work out.
    pub async fn passed(&self, host: &dyn Host) {
        let Some(note) = self.take() else { return };
        match pass(host, &note).await {
            Ok(()) => tracing::info!(version = note.version, "the update has passed its trial"),
            Err(error) => {
                tracing::error!(error = %crate::chain::chain(&error), "the update's trial cannot be ended");
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
            }
        }
    }

    fn take(&self) -> Option<Note> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The note goes first: without it, nothing is on trial.
async fn pass(host: &dyn Host, note: &Note) -> Result<(), HostError> {
    host.remove(NOTE)?;
    host.remove(FALLBACK)?;
    // None is left if it has just done its work.
    host.run(&Command::new(SYSTEMCTL, ["stop", &format!("{TIMER}.timer")]), &|_| ()).await?;
    for name in host.list(FOLDER)? {
        let path = format!("{FOLDER}/{name}");
        if name.starts_with("agent-") && path != note.new && path != note.old {
            host.remove(&path)?;
        }
    }
    unit(host).await
}

/// The unit goes with the program: from its next start on, it runs in what this version brings.
async fn unit(host: &dyn Host) -> Result<(), HostError> {
    const PATH: &str = "/etc/systemd/system/groundwork-agent.service";
    const TEXT: &str = include_str!("../../groundwork-agent.service");
    if host.text(PATH)?.is_some_and(|text| text != TEXT) {
        host.write(PATH, TEXT.as_bytes(), Access { mode: 0o644, uid: 0, gid: 0 })?;
        host.run_ok(&Command::new(SYSTEMCTL, ["daemon-reload"]), &|_| ()).await?;
    }
    Ok(())
}

/// Starts that a new program has to be reached by somebody.
const STARTS: u32 = 2;
/// And the time, in seconds: a provider comes back as soon as the agent is up.
const TIME_S: u32 = 120;
const TIMER: &str = "groundwork-agent-trial";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
