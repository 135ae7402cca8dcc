//! A cluster of K3s: one server and its agents, from nothing to what is left when it is gone. Several servers: `servers`.
//!
//! K3s comes from no registry of packages: CI has what stands in for it, around a real etcd. A real one is given: `GROUNDWORK_K3S` is the path of the program,
//! `GROUNDWORK_K3S_VERSION` what it says it is, `GROUNDWORK_K3S_IMAGES` an archive (`.tar.zst`) with K3s' pause image and Kubernetes'
//! `agnhost`; `GROUNDWORK_K3S_NEXT` is the path of v1.34.4+k3s1, to which several servers are upgraded.

mod cuts;
mod servers;

use crate::harness::{
    Backend, Lab, Terraform, asked_for_the_night, prepared, provider_binary, ready, repository, run, wait_until,
};
use crate::quickstart::lab_is_empty;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;

/// What a cluster of K3s puts on a machine, and how to see it.
const TRACES: [(&str, &str); 7] = [
    ("processes", "pgrep -a 'k3s|containerd|kube|pause'"),
    ("networks", "ls /run/netns"),
    ("mounts", "grep -E 'kubelet|/run/netns|/run/k3s|rancher' /proc/mounts"),
    ("rules", "iptables-save | grep -E 'KUBE|FLANNEL|CNI|flannel'"),
    ("links", "ip -o link | grep -E 'cni0|flannel|veth'"),
    (
        "files",
        "find /etc/rancher /var/lib/rancher /var/lib/kubelet /run/k3s /run/flannel /var/lib/cni /var/log/pods -not -name registries.yaml -not -name k3s -not -name rancher",
    ),
    ("programs and units", "ls /usr/local/bin /etc/systemd/system | grep -E 'k3s|kubectl|crictl|ctr'"),
];
const KUBECTL: &str = "/usr/local/bin/kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml";
const VERSION: &str = "v1.34.3+k3s1";
const NEXT: &str = "v1.34.4+k3s1";
const IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.53";

/// What is seen from outside of K3s; its snapshots by night. The program says what the recordings say: see `tests/lab/k3s`.
#[test]
fn a_cluster_of_k3s_comes_changes_and_goes() {
    if !ready() {
        return;
    }
    let lab = Lab::start("k3s", Backend::Nspawn, &["--kubernetes", "none"]);
    let Some(given) = Given::stand_in(&lab) else { return };
    comes_changes_and_goes(&lab, &given);
}

#[test]
fn a_real_k3s_works_changes_and_leaves_nothing() {
    if let Some((program, images)) = real() {
        let lab = Lab::start("k3s-real", Backend::Nspawn, &["--kubernetes", "none"]);
        comes_changes_and_goes(&lab, &Given::real(&lab, &program, &images));
    }
}

/// A K3s to try, and its images.
#[track_caller]
fn real() -> Option<(OsString, OsString)> {
    let [Some(program), Some(images)] = ["GROUNDWORK_K3S", "GROUNDWORK_K3S_IMAGES"].map(std::env::var_os) else {
        eprintln!("skipped: GROUNDWORK_K3S and GROUNDWORK_K3S_IMAGES are the paths of a K3s to try and of its images");
        return None;
    };
    ready().then_some((program, images))
}

