//! The first server of a cluster of K3s or a relative: made, or seen to be one. Any server: put right.

use super::config::{self, Note};
use super::program::{self, Release};
use super::restore::{self, Restore};
use super::unit::Unit;
use super::variant::Variant;
use crate::cluster::config::Taint;
use crate::cluster::evidence::{Attempt, Standing};
use crate::cluster::found::Found;
use crate::cluster::init::{answering, authority, node};
use crate::cluster::kube::{Kube, failed, failure, foreign, host_of};
use crate::cluster::status::ClusterError;
use crate::cluster::{Distribution, before, cleanup};
use crate::host::{Access, Host};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use agent_proto::overlay::Fragment;
use std::time::Instant;
use zeroize::Zeroizing;

/// What a server is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerPlan {
    /// Which program.
    pub release: Release,
    /// Name of this node.
    pub node_name: String,
    /// Address of this node that the others reach.
    pub address: Option<String>,
    /// `host:port` of the API server, if it is not this node's.
    pub endpoint: Option<String>,
    /// CIDR of pods.
    pub pod_subnet: Option<String>,
    /// CIDR of services.
    pub service_subnet: Option<String>,
    /// More names and addresses for the API server's certificate.
    pub certificate_names: Vec<String>,
    /// Taints of this node.
    pub taints: Option<Vec<Taint>>,
    /// What the user lays over `config.yaml`.
    pub overlay: Fragment,
    /// Pin of the cluster that this node is a server of already: nothing is made anew then.
    pub cluster_id: Option<String>,
    /// What the cluster begins with; `None`: with nothing.
    pub restore_from: Option<Restore>,
}

/// Makes this machine the first server. Changes nothing on a finished one but what somebody took from it; begins anew after a killed
/// attempt of ours.
///
/// # Errors
/// Also when something stands here that is not ours to throw away.
pub async fn init(cx: RunCx, state: State, plan: ServerPlan) -> Result<Outcome, Failure> {
    let mut kube = Kube::begin(&cx, &state).await?;
    kube.distribution = Distribution::K3s(plan.release.own);
    kube.near = near(&plan);
    let here = authority(&kube)?;
    if let Some(wanted) = plan.cluster_id.as_ref().filter(|wanted| **wanted != here) {
        let message =
            format!("this machine is no server of the cluster with the CA {wanted} any more, and none is made anew");
        return Err(failure("look", message));
    }
    let plan = ServerPlan { address: kube.own(plan.address.clone()).await, ..plan };
    if already(&kube, &plan).await? {
        mend(&kube, &plan).await?;
        return Ok(kube.done());
    }
    if plan.cluster_id.is_some() {
        return Err(failure("look", "this machine is no whole server any more, and none is made anew"));
    }
    let from = plan.restore_from.as_ref();
    let from = from.map(|from| Ok((from, restore::secret(&kube, from)?))).transpose()?;
    before::note(&kube).await?;
    kube.direct("init").await?;
    make(&kube, &plan, from).await?;
    Ok(kube.done())
}

/// What pods reach without a proxy: pods, services, and the API server.
pub(super) fn near(plan: &ServerPlan) -> Vec<String> {
    let subnet = |own: &Option<String>, usual: &str| own.clone().unwrap_or_else(|| usual.to_owned());
    let endpoint = plan.endpoint.as_deref().map(|endpoint| host_of(endpoint).to_owned());
    let networks = [subnet(&plan.pod_subnet, PODS), subnet(&plan.service_subnet, SERVICES)];
    networks.into_iter().chain(endpoint).collect()
}

/// Whether this machine is the server already; clears away what a killed attempt of ours has left.
async fn already(kube: &Kube<'_>, plan: &ServerPlan) -> Result<bool, Failure> {
    let found = Found::look(kube)?;
    let (here, ours) = (&found.here, found.is_cut_off);
    match found.standing {
        Standing::Clean => Ok(false),
        Standing::ControlPlane if found.was_finished() && found.is_made() => Ok(true),
        // The agent died while it watched, and K3s came up by itself.
        Standing::ControlPlane if ours && is_whole(kube, &plan.node_name).await => {
            finish(kube, plan, Attempt::new("init", &plan.node_name).finished(here)).await?;
            Ok(true)
        }
        // Its cluster lives elsewhere.
        Standing::ControlPlane | Standing::Partial if ours && plan.cluster_id.is_some() => Ok(false),
        Standing::ControlPlane | Standing::Partial if ours => {
            cleanup::undo(kube, "init", "an earlier attempt did not come to its end").await?;
            Ok(false)
        }
        Standing::ControlPlane => Err(of_somebody(plan.release.own, here)),
        Standing::Worker => Err(is_agent(plan.release.own)),
        Standing::Partial => Err(cleanup::not_ours(&found.traces)),
    }
}

pub(super) fn of_somebody(own: &Variant, here: &str) -> Failure {
    let server = format!("a server of {} that this agent did not make", own.name);
    foreign(format!("{server} stands on this machine: its CA is {here}"))
}

pub(super) fn is_agent(own: &Variant) -> Failure {
    foreign(format!("this machine is an agent of a cluster of {}: take it out of that one first", own.name))
}

async fn is_whole(kube: &Kube<'_>, node_name: &str) -> bool {
    node(kube, node_name).await.is_ok_and(|node| node.is_some_and(|node| node.control_plane))
}

