//! How a control plane does, before and after it is changed: its API server and etcd, its static pods, and what kubeadm has noted
//! of the cluster.
//!
//! kubeadm can end well although a container of the control plane ends again and again: it looks for a new pod, not for one that
//! stays up. So the pods are looked at here. Source: recordings of `kubeadm upgrade`, 1.28 and 1.35.

use super::kube::{Kube, failed, failure};
use super::output::reasons;
use super::static_pods::{self, Pod};
use super::version::Version;
use super::{causes, etcd};
use crate::chain::chain;
use crate::run::Failure;
use serde::Deserialize;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What kubeadm has noted of the cluster: the ConfigMap `kubeadm-config`, which every node may read.
pub(super) struct Noted(String);

impl Noted {
    /// Asks until the API server answers.
    pub(super) async fn ask(kube: &Kube<'_>, kubeconfig: &str) -> Result<Self, Failure> {
        let question = ["get", "configmap", "kubeadm-config", "--namespace", "kube-system", "-o", "json"];
        let json = kube.ask("look", kubeconfig, &question).await?;
        let map: ConfigMap = serde_json::from_str(&json).map_err(failed("look", "read kubeadm-config"))?;
        Ok(Self(map.data.cluster_configuration))
    }

    /// Version of Kubernetes.
    pub(super) fn version(&self) -> Result<Version, Failure> {
        self.field("kubernetesVersion").unwrap_or_default().parse().map_err(failed("look", "read kubeadm-config"))
    }

    /// What the cluster's own programs reach without a proxy.
    pub(super) fn near(&self) -> Vec<String> {
        let networks = ["podSubnet", "serviceSubnet"].into_iter().filter_map(|name| self.field(name));
        let endpoint = self.field("controlPlaneEndpoint").map(super::kube::host_of);
        networks.chain(endpoint).map(str::to_owned).collect()
    }

    /// kubeadm writes it by itself, one field a line.
    fn field(&self, name: &str) -> Option<&str> {
        let value = self.0.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "))?;
        Some(value.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty())
    }
}

/// What is to be well.
enum Good<'a> {
    /// The API server, and every member of etcd.
    Health,
    /// The static pods of this node, which are to have this version.
    Pods(&'a str, Version),
}

/// Waits until the API server is ready and every member of etcd is.
pub(super) async fn healthy(kube: &Kube<'_>, kubeconfig: &str) -> Result<(), Failure> {
    steadily(kube, kubeconfig, Good::Health).await
}

/// Waits until the static pods of this node are of this version and stay up.
pub(super) async fn runs(
    kube: &Kube<'_>,
    (kubeconfig, node_name): (&str, &str),
    version: Version,
    began: SystemTime,
) -> Result<(), Failure> {
    match steadily(kube, kubeconfig, Good::Pods(node_name, version)).await {
        Err(mut failure) if !failure.cancelled => {
            failure.message = causes::before(kube, failure.message, began).await;
            Err(failure)
        }
        other => other,
    }
}

impl Good<'_> {
    fn step(&self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Pods(..) => "control plane",
        }
    }

    /// Fine, or what is wrong.
    async fn look(&self, kube: &Kube<'_>, kubeconfig: &str) -> Result<Result<(), String>, Failure> {
        let (node_name, version) = match self {
            Self::Health => return health(kube, kubeconfig).await,
            Self::Pods(node_name, version) => (node_name, *version),
        };
        let pods = static_pods::ask(kube, (PODS, kubeconfig), &static_pods::on(node_name)).await?;
        Ok(pods.and_then(|pods| COMPONENTS.iter().try_for_each(|name| complaint(&pods, name, version))))
    }
}

