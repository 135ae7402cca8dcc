//! `groundwork_cluster`: a Kubernetes cluster over machines whose agents are enrolled.
//!
//! Everything is done by the agents, through a control plane that is well: it mints what each join needs, and removes nodes. Only the
//! creation initialises. Each operation may be repeated and does only what is missing, so a creation that was cut off goes on with the next
//! apply.

mod access;
mod address;
mod adoption;
mod begun;
mod configuration;
mod control_planes;
mod etcd;
mod exchange;
mod fixed;
mod foreign;
mod k3s;
mod left;
mod look;
mod manifests;
mod membership;
mod model;
mod networks;
mod quorum;
mod recovery;
mod rules;
mod s3;
mod upgrade;
mod vip;

use self::begun::Begun;
use self::control_planes::{Asked, Look, Plane};
use self::manifests::Manifests;
use self::membership::{Crew, Members};
use crate::agents::{ClusterStatus, Endpoint, Init, Job, Kubeadm, Until, Wait, again};
use crate::context::{Cx, Data, looking};
use crate::endpoint::EndpointModel;
use crate::timeouts::{self, Limit};
use crate::{explain, keys, record};
use model::{Cluster, Member};
use std::time::Duration;
use tf::{Attr, Diagnostic, Diagnostics, PlanNotes, Presence, Resource};
use trust::Role;

/// See [`Resource::DOC`].
pub(crate) struct ClusterResource;

impl Resource for ClusterResource {
    type Data = Data;
    type Model = Cluster;

    const NAME: &'static str = "cluster";
    const DOC: &'static str = "A Kubernetes cluster made with kubeadm, K3s or RKE2, over machines that `groundwork_machine` prepared: one control \
        plane or several, each with a member of etcd, and any number of workers. Control planes join one after the other, workers in parallel. \
        None of the control planes is special: any of them can be down, removed or replaced, as long as etcd keeps its quorum. Another \
        `version` upgrades the cluster node by node. A node that is taken out of the configuration is drained, deleted \
        and reset; destroying the cluster resets every machine to what it was before. A cluster that somebody else made on one of \
        the machines is never adopted, changed or reset.\n\nJoin tokens are minted per join, live for minutes \
        and are stored nowhere. What the cluster begins with, its network plugin first of all, is applied from `manifest` blocks.\n\n\
        If something fails at creation after the control plane is up, such as the join of a worker, Terraform marks the cluster as \
        tainted: the next apply would reset every machine and begin anew. `terraform untaint groundwork_cluster.NAME` keeps the cluster, \
        and the next apply then adds only what is missing.";

    fn validate(&self, m: &Cluster) -> Diagnostics {
        rules::problems(m)
    }

    fn plan(&self, prior: Option<&Cluster>, _config: &Cluster, m: &mut Cluster, notes: &mut PlanNotes) {
        // What is wrong now will be put right. This line is what makes drift a change of the plan.
        m.drift.set(Vec::new());
        let recovered = recovery::said(prior, m).into_iter().chain(quorum::said(prior, m, notes.private()));
        recovered.for_each(|warning| notes.warn(warning));
        let Some(prior) = prior else {
            m.upgrade_steps.set(Vec::new());
            return;
        };
        // No error: Terraform plans before it destroys too, and a cluster must not be kept by what its configuration says.
        for refusal in fixed::changes(prior, m).iter().chain(&foreign::changes(notes.private(), prior, m)) {
            notes.warn(refusal.warning());
        }
        manifests::unheeded(prior, m).into_iter().for_each(|warning| notes.warn(warning));
        upgrade::plan(prior, m, notes);
        configuration::plan(prior, m);
        // The only control plane is the cluster. Of several none may go before another one has come, which `fixed` says.
        if fixed::is_alone(prior) && !fixed::any_stays(prior, m) {
            notes.replace("control_planes");
            notes.warn(begins_anew(&prior.name.or("")));
            self.plan_destroy(prior, notes);
        }
        // It names the agents of all of them.
        if control_planes::known(&[prior]).ok() != control_planes::known(&[m]).ok() {
            m.kubeconfig = Attr::Unknown;
        }
    }

