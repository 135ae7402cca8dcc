//! A further server of K3s or a relative: joined with a member of etcd of its own, or seen to be one, or gone on with.
//!
//! It knows the cluster's CA by its token, as an agent does, and without one K3s would begin another cluster, so none is started without. What was
//! begun by an attempt that was killed has mostly come up by itself since, and is taken as it is then.

use super::config::{self, Note};
use super::program;
use super::server::{self, ServerPlan};
use super::variant::Variant;
use crate::cluster::evidence::{Attempt, Standing};
use crate::cluster::found::Found;
use crate::cluster::join::{back, known};
use crate::cluster::kube::{Kube, failed, failure, foreign, host_of};
use crate::cluster::nodes::Node;
use crate::cluster::{Distribution, before, cleanup, etcd, leave};
use crate::host::Access;
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use std::time::{Duration, Instant};

/// What a further server joins.
#[derive(Clone)]
pub struct FurtherPlan {
    /// What it is to be. All servers are told the same, but for their names, addresses and taints.
    pub server: ServerPlan,
    /// `host:port` of the API server.
    pub endpoint: String,
    /// Secret of the cluster, with the sum of its CA before it.
    pub token: String,
    /// `sha256:<hex>` of the cluster CA's public key.
    pub ca_hash: String,
    /// What nodes of the cluster reach without a proxy.
    pub near: Vec<String>,
}

impl std::fmt::Debug for FurtherPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FurtherPlan").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Makes this machine a server of the cluster that `plan` names.
///
/// # Errors
/// Also when it belongs to another cluster, or another machine has its name.
pub async fn join_server(cx: RunCx, state: State, plan: FurtherPlan) -> Result<Outcome, Failure> {
    let mut kube = Kube::begin(&cx, &state).await?;
    kube.distribution = Distribution::K3s(plan.server.release.own);
    kube.near = plan.near.iter().cloned().chain(server::near(&plan.server)).collect();
    kube.near.push(host_of(&plan.endpoint).to_owned());
    if !super::tokens::is_pinned(&plan.token) {
        return Err(failure("join", "the token does not say which CA the cluster has"));
    }
    let address = kube.own(plan.server.address.clone()).await;
    let plan = FurtherPlan { server: ServerPlan { address, ..plan.server }, ..plan };
    if already(&kube, &plan).await? {
        return Ok(kube.done());
    }
    before::note(&kube).await?;
    kube.direct("join").await?;
    make(&kube, &plan).await?;
    Ok(kube.done())
}

/// Whether this machine is such a server of that cluster already; clears away what a killed attempt of ours has left.
async fn already(kube: &Kube<'_>, plan: &FurtherPlan) -> Result<bool, Failure> {
    let found = Found::look(kube)?;
    let here = &found.here;
    match found.standing {
        Standing::Clean => return Ok(false),
        Standing::Worker => {
            return Err(server::is_agent(plan.server.release.own));
        }
        Standing::Partial | Standing::ControlPlane => {}
    }
    let own = plan.server.release.own;
    let Some(attempt) = &found.attempt else { return Err(not_ours(own, &found)) };
    if found.standing == Standing::Partial {
        if !found.is_cut_off && !found.is_lost() {
            return Err(not_ours(own, &found));
        }
        leave::undo(kube, attempt).await?;
        return Ok(false);
    }
    if *here != plan.ca_hash {
        return Err(foreign(format!("this machine is a server of another cluster, whose CA is {here}")));
    }
    if !found.is_made() {
        return Err(not_ours(own, &found));
    }
    if let Some(node) = running(kube, plan, attempt).await? {
        back(kube, kube.distribution.admin(), &node).await?;
        kube.note(&Attempt::new("join", &plan.server.node_name).finished(here))?;
        return Ok(true);
    }
    leave::undo(kube, &Attempt { kind: "join".to_owned(), ..attempt.clone() }).await?;
    Ok(false)
}

fn not_ours(own: &Variant, found: &Found) -> Failure {
    if found.standing == Standing::ControlPlane {
        return server::of_somebody(own, &found.here);
    }
    cleanup::not_ours(&found.traces)
}

