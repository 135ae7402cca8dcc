//! Manifests of a cluster: in which order they are applied, what of them is different, and applying them.
//!
//! A control plane's agent does the work, and the cluster keeps what was applied, so that nothing here is remembered but the configuration.
//! What is to go is therefore asked of the cluster, and not of the state: an apply that fails, or is killed, leaves a manifest that no state
//! has.

mod model;
mod order;

pub(super) use order::problems;

use super::model::Cluster;
use crate::agents::{self, Applied, Endpoint, Error, Job, Removal, Report, Wait, again};
use crate::context::{Cx, looking};
use crate::explain;
use crate::fetch::{self, FetchError};
use model::{Manifest, Source};
use std::collections::BTreeMap;
use std::time::Duration;
use tf::{Diagnostic, Diagnostics, Path, Secret, chain};
use tokio::time::Instant;
use trust::Role;

/// Manifests by name.
pub(super) type Manifests = BTreeMap<String, Manifest>;

/// Where they are applied.
pub(super) struct Site<'a> {
    pub(super) cx: &'a Cx,
    /// A control plane.
    pub(super) first: &'a Endpoint,
    pub(super) cluster_id: &'a str,
    pub(super) wait: &'a Wait<'a>,
}

/// Manifests of a cluster.
pub(super) fn of(m: &Cluster) -> Manifests {
    m.manifest.or(Manifests::new())
}

/// What a plan should say of them. What is not applied again is no change that an apply makes.
pub(super) fn unheeded(prior: &Cluster, m: &Cluster) -> Vec<Diagnostic> {
    let before = of(prior);
    let changed = of(m).into_iter().filter(|(name, now)| {
        let was = before.get(name);
        now.once.is_true() && was.is_some_and(|was| was.once.is_true() && was.key() != now.key())
    });
    changed.map(|(name, _)| once(&name)).collect()
}

fn once(name: &str) -> Diagnostic {
    Diagnostic::warning(format!("Manifest {name} is not applied again"))
        .happened("Its content is another one, and it has `once = true`.")
        .holds("The state takes the new content; the objects in the cluster stay as they are.")
        .next("Take `once` away if the new content is to be applied.")
        .at(at(name).name("once"))
}

fn at(name: &str) -> Path {
    Path::from("manifest").key(name)
}

/// Adds what is different in manifests to what is different in the cluster.
pub(super) async fn look(cx: &Cx, m: &mut Cluster, first: &Endpoint) {
    let manifests = of(m);
    let names = manifests.iter().filter(|(_, manifest)| !manifest.once.is_true()).map(|(name, _)| name.clone());
    let names: Vec<String> = names.collect();
    let until = looking(cx);
    let asked =
        again(|| async { cx.agents.connect(first, Role::Observer, &until).await?.manifests(names.clone()).await });
    let known = match asked.await {
        Ok(known) => by_name(known),
        // An older agent is updated before anything is applied.
        Err(Error::NotKnown { .. }) => return,
        Err(error) => {
            cx.warn(not_looked_at(&m.name.or(""), &error));
            return;
        }
    };
    let mut lines = m.drift.or(Vec::new());
    for (name, manifest) in &manifests {
        lines.extend(manifest.drift(known.get(name)).into_iter().map(|line| format!("manifest {name}: {line}")));
    }
    lines.extend(known.values().filter(|applied| !manifests.contains_key(&applied.name)).map(left_over));
    m.drift.set(plain::list(lines));
}

/// Of a manifest that the state does not have. Whether the configuration has it is not known while looking.
fn left_over(applied: &Applied) -> String {
    let Applied { name, objects, .. } = applied;
    let objects = if *objects == 1 { "1 object".to_owned() } else { format!("{objects} objects") };
    let what = if prunes(None, applied) {
        format!("deletes its {objects}")
    } else {
        format!("forgets it and leaves its {objects}")
    };
    format!(
        "manifest {name}: the cluster has it and the state has not; without a block of its name the next apply {what}"
    )
}

fn by_name(known: Vec<Applied>) -> BTreeMap<String, Applied> {
    known.into_iter().map(|applied| (applied.name.clone(), applied)).collect()
}

fn not_looked_at(name: &str, error: &Error) -> Diagnostic {
    Diagnostic::warning(format!("Cannot look at the manifests of cluster {name}"))
        .happened(format!("{}.", chain(error)))
        .holds("No difference in their objects can be shown.")
        .next("See how the API server does, and plan again.")
}

/// The failures of an apply that makes the cluster, as warnings: with an error Terraform would make the whole cluster anew.
pub(super) fn as_warnings(failures: Diagnostics) -> Vec<Diagnostic> {
    let warning = |failure: Diagnostic| {
        let warning = Diagnostic::warning(failure.summary())
            .happened(failure.detail())
            .next("The cluster is made, and this is no error, for Terraform would make it anew then. The next apply goes on with what is missing.");
        match failure.path() {
            Some(path) => warning.at(path.clone()),
            None => warning,
        }
    };
    failures.into_iter().map(warning).collect()
}

