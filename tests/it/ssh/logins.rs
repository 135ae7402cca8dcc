//! The ways to log in and to become root, each against the real sshd, PAM and sudo; and the hosts that are not believed.

use super::{Machine, of_agent, private_key};
use crate::harness::run::{command, run};
use crate::harness::{Terraform, ready};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::Child;

/// Accounts beside root: the words after their names are what sudo wants of them.
const ACCOUNTS: &str = "for user in asks free none; do useradd -m -s /bin/bash $user && echo \"$user:red herring\\$1\" | chpasswd; done; \
    echo 'asks ALL=(ALL) ALL' >/etc/sudoers.d/asks; echo 'free ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/free; chmod 0440 /etc/sudoers.d/*";

/// Their password, as HCL and as they say it.
const PASSWORD: &str = "    password = \"red herring$1\"\n";
const SUDO: &str = "    sudo_password = \"red herring$1\"\n";

/// Further servers, by port: one that only asks, and one that wants a key and a password.
const SERVERS: &str = "printf 'Port 2201\\nPidFile /run/one.pid\\nUsePAM yes\\nPasswordAuthentication no\\nPubkeyAuthentication no\\nKbdInteractiveAuthentication yes\\n' >/root/one; \
    printf 'Port 2202\\nPidFile /run/two.pid\\nUsePAM yes\\nPermitRootLogin no\\nAuthenticationMethods publickey,password\\n' >/root/two; \
    for name in one two; do /usr/sbin/sshd -f /root/$name; done";

struct Ways {
    machine: Machine,
    terraform: Terraform,
}

impl Ways {
    /// Comes in this way, and finds or brings the agent.
    #[track_caller]
    fn lead_in(&self, way: &str) {
        self.terraform.configure(&self.machine.agent(way, ""));
        self.terraform.apply();
        self.terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
    }

    /// Does not, says `parts`, and no secret.
    #[track_caller]
    fn is_refused(&self, way: &str, parts: &[&str]) {
        self.terraform.configure(&self.machine.agent(way, ""));
        let said = self.terraform.fails(&[&["Nothing was changed on the machine"], parts].concat());
        // Terraform itself shows the line of the configuration.
        let own = said.text.lines().filter(|line| !line.contains(" = "));
        assert!(own.into_iter().all(|line| !line.contains("herring")), "{}", said.text);
    }
}

#[test]
fn every_way_in_leads_in_and_what_is_refused_is_told() {
    if !ready() {
        return;
    }
    let machine = Machine::start("logins");
    machine.must(ACCOUNTS);
    machine.must(SERVERS);
    let terraform = machine.folder();
    let ways = Ways { machine, terraform };
    keys(&ways);
    passwords(&ways);
    roots(&ways);
    an_ssh_agent(&ways);
    a_jump_host(&ways);
    hosts(&ways);
    ways.machine.end();
}

fn keys(ways: &Ways) {
    let machine = &ways.machine;
    machine.make_key("locked", &["-t", "ed25519", "-N", "swordfish"]);
    machine.make_key("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]);
    machine.make_key("ecdsa", &["-t", "ecdsa", "-N", ""]);
    machine.make_key("stranger", &["-t", "ed25519", "-N", ""]);
    for key in ["locked", "rsa", "ecdsa"] {
        machine.let_in("root", key);
    }
    let path = |name| machine.key(name).display().to_string();
    ways.lead_in(&private_key(&machine.key("id")));
    // Its text in place of its path.
    ways.lead_in(&format!(
        "    private_key = file(\"{}\")\n    private_key_passphrase = \"swordfish\"",
        path("locked")
    ));
    for key in ["rsa", "ecdsa"] {
        ways.lead_in(&private_key(&machine.key(key)));
    }
    ways.is_refused(
        &private_key(&machine.key("locked")),
        &["`private_key` cannot be used", "has a passphrase, and none is given", "main.tf line"],
    );
    let wrong = format!("{}    private_key_passphrase = \"herring\"", private_key(&machine.key("locked")));
    ways.is_refused(&wrong, &["the passphrase is not that of the key"]);
    ways.is_refused(
        &private_key(&machine.key("stranger")),
        &["does not let root in", "the private key was refused", "would take publickey"],
    );
}

fn passwords(ways: &Ways) {
    ways.lead_in(&format!("    user = \"free\"\n{PASSWORD}"));
    // Only asked, and asked after a key.
    ways.lead_in(&format!("    user = \"free\"\n    port = 2201\n{PASSWORD}"));
    ways.machine.let_in("free", "id");
    ways.lead_in(&format!("    user = \"free\"\n    port = 2202\n{}{PASSWORD}", private_key(&ways.machine.key("id"))));
    ways.is_refused(
        "    user = \"free\"\n    password = \"herring\"\n",
        &["does not let free in", "the password was refused"],
    );
    let key_alone = format!("    user = \"free\"\n    port = 2202\n{}", private_key(&ways.machine.key("id")));
    ways.is_refused(&key_alone, &["the private key is good, and not enough", "would take password"]);
}

fn roots(ways: &Ways) {
    ways.lead_in(&format!("    user = \"asks\"\n{PASSWORD}{SUDO}"));
    // sudo that does not ask: the password goes nowhere.
    ways.lead_in(&format!("    user = \"free\"\n{PASSWORD}{SUDO}"));
    assert_eq!(ways.machine.must("journalctl -o cat | grep -c 'red herring' || true"), "0", "no journal has it");
    ways.is_refused(
        &format!("    user = \"asks\"\n{PASSWORD}"),
        &["asks cannot become root", "password is required", "sudo_password"],
    );
    let wrong = format!("    user = \"asks\"\n{PASSWORD}    sudo_password = \"herring\"\n");
    ways.is_refused(&wrong, &["asks cannot become root", "Give the right `sudo_password`"]);
    ways.is_refused(
        &format!("    user = \"none\"\n{PASSWORD}{SUDO}"),
        &["none cannot become root", "not in the sudoers file"],
    );
    ways.is_refused(&format!("    user = \"free\"\n{PASSWORD}    sudo = false\n"), &["`sudo` is false"]);
}

/// An agent of OpenSSH's; ends with the test.
struct SshAgent(Child, PathBuf);

impl Drop for SshAgent {
    fn drop(&mut self) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).ok();
        self.0.wait().ok();
    }
}

