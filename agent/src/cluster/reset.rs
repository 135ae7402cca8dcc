//! Leaving a cluster: what its distribution does for it, and everything that this leaves behind.

use super::evidence::{Attempt, Trace, standing};
use super::init::authority;
use super::kube::{Kube, failed};
use super::{Standing, cleanup, foreign, k3s, kube};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;

/// Takes this machine out of its cluster and makes it clean. Changes nothing on a clean one.
///
/// # Errors
/// Also when what stands here is not known to be of `cluster_id`, nor a started attempt of ours: then at the step `ownership`.
pub async fn reset(cx: RunCx, state: State, cluster_id: String) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    let found = kube.traces()?;
    cleanup::no_stranger(&found)?;
    let here = authority(&kube)?;
    let attempt = kube.attempt()?;
    if attempt.is_none() && found.is_empty() {
        return Ok(kube.done());
    }
    let traces: Vec<Trace> = found.iter().map(|(_, trace)| *trace).collect();
    let has_begun = attempt.as_ref().map_or(Ok(false), |attempt| k3s::has_begun(&kube, attempt))?;
    if !has_begun && !is_ours(attempt.as_ref(), &traces, &here, &cluster_id) {
        let paths: Vec<&str> = found.iter().map(|(path, _)| *path).collect();
        let what = if here.is_empty() {
            format!("parts of a cluster stand here that this agent did not make: {}", paths.join(", "))
        } else {
            format!("this machine belongs to another cluster, whose CA is {here}")
        };
        return Err(kube::foreign(what));
    }
    foreign::has_no_member(&kube, "etcd", "this machine is not reset")?;
    if standing(&traces) == Standing::Clean && cleanup::left(&kube).await?.is_empty() {
        Attempt::forget(kube.state).map_err(failed("look", "forget the last attempt"))?;
        return Ok(kube.done());
    }
    cleanup::undo(&kube, "reset", "this machine leaves its cluster").await?;
    Ok(kube.done())
}

/// Whether what stands here may be thrown away for the cluster `wanted`, which is empty while nobody knows its CA: a creation that
/// was refused, because something stood here already, is followed by a reset too.
fn is_ours(attempt: Option<&Attempt>, found: &[Trace], here: &str, wanted: &str) -> bool {
    let known = |attempt: &Attempt| here == wanted && attempt.has_made(here);
    let lost = |attempt: &Attempt| here.is_empty() && attempt.cluster_id.is_some();
    attempt.is_some_and(|attempt| attempt.may_be_undone(here, found) || known(attempt) || lost(attempt))
}

#[cfg(test)]
mod ownership_tests {
    use super::*;

    #[test]
    fn only_what_is_known_as_ours_is_thrown_away() {
        let begun = Attempt::new("join", "worker-1").under("sha256:00");
        let done = begun.clone().finished("sha256:00");
        let unknown = Attempt::new("init", "cp-1");
        for (attempt, here, wanted, ours) in [
            (None, "sha256:00", "sha256:00", false),
            (None, "sha256:00", "", false),
            (None, "", "", false),
            (Some(&begun), "sha256:00", "", true),
            (Some(&begun), "", "", true),
            (Some(&begun), "sha256:01", "", false),
            (Some(&begun), "sha256:01", "sha256:01", false),
            (Some(&done), "sha256:00", "sha256:00", true),
            (Some(&done), "sha256:00", "sha256:01", false),
            (Some(&done), "sha256:00", "", false),
            (Some(&done), "", "sha256:00", true),
            (Some(&done), "sha256:01", "sha256:01", false),
            (Some(&unknown), "sha256:00", "", false),
            (Some(&unknown), "", "", false),
        ] {
            assert_eq!(is_ours(attempt, &[Trace::Manifest], here, wanted), ours, "{attempt:?} {here} {wanted}");
        }
    }
}
