//! A cluster of K3s, or of RKE2: one server and its agents, from nothing to what is left when it is gone. Several servers: `servers`.
//!
//! K3s comes from no registry of packages: CI has what stands in for it, around a real etcd. A real one is given: `GROUNDWORK_K3S` is the path of the program,
//! `GROUNDWORK_K3S_VERSION` what it says it is, `GROUNDWORK_K3S_IMAGES` an archive (`.tar.zst`) with K3s' pause image and Kubernetes'
//! `agnhost`; `GROUNDWORK_K3S_NEXT` is the path of v1.34.4+k3s1, to which several servers are upgraded.

mod cuts;
mod given;
mod rke2;
mod servers;

use crate::harness::{Backend, Lab, Terraform, asked_for_the_night, provider_binary, ready, run, wait_until};
use crate::quickstart::lab_is_empty;
use given::{Given, Kind, Wanted};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fmt::Write as _;

/// What a cluster of K3s or RKE2 puts on a machine, and how to see it.
const TRACES: [(&str, &str); 7] = [
    ("processes", "pgrep -af '^/[^ ]*(k3s|rke2|containerd)|^(kubelet|containerd) |^/pause'"),
    ("networks", "ls /run/netns"),
    ("mounts", "grep -E 'kubelet|/run/netns|/run/k3s|rancher' /proc/mounts"),
    ("rules", "iptables-save | grep -E 'KUBE|FLANNEL|CNI|flannel'"),
    ("links", "ip -o link | grep -E 'cni0|flannel|veth'"),
    (
        "files",
        "find /etc/rancher /var/lib/rancher /var/lib/kubelet /run/k3s /run/flannel /var/lib/cni /var/log/pods -not -name registries.yaml -not -name k3s -not -name rke2 -not -name rancher",
    ),
    ("programs and units", "ls /usr/local/bin /etc/systemd/system | grep -E 'k3s|rke2|kubectl|crictl|ctr'"),
];
/// Of whichever stands there.
const KUBECTL: &str = "$(ls /usr/local/bin/kubectl /var/lib/rancher/rke2/bin/kubectl 2>/dev/null | head -n 1) \
                       --kubeconfig $(ls /etc/rancher/*/k3s.yaml /etc/rancher/*/rke2.yaml 2>/dev/null | head -n 1)";
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
    tokens_are_nowhere(lab, (&terraform, given), &["cp-1", "worker-1", "worker-2"]);
    access_is_given(&terraform, given);
    if given.real {
        a_pod_is_reached(lab, "worker-1", "worker-2");
        assert_eq!(kubectl(lab, "get configmap greeting -o jsonpath={.data.hello}"), "world", "the manifest");
        assert_eq!(kubectl(lab, "get secrets -n kube-system -o name | grep -c bootstrap-token || true"), "0");
    }
    // An agent that starts again needs no token: its own is deleted.
    lab.must("worker-1", &given.own("systemctl restart k3s-agent && systemctl is-active k3s-agent"));
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

    what_somebody_took_away_is_drift(lab, &terraform, given);
    let night = asked_for_the_night();
    if night {
        snapshots_are_taken_now_and_by_the_clock(lab, &terraform, given);
    }
    what_this_version_does_not_do_is_refused(lab, &terraform, given);
    write(2, "b");
    let authority = terraform.resource("groundwork_cluster.edge")["ca_fingerprint"].clone();
    a_destroyed_cluster_leaves_nothing_on_its_machines(lab, &terraform, given);
    if night {
        a_new_cluster_begins_with_a_snapshot(lab, (&terraform, given), &authority);
        another_program_is_never_run(lab, &terraform, given);
    }
    terraform.destroy();
    lab_is_empty(lab);
}

