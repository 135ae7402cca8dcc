//! When what a manifest brings is ready, and why it is not yet.
//!
//! Source: kubectl 1.36, `rollout status` (`polymorphichelpers/rollout_status.go`); the API's documentation of each kind's conditions.

use super::live;
use super::object::Id;
use super::{Work, kubectl};
use crate::cluster::kube::failure;
use crate::host::Host;
use crate::run::Failure;
use serde_json::Value;
use std::collections::BTreeMap;

/// How an object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Gate {
    Open,
    /// What is waited for.
    Shut(String),
    /// It never opens.
    Broken(String),
}

/// Waits until all of `ids` that can be ready are.
pub(super) async fn pass(work: &Work<'_>, ids: &[Id]) -> Result<(), Failure> {
    let ids: Vec<Id> = ids.iter().filter(|id| is_gated(id)).cloned().collect();
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let live = work.live(&ids).await?;
        let mut shut = Vec::new();
        for id in &ids {
            let found = live::find(&live, id);
            match found.map_or_else(|| Gate::Shut("it is not there".to_owned()), |live| judge(id, &live.body)) {
                Gate::Open => {}
                Gate::Shut(why) => shut.push((id, why, found)),
                Gate::Broken(why) => return Err(failure(GATE, format!("{id} has failed: {why}"))),
            }
        }
        if shut.is_empty() {
            return Ok(());
        }
        if work.is_late() {
            return Err(late(work, &shut).await);
        }
        for (id, why, _) in shut {
            let id = id.to_string();
            if told.get(&id) != Some(&why) {
                work.say(&format!("waiting for {id}: {why}"));
                told.insert(id, why);
            }
        }
        work.kube.pause(&work.step, super::PAUSE).await?;
    }
}

/// What is not ready when the time is over, with what its pods say.
async fn late(work: &Work<'_>, shut: &[(&Id, String, Option<&live::Live>)]) -> Failure {
    let mut lines = Vec::new();
    for (id, why, live) in shut.iter().take(super::TOLD) {
        let pods = match live {
            Some(live) => pods(work.kube.host(), id, &live.body).await,
            None => Vec::new(),
        };
        let pods: String = pods.iter().take(PODS).map(|line| format!("; {line}")).collect();
        lines.push(format!("{id}: {why}{pods}"));
    }
    let after = work.timeout.as_secs();
    failure(GATE, format!("not ready after {after} s: {}", lines.join("; ")))
}

fn is_gated(id: &Id) -> bool {
    let kind = (id.group(), id.kind.as_str());
    GATED.contains(&kind)
}

fn judge(id: &Id, body: &Value) -> Gate {
    match (id.group(), id.kind.as_str()) {
        ("apps", "Deployment") => deployment(body),
        ("apps", "DaemonSet") => daemon_set(body),
        ("apps", "StatefulSet") => stateful_set(body),
        ("batch", "Job") => job(body),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => condition(body, "Established"),
        ("apiregistration.k8s.io", "APIService") => condition(body, "Available"),
        ("", "Pod") => pod(body),
        (_, _) => Gate::Open,
    }
}

/// Whether its controller has seen it as it is now.
fn seen(body: &Value) -> bool {
    number(&body["status"]["observedGeneration"]) >= number(&body["metadata"]["generation"])
}

fn deployment(body: &Value) -> Gate {
    let (status, want) = (&body["status"], replicas(body));
    let stuck = find_condition(status, "Progressing").filter(|found| found["reason"] == "ProgressDeadlineExceeded");
    if !seen(body) {
        return Gate::Shut(NOT_SEEN.to_owned());
    }
    let updated = number(&status["updatedReplicas"]);
    let gate = if updated < want {
        part(updated, want, "are of this version")
    } else if number(&status["replicas"]) > updated {
        Gate::Shut("replicas of the version before are still there".to_owned())
    } else {
        part(number(&status["availableReplicas"]), want, "are available")
    };
    match (gate, stuck) {
        (Gate::Shut(why), Some(stuck)) => Gate::Shut(format!("{why}; {}", text(&stuck["message"]))),
        (gate, _) => gate,
    }
}

fn daemon_set(body: &Value) -> Gate {
    let status = &body["status"];
    if !seen(body) {
        return Gate::Shut(NOT_SEEN.to_owned());
    }
    let want = number(&status["desiredNumberScheduled"]);
    let updated = number(&status["updatedNumberScheduled"]);
    if updated < want && body["spec"]["updateStrategy"]["type"] != "OnDelete" {
        return part(updated, want, "are of this version");
    }
    part(number(&status["numberAvailable"]), want, "are available")
}