    fn plan_destroy(&self, prior: &Cluster, notes: &mut PlanNotes) {
        let stays = foreign::stays(notes.private(), prior).map(|change| change.warning());
        let left = left::warning(&prior.name.or(""), notes.private());
        stays.into_iter().chain(left).for_each(|warning| notes.warn(warning));
    }

    async fn create(&self, cx: &Cx, m: &mut Cluster) -> Result<(), Diagnostics> {
        k3s::agreed(m)?;
        let name = m.name.need()?.clone();
        let act = format!("create cluster {name}");
        let progress = |line: &str| cx.progress(line);
        let wait = wait(cx, Limit::of("create", m.timeouts.get().map(|timeouts| &timeouts.create), TIME), &progress);
        let mut crew = Crew::of(cx, &[m], &wait)?;
        m.id.set(name.clone());
        let Plane { name: node, endpoint: first } = control_planes::beginning(cx, &crew.planes, &wait, &act).await?;
        let address = own_address(cx, m, (&node, &first), &wait.until()).await?;
        let init = recovery::restored(m, to_init(m, &node, address)?);
        let report = cx.agents.run(&first, &Job::Init(Box::new(init)), &wait).await;
        let report = report.map_err(|error| recovery::not_made(m, &act, &error))?;
        report.warnings.iter().for_each(|line| cx.warn(explain::noted(&format!("node {node}"), line)));
        // Known before anything else can fail: what is taken back after a failure is only what has this CA.
        crew.cluster_id = status_at(cx, (&first, &wait.until()), &act).await?.cluster_id;
        m.ca_fingerprint.set(crew.cluster_id.clone());
        let control_planes = m.control_planes.or(Members::new());
        let built = async {
            Box::pin(crew.exchange(Members::new(), &control_planes)).await?;
            crew.settle(&control_planes).await?;
            Box::pin(crew.join(&m.workers.or(Members::new()))).await
        };
        if let Err(mut failures) = built.await {
            failures.push(tainted(&name));
            return Err(failures);
        }
        let begun = apply_manifests(&crew, &Manifests::new(), &manifests::of(m)).await;
        for failures in [begun.err(), crew.schedule_snapshots(m).await.err()].into_iter().flatten() {
            manifests::as_warnings(failures).into_iter().for_each(|warning| cx.warn(warning));
        }
        remember(m, &crew).await
    }

    async fn read(&self, cx: &Cx, m: &mut Cluster) -> Result<Presence, Diagnostics> {
        let name = m.name.or("");
        // What a plan said of an upgrade is over; the next plan says what is left.
        m.upgrade_steps.set(Vec::new());
        keys::recall(cx);
        let begun = Begun::of(cx.private());
        let asked = control_planes::ask(cx, &control_planes::known(&[m, begun.members()])?, &looking(cx)).await;
        let ours = m.ca_fingerprint.cloned();
        adoption::look(cx, &name);
        quorum::look(cx, (&name, ours.as_deref()), &asked);
        let through = match control_planes::look(&asked, ours.as_deref()) {
            Look::Well(through) => *through,
            Look::Gone => return Ok(Presence::Gone),
            Look::Unreachable => return unreachable(cx, &name, &asked),
            Look::Unfinished => {
                cx.warn(unfinished(&name));
                return Ok(Presence::Here);
            }
            Look::Another(cluster_id) => {
                cx.warn(another(&name, cluster_id));
                return Ok(Presence::Here);
            }
            Look::Silent(status) => {
                let told = asked.iter().filter_map(|one| Some((one.plane.name.as_str(), one.said.as_ref().ok()?)));
                let down = told.flat_map(|(name, own)| {
                    let cut_off = configuration::cut_off(name, own);
                    look::control_plane(name, own, status).into_iter().chain(recovery::due(m, name, own)).chain(cut_off)
                });
                let down: Vec<String> = down.collect();
                m.drift.set(down);
                cx.warn(silent(&name, &control_planes::silence(&asked, &ours.unwrap_or_default())));
                return Ok(Presence::Here);
            }
        };
        // What is live counts, and not what was recorded at the creation. While the API server is away its manifest alone is known, and that
        // may be the beginning of an upgrade.
        if let Some(version) = control_planes::version(&asked, &through.status.cluster_id) {
            m.version.set(k3s::spelled(m, version));
        }
        let known = [&*m, begun.members()];
        let (machines, ()) = tokio::join!(look::machines(cx, &known, asked), left::look(cx, &through));
        look::take_over(m, &begun, &through.status, &machines);
        keys::note(cx, members(m));
        look::compare(cx, m, &through.status, &machines);
        configuration::look(cx, m, &through).await;
        manifests::look(cx, m, &through.endpoint).await;
        if m.kubeconfig.get().is_none() {
            access::fill(cx, m, &through, &looking(cx)).await?;
        }
        Ok(Presence::Here)
    }

