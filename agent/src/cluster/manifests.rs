//! Manifests: objects that a control plane has its API server take over, waits for, finds again and takes away.
//!
//! The work is server-side apply, by which the API server keeps for every field who manages it. So what others have changed of ours is seen
//! without the manifest: our part of the object is smaller than it was. What was applied stands in an inventory, a ConfigMap in the cluster,
//! with names and sums and no content; an apply notes there first what it is about to touch, and last that it is done, so that it may be
//! repeated after any cut.
//! Source: kubernetes.io, "Server-Side Apply"; kubectl 1.36.

mod gates;
mod inventory;
mod live;
mod object;
mod scope;

use super::Distribution;
use super::kube::{CACHE, Kube, failed, failure, foreign};
use super::output::mask;
use super::status::{self, ClusterError};
use crate::host::{Command, Host, HostError, Output};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use inventory::{Held, Inventory};
use live::Live;
use object::{Id, Object, Rank};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::Instant as Moment;

/// A manifest to apply. Its content may hold secrets.
pub struct ManifestPlan {
    /// The cluster that is meant.
    pub cluster_id: String,
    /// A DNS name.
    pub name: String,
    /// What tells the content from others.
    pub key: String,
    /// YAML or JSON.
    pub content: bytes::Bytes,
    /// Of objects that give none, if their kind has namespaces; empty: `default`.
    pub namespace: String,
    /// Take fields from whoever manages them.
    pub force_conflicts: bool,
    /// Wait until what it brings is ready.
    pub wait: bool,
    /// Delete what an earlier content had and this one has not.
    pub prune: bool,
    /// For all of it.
    pub timeout: Duration,
}

impl std::fmt::Debug for ManifestPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestPlan").field("name", &self.name).field("key", &self.key).finish_non_exhaustive()
    }
}

/// A manifest to forget.
#[derive(Debug, Clone)]
pub struct RemovalPlan {
    /// The cluster that is meant.
    pub cluster_id: String,
    /// Which.
    pub name: String,
    /// Delete its objects, too.
    pub prune: bool,
    /// How long they may take to go.
    pub timeout: Duration,
}

/// What is known of a manifest that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestStatus {
    /// Which.
    pub name: String,
    /// Of the content that was applied last.
    pub key: String,
    /// It was applied whole, and what it brought was ready.
    pub done: bool,
    /// What of its objects is missing or was changed by others, one line each.
    pub drift: Vec<String>,
    /// As the latest apply of it asked; an earlier agent has not noted it.
    pub prune: Option<bool>,
    /// How many objects it has, of which some may not be there yet.
    pub objects: usize,
}

/// Applies a manifest. Changes nothing if it was applied as it is and nobody has changed its objects since.
///
/// # Errors
/// At `manifest` when it cannot be read and at `conflict` when others manage its fields; at `gate` when what it brought does not become
/// ready. What was applied stays, and a repetition goes on.
pub async fn apply(cx: RunCx, state: State, plan: ManifestPlan) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    is_meant(kube.host(), &plan.cluster_id)?;
    let mut objects = object::read(kube.host(), &plan.content).await?;
    let work = Work::new(&kube, &plan.name, plan.timeout);
    scope::place(&work, &mut objects, &plan.namespace).await?;
    let all = work.inventories().await?;
    let before = all.iter().find(|one| one.name == plan.name).cloned().unwrap_or_default();
    if before.is_done(&plan.key) && before.drift(&work.live(&before.ids()).await?).is_empty() {
        if before.prune != Some(plan.prune) {
            work.note(&before.asked_to(plan.prune)).await?;
        }
        return Ok(kube.done());
    }
    let ids: Vec<Id> = objects.iter().map(|object| object.id.clone()).collect();
    work.note(&before.about_to(&plan.name, &plan.key, &ids).asked_to(plan.prune)).await?;
    let since = Instant::now();
    work.bring(&objects, plan.force_conflicts).await?;
    kube.made(&work.step, &format!("apply {}", object::count(ids.len())), "as the manifest says", since);
    if plan.wait {
        gates::pass(&work, &ids).await?;
    }
    if plan.prune {
        work.take_away(before.without(&ids), &all).await?;
    }
    // As it is now, and not as it was right after: what the cluster's own controllers have filled in meanwhile is theirs.
    let live = work.live(&ids).await?;
    work.note(&Inventory::done(&plan.name, &plan.key, &ids, &live).asked_to(plan.prune)).await?;
    Ok(kube.done())
}