fn stateful_set(body: &Value) -> Gate {
    let (status, want) = (&body["status"], replicas(body));
    if !seen(body) {
        return Gate::Shut(NOT_SEEN.to_owned());
    }
    let strategy = &body["spec"]["updateStrategy"];
    let updates = strategy["type"] != "OnDelete" && number(&strategy["rollingUpdate"]["partition"]) == 0;
    let updated = number(&status["updatedReplicas"]);
    if updates && updated < want {
        return part(updated, want, "are of this version");
    }
    part(number(&status["readyReplicas"]), want, "are ready")
}

fn job(body: &Value) -> Gate {
    let status = &body["status"];
    if let Some(failed) = find_condition(status, "Failed").filter(|found| found["status"] == "True") {
        return Gate::Broken(text(&failed["message"]));
    }
    // Somebody lets it go on when it is time.
    let is_over = find_condition(status, "Complete").is_some_and(|found| found["status"] == "True");
    if is_over || body["spec"]["suspend"] == true { Gate::Open } else { Gate::Shut("it is at work".to_owned()) }
}

fn pod(body: &Value) -> Gate {
    let status = &body["status"];
    match status["phase"].as_str() {
        Some("Succeeded") => Gate::Open,
        Some("Failed") => Gate::Broken(text(&status["message"])),
        Some(_) | None => condition(body, "Ready"),
    }
}

fn condition(body: &Value, kind: &str) -> Gate {
    match find_condition(&body["status"], kind) {
        Some(found) if found["status"] == "True" => Gate::Open,
        Some(found) => Gate::Shut(format!("not {kind}: {}", text(&found["message"]))),
        None => Gate::Shut(format!("not {kind} yet")),
    }
}

fn find_condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn part(have: i64, want: i64, are: &str) -> Gate {
    if have >= want { Gate::Open } else { Gate::Shut(format!("{have} of {want} {are}")) }
}