async fn health(kube: &Kube<'_>, kubeconfig: &str) -> Result<Result<(), String>, Failure> {
    for path in ["/readyz", "/readyz/etcd"] {
        let said = kube.kubectl(kubeconfig, &["get", "--raw", path]).await;
        let said = said.map_err(failed("health", "ask whether it is ready"))?;
        if said.code != Some(0) {
            return Ok(Err(format!("the API server does not say that {path} is fine: {}", why(&said.stderr))));
        }
    }
    let members = static_pods::ask(kube, (PODS, kubeconfig), "--selector=component=etcd").await?;
    let unready = |members: Vec<Pod>| match members.iter().find(|pod| !pod.is_ready()) {
        Some(pod) => Err(format!("{} is not ready", pod.metadata.name)),
        None => Ok(()),
    };
    if let Err(why) = members.and_then(unready) {
        return Ok(Err(why));
    }
    // A member may have lost its pod, and its vote counts still.
    Ok(match etcd::look(kube.host()).await {
        Ok(members) => members.iter().flatten().find_map(etcd::complaint).map_or(Ok(()), Err),
        Err(error) => Err(chain(&error)),
    })
}

/// Looks until all is well three times in a row.
async fn steadily(kube: &Kube<'_>, kubeconfig: &str, good: Good<'_>) -> Result<(), Failure> {
    let step = good.step();
    kube.cx.step_began(step, 0);
    let until = Instant::now() + HEALTHY;
    let (mut times, mut told) = (0, String::new());
    loop {
        match good.look(kube, kubeconfig).await? {
            Ok(()) => times += 1,
            Err(why) if Instant::now() > until => {
                return Err(failure(step, format!("after {} s: {why}", HEALTHY.as_secs())));
            }
            Err(why) => {
                times = 0;
                if told != why {
                    kube.cx.note(step, &format!("waiting: {why}"));
                }
                told = why;
            }
        }
        if times == STEADY {
            return Ok(());
        }
        kube.pause(step, PAUSE).await?;
    }
}

/// What is wrong with a component of the control plane.
fn complaint(pods: &[Pod], name: &str, version: Version) -> Result<(), String> {
    let Some(pod) = pods.iter().find(|pod| pod.is_of(name)) else {
        return Err(format!("there is no pod of {name}"));
    };
    let image = pod.image();
    if !image.ends_with(&format!(":{version}")) {
        return Err(format!("{name} is still {image}"));
    }
    if pod.is_ready() { Ok(()) } else { Err(format!("{name} {version} is not ready")) }
}

fn why(stderr: &str) -> String {
    reasons(stderr).join("; ")
}

#[derive(Deserialize)]
struct ConfigMap {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "ClusterConfiguration")]
    cluster_configuration: String,
}

const PODS: &str = "control plane";
/// What carries the version of Kubernetes in the tag of its image.
const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// An etcd that is restarted is away for a minute or so, and with it the API server.
const HEALTHY: Duration = Duration::from_secs(300);
const STEADY: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubeadm_has_noted_is_read() {
        let noted = Noted(include_str!("recorded/cluster-configuration.txt").to_owned());
        assert_eq!(noted.version().unwrap().to_string(), "v1.35.1");
        assert_eq!(noted.near(), ["10.244.0.0/16", "10.96.0.0/12"]);
        assert!(Noted(String::new()).version().is_err());
    }

    #[test]
    fn a_component_of_the_old_version_or_that_does_not_stay_up_is_named() {
        let version: Version = "1.36.4".parse().unwrap();
        let pod = |tag: &str, ready: &str| static_pods::tests::one("kube-scheduler", tag, ready, &[]);
        let said = |pods: &[Pod]| complaint(pods, "kube-scheduler", version);
        assert_eq!(said(&pod("v1.36.4", "True")), Ok(()));
        assert_eq!(
            said(&pod("v1.36.3", "True")).unwrap_err(),
            "kube-scheduler is still registry.k8s.io/kube-scheduler:v1.36.3"
        );
        assert_eq!(said(&pod("v1.36.4", "False")).unwrap_err(), "kube-scheduler v1.36.4 is not ready");
        assert_eq!(said(&[]).unwrap_err(), "there is no pod of kube-scheduler");
    }

    #[test]
    fn any_text_is_answered() {
        total::text("kubeadm-config", &["kubernetesVersion: v1.35.1\npodSubnet: \"10.0.0.0/8\"\n"], |text| {
            let noted = Noted(text.to_owned());
            (noted.version().is_ok(), noted.near())
        });
    }
}
