//! Work on a cluster of K3s cut short at each of its phases, with what stands in for K3s and a real etcd: the next apply ends right.

use super::servers::{Stage, balancers};
use super::{Given, KUBECTL, Wanted, leaves_nothing, nodes_are_ready};
use crate::harness::cut::{ALL, Cases, of, on};
use crate::harness::{Backend, Lab, Terraform, long_ready};
use crate::quickstart::lab_is_empty;

#[test]
fn a_cluster_of_k3s_begins_and_its_agent_comes_and_goes_whatever_is_cut() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("k3s-cuts", Backend::Nspawn, &["--kubernetes", "none"]);
    let Some(given) = Given::stand_in(&lab) else { return };
    let terraform = Terraform::for_lab(&lab);
    let cases = Cases::of(KUBECTL);
    let wants = |workers: u8| terraform.write("main.tf", &Wanted::single(workers, "a").configuration(&lab, &given));
    wants(1);
    let machines = ["apply", "-auto-approve", "-input=false", "-target=groundwork_machine.machine"];
    terraform.run(&machines).exits(0);
    let begins = [
        on("cp-1", "what is begun is noted", "test -e /var/lib/groundwork/cluster/attempt.json"),
        on("cp-1", "its configuration is written", "test -e /etc/rancher/k3s/config.yaml"),
        on("cp-1", "it has its secret", "test -e /var/lib/rancher/k3s/server/token"),
    ];
    for sign in &begins {
        for cut in ALL {
            cases.case((&lab, &terraform), "a cluster begins", sign, cut);
            nodes_are_ready(&lab, &["cp-1", "worker-1"]);
            terraform.has_no_changes();
            leaves_nothing(&lab, (&terraform, &given), &["cp-1", "worker-1"]);
        }
    }
    terraform.apply();
    let rounds = [
        (
            on("worker-1", "it has a token", "test -e /etc/rancher/k3s/groundwork-token"),
            of(
                "worker-1",
                "cp-1",
                "its Node is gone",
                "K get nodes -o json && ! K get nodes -o json | grep '\"worker-1\"'",
            ),
        ),
        (
            on("worker-1", "its unit is there", "test -e /etc/systemd/system/k3s-agent.service"),
            on("worker-1", "its unit is gone", "test ! -e /etc/systemd/system/k3s-agent.service"),
        ),
    ];
    for (join, leave) in &rounds {
        for cut in ALL {
            stays_without_its_node(&lab, &terraform, &given);
            cases.case((&lab, &terraform), "an agent leaves", leave, cut);
            nodes_are_ready(&lab, &["cp-1"]);
            terraform.has_no_changes();
            terraform.write("main.tf", &Wanted::single(1, "a").configuration(&lab, &given));
            cases.case((&lab, &terraform), "an agent joins", join, cut);
            nodes_are_ready(&lab, &["cp-1", "worker-1"]);
            terraform.has_no_changes();
        }
    }
    terraform.destroy();
    lab_is_empty(&lab);
    cases.all_ended_right();
}

/// The machine stays, and is no agent of the cluster any more.
fn stays_without_its_node(lab: &Lab, terraform: &Terraform, given: &Given) {
    let whole = Wanted::single(1, "a").configuration(lab, given);
    let without = whole.replace("{ for name, _ in local.workers :", "{ for name, _ in {} :");
    assert_ne!(without, whole);
    terraform.write("main.tf", &without);
}

#[test]
fn a_server_of_k3s_joins_and_leaves_whatever_is_cut() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("k3s-cuts-servers", Backend::Nspawn, &["--kubernetes", "none"]);
    let Some(given) = Given::stand_in(&lab) else { return };
    let _balancers = balancers(&lab);
    let terraform = Terraform::for_lab(&lab);
    let stage = Stage { lab: &lab, given: &given, terraform: &terraform };
    let cases = Cases::of(KUBECTL);
    let (three, four) = (["cp-1", "cp-2", "cp-3"], ["cp-1", "cp-2", "cp-3", "cp-4"]);
    stage.wants(&[1, 2, 3, 4]);
    terraform.apply();
    let rounds = [
        (
            on("cp-4", "its configuration is written", "test -e /etc/rancher/k3s/config.yaml"),
            of("cp-4", "cp-2", "its Node is gone", "K get nodes -o json && ! K get nodes -o json | grep '\"cp-4\"'"),
        ),
        (
            on("cp-4", "its member of etcd begins", "test -e /var/lib/rancher/k3s/server/db/etcd/member"),
            on("cp-4", "its unit is gone", "test ! -e /etc/systemd/system/k3s.service"),
        ),
    ];
    for (join, leave) in &rounds {
        for cut in ALL {
            stage.keeps_all_machines(&[1, 2, 3, 4], "cp-4");
            cases.case((&lab, &terraform), "a server leaves", leave, cut);
            stage.has("cp-2", &three);
            terraform.has_no_changes();
            stage.wants(&[1, 2, 3, 4]);
            cases.case((&lab, &terraform), "a server joins", join, cut);
            stage.has("cp-2", &four);
            terraform.has_no_changes();
        }
    }
    leaves_nothing(&lab, (&terraform, &given), &["cp-1", "cp-2", "cp-3", "cp-4", "worker-1"]);
    terraform.destroy();
    lab_is_empty(&lab);
    cases.all_ended_right();
}