/// Applies what is missing, in order, and then forgets what the cluster has and the configuration has not. Whatever comes after one that
/// fails waits for the next apply; the others go on.
pub(super) async fn apply(site: &Site<'_>, before: &Manifests, after: &Manifests) -> Result<(), Diagnostics> {
    let known = ask(site, after).await?;
    let (mut failures, mut held_back) = (Diagnostics::new(), Vec::new());
    let mut applied = false;
    for name in order::of(after) {
        let Some(manifest) = after.get(&name).filter(|manifest| !manifest.stands(known.get(&name))) else { continue };
        if manifest.after.or(Vec::new()).iter().any(|other| held_back.contains(other)) {
            held_back.push(name);
            continue;
        }
        applied = true;
        if let Err(failure) = apply_one(site, &name, manifest).await {
            failures.push(failure);
            held_back.push(name);
        }
    }
    if failures.is_empty() {
        forget(site, leaving(before, after, &known)).await?;
    }
    if applied {
        site.network_up().await;
    }
    failures.or(())
}

/// What the cluster has of them now.
async fn ask(site: &Site<'_>, after: &Manifests) -> Result<BTreeMap<String, Applied>, Diagnostic> {
    let act = "look at the cluster's manifests";
    let names = after.iter().filter(|(_, manifest)| !manifest.once.is_true()).map(|(name, _)| name.clone());
    let (names, until): (Vec<String>, _) = (names.collect(), site.wait.until());
    let agents = &site.cx.agents;
    let asked =
        again(|| async { agents.connect(site.first, Role::Observer, &until).await?.manifests(names.clone()).await });
    match asked.await {
        Ok(known) => Ok(by_name(known)),
        // Nothing was applied by an older agent. It is updated before the first manifest is.
        Err(Error::NotKnown { .. }) => Ok(BTreeMap::new()),
        Err(error) => Err(explain::agent(act, &error)),
    }
}

async fn apply_one(site: &Site<'_>, name: &str, manifest: &Manifest) -> Result<(), Diagnostic> {
    let act = format!("apply manifest {name}");
    let content = content(site, name, manifest).await?;
    let job = agents::Manifest {
        cluster_id: site.cluster_id.to_owned(),
        name: name.to_owned(),
        content,
        namespace: manifest.namespace.or(""),
        key: manifest.key().unwrap_or_default(),
        force_conflicts: manifest.force_conflicts.is_true(),
        wait: manifest.waits(),
        prune: manifest.prune.is_true(),
        timeout: manifest.time(),
    };
    let done = site.cx.agents.run(site.first, &Job::ManifestApply(Box::new(job)), site.wait).await;
    let report = done.map_err(|error| explain::manifest(&act, &error).at(at(name)))?;
    site.noted(name, &report);
    Ok(())
}

/// What is applied, fetched from here if it is a file of the web: the control plane may have no way out.
async fn content(site: &Site<'_>, name: &str, manifest: &Manifest) -> Result<Secret<String>, Diagnostic> {
    match manifest.source() {
        Source::Content(content) => Ok(Secret::new(content)),
        Source::Secret(content) => Ok(content),
        Source::Web { url, sum } => {
            (site.wait.progress)(&format!("manifest {name}: fetching {url}"));
            fetch::text(&url, &sum, site.wait).await.map(Secret::new).map_err(|error| not_fetched(name, &url, &error))
        }
        Source::Nothing => Err(Diagnostic::bug("a manifest without content passed validation")),
    }
}

fn not_fetched(name: &str, url: &str, error: &FetchError) -> Diagnostic {
    let (next, attribute) = match error {
        FetchError::Other(_) => {
            ("Correct `checksum`, or find out why the file is another one, and apply again.", "checksum")
        }
        FetchError::Large | FetchError::Binary(_) => ("Give the URL of a manifest, and apply again.", "url"),
        FetchError::Stopped => ("Apply again.", "url"),
        FetchError::Client(_) | FetchError::Failed(_) | FetchError::Status(_) | FetchError::Late => {
            ("See that this computer reaches the URL, or give the file as `content`, and apply again.", "url")
        }
    };
    Diagnostic::error(format!("Cannot fetch manifest {name}"))
        .happened(format!("GET {url}: {}.", chain(error)))
        .holds("Nothing of it was applied.")
        .next(next)
        .at(at(name).name(attribute))
}

/// A manifest that is to be forgotten.
#[derive(Debug, PartialEq, Eq)]
struct Leaving {
    name: String,
    /// Its objects go, too.
    prune: bool,
    timeout: Duration,
}

/// Manifests that the cluster has and the configuration has not: those first that come after others. What the state does not have was applied
/// last, by an apply that did not come to its end.
fn leaving(before: &Manifests, after: &Manifests, known: &BTreeMap<String, Applied>) -> Vec<Leaving> {
    let left_over = known.keys().filter(|name| !before.contains_key(*name)).cloned();
    let names = left_over.chain(order::of(before).into_iter().rev()).filter(|name| !after.contains_key(name));
    let leaving = |name: String| {
        let (was, applied) = (before.get(&name), known.get(&name)?);
        let timeout = was.map_or_else(|| Manifest::default().time(), Manifest::time);
        Some(Leaving { prune: prunes(was, applied), timeout, name })
    };
    names.filter_map(leaving).collect()
}

