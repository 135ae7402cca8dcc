//! A write that meets what is there: for creations and changes alike.

use std::time::Duration;

use pve::{Class, Job, Params, Settings};

use super::operation::Target;
use crate::resources::vm::config::Delta;
use crate::resources::vm::notes::noted::{self, Held};

/// Writes what `missing` finds. Bound to what was read, so that a call which is repeated makes no disk twice, and nobody
/// else's change is lost: then it looks again and decides anew.
pub(super) async fn write(
    target: &Target<'_>,
    mut now: Settings,
    missing: impl Fn(&Settings) -> Delta,
) -> Result<(), pve::Error> {
    let mut attempt = 1;
    loop {
        let delta = missing(&now);
        if delta.is_empty() {
            return Ok(());
        }
        match target.calls().configure(&delta.params(), &delta.delete, now.digest()).done().await {
            Ok(_) => return Ok(()),
            // Whether a call whose answer was lost did its work is seen; bound to what was read, it does it once.
            Err(error) if (error.is(Class::Conflict) || error.outcome_unknown()) && attempt < 4 => {
                now = target.settings().await?;
            }
            Err(error) if error.is(Class::HeldByGuest) => {
                let keys: Vec<String> = delta.delete.iter().chain(delta.set.keys()).cloned().collect();
                until_booted(target, error, |now| held(target, now, &keys)).await?;
                noted::hold(target.op.cx.private(), delta.delete.iter(), Held::Guest);
                return Ok(());
            }
            // A removal of before, which a snapshot keeps from being made, is tried and told with every write.
            Err(error) if error.is(Class::InUse) => {
                let is_written = missing(&target.settings().await?).is_empty();
                return if is_written { Ok(()) } else { Err(error) };
            }
            Err(error) => return Err(error),
        }
        attempt += 1;
    }
}

/// What the guest did not give up is asked for again while it boots: its kernel does not answer yet. After that it waits for the next
/// power cycle, as all that a running machine cannot take.
pub(super) async fn until_booted<'t>(
    target: &'t Target<'_>,
    refused: pve::Error,
    again: impl Fn(&Settings) -> Option<Job<'t>>,
) -> Result<(), pve::Error> {
    tracing::info!(error = %refused, "the guest holds on to a device");
    let mut pause = Duration::from_secs(1);
    while target.calls().status().await?.uptime < BOOTS && target.op.rest(&mut pause).await.is_some() {
        let Some(job) = again(&target.settings().await?) else { return Ok(()) };
        match job.done().await {
            Ok(_) => return Ok(()),
            Err(error) if error.is(Class::HeldByGuest) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same change once more, of what still waits: nothing is allocated by it.
fn held<'t>(target: &'t Target<'_>, now: &Settings, keys: &[String]) -> Option<Job<'t>> {
    let delete: Vec<String> = keys.iter().filter(|key| now.leaving(key).is_some()).cloned().collect();
    let mut set = Params::new();
    for key in now.waiting().filter(|key| keys.iter().any(|own| own == key)) {
        if let Some(value) = now.written(key) {
            set.set(key, value);
        }
    }
    let waits = !delete.is_empty() || set.iter().next().is_some();
    waits.then(|| target.calls().configure(&set, &delete, now.digest()))
}

/// Seconds after which a guest that is asked to give a device up has had the time to boot.
const BOOTS: u64 = 60;
