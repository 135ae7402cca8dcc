//! No private key and no secret stands in the state, a plan file, its JSON, a log at trace level, what Terraform prints, a process argument or a
//! machine's journal, and after enrolment the agent talks to nobody but the holder of its CA.

use crate::harness::run::{Said, command, run};
use crate::harness::{Backend, Lab, Terraform, ready, scene};
use crate::quickstart;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Everything that takes a secret of a user's, by values that Terraform keeps nowhere either.
const HEAD: &str = r#"
terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
variable "secrets" {
  type      = map(string)
  ephemeral = true
  sensitive = true
}
provider "groundwork" {
  proxmox {
    username = "root@pam"
    password = var.secrets["proxmox"]
  }
  agent {
    ca_cert_pem = file("pki/ca.pem")
    ca_key_pem  = var.secrets["ca"]
  }
}
"#;

#[test]
fn no_secret_of_a_machine_leaves_its_place() {
    if !ready() {
        return;
    }
    let lab = Lab::start("secrets-machine", Backend::Nspawn, &["--keep-uploads", "--kubernetes", "none"]);
    let facts: Value = serde_json::from_str(&lab.file("lab.json")).expect("JSON");
    let token = "GROUNDWORK_PROXMOX_API_TOKEN";
    let environment = lab.environment().into_iter().filter(|(name, _)| name != token).collect();
    let terraform = Terraform::with_environment(environment);
    let given = json!({
        "proxmox": facts["root_password"],
        "ca": read(&terraform.path("pki/ca-key.pem")),
        "account": "correct horse battery staple",
    });
    let configuration = |motd: &str| {
        let scene = scene::one(&lab, 31, &format!("  file \"/etc/motd\" {{ content = \"{motd}\\n\" }}"));
        let account = "cloud_init {\n    user = \"admin\"\n    password = var.secrets[\"account\"]";
        terraform.write("main.tf", &format!("{HEAD}{}", scene.replace("cloud_init {", account)));
    };
    let mut run = Watched::begin(&terraform, Some(&given));
    // Made with a failure in between, whose diagnostics are searched too; then changed.
    configuration("first");
    lab.control("fault", &["fail-task", "qmstart", "no"]).exits(0);
    run.plans_and_applies(1);
    run.plans_and_applies(0);
    configuration("no secret at all");
    run.plans_and_applies(0);
    assert_eq!(lab.must("one", "cat /etc/motd"), "no secret at all");

    let mut search = run.end();
    // It looks where things are.
    assert_eq!(search.places_of("no secret at all"), ["plan", "show", "the saved plan", "the state"]);
    search.journal(&lab, "one");
    search.secret("the password of Proxmox VE", given["proxmox"].as_str().expect("text"));
    search.secret("a ticket of Proxmox VE", "PVE:root@pam:");
    search.secret("the account's password", "correct horse battery staple");
    search.secret("the account's hash", &lab.must("one", "sed -n 's/^admin:\\([^:]*\\):.*/\\1/p' /etc/shadow"));
    search.key("the agents' CA's key", &read(&terraform.path("pki/ca-key.pem")));
    search.agents(&lab, &["one"]);
    no_used_secret_stays_in_memory(&lab, &search);
    search.finds_nothing();
    let mut destroy = terraform.command(&["destroy", "-auto-approve", "-input=false", "-no-color"]);
    crate::harness::run::run(destroy.env("TF_VAR_secrets", given.to_string())).exits(0);
    quickstart::lab_is_empty(&lab);
}