fn comes_changes_and_goes(lab: &Lab, given: &Given) {
    let terraform = Terraform::for_lab(lab);
    let write = |workers: u8, label: &str| {
        terraform.write("main.tf", &Wanted::single(workers, label).configuration(lab, given))
    };
    write(2, "a");
    terraform.apply();
    nodes_are_ready(lab, &["cp-1", "worker-1", "worker-2"]);
    for (vm, last) in [("cp-1", 11), ("worker-1", 21), ("worker-2", 22)] {
        assert_eq!(node(lab, vm)["status"]["addresses"][0]["address"], json!(lab.address(last)), "{vm}");
    }
    terraform.has_no_changes();
    tokens_are_nowhere(lab, &terraform);
    access_is_given(&terraform);
    if given.real {
        a_pod_is_reached(lab, "worker-1", "worker-2");
        assert_eq!(kubectl(lab, "get configmap greeting -o jsonpath={.data.hello}"), "world", "the manifest");
        assert_eq!(kubectl(lab, "get secrets -n kube-system -o name | grep -c bootstrap-token || true"), "0");
    }
    // An agent that starts again needs no token: its own is deleted.
    lab.must("worker-1", "systemctl restart k3s-agent && systemctl is-active k3s-agent");
    nodes_are_ready(lab, &["cp-1", "worker-1", "worker-2"]);

    write(3, "b");
    terraform.apply();
    nodes_are_ready(lab, &["cp-1", "worker-1", "worker-2", "worker-3"]);
    assert_eq!(node(lab, "worker-1")["metadata"]["labels"]["example.org/zone"], "b");
    terraform.has_no_changes();
    write(1, "b");
    terraform.apply();
    nodes_are_ready(lab, &["cp-1", "worker-1"]);
    terraform.has_no_changes();
    // Machines that are made again under their old names.
    write(2, "b");
    terraform.apply();
    nodes_are_ready(lab, &["cp-1", "worker-1", "worker-2"]);
    terraform.has_no_changes();
    let again = "-replace=groundwork_vm.machine[\"worker-2\"]";
    terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color", again]).exits(0);
    nodes_are_ready(lab, &["cp-1", "worker-1", "worker-2"]);
    if given.real {
        a_pod_is_reached(lab, "worker-2", "worker-1");
    }
    terraform.has_no_changes();

    what_somebody_took_away_is_drift(lab, &terraform);
    let night = asked_for_the_night();
    if night {
        snapshots_are_taken_now_and_by_the_clock(lab, &terraform);
    }
    what_this_version_does_not_do_is_refused(lab, &terraform, given);
    write(2, "b");
    let authority = terraform.resource("groundwork_cluster.edge")["ca_fingerprint"].clone();
    a_destroyed_cluster_leaves_nothing_on_its_machines(lab, &terraform);
    if night {
        a_new_cluster_begins_with_a_snapshot(lab, &terraform, &authority);
        another_program_is_never_run(lab, &terraform, given);
    }
    terraform.destroy();
    lab_is_empty(lab);
}

/// A worker and a server that were stopped, and a worker whose Node was deleted.
fn what_somebody_took_away_is_drift(lab: &Lab, terraform: &Terraform) {
    let all = ["cp-1", "worker-1", "worker-2"];
    for (vm, unit) in [("worker-1", "k3s-agent"), ("cp-1", "k3s")] {
        lab.must(vm, &format!("systemctl stop {unit}"));
        terraform.plan().exits(2).says(&[&format!("{vm}: its kubelet is inactive")]);
        terraform.apply();
        nodes_are_ready(lab, &all);
    }
    terraform.has_no_changes();
    kubectl(lab, "delete node worker-1");
    terraform.plan().exits(2);
    terraform.apply();
    nodes_are_ready(lab, &all);
    terraform.has_no_changes();
}

