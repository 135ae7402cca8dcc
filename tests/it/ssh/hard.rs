//! Machines on which an installation cannot be, or has to find its way: each is told before anything is changed, and nothing is left.

use super::{MACHINE, Machine, TRACES, private_key};
use crate::harness::{Terraform, ready, wait_until};

/// A server of its own, in a world whose first process is not systemd.
const NO_SYSTEMD: &str = "setsid unshare --mount --pid --fork --mount-proc sh -c \
    'mount -t tmpfs none /run && mkdir -p /run/sshd && exec /usr/sbin/sshd -D -p 2203 -o UsePAM=no' >/dev/null 2>&1 & echo $! >/root/world";

/// The same in one whose root cannot be written.
const READ_ONLY: &str = "setsid unshare --mount sh -c \
    'mount -o remount,bind,ro none / && exec /usr/sbin/sshd -D -p 2204' >/dev/null 2>&1 & echo $! >/root/read-only";

#[test]
fn what_cannot_be_is_told_before_anything_is_changed() {
    if !ready() {
        return;
    }
    let machine = Machine::start("hard");
    let terraform = machine.folder();
    terraform.configure(&machine.as_root("  timeouts { create = \"2m\" }"));
    let refused = |make: &str, undo: &str, parts: &[&str]| {
        machine.must(make);
        terraform.fails(&[&["Cannot install the agent of", "Nothing was changed on the machine"], parts].concat());
        machine.must(undo);
        assert_eq!(machine.must(TRACES), "0", "after: {make}");
        assert!(terraform.resource("groundwork_agent.pi").is_null());
    };
    refused(
        "mount --bind /usr/local /usr/local && mount -o remount,bind,ro /usr/local",
        "umount /usr/local",
        &["cannot be written, or what they would be made in: /usr/local/bin."],
    );
    refused(
        "mount --bind /usr/local/bin /usr/local/bin && mount -o remount,bind,noexec /usr/local/bin",
        "umount /usr/local/bin",
        &["`noexec`", "Mount it with `exec`"],
    );
    let full = "mkdir -p /var/lib/groundwork && mount -t tmpfs -o size=3m none /var/lib/groundwork";
    refused(
        full,
        "umount /var/lib/groundwork && rmdir /var/lib/groundwork",
        &["/var/lib/groundwork has 3 MiB free", "Make room"],
    );
    refused("mv /usr/bin/base64 /root/", "mv /root/base64 /usr/bin/", &["The machine lacks base64"]);
    // Another kind of machine, by what its `uname` says.
    let other = "printf '#!/bin/sh\\n[ \"$1\" = -m ] && echo armv7l || exec /usr/bin/uname \"$@\"\\n' >/usr/local/bin/uname && chmod +x /usr/local/bin/uname";
    refused(other, "rm /usr/local/bin/uname", &["The machine is armv7l: a 32-bit system", "x86_64 and aarch64"]);

    // A server in a world of its own: one that cannot be written, and one whose first process is another.
    machine.must(READ_ONLY);
    terraform.configure(&machine.agent(&format!("    port = 2204\n{}", private_key(&machine.key("id"))), ""));
    terraform.fails(&[
        "cannot be written",
        "/usr/local/bin",
        "/etc/systemd/system",
        "/var/lib/groundwork",
        "remount,rw",
    ]);
    machine.must("kill -TERM -$(cat /root/read-only)");
    machine.must(NO_SYSTEMD);
    terraform.configure(&machine.agent(&format!("    port = 2203\n{}", private_key(&machine.key("id"))), ""));
    terraform.fails(&["first process is", "not systemd", "Nothing was changed"]);
    machine.must("kill -TERM -$(cat /root/world)");
    assert_eq!(machine.must(TRACES), "0");

    the_agent_is_not_reached(&machine, &terraform);
    no_program_runs_from_tmp(&machine, &terraform);
    somebody_elses_agent_is_left_alone(&machine, &terraform);
    machine.end();
}

/// It runs and nobody reaches it: the machine says so, and the next apply needs no more than the right address.
fn the_agent_is_not_reached(machine: &Machine, terraform: &Terraform) {
    terraform.configure(&machine.as_root(&format!("  address = \"{}\"", machine.lab.address(99))));
    terraform.fails(&[
        "was installed and runs, and does not answer at",
        "Open this TCP port",
        "the next apply goes on",
    ]);
    terraform.configure(&machine.as_root(""));
    terraform.apply();
    terraform.has_no_changes();
    terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
    machine.wipe();
}

