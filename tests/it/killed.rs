//! The provider dies (SIGKILL) at ten different moments of an apply; applying again ends in the same state.

use crate::harness::terraform::kill_provider;
use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart::{self, lab_is_empty, nodes};
use std::time::{Duration, Instant};

// Ten moments, as fractions of the time that an undisturbed apply takes, in two labs side by side.

#[test]
fn an_apply_goes_on_after_the_provider_was_killed_early() {
    killed("killed-early", &[0.05, 0.1, 0.15, 0.2, 0.3]);
}

#[test]
fn an_apply_goes_on_after_the_provider_was_killed_late() {
    killed("killed-late", &[0.4, 0.5, 0.6, 0.75, 0.9]);
}

fn killed(name: &str, moments: &[f64]) {
    if !ready() {
        return;
    }
    let lab = Lab::start(name, Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 1);
    let began = Instant::now();
    terraform.apply();
    let whole = began.elapsed();
    terraform.destroy();
    lab_is_empty(&lab);

    for moment in moments {
        let cut = kill_provider_after(&terraform, whole.mul_f64(*moment));
        terraform.apply();
        let inventory = lab.inventory();
        let vms = inventory["vms"].as_array().expect("vms");
        assert_eq!(vms.len(), 2, "killed at {moment} ({cut}): no second VM and no lost one: {inventory}");
        assert_eq!(nodes(&lab), ["cp-1", "worker-1"], "killed at {moment}");
        terraform.has_no_changes();
        terraform.destroy();
        lab_is_empty(&lab);
    }
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
