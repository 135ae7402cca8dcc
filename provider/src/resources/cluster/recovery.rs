//! What a cluster is kept and brought back by: snapshots of etcd by a timer, a snapshot that it begins with, and certificates that are
//! renewed before they end.

use super::control_planes::Asked;
use super::endpoint;
use super::k3s;
use super::look::Machines;
use super::membership::Crew;
use super::model::Cluster;
use super::s3::{Object, S3};
use crate::agents::{ClusterStatus, Error, Init, Job, NodeCertificate, Scheduled, SnapshotSchedule, Standing, form};
use crate::explain;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tf::check::{at_least, between};
use tf::{Attr, Diagnostic, Diagnostics, Model, Row, Secret, block, optional, required};

/// Snapshots by a timer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Snapshots {
    pub(super) schedule: Attr<String>,
    pub(super) keep: Attr<i64>,
    pub(super) directory: Attr<String>,
    pub(super) s3: Attr<S3>,
}

impl Model for Snapshots {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { schedule, keep, directory, s3 } = self;
        vec![
            required(
                "schedule",
                schedule,
                "When one is taken, as a calendar event of systemd, in the machine's time zone: `daily`, `*-*-* 03:00:00`, `Mon..Fri 22:30`. What a \
                 machine missed while it was off is made up for when it starts.",
            )
            .check(form::calendar),
            optional("keep", keep, "How many stay on each control plane; with each new one the oldest goes.")
                .default(7)
                .check(at_least(1)),
            optional(
                "directory",
                directory,
                "Where they stand: `etcd-20261127030000Z.db`, readable by root alone. Other files there are left alone.",
            )
            .default(DIRECTORY)
            .check(form::file),
            block(
                "s3",
                s3,
                "A bucket of S3, or of what speaks like it (MinIO, Ceph, Garage), that they go to too: a disk that is lost takes what stands on it with \
                 it. Each control plane sends its own, as `PREFIX/HOST NAME/etcd-20261127030000Z.db`. One is taken when the block is new, so that what \
                 is wrong with the bucket is said then; later a snapshot that could not be sent is a line of `drift`, and goes with the next one.",
            ),
        ]
    }
}

/// What a new cluster begins with.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RestoreFrom {
    pub(super) path: Attr<String>,
    pub(super) s3: Attr<Object>,
    pub(super) token_path: Attr<String>,
}

impl Model for RestoreFrom {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { path, s3, token_path } = self;
        vec![
            optional(
                "path",
                path,
                "A snapshot on the machine of the control plane that the cluster is made on, the first one by name: absolute. It must have the sum that \
                 etcd writes behind it, as every snapshot has that was taken with `etcdctl snapshot save`, by K3s or by Groundwork.",
            )
            .check(form::file),
            block(
                "s3",
                s3,
                "A snapshot in a bucket of S3, or of what speaks like it, in the place of `path`. The agent of the control plane that the cluster is made \
                 on fetches it before anything is begun, and compares it with its sum; no copy of it stays.",
            ),
            optional(
                "token_path",
                token_path,
                "With K3s and RKE2: a file on the same machine with the secret that the cluster had when the snapshot was taken, a copy of \
                 `/var/lib/rancher/k3s/server/token`, or of `rke2` there. A secret that does not open the snapshot is refused before anything is done.",
            )
            .check(form::file),
        ]
    }
}

impl RestoreFrom {
    /// For people.
    fn called(&self) -> String {
        self.s3.get().map_or_else(|| self.path.or("(not known yet)"), Object::called)
    }

    /// Without what no state keeps.
    fn of_state(&self) -> Self {
        Self { s3: self.s3.get().map_or(self.s3.clone(), |s3| s3.of_state().into()), ..self.clone() }
    }
}

/// A snapshot comes from one place.
pub(super) fn problem(m: &Cluster) -> Option<Diagnostic> {
    let from = m.restore_from.get()?;
    let why = match (from.path.is_null(), from.s3.is_null()) {
        (true, true) => "`restore_from` names no snapshot.",
        (false, false) => "`restore_from` names two snapshots.",
        _ => return None,
    };
    Some(
        Diagnostic::error(format!("Cannot begin cluster {} with a snapshot", m.name.or("")))
            .happened(why)
            .next("Give it either `path`, of a file on the first control plane's machine, or an `s3` block.")
            .at("restore_from"),
    )
}