/// In etcd's own form, with its sum behind it.
fn snapshots_are_taken_now_and_by_the_clock(lab: &Lab, terraform: &Terraform) {
    let (path, timer) = ("/var/backups/etcd/now.db", "groundwork-etcd-snapshot.timer");
    let snapshots = json!({ "schedule": "*-*-* 03:00:00", "keep": 2, "directory": "/srv/etcd" });
    let block = json!({ "resource": { "groundwork_cluster": { "edge": { "snapshots": snapshots } } } });
    terraform.write("snapshots_override.tf.json", &block.to_string());
    let now = json!({
        "ca_fingerprint": "${groundwork_cluster.edge.ca_fingerprint}",
        "control_planes": "${groundwork_cluster.edge.control_planes}",
        "path": path,
    });
    let now = json!({ "resource": { "groundwork_etcd_snapshot": { "now": now } } });
    terraform.write("snapshot.tf.json", &now.to_string());
    kubectl(lab, "label node cp-1 example.org/kept=yes");
    terraform.apply();
    terraform.has_no_changes();
    let told = terraform.resource("groundwork_etcd_snapshot.now");
    let sum = lab.must("cp-1", &format!("head -c -32 {path} | sha256sum"));
    assert_eq!(sum.split_whitespace().next(), told["sha256"].as_str(), "{told}");
    lab.must("cp-1", "for _ in 1 2 3; do systemctl start groundwork-etcd-snapshot.service; sleep 1; done");
    assert_eq!(lab.must("cp-1", "stat -c %a /srv/etcd/etcd-*.db"), "600\n600", "two of three stay");
    lab.must("cp-1", &format!("systemctl disable --now {timer}"));
    terraform.plan().exits(2).says(&["cp-1: its timer for snapshots of etcd was stopped or changed"]);
    terraform.apply();
    terraform.has_no_changes();
    // As a user keeps them.
    lab.must("cp-1", &format!("cp {path} /srv/kept.db && cp /var/lib/rancher/k3s/server/token /srv/token"));
    for file in ["snapshots_override.tf.json", "snapshot.tf.json"] {
        terraform.write(file, "{}");
    }
    terraform.apply();
    terraform.has_no_changes();
    lab.must("cp-1", &format!("test ! -e {path} && test ! -e /etc/systemd/system/{timer} && rm -r /srv/etcd"));
}

fn what_this_version_does_not_do_is_refused(lab: &Lab, terraform: &Terraform, given: &Given) {
    let newer = Given { version: "v1.34.4+k3s1".to_owned(), ..given.clone() };
    terraform.write("main.tf", &Wanted::single(2, "b").configuration(lab, &newer));
    terraform.plan().exits(2).says(&["Cannot give cluster edge another version with the program of before"]);
    terraform.fails(&["`k3s.checksum` is still the one of", "Nothing was changed"]);
    let leap = Given { version: "v1.36.1+k3s1".to_owned(), program: "0".repeat(64), ..given.clone() };
    terraform.write("main.tf", &Wanted::single(2, "b").configuration(lab, &leap));
    terraform.plan().exits(2).says(&["Set `version` and `k3s` to the newest release of v1.35"]);
    let several = Wanted { servers: &[1, 2, 3], ..Wanted::single(2, "b") };
    terraform.write("main.tf", &several.configuration(lab, given));
    terraform.fails(&["Cannot use several control planes without an endpoint of their own"]);
}

/// On the same machines: with the objects, the CA and the secret of the one before.
fn a_new_cluster_begins_with_a_snapshot(lab: &Lab, terraform: &Terraform, authority: &Value) {
    let from = |token: &str| {
        let from = json!({ "path": "/srv/kept.db", "token_path": token });
        let block = json!({ "resource": { "groundwork_cluster": { "edge": { "restore_from": from } } } });
        terraform.write("restore_override.tf.json", &block.to_string());
    };
    lab.must("cp-1", "sed 's/::server:.*/::server:another/' /srv/token >/srv/another");
    from("/srv/another");
    terraform.fails(&["The secret at /srv/another does not open the snapshot at /srv/kept.db"]);
    lab.must("cp-1", "test ! -e /var/lib/rancher && test ! -e /usr/local/bin/k3s");
    from("/srv/token");
    terraform.apply();
    nodes_are_ready(lab, &["cp-1", "worker-1", "worker-2"]);
    assert_eq!(node(lab, "cp-1")["metadata"]["labels"]["example.org/kept"], "yes");
    assert_eq!(node(lab, "worker-1")["metadata"]["labels"]["example.org/zone"], "b");
    assert_eq!(terraform.resource("groundwork_cluster.edge")["ca_fingerprint"], *authority);
    assert_eq!(lab.must("cp-1", "cat /var/lib/rancher/k3s/server/token"), lab.must("cp-1", "cat /srv/token"));
    terraform.has_no_changes();
    a_destroyed_cluster_leaves_nothing_on_its_machines(lab, terraform);
    terraform.write("restore_override.tf.json", "{}");
}

