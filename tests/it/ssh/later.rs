//! What becomes of an agent later: it is imported, its machine gets another address, or is installed anew and has no agent.

use super::{MACHINE, Machine};
use crate::harness::{Terraform, ready};

#[test]
fn an_agent_is_imported_moves_and_comes_back_onto_a_machine_installed_anew() {
    if !ready() {
        return;
    }
    let machine = Machine::start("later");
    let terraform = machine.folder();
    terraform.configure(&format!("{}{MACHINE}", machine.as_root("")));
    terraform.apply();
    it_is_imported(&machine, &terraform);
    its_address_changes(&machine, &terraform);
    the_machine_is_installed_anew(&machine, &terraform);
    machine.end();
}

/// Out of the state and in again, by what the machine's console or another state says.
fn it_is_imported(machine: &Machine, terraform: &Terraform) {
    let before = terraform.resource("groundwork_agent.pi");
    let id = |part: &str| before["endpoint"][part].as_str().expect("text").to_owned();
    let (address, fingerprint) = (id("address"), id("fingerprint"));
    let import = |id: &str| terraform.run(&["import", "-input=false", "-no-color", "groundwork_agent.pi", id]);
    terraform.run(&["state", "rm", "groundwork_agent.pi"]).exits(0);
    import("pi").exits(1).says(&["Cannot import agent pi", "its address and fingerprint"]);
    let another = format!("{address},sha256:{}", "0".repeat(64));
    import(&another).exits(1).says(&["Cannot import agent", "has the key sha256:", &fingerprint]);
    import(&format!("{address},{fingerprint}")).exits(0);
    let imported = terraform.resource("groundwork_agent.pi");
    assert_eq!(imported["id"], before["id"]);
    assert_eq!(imported["facts"]["machine_uuid"], before["facts"]["machine_uuid"], "it was asked");
    // What is written in `ssh` is all that is new, and nothing is done for it.
    machine.must("systemctl stop ssh.socket ssh.service");
    let plan = terraform.plan();
    plan.exits(2).says(&["groundwork_agent.pi will be updated in-place", "0 to add, 1 to change, 0 to destroy"]);
    terraform.apply();
    terraform.has_no_changes();
    assert_eq!(terraform.resource("groundwork_agent.pi")["endpoint"], before["endpoint"]);
}

/// The state has the old one: the message says what may have happened, and `address` what has.
fn its_address_changes(machine: &Machine, terraform: &Terraform) {
    let (old, new) = (&machine.address, machine.lab.address(73));
    let before = terraform.resource("groundwork_agent.pi")["endpoint"]["fingerprint"].clone();
    machine.moves(old, &new);
    terraform.plan().exits(0).says(&["Cannot look at the agent of", "set `address`", "-replace=…"]);
    // Nobody is there, or another machine: it is told, and the state stays.
    let nobody = format!("{}{MACHINE}", machine.as_root(&format!("  address = \"{}\"", machine.lab.address(99))));
    terraform.configure(&nobody);
    terraform
        .run(&["apply", "-auto-approve", "-input=false", "-no-color"])
        .exits(1)
        .says(&["Cannot reach the agent of"]);
    terraform.configure(&format!("{}{MACHINE}", machine.as_root(&format!("  address = \"{new}\""))));
    terraform.apply();
    terraform.has_no_changes();
    let after = terraform.resource("groundwork_agent.pi");
    assert_eq!(after["endpoint"]["address"], format!("{new}:7443"));
    assert_eq!(after["endpoint"]["fingerprint"], before);
    assert_eq!(terraform.resource("groundwork_machine.pi")["endpoint"], after["endpoint"]);
    machine.moves(&new, old);
    terraform.configure(&format!("{}{MACHINE}", machine.as_root("")));
    terraform.apply();
    terraform.has_no_changes();
}

/// Its disk is new: another host key, no agent. Nothing is trusted because it was trusted before.
fn the_machine_is_installed_anew(machine: &Machine, terraform: &Terraform) {
    let before = terraform.resource("groundwork_agent.pi")["endpoint"]["fingerprint"].clone();
    let (pinned, print) = (machine.as_root(""), machine.fingerprint());
    machine.wipe();
    machine.must("rm /etc/ssh/ssh_host_*; ssh-keygen -A >/dev/null; systemctl start ssh");
    let shown = machine.fingerprint();
    terraform.configure(&format!("{pinned}{MACHINE}"));
    terraform.plan().exits(0).says(&["Cannot look at the agent of", "installed anew, it has no agent", "-replace=…"]);
    let replace = ["apply", "-replace=groundwork_agent.pi", "-auto-approve", "-input=false", "-no-color"];
    terraform.run(&replace).exits(1).says(&["showed the host key", &shown, &print, "installed anew"]);
    terraform.configure(&format!("{}{MACHINE}", machine.as_root("")));
    terraform.apply();
    terraform.has_no_changes();
    let after = terraform.resource("groundwork_agent.pi")["endpoint"]["fingerprint"].clone();
    assert_ne!(before, after, "another machine, for all that its agent says");
    assert_eq!(machine.must("cat /etc/motd"), "ours");
}
