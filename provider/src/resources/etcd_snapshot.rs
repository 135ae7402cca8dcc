//! `groundwork_etcd_snapshot`: a snapshot of a cluster's etcd, as a file on one of its control planes.
//!
//! The agent there takes it from its own member. The file gets its name when the provider hears that it is there, so that what a provider
//! that was killed has left is taken anew in the same place, and nothing that stands under a name is written over.

use crate::agents::{ClusterStatus, Endpoint, Error, Job, Snapshot, Standing, Until, Wait, again, form};
use crate::context::{Cx, Data, looking};
use crate::endpoint::{AgentEndpoint, EndpointModel, fingerprint_form};
use crate::timeouts::{self, Limit};
use crate::{explain, keys};
use std::collections::BTreeMap;
use std::time::Duration;
use tf::{
    Attr, Diagnostic, Diagnostics, Model, Presence, Resource, Row, block, chain, computed, optional, optional_computed,
    required,
};
use trust::Role;

/// See [`Resource::DOC`].
pub(crate) struct EtcdSnapshotResource;

/// A snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct EtcdSnapshot {
    id: Attr<String>,
    ca_fingerprint: Attr<String>,
    control_planes: Attr<BTreeMap<String, ControlPlane>>,
    control_plane: Attr<String>,
    path: Attr<String>,
    triggers: Attr<BTreeMap<String, String>>,
    keep_on_destroy: Attr<bool>,
    timeouts: Attr<Timeouts>,
    endpoint: Attr<AgentEndpoint>,
    size_bytes: Attr<i64>,
    sha256: Attr<String>,
    revision: Attr<i64>,
    taken_at: Attr<String>,
}

impl Model for EtcdSnapshot {
    fn rows(&mut self) -> Vec<Row<'_>> {
        #[rustfmt::skip]
        let Self {
            id, ca_fingerprint, control_planes, control_plane, path, triggers, keep_on_destroy, timeouts, endpoint, size_bytes, sha256, revision, taken_at,
        } = self;
        let mut rows = vec![
            computed("id", id, "Name of the control plane and path of the file, `cp-1:/var/backups/etcd/before-1-37.db`.").keep(),
            required(
                "ca_fingerprint",
                ca_fingerprint,
                "Which cluster: `ca_fingerprint` of its `groundwork_cluster`. A control plane of another cluster gives nothing.",
            )
            .replaces()
            .check(fingerprint_form),
            required(
                "control_planes",
                control_planes,
                "`control_planes` of the `groundwork_cluster`. The first one by name that is well takes the snapshot, and keeps it.",
            ),
            optional_computed(
                "control_plane",
                control_plane,
                "Name of the control plane that takes and keeps it. Default: the first one that is well.",
            )
            .replaces()
            .keep(),
            required(
                "path",
                path,
                "Where the file stands on the control plane's machine: absolute, such as `/var/backups/etcd/before-1-37.db`. Its folder is made, \
                 and only root may read the file. What stands there already is never written over.",
            )
            .replaces()
            .check(form::file),
            optional(
                "triggers",
                triggers,
                "Any values: when one of them changes, another snapshot is taken in the place of this one.",
            )
            .replaces(),
            optional(
                "keep_on_destroy",
                keep_on_destroy,
                "`true`: the file stays when this resource is destroyed or replaced, such as with its cluster. It counts as it was last applied. \
                 Another snapshot then wants another `path`. Default `false`.",
            ),
            block("timeouts", timeouts, "How long to wait."),
        ];
        rows.extend([
            computed("endpoint", endpoint, "The agent of the machine that has the file.").keep(),
            computed("size_bytes", size_bytes, "Of the file, in bytes.").keep(),
            computed(
                "sha256",
                sha256,
                "SHA-256 of the database in it, hex, which etcd has written behind it: `head -c -32 FILE | sha256sum` prints the same.",
            )
            .keep(),
            computed("revision", revision, "The last revision of etcd that it holds.").keep(),
            computed("taken_at", taken_at, "When it was taken, by the machine's clock, `2026-11-27T21:00:00Z`.").keep(),
        ]);
        rows
    }
}

/// A control plane's machine. What else the members of a cluster have is of no use here.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ControlPlane {
    endpoint: Attr<EndpointModel>,
}

impl Model for ControlPlane {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { endpoint } = self;
        vec![required("endpoint", endpoint, "The machine's agent: `endpoint` of its `groundwork_machine`.")]
    }
}

/// How long to wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Timeouts {
    create: Attr<String>,
}