/// What is no program of that checksum is not run, and the machine stays clean.
fn another_program_is_never_run(lab: &Lab, terraform: &Terraform, given: &Given) {
    let wrong = Given { program: "0".repeat(64), ..given.clone() };
    terraform.write("main.tf", &Wanted::single(2, "b").configuration(lab, &wrong));
    terraform.fails(&["has another SHA-256 than `k3s.checksum` says"]);
    lab.must("cp-1", "test ! -e /usr/local/bin/k3s && test ! -e /etc/systemd/system/k3s.service");
}

/// Without a secret in it, and with a certificate for the run.
fn access_is_given(terraform: &Terraform) {
    let cluster = terraform.resource("groundwork_cluster.edge");
    let kubeconfig = cluster["kubeconfig"].as_str().expect("a kubeconfig");
    assert!(kubeconfig.contains(":6443") && !kubeconfig.contains("client-key-data"), "{kubeconfig}");
    assert_eq!(cluster["version"], VERSION);
    assert!(cluster["ca_certificate"].as_str().is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")));
    let kubeconfig: Value = serde_json::from_str(kubeconfig).expect("JSON is YAML");
    let words = kubeconfig["users"][0]["user"]["exec"]["args"].as_array().cloned().expect("the plugin's arguments");
    let words: Vec<String> = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let mut plugin = run::command(provider_binary());
    let said = run::run(plugin.args(&words).env("GROUNDWORK_AGENT_PKI_DIR", terraform.path("pki")));
    said.exits(0);
    assert!(said.text.contains("ExecCredential") && said.text.contains("clientCertificateData"), "{words:?}");
}

/// Neither in the state, nor in an argument or environment, nor readable by others, nor in a journal.
fn tokens_are_nowhere(lab: &Lab, terraform: &Terraform) {
    let secret = lab.must("cp-1", "cut -d: -f4 /var/lib/rancher/k3s/server/token");
    let joined = lab.must("worker-1", "sed 's/.*:://' /etc/rancher/k3s/groundwork-token");
    for (what, token) in [("the cluster's", &secret), ("a worker's", &joined)] {
        is_nowhere(lab, terraform, (what, token), &["cp-1", "worker-1", "worker-2"]);
    }
    assert_eq!(
        lab.must("worker-1", "stat -c %a /etc/rancher/k3s/groundwork-token /etc/rancher/k3s/config.yaml"),
        "600\n600"
    );
}

#[track_caller]
fn is_nowhere(lab: &Lab, terraform: &Terraform, (what, token): (&str, &str), vms: &[&str]) {
    let state = std::fs::read_to_string(terraform.path("terraform.tfstate")).expect("the state");
    assert!(token.len() > 10, "{what}: {token:?}");
    assert!(!state.contains(token), "{what} token stands in the state");
    for vm in vms {
        // In two parts: whoever looks must not be found.
        let (first, rest) = token.split_at(token.len() / 2);
        let look =
            "{ cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'; journalctl --no-pager; } 2>/dev/null";
        let line =
            format!("printf '%s%s\\n' '{first}' '{rest}' >/run/wanted; {look} | grep -c -F -f /run/wanted || true");
        assert_eq!(lab.must(vm, &line), "0", "{vm}: {what} token is shown");
    }
}

/// A server on one node answers a client on the other, over the pod network.
#[track_caller]
fn a_pod_is_reached(lab: &Lab, server: &str, client: &str) {
    kubectl(lab, "delete pod web client --ignore-not-found --now");
    kubectl(lab, &pod("web", server, "netexec"));
    kubectl(lab, "wait --for=condition=Ready pod/web --timeout=3m");
    let address = kubectl(lab, "get pod web -o jsonpath={.status.podIP}");
    kubectl(lab, &pod("client", client, &format!("connect {address}:8080 --timeout=10s")));
    kubectl(lab, "wait --for=jsonpath={.status.phase}=Succeeded pod/client --timeout=3m");
}

fn pod(name: &str, node: &str, arguments: &str) -> String {
    let place = json!({ "spec": { "nodeName": node } });
    format!("run {name} --image={IMAGE} --overrides='{place}' --restart=Never -- {arguments}")
}

/// The cluster goes and its machines stay.
fn a_destroyed_cluster_leaves_nothing_on_its_machines(lab: &Lab, terraform: &Terraform) {
    leaves_nothing(lab, terraform, &["cp-1", "worker-1", "worker-2"]);
}

fn leaves_nothing(lab: &Lab, terraform: &Terraform, vms: &[&str]) {
    terraform
        .run(&["destroy", "-auto-approve", "-input=false", "-no-color", "-target=groundwork_cluster.edge"])
        .exits(0);
    let mut left = String::new();
    for vm in vms {
        for (what, line) in TRACES {
            let said = lab.must(vm, &format!("{{ {line}; }} 2>/dev/null || true"));
            if !said.is_empty() {
                writeln!(left, "{vm}, {what}:\n{said}").expect("text");
            }
        }
        lab.must(vm, "test -s /etc/rancher/k3s/registries.yaml");
    }
    assert!(left.is_empty(), "the cluster left\n{left}");
    terraform.plan().exits(2).says(&["groundwork_cluster.edge will be created", "1 to add, 0 to change, 0 to destroy"]);
}

#[track_caller]
fn kubectl(lab: &Lab, line: &str) -> String {
    kubectl_by(lab, "cp-1", line)
}

#[track_caller]
fn kubectl_by(lab: &Lab, vm: &str, line: &str) -> String {
    let mut said = String::new();
    // An API server that was just started refuses now and then.
    wait_until("kubectl gets an answer", || {
        let run = lab.exec(vm, &format!("{KUBECTL} {line}"));
        said = run.text.trim().to_owned();
        run.code == 0
    });
    said
}

/// A node, as the API server has it.
fn node(lab: &Lab, name: &str) -> Value {
    serde_json::from_str(&kubectl(lab, &format!("get node {name} -o json"))).expect("a node")
}

/// These nodes are there, no others, and ready.
#[track_caller]
fn nodes_are_ready(lab: &Lab, names: &[&str]) {
    nodes_are_ready_by(lab, "cp-1", names);
}

#[track_caller]
fn nodes_are_ready_by(lab: &Lab, vm: &str, names: &[&str]) {
    wait_until(&format!("{names:?} are ready"), || {
        let list: Value = serde_json::from_str(&kubectl_by(lab, vm, "get nodes -o json")).expect("nodes");
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let is_ready = |node: &Value| {
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        let there: Vec<&str> = items.iter().filter_map(|node| node["metadata"]["name"].as_str()).collect();
        there == names && items.iter().all(is_ready)
    });
}

/// What is tried.
#[derive(Clone)]
struct Given {
    version: String,
    /// What it is served as.
    name: &'static str,
    /// SHA-256, hex.
    program: String,
    images: String,
    /// A K3s, and not what stands in for it.
    real: bool,
}

impl Given {
    /// What stands in for K3s, with an etcd in the place of its images.
    #[track_caller]
    fn stand_in(lab: &Lab) -> Option<Self> {
        let etcd = prepared("GROUNDWORK_ETCD")?;
        let program = repository().join("tests/lab/k3s/k3s-stand-in");
        Some(Self {
            version: VERSION.to_owned(),
            name: "k3s",
            program: served(lab, "k3s", program.as_os_str()),
            images: served(lab, "images.tar.zst", etcd.as_os_str()),
            real: false,
        })
    }

    /// The next version: of what stands in the same under the next number, of a real one what is given as such.
    #[track_caller]
    fn next(&self, lab: &Lab) -> Option<Self> {
        let next = Self { version: NEXT.to_owned(), name: "k3s-next", ..self.clone() };
        if self.real {
            let program = std::env::var_os("GROUNDWORK_K3S_NEXT")?;
            return Some(Self { program: served(lab, "k3s-next", &program), ..next });
        }
        let own = std::fs::read_to_string(repository().join("tests/lab/k3s/k3s-stand-in")).expect("the stand-in");
        let [is, becomes] = [VERSION, NEXT].map(|version| format!("VERSION = \"{version}\""));
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(own.replace(&is, &becomes).as_bytes()).expect("a file of the test's own");
        Some(Self { program: served(lab, "k3s-next", file.path().as_os_str()), ..next })
    }

    #[track_caller]
    fn real(lab: &Lab, program: &OsStr, images: &OsStr) -> Self {
        Self {
            version: std::env::var("GROUNDWORK_K3S_VERSION").unwrap_or_else(|_| VERSION.to_owned()),
            name: "k3s",
            program: served(lab, "k3s", program),
            images: served(lab, "images.tar.zst", images),
            real: true,
        }
    }
}

/// A configuration. Packaged components are left out, whose images the archive need not have.
struct Wanted<'a> {
    servers: &'a [u8],
    workers: u8,
    label: &'a str,
    endpoint: Option<String>,
}

impl<'a> Wanted<'a> {
    fn single(workers: u8, label: &'a str) -> Self {
        Self { servers: &[1], workers, label, endpoint: None }
    }

    fn configuration(&self, lab: &Lab, given: &Given) -> String {
        let numbered = |name: &str, numbers: &[u8], first: u8| -> Value {
            numbers.iter().map(|at| (format!("{name}-{at}"), json!(lab.address(first + at)))).collect()
        };
        let workers: Vec<u8> = (1..=self.workers).collect();
        let registries =
            json!({ "mirrors": { "registry.example.org": { "endpoint": ["http://registry.example.org"] } } });
        let common = json!({
            // The lab's machines lie on overlays, and share one disk with the host.
            "snapshotter": "native",
            "kubelet-arg": ["eviction-hard=nodefs.available<1%,imagefs.available<1%,memory.available<20Mi", "image-gc-high-threshold=100"],
        });
        let mut server = common.clone();
        server["disable"] = json!(["coredns", "traefik", "servicelb", "local-storage", "metrics-server"]);
        let text = |value: &Value| serde_json::to_string(&value.to_string()).expect("text");
        let whole = include_str!("k3s/main.tf");
        let (before, _) = whole.split_once("\n  manifest").expect("a manifest");
        let without = format!("{before}}}\n");
        if given.real { whole } else { &without }
            .replace("@SERVERS@", &numbered("cp", self.servers, 10).to_string())
            .replace("@WORKERS@", &numbered("worker", &workers, 20).to_string())
            .replace("@ENDPOINT@", &json!(self.endpoint).to_string())
            .replace("@GATEWAY@", &lab.address(1))
            .replace("@IMAGE_URL@", &lab.value("LAB_IMAGE_URL"))
            .replace("@IMAGE_SUM@", &lab.value("LAB_IMAGE_SHA256"))
            .replace("@REGISTRIES@", &text(&registries))
            .replace("@VERSION@", &given.version)
            .replace("@PROGRAM@", given.name)
            .replace("@SUM@", &given.program)
            .replace("@IMAGES_SUM@", &given.images)
            .replace("@SERVER@", &text(&server).replace("${", "$${"))
            .replace("@AGENT@", &text(&common))
            .replace("@LABEL@", self.label)
    }
}

/// Serves a file to the lab's machines; its SHA-256.
#[track_caller]
fn served(lab: &Lab, name: &str, path: &OsStr) -> String {
    lab.serve(name, std::fs::read(path).expect("a file that was given"));
    let said = run::run(run::command("sha256sum").arg(path)).text;
    said.split_whitespace().next().expect("a sum").to_owned()
}
