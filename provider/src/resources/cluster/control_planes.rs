//! The control planes, of which none is special: whatever is done to a cluster is done through one that is well.
//!
//! All that the state or the configuration know are asked at once. One is well if it is a control plane of this cluster, by its CA, and its
//! API server answers. The first of the map may be down, removed, replaced or renamed like any other; a cluster is initialised where
//! no machine has one, and nowhere else.

use super::model::Cluster;
use super::{endpoint, upgrade};
use crate::agents::{ClusterStatus, Endpoint, Error, Standing, Until, Wait, again};
use crate::context::Cx;
use crate::explain;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;
use tf::{Diagnostic, chain};
use trust::Role;

/// A control plane's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plane {
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
}

/// What one said.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) plane: Plane,
    pub(super) said: Result<ClusterStatus, Error>,
}

/// A control plane that is well, and how it sees the cluster.
#[derive(Debug, Clone)]
pub(super) struct Through {
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
    pub(super) status: ClusterStatus,
}

/// What all of them together tell.
pub(super) enum Look<'a> {
    /// One is well.
    Well(Box<Through>),
    /// All answer, and nothing of a cluster stands anywhere.
    Gone,
    /// Nobody can say: an operation did not come to its end.
    Unfinished,
    /// Where this cluster stood, another one stands, or none.
    Another(&'a str),
    /// It stands, and no API server answers.
    Silent(&'a ClusterStatus),
    /// No agent answers that could tell.
    Unreachable,
}

/// All that these know, each machine once.
pub(super) fn known(models: &[&Cluster]) -> Result<Vec<Plane>, Diagnostic> {
    let mut seen = BTreeSet::new();
    let mut planes = Vec::new();
    for (name, member) in models.iter().filter_map(|m| m.control_planes.get()).flatten() {
        let endpoint = endpoint(member)?;
        if seen.insert(endpoint.fingerprint.clone()) {
            planes.push(Plane { name: name.clone(), endpoint });
        }
    }
    Ok(planes)
}

/// Asks them all at once.
pub(super) async fn ask(cx: &Cx, planes: &[Plane], until: &Until) -> Vec<Asked> {
    let asked = planes.iter().map(async |plane| {
        let said =
            again(|| async { cx.agents.connect(&plane.endpoint, Role::Observer, until).await?.cluster_status().await });
        Asked { plane: plane.clone(), said: said.await }
    });
    join_all(asked).await
}

/// The first that is well, and not of this name: neither here nor in the cluster, where one that gets another name has its old one still.
pub(super) fn well(asked: &[Asked], ours: &str, without: Option<&str>) -> Option<Through> {
    let others = asked.iter().filter(|one| without != Some(one.plane.name.as_str()));
    others
        .filter_map(|one| {
            let status = one.said.as_ref().ok().filter(|status| is_of(status, ours) && status.api_ready)?;
            if without == Some(status.node_name.as_str()) {
                return None;
            }
            let Plane { name, endpoint } = one.plane.clone();
            Some(Through { name, endpoint, status: status.clone() })
        })
        .next()
}

fn is_of(status: &ClusterStatus, ours: &str) -> bool {
    status.standing == Standing::ControlPlane && status.cluster_id == ours
}

/// The newest version that a control plane of this cluster has: an upgrade that was cut off goes on to it.
pub(super) fn version(asked: &[Asked], ours: &str) -> Option<String> {
    let live =
        asked.iter().filter_map(|one| one.said.as_ref().ok()).filter(|status| is_of(status, ours) && status.api_ready);
    let versions = live.map(|status| super::bare(&status.version)).filter(|version| !version.is_empty());
    versions.max_by_key(|version| semver::Version::parse(version).ok().map(|version| upgrade::rank(&version)))
}

/// What they tell together. `ours` is the pin of the cluster's CA, which a creation that came to nothing does not know.
pub(super) fn look<'a>(asked: &'a [Asked], ours: Option<&str>) -> Look<'a> {
    if let Some(through) = ours.and_then(|ours| well(asked, ours, None)) {
        return Look::Well(Box::new(through));
    }
    let told: Vec<&ClusterStatus> = asked.iter().filter_map(|one| one.said.as_ref().ok()).collect();
    if told.is_empty() {
        return Look::Unreachable;
    }
    let stands: Vec<&ClusterStatus> =
        told.iter().copied().filter(|status| status.standing != Standing::Clean).collect();
    if stands.is_empty() {
        return if told.len() == asked.len() { Look::Gone } else { Look::Unreachable };
    }
    let Some(ours) = ours else { return Look::Unfinished };
    if let Some(status) = stands.iter().find(|status| is_of(status, ours)) {
        return Look::Silent(status);
    }
    if stands.iter().any(|status| status.standing == Standing::Partial) {
        return Look::Unfinished;
    }
    Look::Another(stands.first().map_or("", |status| status.cluster_id.as_str()))
}