fn no_program_runs_from_tmp(machine: &Machine, terraform: &Terraform) {
    machine.must("mount -t tmpfs -o noexec,size=1m none /tmp && mkdir -p /var/lib/groundwork && mount -t tmpfs -o noexec,size=64m none /var/lib/groundwork");
    terraform.configure(&machine.as_root(""));
    terraform.apply();
    terraform.has_no_changes();
    terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
    machine.must("systemctl disable --now groundwork-agent && umount /tmp /var/lib/groundwork");
    machine.wipe();
}

fn somebody_elses_agent_is_left_alone(machine: &Machine, terraform: &Terraform) {
    let theirs = machine.folder();
    theirs.configure(&machine.as_root(""));
    theirs.apply();
    let before = machine.must("sha256sum /etc/groundwork/* /var/lib/groundwork/identity/*");
    terraform.configure(&machine.as_root(""));
    terraform.fails(&[
        "An agent of somebody else is on the machine",
        "the CA sha256:",
        "it runs, and is enrolled as",
        "Nothing was changed",
    ]);
    machine.must("systemctl stop groundwork-agent");
    terraform.fails(&["An agent of somebody else is on the machine", "it does not run"]);
    machine.must("systemctl start groundwork-agent");
    assert_eq!(machine.must("sha256sum /etc/groundwork/* /var/lib/groundwork/identity/*"), before);
    theirs.has_no_changes();
}

#[test]
fn what_was_changed_on_the_machine_is_found_and_repaired() {
    if !ready() {
        return;
    }
    let machine = Machine::start("repairs");
    let terraform = machine.folder();
    terraform.configure(&format!("{}{MACHINE}", machine.as_root("")));
    terraform.apply();
    let endpoint = terraform.resource("groundwork_agent.pi")["endpoint"].clone();

    // An agent that does not answer is a warning, and a creation finds what there is of it.
    machine.must("systemctl stop groundwork-agent && rm /usr/local/bin/groundwork-agent");
    terraform.plan().exits(0).says(&["Cannot look at the agent of", "cannot be reached"]);
    terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
    terraform.run(&["apply", "-refresh=false", "-auto-approve", "-input=false", "-no-color"]).exits(0);
    assert_eq!(terraform.resource("groundwork_agent.pi")["endpoint"], endpoint, "the key was the machine's still");
    terraform.has_no_changes();

    // Other ports and other callers are written by SSH.
    terraform.configure(&format!("{}{MACHINE}", machine.as_root("  port = 7500\n  allow_from = [\"0.0.0.0/0\"]")));
    terraform.apply();
    terraform.has_no_changes();
    assert_eq!(machine.must("grep -c 0.0.0.0/0 /etc/groundwork/agent.toml"), "1");
    assert!(
        terraform.resource("groundwork_machine.pi")["endpoint"]["address"]
            .as_str()
            .is_some_and(|at| at.ends_with(":7500"))
    );
    terraform.configure(&format!("{}{MACHINE}", machine.as_root("")));
    terraform.apply();

    installed_anew(&machine, &terraform);
    terraform.destroy();
    assert_eq!(machine.must("systemctl is-active groundwork-agent"), "active", "nobody asked for more");
    machine.end();
}

/// The machine at the address has another host key and an agent of this CA with another key.
fn installed_anew(machine: &Machine, terraform: &Terraform) {
    let (pinned, print) = (machine.as_root(""), machine.fingerprint());
    terraform.configure(&pinned);
    terraform.apply();
    let before = terraform.resource("groundwork_agent.pi");
    machine.wipe();
    machine.must("rm /etc/ssh/ssh_host_*; ssh-keygen -A >/dev/null; systemctl restart ssh");
    let other = Terraform::new(Vec::new());
    std::fs::create_dir(other.path("pki")).expect("a folder");
    for file in ["ca.pem", "ca-key.pem"] {
        std::fs::copy(terraform.path("pki").join(file), other.path("pki").join(file)).expect("the same CA");
    }
    other.configure(&machine.as_root(""));
    other.apply();

    terraform.plan().exits(2).says(&["drift", "has the key sha256:"]);
    // The host is not believed because its agent is: both fingerprints are shown.
    let shown = machine.fingerprint();
    assert_ne!(shown, print);
    terraform.fails(&["Cannot repair the agent of", "showed the host key", &shown, &print, "installed anew"]);
    terraform.configure(&machine.as_root(""));
    terraform.apply();
    terraform.has_no_changes();
    let after = terraform.resource("groundwork_agent.pi");
    assert_ne!(before["endpoint"]["fingerprint"], after["endpoint"]["fingerprint"]);
    wait_until("the other folder sees the same agent", || other.plan().code == 0);
}
