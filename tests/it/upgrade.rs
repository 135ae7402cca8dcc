//! Another version of Kubernetes: node by node on real Kubernetes, stopped by a budget, cut off, and gone on with.
//!
//! The version gone to is the lab's own: the same code under the next number, which costs a link of each program. Two minor versions before the
//! newest are built for the night; `GROUNDWORK_MINORS` names three other versions, with commas.

use crate::harness::{Backend, Lab, Terraform, long_ready, ready, wait_until};
use crate::quickstart::{self, KUBECTL, lab_is_empty, machine_is_prepared_as, nodes_are_ready, variables};
use serde_json::{Value, json};

const NODES: [&str; 3] = ["cp-1", "worker-1", "worker-2"];

#[test]
fn a_cluster_is_upgraded_node_by_node_from_wherever_it_stands() {
    if !ready() {
        return;
    }
    let (from, to) = ("1.36.3", "1.36.4");
    let lab = Lab::start("upgrade", Backend::Nspawn, &["--kubernetes", &format!("{from},{to}")]);
    let terraform = quickstart::prepare(&lab, 2);
    let stage = Stage { lab: &lab, terraform: &terraform };
    terraform.apply();
    nodes_are_ready(&lab);
    stage.wait_for_budgets("10s");
    terraform.apply();
    terraform.has_no_changes();
    stage.serve();

    stage.what_cannot_be_is_told(from);
    stage.ask_for(to);
    terraform.plan().exits(2).says(&[&format!("{from} → {to}"), "0 to destroy"]);
    // In the middle of the control plane's work, and then at the budget.
    let api_server = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    terraform.killed(|| lab.exec("cp-1", &format!("grep -q :v{to} {api_server}")).code == 0);
    stage.a_budget_stops_it_and_the_worker_is_given_back(from, to);
    stage.budget(1);
    // In the middle of the first worker's.
    terraform.killed(|| stage.kubectl("get node worker-1 -o jsonpath={.spec.unschedulable}") == "true");
    terraform.apply();
    stage.is_whole(to);
    terraform.has_no_changes();
    stage.what_cannot_be_is_told(to);

    terraform.destroy();
    lab_is_empty(&lab);
}

