//! `groundwork_kubeconfig` on a real cluster: the apply that makes it uses it, and nothing of the access is stored.

use crate::harness::run::{command, run};
use crate::harness::{Backend, Lab, Terraform, provider_binary, ready};
use crate::quickstart;
use serde_json::{Value, json};

/// Uses the values as any provider would, without one: a program is given them in its environment and speaks to the API server.
/// What it learns, and the certificate and key, it leaves in files.
const ACCESS: &str = r#"
locals {
  # One that is down comes first.
  asked = merge(
    { a-down = { endpoint = merge(groundwork_cluster.main.control_planes["cp-1"].endpoint, { address = "DOWN:7443" }) } },
    groundwork_cluster.main.control_planes,
  )
}
ephemeral "groundwork_kubeconfig" "admin" {
  ca_fingerprint = groundwork_cluster.main.ca_fingerprint
  control_planes = local.asked
  ttl            = "10m"
}
ephemeral "groundwork_kubeconfig" "viewer" {
  ca_fingerprint = groundwork_cluster.main.ca_fingerprint
  control_planes = groundwork_cluster.main.control_planes
  user           = "pipeline"
  groups         = ["example:viewers", "example:others"]
  ttl            = "5m"
}
resource "terraform_data" "objects" {
  triggers_replace = groundwork_cluster.main.ca_fingerprint
  provisioner "local-exec" {
    command = "sh use.sh"
    environment = {
      HOST       = ephemeral.groundwork_kubeconfig.admin.host
      CA         = ephemeral.groundwork_kubeconfig.admin.cluster_ca_certificate
      CERT       = ephemeral.groundwork_kubeconfig.admin.client_certificate
      KEY        = ephemeral.groundwork_kubeconfig.admin.client_key
      KUBECONFIG = ephemeral.groundwork_kubeconfig.admin.kubeconfig
      CERT_2     = ephemeral.groundwork_kubeconfig.viewer.client_certificate
      KEY_2      = ephemeral.groundwork_kubeconfig.viewer.client_key
    }
  }
}
"#;

const USE: &str = r#"
set -eu
umask 077
mkdir -p used
for part in CA CERT KEY KUBECONFIG CERT_2 KEY_2; do eval "printf %s \"\$$part\"" >used/$part; done
api() {
  own=$1; shift; path=$1; shift
  curl -sS --max-time 30 --cacert used/CA --cert used/CERT$own --key used/KEY$own -H 'Content-Type: application/json' "$HOST$path" "$@"
}
maps=/api/v1/namespaces/default/configmaps
api '' $maps -d '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"made"},"data":{"by":"the same apply"}}' >used/made
api '' $maps/made >used/read
api _2 $maps >used/forbidden
review='{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
api '' /apis/authentication.k8s.io/v1/selfsubjectreviews -d "$review" >used/who
api _2 /apis/authentication.k8s.io/v1/selfsubjectreviews -d "$review" >used/who_2
"#;

#[test]
fn the_apply_that_makes_a_cluster_uses_it_and_no_key_is_stored() {
    if !ready() {
        return;
    }
    let lab = Lab::start("kubeconfig", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 0);
    terraform.write("access.tf", &ACCESS.replace("DOWN", &lab.address(99)));
    terraform.write("use.sh", USE);
    let log = terraform.path("trace.log");
    let traced = |arguments: &[&str]| {
        let said = run(terraform.command(arguments).env("TF_LOG", "TRACE").env("TF_LOG_PATH", &log));
        said.exits(0);
        said
    };
    traced(&["plan", "-input=false", "-no-color", "-out", "saved.plan"]);
    let applied = traced(&["apply", "-input=false", "-no-color", "saved.plan"]);
    assert!(applied.flat().contains("Control plane a-down was passed over"), "{}", applied.text);

    objects_were_made_and_read(&terraform);
    certificates_end_in_time(&terraform);
    a_whole_kubeconfig_is_good_for_kubectl(&lab, &terraform);

    // Now everything is known, and the plan opens it too.
    let planned = traced(&["plan", "-input=false", "-no-color", "-out", "second.plan"]);
    assert!(planned.text.contains("No changes."), "{}", planned.text);
    let places = [
        ("first plan", unzipped(&terraform, "saved.plan")),
        ("second plan", unzipped(&terraform, "second.plan")),
        ("state", text(&terraform, "terraform.tfstate")),
        ("log", text(&terraform, "trace.log")),
        ("output", applied.text.clone() + &planned.text),
    ];
    let keys = ["KEY", "KEY_2"].map(|name| used(&terraform, name).lines().nth(1).expect("a PEM body").to_owned());
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place} was read");
        for secret in keys.iter().map(String::as_str).chain([BEGIN, ENCODED]) {
            assert!(!text.contains(secret), "a key stands in the {place}: {secret}");
        }
    }
    let spoken = ["OpenEphemeralResource", "CloseEphemeralResource"].map(|call| places[3].1.contains(call));
    assert_eq!(spoken, [true, true], "the log tells of it");

    an_observer_is_refused_clearly(&terraform);
    another_authority_is_not_handed_out(&lab, &terraform);
    terraform.destroy();
    quickstart::lab_is_empty(&lab);
}

