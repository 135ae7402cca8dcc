//! The provider dies (SIGKILL) at different moments of an apply; applying again ends in the same state.

use crate::harness::terraform::kill_provider;
use crate::harness::{Backend, Lab, Terraform, asked_for_the_night, long_ready, ready};
use crate::quickstart::{self, lab_is_empty, nodes};
use std::time::{Duration, Instant};

#[test]
fn machines_are_finished_after_the_provider_was_killed() {
    if !ready() {
        return;
    }
    let lab = Lab::start("killed-machines", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare_machines(&lab, 1);
    let began = Instant::now();
    terraform.apply();
    let whole = began.elapsed();
    terraform.destroy();
    lab_is_empty(&lab);

    // Moments as fractions of the time that an undisturbed apply takes.
    let moments: &[f64] =
        if asked_for_the_night() { &[0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.9] } else { &[0.1, 0.3, 0.6] };
    for &moment in moments {
        let cut = kill_provider_after(&terraform, whole.mul_f64(moment));
        terraform.apply();
        let inventory = lab.inventory();
        let vms = inventory["vms"].as_array().expect("vms");
        assert_eq!(vms.len(), 2, "killed at {moment} ({cut}): no second VM and no lost one: {inventory}");
        terraform.has_no_changes();
        terraform.destroy();
        lab_is_empty(&lab);
    }
}

#[test]
fn a_cluster_is_finished_after_the_provider_was_killed() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("killed-cluster", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 1);
    terraform.run(&["apply", "-auto-approve", "-input=false", "-target=groundwork_machine.machine"]).exits(0);
    // kubeadm is in the middle of its work: on the control plane, then on the worker.
    for (vm, sign) in [
        ("cp-1", "/etc/kubernetes/manifests/kube-apiserver.yaml"),
        ("worker-1", "/etc/kubernetes/bootstrap-kubelet.conf"),
    ] {
        terraform.killed(|| lab.exec(vm, &format!("test -e {sign}")).code == 0);
        terraform.apply();
        assert_eq!(nodes(&lab), ["cp-1", "worker-1"], "killed while {vm} became a node");
        terraform.has_no_changes();
        terraform.run(&["destroy", "-auto-approve", "-input=false", "-target=groundwork_cluster.main"]).exits(0);
    }
    terraform.destroy();
    lab_is_empty(&lab);
}

/// Starts an apply and kills every provider process of it after `delay`; says what was killed.
#[track_caller]
fn kill_provider_after(terraform: &Terraform, delay: Duration) -> String {
    let mut apply = terraform.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "killed.log");
    std::thread::sleep(delay);
    let killed = kill_provider(&apply);
    let status = apply.wait().expect("terraform ends");
    format!("{killed} providers killed, terraform {status}")
}
