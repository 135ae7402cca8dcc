//! An agent on a machine that Groundwork did not make: brought by SSH once, and then SSH is not needed any more.
//!
//! The machine is one of the lab without `agent`, and its sshd the distribution's. What is done to it beforehand is done from its inside.

mod cut;
mod hard;
mod later;
mod logins;

use crate::harness::run::{command, run};
use crate::harness::{Backend, Lab, Terraform, ready, wait_until};
use std::path::{Path, PathBuf};

const VM: &str = r#"
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_vm" "pi" {
  node       = "pve1"
  name       = "pi"
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" { bridge = "vmbr0" }
  guest_agent = true
  cloud_init {
    network "net0" { address = "ADDRESS/24" }
  }
}
"#;

/// A machine that knows SSH and nothing of us.
pub(crate) struct Machine {
    pub(crate) lab: Lab,
    /// Made the machine, and takes it away.
    pub(crate) maker: Terraform,
    pub(crate) address: String,
    /// Keys of whoever runs Terraform.
    keys: tempfile::TempDir,
}

impl Machine {
    #[track_caller]
    pub(crate) fn start(name: &str) -> Self {
        Self::start_on(name, Backend::Nspawn)
    }

    #[track_caller]
    pub(crate) fn start_on(name: &str, backend: Backend) -> Self {
        let lab = Lab::start(name, backend, &[]);
        let address = lab.address(71);
        let maker = Terraform::for_lab(&lab);
        let vm = VM.replace("URL", &lab.value("LAB_IMAGE_URL")).replace("SUM", &lab.value("LAB_IMAGE_SHA256"));
        maker.configure(&vm.replace("ADDRESS", &address));
        maker.apply();
        let keys = tempfile::tempdir().expect("a folder for keys");
        let machine = Self { lab, maker, address, keys };
        let started = "systemctl is-system-running --wait | grep -qE 'running|degraded'";
        wait_until("the machine has started", || machine.lab.exec("pi", started).code == 0);
        machine.make_key("id", &["-t", "ed25519", "-N", ""]);
        machine.must("ssh-keygen -A >/dev/null && systemctl start ssh && mkdir -p -m 0700 /root/.ssh");
        machine.let_in("root", "id");
        machine
    }

    /// A shell line of root's, inside.
    #[track_caller]
    pub(crate) fn must(&self, line: &str) -> String {
        self.lab.must("pi", line)
    }

    /// Makes a key pair with these arguments of `ssh-keygen`.
    #[track_caller]
    fn make_key(&self, name: &str, arguments: &[&str]) {
        run(command("ssh-keygen").args(["-q", "-C", name]).args(arguments).arg("-f").arg(self.key(name))).exits(0);
    }

    fn key(&self, name: &str) -> PathBuf {
        self.keys.path().join(name)
    }

    /// Lets an account in with a key.
    #[track_caller]
    fn let_in(&self, user: &str, key: &str) {
        let public = std::fs::read_to_string(self.key(&format!("{key}.pub"))).expect("a public key");
        let folder = "\"$(getent passwd $USER | cut -d : -f 6)\"/.ssh";
        let line = format!(
            "USER={user}; mkdir -p -m 0700 {folder}; echo '{}' >>{folder}/authorized_keys; chown -R $USER: {folder}",
            public.trim()
        );
        self.must(&line);
    }

    /// What the machine shows, as its own files have it.
    #[track_caller]
    fn host_key(&self) -> String {
        self.must("cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub")
    }

    /// The fingerprint of that.
    #[track_caller]
    fn fingerprint(&self) -> String {
        self.must("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d ' ' -f 2")
    }

    /// Somebody's working folder, with a CA of its own and no way to any Proxmox VE.
    pub(crate) fn folder(&self) -> Terraform {
        Terraform::with_environment(vec![("SSH_AUTH_SOCK".to_owned(), String::new())])
    }

    /// A configuration: `ssh` with these lines beside `host` and `host_key`, and lines beside `ssh`.
    #[track_caller]
    fn agent(&self, ssh: &str, beside: &str) -> String {
        let (address, key) = (&self.address, self.host_key());
        of_agent(&format!("    host = \"{address}\"\n    host_key = \"{key}\"\n{ssh}"), beside)
    }