#[track_caller]
fn objects_were_made_and_read(terraform: &Terraform) {
    let json = |name: &str| -> Value { serde_json::from_str(&used(terraform, name)).expect("JSON") };
    assert_eq!(json("made")["kind"], "ConfigMap", "{}", json("made"));
    assert_eq!(json("read")["data"]["by"], "the same apply");
    let (admin, viewer) = (json("who")["status"]["userInfo"].clone(), json("who_2")["status"]["userInfo"].clone());
    assert_eq!((&admin["username"], &viewer["username"]), (&"groundwork".into(), &"pipeline".into()));
    assert!(admin["groups"].to_string().contains("kubeadm:cluster-admins"), "{admin}");
    let groups: Vec<_> = viewer["groups"].as_array().expect("groups").iter().filter_map(Value::as_str).collect();
    assert_eq!(groups, ["example:viewers", "example:others", "system:authenticated"]);
    let forbidden = json("forbidden");
    assert_eq!((&forbidden["code"], &forbidden["reason"]), (&403.into(), &"Forbidden".into()), "{forbidden}");
}

/// By the control plane's clock, which is this one: not before now is over, and not after the `ttl`.
#[track_caller]
fn certificates_end_in_time(terraform: &Terraform) {
    for (name, at_most) in [("CERT", 600), ("CERT_2", 300)] {
        let ends_in = |seconds: u32| {
            let mut openssl = command("openssl");
            openssl.args(["x509", "-noout", "-checkend", &seconds.to_string(), "-in"]);
            run(openssl.arg(terraform.path("used").join(name))).code == 1
        };
        assert!(ends_in(at_most), "{name} counts longer than {at_most} s");
        assert!(!ends_in(0), "{name} is over");
    }
}

#[track_caller]
fn a_whole_kubeconfig_is_good_for_kubectl(lab: &Lab, terraform: &Terraform) {
    let text = used(terraform, "KUBECONFIG");
    let line = format!(
        "cat >/root/own.conf <<'END'\n{text}END\nkubectl --kubeconfig /root/own.conf get nodes -o name; rm /root/own.conf"
    );
    assert_eq!(lab.must("cp-1", &line), "node/cp-1");
}

#[track_caller]
fn an_observer_is_refused_clearly(terraform: &Terraform) {
    let issued = ["pki", "issue", "--role", "observer", "--ttl", "24h", "pki"];
    run(command(provider_binary()).current_dir(terraform.path(".")).args(issued)).exits(0);
    let said = run(terraform
        .command(&["plan", "-input=false", "-no-color", "-var", "pki_dir=./pki/observer"])
        .env("TF_LOG", ""));
    assert_eq!(said.code, 1, "{}", said.text);
    for part in ["has the role observer, and this needs operator", "every plan opens it", "pki issue --role operator"] {
        assert!(said.flat().contains(part), "{part} in {}", said.text);
    }
}

/// The control plane's own kubeconfig believes another CA as well, and that one first: `kubectl` there goes on, and what we give to others
/// has the cluster's alone.
#[track_caller]
fn another_authority_is_not_handed_out(lab: &Lab, terraform: &Terraform) {
    let given =
        || ["ca_certificate", "kubeconfig"].map(|key| terraform.resource("groundwork_cluster.main")[key].clone());
    let before = given();
    lab.must("cp-1", OTHER_AUTHORITY);
    lab.must("cp-1", &format!("{} get nodes", quickstart::KUBECTL));
    // Any change of the cluster asks for its access data anew.
    let other = json!({ "resource": { "groundwork_cluster": { "main": { "drain_timeout": "6m" } } } });
    terraform.write("more_override.tf.json", &other.to_string());
    terraform.apply();
    assert_eq!(given(), before);
    terraform.has_no_changes();
}

const OTHER_AUTHORITY: &str = "cd /root
    openssl req -x509 -newkey ed25519 -nodes -subj /CN=other -keyout /dev/null -out other.crt 2>/dev/null
    both=$(cat other.crt /etc/kubernetes/pki/ca.crt | base64 -w0)
    sed -i \"s,certificate-authority-data: .*,certificate-authority-data: $both,\" /etc/kubernetes/admin.conf";

fn used(terraform: &Terraform, name: &str) -> String {
    std::fs::read_to_string(terraform.path("used").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(terraform: &Terraform, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(terraform.path(name)).expect("a file")).into_owned()
}

/// A plan file is a zip archive.
fn unzipped(terraform: &Terraform, name: &str) -> String {
    const UNZIP: &str = "import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
for name in archive.namelist():
    sys.stdout.buffer.write(archive.read(name))";
    run(command("python3").args(["-c", UNZIP]).arg(terraform.path(name))).text
}

const BEGIN: &str = "PRIVATE KEY-----";
/// The same inside a kubeconfig.
const ENCODED: &str = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t";
