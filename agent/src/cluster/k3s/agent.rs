//! An agent of K3s or a relative, which is a worker: joined, or seen to be one, or started again.
//!
//! Its token is for this join alone, and is deleted when that is over. From then on the node is known by its certificate; the dead token
//! stays in its file, because K3s takes the sum of the cluster's CA from it and does not start without one.

use super::config::{self, Note};
use super::program::{self, Release};
use super::server;
use crate::cluster::evidence::{Attempt, Standing};
use crate::cluster::found::Found;
use crate::cluster::join::{back, known};
use crate::cluster::kube::{Kube, failed, failure, foreign, host_of};
use crate::cluster::nodes::Node;
use crate::cluster::{Distribution, before, cleanup};
use crate::host::Access;
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use agent_proto::overlay::Fragment;
use std::time::{Duration, Instant};

/// What an agent joins.
#[derive(Clone)]
pub struct AgentPlan {
    /// Which program.
    pub release: Release,
    /// Name of this node.
    pub node_name: String,
    /// Address of this node that the others reach.
    pub address: Option<String>,
    /// `host:port` of the API server.
    pub endpoint: String,
    /// Secret, with the sum of the cluster's CA before it.
    pub token: String,
    /// `sha256:<hex>` of the cluster CA's public key.
    pub ca_hash: String,
    /// What nodes of the cluster reach without a proxy.
    pub near: Vec<String>,
    /// What the user lays over `config.yaml`.
    pub overlay: Fragment,
}

impl std::fmt::Debug for AgentPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentPlan").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// Makes this machine a worker of the cluster that `plan` names.
///
/// # Errors
/// Also when it belongs to another cluster, or another machine has its name.
pub async fn join(cx: RunCx, state: State, plan: AgentPlan) -> Result<Outcome, Failure> {
    let mut kube = Kube::begin(&cx, &state).await?;
    kube.distribution = Distribution::K3s(plan.release.own);
    kube.near = plan.near.iter().cloned().chain([host_of(&plan.endpoint).to_owned()]).collect();
    // K3s takes a bare secret from whatever answers, without looking at its CA, and without any it begins a cluster of its own.
    if !super::tokens::is_pinned(&plan.token) {
        return Err(failure("join", "the token does not say which CA the cluster has"));
    }
    let plan = AgentPlan { address: kube.own(plan.address.clone()).await, ..plan };
    if already(&kube, &plan).await? {
        return Ok(kube.done());
    }
    before::note(&kube).await?;
    kube.direct("join").await?;
    make(&kube, &plan).await?;
    Ok(kube.done())
}

/// Whether this machine is such a node of that cluster already; clears away what a killed attempt of ours has left.
async fn already(kube: &Kube<'_>, plan: &AgentPlan) -> Result<bool, Failure> {
    let found = Found::look(kube)?;
    let here = &found.here;
    match found.standing {
        Standing::Clean => return Ok(false),
        Standing::ControlPlane => {
            return Err(foreign(format!("this machine is a server of a cluster of {}", plan.release.own.name)));
        }
        Standing::Partial if found.is_cut_off || found.is_lost() => {
            cleanup::undo(kube, "join", "an earlier attempt did not come to its end").await?;
            return Ok(false);
        }
        Standing::Partial => return Err(cleanup::not_ours(&found.traces)),
        Standing::Worker if *here != plan.ca_hash => {
            return Err(foreign(format!("this machine is a node of another cluster, whose CA is {here}")));
        }
        Standing::Worker => {}
    }
    if !found.is_made() {
        return Err(foreign("this machine is an agent of that cluster, which this agent did not make it"));
    }
    if let Some(node) = running(kube, plan).await? {
        back(kube, kube.distribution.node(), &node).await?;
        kube.note(&Attempt::new("join", &plan.node_name).finished(here))?;
        return Ok(true);
    }
    cleanup::undo(kube, "join", "it is no node of its cluster any more").await?;
    Ok(false)
}

/// The node of a finished agent, which is started if somebody has stopped it.
async fn running(kube: &Kube<'_>, plan: &AgentPlan) -> Result<Option<Node>, Failure> {
    let own = plan.release.own;
    if own.agent.stand(kube, "join").await?.runs() {
        return known(kube, kube.distribution.node(), &plan.node_name).await;
    }
    let since = Instant::now();
    own.agent.write(kube, "join").await?;
    if let Err(failure) = own.agent.start(kube, "join", own.patience[1]).await {
        if failure.cancelled {
            return Err(failure);
        }
        // Its Node may have been deleted, and with that its password: it is made anew.
        kube.cx.note("join", &failure.message);
        return Ok(None);
    }
    kube.made("join", &format!("start {}", own.agent.name), "it did not run", since);
    registered(kube, plan).await.map(Some)
}

async fn make(kube: &Kube<'_>, plan: &AgentPlan) -> Result<(), Failure> {
    let (own, attempt) = (plan.release.own, Attempt::new("join", &plan.node_name).under(&plan.ca_hash));
    kube.note(&attempt)?;
    let own_program = !program::stands(kube, &plan.release).await?;
    let note = Note { mark: None, endpoint: plan.endpoint.clone(), own_program };
    note.write(kube.host(), own).map_err(failed("join", "note what is begun"))?;
    program::install(kube, &plan.release, own_program).await?;
    let text = config::agent(plan).map_err(|why| failure("config", why))?;
    server::known(kube, ("agent", &plan.release), &plan.overlay).await?;
    kube.may_go_on("join")?;
    kube.cx.step_began("join", 1);
    let since = Instant::now();
    let token = format!("{}\n", plan.token);
    for (path, text) in [(own.places.token, &token), (own.places.config, &text)] {
        kube.host().write(path, text.as_bytes(), Access::PRIVATE).map_err(failed("join", &format!("write {path}")))?;
    }
    own.agent.write(kube, "join").await?;
    own.agent.start(kube, "join", own.patience[0]).await?;
    kube.made("join", &format!("start {}", own.agent.name), "this machine becomes a worker", since);
    registered(kube, plan).await?;
    kube.note(&attempt.finished(&plan.ca_hash))
}

/// Waits until the cluster has the node. K3s says that it runs before its kubelet has made the node known.
async fn registered(kube: &Kube<'_>, plan: &AgentPlan) -> Result<Node, Failure> {
    kube.cx.step_began("ready", 0);
    let until = Instant::now() + REGISTERED;
    loop {
        let seen = known(kube, kube.distribution.node(), &plan.node_name).await;
        match seen {
            Ok(Some(node)) => {
                back(kube, kube.distribution.node(), &node).await?;
                return Ok(node);
            }
            Ok(None) if Instant::now() > until => {
                let message = format!("the cluster has no node {} after {} s", plan.node_name, REGISTERED.as_secs());
                return Err(failure("ready", message));
            }
            Err(failure) if failure.cancelled || Instant::now() > until => return Err(failure),
            Ok(None) | Err(_) => kube.pause("ready", Duration::from_millis(500)).await?,
        }
    }
}

const REGISTERED: Duration = Duration::from_secs(120);