impl Model for Timeouts {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { create } = self;
        vec![optional("create", create, "Until the snapshot is taken. Default `20m`.").check(timeouts::check)]
    }
}

impl Resource for EtcdSnapshotResource {
    type Data = Data;
    type Model = EtcdSnapshot;

    const NAME: &'static str = "etcd_snapshot";
    const DOC: &'static str = "A snapshot of a cluster's etcd, taken now: a file on the machine of a control plane, in etcd's own form, so that \
        `etcdutl snapshot restore` takes it, and `restore_from` of a new `groundwork_cluster`, with K3s and RKE2 \
        together with the cluster's secret. The machine's agent takes it from its member \
        of etcd, which must be well; the sum that etcd sends with it is compared.\n\n\
        It holds all objects of the cluster, Secrets too, and is readable by root alone. It stays where it is until the resource is \
        destroyed, also when its machine leaves the cluster: copy it elsewhere if it is to outlive the machine. A cluster that is made anew has \
        another `ca_fingerprint`, which replaces the snapshots of the one before; those with `keep_on_destroy` leave their files. One that somebody has \
        removed is taken anew by the next apply. For snapshots by the clock there is the block `snapshots` of `groundwork_cluster`.";

    fn validate(&self, m: &EtcdSnapshot) -> Diagnostics {
        let none = m.control_planes.get().is_some_and(BTreeMap::is_empty).then(|| {
            Diagnostic::error("Cannot take a snapshot without a control plane")
                .happened("`control_planes` is empty.")
                .next("Give it `control_planes` of a `groundwork_cluster`.")
                .at("control_planes")
        });
        none.into_iter().chain(not_one_of_them(m)).collect()
    }

    async fn create(&self, cx: &Cx, m: &mut EtcdSnapshot) -> Result<(), Diagnostics> {
        keys::recall(cx);
        not_one_of_them(m).map_or(Ok(()), Err)?;
        let path = m.path.need()?.clone();
        let act = format!("take the etcd snapshot {path}");
        let progress = |line: &str| cx.progress(line);
        let limit = Limit::of("create", m.timeouts.get().map(|timeouts| &timeouts.create), TIME);
        let wait = Wait { deadline: cx.deadline(limit.time), stop: &cx.stop, progress: &progress };
        let (name, endpoint) = choose(cx, m, &wait.until(), &act).await?;
        let job = Job::SnapshotTake { cluster_id: m.ca_fingerprint.need()?.clone(), path: path.clone() };
        let report = cx.agents.run(&endpoint, &job, &wait).await.map_err(|error| refusal(&act, &error))?;
        report.warnings.iter().for_each(|line| cx.warn(explain::noted(&format!("control plane {name}"), line)));
        m.control_plane.set(name.clone());
        m.endpoint.set(AgentEndpoint::from(&endpoint));
        m.id.set(format!("{name}:{path}"));
        let until = wait.until();
        let kept =
            again(|| async { cx.agents.connect(&endpoint, Role::Operator, &until).await?.keep_snapshot(&path).await });
        fill(m, kept.await.map_err(|error| explain::agent(&act, &error))?);
        Ok(())
    }

    async fn read(&self, cx: &Cx, m: &mut EtcdSnapshot) -> Result<Presence, Diagnostics> {
        keys::recall(cx);
        let (endpoint, path) = (endpoint(m)?, m.path.need()?.clone());
        let until = looking(cx);
        let asked =
            again(|| async { cx.agents.connect(&endpoint, Role::Observer, &until).await?.snapshot(&path).await });
        match asked.await {
            // What stands there is as it was taken.
            Ok(Some(found)) if m.sha256.get().is_none_or(|sha256| *sha256 == found.sha256) => fill(m, found),
            Ok(_) => return Ok(Presence::Gone),
            Err(error) if error.is_somebody_else() => cx.warn(explain::somebody_else(KIND, &path, &error)),
            Err(error) if error.is_unreachable() => cx.warn(explain::unreachable(KIND, &path, &error)),
            Err(error) => return Err(explain::agent(&format!("look at the etcd snapshot {path}"), &error).into()),
        }
        keys::note(cx, [endpoint.fingerprint]);
        Ok(Presence::Here)
    }

    async fn update(&self, _cx: &Cx, _prior: &EtcdSnapshot, _m: &mut EtcdSnapshot) -> Result<(), Diagnostics> {
        // Control planes come and go, and time-outs change: the file stays as it is.
        Ok(())
    }

