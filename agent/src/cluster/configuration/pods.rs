//! The static pods of a control plane: their manifests, as kubeadm would write them now, and whether what runs is of them.
//!
//! kubeadm writes them on trial into a folder of its own (`--dry-run`), in the same way in which its upgrades write them, etcd's too, and
//! nothing of what runs hears of it. One that differs takes the place of the old one in a single step, with an annotation by which its pod is
//! told from the one before. Source: kubeadm 1.36, phases `control-plane` and `etcd`.

use super::FILE;
use crate::cluster::causes;
use crate::cluster::control_plane;
use crate::cluster::kube::{ADMIN, Kube, failed, failure, kubeadm, refused};
use crate::cluster::renewal::annotated;
use crate::cluster::static_pods::{self, Pod};
use crate::host::Command;
use crate::run::Failure;
use agent_proto::overlay::Fragment;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// A part of the control plane that runs as a static pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Component {
    /// Of its pod and its container.
    pub(super) name: &'static str,
    /// Where it stands in `ClusterConfiguration`.
    section: &'static str,
    /// kubeadm's phase of `init` that writes its manifest.
    phase: [&'static str; 2],
}

/// In the order in which they need one another.
pub(super) const COMPONENTS: [Component; 4] = [
    Component { name: "etcd", section: "etcd.local", phase: ["etcd", "local"] },
    Component { name: "kube-apiserver", section: "apiServer", phase: ["control-plane", "apiserver"] },
    Component {
        name: "kube-controller-manager",
        section: "controllerManager",
        phase: ["control-plane", "controller-manager"],
    },
    Component { name: "kube-scheduler", section: "scheduler", phase: ["control-plane", "scheduler"] },
];

impl Component {
    pub(super) fn path(&self) -> String {
        format!("{MANIFESTS}/{}.yaml", self.name)
    }

    /// What a fragment of `ClusterConfiguration` says of it.
    pub(super) fn of<'a>(&self, fragment: &'a Fragment) -> Option<&'a Fragment> {
        let mut names = self.section.split('.');
        let first = fragment.get(names.next()?)?.as_object()?;
        names.try_fold(first, |inner, name| inner.get(name)?.as_object())
    }

    /// What its manifest lacks of what is declared, by the paths of that. Of variables the names alone are told: whoever may look must not
    /// learn their values by asking.
    pub(super) fn lacks(&self, declared: &Fragment, pod: &Value) -> Vec<String> {
        let Some(section) = self.of(declared) else { return Vec::new() };
        let container = &pod["spec"]["containers"][0];
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (command, volumes, mounts, environment) = (
            list(&container["command"]),
            list(&pod["spec"]["volumes"]),
            list(&container["volumeMounts"]),
            list(&container["env"]),
        );
        let runs = |(name, value): &(String, String)| command.iter().any(|word| *word == format!("--{name}={value}"));
        let arguments =
            arguments(section).into_iter().filter(|argument| !runs(argument)).map(|(name, _)| ("extraArgs", name));
        let is_mounted = |volume: &Value| {
            volumes.iter().any(|one| one["name"] == volume["name"] && one["hostPath"]["path"] == volume["hostPath"])
                && mounts.iter().any(|one| {
                    let is_read_only = |value: &Value| value["readOnly"] == true;
                    one["name"] == volume["name"]
                        && one["mountPath"] == volume["mountPath"]
                        && is_read_only(one) == is_read_only(volume)
                })
        };
        let missing = |key: &'static str, stands: &dyn Fn(&Value) -> bool| -> Vec<(&'static str, String)> {
            let all = section.get(key).and_then(Value::as_array).into_iter().flatten();
            all.filter(|one| !stands(one)).filter_map(|one| Some((key, one["name"].as_str()?.to_owned()))).collect()
        };
        let variable = |one: &Value| environment.iter().any(|there| there["name"] == one["name"]);
        let rest = missing("extraVolumes", &is_mounted).into_iter().chain(missing("extraEnvs", &variable));
        arguments.chain(rest).map(|(key, name)| format!("{}.{key}.{name}", self.section)).collect()
    }

    /// The manifest that kubeadm writes by the configuration in [`FILE`].
    pub(super) async fn rendered(&self, kube: &Kube<'_>) -> Result<String, Failure> {
        let list = || kube.host().list(TRIALS).map_err(failed(STEP, &format!("list {TRIALS}")));
        let before = list()?;
        let [phase, part] = self.phase;
        let words = ["init", "phase", phase, part, "--config", FILE, "--dry-run"];
        let said = kube.kubeadm(STEP, &words, TRIAL).await?;
        let is_trial = |name: &String| name.starts_with("kubeadm-init-dryrun") && !before.contains(name);
        let folder = list()?.into_iter().find(is_trial).map(|name| format!("{TRIALS}/{name}"));
        let path = folder.as_ref().map(|folder| format!("{folder}/{}.yaml", self.name));
        let text =
            path.as_ref().map_or(Ok(None), |path| kube.host().text(path)).map_err(failed(STEP, "read the manifest"))?;
        if let Some(folder) = folder {
            let remove = ["-rf", "--one-file-system", "--", &folder];
            kube.must(STEP, &Command::new("/usr/bin/rm", remove).timeout(TRIAL)).await?;
        }
        match text {
            Some(text) if said.code == Some(0) => Ok(text),
            _ if said.code == Some(0) => Err(failure(STEP, format!("kubeadm wrote no manifest of {}", self.name))),
            _ => Err(refused(STEP, &Command::new(kubeadm(kube.host()), words), &said)),
        }
    }
}

