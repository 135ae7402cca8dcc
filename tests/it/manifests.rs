//! `manifest` blocks on a real cluster: what it begins with, what others change of it, what goes with a block, and what a kill leaves.

use crate::harness::run::{command, run};
use crate::harness::{Backend, Lab, Terraform, long_ready};
use crate::quickstart::{self, KUBECTL, lab_is_empty};
use serde_json::{Value, json};

/// A kind of objects, and one of it.
const KINDS: &str = "
apiVersion: example.org/v1
kind: Colour
metadata: { name: blue, namespace: paint }
spec: { hex: 0000ff }
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: colours.example.org }
spec:
  group: example.org
  names: { kind: Colour, plural: colours }
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema: { type: object, properties: { spec: { type: object, properties: { hex: { type: string } } } } }
---
apiVersion: v1
kind: Namespace
metadata: { name: paint }
";

/// What the cluster keeps of the manifest `slow`.
const NOTED: &str = "-n kube-system configmap/groundwork-manifest-slow";
const IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.53";

/// Nobody may read it but in the cluster.
const PASSWORD: &str = "correct-horse-battery-staple";

#[test]
fn a_cluster_begins_with_its_manifests_and_keeps_them() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("manifests", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 1);
    let stage = Stage { lab: &lab, terraform: &terraform };
    stage.the_apply_that_makes_the_cluster_ends_with_nodes_that_are_ready();
    stage.what_is_gone_is_named_and_made_again();
    stage.what_others_manage_is_named_and_taken_only_by_force();
    stage.what_left_is_deleted_only_if_asked();
    stage.what_is_not_ready_in_time_is_told_with_its_reason();
    stage.a_kill_leaves_nothing_that_the_next_apply_does_not_end();
    stage.an_import_knows_what_was_applied();
    terraform.destroy();
    lab_is_empty(&lab);
}

struct Stage<'a> {
    lab: &'a Lab,
    terraform: &'a Terraform,
}