    async fn update(&self, cx: &Cx, prior: &Cluster, m: &mut Cluster) -> Result<(), Diagnostics> {
        let refused = fixed::changes(prior, m).into_iter().chain(foreign::changes(cx.private(), prior, m));
        let refused: Vec<Diagnostic> = refused.map(|change| change.error()).collect();
        if !refused.is_empty() {
            return Err(refused.into_iter().collect());
        }
        k3s::agreed(m)?;
        keys::recall(cx);
        let progress = |line: &str| cx.progress(line);
        let limit = Limit::of("update", m.timeouts.get().map(|timeouts| &timeouts.update), TIME + upgrade::time(m));
        let wait = wait(cx, limit, &progress);
        let crew = Crew { cluster_id: prior.ca_fingerprint.or(""), ..Crew::of(cx, &[m, prior], &wait)? };
        let asked = control_planes::ask(cx, &crew.planes, &wait.until()).await;
        if let Look::Another(cluster_id) = control_planes::look(&asked, Some(&crew.cluster_id)) {
            return Err(not_this_one(&format!("change cluster {}", crew.name), cluster_id).into());
        }
        crew.adopt(prior).await?;
        let asked = crew.recover_quorum(prior, m, asked).await?;
        let live = control_planes::version(&asked, &crew.cluster_id).unwrap_or_else(|| prior.version.or(""));
        let well = control_planes::well(&asked, &crew.cluster_id, None);
        if let Some(refusal) = upgrade::refusal(&live, m) {
            return Err(refusal.error().into());
        }
        begun::note(cx.private(), m);
        crew.renew_certificates(m, &asked).await?;
        crew.configure_cut_off((prior, m), &asked).await?;
        Box::pin(crew.mend(m, well.as_ref(), &live)).await?;
        let is_upgrade = !m.upgrade_steps.or(Vec::new()).is_empty();
        crew.through(None, if is_upgrade { upgrade::AWAY } else { membership::ANSWERING }).await?;
        let (before, after) = (prior.workers.or(Members::new()), m.workers.or(Members::new()));
        let (old, new) = (prior.control_planes.or(Members::new()), m.control_planes.or(Members::new()));
        // Machines that are destroyed in the same run leave one after the other, too.
        let turn = cx.turns.take(&crew.cluster_id).await;
        let leaving = crew.bury(&old, &new).await?;
        crew.remove(&before, &after).await?;
        crew.upgrade(m, &live).await?;
        crew.configure(prior, m).await?;
        Box::pin(crew.exchange(leaving, &new)).await?;
        drop(turn);
        Box::pin(crew.join(&after)).await?;
        crew.settle(&new).await?;
        crew.forget_settings(&before, &after).await?;
        crew.forget_settings(&old, &new).await?;
        crew.schedule_snapshots(m).await?;
        apply_manifests(&crew, &manifests::of(prior), &manifests::of(m)).await?;
        remember(m, &crew).await?;
        begun::done(cx.private());
        Ok(())
    }

