//! A lost quorum of etcd, recovered from the one member that is left; and the others kept from ever agreeing without it.
//!
//! Begun with `--force-new-cluster`, etcd is the only member of a cluster that holds what this member held. The others may hold more, and could
//! agree on it: so each that can be asked has its etcd stand down before, for good, and joins as a new one later. As soon as the member has
//! said that it is alone it is stopped and begun without the flag, for with it every start would forget whoever joined since. What the folder
//! held before is kept beside it, and the manifest in the agent's folder until etcd stands again: a recovery that was cut off goes on.
//! Source: etcd, "Disaster recovery" and `--force-new-cluster`; the static pod that kubeadm makes of etcd.

use super::cleanup::remove_all;
use super::etcd::{OWN, QUORUM};
use super::foreign::has_own_etcd;
use super::init::authority;
use super::kube::{Kube, failed, failure, foreign};
use super::kubelet;
use super::snapshots::is_of;
use crate::chain::chain;
use crate::host::{Access, Command};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::{State, StateError};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// A control plane of a cluster whose etcd has lost its quorum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuorumPlan {
    /// The cluster that is meant.
    pub cluster_id: String,
    /// What has happened, in the user's words: it is recovered once for each.
    pub incident: String,
    /// It is not the one to go on with: its etcd stops, and starts no more.
    pub stand_down: bool,
}

/// A recovery that was made from this machine's member, or begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumRecovery {
    /// After what.
    pub incident: String,
    /// It was cut off.
    pub unfinished: bool,
}

/// Makes this machine's member of etcd the only one, or has it stand down. Repeating it changes nothing.
///
/// # Errors
/// At the step `quorum` when etcd has a leader, and so its quorum: nothing is changed then.
pub async fn recover_quorum(cx: RunCx, state: State, plan: QuorumPlan) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    has_own_etcd(&kube, STEP, "no quorum is recovered")?;
    if plan.stand_down {
        stand_down(&kube, &plan).await?;
    } else {
        is_of(&kube, &plan.cluster_id)?;
        alone(&kube, &plan.incident).await?;
    }
    Ok(kube.done())
}

/// The last recovery from this machine's member.
pub(super) fn last(state: &State) -> Result<Option<QuorumRecovery>, StateError> {
    if let Some(kept) = Kept::of(state)? {
        return Ok(Some(QuorumRecovery { incident: kept.incident, unfinished: true }));
    }
    Ok(state.read(RECOVERED)?.map(|incident| QuorumRecovery { incident, unfinished: false }))
}

/// What was noted of recoveries is of a cluster that this machine has left.
pub(super) fn forget(kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
    for note in [KEPT, STOOD_DOWN, RECOVERED] {
        kube.state.burn(note).map_err(failed(step, "forget the recovery of etcd"))?;
    }
    Ok(())
}

async fn stand_down(kube: &Kube<'_>, plan: &QuorumPlan) -> Result<(), Failure> {
    // Also a join that was cut off may have a member that votes.
    if authority(kube)? != plan.cluster_id {
        return Err(foreign("this machine is of another cluster than the one that is meant"));
    }
    if Kept::of(kube.state).map_err(failed(STEP, READ))?.is_some() {
        return Err(failure(STEP, "a recovery from this very member was cut off: go on with that one"));
    }
    let since = Instant::now();
    let manifest = manifest(kube)?;
    if let Some(manifest) = &manifest {
        has_no_leader(kube).await?;
        kube.cx.step_began(STEP, 1);
        kube.state.write(STOOD_DOWN, manifest).map_err(failed(STEP, "keep the manifest of etcd"))?;
    }
    stop(kube).await?;
    if manifest.is_some() {
        let why = format!("the cluster goes on from another member: {}", plan.incident);
        kube.made(STEP, "stop etcd on this machine for good", &why, since);
    }
    Ok(())
}

async fn alone(kube: &Kube<'_>, incident: &str) -> Result<(), Failure> {
    let last = last(kube.state).map_err(failed(STEP, READ))?;
    if last.is_some_and(|last| !last.unfinished && last.incident == incident) {
        return Ok(());
    }
    let since = Instant::now();
    let mut kept = match Kept::of(kube.state).map_err(failed(STEP, READ))? {
        Some(kept) => kept,
        None => begin(kube, incident).await?,
    };
    kube.cx.step_began(STEP, 1);
    if !kept.alone {
        force(kube, &kept).await?;
        kept.alone = true;
        kept.note(kube)?;
    }
    let plain = only_own(&kept.manifest);
    if manifest(kube)?.as_ref() != Some(&plain) {
        stop(kube).await?;
        write(kube, &plain)?;
    }
    kubelet::up(kube, STEP).await?;
    wait(kube, Want::Alone).await?;
    kube.state.write(RECOVERED, incident).map_err(failed(STEP, "note the recovery of etcd"))?;
    kube.state.burn(KEPT).map_err(failed(STEP, "forget the manifest of etcd that was kept"))?;
    kube.made(STEP, "make the etcd of this machine a cluster of one", incident, since);
    Ok(())
}