pub(super) fn rows<'a>(
    snapshots: &'a mut Attr<Snapshots>,
    restore_from: &'a mut Attr<RestoreFrom>,
    certificate_renewal_days: &'a mut Attr<i64>,
) -> [Row<'a>; 3] {
    [
        block(
            "snapshots",
            snapshots,
            "Snapshots of etcd by the clock: on every control plane a timer of systemd has the agent's program take one of its own member. A timer \
             that somebody stopped or changed, and a snapshot that failed, are lines of `drift`; the next apply sets the timer right and takes \
             the one that failed. The timers go with the block, and with the cluster; the files stay. K3s takes its own besides, unless \
             `config.server` has `etcd-disable-snapshots`.",
        ),
        block(
            "restore_from",
            restore_from,
            "A snapshot of etcd that a new cluster begins with: it has the objects of the cluster that the snapshot is of, and a CA, an endpoint and \
             nodes of its own. Nodes of before are deleted, so that their pods are placed anew and machines can join under their names. \
             `pod_subnet` and `service_subnet` must be those of before, and `version` no older. A cluster of K3s or RKE2 has the CA and the secret of before, too. It is \
             read when the cluster is made, and never again.",
        ),
        optional(
            "certificate_renewal_days",
            certificate_renewal_days,
            "Certificates of a control plane that end within so many days are a line of `drift`, and the next apply renews all of that control plane, \
             one control plane after the other, and restarts what holds them. Kubelets renew their own. `0`: they are only warned of. Default `30`.",
        )
        .check(between(0, 360)),
    ]
}

/// What a plan should say of a snapshot that a cluster begins with.
pub(super) fn said(prior: Option<&Cluster>, m: &Cluster) -> Option<Diagnostic> {
    let name = m.name.or("");
    match prior {
        None => m.restore_from.get().map(|from| {
            Diagnostic::warning(format!("Cluster {name} begins with a snapshot"))
                .happened(format!("It will hold all objects of the etcd snapshot {}.", from.called()))
                .holds(if k3s::is(m) {
                    "Nodes that are in the snapshot and not in this cluster are deleted, and pods placed anew. CA and secret are those of before: who had access has it again."
                } else {
                    "Nodes that are in the snapshot and not in this cluster are deleted, and pods placed anew. Tokens of service accounts that were stored in Secrets count no more."
                })
                .next("See that the cluster that the snapshot is of runs no more where both would do the same work.")
                .at("restore_from")
        }),
        Some(prior) if m.restore_from.is_unknown() || of_state(prior) == of_state(m) => None,
        Some(_) => m.restore_from.is_known().then(|| {
            Diagnostic::warning(format!("Cluster {name} is not restored"))
                .happened("`restore_from` is read when a cluster is made, and this one is.")
                .holds("The state takes the new value; the cluster stays as it is.")
                .next("To begin anew with the snapshot, destroy the cluster and apply again.")
                .at("restore_from")
        }),
    }
}

fn of_state(m: &Cluster) -> Option<RestoreFrom> {
    m.restore_from.get().map(RestoreFrom::of_state)
}

/// The same creation, beginning with what `restore_from` names.
pub(super) fn restored(m: &Cluster, init: Init) -> Init {
    let Some(RestoreFrom { path, s3, token_path }) = m.restore_from.get() else { return init };
    let restore_s3 = s3.get().map(|s3| Box::new(s3.source()));
    Init { restore_from: path.or(""), restore_s3, restore_token_path: token_path.or(""), ..init }
}

/// The diagnostic for a cluster that was not made.
pub(super) fn not_made(m: &Cluster, act: &str, error: &Error) -> Diagnostic {
    let diagnostic = explain::agent(act, error);
    match error {
        Error::Run { failure, .. } if failure.step == "restore" => {
            let is_away = m.restore_from.get().is_some_and(|from| from.s3.is_known());
            let at = tf::Path::from("restore_from");
            diagnostic.at(if is_away { at.name("s3") } else { at })
        }
        _ => diagnostic,
    }
}

/// What a control plane lacks of snapshots and certificates, one line each.
pub(super) fn lacks(m: &Cluster, name: &str, own: &ClusterStatus) -> Vec<String> {
    due(m, name, own).into_iter().chain(unscheduled(m, name, own)).collect()
}