#[test]
fn a_cluster_goes_over_two_minor_versions_in_one_apply_and_on_from_where_it_was_stopped() {
    if !long_ready() {
        return;
    }
    let list = std::env::var("GROUNDWORK_MINORS").unwrap_or_else(|_| "1.34.4,1.35.4,1.36.3".to_owned());
    let [from, between, to] = list.split(',').collect::<Vec<_>>()[..] else { panic!("three versions: {list}") };
    let lab = Lab::start("upgrade-minor", Backend::Nspawn, &["--kubernetes", &list]);
    let terraform = quickstart::prepare(&lab, 2);
    let stage = Stage { lab: &lab, terraform: &terraform };
    stage.wait_for_budgets("10s");
    terraform.apply();
    nodes_are_ready(&lab);
    stage.serve();
    stage.ask_for(to);
    let minor = between.rsplit_once('.').expect("a.b.c").0;
    let (first, second) = (format!("{from} → {minor}"), format!("{minor} → {to}"));
    terraform.plan().exits(2).says(&[&first, &second, "0 to destroy"]);
    // The budget lets no pod go: on the way to the first of both versions, which the control plane has already.
    stage.a_budget_stops_it_and_the_worker_is_given_back(from, between);
    terraform.plan().exits(2).says(&[&format!("{between} → {to}")]);
    stage.budget(1);
    stage.wait_for_budgets("5m");
    // In the middle of the control plane's way to the second one.
    let api_server = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    terraform.killed(|| lab.exec("cp-1", &format!("grep -q :v{to} {api_server}")).code == 0);
    // The one API server is being replaced.
    wait_until("the API server answers", || lab.exec("cp-1", &format!("{KUBECTL} get --raw /readyz")).code == 0);
    assert_eq!(stage.versions(), NODES.map(|_| format!("v{between}")), "every node was brought to it before");
    terraform.apply();
    stage.is_whole(to);
    for name in NODES {
        let sources = lab.must(name, "cat /etc/apt/sources.list.d/groundwork-kubernetes*");
        assert_eq!(
            sources.matches("URIs: ").count(),
            1,
            "{name}: the repository of the version on the way is gone\n{sources}"
        );
    }
    terraform.has_no_changes();
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

    /// Gives machines and cluster this version.
    fn ask_for(&self, version: &str) {
        let mut values = variables(self.lab, 2);
        values["kubernetes_version"] = json!(version);
        let minor = |version: &str| version.rsplit_once('.').expect("a.b.c").0.to_owned();
        let (own, wanted) = (minor(&quickstart::version(self.lab)), minor(version));
        if own != wanted {
            // A repository for each minor version, with its key beside it, as the project's own have.
            let url = self.lab.value("LAB_KUBERNETES_URL").replace(&format!("/v{own}/"), &format!("/v{wanted}/"));
            values["kubernetes_repository"] = json!({ "url": url, "key_pem": null });
        }
        self.terraform.variables(&values);
    }

    /// How long the pods of a node may take to leave.
    fn wait_for_budgets(&self, time: &str) {
        let mut over: Value = serde_json::from_str(&self.lab.file("quickstart_override.tf.json")).expect("JSON");
        over["resource"]["groundwork_cluster"]["main"]["drain_timeout"] = json!(time);
        self.terraform.write("lab_override.tf.json", &over.to_string());
    }

    /// Two pods behind a budget that lets none of them go.
    fn serve(&self) {
        let app = json!({ "app": "web" });
        let container = json!({
            "name": "web", "image": "registry.k8s.io/e2e-test-images/agnhost:2.53", "args": ["netexec"],
            "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 },
        });
        let spread = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": app },
        }]);
        let pod = json!({
            "metadata": { "labels": app },
            "spec": { "containers": [container], "topologySpreadConstraints": spread, "terminationGracePeriodSeconds": 2 },
        });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": { "replicas": 2, "selector": { "matchLabels": app }, "template": pod },
        });
        self.kubectl(&format!("apply -f - <<'END'\n{deployment}\nEND\n"));
        self.budget(2);
        self.kubectl("rollout status deployment/web --timeout=3m");
    }

    /// How many of the two pods must be there at any time.
    fn budget(&self, least: u8) {
        quickstart::budget(self.lab, least);
    }

    /// A way back, and one that nobody knows: the plan says what to write, and the apply touches no node.
    fn what_cannot_be_is_told(&self, from: &str) {
        let before = self.versions();
        for (to, words) in [("2.0.0", "from 1.36."), ("1.36.2", "a cluster cannot be made older")] {
            self.overriding_version(Some(to));
            self.terraform.plan().exits(2).says(&["Warning: Cannot upgrade cluster quickstart", words]);
            self.terraform.fails(&["Cannot upgrade cluster quickstart", words, "Nothing was changed"]);
        }
        self.overriding_version(None);
        assert_eq!(self.versions(), before, "still {from}");
        self.terraform.has_no_changes();
    }

    /// A version of the cluster alone.
    fn overriding_version(&self, version: Option<&str>) {
        let text = std::fs::read_to_string(self.terraform.path("lab_override.tf.json")).expect("the override");
        let mut over: Value = serde_json::from_str(&text).expect("JSON");
        let cluster = over["resource"]["groundwork_cluster"]["main"].as_object_mut().expect("the cluster");
        match version {
            Some(version) => drop(cluster.insert("version".to_owned(), json!(version))),
            None => drop(cluster.remove("version")),
        }
        self.terraform.write("lab_override.tf.json", &over.to_string());
    }

    fn a_budget_stops_it_and_the_worker_is_given_back(&self, from: &str, to: &str) {
        self.terraform.fails(&[
            "Cannot upgrade node worker-1",
            "Pods do not leave worker-1 within 10 s, and it was not upgraded",
            "the disruption budget web needs 2 healthy pods and has 2 currently",
            "it takes pods again",
            "`drain_timeout`",
        ]);
        assert_eq!(self.versions(), [to, from, from].map(|version| format!("v{version}")));
        assert_eq!(self.cordoned(), "", "the worker takes pods again");
        let left = format!("worker-1: its kubelet is {from}, and the cluster is {to}");
        self.terraform.plan().exits(2).says(&[&left, "upgrade_steps"]);
    }

    /// Of the kubelets, by node.
    #[track_caller]
    fn versions(&self) -> [String; 3] {
        NODES.map(|name| self.kubectl(&format!("get node {name} -o jsonpath={{.status.nodeInfo.kubeletVersion}}")))
    }

    fn cordoned(&self) -> String {
        self.kubectl("get nodes -o jsonpath='{.items[?(@.spec.unschedulable==true)].metadata.name}'")
    }

    #[track_caller]
    fn is_whole(&self, version: &str) {
        assert_eq!(self.versions(), NODES.map(|_| format!("v{version}")));
        assert_eq!(self.cordoned(), "");
        for name in NODES {
            machine_is_prepared_as(self.lab, name, version);
        }
        for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
            let image =
                self.kubectl(&format!("-n kube-system get pod {name}-cp-1 -o jsonpath={{.spec.containers[0].image}}"));
            assert!(image.ends_with(&format!(":v{version}")), "{image}");
        }
        self.kubectl("rollout status deployment/web --timeout=2m");
        self.kubectl("-n kube-system rollout status deployment/coredns --timeout=2m");
        self.kubectl("-n kube-system rollout status daemonset/kube-proxy --timeout=2m");
    }
}