/// Keeps what there is, once it is sure that nobody agrees on anything.
async fn begin(kube: &Kube<'_>, incident: &str) -> Result<Kept, Failure> {
    let none = || failure(STEP, format!("{MANIFEST} is missing: this control plane has no etcd of its own"));
    let manifest = manifest(kube)?.ok_or_else(none)?;
    forced(&manifest).ok_or_else(unknown)?;
    has_no_leader(kube).await?;
    let since = kube.host().now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let kept = Kept { incident: incident.to_owned(), since, manifest, alone: false };
    kept.note(kube)?;
    Ok(kept)
}

/// Has the member forget the others. Nobody has joined it yet, so it may do so more than once.
async fn force(kube: &Kube<'_>, kept: &Kept) -> Result<(), Failure> {
    let forced = forced(&kept.manifest).ok_or_else(unknown)?;
    if manifest(kube)?.as_ref() != Some(&forced) {
        stop(kube).await?;
        copy_aside(kube, kept.since).await?;
        write(kube, &forced)?;
    }
    kubelet::up(kube, STEP).await?;
    wait(kube, Want::Alone).await
}

fn unknown() -> Failure {
    failure(STEP, format!("{MANIFEST} is not of a form that is known: its command does not begin with `etcd`"))
}

fn manifest(kube: &Kube<'_>) -> Result<Option<String>, Failure> {
    kube.host().text(MANIFEST).map_err(failed(STEP, &format!("read {MANIFEST}")))
}

fn write(kube: &Kube<'_>, text: &str) -> Result<(), Failure> {
    kube.may_go_on(STEP)?;
    let written = kube.host().write(MANIFEST, text.as_bytes(), Access::PRIVATE);
    written.map_err(failed(STEP, &format!("write {MANIFEST}")))
}

/// While somebody leads, most members agree, and there is nothing to recover. A member that has just started may not have heard of him yet.
async fn has_no_leader(kube: &Kube<'_>) -> Result<(), Failure> {
    for _ in 0..LOOKS {
        if kube.host().etcd().standing(OWN).await.is_ok_and(|standing| standing.has_leader) {
            return Err(failure(QUORUM, "etcd has a leader, and so its quorum: there is nothing to recover"));
        }
        kube.pause(QUORUM, Duration::from_secs(2)).await?;
    }
    Ok(())
}

/// Takes the manifest away and waits until etcd answers no more, so that nothing changes in its folder.
async fn stop(kube: &Kube<'_>) -> Result<(), Failure> {
    kube.may_go_on(STEP)?;
    kube.host().remove(MANIFEST).map_err(failed(STEP, &format!("remove {MANIFEST}")))?;
    kubelet::up(kube, STEP).await?;
    wait(kube, Want::Stopped).await
}

/// What the folder held, for whoever needs it after all.
async fn copy_aside(kube: &Kube<'_>, since: u64) -> Result<(), Failure> {
    let aside = format!("{BACKUPS}/before-recovery-{since}");
    if kube.host().exists(&aside).map_err(failed(STEP, &format!("look at {aside}")))? {
        return Ok(());
    }
    let began = Instant::now();
    let part = format!("{aside}.part");
    remove_all(kube, STEP, &part).await?;
    kube.must(STEP, &Command::new("/usr/bin/install", ["-d", "-m", "0700", BACKUPS])).await?;
    let copy = Command::new("/usr/bin/cp", ["-a", "--reflink=auto", DATA, &part]).timeout(COPY);
    kube.must(STEP, &copy).await?;
    kube.must(STEP, &Command::new("/usr/bin/mv", ["--no-target-directory", &part, &aside])).await?;
    kube.made(STEP, &format!("copy {DATA} to {aside}"), "what it holds is there once more", began);
    Ok(())
}

/// What etcd is to come to.
#[derive(Clone, Copy)]
enum Want {
    Stopped,
    Alone,
}