    async fn delete(&self, cx: &Cx, m: &Cluster) -> Result<(), Diagnostics> {
        if m.deletion_protection.or(false) {
            return Err(protected(&m.name.or("")).into());
        }
        if let Some(refusal) = foreign::stays(cx.private(), m) {
            return Err(refusal.error().into());
        }
        keys::recall(cx);
        let progress = |line: &str| cx.progress(line);
        let wait = wait(cx, Limit::of("delete", m.timeouts.get().map(|timeouts| &timeouts.delete), TIME), &progress);
        let crew = Crew::of(cx, &[m], &wait)?;
        crew.adopt(m).await?;
        crew.reset_all(m).await
    }

    async fn import(&self, cx: &Cx, id: &str) -> Result<Cluster, Diagnostics> {
        if let Some((name, machines)) = adoption::parse(id) {
            return adoption::import(cx, &name, machines).await;
        }
        let refusal = |why: String| {
            Diagnostic::error(format!("Cannot import cluster {id}"))
                .happened(why)
                .holds("Nothing was recorded in the state.")
                .next("Give the address and fingerprint of a control plane's agent: `192.0.2.11:7443,sha256:…`. For a cluster that kubeadm made without this provider, a name and the agents of all its nodes: `NAME=192.0.2.11:7443,sha256:…;192.0.2.21:7443,sha256:…`.")
        };
        let endpoint = EndpointModel::from_id(id).and_then(|model| model.to_endpoint());
        let endpoint = endpoint.ok_or_else(|| refusal("This is no id of a cluster.".to_owned()))?;
        let act = format!("import cluster {id}");
        // Only operators are told records.
        let mut agent = cx
            .agents
            .connect(&endpoint, Role::Operator, &looking(cx))
            .await
            .map_err(|error| explain::agent(&act, &error))?;
        let said = agent.describe().await.map_err(|error| explain::agent(&act, &error))?;
        let model = said.records.get(RECORD).and_then(|document| record::read::<Cluster>(document));
        model.ok_or_else(|| {
            refusal("The agent there has no record of a cluster made by this provider.".to_owned()).into()
        })
    }
}

/// A version without its `v`.
fn bare(version: &str) -> String {
    version.trim_start_matches('v').to_owned()
}

/// The warning for a control plane in the middle of an operation: nobody can say how the cluster does.
fn unfinished(name: &str) -> Diagnostic {
    Diagnostic::warning(format!("Cluster {name} is not finished"))
        .happened("Its creation, or its end, was begun on its control plane and did not come to an end.")
        .holds("What the state says about its nodes was kept.")
        .next("Begin it again: apply, or destroy.")
}

/// The warning for a control plane that somebody has made anew.
fn another(name: &str, cluster_id: &str) -> Diagnostic {
    about_another(Diagnostic::warning(format!("Cannot look at cluster {name}")), cluster_id)
        .holds("What the state says was kept. Destroying this cluster will not touch the other one.")
}

/// No change is made to a cluster that is not the one of the state.
fn not_this_one(act: &str, cluster_id: &str) -> Diagnostic {
    about_another(Diagnostic::error(format!("Cannot {act}")), cluster_id).holds("Nothing was changed.")
}

/// The warning for a cluster that stands and of which nobody tells anything.
fn silent(name: &str, why: &str) -> Diagnostic {
    Diagnostic::warning(format!("Cannot look at the nodes of cluster {name}"))
        .happened(why)
        .holds("What the state says about its nodes was kept.")
        .next("Look at a control plane's kubelet: `journalctl -u kubelet`, with K3s and RKE2 `journalctl -u k3s` or `rke2-server`. If most control planes are lost for good, `quorum_recovery` goes on from one.")
}

/// No agent of a control plane answers: what the state says is kept. An error that waiting does not mend is one.
fn unreachable(cx: &Cx, name: &str, asked: &[Asked]) -> Result<Presence, Diagnostics> {
    for error in asked.iter().filter_map(|one| one.said.as_ref().err()) {
        cx.warn(if error.is_somebody_else() {
            explain::somebody_else("a control plane of cluster", name, error)
        } else if error.is_unreachable() {
            explain::unreachable("cluster", name, error)
        } else {
            return Err(explain::agent(&format!("read cluster {name}"), error).into());
        });
    }
    Ok(Presence::Here)
}