/// That the certificates of a control plane are to be renewed.
pub(super) fn due(m: &Cluster, name: &str, own: &ClusterStatus) -> Option<String> {
    if own.renewal_unfinished {
        return Some(format!(
            "{name}: a renewal of its certificates was cut off, and what runs may hold those of before"
        ));
    }
    let ending = ending(own, within(m)?, now());
    let first = ending.iter().min_by_key(|one| one.ends)?;
    let names: Vec<&str> = ending.iter().map(|one| one.name.as_str()).collect();
    (!own.certificates_external)
        .then(|| format!("{name}: certificates count until {} only: {}", first.until, names.join(", ")))
}

/// Those that kubeadm renews and that end within a time.
fn ending(own: &ClusterStatus, within: Duration, now: u64) -> Vec<&NodeCertificate> {
    let ends_soon = |one: &&NodeCertificate| one.ends < now.saturating_add(within.as_secs());
    own.certificates.iter().filter(|one| !one.authority && one.name != KUBELET).filter(ends_soon).collect()
}

fn unscheduled(m: &Cluster, name: &str, own: &ClusterStatus) -> Option<String> {
    let why = match (wanted(m), &own.snapshots) {
        (None, None) => None,
        (None, Some(_)) => Some("a timer takes snapshots of etcd that nobody declares".to_owned()),
        (Some(_), None) => Some("no timer takes snapshots of etcd".to_owned()),
        (Some(wanted), Some(there)) => fault(there, &wanted),
    };
    why.map(|why| format!("{name}: {why}"))
}

/// What is wrong with a timer.
fn fault(there: &Scheduled, wanted: &SnapshotSchedule) -> Option<String> {
    if there.schedule != *wanted {
        return Some("its timer takes other snapshots of etcd than are declared".to_owned());
    }
    if !there.active {
        return Some("its timer for snapshots of etcd was stopped or changed".to_owned());
    }
    (!there.failure.is_empty())
        .then(|| format!("its last snapshot of etcd failed, and is taken anew: {}", there.failure))
}

fn wanted(m: &Cluster) -> Option<SnapshotSchedule> {
    let Snapshots { schedule, keep, directory, s3 } = m.snapshots.get()?;
    let keep = u32::try_from(keep.or(KEEP)).unwrap_or(u32::MAX);
    let s3 = s3.get().map(|s3| s3.target(keep));
    Some(SnapshotSchedule { schedule: schedule.or(""), keep, directory: directory.or(DIRECTORY), s3 })
}

/// Of its bucket's access key, which the configuration alone has.
fn secret(m: &Cluster) -> Secret<String> {
    let s3 = m.snapshots.get().and_then(|snapshots| snapshots.s3.get());
    s3.map_or_else(|| Secret::from(""), |s3| s3.secret_access_key_wo.or(""))
}

/// How near its end a certificate is renewed; `None`: never.
fn within(m: &Cluster) -> Option<Duration> {
    let days = u64::try_from(m.certificate_renewal_days.or(DAYS)).ok().filter(|days| *days > 0)?;
    Some(DAY * u32::try_from(days).unwrap_or(u32::MAX))
}

/// Certificates that end soon and that no apply renews.
pub(super) fn warnings(m: &Cluster, machines: &Machines) -> Vec<Diagnostic> {
    let now = now();
    let soon = |one: &&NodeCertificate| one.ends < now.saturating_add((DAY * 30).as_secs());
    let mut found = Vec::new();
    for (name, own) in machines {
        let is_ours = |one: &NodeCertificate| {
            !one.authority && one.name != KUBELET && within(m).is_some() && !own.certificates_external
        };
        let left: Vec<&NodeCertificate> = own.certificates.iter().filter(soon).filter(|one| !is_ours(one)).collect();
        found.extend(left.iter().min_by_key(|one| one.ends).map(|first| left_alone(name, first, &left)));
    }
    found
}

fn left_alone(name: &str, first: &NodeCertificate, left: &[&NodeCertificate]) -> Diagnostic {
    let names: Vec<&str> = left.iter().map(|one| one.name.as_str()).collect();
    let next = if left.iter().all(|one| one.name == KUBELET) {
        "A kubelet renews its certificate by itself long before: look at its journal, `journalctl -u kubelet`, and at requests that nobody has approved, `kubectl get csr`."
    } else if left.iter().any(|one| one.authority) {
        "A CA is renewed by hand: see \"Manual rotation of CA certificates\" in Kubernetes' documentation."
    } else {
        "Renew them where the CA's key is, or set `certificate_renewal_days` and apply."
    };
    Diagnostic::warning(format!("Certificates of node {name} end soon"))
        .happened(format!("The first counts until {}: {}.", first.until, names.join(", ")))
        .holds("No apply renews them.")
        .next(next)
}

