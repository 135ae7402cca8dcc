//! Another version of K3s or a relative on this machine: its program replaced as a whole, and its unit started anew.
//!
//! K3s itself refuses nothing: it goes back, and an agent runs that is newer than its servers. So what may be is looked at here. The new program stands
//! beside the old one until the node is empty; a node is finished when its kubelet has the version, as with kubeadm, whose upgrade marks, empties and gives
//! back nodes for this one, too. What does not run is not waited for: it gets the program and is started.
//! Source: recordings of upgrades, 1.34.3 to 1.34.4; Kubernetes, "Version Skew Policy".

use super::program::{self, Release};
use super::unit::Unit;
use super::variant::Variant;
use crate::cluster::kube::{Kube, failed, failure};
use crate::cluster::nodes::Node;
use crate::cluster::upgrade::{self, Work, is_node_of};
use crate::cluster::version::Version;
use crate::cluster::{Distribution, control_plane};
use crate::run::{Failure, Outcome, RunCx};
use crate::state::State;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// What this machine's node is to become.
#[derive(Debug, Clone)]
pub struct UpgradePlan {
    /// The program it is to run.
    pub release: Release,
    /// Name of the node.
    pub node_name: String,
    /// The cluster it is a node of.
    pub cluster_id: String,
    /// How long its pods may take to leave.
    pub drain: Duration,
    /// Nothing is done: only whether it could be.
    pub only_check: bool,
}

/// Brings the node of this machine to another version. Changes nothing on one that has it.
///
/// # Errors
/// At `skew` when it cannot be, at `drain` when pods do not leave: the node goes on as it was then. At other steps it stands where it stands, and
/// a repetition goes on there.
pub async fn upgrade(cx: RunCx, state: State, plan: UpgradePlan) -> Result<Outcome, Failure> {
    let kube = Kube::begin(&cx, &state).await?;
    let (is_server, own) = (is_node_of(&kube, &plan.cluster_id)?, plan.release.own);
    if kube.distribution != Distribution::K3s(own) {
        return Err(failure(LOOK, format!("this machine is no node of {}", own.name)));
    }
    let (unit, kubeconfig) = match is_server {
        true => (own.server, kube.distribution.admin()),
        false => (own.agent, kube.distribution.node()),
    };
    if !unit.stand(&kube, LOOK).await?.runs() {
        if plan.only_check {
            return Ok(kube.done());
        }
        program::stage(&kube, &plan.release).await?;
        start(&kube, &plan.release, unit).await?;
    }
    let common = upgrade::UpgradePlan {
        version: version(own, &plan.release.version)?.0,
        node_name: plan.node_name.clone(),
        cluster_id: plan.cluster_id.clone(),
        drain: plan.drain,
        ignored_checks: Vec::new(),
        only_check: plan.only_check,
        after: None,
    };
    let cluster = version(own, &of_api_server(&kube, kubeconfig).await?)?.0;
    let work = Work { kube: &kube, plan: &common, kubeconfig, is_control_plane: is_server, cluster };
    let node = work.node().await?;
    if version(own, &node.kubelet_version)? > version(own, &plan.release.version)? {
        let why = format!("node {} has {}, and nothing is made older than it is", node.name, node.kubelet_version);
        return Err(failure("skew", format!("no upgrade to {}: {why}", plan.release.version)));
    }
    work.may_be(&node)?;
    if plan.only_check {
        return Ok(kube.done());
    }
    let done = if is_done(&kube, &plan, &node).await? { Ok(()) } else { all(&work, &plan, (&node, unit)).await };
    let given_back = work.give_back(done.is_ok()).await;
    done.and(given_back).map(|()| kube.done())
}

async fn is_done(kube: &Kube<'_>, plan: &UpgradePlan, node: &Node) -> Result<bool, Failure> {
    let has_it = node.ready && node.kubelet_version == plan.release.version;
    Ok(has_it && program::stands(kube, &plan.release).await?)
}

