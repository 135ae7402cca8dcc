//! The configuration of a living cluster: arguments of its control plane, kubelets, kube-proxy. Which node, and when, the provider says.
//!
//! On a control plane the manifests of its static pods take the place of the old ones, one after the other, and each must prove well: its
//! pod is ready, and the API server and every member of etcd are. Only then the cluster notes what joins and upgrades are to use. Then
//! comes the kubelet, on every node, and kube-proxy. What was before is kept until then: what does not come up is taken back, and what
//! was cut off is taken back by the next change, which begins anew. How the cluster's documents come to hold what is declared, and nothing
//! that was declared before, is `document`'s. Source: kubernetes.io, "Reconfiguring a kubeadm cluster"; kubeadm 1.36.

mod document;
mod documents;
mod kept;
mod node;
mod pods;
mod proxy;
mod serving;

use self::document::{Laid, differences, relaid};
use self::documents::Documents;
use super::control_plane::{self, Noted};
use super::kube::{ADMIN, KUBELET, Kube, failed, failure};
use super::overlay::Overlay;
use super::status::{self, ClusterError};
use super::{config, foreign, kubelet, upgrade};
use crate::host::{Access, Host, HostError};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use agent_proto::overlay::{Fragment, Part};
pub(super) use documents::forget_laid;
pub(super) use kept::is_unfinished;
use std::time::{Instant, UNIX_EPOCH};

/// What this machine's node is to be configured as.
#[derive(Debug, Clone, Default)]
pub struct ConfigurePlan {
    /// The cluster it is a node of.
    pub cluster_id: String,
    /// Name of the node.
    pub node_name: String,
    /// What is declared.
    pub declared: Overlay,
    /// What was declared before, as far as the caller knows.
    pub before: Overlay,
    /// On a worker: the kubelet takes the cluster's configuration of kubelets.
    pub kubelet: bool,
    /// On a control plane, last of all and nothing else: every node has it, and what was declared before is forgotten.
    pub settle: bool,
}

/// What is not as it is declared, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Of the cluster; on a control plane.
    pub cluster: Vec<String>,
    /// Of this machine.
    pub node: Vec<String>,
}

/// Gives this machine's node the configuration that is declared. Changes nothing on one that has it.
///
/// # Errors
/// At `config …` when a part does not come up with it: what it was before is in force again then.
pub async fn configure(cx: RunCx, state: State, plan: ConfigurePlan) -> Result<Outcome, Failure> {
    let mut kube = Kube::begin(&cx, &state).await?;
    let is_control_plane = upgrade::is_node_of(&kube, &plan.cluster_id)?;
    let is_of_kubelets = !plan.declared.kubelet.is_empty() || !plan.before.kubelet.is_empty();
    if is_of_kubelets || plan.kubelet && !is_control_plane {
        foreign::reads_kubeadms_file(&kube, CONFIG, "config.kubelet")?;
    }
    let kubeconfig = if is_control_plane { ADMIN } else { KUBELET };
    kubelet::up(&kube, LOOK).await?;
    let stamp = kube.host().now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    // Before the API server is asked anything: it may be what a change that was cut off has taken away.
    kept::take_back(&Work { kube: &kube, plan: &plan, kubeconfig, stamp: stamp.clone() }).await?;
    kube.near = Noted::ask(&kube, kubeconfig).await?.near();
    let work = Work { kube: &kube, plan: &plan, kubeconfig, stamp };
    let done = if is_control_plane { work.control_plane().await } else { work.worker().await };
    let Err(mut failure) = done else {
        kept::forget(&work)?;
        return Ok(kube.done());
    };
    let said = match kept::take_back(&work).await {
        Ok(false) => String::new(),
        Ok(true) => "; what it was before is in force again".to_owned(),
        Err(other) => format!("; what it was before was put back, and is not up yet: {}", other.message),
    };
    failure.message.push_str(&said);
    Err(failure)
}