impl Crew<'_> {
    /// Renews the certificates of control planes that have them end soon, one after the other: while one restarts, the others are there.
    pub(super) async fn renew_certificates(&self, m: &Cluster, asked: &[Asked]) -> Result<(), Diagnostics> {
        for one in asked {
            let (name, Ok(own)) = (&one.plane.name, &one.said) else { continue };
            if !self.is_ours(own) || due(m, name, own).is_none() {
                continue;
            }
            (self.wait.progress)(&format!("{name}: renewing its certificates"));
            let job = Job::CertificatesRenew {
                cluster_id: self.cluster_id.clone(),
                node_name: own.node_name.clone(),
                within: within(m).unwrap_or_default(),
            };
            let done = self.cx.agents.run(&one.plane.endpoint, &job, self.wait).await;
            let report = done
                .map_err(|error| explain::agent(&format!("renew the certificates of control plane {name}"), &error))?;
            self.noted(&format!("control plane {name}"), &report);
        }
        Ok(())
    }

    /// Has every control plane take snapshots of etcd as it is declared, or no more.
    pub(super) async fn schedule_snapshots(&self, m: &Cluster) -> Result<(), Diagnostics> {
        for (name, member) in m.control_planes.get().into_iter().flatten() {
            let machine = endpoint(member)?;
            // One that is away has it set right when it is back: that is drift then.
            let Ok(own) = self.status(&machine).await else { continue };
            if !self.is_ours(&own) || unscheduled(m, name, &own).is_none() {
                continue;
            }
            let (cluster_id, schedule, secret) = (self.cluster_id.clone(), wanted(m), secret(m));
            let job = Job::SnapshotSchedule { cluster_id, schedule, secret };
            let done = self.cx.agents.run(&machine, &job, self.wait).await;
            done.map_err(|error| not_scheduled(name, &error))?;
        }
        Ok(())
    }

    fn is_ours(&self, own: &ClusterStatus) -> bool {
        own.standing == Standing::ControlPlane && own.cluster_id == self.cluster_id
    }
}