#[test]
fn no_secret_of_a_cluster_leaves_its_place() {
    if !ready() {
        return;
    }
    let lab = Lab::start("secrets", Backend::Nspawn, &["--keep-uploads"]);
    let terraform = quickstart::prepare(&lab, 1);
    let mut run = Watched::begin(&terraform, None);
    run.plans_and_applies(0);
    let credential = quickstart::credential(&terraform);
    let mut search = run.end();
    for vm in ["cp-1", "worker-1"] {
        search.journal(&lab, vm);
    }

    let token = lab.value("GROUNDWORK_PROXMOX_API_TOKEN");
    let (_, uuid) = token.rsplit_once('=').expect("user@realm!id=uuid");
    search.secret("the API token", uuid);
    search.key("the agents' CA's key", &read(&terraform.path("pki/ca-key.pem")));
    search.agents(&lab, &["cp-1", "worker-1"]);
    search.key("kubectl's credential", credential["status"]["clientKeyData"].as_str().expect("a key"));
    let kubeconfigs = "sed -n 's/.*client-key-data: //p' /etc/kubernetes/*.conf";
    search.secret("the administrator's key", lab.must("cp-1", kubeconfigs).lines().next().expect("a key"));
    let keys = lab.must("cp-1", "for key in $(find /etc/kubernetes/pki -name '*.key'); do sed -n 2p $key; done");
    assert!(keys.lines().count() >= 8, "keys of the cluster: {}", keys.lines().count());
    for key in keys.lines() {
        search.secret("a key of the cluster", key);
    }
    // etcd's log keeps what was written, and deleted since: a bootstrap token's secret half lies behind its name.
    let tokens = "grep -hoaP 'token-secret\\x12.\\K[a-z0-9]{16}' /var/lib/etcd/member/wal/*.wal | sort -u";
    let tokens = lab.must("cp-1", tokens);
    assert_ne!(tokens, "", "no bootstrap token was found in etcd");
    for token in tokens.lines() {
        search.secret("a bootstrap token", token.trim());
    }
    search.finds_nothing();

    let kept = lab.must("cp-1", "kubectl --kubeconfig /etc/kubernetes/admin.conf get secrets -n kube-system -o json");
    assert!(kept.contains("\"items\"") && !kept.contains("bootstrap-token"), "every join's token is deleted: {kept}");
    strangers_are_refused(&lab);
}

/// Plans and applies with a log at TRACE, while somebody looks at every process.
struct Watched<'a> {
    terraform: &'a Terraform,
    given: Option<&'a Value>,
    arguments: Arguments,
    search: Search,
}

impl<'a> Watched<'a> {
    fn begin(terraform: &'a Terraform, given: Option<&'a Value>) -> Self {
        Self { terraform, given, arguments: Arguments::watch(), search: Search::default() }
    }

    fn traced(&self, arguments: &[&str]) -> Command {
        let mut command = self.terraform.command(arguments);
        command.env("TF_LOG", "TRACE").env("TF_LOG_PATH", self.terraform.path("trace.log"));
        if let Some(given) = self.given {
            command.env("TF_VAR_secrets", given.to_string());
        }
        command
    }

    /// A saved plan, shown and applied; the apply ends with `code`.
    #[track_caller]
    fn plans_and_applies(&mut self, code: i32) {
        let steps: [(&[&str], i32); 3] = [
            (&["plan", "-input=false", "-no-color", "-out", "saved.plan"], 0),
            (&["show", "-json", "saved.plan"], 0),
            (&["apply", "-input=false", "-no-color", "saved.plan"], code),
        ];
        for (arguments, code) in steps {
            let said: Said = run(&mut self.traced(arguments));
            said.exits(code);
            self.search.place(arguments[0], said.text);
        }
        self.search.place("the saved plan", unzipped(&self.terraform.path("saved.plan")));
        self.search.place("the state", read(&self.terraform.path("terraform.tfstate")));
    }

    fn end(mut self) -> Search {
        self.search.place("the log", read(&self.terraform.path("trace.log")));
        let processes = self.arguments.stop();
        assert!(processes.contains("terraform apply") && processes.contains("groundwork-agent"), "{processes}");
        self.search.place("the process list", processes);
        self.search
    }
}

/// What an enrolment's secret is called.
const ENROLMENT: &str = "an enrolment secret";

/// Where to look, and for what.
#[derive(Default)]
struct Search {
    places: Vec<(String, String)>,
    secrets: Vec<(String, String)>,
}

impl Search {
    #[track_caller]
    fn place(&mut self, name: &str, text: String) {
        assert!(text.len() > 20, "{name} was read: {text}");
        self.places.push((name.to_owned(), text));
    }

