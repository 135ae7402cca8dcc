//! kube-proxy takes the configuration in its ConfigMap when it starts: so its pods are replaced, as many at a time as its DaemonSet says.

use super::Work;
use super::pods::MARK;
use crate::cluster::kube::{ADMIN, CACHE, failed, failure};
use crate::cluster::output::mask;
use crate::host::Command;
use crate::run::Failure;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Replaces all pods, and waits until the new ones are there.
pub(super) async fn roll_out(work: &Work<'_>, stamp: &str) -> Result<(), Failure> {
    let (kube, since) = (work.kube, Instant::now());
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": { (MARK): stamp } } } } }).to_string();
    let words = [
        "--kubeconfig",
        ADMIN,
        CACHE,
        "patch",
        "daemonset",
        NAME,
        "--namespace",
        "kube-system",
        "--type=merge",
        "--patch",
        &patch,
    ];
    kube.insist(STEP, &Command::new(kube.distribution.kubectl(kube.host()), words)).await?;
    let until = tokio::time::Instant::now() + TIME;
    loop {
        let ask = ["get", "daemonset", NAME, "--namespace", "kube-system", "-o", "json"];
        let said = kube.kubectl(ADMIN, &ask).await.map_err(failed(STEP, "ask for kube-proxy"))?;
        let state = serde_json::from_str(&said.stdout).map_or(Rollout::Unknown, |set: Value| Rollout::of(&set));
        if state == Rollout::Done {
            break;
        }
        if tokio::time::Instant::now() > until {
            let words = last_words(work).await.map(|words| format!("; kube-proxy says: {words}")).unwrap_or_default();
            return Err(failure(STEP, format!("{state} after {} s{words}", TIME.as_secs())));
        }
        kube.pause(STEP, Duration::from_secs(2)).await?;
    }
    kube.made(STEP, "replace the pods of kube-proxy", "its configuration is another one", since);
    Ok(())
}

/// How far the pods of a DaemonSet are.
#[derive(Debug, PartialEq, Eq)]
enum Rollout {
    Done,
    /// So many of all.
    Under(u64, u64),
    Unknown,
}

impl std::fmt::Display for Rollout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("kube-proxy is up"),
            Self::Under(up, all) => write!(f, "{up} of {all} pods of kube-proxy are up as it is declared"),
            Self::Unknown => f.write_str("the API server does not tell of kube-proxy"),
        }
    }
}

impl Rollout {
    fn of(set: &Value) -> Self {
        let number = |name: &str| set["status"][name].as_u64().unwrap_or(0);
        let (all, new, up) =
            (number("desiredNumberScheduled"), number("updatedNumberScheduled"), number("numberAvailable"));
        if set["status"]["observedGeneration"] != set["metadata"]["generation"] {
            return Self::Unknown;
        }
        if new >= all && up >= all { Self::Done } else { Self::Under(new.min(up), all) }
    }
}

/// Of a new pod that does not stay up.
async fn last_words(work: &Work<'_>) -> Option<String> {
    let ask = ["get", "pods", "--namespace", "kube-system", "--selector=k8s-app=kube-proxy", "-o", "json"];
    let said = work.kube.kubectl(ADMIN, &ask).await.ok()?;
    let list: Value = serde_json::from_str(&said.stdout).ok()?;
    let is_down = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] != true;
    let name = list["items"].as_array()?.iter().find(is_down)?["metadata"]["name"].as_str()?;
    let ask = ["logs", name, "--namespace", "kube-system", "--tail=1"];
    let said = work.kube.kubectl(ADMIN, &ask).await.ok()?;
    said.stdout.lines().last().map(mask)
}

const NAME: &str = "kube-proxy";
pub(super) const STEP: &str = "config kube-proxy";
const TIME: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pods_are_to_be_new_and_available() {
        let set = |generation: u64, new: u64, up: u64| {
            json!({
                "metadata": { "generation": 2 },
                "status": { "observedGeneration": generation, "desiredNumberScheduled": 3, "updatedNumberScheduled": new, "numberAvailable": up },
            })
        };
        assert_eq!(Rollout::of(&set(2, 3, 3)), Rollout::Done);
        assert_eq!(Rollout::of(&set(1, 3, 3)), Rollout::Unknown, "the controller has not seen it");
        assert_eq!(Rollout::of(&set(2, 3, 2)).to_string(), "2 of 3 pods of kube-proxy are up as it is declared");
    }
}