/// Everything, from the beginning: each part does only what is missing.
async fn all(work: &Work<'_>, plan: &UpgradePlan, (node, unit): (&Node, Unit)) -> Result<(), Failure> {
    if work.is_control_plane {
        control_plane::healthy(work.kube, work.kubeconfig).await?;
    }
    program::stage(work.kube, &plan.release).await?;
    work.empty(node).await?;
    start(work.kube, &plan.release, unit).await?;
    ready(work, plan).await
}

/// Puts the program in its place and starts the unit anew.
async fn start(kube: &Kube<'_>, release: &Release, unit: Unit) -> Result<(), Failure> {
    kube.may_go_on(START)?;
    program::replace(kube, release).await?;
    kube.cx.step_began(START, 1);
    let since = std::time::Instant::now();
    unit.write(kube, START).await?;
    unit.start(kube, START, release.own.patience[0]).await?;
    kube.made(START, &format!("restart {}", unit.name), &format!("it is to be {}", release.version), since);
    Ok(())
}

/// Waits until the node is ready under its new kubelet, which says so some seconds after its unit.
async fn ready(work: &Work<'_>, plan: &UpgradePlan) -> Result<(), Failure> {
    let until = Instant::now() + READY_TIME;
    let (mut good, wanted) = (0, &plan.release.version);
    loop {
        let node = work.node().await?;
        let is_new = node.kubelet_version == *wanted;
        good = if is_new && node.ready { good + 1 } else { 0 };
        if good == STEADY {
            return Ok(());
        }
        if Instant::now() > until {
            let state =
                if is_new { node.ready_message } else { format!("its kubelet is still {}", node.kubelet_version) };
            let after = READY_TIME.as_secs();
            return Err(failure(
                "ready",
                format!("node {} is not ready as {wanted} after {after} s: {state}", node.name),
            ));
        }
        work.kube.pause("ready", Duration::from_secs(1)).await?;
    }
}

/// Of the API server that this machine asks; every node may ask for that.
async fn of_api_server(kube: &Kube<'_>, kubeconfig: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        git_version: String,
    }
    let json = kube.ask(LOOK, kubeconfig, &["get", "--raw", "/version"]).await?;
    let told: Told = serde_json::from_str(&json).map_err(failed(LOOK, "read the API server's version"))?;
    Ok(told.git_version)
}

/// Of Kubernetes, and its own number behind it: `v1.34.3+k3s1`.
fn version(own: &Variant, text: &str) -> Result<(Version, u32), Failure> {
    let number = text.rsplit_once(own.build).and_then(|(_, number)| number.parse().ok()).unwrap_or_default();
    Ok((text.parse().map_err(failed(LOOK, &format!("read a version of {}", own.name)))?, number))
}

const LOOK: &str = "look";
const START: &str = "start";
const READY_TIME: Duration = Duration::from_secs(300);
/// A kubelet says that it is ready for a moment before it sees what it lacks.
const STEADY: u32 = 3;

#[cfg(test)]
mod version_tests {
    use super::version;
    use crate::cluster::k3s::{K3S, RKE2};

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let of = |text: &str| version(&K3S, text).unwrap();
        assert!(of("v1.34.3+k3s2") > of("v1.34.3+k3s1") && of("v1.34.3+k3s10") > of("v1.34.3+k3s9"));
        assert!(of("v1.34.4+k3s1") > of("v1.34.3+k3s9"));
        let of = |text: &str| version(&RKE2, text).unwrap();
        assert!(of("v1.34.3+rke2r10") > of("v1.34.3+rke2r9") && of("v1.34.4+rke2r1") > of("v1.34.3+rke2r2"));
        assert!(version(&K3S, "k3s").is_err());
        total::text("k3s-version", &["v1.34.3+k3s1"], |text| version(&K3S, text).ok().map(|(_, number)| number));
    }
}