fn about_another(diagnostic: Diagnostic, cluster_id: &str) -> Diagnostic {
    let now = if cluster_id.is_empty() {
        "No cluster stands".to_owned()
    } else {
        format!("Another cluster, with the CA {cluster_id}, stands")
    };
    diagnostic
        .happened(format!("{now} on its control plane now."))
        .next("Take the lost cluster out of the state with `terraform state rm`, or `kubeadm reset` the machine and apply again.")
}

/// The warning for a cluster whose control plane stands while some of its nodes do not: what Terraform makes of that is a surprise.
fn tainted(name: &str) -> Diagnostic {
    Diagnostic::warning(format!("Terraform will make cluster {name} anew"))
        .happened("The control plane is up, but because something after it failed Terraform marks the whole cluster as tainted.")
        .holds("The next apply resets every machine of the cluster and begins at the beginning.")
        .next("To keep the cluster and add only what is missing, run `terraform untaint` for this resource before the next apply.")
}

/// A cluster that is not to be destroyed.
fn protected(name: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot destroy cluster {name}"))
        .happened("Its `deletion_protection` is on.")
        .holds("Nothing was changed: no machine was reset.")
        .next("If it is to go, set `deletion_protection = false`, apply, and destroy it then. If a plan replaces it, take back what makes it another one.")
        .at("deletion_protection")
}

/// The warning for a plan that replaces a cluster together with its only control plane.
fn begins_anew(name: &str) -> Diagnostic {
    Diagnostic::warning(format!("Cluster {name} begins anew"))
        .happened("Its only control plane becomes another machine, and all that the cluster holds is on that one.")
        .holds("An apply destroys the cluster and makes an empty one; `deletion_protection = true`, applied before, refuses that.")
        .next("To keep what it holds, add control planes first, which join it, and change this machine with a later apply; or take a snapshot, keep it elsewhere, and begin the new cluster with it by `restore_from`.")
        .at("control_planes")
}

/// How the cluster of this control plane stands.
async fn status_at(cx: &Cx, (first, until): (&Endpoint, &Until), act: &str) -> Result<ClusterStatus, Diagnostic> {
    let ask = async { cx.agents.connect(first, Role::Observer, until).await?.cluster_status().await };
    ask.await.map_err(|error| explain::agent(act, &error))
}

fn endpoint(member: &Member) -> Result<Endpoint, Diagnostic> {
    let endpoint = member.endpoint.get().and_then(EndpointModel::to_endpoint);
    endpoint.ok_or_else(|| Diagnostic::bug("a member's endpoint is not known at apply"))
}

/// By what all its machines are known.
fn members(m: &Cluster) -> Vec<String> {
    let all = [&m.control_planes, &m.workers].into_iter().filter_map(|members| members.get()).flatten();
    all.filter_map(|(_, member)| member.endpoint.get()?.fingerprint.cloned()).collect()
}

fn to_init(m: &Cluster, node: &str, advertise_address: String) -> Result<Init, Diagnostic> {
    let member = m.control_planes.need()?.get(node);
    Ok(Init {
        name: m.name.need()?.clone(),
        version: m.version.need()?.clone(),
        node_name: node.to_owned(),
        advertise_address,
        endpoint: api(m).unwrap_or_default(),
        pod_subnet: m.pod_subnet.or(""),
        service_subnet: m.service_subnet.or(""),
        certificate_names: m.certificate_names.or(Vec::new()),
        taints: member.and_then(|member| member.taints.cloned()),
        kubeadm: to_kubeadm(m),
        k3s: k3s::release(m),
        cluster_id: String::new(),
        kube_vip: vip::of(m),
        ..Init::default()
    })
}

/// What nodes and users reach: as it is given, or else kube-vip's address, with a port that IPv6 needs to be told from.
fn api(m: &Cluster) -> Option<String> {
    let virtual_address = || {
        let address = m.kube_vip.get()?.address.text()?.to_owned();
        Some(if address.contains(':') { format!("[{address}]:6443") } else { format!("{address}:6443") })
    };
    m.endpoint.cloned().or_else(virtual_address)
}