fn replicas(body: &Value) -> i64 {
    body["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or("no reason is given").to_owned()
}

/// Why the pods of an object are not ready, one line for each that says something.
async fn pods(host: &dyn Host, id: &Id, body: &Value) -> Vec<String> {
    let Some(labels) = body["spec"]["selector"]["matchLabels"].as_object() else { return Vec::new() };
    let labels = labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let selector = format!("--selector={}", labels.collect::<Vec<_>>().join(","));
    let namespace = format!("--namespace={}", if id.namespace.is_empty() { "default" } else { &id.namespace });
    let asked = kubectl(host, &["get", "pods", &namespace, &selector, "--output=json"], String::new()).await;
    let Ok(list) = asked.map(|said| serde_json::from_str::<Value>(&said.stdout).unwrap_or_default()) else {
        return Vec::new();
    };
    let pods = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    pods.iter().filter_map(complaint).collect()
}

fn complaint(pod: &Value) -> Option<String> {
    let (name, status) = (text(&pod["metadata"]["name"]), &pod["status"]);
    let unscheduled = find_condition(status, "PodScheduled").filter(|found| found["status"] == "False");
    if let Some(found) = unscheduled {
        return Some(format!("pod {name} has no node: {}", text(&found["message"])));
    }
    let lists = [&status["initContainerStatuses"], &status["containerStatuses"]];
    lists.into_iter().filter_map(Value::as_array).flatten().find_map(|one| {
        let waiting = &one["state"]["waiting"];
        let reason = waiting["reason"].as_str().filter(|reason| !PASSING.contains(reason))?;
        Some(format!("pod {name}: {reason}: {}", text(&waiting["message"])))
    })
}

const GATE: &str = "gate";
const NOT_SEEN: &str = "its controller has not seen it yet";
/// What can be ready.
const GATED: [(&str, &str); 7] = [
    ("apps", "Deployment"),
    ("apps", "DaemonSet"),
    ("apps", "StatefulSet"),
    ("batch", "Job"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("", "Pod"),
];
/// Pods that are told of for each object.
const PODS: usize = 2;
/// Reasons of every pod that starts.
const PASSING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(api_version: &str, kind: &str, body: &Value, wanted: &str) {
        let id = Id { api_version: api_version.into(), kind: kind.into(), ..Id::default() };
        let said = match judge(&id, body) {
            Gate::Open => "open".to_owned(),
            Gate::Shut(why) => why,
            Gate::Broken(why) => format!("broken: {why}"),
        };
        assert_eq!(said, wanted, "{kind} {body}");
    }

    #[test]
    fn a_deployment_is_ready_when_all_replicas_are_new_and_available() {
        let check = |status: Value, wanted| {
            let body = json!({ "metadata": { "generation": 2 }, "spec": { "replicas": 3 }, "status": status });
            check("apps/v1", "Deployment", &body, wanted);
        };
        check(
            json!({ "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3 }),
            NOT_SEEN,
        );
        check(json!({ "observedGeneration": 2, "updatedReplicas": 1 }), "1 of 3 are of this version");
        let old = json!({ "observedGeneration": 2, "replicas": 4, "updatedReplicas": 3, "availableReplicas": 3 });
        check(old, "replicas of the version before are still there");
        let few = json!({ "observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2 });
        check(few.clone(), "2 of 3 are available");
        let mut stuck = few;
        stuck["conditions"] =
            json!([{ "type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out" }]);
        check(stuck, "2 of 3 are available; timed out");
        check(json!({ "observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3 }), "open");
    }

    #[test]
    fn a_daemon_set_is_ready_when_it_is_on_every_node_that_it_wants() {
        let body = |strategy: &str, updated: u8, available: u8| {
            json!({ "metadata": { "generation": 1 }, "spec": { "updateStrategy": { "type": strategy } }, "status": {
                "observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": updated, "numberAvailable": available } })
        };
        let check = |body: &Value, wanted| check("apps/v1", "DaemonSet", body, wanted);
        check(&body("RollingUpdate", 1, 2), "1 of 2 are of this version");
        check(&body("OnDelete", 0, 2), "open");
        check(&body("RollingUpdate", 2, 1), "1 of 2 are available");
        check(&json!({ "status": { "observedGeneration": 1 } }), "open");
    }

    #[test]
    fn a_stateful_set_is_ready_with_all_its_replicas() {
        let body = |partition: u8, updated: u8, ready: u8| {
            json!({ "spec": { "replicas": 2, "updateStrategy": { "rollingUpdate": { "partition": partition } } }, "status": {
                "updatedReplicas": updated, "readyReplicas": ready } })
        };
        let check = |body: &Value, wanted| check("apps/v1", "StatefulSet", body, wanted);
        check(&body(0, 1, 2), "1 of 2 are of this version");
        check(&body(1, 1, 2), "open");
        check(&body(0, 2, 1), "1 of 2 are ready");
    }

    #[test]
    fn a_job_comes_to_an_end_or_fails() {
        let body =
            |kind: &str| json!({ "status": { "conditions": [{ "type": kind, "status": "True", "message": "x" }] } });
        let check = |body: &Value, wanted| check("batch/v1", "Job", body, wanted);
        check(&body("Complete"), "open");
        check(&body("Failed"), "broken: x");
        check(&json!({}), "it is at work");
        check(&json!({ "spec": { "suspend": true } }), "open");
    }

    #[test]
    fn conditions_of_kinds_apis_and_pods_count() {
        let body = |kind: &str, status: &str| json!({ "status": { "conditions": [{ "type": kind, "status": status, "message": "why" }] } });
        check("apiextensions.k8s.io/v1", "CustomResourceDefinition", &body("Established", "True"), "open");
        check("apiextensions.k8s.io/v1", "CustomResourceDefinition", &json!({}), "not Established yet");
        check("apiregistration.k8s.io/v1", "APIService", &body("Available", "False"), "not Available: why");
        check("v1", "Pod", &body("Ready", "True"), "open");
        check("v1", "Pod", &json!({ "status": { "phase": "Succeeded" } }), "open");
        check("v1", "Pod", &json!({ "status": { "phase": "Failed", "message": "Evicted" } }), "broken: Evicted");
        check("v1", "ConfigMap", &json!({}), "open");
    }

    #[test]
    fn a_pod_says_why_it_is_not_ready() {
        let pod = |status: Value| complaint(&json!({ "metadata": { "name": "p" }, "status": status }));
        let waiting =
            |reason: &str| json!([{ "state": { "waiting": { "reason": reason, "message": "no such image" } } }]);
        let pulled = pod(json!({ "containerStatuses": waiting("ImagePullBackOff") }));
        assert_eq!(pulled.as_deref(), Some("pod p: ImagePullBackOff: no such image"));
        let first = pod(
            json!({ "initContainerStatuses": waiting("CrashLoopBackOff"), "containerStatuses": waiting("PodInitializing") }),
        );
        assert_eq!(first.as_deref(), Some("pod p: CrashLoopBackOff: no such image"));
        assert_eq!(pod(json!({ "containerStatuses": waiting("ContainerCreating") })), None);
        let placed =
            pod(json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes" }] }));
        assert_eq!(placed.as_deref(), Some("pod p has no node: 0/1 nodes"));
    }
}
