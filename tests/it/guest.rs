//! An agent in a VM that Groundwork did not make: brought through QEMU's guest agent once, and then that is not needed any more.
//!
//! The VM is one of the lab without `agent`; nobody may log in, and its sshd does not run. What the guest agent is asked for is really done
//! in it. What is done to it beforehand is done from its inside, or by an administrator of the hosts.

mod cut;
mod hard;

use crate::harness::{Backend, Terraform, long_ready, ready, wait_until};
use crate::ssh::{MACHINE, Machine};
use std::time::Instant;

/// A VM, and whoever brings the agent.
struct Guest {
    machine: Machine,
    vmid: u64,
    terraform: Terraform,
}

impl Guest {
    #[track_caller]
    fn start(name: &str) -> Self {
        Self::start_on(name, Backend::Nspawn)
    }

    #[track_caller]
    fn start_on(name: &str, backend: Backend) -> Self {
        let machine = Machine::start_on(name, backend);
        machine.must("systemctl stop ssh.socket ssh.service; rm -r /root/.ssh; ! pgrep -x sshd");
        let vmid = machine.maker.resource("groundwork_vm.pi")["vmid"].as_u64().expect("a number");
        let terraform = Terraform::for_lab(&machine.lab);
        Self { machine, vmid, terraform }
    }

    /// The resource: lines in its block `guest_agent` beside `vmid`, and lines beside that.
    fn agent(&self, inside: &str, beside: &str) -> String {
        of_guest(self.vmid, inside, beside)
    }

    #[track_caller]
    fn forget(&self) {
        self.terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
        self.machine.wipe();
    }

    /// How often the API was asked for something of the guest agent since it was last asked for this.
    #[track_caller]
    fn calls(&self, of: &str) -> u64 {
        let said = self.machine.lab.control("requests", &["--json", "--reset"]);
        said.exits(0);
        let all: serde_json::Value = serde_json::from_str(&said.text).expect("JSON");
        let rows = all["requests"].as_array().expect("requests").iter();
        let of_agent = rows.filter(|row| row["path"].as_str().is_some_and(|path| path.contains(of)));
        of_agent.filter_map(|row| row["count"].as_u64()).sum()
    }
}

fn of_guest(vmid: u64, inside: &str, beside: &str) -> String {
    format!(
        "resource \"groundwork_agent\" \"pi\" {{\n  guest_agent {{\n    vmid = {vmid}\n{inside}\n  }}\n{beside}\n}}\n"
    )
}

#[test]
fn an_agent_comes_through_the_guest_agent_and_needs_it_never_again() {
    if !ready() {
        return;
    }
    let guest = Guest::start("guest");
    let (machine, terraform) = (&guest.machine, &guest.terraform);
    let configuration = format!("{}{MACHINE}", guest.agent("", "  uninstall_on_destroy = true"));
    terraform.configure(&configuration);
    guest.calls("/agent/");
    terraform.apply();
    assert_eq!(machine.must("cat /etc/motd; hostname"), "ours\nrenamed");
    let there = terraform.resource("groundwork_agent.pi");
    assert_eq!(there["endpoint"]["address"], format!("{}:7443", machine.address), "as the guest agent tells it");
    assert_eq!(there["facts"]["architecture"], std::env::consts::ARCH);
    let left = "ls /var/lib/groundwork/install /var/lib/groundwork/enrol.json 2>&1 | grep -c cannot";
    assert_eq!(machine.must(left), "2", "nothing is left over");
    assert!(guest.calls("/agent/") > 20, "it came this way");

    // From here on nobody asks the guest agent.
    machine.must("ln -s /dev/null /etc/systemd/system/qemu-guest-agent.service");
    terraform.has_no_changes();
    terraform.configure(&configuration.replace("ours", "theirs"));
    terraform.apply();
    assert_eq!(machine.must("cat /etc/motd"), "theirs");
    terraform.has_no_changes();
    assert_eq!(guest.calls("/agent/"), 0);
    machine.must("rm /etc/systemd/system/qemu-guest-agent.service");

    it_is_followed_to_another_address(&guest);
    terraform.destroy();
    let left = "ls -d /etc/systemd/system/groundwork-agent.service /usr/local/bin/groundwork-agent /etc/groundwork /var/lib/groundwork 2>/dev/null | wc -l";
    wait_until("the agent is gone", || machine.must(left) == "0");
    assert_eq!(machine.must("hostname"), "renamed", "the system is left as it is");
    how_long_it_takes(&guest);
    guest.machine.end();
}

