//! A lost quorum of etcd, recovered from one control plane: by an explicit block, once for each incident that it names.
//!
//! Nothing else makes a cluster of one out of what was a majority: as long as somebody could still agree without the survivor, it would
//! be two clusters. So each other control plane either answers, and its etcd stands down before anything else, or is not to be one any more.
//! What a refresh saw tells the plan what an apply will do, or why it will refuse; the survivor's agent notes which incident is over.

use super::control_planes::{self, Asked};
use super::membership::{Crew, Members, stays};
use super::model::{Cluster, Member};
use crate::agents::{ClusterStatus, Error, Job, Recovery, Standing, form};
use crate::context::Cx;
use crate::explain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tf::{Attr, Diagnostic, Diagnostics, Model, Path, Private, Row, block, required};

/// From whom, and after what.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct QuorumRecovery {
    pub(super) control_plane: Attr<String>,
    pub(super) incident: Attr<String>,
}

impl Model for QuorumRecovery {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { control_plane, incident } = self;
        vec![
            required(
                "control_plane",
                control_plane,
                "Name of the control plane whose member of etcd is left, with its data: one of `control_planes`.",
            )
            .check(form::node_name),
            required(
                "incident",
                incident,
                "What has happened, in words of yours, such as `2026-11-27 rack 3`: one line. A recovery is made once for each: another loss needs another one.",
            )
            .check(form::incident),
        ]
    }
}

pub(super) fn row(quorum_recovery: &mut Attr<QuorumRecovery>) -> Row<'_> {
    block(
        "quorum_recovery",
        quorum_recovery,
        "For a cluster of kubeadm most of whose control planes are lost for good, so that etcd agrees on nothing any more: the etcd of one control plane is made \
         a cluster of one, with what its member holds, and the others join it anew. What the lost members had agreed on and this one had not heard of is \
         lost. Each other control plane must either answer, and is reset and joined again, or be taken out of `control_planes` or made anew in the same \
         apply: one that only gives no answer might still agree with others. An apply refuses it while etcd has its quorum. Take the block out when \
         the cluster is whole again.",
    )
}

/// What is asked for, where that is news.
#[derive(Debug, PartialEq)]
struct Wish {
    survivor: String,
    incident: String,
}

impl Wish {
    fn of(prior: &Cluster, m: &Cluster) -> Option<Self> {
        let wanted = m.quorum_recovery.get().filter(|_| prior.quorum_recovery != m.quorum_recovery)?;
        Some(Self { survivor: wanted.control_plane.cloned()?, incident: wanted.incident.cloned()? })
    }
}

/// What a refresh saw of etcd's quorum.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    /// Who says that it is there.
    holds: Option<String>,
    /// Control planes that gave no answer, each with the reason.
    silent: BTreeMap<String, String>,
    /// After which incident a control plane has gone on alone, or is about to.
    recovered: BTreeMap<String, Recovery>,
}

impl Seen {
    fn of(asked: &[Asked], ours: Option<&str>) -> Self {
        let silent = asked.iter().filter_map(|one| {
            let error = one.said.as_ref().err().filter(|error| !is_replaced(error))?;
            Some((one.plane.name.clone(), tf::chain(error)))
        });
        let recovered = asked
            .iter()
            .filter_map(|one| Some((one.plane.name.clone(), one.said.as_ref().ok()?.quorum_recovery.clone()?)));
        let holds = ours.and_then(|ours| holds(asked, ours));
        Self { holds: holds.map(str::to_owned), silent: silent.collect(), recovered: recovered.collect() }
    }

    /// Whether a wish was fulfilled.
    fn is_over(&self, wish: &Wish) -> bool {
        let last = self.recovered.get(&wish.survivor);
        last.is_some_and(|last| last.incident == wish.incident && !last.unfinished)
    }

    /// From whom a recovery was cut off.
    fn begun(&self) -> Option<(&str, &str)> {
        let begun = self.recovered.iter().find(|(_, last)| last.unfinished);
        begun.map(|(name, last)| (name.as_str(), last.incident.as_str()))
    }

    /// Whether etcd has its quorum, and not by a recovery that goes on.
    fn holds(&self) -> Option<&str> {
        if self.begun().is_some() { None } else { self.holds.as_deref() }
    }
}

