//! VMs into which there is no way, or that have one with obstacles: each is told before anything is changed, and nothing is left.

use super::{Guest, of_guest};
use crate::harness::{Terraform, ready, repository, wait_until};
use crate::ssh::TRACES;

const SERVICE: &str = "/etc/systemd/system/qemu-guest-agent.service";

#[test]
fn what_stands_in_the_way_is_told_before_anything_is_changed() {
    if !ready() {
        return;
    }
    let guest = Guest::start("guest-hard");
    privileges_are_named(&guest);
    another_number_or_node_is_told(&guest);
    what_the_guest_forbids_is_named(&guest);
    a_vm_that_is_off_is_told(&guest);
    somebody_elses_agent_is_left_alone(&guest);
    guest.machine.end();
}

impl Guest {
    /// Refused with these words, and nothing was done.
    #[track_caller]
    fn is_refused(&self, parts: &[&str]) {
        let all = [&["Cannot install the agent of", "Nothing was changed on the machine"], parts].concat();
        self.terraform.fails(&all);
        assert!(self.terraform.resource("groundwork_agent.pi").is_null(), "nothing is recorded");
        if self.machine.lab.exec("pi", "true").code == 0 {
            assert_eq!(self.machine.must(TRACES), "0");
        }
    }

    #[track_caller]
    fn power(&self, state: &str) {
        self.machine.lab.control("power", &["pi", state]).exits(0);
    }
}

/// With the role of the documentation alone everything is done.
fn privileges_are_named(guest: &Guest) {
    let lab = &guest.machine.lab;
    let only = |privileges: &[&str]| {
        lab.control("fault", &["clear"]).exits(0);
        lab.control("fault", &[&["only"], privileges].concat()).exits(0);
    };
    guest.terraform.configure(&guest.agent("", ""));
    let named = ["VM.Audit and VM.GuestAgent.Unrestricted", "Proxmox VE 8: VM.Audit and VM.Monitor"];
    only(&["VM.Audit"]);
    guest.is_refused(&[&["(403)"], &named[..]].concat());
    only(&["VM.Audit", "VM.GuestAgent.Audit", "VM.GuestAgent.FileWrite"]);
    guest.is_refused(&[&["/agent/exec was refused (403)"], &named[..]].concat());
    guest.terraform.configure(&guest.agent("    node = \"pve1\"", ""));
    only(&["VM.GuestAgent.Unrestricted"]);
    guest.is_refused(&[&["(403)", "VM.Audit"], &named[..]].concat());
    let guide = std::fs::read_to_string(repository().join("docs/guides/privileges.md")).expect("the guide");
    let role = guide.split("--privs \"").nth(2).and_then(|rest| rest.split('"').next()).expect("the second role");
    only(&role.split(' ').collect::<Vec<_>>());
    guest.terraform.apply();
    guest.terraform.has_no_changes();
    lab.control("fault", &["clear"]).exits(0);
    guest.forget();
}

fn another_number_or_node_is_told(guest: &Guest) {
    let lab = &guest.machine.lab;
    guest.terraform.configure(&of_guest(4711, "", ""));
    guest.is_refused(&["Proxmox VE lists no guest with the number 4711", "Correct `vmid`", "main.tf line"]);
    // It has moved since: it is found.
    guest.terraform.configure(&guest.agent("    node = \"pve2\"", ""));
    guest.terraform.apply();
    guest.forget();
    lab.control("fault", &["deny", "VM.Audit", &format!("/vms/{}", guest.vmid)]).exits(0);
    guest.terraform.configure(&guest.agent("", ""));
    guest.is_refused(&["Proxmox VE lists no guest with the number", "grant VM.Audit"]);
    lab.control("fault", &["clear"]).exits(0);
}

fn what_the_guest_forbids_is_named(guest: &Guest) {
    let machine = &guest.machine;
    guest.terraform.configure(&guest.agent("    timeout = \"2s\"", ""));
    machine.must(&format!("ln -s /dev/null {SERVICE}"));
    guest.is_refused(&["did not answer within 2 s", "QEMU guest agent is not running", "package qemu-guest-agent"]);
    machine.must(&format!("rm {SERVICE}"));

    machine.must(
        "mkdir -p /etc/qemu; printf '[general]\\nblock-rpcs = guest-exec,guest-file-open\\n' >/etc/qemu/qemu-ga.conf",
    );
    guest.is_refused(&["is not allowed to do what is needed", "guest-exec, guest-file-open", "`FILTER_RPC_ARGS`"]);
    machine.must("rm /etc/qemu/qemu-ga.conf");

    machine.must(
        "mv /etc/os-release /root/; printf 'ID=mswindows\\nPRETTY_NAME=\"Windows Server 2025\"\\n' >/etc/os-release",
    );
    guest.is_refused(&["runs Windows Server 2025", "Agents run on Linux"]);
    machine.must("mv /root/os-release /etc/os-release");

    // What is the machine's own is found by the same look as over SSH.
    machine.must("mount --bind /usr/local/bin /usr/local/bin && mount -o remount,bind,noexec /usr/local/bin");
    guest.is_refused(&["`noexec`", "Mount it with `exec`"]);
    machine.must("umount /usr/local/bin");
    machine.must("mkdir -p /var/lib/groundwork && mount -t tmpfs -o size=3m none /var/lib/groundwork");
    guest.is_refused(&["/var/lib/groundwork has 3 MiB free"]);
    machine.must("umount /var/lib/groundwork && rmdir /var/lib/groundwork");
    machine.must("mv /usr/bin/gzip /root/gzip");
    guest.terraform.apply();
    guest.terraform.has_no_changes();
    machine.must("mv /root/gzip /usr/bin/gzip");
    guest.forget();
}

fn a_vm_that_is_off_is_told(guest: &Guest) {
    let path = format!("/nodes/pve1/qemu/{}/config", guest.vmid);
    let switch = |to: &str| guest.machine.lab.admin("PUT", &path, &[&format!("agent={to}")]);
    let started = || {
        guest.power("on");
        let started = "systemctl is-system-running --wait | grep -qE 'running|degraded'";
        wait_until("the machine has started", || guest.machine.lab.exec("pi", started).code == 0);
    };
    guest.terraform.configure(&guest.agent("", ""));
    switch("0");
    guest.power("off");
    guest.is_refused(&["on node pve1 is stopped", "Start the VM"]);
    started();
    guest.is_refused(&["No QEMU guest agent configured", "qm set NUMBER --agent 1", "off and on again"]);
    switch("1");
    guest.power("off");
    started();
}

fn somebody_elses_agent_is_left_alone(guest: &Guest) {
    let theirs = Terraform::for_lab(&guest.machine.lab);
    theirs.configure(&guest.agent("", ""));
    theirs.apply();
    guest.terraform.configure(&guest.agent("", ""));
    guest.terraform.fails(&["An agent of somebody else is on the machine", "the CA sha256:", "Nothing was changed"]);
    theirs.has_no_changes();
}