    async fn delete(&self, cx: &Cx, m: &EtcdSnapshot) -> Result<(), Diagnostics> {
        if m.keep_on_destroy.or(false) {
            return Ok(());
        }
        keys::recall(cx);
        let (endpoint, path, sha256) = (endpoint(m)?, m.path.need()?.clone(), m.sha256.or(""));
        let until = looking(cx);
        let removed = async {
            let mut agent = cx.agents.connect(&endpoint, Role::Operator, &until).await?;
            match agent.snapshot(&path).await? {
                Some(found) if found.sha256 == sha256 || sha256.is_empty() => {
                    agent.remove_snapshot(&path, &found.sha256).await.map(|()| true)
                }
                Some(_) => Ok(false),
                None => Ok(true),
            }
        };
        match removed.await {
            Ok(true) => {}
            Ok(false) => cx.warn(left(&path, "Another snapshot stands there now.")),
            Err(error) if error.is_somebody_else() || error.is_unreachable() => {
                cx.warn(left(&path, &format!("Its machine was not asked: {}.", chain(&error))));
            }
            Err(error) => return Err(explain::agent(&format!("remove the etcd snapshot {path}"), &error).into()),
        }
        Ok(())
    }

    async fn import(&self, cx: &Cx, id: &str) -> Result<EtcdSnapshot, Diagnostics> {
        let refusal = || {
            Diagnostic::error(format!("Cannot import the etcd snapshot {id}"))
                .happened("This is no id of a snapshot.")
                .holds("Nothing was recorded in the state.")
                .next("Give address and fingerprint of its machine's agent, and its path: `192.0.2.11:7443,sha256:…,/var/backups/etcd/a.db`.")
        };
        let (machine, path) = id.rsplit_once(',').filter(|(_, path)| form::file(path).is_ok()).ok_or_else(refusal)?;
        let endpoint = EndpointModel::from_id(machine).and_then(|model| model.to_endpoint()).ok_or_else(refusal)?;
        let until = looking(cx);
        let asked = async { cx.agents.connect(&endpoint, Role::Observer, &until).await?.cluster_status().await };
        let status =
            asked.await.map_err(|error| explain::agent(&format!("import the etcd snapshot {path}"), &error))?;
        let name = if status.node_name.is_empty() { endpoint.address.clone() } else { status.node_name };
        Ok(EtcdSnapshot {
            id: format!("{name}:{path}").into(),
            ca_fingerprint: status.cluster_id.into(),
            control_plane: name.into(),
            path: path.into(),
            endpoint: AgentEndpoint::from(&endpoint).into(),
            ..EtcdSnapshot::default()
        })
    }
}

/// The control plane that takes it: the one that is named, or the first that is well.
async fn choose(cx: &Cx, m: &EtcdSnapshot, until: &Until, act: &str) -> Result<(String, Endpoint), Diagnostic> {
    let cluster_id = m.ca_fingerprint.need()?;
    let mut passed = Vec::new();
    for (name, own) in m.control_planes.need()? {
        if m.control_plane.text().is_some_and(|chosen| chosen != name) {
            continue;
        }
        let endpoint = own.endpoint.get().and_then(EndpointModel::to_endpoint);
        let endpoint = endpoint.ok_or_else(|| Diagnostic::bug("a control plane's endpoint is not known at apply"))?;
        let asked =
            again(|| async { cx.agents.connect(&endpoint, Role::Observer, until).await?.cluster_status().await });
        match asked.await.map(|status| unfit(name, &status, cluster_id)) {
            Ok(None) => return Ok((name.clone(), endpoint)),
            Ok(Some(why)) => passed.push(format!("{name}: {why}")),
            Err(Error::Stopped) => return Err(explain::agent(act, &Error::Stopped)),
            Err(error) => passed.push(format!("{name}: {}", chain(&error))),
        }
    }
    Err(Diagnostic::error(format!("Cannot {act}"))
        .happened(explain::listed("No control plane can give it:", &passed))
        .holds("Nothing was changed.")
        .next("See that the agent of one of them can be reached from here, and that its etcd is well."))
}

/// Why a machine gives no snapshot.
fn unfit(name: &str, status: &ClusterStatus, cluster_id: &str) -> Option<String> {
    if status.standing != Standing::ControlPlane || status.cluster_id != cluster_id {
        return Some("it is no control plane of this cluster".to_owned());
    }
    if status.etcd.is_empty() {
        let none = "it has no etcd of its own".to_owned();
        return Some(if status.etcd_message.is_empty() { none } else { status.etcd_message.clone() });
    }
    match status.etcd.iter().find(|member| member.name == name) {
        None => Some("it is no member of etcd".to_owned()),
        Some(member) => member.ailing.as_ref().map(|why| format!("its etcd is not well: {why}")),
    }
}

