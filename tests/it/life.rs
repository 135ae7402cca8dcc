//! The life of a cluster on containers: from nothing, unchanged, drifted, changed, switched off, imported, destroyed.

use crate::configuration;
use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart::{self, KUBECTL, lab_is_empty, machine_is_prepared, nodes, nodes_are_ready, variables};
use serde_json::{Value, json};

#[test]
fn a_cluster_lives_from_apply_to_destroy() {
    if !ready() {
        return;
    }
    let lab = Lab::start("life", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 1);

    terraform.apply();
    for vm in ["cp-1", "worker-1"] {
        machine_is_prepared(&lab, vm);
    }
    assert_eq!(nodes(&lab), ["cp-1", "worker-1"]);
    nodes_are_ready(&lab);
    seeds_are_gone(&lab);

    terraform.has_no_changes();
    terraform.run(&["apply", "-refresh-only", "-auto-approve", "-input=false"]).exits(0);
    terraform.has_no_changes();

    an_agent_that_restarts_is_waited_for(&lab, &terraform);
    drift_is_seen_and_repaired(&lab, &terraform);
    configuration::is_changed_in_place(&lab, &terraform);
    imports_give_no_changes(&lab, &terraform);
    changes_are_made_in_place(&lab, &terraform);
    a_machine_that_is_off_is_kept(&lab, &terraform);

    terraform.destroy();
    lab_is_empty(&lab);
}

/// After enrolment no seed image is attached or stored: it would block a migration and hold a secret.
#[track_caller]
fn seeds_are_gone(lab: &Lab) {
    let inventory = lab.inventory().to_string();
    assert!(!inventory.contains(".iso"), "a seed is still there: {inventory}");
}

/// A plan made meanwhile misses nothing.
fn an_agent_that_restarts_is_waited_for(lab: &Lab, terraform: &Terraform) {
    let agent = "groundwork-agent";
    lab.must("worker-1", &format!("systemctl stop {agent} && systemd-run sh -c 'sleep 3; systemctl start {agent}'"));
    let plan = terraform.plan();
    plan.exits(0).says(&["No changes."]);
    assert!(!plan.text.contains("Cannot look at"), "{}", plan.text);
}

fn drift_is_seen_and_repaired(lab: &Lab, terraform: &Terraform) {
    // Whoever gives a pod its network turns forwarding on again.
    lab.must("cp-1", &format!("{KUBECTL} wait --for=condition=Ready pod --all --all-namespaces --timeout=3m"));
    lab.must("worker-1", "echo changed > /etc/motd");
    lab.must("worker-1", "apt-mark unhold kubelet");
    lab.must("worker-1", "rm /etc/modules-load.d/groundwork.conf");
    lab.must("worker-1", "sysctl -w net.ipv4.ip_forward=0 || echo 0 > /proc/sys/net/ipv4/ip_forward");
    let containerd = lab.must("worker-1", "systemctl show -P ActiveEnterTimestampMonotonic containerd kubelet");

    let plan = terraform.plan();
    plan.exits(2).says(&[
        "groundwork_machine.machine[\"worker-1\"] will be updated in-place",
        "/etc/motd",
        "kubelet",
        "groundwork.conf",
        "net.ipv4.ip_forward",
        "1 to change, 0 to destroy",
    ]);
    assert!(!plan.text.contains("machine[\"cp-1\"] will"), "cp-1 is not touched\n{}", plan.text);

    terraform.apply();
    assert_eq!(lab.must("worker-1", "cat /etc/motd"), "This machine is managed by Groundwork.");
    machine_is_prepared(lab, "worker-1");
    let after = lab.must("worker-1", "systemctl show -P ActiveEnterTimestampMonotonic containerd kubelet");
    assert_eq!(containerd, after, "no service was restarted");
    terraform.has_no_changes();
}

/// Forgets everything, imports each resource, and finds nothing to change.
fn imports_give_no_changes(lab: &Lab, terraform: &Terraform) {
    let before = terraform.show();
    let second = quickstart::prepare(lab, 1);
    for settings in ["lab_override.tf.json", "names_override.tf.json"] {
        std::fs::copy(terraform.path(settings), second.path(settings)).expect("copy the settings");
    }
    std::fs::copy(terraform.path("pki/ca.pem"), second.path("pki/ca.pem")).expect("copy the CA");
    std::fs::copy(terraform.path("pki/ca-key.pem"), second.path("pki/ca-key.pem")).expect("copy the CA's key");
    for resource in before["values"]["root_module"]["resources"].as_array().expect("resources") {
        let address = resource["address"].as_str().expect("address");
        let id = import_id(resource);
        second.run(&["import", "-input=false", "-no-color", address, &id]).exits(0);
    }
    second.has_no_changes();
}

fn import_id(resource: &Value) -> String {
    let values = &resource["values"];
    let endpoint = |endpoint: &Value| {
        format!(
            "{},{}",
            endpoint["address"].as_str().expect("address"),
            endpoint["fingerprint"].as_str().expect("fingerprint")
        )
    };
    match resource["type"].as_str().expect("type") {
        "groundwork_machine" => endpoint(&values["endpoint"]),
        "groundwork_cluster" => endpoint(&values["control_planes"]["cp-1"]["endpoint"]),
        _ => values["id"].as_str().expect("id").to_owned(),
    }
}

fn changes_are_made_in_place(lab: &Lab, terraform: &Terraform) {
    let boot = lab.must("cp-1", "systemctl show -P UserspaceTimestampMonotonic");
    let mut values = variables(lab, 2);
    values["disk_gib"] = json!(5);
    values["sysctls"] = json!({ "fs.inotify.max_user_instances": "8192", "vm.max_map_count": "262144" });
    terraform.variables(&values);

    let plan = terraform.plan();
    plan.exits(2).says(&["disk.scsi0.size_gib", "live", "vm.max_map_count", "worker-2"]);
    plan.says(&["0 to destroy"]);
    terraform.apply();
    assert_eq!(nodes(lab), ["cp-1", "worker-1", "worker-2"]);
    assert_eq!(boot, lab.must("cp-1", "systemctl show -P UserspaceTimestampMonotonic"), "cp-1 was not restarted");
    terraform.has_no_changes();

    values["addresses"]["workers"] = json!([lab.address(21)]);
    terraform.variables(&values);
    terraform.plan().exits(2).says(&["worker-2"]);
    terraform.apply();
    assert_eq!(nodes(lab), ["cp-1", "worker-1"]);
    terraform.has_no_changes();
}

fn a_machine_that_is_off_is_kept(lab: &Lab, terraform: &Terraform) {
    let before = terraform.resource("groundwork_machine.machine[\"worker-1\"]");
    lab.control("power", &["worker-1", "off"]).exits(0);
    let plan = terraform.plan();
    plan.says(&["Warning:", "worker-1"]);
    assert!(!plan.flat().contains("machine[\"worker-1\"] will be created"), "{}", plan.text);
    terraform.run(&["apply", "-refresh-only", "-auto-approve", "-input=false"]).exits(0);
    assert_eq!(before, terraform.resource("groundwork_machine.machine[\"worker-1\"]"), "state is kept");
    lab.control("power", &["worker-1", "on"]).exits(0);
}