/// Why none is well.
pub(super) fn nobody(act: &str, asked: &[Asked], ours: &str) -> Diagnostic {
    if let [Asked { said: Err(error), .. }] = asked {
        return explain::agent(act, error);
    }
    if asked.is_empty() {
        return Diagnostic::error(format!("Cannot {act}"))
            .happened("It takes another control plane, and this cluster has only the one.")
            .holds("Nothing was changed.")
            .next("Add a control plane and apply; then do this.");
    }
    if let Look::Another(cluster_id) = look(asked, Some(ours)) {
        return super::not_this_one(act, cluster_id);
    }
    Diagnostic::error(format!("Cannot {act}"))
        .happened(silence(asked, ours))
        .holds("Nothing was changed, and no cluster is made in its place.")
        .next(
            "Look at a control plane's kubelet, `journalctl -u kubelet`, and apply again when its API server answers.",
        )
}

/// Why none of them is well, in a sentence or a line for each.
pub(super) fn silence(asked: &[Asked], ours: &str) -> String {
    if let [Asked { said: Ok(status), .. }] = asked
        && is_of(status, ours)
    {
        return format!("Its API server does not answer: {}", status.api_message);
    }
    let lines: Vec<String> = asked.iter().map(|one| format!("{}: {}", one.plane.name, why(one, ours))).collect();
    explain::listed("None of its control planes can be worked through:", &lines)
}

fn why(asked: &Asked, ours: &str) -> String {
    match &asked.said {
        Err(error) => chain(error),
        Ok(status) if status.standing == Standing::Clean => "nothing of a cluster stands there".to_owned(),
        Ok(status) if status.cluster_id != ours => {
            format!("another cluster stands there, with the CA {}", status.cluster_id)
        }
        Ok(status) if status.standing == Standing::ControlPlane => {
            format!("its API server does not answer: {}", status.api_message)
        }
        Ok(_) => "it is no whole control plane".to_owned(),
    }
}

/// The machine on which a new cluster begins: where a creation that was cut off has begun already, or else the first.
pub(super) async fn beginning(cx: &Cx, planes: &[Plane], wait: &Wait<'_>, act: &str) -> Result<Plane, Diagnostic> {
    let mut begun: Option<(Standing, &Plane)> = None;
    // One that holds the beginning may be restarting; a second one must not be made meanwhile.
    let asked = join_all(planes.iter().map(async |plane| {
        let agent = cx.agents.reach(&plane.endpoint, Role::Observer, wait, PATIENCE);
        async { agent.await?.cluster_status().await }.await
    }));
    for (plane, said) in planes.iter().zip(asked.await) {
        let status = said.map_err(|error| explain::agent(act, &error))?;
        let is_further = begun.is_none_or(|(standing, _)| rank(status.standing) > rank(standing));
        if is_further {
            begun = Some((status.standing, plane));
        }
    }
    let (_, plane) = begun.ok_or_else(|| Diagnostic::bug("a cluster without control plane passed validation"))?;
    Ok(plane.clone())
}

/// How far a machine is on the way to a control plane.
fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Clean | Standing::Worker => 0,
        Standing::Partial => 1,
        Standing::ControlPlane => 2,
    }
}