/// A worker and a server that were stopped, and a worker whose Node was deleted.
fn what_somebody_took_away_is_drift(lab: &Lab, terraform: &Terraform, given: &Given) {
    let all = ["cp-1", "worker-1", "worker-2"];
    for (vm, unit) in [("worker-1", "k3s-agent"), ("cp-1", "k3s.service")] {
        lab.must(vm, &given.own(&format!("systemctl stop {unit}")));
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
fn snapshots_are_taken_now_and_by_the_clock(lab: &Lab, terraform: &Terraform, given: &Given) {
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
    lab.must("cp-1", &given.own(&format!("cp {path} /srv/kept.db && cp /var/lib/rancher/k3s/server/token /srv/token")));
    for file in ["snapshots_override.tf.json", "snapshot.tf.json"] {
        terraform.write(file, "{}");
    }
    terraform.apply();
    terraform.has_no_changes();
    lab.must("cp-1", &format!("test ! -e {path} && test ! -e /etc/systemd/system/{timer} && rm -r /srv/etcd"));
}

fn what_this_version_does_not_do_is_refused(lab: &Lab, terraform: &Terraform, given: &Given) {
    let newer = Given { version: given.kind.next.to_owned(), ..given.clone() };
    terraform.write("main.tf", &Wanted::single(2, "b").configuration(lab, &newer));
    terraform.plan().exits(2).says(&["Cannot give cluster edge another version with the program of before"]);
    let still = format!("`{}.checksum` is still the one of", given.kind.program);
    terraform.fails(&[&still, "Nothing was changed"]);
    let leap = given.kind.version.replace("1.34.3", "1.36.1");
    let leap = Given { version: leap, program: "0".repeat(64), ..given.clone() };
    terraform.write("main.tf", &Wanted::single(2, "b").configuration(lab, &leap));
    terraform
        .plan()
        .exits(2)
        .says(&[&format!("Set `version` and `{}` to the newest release of v1.35", given.kind.program)]);
    let several = Wanted { servers: &[1, 2, 3], ..Wanted::single(2, "b") };
    terraform.write("main.tf", &several.configuration(lab, given));
    terraform.fails(&["Cannot use several control planes without an endpoint of their own"]);
}

/// On the same machines: with the objects, the CA and the secret of the one before.
fn a_new_cluster_begins_with_a_snapshot(lab: &Lab, (terraform, given): (&Terraform, &Given), authority: &Value) {
    let from = |token: &str| {
        let from = json!({ "path": "/srv/kept.db", "token_path": token });
        let block = json!({ "resource": { "groundwork_cluster": { "edge": { "restore_from": from } } } });
        terraform.write("restore_override.tf.json", &block.to_string());
    };
    lab.must("cp-1", "sed 's/::server:.*/::server:another/' /srv/token >/srv/another");
    from("/srv/another");
    terraform.fails(&["The secret at /srv/another does not open the snapshot at /srv/kept.db"]);
    lab.must("cp-1", &given.own("test ! -e /var/lib/rancher && test ! -e /usr/local/bin/k3s"));
    from("/srv/token");
    terraform.apply();
    nodes_are_ready(lab, &["cp-1", "worker-1", "worker-2"]);
    assert_eq!(node(lab, "cp-1")["metadata"]["labels"]["example.org/kept"], "yes");
    assert_eq!(node(lab, "worker-1")["metadata"]["labels"]["example.org/zone"], "b");
    assert_eq!(terraform.resource("groundwork_cluster.edge")["ca_fingerprint"], *authority);
    assert_eq!(
        lab.must("cp-1", &given.own("cat /var/lib/rancher/k3s/server/token")),
        lab.must("cp-1", "cat /srv/token")
    );
    terraform.has_no_changes();
    a_destroyed_cluster_leaves_nothing_on_its_machines(lab, terraform, given);
    terraform.write("restore_override.tf.json", "{}");
}

/// What is no program of that checksum is not run, and the machine stays clean.
fn another_program_is_never_run(lab: &Lab, terraform: &Terraform, given: &Given) {
    let wrong = Given { program: "0".repeat(64), ..given.clone() };
    terraform.write("main.tf", &Wanted::single(2, "b").configuration(lab, &wrong));
    terraform.fails(&[&format!("has another SHA-256 than `{}.checksum` says", given.kind.program)]);
    lab.must("cp-1", &given.own("test ! -e /usr/local/bin/k3s && test ! -e /etc/systemd/system/k3s.service"));
}

/// Without a secret in it, and with a certificate for the run.
fn access_is_given(terraform: &Terraform, given: &Given) {
    let cluster = terraform.resource("groundwork_cluster.edge");
    let kubeconfig = cluster["kubeconfig"].as_str().expect("a kubeconfig");
    assert!(kubeconfig.contains(":6443") && !kubeconfig.contains("client-key-data"), "{kubeconfig}");
    assert_eq!(cluster["version"], given.version);
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
fn tokens_are_nowhere(lab: &Lab, (terraform, given): (&Terraform, &Given), vms: &[&str]) {
    let secret = lab.must("cp-1", &given.own("cut -d: -f4 /var/lib/rancher/k3s/server/token"));
    let joined = lab.must("worker-1", &given.own("sed 's/.*:://' /etc/rancher/k3s/groundwork-token"));
    for (what, token) in [("the cluster's", &secret), ("a worker's", &joined)] {
        is_nowhere(lab, terraform, (what, token), vms);
    }
    assert_eq!(
        lab.must("worker-1", &given.own("stat -c %a /etc/rancher/k3s/groundwork-token /etc/rancher/k3s/config.yaml")),
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
fn a_destroyed_cluster_leaves_nothing_on_its_machines(lab: &Lab, terraform: &Terraform, given: &Given) {
    leaves_nothing(lab, (terraform, given), &["cp-1", "worker-1", "worker-2"]);
}

fn leaves_nothing(lab: &Lab, (terraform, given): (&Terraform, &Given), vms: &[&str]) {
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
        lab.must(vm, &given.own("test -s /etc/rancher/k3s/registries.yaml"));
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
