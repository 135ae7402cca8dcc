//! No private key and no secret stands in the state, a plan file, a log at trace level or a process argument,
//! and after enrolment the agent talks to nobody but the holder of its CA.

use crate::harness::run::{command, run};
use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn no_secret_leaves_its_place() {
    if !ready() {
        return;
    }
    let lab = Lab::start("secrets", Backend::Nspawn, &["--keep-uploads"]);
    let terraform = quickstart::prepare(&lab, 1);
    let watch = Arguments::watch();

    let log = terraform.path("trace.log");
    let traced = |arguments: &[&str]| {
        let mut command = terraform.command(arguments);
        command.env("TF_LOG", "TRACE").env("TF_LOG_PATH", &log);
        run(&mut command)
    };
    traced(&["plan", "-input=false", "-no-color", "-out", "saved.plan"]).exits(0);
    let applied = traced(&["apply", "-input=false", "-no-color", "saved.plan"]);
    applied.exits(0);
    let arguments = watch.stop();

    let unzipped = run(command("python3").args(["-c", UNZIP]).arg(terraform.path("saved.plan")));
    let places = [
        ("state", read(&terraform.path("terraform.tfstate"))),
        ("plan", unzipped.text.clone()),
        ("log", read(&log)),
        ("output", applied.text.clone()),
        ("arguments", arguments),
    ];
    let secrets = secrets(&lab, &terraform);
    assert!(secrets.len() >= 6, "the search must have something to look for: {} secrets", secrets.len());
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place} was read");
        for (name, secret) in &secrets {
            assert!(!text.contains(secret.as_str()), "{name} stands in {place}");
        }
    }
    for (place, text) in &places {
        assert!(!text.contains("PRIVATE KEY-----"), "a private key stands in {place}");
    }

    let kept = lab.must("cp-1", "kubectl --kubeconfig /etc/kubernetes/admin.conf get secrets -n kube-system -o json");
    assert!(kept.contains("\"items\"") && !kept.contains("bootstrap-token"), "every join's token is deleted: {kept}");
    strangers_are_refused(&lab);
}

/// Every secret of this apply, by name: the API token's, the CA's key, the agents' keys, the enrolment secrets.
#[track_caller]
fn secrets(lab: &Lab, terraform: &Terraform) -> Vec<(String, String)> {
    let mut secrets = Vec::new();
    let key = read(&terraform.path("pki/ca-key.pem"));
    secrets.push(("the agents' CA's key".to_owned(), key.lines().nth(1).expect("a PEM body").to_owned()));
    let token = lab.value("GROUNDWORK_PROXMOX_API_TOKEN");
    let (_, uuid) = token.rsplit_once('=').expect("user@realm!id=uuid");
    secrets.push(("the API token".to_owned(), uuid.to_owned()));
    for vm in ["cp-1", "worker-1"] {
        let key = lab.must(vm, "cat /var/lib/groundwork/identity/key.pem");
        let line = key.lines().nth(1).expect("a PEM body").to_owned();
        secrets.push((format!("the agent's key of {vm}"), line));
    }
    let uploads = lab.control("uploads", &["enrol.json"]);
    uploads.exits(0);
    for line in uploads.text.lines().filter(|line| line.contains("\"secret\"")) {
        let enrolment: serde_json::Value = serde_json::from_str(line).expect("enrol.json");
        secrets.push(("an enrolment secret".to_owned(), enrolment["secret"].as_str().expect("secret").to_owned()));
    }
    // etcd's log keeps what was written, and deleted since: a bootstrap token's secret half lies behind its name.
    let tokens =
        lab.must("cp-1", "grep -hoaP 'token-secret\\x12.\\K[a-z0-9]{16}' /var/lib/etcd/member/wal/*.wal | sort -u");
    assert_ne!(tokens, "", "no bootstrap token was found in etcd");
    for token in tokens.lines() {
        secrets.push(("a bootstrap token".to_owned(), token.trim().to_owned()));
    }
    let ca = lab.must("cp-1", "sed -n 2p /etc/kubernetes/pki/ca.key");
    secrets.push(("the cluster CA's key".to_owned(), ca));
    secrets
}

/// A client without a certificate and one of another CA get no answer from an enrolled agent.
#[track_caller]
fn strangers_are_refused(lab: &Lab) {
    let other = Terraform::for_lab(lab);
    let address = format!("{}:7443", lab.address(11));
    for arguments in [vec![], vec!["--cert", "pki/ca.pem", "--key", "pki/ca-key.pem"]] {
        let mut curl = command("curl");
        curl.current_dir(other.path("."));
        curl.args(["-sS", "-k", "--http2", "--max-time", "5"]).args(&arguments).arg(format!("https://{address}/"));
        let said = run(&mut curl);
        assert!(
            CUT_OFF.contains(&said.code),
            "a stranger was answered, or nobody was there: {} {}",
            said.code,
            said.text
        );
    }
}

fn read(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// curl's exit codes for a server that is there and ends the connection: in the handshake, or right after it, as TLS 1.3 does.
const CUT_OFF: [i32; 4] = [35, 52, 55, 56];

/// A plan file is a zip archive.
const UNZIP: &str = "import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
for name in archive.namelist():
    sys.stdout.buffer.write(archive.read(name))";

/// Collects the arguments of every process of this machine, containers' included, until stopped.
struct Arguments {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<BTreeSet<String>>,
}

impl Arguments {
    fn watch() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
                    seen.insert(read(&entry.path().join("cmdline")).replace('\0', " "));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        });
        Self { stop, thread }
    }

    fn stop(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().expect("the watching thread");
        seen.into_iter().collect::<Vec<_>>().join("\n")
    }
}