/// How long a machine may give no answer: its agent, or the network, may be restarting.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "sha256:00";

    fn asked(name: &str, said: Result<ClusterStatus, Error>) -> Asked {
        let endpoint = Endpoint { address: format!("{name}:7443"), fingerprint: name.to_owned() };
        Asked { plane: Plane { name: name.to_owned(), endpoint }, said }
    }

    fn status(standing: Standing, cluster_id: &str, api_ready: bool) -> Result<ClusterStatus, Error> {
        let version = "v1.36.3".to_owned();
        Ok(ClusterStatus {
            standing,
            cluster_id: cluster_id.to_owned(),
            api_ready,
            version,
            ..ClusterStatus::default()
        })
    }

    fn away() -> Result<ClusterStatus, Error> {
        Err(Error::Unreachable { address: "192.0.2.11:7443".to_owned(), why: "no answer in time".to_owned() })
    }

    fn good() -> Result<ClusterStatus, Error> {
        status(Standing::ControlPlane, OURS, true)
    }

    fn word(all: Vec<Result<ClusterStatus, Error>>, ours: Option<&str>) -> String {
        let all: Vec<Asked> =
            all.into_iter().enumerate().map(|(at, said)| asked(&format!("cp-{}", at + 1), said)).collect();
        match look(&all, ours) {
            Look::Well(through) => through.name,
            Look::Gone => "gone".to_owned(),
            Look::Unfinished => "unfinished".to_owned(),
            Look::Another(cluster_id) => format!("another {cluster_id}"),
            Look::Silent(_) => "silent".to_owned(),
            Look::Unreachable => "unreachable".to_owned(),
        }
    }

    #[test]
    fn the_first_that_is_well_is_taken_whichever_it_is() {
        let clean = || status(Standing::Clean, "", false);
        let silent = || status(Standing::ControlPlane, OURS, false);
        let other = || status(Standing::ControlPlane, "sha256:01", true);
        let partial = || status(Standing::Partial, OURS, false);
        for (all, want) in [
            (vec![good(), good(), good()], "cp-1"),
            (vec![away(), good(), good()], "cp-2"),
            (vec![clean(), silent(), good()], "cp-3"),
            (vec![other(), partial(), good()], "cp-3"),
            (vec![clean(), clean()], "gone"),
            (vec![clean(), away()], "unreachable"),
            (vec![away(), away()], "unreachable"),
            (vec![away(), silent()], "silent"),
            (vec![other(), silent()], "silent"),
            (vec![clean(), partial()], "unfinished"),
            (vec![clean(), other()], "another sha256:01"),
        ] {
            assert_eq!(word(all, Some(OURS)), want);
        }
        assert_eq!(word(vec![good()], None), "unfinished", "nobody knows whose it is");
        assert_eq!(word(vec![clean()], None), "gone");
        assert_eq!(word(vec![away(), clean()], None), "unreachable");
    }

    #[test]
    fn one_that_leaves_is_not_worked_through() {
        let all = [asked("cp-1", good()), asked("cp-2", good())];
        assert_eq!(well(&all, OURS, Some("cp-1")).unwrap().name, "cp-2");
        assert!(well(&all[..1], OURS, Some("cp-1")).is_none());
        let renamed = good().map(|status| ClusterStatus { node_name: "second".to_owned(), ..status });
        let all = [asked("cp-1", renamed), asked("cp-2", good())];
        assert_eq!(well(&all, OURS, Some("second")).unwrap().name, "cp-2", "it is the machine that leaves");
    }

    #[test]
    fn the_newest_version_counts() {
        let newer = |version: &str| good().map(|status| ClusterStatus { version: version.to_owned(), ..status });
        let all = [asked("a", newer("v1.9.9")), asked("b", newer("v1.36.4")), asked("c", good()), asked("d", away())];
        assert_eq!(version(&all, OURS).as_deref(), Some("1.36.4"));
        assert_eq!(version(&all, "sha256:01"), None);
    }

    #[test]
    fn why_nobody_is_well_is_told_of_each() {
        let all = [asked("cp-1", away()), asked("cp-2", status(Standing::Clean, "", false))];
        let said = nobody("change cluster main", &all, OURS).to_string();
        assert!(
            said.contains("cp-1: the agent at") && said.contains("cp-2: nothing of a cluster stands there"),
            "{said}"
        );
        let other = [asked("cp-1", status(Standing::ControlPlane, "sha256:01", true))];
        let said = nobody("change cluster main", &other, OURS).to_string();
        assert!(said.contains("Another cluster, with the CA sha256:01"), "{said}");
    }
}