/// The VM gets another address: its agent is known by its key, wherever it answers.
fn it_is_followed_to_another_address(guest: &Guest) {
    let (machine, terraform) = (&guest.machine, &guest.terraform);
    let before = terraform.resource("groundwork_agent.pi")["endpoint"].clone();
    let other = machine.lab.address(72);
    machine.moves(&machine.address, &other);
    terraform.apply();
    let after = terraform.resource("groundwork_agent.pi")["endpoint"].clone();
    assert_eq!(after["address"], format!("{other}:7443"));
    assert_eq!(after["fingerprint"], before["fingerprint"]);
    assert_eq!(terraform.resource("groundwork_machine.pi")["endpoint"], after);
    terraform.has_no_changes();
}

/// On a real host a call takes a fifth of a second (recordings of 9.1.8).
fn how_long_it_takes(guest: &Guest) {
    let terraform = &guest.terraform;
    guest.machine.lab.control("fault", &["latency", "0.2"]).exits(0);
    guest.calls("/agent/");
    terraform.configure(&guest.agent("", ""));
    let began = Instant::now();
    terraform.apply();
    let took = began.elapsed();
    guest.machine.lab.control("fault", &["clear"]).exits(0);
    let calls = guest.calls("/agent/");
    eprintln!(
        "at 0.2 s a call, an agent came through the guest agent in {:.1} s, by {calls} calls",
        took.as_secs_f64()
    );
    guest.forget();
}

/// The imitation of containers is held against the real one: QEMU's own guest agent, on its own port. It takes minutes under emulation.
#[test]
fn a_qemu_machine_gets_its_agent_through_the_real_guest_agent() {
    if !long_ready() {
        return;
    }
    let guest = Guest::start_on("guest-qemu", Backend::Qemu);
    let (machine, terraform) = (&guest.machine, &guest.terraform);
    terraform.configure(&format!("{}{MACHINE}", guest.agent("", "")));
    let began = Instant::now();
    terraform.apply();
    eprintln!("through QEMU's own guest agent in {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(machine.must("cat /etc/motd; hostname"), "ours\nrenamed");
    assert_eq!(machine.must("stat -c %a /etc/groundwork/ca.pem /var/lib/groundwork"), "644\n700");
    terraform.has_no_changes();
    guest.forget();

    // Its own list of what it may not do, and its own way of not running. The machine's inside is reached by it, too: so it comes back by itself.
    terraform.configure(&guest.agent("    timeout = \"5s\"", ""));
    let blocked =
        "sed -i 's/^ExecStart=.*/& --block-rpcs=guest-file-open/' /etc/systemd/system/qemu-guest-agent.service";
    let copied = "cp /usr/lib/systemd/system/qemu-guest-agent.service /lib/systemd/system/qemu-guest-agent.service /etc/systemd/system/ 2>/dev/null";
    let older = "qemu-ga --help | grep -q block-rpcs || sed -i 's/--block-rpcs/--blacklist/' /etc/systemd/system/qemu-guest-agent.service";
    machine.must(&format!(
        "{copied}; {blocked}; {older}; systemctl daemon-reload; systemctl restart --no-block qemu-guest-agent"
    ));
    wait_until("it has begun anew", || machine.lab.exec("pi", "true").code == 0);
    terraform.fails(&["is not allowed to do what is needed", "guest-file-open", "Nothing was changed on the machine"]);
    machine.must("rm /etc/systemd/system/qemu-guest-agent.service; systemctl daemon-reload; systemctl restart --no-block qemu-guest-agent");
    guest.machine.end();
}