/// Extra arguments in either form.
fn arguments(section: &Fragment) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match section.get("extraArgs") {
        Some(Value::Object(all)) => all.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        Some(Value::Array(all)) => {
            all.iter().filter_map(|one| Some((one["name"].as_str()?.to_owned(), text(&one["value"])))).collect()
        }
        _ => Vec::new(),
    }
}

/// The manifest that is to take the place of another one; `None` if that says the same. Of how a member of etcd once came to the others its
/// own manifest alone knows; and how long a start may take was said when it was made, and not to this trial.
pub(super) fn next(disk: &str, rendered: &str, stamp: &str) -> Option<String> {
    let origin = |line: &&str| line.trim_start().starts_with("- --initial-cluster");
    let own: Vec<&str> = disk.lines().filter(origin).collect();
    let mut lines: Vec<&str> = rendered.lines().filter(|line| own.is_empty() || !origin(line)).collect();
    if let Some(at) = rendered.lines().position(|line| origin(&line)).filter(|_| !own.is_empty()) {
        lines.splice(at..at, own);
    }
    let at = |lines: &[&str]| lines.iter().position(|line| line.trim_end() == "    startupProbe:").map(|at| at + 1);
    let all: Vec<&str> = disk.lines().collect();
    let patience =
        at(&all).and_then(|at| all.get(at)).filter(|line| line.trim_start().starts_with("failureThreshold:"));
    if let (Some(own), Some(line)) = (patience, at(&lines).and_then(|at| lines.get_mut(at))) {
        *line = own;
    }
    let wanted: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if bare(disk) == bare(&wanted) {
        return None;
    }
    annotated(&wanted, MARK, stamp)
}

/// Without annotations of ours.
fn bare(manifest: &str) -> String {
    let lines: Vec<&str> = manifest.lines().filter(|line| !line.starts_with("    groundwork/")).collect();
    let is_left = |at: usize, line: &str| {
        line != "  annotations:" || lines.get(at + 1).is_some_and(|next| next.starts_with("    "))
    };
    let kept = lines.iter().enumerate().filter(|(at, line)| is_left(*at, line));
    kept.map(|(_, line)| format!("{line}\n")).collect()
}

/// By which a manifest's pod is told from the one before.
pub(super) fn stamp_of(manifest: &str) -> Option<&str> {
    let value = manifest.lines().find_map(|line| line.trim_start().strip_prefix(MARK)?.strip_prefix(": "))?;
    Some(value.trim_matches('"'))
}

/// Folders of pods that write logs here now: what comes later is of later pods.
pub(super) fn known(kube: &Kube<'_>) -> Vec<String> {
    kube.host().list(causes::PODS).unwrap_or_default()
}

/// Waits until the pod of this manifest is ready on this node, and the control plane is well. One of which `known` has no folder and that
/// ends again and again is not waited for.
pub(super) async fn up(
    kube: &Kube<'_>,
    (node_name, component): (&str, &str),
    stamp: Option<&str>,
    known: Option<&[String]>,
) -> Result<(), Failure> {
    let until = Instant::now() + TIME;
    let here = static_pods::on(node_name);
    let mut good = 0;
    while good < STEADY {
        let pods = static_pods::ask(kube, (STEP, ADMIN), &here).await?;
        let is_up = pods.is_ok_and(|pods| stands(&pods, component, stamp));
        good = if is_up { good + 1 } else { 0 };
        if let Some(words) = known.filter(|_| !is_up).and_then(|known| causes::fell(kube, component, known)) {
            return Err(failure(STEP, format!("{component} does not start as it is declared: {words}")));
        }
        if Instant::now() > until {
            let message = format!("{component} is not up as it is declared after {} s", TIME.as_secs());
            return Err(failure(STEP, message));
        }
        kube.pause(STEP, PAUSE).await?;
    }
    control_plane::healthy(kube, ADMIN).await
}

fn stands(pods: &[Pod], component: &str, stamp: Option<&str>) -> bool {
    pods.iter().any(|pod| pod.is_of(component) && pod.annotation(MARK) == stamp && pod.is_ready())
}