impl Want {
    fn words(self) -> &'static str {
        match self {
            Self::Stopped => "etcd is to stop",
            Self::Alone => "etcd is to be the only member",
        }
    }

    /// Fine, or why it is not so.
    async fn look(self, kube: &Kube<'_>) -> Result<(), String> {
        let etcd = kube.host().etcd();
        let standing = etcd.standing(OWN).await;
        match self {
            Self::Stopped if standing.is_ok() || etcd.members(OWN).await.is_ok() => Err("it answers still".to_owned()),
            Self::Stopped => Ok(()),
            Self::Alone => {
                if !standing.map_err(|error| chain(&error))?.has_leader {
                    return Err("it knows no leader".to_owned());
                }
                let members = etcd.members(OWN).await.map_err(|error| chain(&error))?;
                if members.len() == 1 { Ok(()) } else { Err(format!("it knows {} members", members.len())) }
            }
        }
    }
}

async fn wait(kube: &Kube<'_>, want: Want) -> Result<(), Failure> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let Err(why) = want.look(kube).await else { return Ok(()) };
        if tokio::time::Instant::now() > until {
            let (words, time) = (want.words(), PATIENCE.as_secs());
            return Err(failure(STEP, format!("{words}, and after {time} s it is not so: {why}")));
        }
        kube.pause(STEP, Duration::from_secs(1)).await?;
    }
}

/// The manifest with the flag; `None` if it is not kubeadm's.
fn forced(manifest: &str) -> Option<String> {
    let own = only_own(manifest);
    let (before, after) = own.split_once("\n    - etcd\n")?;
    Some(format!("{before}\n    - etcd\n    - {FLAG}\n{after}"))
}

/// The manifest that names nobody but this member.
fn only_own(manifest: &str) -> String {
    let value = |option: &str| manifest.lines().find_map(|line| line.trim().strip_prefix(option));
    let Some(name) = value("- --name=") else { return manifest.to_owned() };
    let peers = value(PEERS).unwrap_or_default();
    let Some(own) = peers.split(',').find(|peer| peer.starts_with(&format!("{name}="))) else {
        return manifest.to_owned();
    };
    manifest.replace(&format!("{PEERS}{peers}"), &format!("{PEERS}{own}"))
}

/// What is kept until etcd stands again.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    incident: String,
    /// Seconds since 1970 when it was begun.
    since: u64,
    /// As it was before.
    manifest: String,
    /// The member has said that it is the only one.
    alone: bool,
}

impl Kept {
    fn of(state: &State) -> Result<Option<Self>, StateError> {
        Ok(state.read(KEPT)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn note(&self, kube: &Kube<'_>) -> Result<(), Failure> {
        let text = serde_json::to_string(self).map_err(failed(STEP, "note the recovery of etcd"))?;
        kube.state.write(KEPT, &text).map_err(failed(STEP, "note the recovery of etcd"))
    }
}

const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
const FLAG: &str = "--force-new-cluster";
const PEERS: &str = "- --initial-cluster=";
const DATA: &str = "/var/lib/etcd/member";
const BACKUPS: &str = "/var/backups/groundwork/etcd";
const KEPT: &str = "cluster/quorum-recovery.json";
/// The last incident after which this member went on alone.
const RECOVERED: &str = "cluster/quorum-recovered";
/// The manifest, for a person who needs it after all.
const STOOD_DOWN: &str = "cluster/etcd-stood-down.yaml";
const STEP: &str = "etcd";
const READ: &str = "read the note of a recovery of etcd";
/// How often a leader is looked for, two seconds apart: an election takes one.
const LOOKS: u32 = 5;
/// A kubelet waits up to five minutes before it starts again what has failed again and again.
const PATIENCE: Duration = Duration::from_secs(400);
const COPY: Duration = Duration::from_secs(1_800);

#[cfg(test)]
mod tests {
    use super::*;

    const KUBEADMS: &str = "spec:\n  containers:\n  - command:\n    - etcd\n    - --initial-cluster=cp-1=https://192.0.2.11:2380,cp-2=https://192.0.2.12:2380\n    - --initial-cluster-state=existing\n    - --name=cp-2\n    image: etcd\n";

    #[test]
    fn the_manifest_of_a_cluster_of_one_names_this_member_alone() {
        let forced = forced(KUBEADMS).unwrap();
        assert!(
            forced.contains(
                "    - etcd\n    - --force-new-cluster\n    - --initial-cluster=cp-2=https://192.0.2.12:2380\n"
            ),
            "{forced}"
        );
        assert_eq!(forced.replace("    - --force-new-cluster\n", ""), only_own(KUBEADMS));
    }

    #[test]
    fn any_text_is_answered() {
        assert_eq!(forced("kind: Pod\n"), None);
        total::text("etcd-manifest-forced", &[KUBEADMS], forced);
    }
}