/// Whether the objects of a manifest go with it. The cluster has what the latest apply asked for, also when that failed, and the state the
/// last one that came to its end: where they differ nothing is deleted.
fn prunes(was: Option<&Manifest>, applied: &Applied) -> bool {
    match was {
        Some(was) => was.prune.is_true() && applied.prune.unwrap_or(true),
        None => applied.prune.unwrap_or_default(),
    }
}

async fn forget(site: &Site<'_>, leaving: Vec<Leaving>) -> Result<(), Diagnostics> {
    for Leaving { name, prune, timeout } in leaving {
        let removal = Removal { cluster_id: site.cluster_id.to_owned(), name: name.clone(), prune, timeout };
        let done = site.cx.agents.run(site.first, &Job::ManifestRemove(removal), site.wait).await;
        let report = done.map_err(|error| explain::manifest(&format!("remove manifest {name}"), &error))?;
        site.noted(&name, &report);
    }
    Ok(())
}

impl Site<'_> {
    fn noted(&self, name: &str, report: &Report) {
        let told = report.warnings.iter().map(|line| explain::noted(&format!("manifest {name}"), line));
        told.for_each(|warning| self.cx.warn(warning));
    }

    /// Gives the nodes of a cluster that has just got its pod network a moment to become ready.
    async fn network_up(&self) {
        let until = self.wait.deadline.min(Instant::now() + NETWORK);
        loop {
            // Who is still not ready then is told when the cluster is read back.
            let limits = self.wait.until();
            let asked =
                async { self.cx.agents.connect(self.first, Role::Observer, &limits).await?.cluster_status().await };
            let Ok(now) = asked.await else { return };
            let Some(node) = now.nodes.iter().find(|node| node.without_network()) else { return };
            if Instant::now() > until || self.wait.stop.is_cancelled() {
                return;
            }
            (self.wait.progress)(&format!("waiting for node {} to become ready", node.name));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// What a node takes at most to be ready once its network plugin runs.
const NETWORK: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    fn pruned(prune: bool, after: &[&str]) -> Manifest {
        let after: Vec<String> = after.iter().map(|name| (*name).to_owned()).collect();
        let timeout = "20s".into();
        Manifest { content: "abc".into(), prune: prune.into(), after: after.into(), timeout, ..Manifest::default() }
    }

    fn known(applied: &[(&str, Option<bool>)]) -> BTreeMap<String, Applied> {
        let applied = applied.iter().map(|(name, prune)| {
            let name = (*name).to_owned();
            (name.clone(), Applied { name, prune: *prune, objects: 2, ..Applied::default() })
        });
        applied.collect()
    }

    fn all(manifests: &[(&str, Manifest)]) -> Manifests {
        manifests.iter().map(|(name, manifest)| ((*name).to_owned(), manifest.clone())).collect()
    }

    #[test]
    fn what_the_cluster_has_and_the_configuration_has_not_goes() {
        let before = all(&[("a", pruned(true, &[])), ("b", pruned(true, &["a"])), ("never", pruned(true, &[]))]);
        let known = known(&[("a", Some(true)), ("b", None), ("stays", None), ("failed", Some(true)), ("old", None)]);
        let after = all(&[("stays", pruned(true, &[]))]);
        let found: Vec<_> = leaving(&before, &after, &known)
            .into_iter()
            .map(|Leaving { name, prune, timeout }| (name, prune, timeout.as_secs()))
            .collect();
        let wanted = [("failed", true, 600), ("old", false, 600), ("b", true, 20), ("a", true, 20)];
        assert_eq!(found, wanted.map(|(name, prune, timeout)| (name.to_owned(), prune, timeout)));
        assert_eq!(leaving(&Manifests::new(), &Manifests::new(), &BTreeMap::new()), []);
    }

    #[test]
    fn objects_are_deleted_only_where_state_and_cluster_agree() {
        let applied = |prune| Applied { prune, ..Applied::default() };
        for (was, noted, want) in [
            (Some(true), Some(true), true),
            (Some(true), None, true),
            (Some(true), Some(false), false),
            (Some(false), Some(true), false),
            (None, Some(true), true),
            (None, Some(false), false),
            (None, None, false),
        ] {
            let block = was.map(|prune| pruned(prune, &[]));
            assert_eq!(prunes(block.as_ref(), &applied(noted)), want, "{was:?} {noted:?}");
        }
    }

    #[test]
    fn what_no_state_has_is_told_with_what_becomes_of_it() {
        let known = known(&[("slow", Some(true)), ("old", None)]);
        let said = "the cluster has it and the state has not; without a block of its name the next apply";
        assert_eq!(left_over(&known["slow"]), format!("manifest slow: {said} deletes its 2 objects"));
        let stays = "forgets it and leaves its 2 objects";
        assert_eq!(left_over(&known["old"]), format!("manifest old: {said} {stays}"));
    }
}