/// The first control plane that tells of a leader, or whose API server answers.
fn holds<'a>(asked: &'a [Asked], ours: &str) -> Option<&'a str> {
    let tells = |own: &ClusterStatus| own.api_ready || own.etcd.iter().any(|member| member.ailing.is_none());
    let is_one = |one: &&Asked| one.said.as_ref().is_ok_and(|own| is_of(own, ours) && tells(own));
    asked.iter().find(is_one).map(|one| one.plane.name.as_str())
}

/// Notes what plans need to know.
pub(super) fn look(cx: &Cx, (name, ours): (&str, Option<&str>), asked: &[Asked]) {
    let seen = Seen::of(asked, ours);
    if let Some((survivor, incident)) = seen.begun() {
        cx.warn(cut_off(
            Diagnostic::warning(format!("Cluster {name} is in the middle of a recovery")),
            survivor,
            incident,
        ));
    }
    cx.private().set(SEEN, &seen);
}

/// What a plan should say of it.
pub(super) fn said(prior: Option<&Cluster>, m: &Cluster, private: &Private) -> Option<Diagnostic> {
    let prior = prior?;
    let wish = Wish::of(prior, m)?;
    let seen: Seen = private.get(SEEN).unwrap_or_default();
    if seen.is_over(&wish) {
        return None;
    }
    let name = m.name.or("");
    if let Some(refusal) = refusal(&name, &wish, &seen, (prior, m)) {
        return Some(refusal.diagnostic(Diagnostic::warning).holds(REFUSED));
    }
    let before = prior.control_planes.or(Members::new());
    let fate = |(other, member): (&String, &Member)| {
        let Some(after) = m.control_planes.get() else { return format!("{other}: the apply will know") };
        let what = match (stays(other, member, after), after.contains_key(other)) {
            (true, _) => "its etcd is stopped for good, it is reset with all that its member holds, and joins anew",
            (false, true) => "the machine that takes its place joins; what the one before holds is lost",
            (false, false) => "it is no control plane any more; what it holds is lost",
        };
        format!("{other}: {what}")
    };
    let others = before.iter().filter(|(other, _)| **other != wish.survivor);
    let lines: Vec<String> = others.map(fate).collect();
    let one = format!(
        "{}: its etcd is made a cluster of one, with what its member holds. What others had agreed on without it is lost",
        wish.survivor
    );
    let lines: Vec<String> = [one].into_iter().chain(lines).collect();
    Some(
        Diagnostic::warning(format!("Cluster {name} is recovered from {}", wish.survivor))
            .happened(explain::listed(&format!("This apply, because of {:?}:", wish.incident), &lines))
            .holds(format!("A copy of what the member of {} holds is kept on its machine, in `/var/backups/groundwork/etcd`.", wish.survivor))
            .next("See that machines that are lost are off and stay off: two that come back could go on with the cluster of before.")
            .at("quorum_recovery"),
    )
}

/// Who is to be recovered from must stay a control plane.
pub(super) fn problem(m: &Cluster) -> Option<Diagnostic> {
    let survivor = m.quorum_recovery.get()?.control_plane.cloned()?;
    let is_one = m.control_planes.get()?.contains_key(&survivor);
    (!is_one).then(|| {
        Diagnostic::error(format!("Cannot recover from {survivor}"))
            .happened("`quorum_recovery.control_plane` names none of `control_planes`.")
            .next("Name the control plane whose etcd is left.")
            .at(at())
    })
}

fn at() -> Path {
    Path::from("quorum_recovery").name("control_plane")
}

/// Why a recovery that is asked for is not made.
struct Refusal {
    what: String,
    why: String,
    next: String,
    at: Path,
}

impl Refusal {
    fn diagnostic(self, kind: impl FnOnce(String) -> Diagnostic) -> Diagnostic {
        kind(format!("Cannot {}", self.what)).happened(self.why).next(self.next).at(self.at)
    }
}

