//! `config` of a cluster that lives: changed in place, refused where it does not start, told where somebody changed it, on real Kubernetes.

use crate::harness::{Lab, Terraform, long_ready};
use crate::quickstart::{KUBECTL, nodes_are_ready};
use serde_json::{Value, json};

/// On a cluster of `cp-1` and `worker-1`, which has a `config` of its own afterwards. Each step restarts parts of a control plane, which takes
/// half a minute and more on a small machine, so most of them are for the night.
pub(crate) fn is_changed_in_place(lab: &Lab, terraform: &Terraform) {
    let stage = Stage { lab, terraform };
    stage.arguments_are_changed_in_place();
    stage.the_api_server_shows_other_names();
    stage.a_wrong_argument_costs_nothing();
    stage.what_is_read_at_the_creation_alone_is_refused();
    if !long_ready() {
        return;
    }
    stage.an_apply_that_is_killed_is_gone_on_with();
    stage.every_kubelet_takes_its_configuration();
    stage.a_wrong_kubelet_gets_what_it_had();
    stage.kube_proxy_is_replaced();
    stage.requests_are_audited_and_secrets_encrypted();
    stage.what_somebody_changed_is_told_and_put_right();
    nodes_are_ready(lab);
}

struct Stage<'a> {
    lab: &'a Lab,
    terraform: &'a Terraform,
}