/// The node of a server that is whole, which is started if nobody runs it. The data of one that was finished once are not thrown away because it
/// does not start.
async fn running(kube: &Kube<'_>, plan: &FurtherPlan, attempt: &Attempt) -> Result<Option<Node>, Failure> {
    let own = plan.server.release.own;
    if !own.server.stand(kube, "join").await?.runs() {
        let since = Instant::now();
        own.server.write(kube, "join").await?;
        if let Err(failure) = own.server.start(kube, "join", own.patience[1]).await {
            if failure.cancelled || attempt.cluster_id.is_some() {
                return Err(failure);
            }
            kube.cx.note("join", &failure.message);
            return Ok(None);
        }
        kube.made("join", &format!("start {}", own.server.name), "it did not run", since);
    }
    registered(kube, &plan.server.node_name, KNOWN).await
}

async fn make(kube: &Kube<'_>, plan: &FurtherPlan) -> Result<(), Failure> {
    let FurtherPlan { server, endpoint, token, ca_hash, .. } = plan;
    let (own, attempt) = (server.release.own, Attempt::new("join", &server.node_name).under(ca_hash));
    kube.note(&attempt)?;
    let own_program = !program::stands(kube, &server.release).await?;
    let note = Note { mark: None, endpoint: endpoint.clone(), own_program };
    note.write(kube.host(), own).map_err(failed("join", "note what is begun"))?;
    program::install(kube, &server.release, own_program).await?;
    let text = config::server(server, Some(endpoint)).map_err(|why| failure("config", why))?;
    server::known(kube, ("server", &server.release), &server.overlay).await?;
    kube.may_go_on("join")?;
    kube.cx.step_began("join", 1);
    let since = Instant::now();
    let token = format!("{token}\n");
    for (path, text) in [(own.places.token, &token), (own.places.config, &text)] {
        kube.host().write(path, text.as_bytes(), Access::PRIVATE).map_err(failed("join", &format!("write {path}")))?;
    }
    own.server.write(kube, "join").await?;
    own.server.start(kube, "join", own.patience[0]).await?;
    kube.made("join", &format!("start {}", own.server.name), "this machine becomes a server", since);
    kube.cx.step_began("ready", 0);
    let Some(node) = registered(kube, &server.node_name, REGISTERED).await? else {
        let message = format!(
            "the cluster has no server {} with a vote in etcd after {} s",
            server.node_name,
            REGISTERED.as_secs()
        );
        return Err(failure("ready", message));
    };
    back(kube, kube.distribution.admin(), &node).await?;
    kube.note(&attempt.finished(ca_hash))
}

/// Waits until the cluster has the node, with its role and a vote in etcd; `None` if it does not get them. K3s says that it runs before its kubelet has
/// made the node known.
async fn registered(kube: &Kube<'_>, node_name: &str, patience: Duration) -> Result<Option<Node>, Failure> {
    let until = tokio::time::Instant::now() + patience;
    loop {
        match whole(kube, node_name).await {
            Ok(Some(node)) => return Ok(Some(node)),
            Ok(None) if tokio::time::Instant::now() > until => return Ok(None),
            // An etcd that has just got a member may elect, and then no API server answers for a moment.
            Err(failure) if failure.cancelled || tokio::time::Instant::now() > until => return Err(failure),
            Ok(None) | Err(_) => kube.pause("ready", Duration::from_millis(500)).await?,
        }
    }
}

/// The node, if nothing is missing of it.
async fn whole(kube: &Kube<'_>, node_name: &str) -> Result<Option<Node>, Failure> {
    let node = known(kube, kube.distribution.admin(), node_name).await?;
    let votes = etcd::votes(kube, node_name).await?;
    Ok(node.filter(|node| node.control_plane && votes))
}

const REGISTERED: Duration = Duration::from_secs(180);
/// Of one that runs, or ran before.
const KNOWN: Duration = Duration::from_secs(120);