/// Forgets a manifest, and deletes its objects if that is asked for; content if it is not known.
///
/// # Errors
/// At `prune` when objects do not go: they stay in the inventory, and a repetition goes on.
pub async fn remove(cx: RunCx, state: State, plan: RemovalPlan) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    is_meant(kube.host(), &plan.cluster_id)?;
    let work = Work::new(&kube, &plan.name, plan.timeout);
    let all = work.inventories().await?;
    let Some(own) = all.iter().find(|one| one.name == plan.name) else { return Ok(kube.done()) };
    if plan.prune {
        work.take_away(own.without(&[]), &all).await?;
    }
    let since = Instant::now();
    let name = inventory::name_of(&plan.name);
    let delete = ["delete", "configmap", &name, "--namespace", inventory::NAMESPACE, "--ignore-not-found"];
    work.must(&delete, String::new()).await?;
    kube.made(&work.step, "delete its inventory", "it is not in the configuration any more", since);
    Ok(kube.done())
}

/// What is known of all manifests; the objects of those `named` are looked at.
///
/// # Errors
/// When this is no control plane, or the API server does not answer.
pub async fn look(host: &dyn Host, named: &[String]) -> Result<Vec<ManifestStatus>, ClusterError> {
    let admin = Distribution::here(host).map_err(ClusterError::Host)?.admin();
    if !host.exists(admin).map_err(ClusterError::Host)? {
        return Err(ClusterError::NotControlPlane);
    }
    // kubectl takes tens of megabytes for large objects, and several callers may look.
    let _turn = LOOKS.acquire().await;
    let inventories = inventory::all(host).await.map_err(ClusterError::Manifests)?;
    let mut found = Vec::new();
    for inventory in inventories {
        let (all, is_named) = (inventory.ids(), named.contains(&inventory.name));
        let ids = if is_named { all.as_slice() } else { &[] };
        let live = live::ask(host, ids).await.map_err(ClusterError::Manifests)?;
        let drift = if is_named { inventory.drift(&live) } else { Vec::new() };
        let Inventory { name, key, done, prune, .. } = inventory;
        found.push(ManifestStatus { name, key, done, drift, prune, objects: all.len() });
    }
    Ok(found)
}

/// An answer of the API server that is none.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The program.
    #[error("kubectl cannot be run")]
    Host(#[source] HostError),
    /// The API server's words.
    #[error("the API server does not answer: {0}")]
    Refused(String),
    /// No JSON, or other JSON.
    #[error("the API server's answer cannot be read")]
    Unreadable(#[source] serde_json::Error),
}

/// A manifest of another cluster is not applied here.
fn is_meant(host: &dyn Host, cluster_id: &str) -> Result<(), Failure> {
    let here = status::cluster_id(host).map_err(failed("look", "read the cluster's CA"))?;
    let admin = Distribution::here(host).map_err(failed("look", "look at what stands here"))?.admin();
    if here == cluster_id && host.exists(admin).map_err(failed("look", &format!("look for {admin}")))? {
        return Ok(());
    }
    Err(foreign("this machine is no control plane of the cluster that the manifest is for"))
}

/// One manifest under way.
struct Work<'a> {
    kube: &'a Kube<'a>,
    /// `manifest flannel`
    step: String,
    until: Moment,
    timeout: Duration,
}

impl<'a> Work<'a> {
    fn new(kube: &'a Kube<'a>, name: &str, timeout: Duration) -> Self {
        let step = format!("manifest {name}");
        kube.cx.step_began(&step, 1);
        Self { kube, step, until: Moment::now() + timeout, timeout }
    }

    fn is_late(&self) -> bool {
        Moment::now() > self.until
    }

    fn say(&self, line: &str) {
        self.kube.cx.note(&self.step, line);
    }

    /// Asked again for a while: the API server may be restarting.
    async fn inventories(&self) -> Result<Vec<Inventory>, Failure> {
        loop {
            match inventory::all(self.kube.host()).await {
                Err(AskError::Refused(_)) if !self.is_late() => self.kube.pause(&self.step, PAUSE).await?,
                other => return other.map_err(failed(&self.step, "look at the inventories")),
            }
        }
    }