fn not_scheduled(name: &str, error: &Error) -> Diagnostic {
    let diagnostic = explain::agent(&format!("schedule snapshots of etcd on control plane {name}"), error);
    match error {
        Error::Run { failure, .. } if failure.step == "schedule" => {
            diagnostic.at(tf::Path::from("snapshots").name("schedule"))
        }
        Error::Run { failure, .. } if failure.step == "snapshot" => diagnostic.at("snapshots"),
        _ => diagnostic,
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The agent's name for the kubelet's own certificate.
const KUBELET: &str = "kubelet";
const DIRECTORY: &str = "/var/backups/groundwork/etcd";
const KEEP: i64 = 7;
const DAYS: i64 = 30;
const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str, days: u64) -> NodeCertificate {
        let ends = now() + days * DAY.as_secs();
        NodeCertificate {
            name: name.to_owned(),
            ends,
            until: format!("in {days} days"),
            authority: name.ends_with("ca"),
        }
    }

    fn with(certificates: Vec<NodeCertificate>) -> ClusterStatus {
        ClusterStatus { certificates, ..ClusterStatus::default() }
    }

    fn scheduled(active: bool, failure: &str) -> ClusterStatus {
        let schedule = SnapshotSchedule { schedule: "daily".into(), keep: 7, directory: DIRECTORY.into(), s3: None };
        let there = Scheduled { schedule, active, failure: failure.to_owned() };
        ClusterStatus { snapshots: Some(Box::new(there)), ..ClusterStatus::default() }
    }

    fn daily() -> Cluster {
        let snapshots = Snapshots { schedule: "daily".into(), ..Snapshots::default() };
        Cluster { snapshots: snapshots.into(), ..Cluster::default() }
    }

    #[test]
    fn certificates_that_end_soon_are_a_line_with_their_end() {
        let own = with(vec![certificate("apiserver", 20), certificate("admin.conf", 29), certificate("etcd-peer", 90)]);
        let m = Cluster::default();
        assert_eq!(
            due(&m, "cp-1", &own).unwrap(),
            "cp-1: certificates count until in 20 days only: apiserver, admin.conf"
        );
        let never = Cluster { certificate_renewal_days: Attr::Known(0), ..Cluster::default() };
        assert_eq!(due(&never, "cp-1", &own), None);
        assert_eq!(warnings(&never, &Machines::from([("cp-1".to_owned(), own.clone())])).len(), 1);
        assert_eq!(warnings(&m, &Machines::from([("cp-1".to_owned(), own.clone())])).len(), 0);
        let external = ClusterStatus { certificates_external: true, ..own };
        assert_eq!(due(&m, "cp-1", &external), None);
        assert_eq!(warnings(&m, &Machines::from([("cp-1".to_owned(), external)])).len(), 1);
        let cut = ClusterStatus { renewal_unfinished: true, ..ClusterStatus::default() };
        assert!(due(&never, "cp-1", &cut).unwrap().contains("was cut off"));
    }

    #[test]
    fn what_no_apply_renews_is_a_warning_with_its_cure() {
        let said = |certificates| {
            let machines = Machines::from([("worker-1".to_owned(), with(certificates))]);
            warnings(&Cluster::default(), &machines).iter().map(ToString::to_string).collect::<String>()
        };
        assert!(said(vec![certificate("kubelet", 3)]).contains("kubectl get csr"));
        assert!(said(vec![certificate("etcd-ca", 3), certificate("kubelet", 9)]).contains("Manual rotation"));
        assert_eq!(said(vec![certificate("kubelet", 100)]), "");
    }

    #[test]
    fn a_timer_that_is_not_as_declared_is_a_line() {
        let line = |m: &Cluster, own: &ClusterStatus| unscheduled(m, "cp-1", own).unwrap_or_default();
        for (m, own, words) in [
            (daily(), scheduled(true, ""), ""),
            (daily(), ClusterStatus::default(), "no timer takes"),
            (daily(), scheduled(false, ""), "was stopped or changed"),
            (daily(), scheduled(true, "no space left on device"), "taken anew: no space left"),
            (Cluster::default(), scheduled(true, ""), "that nobody declares"),
            (Cluster::default(), ClusterStatus::default(), ""),
        ] {
            assert!(line(&m, &own).contains(words) && line(&m, &own).is_empty() == words.is_empty(), "{words}");
        }
        let mut other = daily();
        other.snapshots.get_mut().unwrap().keep = Attr::Known(8);
        assert!(line(&other, &scheduled(true, "")).contains("other snapshots"));
    }

    #[test]
    fn a_plan_says_that_a_cluster_begins_with_a_snapshot_and_only_a_new_one_does() {
        let from = |path: &str| Cluster {
            restore_from: RestoreFrom { path: path.into(), ..RestoreFrom::default() }.into(),
            name: "main".into(),
            ..Cluster::default()
        };
        let words = |prior: Option<&Cluster>, m: &Cluster| said(prior, m).map(|said| said.summary().to_owned());
        assert_eq!(words(None, &from("/a")).as_deref(), Some("Cluster main begins with a snapshot"));
        assert_eq!(words(None, &Cluster::default()), None);
        assert_eq!(words(Some(&from("/a")), &from("/a")), None);
        assert_eq!(words(Some(&from("/a")), &from("/b")).as_deref(), Some("Cluster main is not restored"));
        assert_eq!(words(Some(&from("/a")), &Cluster::default()), None);
        assert_eq!(restored(&from("/a"), Init::default()).restore_from, "/a");
    }

    #[test]
    fn a_snapshot_comes_from_a_file_or_from_a_bucket_whose_secret_is_compared_with_nothing() {
        let bucket =
            |secret: &str| Object { secret_access_key_wo: Secret::<String>::from(secret).into(), ..Object::default() };
        let m = |path: Attr<String>, s3: Attr<Object>| Cluster {
            restore_from: RestoreFrom { path, s3, ..RestoreFrom::default() }.into(),
            ..Cluster::default()
        };
        for (m, wrong) in [
            (m(Attr::Null, Attr::Null), true),
            (m("/a".into(), bucket("a").into()), true),
            (m(Attr::Unknown, bucket("a").into()), true),
            (m("/a".into(), Attr::Null), false),
            (m(Attr::Unknown, Attr::Null), false),
            (m(Attr::Null, bucket("a").into()), false),
            (Cluster::default(), false),
        ] {
            assert_eq!(problem(&m).is_some(), wrong, "{m:?}");
        }
        assert!(said(Some(&m(Attr::Null, bucket("a").into())), &m(Attr::Null, bucket("b").into())).is_none());
        let from = restored(&m(Attr::Null, bucket("a").into()), Init::default());
        assert_eq!(from.restore_s3.unwrap().secret_access_key, "a");
    }
}