impl Stage<'_> {
    /// The lab's own settings, and these.
    fn ask_for(&self, cluster: &Value, kubelet: &Value, kube_proxy: &Value) {
        let mut over: Value = serde_json::from_str(&self.lab.file("quickstart_override.tf.json")).expect("JSON");
        let config = &mut over["resource"]["groundwork_cluster"]["main"]["config"];
        for (part, settings) in [("cluster", cluster), ("kubelet", kubelet), ("kube_proxy", kube_proxy)] {
            let mut all: Value =
                config[part].as_str().map_or(json!({}), |text| serde_json::from_str(text).expect("JSON"));
            all.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
            config[part] = json!(all.to_string());
        }
        self.terraform.write("lab_override.tf.json", &over.to_string());
    }

    fn ask_for_arguments(&self, arguments: &[(&str, &str)]) {
        let arguments: Vec<_> = arguments.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        self.ask_for(&json!({ "apiServer": { "extraArgs": arguments } }), &json!({}), &json!({}));
    }

    /// Command line of the API server that runs.
    fn api_server(&self) -> String {
        self.lab.must("cp-1", "pgrep -a -x kube-apiserver")
    }

    fn kubectl(&self, line: &str) -> String {
        self.lab.must("cp-1", &format!("{KUBECTL} {line}"))
    }

    fn arguments_are_changed_in_place(&self) {
        // Its process may end all the same: a scheduler that loses its lease while the API server is away begins anew.
        let scheduler = || self.lab.must("cp-1", "stat -c '%i %Y' /etc/kubernetes/manifests/kube-scheduler.yaml");
        let before = scheduler();
        self.ask_for_arguments(&[("v", "3")]);
        self.terraform.plan().exits(2).says(&["config: cp-1", "1 to change, 0 to destroy"]);
        self.terraform.apply();
        assert!(self.api_server().contains(" --v=3"), "{}", self.api_server());
        assert_eq!(scheduler(), before, "nobody else is restarted");
        assert!(self.kubectl("-n kube-system get configmap kubeadm-config -o yaml").contains("name: v"));
        self.terraform.has_no_changes();
    }

    /// They stay declared.
    fn the_api_server_shows_other_names(&self) {
        let is_shown = |name: &str| {
            self.lab.exec("cp-1", &format!("{KUBECTL} --tls-server-name={name} get --raw /livez")).code == 0
        };
        assert!(!is_shown("other.example.org"));
        let names = json!({ "certificate_names": ["other.example.org", "198.51.100.7"] });
        let over = json!({ "resource": { "groundwork_cluster": { "main": names } } });
        self.terraform.write("names_override.tf.json", &over.to_string());
        self.terraform.plan().exits(2).says(&["config: cp-1", "0 to add, 1 to change, 0 to destroy"]);
        self.terraform.apply();
        assert!(is_shown("other.example.org") && is_shown("198.51.100.7"));
        self.terraform.has_no_changes();
    }

    fn a_wrong_argument_costs_nothing(&self) {
        let noted = self.kubectl("-n kube-system get configmap kubeadm-config -o jsonpath={.data}");
        self.ask_for_arguments(&[("v", "4"), ("nonsense", "1")]);
        self.terraform.fails(&[
            "Cannot change the configuration of node cp-1",
            "does not start as it is declared: unknown flag: --nonsense",
            "what it was before is in force again",
        ]);
        let running = self.api_server();
        assert!(running.contains(" --v=3") && !running.contains("nonsense"), "{running}");
        assert_eq!(self.kubectl("-n kube-system get configmap kubeadm-config -o jsonpath={.data}"), noted);
        self.ask_for_arguments(&[("v", "3")]);
        self.terraform.has_no_changes();
        // What kubeadm itself does not know.
        self.ask_for(&json!({ "apiServer": { "extraArguments": [] } }), &json!({}), &json!({}));
        self.terraform.plan().says(&["Cannot change `config.cluster`", "apiServer.extraArguments"]);
        self.ask_for_arguments(&[("v", "3")]);
    }

    fn what_is_read_at_the_creation_alone_is_refused(&self) {
        self.ask_for(&json!({ "networking": { "dnsDomain": "example.org" } }), &json!({}), &json!({}));
        self.terraform.plan().exits(2).says(&["Cannot change `config.cluster`", "`networking.dnsDomain`"]);
        self.terraform.fails(&["Cannot change `config.cluster`", "`networking.dnsDomain`", "Nothing was changed"]);
        self.ask_for_arguments(&[("v", "3")]);
        self.terraform.has_no_changes();
    }

    fn an_apply_that_is_killed_is_gone_on_with(&self) {
        self.ask_for_arguments(&[("v", "5")]);
        let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
        // The agent's run goes on by itself; then the agent dies as well.
        self.terraform.killed(|| self.lab.exec("cp-1", &format!("grep -q -- --v=5 {manifest}")).code == 0);
        self.lab.kill_agent("cp-1");
        self.ask_for_arguments(&[("v", "2")]);
        self.terraform.apply();
        assert!(self.api_server().contains(" --v=2"), "{}", self.api_server());
        self.terraform.has_no_changes();
    }

    fn every_kubelet_takes_its_configuration(&self) {
        let arguments = json!({ "apiServer": { "extraArgs": [{ "name": "v", "value": "2" }] } });
        self.ask_for(&arguments, &json!({ "maxPods": 77 }), &json!({}));
        self.terraform.plan().exits(2).says(&["config: cp-1", "config: worker-1"]);
        self.terraform.apply();
        for node in ["cp-1", "worker-1"] {
            assert_eq!(self.kubectl(&format!("get node {node} -o jsonpath={{.status.capacity.pods}}")), "77", "{node}");
        }
        self.terraform.has_no_changes();
    }

    fn a_wrong_kubelet_gets_what_it_had(&self) {
        let arguments = json!({ "apiServer": { "extraArgs": [{ "name": "v", "value": "2" }] } });
        let wrong = json!({ "maxPods": 77, "evictionHard": { "memory.available": "a lot" } });
        self.ask_for(&arguments, &wrong, &json!({}));
        self.terraform.fails(&["Cannot change the configuration of node cp-1", "what it was before is in force again"]);
        self.ask_for(&arguments, &json!({ "maxPods": 77 }), &json!({}));
        self.terraform.has_no_changes();
        nodes_are_ready(self.lab);
    }

    fn kube_proxy_is_replaced(&self) {
        let arguments = json!({ "apiServer": { "extraArgs": [{ "name": "v", "value": "2" }] } });
        self.ask_for(&arguments, &json!({ "maxPods": 77 }), &json!({ "metricsBindAddress": "0.0.0.0:10249" }));
        let pods = || self.kubectl("-n kube-system get pods -l k8s-app=kube-proxy -o name");
        let before = pods();
        self.terraform.apply();
        assert!(before.lines().all(|pod| !pods().contains(pod)), "{before}");
        self.lab.must("worker-1", "ss -tln | grep -qE '(0.0.0.0|[*]):10249'");
        self.terraform.has_no_changes();
    }

    /// As the guide has it: files of the machines, volumes and arguments of the API server.
    fn requests_are_audited_and_secrets_encrypted(&self) {
        let policy = json!({ "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{ "level": "Metadata" }] });
        let keys = json!({ "secretbox": { "keys": [{ "name": "one", "secret": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=" }] } });
        let encryption = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{ "resources": ["secrets"], "providers": [keys, { "identity": {} }] }],
        });
        let argument = |name: &str, value: &str| json!({ "name": name, "value": value });
        let volume = |name: &str, path: &str, kind: &str| json!({ "name": name, "hostPath": path, "mountPath": path, "pathType": kind });
        let cluster = json!({ "apiServer": {
            "extraArgs": [
                argument("v", "2"),
                argument("audit-policy-file", "/etc/kubernetes-extra/audit-1.yaml"),
                argument("audit-log-path", "/var/log/kubernetes/audit.log"),
                argument("encryption-provider-config", "/etc/kubernetes-extra/encryption.yaml"),
            ],
            "extraVolumes": [
                volume("extra", "/etc/kubernetes-extra", "Directory"),
                volume("audit-log", "/var/log/kubernetes", "DirectoryOrCreate"),
            ],
        } });
        self.ask_for(&cluster, &json!({ "maxPods": 77 }), &json!({ "metricsBindAddress": "0.0.0.0:10249" }));
        let text = std::fs::read_to_string(self.terraform.path("lab_override.tf.json")).expect("the override");
        let mut over: Value = serde_json::from_str(&text).expect("JSON");
        let secret = |content: &Value| json!({ "content": content.to_string(), "mode": "0600" });
        over["resource"]["groundwork_machine"]["machine"]["file"] = json!({
            "/etc/motd": { "content": "This machine is managed by Groundwork.\n" },
            "/etc/kubernetes-extra/audit-1.yaml": secret(&policy),
            "/etc/kubernetes-extra/encryption.yaml": secret(&encryption),
        });
        self.terraform.write("lab_override.tf.json", &over.to_string());
        self.terraform.apply();
        self.terraform.has_no_changes();
        self.kubectl("create secret generic seen --from-literal=word=plain-as-day");
        assert_eq!(self.kubectl("get secret seen -o jsonpath={.data.word} | base64 -d"), "plain-as-day");
        assert_ne!(self.lab.exec("cp-1", "grep -raq plain-as-day /var/lib/etcd/member").code, 0, "it is encrypted");
        self.lab.must("cp-1", "grep -q '\"resource\":\"secrets\"' /var/log/kubernetes/audit.log");
    }

    fn what_somebody_changed_is_told_and_put_right(&self) {
        let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
        self.lab.must(
            "cp-1",
            &format!("sed 's/--v=2/--v=9/' {manifest} > /etc/kubernetes/.new && mv /etc/kubernetes/.new {manifest}"),
        );
        let runs = format!("pgrep -a -x kube-apiserver | grep -q -- --v=9 && {KUBECTL} get --raw /readyz");
        self.lab.must("cp-1", &format!("for i in $(seq 90); do {runs} && exit 0; sleep 2; done; exit 1"));
        self.lab.must("worker-1", "sed -i 's/^maxPods: 77/maxPods: 78/' /var/lib/kubelet/config.yaml");
        self.terraform.plan().exits(2).says(&[
            "cp-1: its kube-apiserver does not run as `config.cluster` says: `apiServer.extraArgs.v`",
            "worker-1: its kubelet is not configured as `config.kubelet` says: `maxPods`",
        ]);
        self.terraform.apply();
        assert!(self.api_server().contains(" --v=2"), "{}", self.api_server());
        self.lab.must("worker-1", "grep -q '^maxPods: 77' /var/lib/kubelet/config.yaml");
        self.terraform.has_no_changes();
    }
}