    async fn live(&self, ids: &[Id]) -> Result<Vec<Live>, Failure> {
        loop {
            match live::ask(self.kube.host(), ids).await {
                Err(AskError::Refused(_)) if !self.is_late() => self.kube.pause(&self.step, PAUSE).await?,
                other => return other.map_err(failed(&self.step, "look at its objects")),
            }
        }
    }

    async fn note(&self, inventory: &Inventory) -> Result<(), Failure> {
        self.kube.may_go_on(&self.step)?;
        let document = inventory.document().to_string();
        self.must(&[&APPLY[..], &["--force-conflicts"][..]].concat(), document).await
    }

    /// kubectl, which must end well.
    async fn must(&self, args: &[&str], given: String) -> Result<(), Failure> {
        match self.run(args, given).await? {
            None => Ok(()),
            Some(why) => Err(failure(&self.step, why)),
        }
    }

    /// kubectl; why it ended badly, in its own words.
    async fn run(&self, args: &[&str], given: String) -> Result<Option<String>, Failure> {
        let said = kubectl(self.kube.host(), args, given).await;
        let said = said.map_err(failed(&self.step, &format!("kubectl {}", args.join(" "))))?;
        said.stdout.lines().for_each(|line| self.kube.cx.output(&self.step, line));
        Ok((said.code != Some(0)).then(|| told(&said.stderr)))
    }

    /// Namespaces and kinds of objects first, then the rest.
    async fn bring(&self, objects: &[Object], force_conflicts: bool) -> Result<(), Failure> {
        let mut apply = APPLY.to_vec();
        if force_conflicts {
            apply.push("--force-conflicts");
        }
        let is_first = |object: &&Object| object.id.rank() <= Rank::Definition;
        let (mut first, rest): (Vec<&Object>, Vec<&Object>) = objects.iter().partition(is_first);
        first.sort_by_key(|object| object.id.rank());
        self.put(&apply, first.clone()).await?;
        let kinds: Vec<Id> = first.into_iter().map(|object| object.id.clone()).collect();
        if !rest.is_empty() {
            gates::pass(self, &kinds).await?;
        }
        self.put(&apply, rest).await
    }

    /// All at once; and if that fails one by one, to name those that are at fault. What passes by itself is waited for.
    async fn put(&self, apply: &[&str], mut left: Vec<&Object>) -> Result<(), Failure> {
        self.kube.may_go_on(&self.step)?;
        if left.is_empty() || self.run(apply, object::list(left.iter().map(|object| &object.body))).await?.is_none() {
            return Ok(());
        }
        let mut said = String::new();
        loop {
            let mut failed: Vec<(&Object, String)> = Vec::new();
            for object in left {
                self.kube.may_go_on(&self.step)?;
                let refused = self.run(apply, object.body.to_string()).await?;
                failed.extend(refused.map(|why| (object, object.without_secrets(&why))));
            }
            let Some((object, why)) = failed.first() else { return Ok(()) };
            if self.is_late() || !failed.iter().all(|(_, why)| passes(why)) {
                return Err(self.refused(&failed));
            }
            let line = format!("waiting to apply {}: {why}", object.id);
            if line != said {
                self.say(&line);
                said = line;
            }
            left = failed.into_iter().map(|(object, _)| object).collect();
            self.kube.pause(&self.step, PAUSE).await?;
        }
    }

    /// What does not pass by itself first.
    fn refused(&self, failed: &[(&Object, String)]) -> Failure {
        let (passing, lasting): (Vec<_>, Vec<_>) = failed.iter().partition(|(_, why)| passes(why));
        let is_conflict = lasting.iter().any(|(_, why)| why.contains(CONFLICT));
        let told = lasting.into_iter().chain(passing).take(TOLD);
        let mut lines: Vec<String> = told.map(|(object, why)| format!("{}: {why}", object.id)).collect();
        if failed.len() > TOLD {
            lines.push(format!("and {} more", object::count(failed.len() - TOLD)));
        }
        failure(if is_conflict { "conflict" } else { self.step.as_str() }, lines.join("; "))
    }