fn refusal(name: &str, wish: &Wish, seen: &Seen, (prior, m): (&Cluster, &Cluster)) -> Option<Refusal> {
    let survivor = &wish.survivor;
    let refusal = |why: String, next: &str, at: Path| {
        let what = format!("recover cluster {name} from {survivor}");
        Some(Refusal { what, why, next: next.to_owned(), at })
    };
    if let Some((begun, incident)) = seen.begun().filter(|(begun, _)| begun != survivor) {
        let why = format!("A recovery from {begun} was begun, because of {incident:?}, and cut off.");
        return refusal(why, "Name that control plane: its etcd may hold what was written since.", at());
    }
    if let Some(by) = seen.holds() {
        let why = format!("etcd has its quorum, says {by}: there is nothing to recover.");
        let next = "Take `quorum_recovery` out. A control plane that is lost while the others agree is replaced like any other.";
        return refusal(why, next, "quorum_recovery".into());
    }
    if let Some(silence) = seen.silent.get(survivor) {
        let why = format!("{survivor} gives no answer: {silence}.");
        let next = "Name a control plane that answers and has its data. If none has, begin a new cluster with a snapshot: `restore_from`.";
        return refusal(why, next, at());
    }
    let (before, after) = (prior.control_planes.or(Members::new()), m.control_planes.get()?);
    if before.get(survivor).is_none_or(|was| !stays(survivor, was, after)) {
        let why = format!(
            "The machine of {survivor} is made anew in this very plan, or was no control plane before: it has no data."
        );
        return refusal(why, "Name a control plane whose machine stays, and has its data.", at());
    }
    let might_agree = |(other, _): &(&String, &String)| before.get(*other).is_some_and(|was| stays(other, was, after));
    let lines: Vec<String> =
        seen.silent.iter().filter(might_agree).map(|(other, why)| format!("{other}: {why}")).collect();
    if lines.is_empty() {
        return None;
    }
    refusal(
        explain::listed("Of these nobody knows whether their etcd goes on without it:", &lines),
        "Switch them off for good and take them out of `control_planes`, or have their machines made anew, in the same apply; or start them, so that they can be told to stop.",
        "control_planes".into(),
    )
}

/// A recovery that is not asked for any more, and not over.
fn cut_off(diagnostic: Diagnostic, survivor: &str, incident: &str) -> Diagnostic {
    diagnostic
        .happened(format!("The etcd of {survivor} was about to be made a cluster of one, because of {incident:?}, and that was cut off."))
        .next(format!("Apply with a block `quorum_recovery` whose `control_plane` is {survivor:?} and whose `incident` is {incident:?}: it goes on from there."))
        .at("quorum_recovery")
}

impl Crew<'_> {
    /// Makes a cluster of one out of a lost quorum, if that is asked for; how the control planes stand then.
    pub(super) async fn recover_quorum(
        &self,
        prior: &Cluster,
        m: &Cluster,
        asked: Vec<Asked>,
    ) -> Result<Vec<Asked>, Diagnostics> {
        let seen = Seen::of(&asked, Some(&self.cluster_id));
        let Some(wish) = Wish::of(prior, m).filter(|wish| !seen.is_over(wish)) else {
            let Some((survivor, incident)) = seen.begun() else { return Ok(asked) };
            let error = Diagnostic::error(format!("Cannot change cluster {}", self.name)).holds(UNCHANGED);
            return Err(cut_off(error, survivor, incident).into());
        };
        if let Some(refusal) = refusal(&self.name, &wish, &seen, (prior, m)) {
            return Err(refusal.diagnostic(Diagnostic::error).holds(UNCHANGED).into());
        }
        let survivor = wish.survivor.as_str();
        let is_survivor = |one: &&Asked| one.plane.name == survivor && self.is_part(&one.said);
        let own = asked.iter().find(is_survivor).ok_or_else(|| self.no_survivor(survivor))?;
        let others = asked.iter().filter(|one| one.plane.endpoint != own.plane.endpoint && self.is_part(&one.said));
        for one in others {
            (self.wait.progress)(&format!("{}: stopping its etcd for good", one.plane.name));
            self.quorum(one, &wish, true).await?;
        }
        (self.wait.progress)(&format!("{survivor}: making its etcd a cluster of one"));
        self.quorum(own, &wish, false).await?;
        (self.wait.progress)(&format!("{survivor}: waiting for its API server"));
        self.through(None, STARTS).await?;
        Ok(control_planes::ask(self.cx, &self.planes, &self.wait.until()).await)
    }

    async fn quorum(&self, one: &Asked, wish: &Wish, stand_down: bool) -> Result<(), Diagnostic> {
        let (cluster_id, incident) = (self.cluster_id.clone(), wish.incident.clone());
        let job = Job::QuorumRecover { cluster_id, incident, stand_down };
        let report = self.cx.agents.run(&one.plane.endpoint, &job, self.wait).await;
        let act = format!("recover cluster {} from {}", self.name, wish.survivor);
        let report = report.map_err(|error| not_recovered(&act, &one.plane.name, &error))?;
        self.noted(&format!("control plane {}", one.plane.name), &report);
        Ok(())
    }

    /// Whether something of this cluster stands there that may have a member of etcd.
    fn is_part(&self, said: &Result<ClusterStatus, Error>) -> bool {
        said.as_ref().is_ok_and(|own| is_of(own, &self.cluster_id))
    }

    fn no_survivor(&self, survivor: &str) -> Diagnostic {
        Diagnostic::error(format!("Cannot recover cluster {} from {survivor}", self.name))
            .happened(format!("{survivor} is no control plane of this cluster, by what stands on its machine."))
            .holds(UNCHANGED)
            .next("Name a control plane that has its data. If none has, begin a new cluster with a snapshot: `restore_from`.")
            .at(at())
    }
}