pub(super) const STEP: &str = "config cluster";
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Annotation of a static pod: since which change of the configuration it runs.
pub(super) const MARK: &str = "groundwork/configuration";
/// Where kubeadm writes on trial.
const TRIALS: &str = "/etc/kubernetes/tmp";
const TRIAL: Duration = Duration::from_secs(60);
/// The kubelet looks at its manifests every 20 seconds, and an etcd that is restarted is away for a minute or so.
const TIME: Duration = Duration::from_secs(240);
const STEADY: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::static_pods::tests::one;
    use serde_json::json;

    const DISK: &str = "metadata:\n  annotations:\n    kubeadm.kubernetes.io/x: y\n  name: etcd\nspec:\n    - etcd\n    - --a=b\n    \
                        - --initial-cluster=cp-1=https://10.0.0.1:2380,cp-2=https://10.0.0.2:2380\n    - --initial-cluster-state=existing\n    - --z=1\n";
    const RENDERED: &str = "metadata:\n  annotations:\n    kubeadm.kubernetes.io/x: y\n  name: etcd\nspec:\n    - etcd\n    - --a=b\n    \
                            - --initial-cluster=cp-2=https://10.0.0.2:2380\n    - --z=1\n";

    #[test]
    fn a_manifest_that_says_the_same_stays_whatever_annotations_are_ours() {
        assert_eq!(next(DISK, RENDERED, "7"), None);
        let marked = annotated(DISK, MARK, "3").unwrap();
        assert_eq!((next(&marked, RENDERED, "7"), stamp_of(&marked), stamp_of(DISK)), (None, Some("3"), None));
        let plain = "metadata:\n  name: kube-scheduler\nspec: {}\n";
        let marked = annotated(plain, "groundwork/certificates", "3").unwrap();
        assert_eq!(next(&marked, plain, "7"), None);
    }

    #[test]
    fn a_member_of_etcd_keeps_how_it_came_to_the_others() {
        let found = next(DISK, &RENDERED.replace("--z=1", "--z=2"), "7").unwrap();
        let wanted = DISK.replace("--z=1", "--z=2");
        assert_eq!(found, annotated(&wanted, MARK, "7").unwrap());
    }

    #[test]
    fn how_long_a_start_may_take_is_no_difference() {
        let with = |times: u8, v: u8| {
            format!("metadata:\n  name: a\nspec:\n    - --v={v}\n    startupProbe:\n      failureThreshold: {times}\n")
        };
        assert_eq!(next(&with(48, 2), &with(24, 2), "7"), None);
        assert_eq!(next(&with(48, 2), &with(24, 3), "7"), annotated(&with(48, 3), MARK, "7"));
    }

    #[test]
    fn what_a_manifest_lacks_is_named_and_no_value_with_it() {
        let declared = json!({ "apiServer": {
            "extraArgs": [{ "name": "v", "value": "4" }, { "name": "profiling", "value": "false" }],
            "extraVolumes": [{ "name": "audit", "hostPath": "/etc/audit", "mountPath": "/etc/audit", "readOnly": true }],
            "extraEnvs": [{ "name": "TOKEN", "value": "secret" }],
        }, "scheduler": { "extraArgs": { "v": "2" } } });
        let declared = declared.as_object().unwrap();
        let mut pod = json!({ "spec": {
            "containers": [{
                "command": ["kube-apiserver", "--v=4", "--profiling=false"],
                "volumeMounts": [{ "name": "audit", "mountPath": "/etc/audit", "readOnly": true }],
                "env": [{ "name": "TOKEN", "value": "other" }],
            }],
            "volumes": [{ "name": "audit", "hostPath": { "path": "/etc/audit" } }],
        } });
        let [etcd, server, manager, scheduler] = COMPONENTS;
        assert_eq!(server.lacks(declared, &pod), [""; 0]);
        assert_eq!((etcd.lacks(declared, &pod).len(), manager.lacks(declared, &pod).len()), (0, 0));
        assert_eq!(scheduler.lacks(declared, &pod), ["scheduler.extraArgs.v"]);
        pod["spec"]["containers"][0] = json!({ "command": ["kube-apiserver", "--v=4"] });
        let lacks = server.lacks(declared, &pod);
        assert_eq!(
            lacks,
            ["apiServer.extraArgs.profiling", "apiServer.extraVolumes.audit", "apiServer.extraEnvs.TOKEN"]
        );
    }

    #[test]
    fn only_the_pod_of_this_manifest_counts_and_only_when_it_is_ready() {
        let marked = one("etcd", "3.6.8-0", "True", &[(MARK, "7")]);
        assert!(stands(&marked, "etcd", Some("7")));
        assert!(!stands(&marked, "etcd", Some("8")) && !stands(&marked, "etcd", None));
        assert!(!stands(&marked, "kube-apiserver", Some("7")));
        assert!(!stands(&one("etcd", "3.6.8-0", "False", &[]), "etcd", None));
    }

    #[test]
    fn any_text_is_answered() {
        total::text("manifest-in-its-place", &[DISK, RENDERED], |text| next(text, RENDERED, "7"));
        total::text("manifest-rendered", &[DISK, RENDERED], |text| {
            (next(DISK, text, "7"), stamp_of(text).map(str::to_owned))
        });
    }
}