    /// The same for root with its key.
    #[track_caller]
    pub(crate) fn as_root(&self, beside: &str) -> String {
        self.agent(&private_key(&self.key("id")), beside)
    }

    /// Gives the machine another address in the place of one that it has.
    #[track_caller]
    pub(crate) fn moves(&self, from: &str, to: &str) {
        let card = format!("card=$(ip -oneline address show to {from} | cut -d ' ' -f 2)");
        self.must(&format!("{card}; ip address add {to}/24 dev $card && ip address del {from}/24 dev $card"));
    }

    /// As if there had never been an agent.
    #[track_caller]
    pub(crate) fn wipe(&self) {
        self.must(
            "systemctl disable --now groundwork-agent 2>/dev/null; rm -rf /etc/systemd/system/groundwork-agent.service \
             /usr/local/bin/groundwork-agent /usr/local/libexec/groundwork /etc/groundwork /var/lib/groundwork; systemctl daemon-reload",
        );
    }

    #[track_caller]
    pub(crate) fn end(self) {
        self.maker.destroy();
    }
}

/// The resource, with these lines in its block.
fn of_agent(ssh: &str, beside: &str) -> String {
    format!("resource \"groundwork_agent\" \"pi\" {{\n  ssh {{\n{ssh}\n  }}\n{beside}\n}}\n")
}

fn private_key(path: &Path) -> String {
    format!("    private_key = \"{}\"\n", path.display())
}

/// What there may not be after a refusal.
pub(crate) const TRACES: &str = "ls -d /etc/groundwork /var/lib/groundwork/* /usr/local/bin/groundwork-agent /etc/systemd/system/groundwork-agent.service 2>/dev/null | wc -l";

pub(crate) const MACHINE: &str = r#"
resource "groundwork_machine" "pi" {
  endpoint = groundwork_agent.pi.endpoint
  hostname = "renamed"
  file "/etc/motd" { content = "ours\n" }
}
"#;

#[test]
fn an_agent_comes_by_ssh_and_needs_it_never_again() {
    if !ready() {
        return;
    }
    let machine = Machine::start("ssh");
    let terraform = machine.folder();
    terraform.configure(&format!("{}{MACHINE}", machine.as_root("  uninstall_on_destroy = true")));
    terraform.apply();
    assert_eq!(machine.must("cat /etc/motd; hostname"), "ours\nrenamed");
    let there = terraform.resource("groundwork_agent.pi");
    assert_eq!(there["endpoint"]["address"], format!("{}:7443", machine.address));
    assert_eq!(there["facts"]["architecture"], std::env::consts::ARCH);
    assert_eq!(
        machine.must("ls /var/lib/groundwork/install /var/lib/groundwork/enrol.json 2>&1 | grep -c cannot"),
        "2",
        "nothing is left over"
    );
    let state = std::fs::read_to_string(terraform.path("terraform.tfstate")).expect("the state");
    assert!(
        !state.contains("PRIVATE KEY") && !state.contains(&*machine.key("id").to_string_lossy()),
        "write-only: {state}"
    );

    // From here on nobody comes by SSH.
    machine.must("systemctl stop ssh.socket ssh.service; ! pgrep -x sshd");
    terraform.has_no_changes();
    let renamed = MACHINE.replace("ours", "theirs");
    terraform.configure(&format!("{}{renamed}", machine.as_root("  uninstall_on_destroy = true")));
    terraform.apply();
    assert_eq!(machine.must("cat /etc/motd"), "theirs");
    // What is written in `ssh` is looked at when it is needed.
    terraform
        .configure(&format!("{}{renamed}", machine.agent("    user = \"nobody\"", "  uninstall_on_destroy = true")));
    terraform.apply();
    terraform.has_no_changes();

    terraform.destroy();
    let left = "ls -d /etc/systemd/system/groundwork-agent.service /usr/local/bin/groundwork-agent /etc/groundwork /var/lib/groundwork 2>/dev/null | wc -l";
    wait_until("the agent is gone", || {
        machine.must(left) == "0" && machine.lab.exec("pi", "pgrep -f '[g]roundwork-agent serve'").code != 0
    });
    assert_eq!(machine.must("cat /etc/motd; hostname"), "theirs\nrenamed", "the system is left as it is");
    machine.end();
}