fn an_ssh_agent(ways: &Ways) {
    let machine = &ways.machine;
    let socket = machine.keys.path().join("agent");
    let agent = command("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(std::process::Stdio::null()).spawn();
    let agent = SshAgent(agent.expect("ssh-agent (openssh-client)"), socket);
    crate::harness::wait_until("the agent listens", || agent.1.exists());
    let with = |keys: &[&str]| {
        run(command("ssh-add").arg("-D").env("SSH_AUTH_SOCK", &agent.1)).exits(0);
        for key in keys {
            run(command("ssh-add").arg(machine.key(key)).env("SSH_AUTH_SOCK", &agent.1)).exits(0);
        }
    };
    let terraform = Terraform::with_environment(vec![("SSH_AUTH_SOCK".to_owned(), agent.1.display().to_string())]);
    // The machine has an agent of the other folder's CA.
    machine.wipe();
    for keys in [&["stranger", "id"], &["stranger", "rsa"]] {
        with(keys);
        terraform.configure(&machine.agent("", ""));
        terraform.apply();
        terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
    }
    with(&["stranger"]);
    terraform.fails(&["the SSH agent's key \"stranger\" was refused"]);
    with(&[]);
    terraform.fails(&["the SSH agent has no key"]);
    machine.wipe();
    ways.is_refused("", &["there is no SSH agent"]);
    ways.is_refused("    agent = true\n", &["`agent` cannot be used"]);
}

fn a_jump_host(ways: &Ways) {
    let (address, key) = (&ways.machine.address, ways.machine.host_key());
    let id = private_key(&ways.machine.key("id"));
    // From the jump host, the machine is the loopback.
    let through = |bastion_key: &str| {
        let ssh = format!(
            "    host = \"127.0.0.1\"\n    host_key = \"{key}\"\n{id}    bastion_host = \"{address}\"\n    bastion_host_key = \"{bastion_key}\"\n    timeout = \"3s\"\n"
        );
        of_agent(&ssh, &format!("  address = \"{address}\""))
    };
    ways.terraform.configure(&through(&key));
    ways.terraform.apply();
    ways.terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
    ways.terraform.configure(&through(STRANGER).replace("127.0.0.1", "127.0.0.2"));
    ways.terraform.fails(&["showed the host key", "`bastion_host_key` has", "bastion_host_key = \"SHA256:"]);
    // Nobody listens behind it.
    let nowhere = through(&key).replace("    timeout", "    port = 1\n    timeout");
    ways.terraform.configure(&nowhere);
    ways.terraform.fails(&["jump host", "does not connect to 127.0.0.1:1"]);
}

/// The key of no host here.
const STRANGER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fn hosts(ways: &Ways) {
    let (address, key, print) = (&ways.machine.address, ways.machine.host_key(), ways.machine.fingerprint());
    let id = private_key(&ways.machine.key("id"));
    let file = ways.terraform.path("known_hosts");
    let known = |text: &str| {
        ways.terraform.write("known_hosts", text);
        let ssh = format!("    host = \"{address}\"\n    known_hosts = \"{}\"\n{id}", file.display());
        ways.terraform.configure(&of_agent(&ssh, ""));
    };
    // The way that ssh itself writes it, hashed.
    ways.terraform.write("known_hosts", &format!("{address} {key}\n"));
    run(command("ssh-keygen").arg("-H").arg("-f").arg(&file)).exits(0);
    let hashed = std::fs::read_to_string(&file).expect("hashed");
    assert!(hashed.starts_with("|1|"), "{hashed}");
    known(&hashed);
    ways.terraform.apply();
    ways.terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);

    let pin = format!("host_key = \"{print}\"");
    known("");
    ways.terraform.fails(&["is not known", &print, "pin it", &pin]);
    known(&format!("{address} {STRANGER}\n"));
    ways.terraform.fails(&["showed the host key", &print, "SHA256:", "somebody else answers"]);
    known(&format!("{address} {key}\n@revoked * {key}\n"));
    ways.terraform.fails(&["is revoked in", &print]);
    ways.terraform.configure(&of_agent(&format!("    host = \"{address}\"\n    {pin}\n{id}"), ""));
    ways.terraform.apply();
    ways.terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
    ways.terraform.configure(&of_agent(&format!("    host = \"{address}\"\n    host_key = \"x\"\n{id}"), ""));
    ways.terraform.run(&["validate", "-no-color"]).exits(1).says(&["host_key", "must be a public key"]);
}
