//! An apply that is cut short at a known phase, and one after it that ends right. Cases are counted in what they print.

use super::run::{command, run};
use super::terraform::kill_provider;
use super::{Lab, Terraform};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// What happens in the middle of an apply.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    Provider,
    Agent,
    Power,
    Cable,
}

pub(crate) const ALL: [Cut; 4] = [Cut::Provider, Cut::Agent, Cut::Power, Cut::Cable];

/// A phase: a line that succeeds on a machine once it has begun (`K` is kubectl), and whose machine is hit then.
#[derive(Clone, Copy)]
pub(crate) struct Sign {
    phase: &'static str,
    seen_on: &'static str,
    line: &'static str,
    victim: &'static str,
}

/// Seen on the machine that is hit.
pub(crate) const fn on(victim: &'static str, phase: &'static str, line: &'static str) -> Sign {
    Sign { phase, seen_on: victim, line, victim }
}

/// Seen on another one.
pub(crate) const fn of(victim: &'static str, seen_on: &'static str, phase: &'static str, line: &'static str) -> Sign {
    Sign { phase, seen_on, line, victim }
}

/// Counts them.
pub(crate) struct Cases {
    kubectl: &'static str,
    count: Cell<u32>,
    began: Instant,
}

impl Cases {
    /// `kubectl` is what stands for `K` in a sign.
    pub(crate) fn of(kubectl: &'static str) -> Self {
        Self { kubectl, count: Cell::new(0), began: Instant::now() }
    }

    /// An apply that is cut short, and one that ends right.
    #[track_caller]
    pub(crate) fn case(&self, at: (&Lab, &Terraform), what: &str, sign: &Sign, cut: Cut) {
        self.cut_short(at, what, sign, cut);
        at.1.apply();
    }

    /// Begins an apply, waits until the phase has begun, and cuts; back when the apply has ended, as it may.
    #[track_caller]
    pub(crate) fn cut_short(&self, (lab, terraform): (&Lab, &Terraform), what: &str, sign: &Sign, cut: Cut) {
        self.count.set(self.count.get() + 1);
        let number = self.count.get();
        let Sign { phase, seen_on, line, victim } = *sign;
        self.says(&format!("case {number}: {what}: {phase}: {cut:?} of {victim}"));
        let mut apply = terraform.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "cut.log");
        let said = || std::fs::read_to_string(terraform.path("cut.log")).unwrap_or_default();
        let line = line.replace("K ", &format!("{} ", self.kubectl));
        let patience = Instant::now() + Duration::from_secs(300);
        while lab.exec(seen_on, &line).code != 0 {
            let ended = apply.try_wait().expect("terraform");
            assert!(ended.is_none() && Instant::now() < patience, "{phase}: not seen before the end\n{}", said());
            std::thread::sleep(Duration::from_millis(30));
        }
        match cut {
            Cut::Provider => _ = kill_provider(&apply),
            Cut::Agent => lab.kill_agent(victim),
            Cut::Power => {
                lab.control("power", &[victim, "off"]).exits(0);
                lab.control("power", &[victim, "on"]).exits(0);
            }
            Cut::Cable => {
                cable(lab, terraform, victim, "down");
                std::thread::sleep(Duration::from_secs(20));
                cable(lab, terraform, victim, "up");
            }
        }
        let status = apply.wait().expect("terraform ends");
        let said = said();
        let error = said.lines().find(|line| line.starts_with("Error: ")).unwrap_or("no error");
        self.says(&format!("        {status}: {error}"));
    }

    pub(crate) fn all_ended_right(&self) {
        self.says(&format!("{} cases ended right", self.count.get()));
    }

    fn says(&self, what: &str) {
        eprintln!("{:>5} s  {what}", self.began.elapsed().as_secs());
    }
}

/// Of the machine's first card, at the bridge.
fn cable(lab: &Lab, terraform: &Terraform, vm: &str, state: &str) {
    let id = terraform.vm(vm);
    let vmid = id.rsplit_once('/').expect("NODE/VMID").1;
    let subnet = lab.address(0);
    let number = subnet.split('.').nth(2).expect("a.b.c.d");
    let port = format!("veth{vmid}i0");
    run(command("ip").args(["-n", &format!("gwlab{number}"), "link", "set", &port, state])).exits(0);
}
