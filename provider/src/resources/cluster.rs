//! `groundwork_cluster`: a Kubernetes cluster over machines whose agents are enrolled.
//!
//! Everything is done by the agents: the first control plane initialises, mints a join token per worker, and removes nodes.
//! Each operation may be repeated and does only what is missing, so a creation that was cut off goes on with the next apply.

mod address;
mod fixed;
mod look;
mod manifests;
mod membership;
mod model;
mod networks;
mod rules;
mod upgrade;

use self::membership::Crew;
use crate::agents::{ClusterStatus, Endpoint, Init, Job, Kubeadm, Standing, Until, Wait};
use crate::context::{Cx, Data, looking};
use crate::endpoint::EndpointModel;
use crate::timeouts::{self, Limit};
use crate::{explain, record};
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
    const DOC: &'static str = "A Kubernetes cluster made with kubeadm over machines that `groundwork_machine` prepared: one control \
        plane and any number of workers. Workers join in parallel. Another `version` upgrades the cluster node by node. A worker that is taken out of the configuration is drained, deleted \
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
        let Some(prior) = prior else {
            m.upgrade_steps.set(Vec::new());
            return;
        };
        // No error: Terraform plans before it destroys too, and a cluster must not be kept by what its configuration says.
        for refusal in fixed::changes(prior, m) {
            notes.warn(refusal.warning());
        }
        manifests::unheeded(prior, m).into_iter().for_each(|warning| notes.warn(warning));
        upgrade::plan(prior, m, notes);
        // Another machine as control plane is another cluster: its data were on the old one.
        if fingerprints(prior) != fingerprints(m) {
            notes.replace("control_planes");
        }
    }

    async fn create(&self, cx: &Cx, m: &mut Cluster) -> Result<(), Diagnostics> {
        let name = m.name.need()?.clone();
        let (node, first) = control_plane(m)?;
        m.id.set(name.clone());
        let act = format!("create cluster {name}");
        let progress = |line: &str| cx.progress(line);
        let wait = wait(cx, Limit::of("create", m.timeouts.get().map(|timeouts| &timeouts.create), TIME), &progress);
        let address = own_address(cx, m, (&node, &first), &wait.until()).await?;
        let init = Job::Init(Box::new(to_init(m, &node, address)?));
        let report = cx.agents.run(&first, &init, &wait).await.map_err(|error| explain::agent(&act, &error))?;
        report.warnings.iter().for_each(|line| cx.warn(explain::noted(&format!("node {node}"), line)));
        // Known before anything else can fail: what is taken back after a failure is only what has this CA.
        let cluster_id = status_at(cx, (&first, &wait.until()), &act).await?.cluster_id;
        m.ca_fingerprint.set(cluster_id.clone());
        let (kubeadm, drain) = (to_kubeadm(m), drain(m));
        let api = address::of_api(m);
        let crew = Crew {
            cx,
            first: &first,
            version: m.version.need()?,
            kubeadm,
            drain,
            cluster_id,
            api,
            near: near(m),
            wait: &wait,
        };
        let members = m.control_planes.or(std::collections::BTreeMap::new());
        let built = async {
            crew.settle(&members).await?;
            crew.join(&m.workers.or(std::collections::BTreeMap::new())).await
        };
        if let Err(mut failures) = built.await {
            failures.push(tainted(&name));
            return Err(failures);
        }
        let site = manifests::Site { cx, first: &first, cluster_id: &crew.cluster_id, wait: &wait };
        if let Err(failures) = manifests::apply(&site, &manifests::Manifests::new(), &manifests::of(m)).await {
            manifests::as_warnings(failures).into_iter().for_each(|warning| cx.warn(warning));
        }
        remember(cx, m, (&first, &wait.until())).await
    }

    async fn read(&self, cx: &Cx, m: &mut Cluster) -> Result<Presence, Diagnostics> {
        let (node, first) = control_plane(m)?;
        let name = m.name.or("");
        // What a plan said of an upgrade is over; the next plan says what is left.
        m.upgrade_steps.set(Vec::new());
        let mut agent = match cx.agents.connect(&first, Role::Observer, &looking(cx)).await {
            Ok(agent) => agent,
            Err(error) if error.is_unreachable() => {
                cx.warn(explain::unreachable("cluster", &name, &error));
                return Ok(Presence::Here);
            }
            Err(error) => return Err(explain::agent(&format!("read cluster {name}"), &error).into()),
        };
        let act = format!("read cluster {name}");
        let status = agent.cluster_status().await.map_err(|error| explain::agent(&act, &error))?;
        if status.standing == Standing::Clean {
            return Ok(Presence::Gone);
        }
        // Without a CA in the state the creation never came so far: whatever stands there is not taken for this cluster.
        let Some(ours) = m.ca_fingerprint.cloned().filter(|_| status.standing != Standing::Partial) else {
            cx.warn(unfinished(&name));
            return Ok(Presence::Here);
        };
        if status.cluster_id != ours {
            cx.warn(another(&name, &status.cluster_id));
            return Ok(Presence::Here);
        }
        if !status.api_ready {
            m.drift.set(look::control_plane(&node, &status).into_iter().collect::<Vec<_>>());
            cx.warn(
                Diagnostic::warning(format!("Cannot look at the nodes of cluster {name}"))
                    .happened(format!("Its API server does not answer: {}", status.api_message))
                    .holds("What the state says about its nodes was kept.")
                    .next("Look at the control plane's kubelet: `journalctl -u kubelet`."),
            );
            return Ok(Presence::Here);
        }
        // What is live counts, and not what was recorded at the creation. While the API server is away its manifest alone is known, and that
        // may be the beginning of an upgrade.
        if !status.version.is_empty() {
            m.version.set(bare(&status.version));
        }
        let machines = look::machines(cx, m).await;
        look::compare(cx, m, &status, &machines);
        manifests::look(cx, m, &first).await;
        if m.kubeconfig.get().is_none() {
            fill_access(cx, m, (&first, &looking(cx))).await?;
        }
        Ok(Presence::Here)
    }

    async fn update(&self, cx: &Cx, prior: &Cluster, m: &mut Cluster) -> Result<(), Diagnostics> {
        let refused: Vec<Diagnostic> = fixed::changes(prior, m).iter().map(fixed::Change::error).collect();
        if !refused.is_empty() {
            return Err(refused.into_iter().collect());
        }
        let (node, first) = control_plane(m)?;
        let progress = |line: &str| cx.progress(line);
        let limit = Limit::of("update", m.timeouts.get().map(|timeouts| &timeouts.update), TIME + upgrade::time(m));
        let wait = wait(cx, limit, &progress);
        let cluster_id = prior.ca_fingerprint.or("");
        let name = m.name.or("");
        let now = status_at(cx, (&first, &wait.until()), "look at the cluster").await?;
        if now.cluster_id != cluster_id {
            return Err(not_this_one(&name, &now.cluster_id).into());
        }
        let live = if now.version.is_empty() { prior.version.or("") } else { bare(&now.version) };
        if let Some(refusal) = upgrade::refusal(&live, m, &upgrade::stands(m, &now)) {
            return Err(refusal.error().into());
        }
        let (kubeadm, drain) = (to_kubeadm(m), drain(m));
        let turn = cluster_id.clone();
        let api = address::of_api(m);
        let crew = Crew {
            cx,
            first: &first,
            version: m.version.need()?,
            kubeadm,
            drain,
            cluster_id,
            api,
            near: near(m),
            wait: &wait,
        };
        if look::control_plane(&node, &now).is_some() {
            let address = own_address(cx, m, (&node, &first), &wait.until()).await?;
            crew.mend(Init { version: live, ..to_init(m, &node, address)? }).await?;
        }
        let is_upgrade = !m.upgrade_steps.or(Vec::new()).is_empty();
        crew.answering(&name, if is_upgrade { upgrade::AWAY } else { membership::ANSWERING }).await?;
        let none = std::collections::BTreeMap::new;
        let (before, after) = (prior.workers.or(none()), m.workers.or(none()));
        // Machines that are destroyed in the same run leave one after the other, too.
        let turn = cx.turns.take(&turn).await;
        crew.remove(&before, &after).await?;
        crew.upgrade(m).await?;
        drop(turn);
        crew.join(&after).await?;
        crew.settle(&m.control_planes.or(none())).await?;
        crew.forget_settings(&before, &after).await?;
        let site = manifests::Site { cx, first: &first, cluster_id: &crew.cluster_id, wait: &wait };
        manifests::apply(&site, &manifests::of(prior), &manifests::of(m)).await?;
        remember(cx, m, (&first, &wait.until())).await
    }

    async fn delete(&self, cx: &Cx, m: &Cluster) -> Result<(), Diagnostics> {
        let (_, first) = control_plane(m)?;
        let progress = |line: &str| cx.progress(line);
        let wait = wait(cx, Limit::of("delete", m.timeouts.get().map(|timeouts| &timeouts.delete), TIME), &progress);
        let version = m.version.or("");
        let (kubeadm, cluster_id) = (Kubeadm::default(), m.ca_fingerprint.or(""));
        let (drain, api, near) = (drain(m), None, Vec::new());
        let crew = Crew { cx, first: &first, version: &version, kubeadm, drain, cluster_id, api, near, wait: &wait };
        crew.reset_all(m).await
    }

    async fn import(&self, cx: &Cx, id: &str) -> Result<Cluster, Diagnostics> {
        let refusal = |why: String| {
            Diagnostic::error(format!("Cannot import cluster {id}"))
                .happened(why)
                .holds("Nothing was recorded in the state.")
                .next("Give the address and fingerprint of a control plane's agent: `192.0.2.11:7443,sha256:…`.")
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
fn not_this_one(name: &str, cluster_id: &str) -> Diagnostic {
    about_another(Diagnostic::error(format!("Cannot change cluster {name}")), cluster_id).holds("Nothing was changed.")
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

/// How the cluster of this control plane stands.
async fn status_at(cx: &Cx, (first, until): (&Endpoint, &Until), act: &str) -> Result<ClusterStatus, Diagnostic> {
    let ask = async { cx.agents.connect(first, Role::Observer, until).await?.cluster_status().await };
    ask.await.map_err(|error| explain::agent(act, &error))
}

/// The one control plane, by node name.
fn control_plane(m: &Cluster) -> Result<(String, Endpoint), Diagnostics> {
    let first = m.control_planes.need()?.iter().next();
    let (node, member) = first.ok_or_else(|| Diagnostic::bug("a cluster without control plane passed validation"))?;
    Ok((node.clone(), endpoint(member)?))
}

fn endpoint(member: &Member) -> Result<Endpoint, Diagnostic> {
    let endpoint = member.endpoint.get().and_then(EndpointModel::to_endpoint);
    endpoint.ok_or_else(|| Diagnostic::bug("a member's endpoint is not known at apply"))
}

/// What tells the control planes' machines apart; `None` while it is unknown, which is another machine.
fn fingerprints(m: &Cluster) -> Option<Vec<String>> {
    let members = m.control_planes.get()?;
    members.values().map(|member| member.endpoint.get()?.fingerprint.cloned()).collect()
}

fn to_init(m: &Cluster, node: &str, advertise_address: String) -> Result<Init, Diagnostic> {
    let member = m.control_planes.need()?.get(node);
    Ok(Init {
        name: m.name.need()?.clone(),
        version: m.version.need()?.clone(),
        node_name: node.to_owned(),
        advertise_address,
        endpoint: m.endpoint.or(""),
        pod_subnet: m.pod_subnet.or(""),
        service_subnet: m.service_subnet.or(""),
        certificate_names: m.certificate_names.or(Vec::new()),
        taints: member.and_then(|member| member.taints.cloned()),
        kubeadm: to_kubeadm(m),
    })
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

/// The networks of pods and services, and where the API server is by its name.
fn near(m: &Cluster) -> Vec<String> {
    let services = m.service_subnet.cloned().unwrap_or_else(|| networks::SERVICES.to_owned());
    let endpoint = m.endpoint.text().map(|endpoint| host(endpoint).to_owned());
    [m.pod_subnet.cloned(), Some(services), endpoint].into_iter().flatten().collect()
}

/// `host` of `host:port`, `[address]:port` or `host`.
fn host(endpoint: &str) -> &str {
    match endpoint.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')) => {
            host.trim_matches(['[', ']'])
        }
        _ => endpoint,
    }
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

/// Asks for the cluster's access data, and has the control plane's agent keep what an import will need.
async fn remember(cx: &Cx, m: &mut Cluster, (first, until): (&Endpoint, &Until)) -> Result<(), Diagnostics> {
    fill_access(cx, m, (first, until)).await?;
    m.drift.set(Vec::new());
    let computed = Attr::<String>::default;
    let document = Cluster {
        kubeconfig: computed(),
        ca_certificate: computed(),
        api_endpoint: computed(),
        manifest: manifests::without_secrets(m),
        drift: Attr::Null,
        upgrade_steps: Attr::Null,
        ..m.clone()
    };
    let act = format!("record cluster {}", m.name.or(""));
    let mut agent =
        cx.agents.connect(first, Role::Operator, until).await.map_err(|error| explain::agent(&act, &error))?;
    agent.record(RECORD, &record::write(&document)).await.map_err(|error| explain::agent(&act, &error))?;
    Ok(())
}

/// The kubeconfig holds no key: `kubectl` asks this binary for a credential, and that asks the agent.
async fn fill_access(cx: &Cx, m: &mut Cluster, (first, until): (&Endpoint, &Until)) -> Result<(), Diagnostics> {
    let name = m.name.or("");
    let act = format!("read the kubeconfig of cluster {name}");
    let mut agent = cx.agents.connect(first, Role::Admin, until).await.map_err(|error| explain::agent(&act, &error))?;
    let access = agent.kubeconfig().await.map_err(|error| explain::agent(&act, &error))?;
    let status = agent.cluster_status().await.map_err(|error| explain::agent(&act, &error))?;
    // Whoever uses the kubeconfig believes its CA: it must be the one that tells this cluster from others.
    if crate::kubeconfig::pin(&access.ca_certificate).as_deref() != Some(status.cluster_id.as_str()) {
        let said = "The CA in the control plane's administrator's kubeconfig is not the CA of its cluster.";
        return Err(Diagnostic::error(format!("Cannot {act}"))
            .happened(said)
            .holds("The cluster is as it is, and no kubeconfig was taken over.")
            .next("See who changed `/etc/kubernetes/admin.conf` on the control plane, make it anew with `kubeadm kubeconfig user` or `kubeadm init phase kubeconfig admin`, and apply again.")
            .into());
    }
    m.kubeconfig.set(crate::kubeconfig::write(&name, &access, first));
    m.ca_certificate.set(access.ca_certificate);
    m.api_endpoint.set(access.endpoint);
    upgrade::note(cx.private(), m, &status);
    m.ca_fingerprint.set(status.cluster_id);
    Ok(())
}

/// Kind of the agent's record.
const RECORD: &str = "cluster";
const TIME: Duration = Duration::from_secs(1800);
const DRAIN: Duration = Duration::from_secs(300);
