//! A write that meets what is there: for creations and changes alike.

use pve::{Class, Settings};

use super::operation::Target;
use crate::resources::vm::config::Delta;

/// Writes what `delta` finds missing. Bound to what was read, so that a call which is repeated makes no disk twice, and nobody
/// else's change is lost: then it looks again and decides anew.
pub(super) async fn write(
    target: &Target<'_>,
    mut now: Settings,
    delta: impl Fn(&Settings) -> Delta,
) -> Result<(), pve::Error> {
    let mut attempt = 1;
    loop {
        let delta = delta(&now);
        if delta.is_empty() {
            return Ok(());
        }
        match target.calls().configure(&delta.params(), &delta.delete, now.digest()).done().await {
            Ok(_) => return Ok(()),
            Err(error) if error.is(Class::Conflict) && attempt < 4 => now = target.settings().await?,
            Err(error) => return Err(error),
        }
        attempt += 1;
    }
}