/// What this machine and, on a control plane, its cluster do not have of what is declared.
///
/// # Errors
/// When the machine cannot be looked at. What cannot be read is no difference: others tell of that.
pub async fn look_at_configuration(host: &dyn Host, declared: &Overlay) -> Result<Differences, ClusterError> {
    let mut found = Differences::default();
    let is_control_plane = host.exists(ADMIN).map_err(ClusterError::Host)?;
    if is_control_plane && let Ok(documents) = Documents::look(host).await.map_err(ClusterError::Host)? {
        found.cluster = of_cluster(&documents, declared);
    }
    let kubeconfig = if is_control_plane { ADMIN } else { KUBELET };
    let mut texts = Vec::new();
    let mut place = |path: &str, is_declared: bool| -> Result<Option<usize>, ClusterError> {
        let text = if is_declared { host.text(path).map_err(ClusterError::Host)? } else { None };
        texts.extend(text.clone());
        Ok(text.map(|_| texts.len() - 1))
    };
    let kubelet = place(node::CONFIG, !declared.kubelet.is_empty())?;
    let mut components = Vec::new();
    for component in pods::COMPONENTS.iter().filter(|_| is_control_plane) {
        let at = place(&component.path(), component.of(&declared.cluster).is_some())?;
        components.extend(at.map(|at| (component, at)));
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let read = match documents::parsed(host, kubeconfig, &texts).await.map_err(ClusterError::Host)? {
        Ok(read) => read,
        Err(why) => {
            found.node.push(format!("its configuration cannot be read: {why}"));
            return Ok(found);
        }
    };
    if let Some(document) = kubelet.and_then(|at| read.get(at)) {
        let other = differences(document, &declared.kubelet);
        found.node.extend(told(&other, "its kubelet is not configured as `config.kubelet` says"));
    }
    if is_control_plane {
        let lacks = serving::lacks(host, &declared.cluster).map_err(ClusterError::Host)?;
        found.node.extend(told(&lacks, "the certificate of its API server lacks names of `certificate_names`"));
    }
    for (component, at) in components {
        let pod = read.get(at).cloned().unwrap_or_default().into();
        let lacks = component.lacks(&declared.cluster, &pod);
        found.node.extend(told(&lacks, &format!("its {} does not run as `config.cluster` says", component.name)));
    }
    Ok(found)
}

/// The cluster's own document as kubeadm has noted it, or why it cannot be read.
pub(super) async fn noted(host: &dyn Host) -> Result<Result<Fragment, String>, HostError> {
    Ok(Documents::look(host).await?.map(|documents| documents.cluster))
}

/// What the cluster notes otherwise than it is declared.
fn of_cluster(documents: &Documents, declared: &Overlay) -> Vec<String> {
    let parts = [
        (Part::Cluster, Some(&documents.cluster), &declared.cluster),
        (Part::Kubelet, Some(&documents.kubelet), &declared.kubelet),
        // Where there is none, nothing of it can be otherwise.
        (Part::KubeProxy, documents.kube_proxy.as_ref(), &declared.kube_proxy),
    ];
    let mut found = Vec::new();
    for (part, live, declared) in parts {
        let Some(live) = live else { continue };
        let line = format!("the cluster's {} is not as `config.{}` says", part.kind(), part.name());
        let (names, rest): (Vec<String>, Vec<String>) =
            without_values(differences(live, declared)).into_iter().partition(|path| path == NAMES);
        found.extend(told(&names, &format!("the cluster's {} is not as `certificate_names` says", part.kind())));
        found.extend(told(&rest, &line));
    }
    // What an apply that did not come to its end has laid over them.
    if documents.laid.as_ref().is_some_and(|laid| *laid != Laid::of(declared)) {
        found.push("a change of `config` did not come to its end on all nodes".to_owned());
    }
    found
}

/// Variables of containers are left out: whoever may look must not learn their values by asking.
fn without_values(paths: Vec<String>) -> Vec<String> {
    paths.into_iter().filter(|path| !path.contains(".extraEnvs.")).collect()
}

fn told(paths: &[String], line: &str) -> Option<String> {
    let names: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    (!paths.is_empty()).then(|| format!("{line}: {}", names.join(", ")))
}

/// One change under way.
struct Work<'a> {
    kube: &'a Kube<'a>,
    plan: &'a ConfigurePlan,
    /// An administrator's credentials, or those of the node itself.
    kubeconfig: &'static str,
    /// Tells what it starts from what ran before.
    stamp: String,
}

