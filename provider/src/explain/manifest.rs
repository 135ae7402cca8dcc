//! Why a manifest was not applied, told as: what happened, what holds now, what to do next.

use super::{agent, sentence};
use crate::agents::Error;
use tf::Diagnostic;

/// The diagnostic for a manifest that was not applied, or not forgotten; `act` reads `apply manifest flannel`.
pub(crate) fn manifest(act: &str, error: &Error) -> Diagnostic {
    let Error::Run { failure, .. } = error else { return agent(act, error) };
    let (holds, next) = match failure.step.as_str() {
        "manifest" => ("Nothing of it was applied.", "Correct its content, and apply again."),
        "conflict" => (
            "What is not named was applied. The fields that are named are as they were.",
            "Take these fields out of the manifest, or take them over with `force_conflicts = true`, and apply again. If somebody else is to \
             manage the objects from now on, such as Argo CD, `once = true` leaves them to it.",
        ),
        "gate" => (
            "It was applied whole, and stays so.",
            "Remove the cause, and apply again: only what is missing will be done. `timeout` gives it more time, and with `wait = false` \
             nobody waits for it.",
        ),
        "prune" => (
            "It stays in the manifest's inventory, and what was deleted before is gone.",
            "See what keeps it, mostly a finalizer whose controller is gone: `kubectl get` with `-o yaml` shows them. Then apply again.",
        ),
        _ => return agent(act, error),
    };
    Diagnostic::error(format!("Cannot {act}")).happened(sentence(&failure.message)).holds(holds).next(next)
}