impl Stage<'_> {
    #[track_caller]
    fn kubectl(&self, line: &str) -> String {
        self.lab.must("cp-1", &format!("{KUBECTL} {line}"))
    }

    fn is_there(&self, what: &str) -> bool {
        !self.kubectl(&format!("get {what} --ignore-not-found -o name")).is_empty()
    }

    /// Gives the cluster these manifests besides its network plugin.
    fn ask_for(&self, manifests: &Value) {
        let mut over: Value = serde_json::from_str(&self.lab.file("quickstart_override.tf.json")).expect("JSON");
        let mut all = json!({ "flannel": { "content": "${file(\"kube-flannel.yaml\")}" } });
        let more = manifests.as_object().expect("manifests").clone();
        all.as_object_mut().expect("manifests").extend(more);
        over["resource"]["groundwork_cluster"]["main"]["manifest"] = all;
        self.terraform.write("lab_override.tf.json", &over.to_string());
    }

    /// What the cluster begins with; its settings may be wrong.
    fn beginning(&self, colour: &Value) -> Value {
        self.lab.serve("kinds.yaml", KINDS);
        self.terraform.write("large.yaml", &large());
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "paint", "namespace": "paint" }, "stringData": { "password": PASSWORD } });
        json!({
            "kinds": { "url": format!("http://{}/files/kinds.yaml", self.lab.address(1)), "checksum": sum(KINDS), "after": ["flannel"] },
            "settings": { "content": settings(&[("colour", colour)]), "after": ["kinds"] },
            "last": { "content": "${file(\"large.yaml\")}", "after": ["settings"] },
            "secret": { "content_wo": secret.to_string(), "content_wo_version": 1, "after": ["kinds"] },
        })
    }

    fn the_apply_that_makes_the_cluster_ends_with_nodes_that_are_ready(&self) {
        // A number where Kubernetes wants a text.
        self.ask_for(&self.beginning(&json!(7)));
        let log = self.terraform.path("trace.log");
        let mut apply = self.terraform.command(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        let said = run(apply.env("TF_LOG", "TRACE").env("TF_LOG_PATH", &log));
        said.exits(0).says(&[
            "Warning: Cannot apply manifest settings",
            "ConfigMap paint/settings",
            "The cluster is made",
        ]);
        assert_eq!(said.text.matches("Cannot apply manifest").count(), 1, "{}", said.text);
        let nodes = self.kubectl("get nodes --no-headers");
        assert_eq!(nodes.lines().filter(|line| line.contains(" Ready ")).count(), 2, "{nodes}");
        assert_eq!(self.kubectl("-n paint get colours -o name"), "colour.example.org/blue");
        assert!(!self.is_there("-n paint configmap/large-0"), "it comes after the one that failed");

        let plan = self.terraform.plan();
        plan.exits(2).says(&[
            "manifest settings: it was not applied to its end",
            "manifest last: it is not applied",
            "0 to destroy",
        ]);
        self.ask_for(&self.beginning(&json!("red")));
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert_eq!(self.kubectl("-n paint get configmaps -l size=large -o name").lines().count(), 3);
        let encoded = self.kubectl("-n paint get secret paint -o jsonpath={.data.password}");
        assert!(!encoded.is_empty());
        for name in ["trace.log", "terraform.tfstate"] {
            let text = String::from_utf8_lossy(&std::fs::read(self.terraform.path(name)).expect("a file")).into_owned();
            assert!(
                !text.is_empty() && !text.contains(PASSWORD) && !text.contains(&encoded),
                "the secret stands in {name}"
            );
        }
        let journal = self
            .lab
            .must("cp-1", "journalctl -u groundwork-agent; cat /var/lib/groundwork/records/* 2>/dev/null || true");
        assert!(!journal.contains(PASSWORD), "the secret stands on the machine");
    }

    fn what_is_gone_is_named_and_made_again(&self) {
        self.kubectl("-n kube-flannel delete daemonset kube-flannel-ds");
        self.kubectl("-n paint delete colours --all");
        self.kubectl("-n paint patch secret paint --type=json -p '[{\"op\": \"remove\", \"path\": \"/data\"}]'");
        let plan = self.terraform.plan();
        plan.exits(2).says(&[
            "manifest flannel: DaemonSet kube-flannel/kube-flannel-ds is missing",
            "manifest kinds: Colour paint/blue is missing",
            "manifest secret: Secret paint/paint was changed",
        ]);
        self.terraform.apply();
        assert!(self.is_there("-n paint colours/blue"));
        assert_ne!(self.kubectl("-n paint get secret paint -o jsonpath={.data.password}"), "");
        self.terraform.has_no_changes();
    }

    fn what_others_manage_is_named_and_taken_only_by_force(&self) {
        self.kubectl("-n paint patch configmap settings -p '{\"data\": {\"colour\": \"green\", \"theirs\": \"x\"}}'");
        let plan = self.terraform.plan();
        plan.exits(2).says(&["manifest settings: ConfigMap paint/settings was changed by kubectl-patch"]);
        self.terraform.fails(&[
            "Cannot apply manifest settings",
            "ConfigMap paint/settings",
            "conflict with \"kubectl-patch\"",
            ".data.colour",
            "force_conflicts",
        ]);
        let colour = "-n paint get configmap settings -o jsonpath={.data.colour},{.data.theirs}";
        assert_eq!(self.kubectl(colour), "green,x");

        // It was not applied to its end, so that it is applied once more, and then nevermore.
        let mut manifests = self.beginning(&json!("red"));
        manifests["settings"]["once"] = json!(true);
        manifests["settings"]["force_conflicts"] = json!(true);
        self.ask_for(&manifests);
        self.terraform.apply();
        assert_eq!(self.kubectl(colour), "red,x");
        self.terraform.has_no_changes();
        self.kubectl("-n paint delete configmap settings");
        self.terraform.has_no_changes();
        self.ask_for(&self.beginning(&json!("red")));
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert_eq!(self.kubectl(colour), "red,");
    }

    fn what_left_is_deleted_only_if_asked(&self) {
        let with = |extra: Value| {
            let mut manifests = self.beginning(&json!("red"));
            manifests.as_object_mut().expect("manifests").extend(extra.as_object().expect("manifests").clone());
            self.ask_for(&manifests);
            self.terraform.apply();
            self.terraform.has_no_changes();
        };
        let (one, both) = (map("one"), format!("{}\n---\n{}", map("one"), map("two")));
        with(
            json!({ "kept": { "content": both }, "pruned": { "content": both.replace("default", "paint"), "prune": true } }),
        );
        with(
            json!({ "kept": { "content": one }, "pruned": { "content": one.replace("default", "paint"), "prune": true } }),
        );
        assert!(self.is_there("-n default configmap/two") && !self.is_there("-n paint configmap/two"));
        with(json!({}));
        assert!(self.is_there("-n default configmap/one") && !self.is_there("-n paint configmap/one"));
        for name in ["kept", "pruned"] {
            assert!(!self.is_there(&format!("-n kube-system configmap/groundwork-manifest-{name}")), "{name}");
        }
    }

    fn what_is_not_ready_in_time_is_told_with_its_reason(&self) {
        let mut manifests = self.beginning(&json!("red"));
        manifests["slow"] =
            json!({ "content": deployment("example.org/none:1", &[]), "timeout": "20s", "prune": true });
        self.ask_for(&manifests);
        let said = [
            "Cannot apply manifest slow",
            "Not ready after 20 s",
            "Deployment paint/slow: 0 of 1 are available",
            "ImagePull",
        ];
        self.terraform.fails(&said);
        self.terraform.plan().exits(2).says(&["0 to destroy"]);
        self.goes_with_its_block();
    }

    /// An apply of it did not come to its end, so that the state does not have it.
    fn goes_with_its_block(&self) {
        self.ask_for(&self.beginning(&json!("red")));
        self.terraform.plan().exits(2).says(&[
            "manifest slow: the cluster has it and the state has not",
            "without a block of its name the next apply deletes its 1 object",
        ]);
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert!(!self.is_there("-n paint deployment/slow") && !self.is_there(NOTED));
    }

    fn a_kill_leaves_nothing_that_the_next_apply_does_not_end(&self) {
        self.killed_at(&[]);
        self.goes_with_its_block();
        self.killed_at(&["example.org/wait"]);
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert_eq!(self.kubectl("-n paint get deployment slow -o jsonpath={.status.availableReplicas}"), "1");
        self.ask_for(&self.beginning(&json!("red")));
        let going = "-n paint get deployment slow -o jsonpath={.metadata.deletionTimestamp}";
        self.terraform.killed(|| !self.kubectl(going).is_empty());
        self.kubectl("-n paint patch deployment slow --type=json -p '[{\"op\": \"remove\", \"path\": \"/metadata/finalizers\"}]'");
        self.terraform.apply();
        self.terraform.has_no_changes();
        assert!(!self.is_there(NOTED));
    }

    /// Kills provider and agent while the manifest `slow` is applied.
    fn killed_at(&self, finalizers: &[&str]) {
        let mut manifests = self.beginning(&json!("red"));
        manifests["slow"] = json!({ "content": deployment(IMAGE, finalizers), "prune": true });
        self.ask_for(&manifests);
        assert!(!self.is_there(NOTED), "it is the sign of a beginning");
        self.terraform.killed(|| self.lab.exec("cp-1", &format!("{KUBECTL} get {NOTED}")).code == 0);
        // The agent goes on by itself, and dies too.
        self.lab.kill_agent("cp-1");
    }

    fn an_import_knows_what_was_applied(&self) {
        let endpoint = self.terraform.resource("groundwork_cluster.main")["control_planes"]["cp-1"]["endpoint"].clone();
        let text = |name: &str| endpoint[name].as_str().expect("a text").to_owned();
        let id = format!("{},{}", text("address"), text("fingerprint"));
        self.terraform.run(&["state", "rm", "groundwork_cluster.main"]).exits(0);
        self.terraform.run(&["import", "-no-color", "groundwork_cluster.main", &id]).exits(0);
        self.terraform.has_no_changes();
    }
}