fn is_of(own: &ClusterStatus, ours: &str) -> bool {
    matches!(own.standing, Standing::ControlPlane | Standing::Partial) && own.cluster_id == ours
}

/// Another machine stands there: the one before it is gone.
fn is_replaced(error: &Error) -> bool {
    matches!(error, Error::OtherKey { .. })
}

fn not_recovered(act: &str, name: &str, error: &Error) -> Diagnostic {
    match error {
        Error::Run { failure, .. } if failure.step == "quorum" => Diagnostic::error(format!("Cannot {act}"))
            .happened(format!("{name} says: {}.", failure.message))
            .holds("Its member was left as it is.")
            .next("Look at `journalctl -u kubelet` on a control plane, and apply again. Take `quorum_recovery` out if an API server answers.")
            .at("quorum_recovery"),
        _ => explain::agent(act, error),
    }
}

/// Key in the cluster's private state.
const SEEN: &str = "quorum";
const REFUSED: &str = "An apply refuses this, and changes nothing else of the cluster with it.";
const UNCHANGED: &str = "Nothing was changed.";
/// A kubelet waits up to five minutes before it starts again what has failed again and again.
const STARTS: Duration = Duration::from_secs(420);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::{Endpoint, EtcdMember};
    use crate::endpoint::EndpointModel;
    use crate::resources::cluster::control_planes::Plane;

    const OURS: &str = "sha256:00";

    /// Control planes by name, each with the fingerprint of its machine.
    fn cluster(planes: &[(&str, &str)], recovery: Option<(&str, &str)>) -> Cluster {
        let member = |(name, fingerprint): &(&str, &str)| {
            let endpoint = EndpointModel { address: format!("{name}:7443").into(), fingerprint: (*fingerprint).into() };
            ((*name).to_owned(), Member { endpoint: endpoint.into(), ..Member::default() })
        };
        let recovery = recovery.map(|(control_plane, incident)| QuorumRecovery {
            control_plane: control_plane.into(),
            incident: incident.into(),
        });
        Cluster {
            name: "main".into(),
            control_planes: planes.iter().map(member).collect::<Members>().into(),
            quorum_recovery: recovery.map_or(Attr::Null, Attr::Known),
            ..Cluster::default()
        }
    }

    const THREE: [(&str, &str); 3] = [("cp-1", "1"), ("cp-2", "2"), ("cp-3", "3")];

    fn asked(name: &str, said: Result<ClusterStatus, Error>) -> Asked {
        let endpoint = Endpoint { address: format!("{name}:7443"), fingerprint: name.to_owned() };
        Asked { plane: Plane { name: name.to_owned(), endpoint }, said }
    }

    /// A control plane whose etcd knows no leader.
    fn lost() -> ClusterStatus {
        let member = |name: &str| EtcdMember {
            name: name.to_owned(),
            ailing: Some("it knows no leader".to_owned()),
            ..EtcdMember::default()
        };
        ClusterStatus {
            standing: Standing::ControlPlane,
            cluster_id: OURS.to_owned(),
            etcd: ["cp-1", "cp-2", "cp-3"].map(member).into(),
            ..ClusterStatus::default()
        }
    }

    fn silent() -> Result<ClusterStatus, Error> {
        Err(Error::Unreachable { address: "192.0.2.12:7443".to_owned(), why: "no answer".to_owned() })
    }

    fn replaced() -> Result<ClusterStatus, Error> {
        let (expected, found) = (trust::Pin::of(b"a"), trust::Pin::of(b"b"));
        Err(Error::OtherKey { address: "192.0.2.13:7443".to_owned(), expected, found })
    }

    /// What a plan of a recovery from cp-1 says, after a refresh that saw these three.
    fn told(said_by: [Result<ClusterStatus, Error>; 3], after: &[(&str, &str)]) -> String {
        let [one, two, three] = said_by;
        let all = [asked("cp-1", one), asked("cp-2", two), asked("cp-3", three)];
        let private = Private::default();
        private.set(SEEN, &Seen::of(&all, Some(OURS)));
        let m = cluster(after, Some(("cp-1", "a fire")));
        said(Some(&cluster(&THREE, None)), &m, &private).map(|said| said.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_plan_says_what_becomes_of_each_control_plane() {
        let words = told([Ok(lost()), Ok(lost()), replaced()], &[("cp-1", "1"), ("cp-2", "2"), ("cp-3", "4")]);
        for part in [
            "Cluster main is recovered from cp-1",
            "because of \"a fire\"",
            "cp-1: its etcd is made a cluster of one",
            "cp-2: its etcd is stopped for good",
            "cp-3: the machine that takes its place joins",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        let words = told([Ok(lost()), Ok(lost()), silent()], &[("cp-1", "1"), ("cp-2", "2")]);
        assert!(
            words.contains("recovered from cp-1") && words.contains("cp-3: it is no control plane any more"),
            "{words}"
        );
    }

    #[test]
    fn a_plan_tells_what_the_apply_will_refuse() {
        let leads = || {
            let mut own = lost();
            own.etcd[0].ailing = None;
            Ok(own)
        };
        for (all, after, part) in [
            ([Ok(lost()), leads(), Ok(lost())], &THREE[..], "etcd has its quorum, says cp-2"),
            ([Ok(lost()), Ok(ClusterStatus { api_ready: true, ..lost() }), silent()], &THREE, "etcd has its quorum"),
            ([silent(), Ok(lost()), Ok(lost())], &THREE, "cp-1 gives no answer"),
            ([Ok(lost()), Ok(lost()), silent()], &THREE, "cp-3: the agent at 192.0.2.12:7443"),
            ([Ok(lost()), Ok(lost()), Ok(lost())], &[("cp-1", "4"), THREE[1], THREE[2]], "it has no data"),
        ] {
            let words = told(all, after);
            assert!(words.contains("Cannot recover cluster main from cp-1") && words.contains(part), "{part}: {words}");
            assert!(words.contains("An apply refuses this"), "{words}");
        }
    }

    #[test]
    fn a_recovery_is_made_once_for_each_incident() {
        let (none, fire) = (cluster(&THREE, None), cluster(&THREE, Some(("cp-1", "fire"))));
        let flood = cluster(&THREE, Some(("cp-1", "flood")));
        assert_eq!(Wish::of(&none, &fire).unwrap().survivor, "cp-1");
        assert_eq!(Wish::of(&fire, &flood).unwrap().incident, "flood");
        assert_eq!((Wish::of(&fire, &fire), Wish::of(&fire, &none)), (None, None));
        // The provider was killed behind the recovery.
        let done = |incident: &str, unfinished| {
            let quorum_recovery = Some(Recovery { incident: incident.to_owned(), unfinished });
            Ok(ClusterStatus { quorum_recovery, api_ready: true, ..lost() })
        };
        assert_eq!(told([done("a fire", false), Ok(lost()), silent()], &THREE), "");
        assert!(
            told([done("another", false), Ok(lost()), silent()], &THREE).contains("etcd has its quorum, says cp-1")
        );
        let words = told([done("a fire", true), Ok(lost()), Ok(lost())], &THREE);
        assert!(words.contains("is recovered from cp-1"), "{words}");
        let words = told([Ok(lost()), done("a fire", true), Ok(lost())], &THREE);
        assert!(words.contains("A recovery from cp-2 was begun"), "{words}");
    }

    #[test]
    fn the_survivor_is_one_of_the_control_planes() {
        assert_eq!(problem(&cluster(&THREE, Some(("cp-1", "x")))), None);
        let problem = problem(&cluster(&THREE, Some(("cp-4", "x")))).unwrap().to_string();
        assert!(problem.contains("none of `control_planes`"), "{problem}");
    }
}
