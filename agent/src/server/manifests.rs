//! Messages about manifests to domain types and back. Every value of a request is checked here.

use crate::cluster::{ManifestPlan, ManifestStatus, RemovalPlan};
use agent_proto::{form, v1 as proto};
use std::time::Duration;

pub(super) fn plan(request: proto::ManifestApplyRequest) -> Result<ManifestPlan, String> {
    let proto::ManifestApplyRequest { content, key, force_conflicts, no_wait, prune, namespace, .. } = request;
    if !namespace.is_empty() {
        form::manifest_name(&namespace).map_err(|why| format!("namespace: {namespace:?} {why}"))?;
    }
    if content.is_empty() {
        return Err("content is missing".to_owned());
    }
    let (cluster_id, name) = (given(request.cluster_id, "cluster_id")?, named(request.name)?);
    let timeout = timeout(request.timeout_s)?;
    Ok(ManifestPlan { cluster_id, name, key, content, namespace, force_conflicts, wait: !no_wait, prune, timeout })
}

pub(super) fn removal(request: proto::ManifestRemoveRequest) -> Result<RemovalPlan, String> {
    let proto::ManifestRemoveRequest { cluster_id, name, prune, timeout_s } = request;
    let (cluster_id, name) = (given(cluster_id, "cluster_id")?, named(name)?);
    Ok(RemovalPlan { cluster_id, name, prune, timeout: timeout(timeout_s)? })
}

pub(super) fn status(found: Vec<ManifestStatus>) -> proto::ManifestStatusReply {
    let manifest = |found: ManifestStatus| {
        let ManifestStatus { name, key, done, drift, prune, objects } = found;
        let objects = u32::try_from(objects).unwrap_or(u32::MAX);
        proto::AppliedManifest { name, key, done, drift: plain::list(drift), prune, objects }
    };
    proto::ManifestStatusReply { manifests: found.into_iter().map(manifest).collect() }
}

/// It becomes part of an object's name, and a label's value.
fn named(name: String) -> Result<String, String> {
    form::manifest_name(&name).map_err(|why| format!("name: {name:?} {why}"))?;
    Ok(name)
}

fn given(text: String, name: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("{name} is missing")) } else { Ok(text) }
}

fn timeout(seconds: u32) -> Result<Duration, String> {
    match seconds {
        0 => Ok(Duration::from_secs(600)),
        1..=86_400 => Ok(Duration::from_secs(seconds.into())),
        _ => Err("timeout_s: a day at most".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_lacks_something_is_refused_by_name() {
        let good = proto::ManifestApplyRequest {
            cluster_id: "sha256:00".into(),
            name: "flannel".into(),
            content: "kind: List".into(),
            ..Default::default()
        };
        let read = plan(good.clone()).unwrap();
        assert_eq!((read.wait, read.timeout.as_secs()), (true, 600));
        let bad = [
            (proto::ManifestApplyRequest { cluster_id: String::new(), ..good.clone() }, "cluster_id"),
            (proto::ManifestApplyRequest { name: "--all".into(), ..good.clone() }, "name"),
            (proto::ManifestApplyRequest { namespace: "a b".into(), ..good.clone() }, "namespace"),
            (proto::ManifestApplyRequest { content: Default::default(), ..good.clone() }, "content"),
            (proto::ManifestApplyRequest { timeout_s: 86_401, ..good }, "timeout_s"),
        ];
        for (request, name) in bad {
            let said = plan(request).unwrap_err();
            assert!(said.starts_with(name), "{said}");
        }
        assert!(removal(proto::ManifestRemoveRequest::default()).is_err());
    }
}