/// `sha256:<hex>`
fn sum(text: &str) -> String {
    let mut shell = command("sh");
    let said = run(shell.args(["-c", "printf %s \"$1\" | sha256sum", "sh", text]));
    format!("sha256:{}", said.text.split_whitespace().next().expect("a sum"))
}

fn settings(data: &[(&str, &Value)]) -> String {
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(key, value)| ((*key).to_owned(), (*value).clone())).collect();
    let name = json!({ "name": "settings", "namespace": "paint" });
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": data }).to_string()
}

fn map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name}, namespace: default }}\n")
}

/// More than gRPC takes unless it is told to.
fn large() -> String {
    let maps = (0..3).map(|number| {
        let metadata =
            json!({ "name": format!("large-{number}"), "namespace": "paint", "labels": { "size": "large" } });
        let text = "0123456789".repeat(70_000);
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "text": text } }).to_string()
    });
    maps.collect::<Vec<_>>().join("\n---\n")
}

fn deployment(image: &str, finalizers: &[&str]) -> String {
    // Ready late enough for a kill to come before it, on a busy computer too.
    let labels = json!({ "app": "slow" });
    let container = json!({
        "name": "slow", "image": image, "args": ["netexec"],
        "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8080 }, "initialDelaySeconds": 20 },
    });
    let pod = json!({ "metadata": { "labels": labels }, "spec": { "containers": [container], "terminationGracePeriodSeconds": 1 } });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "slow", "namespace": "paint", "finalizers": finalizers },
        "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": pod },
    })
    .to_string()
}