    #[track_caller]
    fn secret(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 12, "{name} must be something to look for");
        self.secrets.push((name.to_owned(), text.to_owned()));
    }

    /// Of a key in PEM the first line of its body.
    #[track_caller]
    fn key(&mut self, name: &str, pem: &str) {
        self.secret(name, pem.lines().nth(1).expect("a PEM body"));
    }

    /// Everything that systemd keeps of this machine's boot, command lines of units too.
    #[track_caller]
    fn journal(&mut self, lab: &Lab, vm: &str) {
        let journal = lab.must(vm, "journalctl --no-pager --all -o json");
        assert!(journal.contains("groundwork-agent.service"), "the agent's own lines are in it");
        self.place(&format!("the journal of {vm}"), journal);
    }

    /// The agents' own keys, and what they were enrolled with.
    #[track_caller]
    fn agents(&mut self, lab: &Lab, vms: &[&str]) {
        for vm in vms {
            self.key(&format!("the agent's key of {vm}"), &lab.must(vm, "cat /var/lib/groundwork/identity/key.pem"));
        }
        let uploads = lab.control("uploads", &["enrol.json"]);
        let lines = uploads.exits(0).text.lines().filter(|line| line.contains("\"secret\""));
        let before = self.secrets.len();
        for line in lines {
            let enrolment: Value = serde_json::from_str(line).expect("enrol.json");
            self.secret(ENROLMENT, enrolment["secret"].as_str().expect("secret"));
        }
        assert!(self.secrets.len() >= before + vms.len(), "each agent had one: {}", uploads.text);
    }

    /// Where a text stands, by name.
    fn places_of(&self, text: &str) -> Vec<&str> {
        let places = self.places.iter().filter(|(_, place)| place.contains(text));
        places.map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    #[track_caller]
    fn finds_nothing(&self) {
        let mut found = Vec::new();
        for (place, text) in &self.places {
            let mut named = self.secrets.iter().filter(|(_, secret)| text.contains(secret.as_str()));
            found.extend(named.next().map(|(name, _)| format!("{name} stands in {place}")));
            if text.contains("PRIVATE KEY-----") {
                found.push(format!("a private key stands in {place}"));
            }
        }
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// The agent that was enrolled overwrites its secret, in text and in bytes.
#[track_caller]
fn no_used_secret_stays_in_memory(lab: &Lab, search: &Search) {
    let count = |text: &str| lab.must("one", &format!("python3 - '{text}' <<'END'\n{MEMORY}\nEND"));
    let uuid = lab.must("one", "cat /sys/class/dmi/id/product_uuid");
    assert_ne!(count(&uuid), "0", "it looks where things are");
    for (_, secret) in search.secrets.iter().filter(|(name, _)| name == ENROLMENT) {
        assert_eq!(count(secret), "0", "copies of an enrolment secret in the agent's memory");
    }
}

/// How often a text, or what it is the Base64 of, stands in what the agent can write to.
const MEMORY: &str = "import base64, subprocess, sys
pid = subprocess.check_output(['systemctl', 'show', '-P', 'MainPID', 'groundwork-agent'], text=True).strip()
wanted = [sys.argv[1].encode()]
if wanted[0].endswith(b'='):
    wanted.append(base64.b64decode(wanted[0]))
count = 0
with open(f'/proc/{pid}/mem', 'rb', 0) as memory:
    for line in open(f'/proc/{pid}/maps'):
        place, access = line.split()[:2]
        if access.startswith('rw'):
            begin, end = (int(number, 16) for number in place.split('-'))
            memory.seek(begin)
            content = memory.read(end - begin)
            count += sum(content.count(text) for text in wanted)
print(count)";

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

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// curl's exit codes for a server that is there and ends the connection: in the handshake, or right after it, as TLS 1.3 does.
const CUT_OFF: [i32; 4] = [35, 52, 55, 56];

/// A plan file is a zip archive: everything in it.
#[track_caller]
pub(crate) fn unzipped(plan: &Path) -> String {
    let said = run(command("python3").args(["-c", UNZIP]).arg(plan));
    said.exits(0);
    said.text
}

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