impl Work<'_> {
    async fn worker(&self) -> Result<(), Failure> {
        if self.plan.kubelet { node::take(self).await } else { Ok(()) }
    }

    async fn control_plane(&self) -> Result<(), Failure> {
        let (kube, declared) = (self.kube, &self.plan.declared);
        control_plane::healthy(kube, ADMIN).await?;
        let documents = Documents::ask(kube).await?;
        if self.plan.settle {
            let laid = Laid::of(declared);
            let is_noted = documents.laid.as_ref() == Some(&laid);
            return if is_noted { Ok(()) } else { documents::write_laid(kube, &laid).await };
        }
        let laid = documents.laid.clone().unwrap_or_default().with(&self.plan.before).with(declared);
        let wanted = Wanted::of(&documents, &laid, self.plan)?;
        let is_other = wanted.cluster != documents.cluster
            || wanted.kubelet != documents.kubelet
            || wanted.kube_proxy != documents.kube_proxy;
        if is_other {
            self.understood(&wanted).await?;
        }
        if documents.laid.as_ref() != Some(&laid) {
            kept::document(self, documents::LAID_OVER, documents.text(documents::LAID_OVER))?;
            documents::write_laid(kube, &laid).await?;
        }
        self.static_pods(&documents, &wanted, &laid).await?;
        if !laid.kubelet.is_empty() {
            self.noted(&documents, &documents::KUBELET, (&documents.kubelet, &wanted.kubelet)).await?;
            node::take(self).await?;
            control_plane::healthy(kube, ADMIN).await?;
            kept::forget(self)?;
        }
        if let (Some(live), Some(wanted)) = (&documents.kube_proxy, &wanted.kube_proxy)
            && live != wanted
        {
            self.noted(&documents, &documents::KUBE_PROXY, (live, wanted)).await?;
            proxy::roll_out(self, &self.stamp).await?;
            kept::forget(self)?;
        }
        Ok(())
    }

    /// The static pods of this machine, and what the cluster notes of them when they run.
    async fn static_pods(&self, documents: &Documents, wanted: &Wanted, laid: &Laid) -> Result<(), Failure> {
        let kube = self.kube;
        let is_meant =
            |component: &&pods::Component| laid.cluster.iter().any(|fragment| component.of(fragment).is_some());
        let components: Vec<&pods::Component> = pods::COMPONENTS.iter().filter(is_meant).collect();
        let mut is_other = documents.cluster != wanted.cluster;
        if !components.is_empty() {
            if wanted.cluster.get("featureGates").is_some_and(|gates| gates["RootlessControlPlane"] == true) {
                return Err(failure(CONFIG, ROOTLESS));
            }
            self.has_version(wanted)?;
            self.write(wanted)?;
            let replaced = self.renew_and_replace(wanted, laid, &components).await;
            kube.host().remove(FILE).map_err(failed(pods::STEP, "remove kubeadm's configuration"))?;
            is_other |= replaced?;
        }
        self.noted(documents, &documents::CLUSTER, (&documents.cluster, &wanted.cluster)).await?;
        if is_other { kept::forget(self) } else { Ok(()) }
    }

    /// The API server's certificate, and the manifests; whether there was anything to do.
    async fn renew_and_replace(
        &self,
        wanted: &Wanted,
        laid: &Laid,
        components: &[&pods::Component],
    ) -> Result<bool, Failure> {
        let renewed = serving::renewed(self, &wanted.cluster, &laid.cluster).await?;
        Ok(self.replace_all(components).await? || renewed)
    }

    /// One after the other; whether there was anything to replace.
    async fn replace_all(&self, components: &[&pods::Component]) -> Result<bool, Failure> {
        let mut any = false;
        for component in components {
            any |= self.replace(component).await?;
        }
        Ok(any)
    }

    /// Puts a manifest in the place of the old one, if kubeadm would write another one now; whether it would.
    async fn replace(&self, component: &pods::Component) -> Result<bool, Failure> {
        let (kube, path) = (self.kube, component.path());
        kube.may_go_on(pods::STEP)?;
        kube.cx.step_began(pods::STEP, 1);
        let rendered = component.rendered(kube).await?;
        let disk = kube.host().text(&path).map_err(failed(pods::STEP, &format!("read {path}")))?;
        let disk = disk.ok_or_else(|| failure(pods::STEP, format!("{path} is not there")))?;
        let Some(next) = pods::next(&disk, &rendered, &self.stamp) else { return Ok(false) };
        let (since, known) = (Instant::now(), pods::known(kube));
        kept::file(self, &path, &disk, Some(&next))?;
        let written = kube.host().write(&path, next.as_bytes(), Access::PRIVATE);
        written.map_err(failed(pods::STEP, &format!("write {path}")))?;
        pods::up(kube, (&self.plan.node_name, component.name), Some(&self.stamp), Some(&known)).await?;
        kube.made(pods::STEP, &format!("restart {}", component.name), "its manifest is another one", since);
        Ok(true)
    }

    /// Has the cluster note another document.
    async fn noted(
        &self,
        documents: &Documents,
        document: &documents::Document,
        (live, wanted): (&Fragment, &Fragment),
    ) -> Result<(), Failure> {
        if live == wanted {
            return Ok(());
        }
        let since = Instant::now();
        kept::document(self, document, documents.text(document))?;
        documents::write(self.kube, document, wanted).await?;
        self.kube.made(NOTE, &format!("write ConfigMap {}", document.map), "later joins and upgrades use it", since);
        Ok(())
    }

    /// Half-way through an upgrade kubeadm's manifests would be of another version.
    fn has_version(&self, wanted: &Wanted) -> Result<(), Failure> {
        let own = status::version(self.kube.host()).map_err(failed(LOOK, "read the API server's manifest"))?;
        let cluster = wanted.cluster.get("kubernetesVersion").and_then(serde_json::Value::as_str).unwrap_or_default();
        if own == cluster {
            return Ok(());
        }
        Err(failure(LOOK, format!("this control plane is {own}, and the cluster {cluster}: its upgrade comes first")))
    }

    /// kubeadm knows every field of what the documents are to be.
    async fn understood(&self, wanted: &Wanted) -> Result<(), Failure> {
        self.write(wanted)?;
        let version = self.kube.kubeadm_version().await?;
        let understood = self.kube.understood(FILE, version).await;
        self.kube.host().remove(FILE).map_err(failed(NOTE, "remove kubeadm's configuration"))?;
        understood
    }

    /// Where the user has patches for what kubeadm writes.
    fn patches(&self) -> Option<&str> {
        let Overlay { init, join, .. } = &self.plan.declared;
        [join, init].into_iter().find_map(|fragment| fragment.get("patches")?.get("directory")?.as_str())
    }

    /// kubeadm's configuration file.
    fn write(&self, wanted: &Wanted) -> Result<(), Failure> {
        let host = self.kube.host();
        let address = status::advertised(host).map_err(failed(LOOK, "read the API server's manifest"))?;
        let address = address.ok_or_else(|| failure(LOOK, "the API server's manifest does not tell its address"))?;
        let documents: Vec<&Fragment> =
            [Some(&wanted.cluster), Some(&wanted.kubelet), wanted.kube_proxy.as_ref()].into_iter().flatten().collect();
        let text = config::living(&documents, (&self.plan.node_name, &address), self.patches());
        host.write(FILE, text.as_bytes(), Access::PRIVATE).map_err(failed(NOTE, "write kubeadm's configuration"))
    }
}