fn not_one_of_them(m: &EtcdSnapshot) -> Option<Diagnostic> {
    let (name, all) = (m.control_plane.text()?, m.control_planes.get()?);
    (!all.contains_key(name)).then(|| {
        Diagnostic::error(format!("Cannot take a snapshot on {name}"))
            .happened("`control_planes` has no control plane of this name.")
            .next("Name one of them, or leave `control_plane` out.")
            .at("control_plane")
    })
}

fn refusal(act: &str, error: &Error) -> Diagnostic {
    match error {
        Error::Run { failure, .. } if failure.is_foreign() => Diagnostic::error(format!("Cannot {act}"))
            .happened(format!("{}.", failure.message))
            .holds("Nothing was changed on the machine.")
            .next("Give another `path`; or, if a snapshot of yours stands there, import it or remove it.")
            .at("path"),
        other => explain::agent(act, other),
    }
}

/// The warning for a file that may be there still.
fn left(path: &str, why: &str) -> Diagnostic {
    Diagnostic::warning(format!("The etcd snapshot {path} was not removed"))
        .happened(why)
        .holds("It is not in the state any more.")
        .next("Remove the file by hand if it is there.")
}

fn endpoint(m: &EtcdSnapshot) -> Result<Endpoint, Diagnostic> {
    let endpoint = m.endpoint.get().and_then(AgentEndpoint::to_endpoint);
    endpoint.ok_or_else(|| Diagnostic::bug("nobody knows on which machine a snapshot is"))
}

fn fill(m: &mut EtcdSnapshot, found: Snapshot) {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    m.size_bytes.set(whole(found.size));
    m.sha256.set(found.sha256);
    m.revision.set(whole(found.revision));
    m.taken_at.set(found.taken);
}

const KIND: &str = "etcd snapshot";
const TIME: Duration = Duration::from_secs(1_200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::EtcdMember;

    #[test]
    fn only_a_control_plane_whose_member_is_well_takes_one() {
        let member = |name: &str, ailing: Option<&str>| EtcdMember {
            name: name.to_owned(),
            ailing: ailing.map(str::to_owned),
            ..EtcdMember::default()
        };
        let good = ClusterStatus {
            standing: Standing::ControlPlane,
            cluster_id: "sha256:00".to_owned(),
            etcd: vec![member("cp-1", None), member("cp-2", Some("no answer in time"))],
            ..ClusterStatus::default()
        };
        let said = |name: &str, status: &ClusterStatus| unfit(name, status, "sha256:00").unwrap_or_default();
        assert_eq!(said("cp-1", &good), "");
        assert_eq!(said("cp-2", &good), "its etcd is not well: no answer in time");
        assert_eq!(said("cp-3", &good), "it is no member of etcd");
        let other = ClusterStatus { cluster_id: "sha256:01".to_owned(), ..good.clone() };
        assert_eq!(said("cp-1", &other), "it is no control plane of this cluster");
        let silent = ClusterStatus { etcd: Vec::new(), etcd_message: "no answer".to_owned(), ..good };
        assert_eq!(said("cp-1", &silent), "no answer");
    }

    #[test]
    fn who_takes_it_is_one_of_the_control_planes() {
        let planes = BTreeMap::from([("cp-1".to_owned(), ControlPlane::default())]);
        let m = |name: &str, planes: Attr<BTreeMap<String, ControlPlane>>| EtcdSnapshot {
            control_plane: name.into(),
            control_planes: planes,
            ..EtcdSnapshot::default()
        };
        let paths = |m: &EtcdSnapshot| -> Vec<String> {
            EtcdSnapshotResource.validate(m).iter().filter_map(Diagnostic::path).map(ToString::to_string).collect()
        };
        assert_eq!(paths(&m("cp-1", planes.clone().into())), [""; 0]);
        assert_eq!(paths(&m("cp-2", Attr::Unknown)), [""; 0]);
        assert_eq!(paths(&m("cp-2", planes.into())), ["control_plane"]);
        let nobody = EtcdSnapshot { control_planes: BTreeMap::new().into(), ..EtcdSnapshot::default() };
        assert_eq!(paths(&nobody), ["control_planes"]);
    }
}
