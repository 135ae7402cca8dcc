//! Manifests, as an agent is asked to apply, remove and look at them.

use super::Error;
use super::call::Agent;
use super::job::seconds;
use agent_proto::v1 as wire;
use std::fmt;
use std::time::Duration;
use tf::Secret;

/// A manifest to apply.
#[derive(Clone)]
pub(crate) struct Manifest {
    /// The cluster that is meant.
    pub(crate) cluster_id: String,
    pub(crate) name: String,
    /// YAML or JSON.
    pub(crate) content: Secret<String>,
    /// Of objects that give none; empty: `default`.
    pub(crate) namespace: String,
    /// What tells the content from others.
    pub(crate) key: String,
    pub(crate) force_conflicts: bool,
    /// Until what it brings is ready.
    pub(crate) wait: bool,
    /// Delete what an earlier content had and this one has not.
    pub(crate) prune: bool,
    pub(crate) timeout: Duration,
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest").field("name", &self.name).field("key", &self.key).finish_non_exhaustive()
    }
}

/// A manifest to forget.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removal {
    pub(crate) cluster_id: String,
    pub(crate) name: String,
    /// Delete its objects, too.
    pub(crate) prune: bool,
    pub(crate) timeout: Duration,
}

/// What a cluster has of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) name: String,
    pub(crate) key: String,
    /// It was applied whole.
    pub(crate) done: bool,
    /// What of its objects is missing or was changed by others.
    pub(crate) drift: Vec<String>,
    /// As the latest apply of it said; an older agent has not noted it.
    pub(crate) prune: Option<bool>,
    /// How many it has.
    pub(crate) objects: u32,
}

impl Manifest {
    pub(super) fn to_wire(&self) -> wire::ManifestApplyRequest {
        wire::ManifestApplyRequest {
            cluster_id: self.cluster_id.clone(),
            name: self.name.clone(),
            content: self.content.expose().clone().into(),
            key: self.key.clone(),
            namespace: self.namespace.clone(),
            force_conflicts: self.force_conflicts,
            no_wait: !self.wait,
            prune: self.prune,
            timeout_s: seconds(self.timeout),
        }
    }
}

impl Removal {
    pub(super) fn to_wire(&self) -> wire::ManifestRemoveRequest {
        wire::ManifestRemoveRequest {
            cluster_id: self.cluster_id.clone(),
            name: self.name.clone(),
            prune: self.prune,
            timeout_s: seconds(self.timeout),
        }
    }
}

impl Agent {
    /// What a control plane's cluster has of manifests; the objects of those that are named are looked at.
    pub(crate) async fn manifests(&mut self, names: Vec<String>) -> Result<Vec<Applied>, Error> {
        let request = wire::ManifestStatusRequest { names };
        let said =
            self.0.ask("ManifestStatus", |mut client| async move { client.manifest_status(request).await }).await?;
        let applied = |found: wire::AppliedManifest| {
            let wire::AppliedManifest { name, key, done, drift, prune, objects } = found;
            Applied { name, key, done, drift: plain::list(drift), prune, objects }
        };
        Ok(said.manifests.into_iter().map(applied).collect())
    }
}