    /// Deletes those that are ours and in nobody else's inventory, what depends on others first, and waits until they are gone.
    async fn take_away(&self, mut held: Vec<Held>, all: &[Inventory]) -> Result<(), Failure> {
        let own = self.step.strip_prefix("manifest ").unwrap_or_default();
        let others: Vec<Id> = all.iter().filter(|one| one.name != own).flat_map(Inventory::ids).collect();
        held.retain(|held| !others.iter().any(|other| other.is(&held.id)));
        let ids: Vec<Id> = held.iter().map(|held| held.id.clone()).collect();
        let mut ranks: BTreeMap<Rank, Vec<Id>> = BTreeMap::new();
        for live in self.live(&ids).await? {
            if !held.iter().any(|held| held.id.is(&live.id) && held.is(&live)) {
                self.say(&format!("{} stays: it was made anew by somebody else", live.id));
                continue;
            }
            ranks.entry(live.id.rank()).or_default().push(live.id);
        }
        for (_, mut ids) in ranks.into_iter().rev() {
            ids.reverse();
            self.delete(&ids).await?;
        }
        Ok(())
    }

    async fn delete(&self, ids: &[Id]) -> Result<(), Failure> {
        self.kube.may_go_on(&self.step)?;
        let since = Instant::now();
        let delete = ["delete", "--ignore-not-found", "--wait=false", "--filename=-"];
        self.must(&delete, object::skeletons(ids)).await?;
        let names = object::names(ids);
        self.kube.made(&self.step, &format!("delete {names}"), "not in the manifest any more", since);
        let mut said = String::new();
        loop {
            let left: Vec<Id> = self.live(ids).await?.into_iter().map(|live| live.id).collect();
            if left.is_empty() {
                return Ok(());
            }
            let names = object::names(&left);
            if self.is_late() {
                let after = self.timeout.as_secs();
                return Err(failure("prune", format!("{names} was deleted, and is there still after {after} s")));
            }
            if names != said {
                self.say(&format!("waiting until {names} is gone"));
                said = names;
            }
            self.kube.pause(&self.step, PAUSE).await?;
        }
    }
}

/// kubectl with an administrator's credentials. What it is given and answers is shown to nobody here.
async fn kubectl(host: &dyn Host, args: &[&str], given: String) -> Result<Output, HostError> {
    let own = Distribution::here(host)?;
    let whole = ["--kubeconfig", own.admin(), CACHE, "--request-timeout=60s"].into_iter().chain(args.iter().copied());
    let command = Command::new(own.kubectl(host), whole).env(MEMORY.0, MEMORY.1).timeout(PATIENCE);
    host.run(&command.stdin(given), &|_| {}).await
}

/// What kubectl says when it fails, on one line and without its advice. Of an object that it cannot read it would repeat the content.
fn told(stderr: &str) -> String {
    let own = stderr.split("\nPlease review the fields above").next().unwrap_or_default();
    let lines = own.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Warning:"));
    let bare = |line: &str| {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        mask(line.split(" is missing in '").next().unwrap_or(line))
    };
    let lines: Vec<String> = lines.map(bare).collect();
    if lines.is_empty() { "it printed no reason".to_owned() } else { lines.join(" ") }
}

/// Whether an object that was refused may be taken in a moment: its kind, its namespace, a webhook or the API server is still coming up.
fn passes(why: &str) -> bool {
    PASSING.iter().any(|words| why.contains(words))
}

/// What a refusal begins with because of somebody else's fields. Source: apimachinery, `NewApplyConflict`.
const CONFLICT: &str = "Apply failed with ";
/// Source: kubectl, apimachinery and apiserver 1.36, in their own words.
const PASSING: [&str; 10] = [
    "no matches for kind",
    "the server could not find the requested resource",
    "failed calling webhook",
    "failed to call webhook",
    "connection refused",
    "connection reset by peer",
    "the server is currently unable to handle the request",
    "the server was unable to return a response in the time allotted",
    "etcdserver: ",
    "Client.Timeout exceeded",
];
const APPLY: [&str; 4] = ["apply", "--server-side", "--field-manager=groundwork", "--filename=-"];
/// Whose fields are ours.
const MANAGER: &str = "groundwork";
/// Programs of the agent share its memory, so this one is to collect its garbage in time. Source: Go's `runtime`.
const MEMORY: (&str, &str) = ("GOMEMLIMIT", "96MiB");
/// Thousands of objects take minutes.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(2);
/// Objects that a failure names.
const TOLD: usize = 10;
static LOOKS: Semaphore = Semaphore::const_new(1);

#[cfg(test)]
mod tests;