/// The address by which the control plane's node is known.
async fn own_address(
    cx: &Cx,
    m: &Cluster,
    (node, first): (&str, &Endpoint),
    until: &Until,
) -> Result<String, Diagnostic> {
    let ask = async { cx.agents.connect(first, Role::Observer, until).await?.describe().await };
    let said = ask.await.map_err(|error| explain::agent(&format!("look at node {node}"), &error))?;
    let member = m.control_planes.need()?.get(node).cloned().unwrap_or_default();
    let at = tf::Path::from("control_planes").key(node);
    address::of_node(&member, first, (address::of_api(m), &said.addresses), &at)
}

/// How long the pods of a node may take to leave.
fn drain(m: &Cluster) -> Duration {
    m.drain_timeout.text().and_then(timeouts::parse).unwrap_or(DRAIN)
}

fn to_kubeadm(m: &Cluster) -> Kubeadm {
    let config = m.config.cloned().unwrap_or_default();
    Kubeadm {
        ignore_preflight_errors: m.ignore_preflight_errors.or(Vec::new()),
        cluster: config.cluster.or(""),
        init: config.init.or(""),
        join: config.join.or(""),
        kubelet: config.kubelet.or(""),
        kube_proxy: config.kube_proxy.or(""),
    }
}

fn wait<'a>(cx: &'a Cx, limit: Limit, progress: &'a (dyn Fn(&str) + Send + Sync)) -> Wait<'a> {
    Wait { deadline: cx.deadline(limit.time), stop: &cx.stop, progress }
}

/// Has a control plane that is well apply what is missing of manifests.
async fn apply_manifests(crew: &Crew<'_>, before: &Manifests, after: &Manifests) -> Result<(), Diagnostics> {
    let through = crew.through(None, membership::ANSWERING).await?;
    let Crew { cx, cluster_id, wait, .. } = crew;
    let site = manifests::Site { cx, first: &through.endpoint, cluster_id, wait };
    manifests::apply(&site, before, after).await
}

/// Asks for the cluster's access data, and has the control planes' agents keep what an import will need.
async fn remember(m: &mut Cluster, crew: &Crew<'_>) -> Result<(), Diagnostics> {
    let until = crew.wait.until();
    let through = crew.through(None, membership::ANSWERING).await?;
    access::fill(crew.cx, m, &through, &until).await?;
    m.drift.set(Vec::new());
    let computed = Attr::<String>::default;
    let document = Cluster {
        kubeconfig: computed(),
        ca_certificate: computed(),
        api_endpoint: computed(),
        drift: Attr::Null,
        upgrade_steps: Attr::Null,
        ..m.clone()
    };
    let document = record::write(&document);
    for Plane { name, endpoint } in control_planes::known(&[m])? {
        let agents = &crew.cx.agents;
        let asked = again(|| async {
            agents.connect(&endpoint, Role::Operator, &until).await?.record(RECORD, &document).await
        });
        match asked.await {
            // One that is down has the record of before, and every other one this.
            Err(error) if error.is_unreachable() && name != through.name => {
                tracing::warn!(
                    node = name,
                    error = &error as &dyn std::error::Error,
                    "the cluster was not recorded there"
                );
            }
            done => done.map_err(|error| explain::agent(&format!("record cluster {}", crew.name), &error))?,
        }
    }
    Ok(())
}

/// Kind of the agent's record.
const RECORD: &str = "cluster";
const TIME: Duration = Duration::from_secs(1800);
const DRAIN: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_reached_at_the_endpoint_or_the_virtual_address() {
        let with = |address: &str, endpoint: Attr<String>| {
            let kube_vip = vip::KubeVip { address: address.into(), ..vip::KubeVip::default() };
            api(&Cluster { kube_vip: kube_vip.into(), endpoint, ..Cluster::default() })
        };
        assert_eq!(with("192.0.2.10", Attr::Null).as_deref(), Some("192.0.2.10:6443"));
        assert_eq!(with("fd00::10", Attr::Null).as_deref(), Some("[fd00::10]:6443"));
        assert_eq!(with("192.0.2.10", "api.example.org".into()).as_deref(), Some("api.example.org"));
        assert_eq!(api(&Cluster::default()), None);
    }
}