/// What the cluster's documents are to be.
struct Wanted {
    cluster: Fragment,
    kubelet: Fragment,
    kube_proxy: Option<Fragment>,
}

impl Wanted {
    fn of(documents: &Documents, laid: &Laid, plan: &ConfigurePlan) -> Result<Self, Failure> {
        let ConfigurePlan { declared, before, .. } = plan;
        let wanted = |part: Part, live: &Fragment, laid: &[Fragment], declared: &Fragment| {
            let version = declared.get("apiVersion").filter(|version| !version.is_null());
            if let Some(version) = version.filter(|version| live.get("apiVersion") != Some(*version)) {
                let own = live.get("apiVersion").cloned().unwrap_or_default();
                return Err(failure(
                    CONFIG,
                    format!("config.{}: apiVersion {version} is not the cluster's, {own}", part.name()),
                ));
            }
            let odd =
                |path: String| format!("config.{}: {path} is of another type in the cluster's document", part.name());
            relaid(live, laid, declared).map_err(|path| failure(CONFIG, odd(path)))
        };
        let kube_proxy = match &documents.kube_proxy {
            Some(live) => Some(wanted(Part::KubeProxy, live, &laid.kube_proxy, &declared.kube_proxy)?),
            None if declared.kube_proxy.is_empty() || declared.kube_proxy == before.kube_proxy => None,
            None => return Err(failure(CONFIG, "config.kube_proxy: this cluster has no kube-proxy")),
        };
        Ok(Self {
            cluster: wanted(Part::Cluster, &documents.cluster, &laid.cluster, &declared.cluster)?,
            kubelet: wanted(Part::Kubelet, &documents.kubelet, &laid.kubelet, &declared.kubelet)?,
            kube_proxy,
        })
    }
}

const LOOK: &str = "look";
const NAMES: &str = "apiServer.certSANs";
/// As for a creation: what kubeadm does not understand.
const CONFIG: &str = "config";
const NOTE: &str = "note";
const ROOTLESS: &str = "config.cluster: kubeadm writes on trial no manifests for users of their own, as its feature gate RootlessControlPlane has them";
const FILE: &str = "/run/groundwork/kubeadm-living.yaml";