/// The note comes first, and the unit last: whatever is cut off is known as ours, and nothing runs that is not whole.
async fn make(kube: &Kube<'_>, plan: &ServerPlan, from: Option<(&Restore, Zeroizing<String>)>) -> Result<(), Failure> {
    let (own, mut attempt) = (plan.release.own, Attempt::new("init", &plan.node_name));
    attempt.mark = Some(hex::encode(trust::nonce()));
    kube.note(&attempt)?;
    let endpoint = plan.endpoint.clone().or_else(|| plan.address.as_deref().map(with_port));
    let endpoint = endpoint
        .ok_or_else(|| failure("init", "the address of the API server is not known: give the cluster an `endpoint`"))?;
    let own_program = !program::stands(kube, &plan.release).await?;
    let note = Note { mark: attempt.mark.clone(), endpoint: full(&endpoint), own_program };
    note.write(kube.host(), own).map_err(failed("init", "note what is begun"))?;
    program::install(kube, &plan.release, own_program).await?;
    let text = config::server(plan, None).map_err(|why| failure("config", why))?;
    known(kube, ("server", &plan.release), &plan.overlay).await?;
    kube.may_go_on("init")?;
    kube.cx.step_began("init", 1);
    let since = Instant::now();
    let write = |path, text: &str, what| {
        kube.host().write(path, text.as_bytes(), Access::PRIVATE).map_err(failed("init", what))
    };
    write(own.places.config, &text, "write its configuration")?;
    if let Some((from, secret)) = from {
        let secret = Zeroizing::new(format!("{}\n", *secret));
        write(own.places.token, &secret, "write the cluster's secret")?;
        restore::place(kube, own, from, &secret).await?;
    }
    own.server.write(kube, "init").await?;
    own.server.start(kube, "init", own.patience[0]).await?;
    let here = authority(kube)?;
    let attempt = attempt.under(&here);
    kube.note(&attempt)?;
    kube.made("init", &format!("start {}", own.server.name), "this machine becomes the first server", since);
    answering(kube, Some(&plan.node_name)).await?;
    finish(kube, plan, attempt.finished(&here)).await
}

/// Notes that the attempt came to its end. Before that, a cluster that began with a snapshot leaves behind what was of the one before.
async fn finish(kube: &Kube<'_>, plan: &ServerPlan, attempt: Attempt) -> Result<(), Failure> {
    if plan.restore_from.is_some() {
        restore::leave_behind(kube, &plan.node_name).await?;
    }
    kube.note(&attempt)
}

/// Refuses settings that this program does not know: it would pass over them with a warning.
pub(super) async fn known(kube: &Kube<'_>, (role, release): (&str, &Release), over: &Fragment) -> Result<(), Failure> {
    if over.is_empty() {
        return Ok(());
    }
    let help = program::help(kube, release.own, role).await?;
    let Some(key) = config::unknown(over, &help) else { return Ok(()) };
    let command = format!("`{} {role}` of {}", release.own.program, release.version);
    Err(failure("config", format!("config.{role}: {command} has no setting {key:?}")))
}

/// Puts right what somebody has taken away from a finished server: its run, or its Node. One whose Node was deleted seems to run on, and
/// its API server does not answer: a restart brings both back.
async fn mend(kube: &Kube<'_>, plan: &ServerPlan) -> Result<(), Failure> {
    let (since, own) = (Instant::now(), plan.release.own);
    let Unit { name, .. } = own.server;
    if !own.server.stand(kube, MEND).await?.runs() {
        own.server.write(kube, MEND).await?;
        own.server.start(kube, MEND, own.patience[0]).await?;
        kube.made(MEND, &format!("start {name}"), "it did not run", since);
    } else if !node(kube, &plan.node_name).await.is_ok_and(|node| node.is_some()) {
        own.server.start(kube, MEND, own.patience[0]).await?;
        kube.made(MEND, &format!("restart {name}"), &format!("the cluster has no node {}", plan.node_name), since);
    }
    answering(kube, Some(&plan.node_name)).await.map_err(|failure| Failure { step: MEND.to_owned(), ..failure })
}

fn with_port(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:6443") } else { format!("{address}:6443") }
}

/// An endpoint with a port.
fn full(endpoint: &str) -> String {
    let has_port = endpoint
        .rsplit_once(':')
        .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    if has_port { endpoint.to_owned() } else { with_port(endpoint.trim_matches(['[', ']'])) }
}

/// Has the server that began the cluster know of others from its next start on. They have the cluster's secret, and a server that K3s has taken
/// out of etcd joins by it.
pub(super) fn has_others(host: &dyn Host, own: &Variant, (endpoint, token): (&str, &str)) -> Result<(), ClusterError> {
    let config = own.places.config;
    let text = host.text(config).map_err(ClusterError::Host)?.unwrap_or_default();
    let text = config::of_several(own, &text, endpoint)
        .map_err(|error| ClusterError::Token(format!("{config} is not as it was written: {error}")))?;
    let Some(text) = text else { return Ok(()) };
    for (path, text) in [(own.places.token, format!("{token}\n")), (config, text)] {
        host.write(path, text.as_bytes(), Access::PRIVATE).map_err(ClusterError::Host)?;
    }
    Ok(())
}

const MEND: &str = "repair";
/// K3s' defaults, and its relatives'.
const PODS: &str = "10.42.0.0/16";
const SERVICES: &str = "10.43.0.0/16";

#[cfg(test)]
mod endpoint_tests {
    use super::full;

    #[test]
    fn an_endpoint_is_noted_with_its_port() {
        for (given, want) in [
            ("10.99.0.11", "10.99.0.11:6443"),
            ("api.example.org", "api.example.org:6443"),
            ("api.example.org:443", "api.example.org:443"),
            ("fd00::11", "[fd00::11]:6443"),
            ("[fd00::11]:6443", "[fd00::11]:6443"),
        ] {
            assert_eq!(full(given), want);
        }
    }
}
