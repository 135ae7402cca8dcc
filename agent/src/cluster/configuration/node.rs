//! The kubelet of this machine takes the cluster's configuration of kubelets, and its node is ready under it.
//!
//! A node counts as ready for a while after its kubelet has died. That the new one lives is seen by its lease, which it renews every ten
//! seconds. Source: kubeadm 1.36, `upgrade node phase kubelet-config`; kubernetes.io, "Leases".

use super::{Work, kept};
use crate::cluster::causes;
use crate::cluster::kube::{SYSTEMCTL, failed, failure, kubeadm, refused, with};
use crate::cluster::{kubelet, nodes};
use crate::host::Command;
use crate::run::Failure;
use std::time::{Duration, Instant};

/// Has the kubelet take the configuration that the cluster notes; starts it anew only if that is another one.
pub(super) async fn take(work: &Work<'_>) -> Result<(), Failure> {
    let kube = work.kube;
    kube.may_go_on(STEP)?;
    let text = || kube.host().text(CONFIG).map_err(failed(STEP, &format!("read {CONFIG}")));
    let before = text()?.ok_or_else(|| failure(STEP, format!("{CONFIG} is not there")))?;
    kube.cx.step_began(STEP, 1);
    kept::file(work, CONFIG, &before, None)?;
    let patches = work.patches().map(|directory| format!("--patches={directory}")).unwrap_or_default();
    let words = with(&["upgrade", "node", "phase", "kubelet-config"], &patches);
    let said = kube.kubeadm(STEP, &words, TIME).await?;
    if said.code != Some(0) {
        return Err(refused(STEP, &Command::new(kubeadm(kube.host()), words), &said));
    }
    if text()?.as_ref() == Some(&before) {
        return Ok(());
    }
    restarted(work, STEP, "its configuration is another one").await
}

/// Starts the kubelet anew and waits until its node is ready.
pub(super) async fn restarted(work: &Work<'_>, step: &str, why: &str) -> Result<(), Failure> {
    let (kube, began, since) = (work.kube, work.kube.host().now(), Instant::now());
    kubelet::start(kube, step, why).await?;
    let (until, before) = (tokio::time::Instant::now() + READY, renewed(work).await?);
    let mut good = 0;
    while good < STEADY {
        kube.pause(step, Duration::from_secs(2)).await?;
        let lives = renewed(work).await?.is_some_and(|now| before.as_ref() != Some(&now));
        good = if lives && is_ready(work).await? { good + 1 } else { 0 };
        let falls = restarts(work).await? >= FELL;
        if falls || tokio::time::Instant::now() > until {
            let message = if falls {
                "the kubelet does not start as it is declared".to_owned()
            } else {
                format!("node {} is not ready as it is declared after {} s", work.plan.node_name, READY.as_secs())
            };
            return Err(failure(step, causes::before(kube, message, began).await));
        }
    }
    tracing::debug!(took_ms = since.elapsed().as_millis(), "the kubelet has its configuration");
    Ok(())
}

/// When the kubelet has last renewed its lease, in the API server's words.
async fn renewed(work: &Work<'_>) -> Result<Option<String>, Failure> {
    let name = work.plan.node_name.as_str();
    let ask = ["get", "lease", name, "--namespace", "kube-node-lease", "-o", "jsonpath={.spec.renewTime}"];
    let said = work.kube.kubectl(work.kubeconfig, &ask).await.map_err(failed(STEP, "ask for the node's lease"))?;
    Ok((said.code == Some(0)).then(|| said.stdout.trim().to_owned()))
}

async fn is_ready(work: &Work<'_>) -> Result<bool, Failure> {
    let ask = ["get", "node", &work.plan.node_name, "--ignore-not-found", "-o", "json"];
    let said = work.kube.kubectl(work.kubeconfig, &ask).await.map_err(failed(STEP, "ask for the node"))?;
    let node = nodes::read_one(&said.stdout).ok().flatten();
    // Without a pod network no node is ready, and that is nothing that a kubelet's configuration does.
    Ok(node.is_some_and(|node| node.ready || node.ready_message.contains("NetworkPluginNotReady")))
}

/// How often systemd has started it since we did.
async fn restarts(work: &Work<'_>) -> Result<u32, Failure> {
    let ask = Command::new(SYSTEMCTL, ["show", "--property=NRestarts", "--value", "kubelet.service"]);
    let said = work.kube.host().run(&ask, &|_| {}).await.map_err(failed(STEP, "ask for the kubelet's restarts"))?;
    Ok(said.stdout.trim().parse().unwrap_or(0))
}

/// Where kubeadm writes what the kubelet reads.
pub(super) const CONFIG: &str = "/var/lib/kubelet/config.yaml";
pub(super) const STEP: &str = "config kubelet";
const TIME: Duration = Duration::from_secs(120);
const READY: Duration = Duration::from_secs(180);
const STEADY: u32 = 3;
/// A kubelet that ended so often does not start.
const FELL: u32 = 3;
