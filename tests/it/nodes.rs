//! Nodes come, go and are tampered with: one cluster of real Kubernetes that lives through all of it.

mod by_hand;
mod first;

use crate::harness::{Backend, Lab, Terraform, ready, wait_until};
use crate::quickstart::{self, KUBECTL, lab_is_empty, nodes, nodes_are_ready, variables};
use serde_json::{Value, json};

#[test]
fn nodes_leave_in_order_and_what_is_taken_from_them_comes_back() {
    if !ready() {
        return;
    }
    let lab = Lab::start("nodes", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 2);
    let stage = Stage { lab: &lab, terraform: &terraform };
    stage.an_old_containerd_is_named();
    stage.a_failed_init_ends_in_its_cause();
    stage.a_killed_kubeadm_is_told_as_such();
    terraform.apply();
    nodes_are_ready(&lab);
    terraform.has_no_changes();
    stage.serve();

    stage.a_worker_is_not_taken_from_its_pods();
    stage.a_worker_that_goes_is_drained();
    stage.a_vm_without_a_machine_resource_is_drained_too();
    stage.a_worker_may_leave_the_cluster_alone();
    stage.a_stopped_kubelet_is_drift();
    stage.a_machine_reset_by_hand_joins_again();
    stage.a_deleted_control_plane_node_comes_back_whole();
    stage.what_nobody_asked_for_is_named();
    stage.a_kubelet_of_another_version_is_named_or_mended();
    stage.a_silent_api_server_is_told_as_such();
    stage.the_live_version_counts();
    stage.the_last_control_plane_stays();
    stage.a_worker_whose_kubelet_is_dead_may_go();

    // A budget that lets nothing go is no obstacle where the whole cluster goes, nor is a version that this provider refuses.
    stage.budget(2);
    terraform.variables(&with(variables(&lab, 1), "kubernetes_version", &json!("1.35.0")));
    terraform.plan().exits(2).says(&["Cannot upgrade cluster quickstart"]);
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

    /// Changes the lab's overrides of the example.
    fn overriding(&self, change: impl FnOnce(&mut Value)) {
        let mut over: Value = serde_json::from_str(&self.lab.file("quickstart_override.tf.json")).expect("JSON");
        change(&mut over["resource"]);
        self.terraform.write("lab_override.tf.json", &over.to_string());
    }

    /// Two pods, one on each worker, behind a budget.
    fn serve(&self) {
        let app = json!({ "app": "web" });
        // Pods of one rollout are spread among themselves: those of the one before are on their way out.
        let spread = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor",
            "labelSelector": { "matchLabels": app }, "matchLabelKeys": ["pod-template-hash"],
        }]);
        let container = json!({
            "name": "web", "image": "registry.k8s.io/e2e-test-images/agnhost:2.53", "args": ["netexec"],
            "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 },
        });
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
        self.served();
    }

    /// How many of the two pods must be there at any time.
    fn budget(&self, least: u8) {
        quickstart::budget(self.lab, least);
    }

    /// Both pods are at work, with one on each worker there is.
    fn served(&self) {
        self.kubectl("rollout restart deployment/web");
        self.kubectl("rollout status deployment/web --timeout=2m");
    }

    /// Names of the pods on a node.
    fn pods(&self, node: &str) -> Vec<String> {
        let said = self.kubectl(&format!("get pods -l app=web -o name --field-selector spec.nodeName={node}"));
        said.lines().map(|name| name.trim_start_matches("pod/").to_owned()).collect()
    }

    /// The kubelet ended this pod by itself, in order.
    #[track_caller]
    fn was_ended(&self, pods: &[String]) {
        let killed =
            self.kubectl("get events --field-selector reason=Killing -o jsonpath='{.items[*].involvedObject.name}'");
        assert!(!pods.is_empty() && pods.iter().all(|pod| killed.contains(pod)), "{pods:?} in {killed}");
    }

    fn a_worker_is_not_taken_from_its_pods(&self) {
        self.overriding(|resources| {
            resources["groundwork_machine"]["machine"]["timeouts"] = json!({ "delete": "10s" })
        });
        self.terraform.apply();
        self.terraform.variables(&variables(self.lab, 1));
        self.terraform.fails(&[
            "Cannot destroy machine worker-2",
            "Pods do not leave worker-2 within 10 s, and it stays cordoned",
            "default/web-",
            "the disruption budget web needs 2 healthy pods and has 2 currently",
            "was not reset",
            "`timeouts.delete`",
        ]);
        assert_eq!(nodes(self.lab), ["cp-1", "worker-1", "worker-2"]);
        assert_eq!(self.pods("worker-2").len(), 1, "it runs where it ran");
    }

    fn a_worker_that_goes_is_drained(&self) {
        let pods = self.pods("worker-2");
        self.budget(1);
        let said = self.terraform.apply();
        assert!(!said.flat().contains("not reset"), "{}", said.text);
        self.was_ended(&pods);
        assert_eq!(nodes(self.lab), ["cp-1", "worker-1"]);
        self.terraform.has_no_changes();
        self.comes_back();
    }

    fn a_vm_without_a_machine_resource_is_drained_too(&self) {
        let pods = self.pods("worker-2");
        self.terraform.run(&["state", "rm", "groundwork_machine.machine[\"worker-2\"]"]).exits(0);
        self.terraform.variables(&variables(self.lab, 1));
        self.terraform.apply();
        self.was_ended(&pods);
        assert_eq!(nodes(self.lab), ["cp-1", "worker-1"]);
        self.terraform.has_no_changes();
        self.comes_back();
    }

    fn comes_back(&self) {
        self.terraform.variables(&variables(self.lab, 2));
        self.terraform.apply();
        self.kubectl("wait --for=condition=Ready node/worker-2 --timeout=2m");
        self.served();
        self.terraform.has_no_changes();
    }

    fn a_worker_may_leave_the_cluster_alone(&self) {
        let example = std::fs::read_to_string(self.terraform.path("main.tf")).expect("the example");
        let all = "in local.workers : name => { endpoint = groundwork_machine.machine[name].endpoint } }";
        let without = example.replace(all, &all.replace("endpoint } }", "endpoint } if name != \"worker-2\" }"));
        assert_ne!(without, example);
        let pods = self.pods("worker-2");
        self.terraform.write("main.tf", &without);
        self.terraform.apply();
        self.was_ended(&pods);
        assert_eq!(nodes(self.lab), ["cp-1", "worker-1"]);
        self.is_reset("worker-2");
        self.terraform.has_no_changes();
        self.what_a_failed_apply_has_joined_leaves_again(&example, &without);
        self.terraform.write("main.tf", &example);
        self.an_old_pod_network_is_named();
        self.comes_back();
    }

    #[track_caller]
    fn is_reset(&self, vm: &str) {
        self.lab.must(vm, "test ! -e /etc/kubernetes/kubelet.conf && test -z \"$(ls -A /etc/cni/net.d)\"");
    }

    /// It fails after it has joined a node and set labels, and neither is in the next configuration.
    fn what_a_failed_apply_has_joined_leaves_again(&self, example: &str, without: &str) {
        let labelled =
            example.replace("machine[name].endpoint }", "machine[name].endpoint, labels = { zone = \"a\" } }");
        let broken =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "broken" }, "data": { "x": 7 } });
        self.terraform.write("main.tf", &labelled);
        self.overriding(|resources| {
            let flannel = json!({ "content": "${file(\"kube-flannel.yaml\")}" });
            let manifests = json!({ "flannel": flannel, "broken": { "content": broken.to_string() } });
            resources["groundwork_cluster"]["main"]["manifest"] = manifests;
        });
        self.terraform.fails(&["Cannot apply manifest broken"]);
        assert_eq!(self.kubectl("get nodes -l zone=a -o name").lines().count(), 3);
        self.overriding(|_| ());
        self.terraform.write("main.tf", without);
        self.terraform.plan().exits(2).says(&[
            "- \"worker-2\" = {",
            "- \"zone\" = \"a\"",
            "manifest broken: the cluster has it and the state has not",
        ]);
        self.terraform.apply();
        assert_eq!(nodes(self.lab), ["cp-1", "worker-1"]);
        assert_eq!(self.kubectl("get nodes -l zone=a -o name"), "");
        self.is_reset("worker-2");
        self.terraform.has_no_changes();
    }

    /// What another network plugin has left would make the node ready at once, with the pod network of another cluster.
    fn an_old_pod_network_is_named(&self) {
        let old = json!({ "cniVersion": "0.4.0", "name": "old", "type": "bridge", "bridge": "old0" });
        let (old_file, own_file) = ("/etc/cni/net.d/99-old.conf", "/etc/cni/net.d/10-flannel.conflist");
        self.lab.must("worker-2", &format!("echo '{old}' >{old_file}"));
        self.terraform
            .apply()
            .says(&["/etc/cni/net.d holds 99-old.conf from before", "If it is a leftover, remove it"]);
        self.lab.must("worker-2", &format!("rm {old_file}"));
        wait_until("the cluster's own network is there", || {
            self.lab.exec("worker-2", &format!("test -e {own_file}")).code == 0
        });
    }

    fn a_stopped_kubelet_is_drift(&self) {
        self.lab.must("worker-1", "systemctl disable --now kubelet");
        self.terraform.plan().exits(2).says(&["worker-1: its kubelet is inactive"]);
        self.terraform.apply();
        self.lab.must("worker-1", "systemctl is-active kubelet && systemctl is-enabled kubelet");
        self.kubectl("wait --for=condition=Ready node/worker-1 --timeout=2m");
        self.terraform.has_no_changes();
    }

    fn a_machine_reset_by_hand_joins_again(&self) {
        self.lab.must("worker-2", "kubeadm reset --force");
        self.terraform.plan().exits(2).says(&["The machine of node worker-2 is no node of the cluster any more"]);
        self.terraform.apply();
        self.kubectl("wait --for=condition=Ready node/worker-2 --timeout=2m");
        self.terraform.has_no_changes();
    }

    fn a_deleted_control_plane_node_comes_back_whole(&self) {
        self.kubectl("delete node cp-1");
        self.terraform.plan().exits(2).says(&["cp-1: the cluster has no such node"]);
        self.terraform.apply();
        let node: Value = serde_json::from_str(&self.kubectl("get node cp-1 -o json")).expect("JSON");
        assert!(!node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"].is_null(), "{node}");
        let taints = node["spec"]["taints"].to_string();
        assert!(taints.contains("node-role.kubernetes.io/control-plane"), "{taints}");
        self.kubectl("wait --for=condition=Ready node/cp-1 --timeout=2m");
        self.terraform.has_no_changes();
    }

    fn a_silent_api_server_is_told_as_such(&self) {
        let (on, off) = ("/etc/kubernetes/manifests/kube-apiserver.yaml", "/root/kube-apiserver.yaml");
        let example = std::fs::read_to_string(self.terraform.path("main.tf")).expect("the example");
        let labelled =
            example.replace("machine[name].endpoint }", "machine[name].endpoint, labels = { zone = \"a\" } }");
        assert_ne!(labelled, example);
        self.terraform.write("main.tf", &labelled);
        // The program alone: without its manifest the machine would not count as a control plane.
        let running = "pgrep -x kube-apiserver";
        self.lab.must("cp-1", &format!("cp {on} {off} && sed -i 's/- kube-apiserver$/- kube-apiserver-away/' {on}"));
        wait_until("the API server is away", || self.lab.exec("cp-1", running).code != 0);
        self.terraform.fails(&[
            "Cannot change cluster quickstart",
            "Its API server does not answer",
            "Nothing was changed",
        ]);
        self.lab.must("cp-1", &format!("cp {off} {on} && rm {off}"));
        wait_until("the API server is back", || {
            self.lab.exec("cp-1", &format!("{KUBECTL} get --raw /readyz")).code == 0
        });
        self.terraform.apply();
        assert_eq!(self.kubectl("get nodes -l zone=a -o name").lines().count(), 3);
        self.terraform.write("main.tf", &example);
        self.terraform.apply();
        self.terraform.has_no_changes();
    }

    /// As after an upgrade by hand: the state knows an older version than the one that runs.
    fn the_live_version_counts(&self) {
        let state = self.terraform.run(&["state", "pull"]);
        let live = quickstart::version(self.lab);
        let mut state: Value = serde_json::from_str(&state.exits(0).text).expect("the state is JSON");
        let resources = state["resources"].as_array_mut().expect("resources");
        let cluster =
            resources.iter_mut().find(|resource| resource["type"] == "groundwork_cluster").expect("the cluster");
        cluster["instances"][0]["attributes"]["version"] = json!("1.30.0");
        let serial = state["serial"].as_u64().expect("a serial") + 1;
        self.terraform.write("older.tfstate", &with(state, "serial", &json!(serial)).to_string());
        self.terraform.run(&["state", "push", "older.tfstate"]).exits(0);
        self.terraform.plan().exits(0);
        self.terraform.run(&["apply", "-refresh-only", "-auto-approve", "-input=false", "-no-color"]).exits(0);
        assert_eq!(self.terraform.resource("groundwork_cluster.main")["version"], json!(live));
    }

    /// Where the cluster is not in the state, nothing else would keep its data.
    fn the_last_control_plane_stays(&self) {
        let endpoint = self.terraform.resource("groundwork_vm.machine[\"cp-1\"]")["endpoint"].clone();
        let text = |key: &str| endpoint[key].as_str().expect("an endpoint").to_owned();
        self.terraform.run(&["state", "rm", "groundwork_cluster.main"]).exits(0);
        let target = "-target=groundwork_machine.machine[\"cp-1\"]";
        let destroy = ["destroy", "-auto-approve", "-input=false", "-no-color", target];
        self.terraform.run(&destroy).exits(1).says(&[
            "Cannot destroy machine cp-1",
            "This machine is the only control plane of a cluster with 2 more nodes",
            "Destroy the `groundwork_cluster` first",
        ]);
        let id = format!("{},{}", text("address"), text("fingerprint"));
        self.terraform.run(&["import", "-input=false", "-no-color", "groundwork_cluster.main", &id]).exits(0);
        self.terraform.has_no_changes();
    }
}

fn with(mut object: Value, key: &str, value: &Value) -> Value {
    object[key] = value.clone();
    object
}
