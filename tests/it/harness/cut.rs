//! An apply that is cut short at a known phase, and one after it that ends right. Cases are counted in what they print.

use super::run::{command, run};
use super::terraform::kill_provider;
use super::{Lab, Terraform};
use std::cell::Cell;
use std::process::ExitStatus;
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
    pub(crate) fn cut_short(&self, at: (&Lab, &Terraform), what: &str, sign: &Sign, cut: Cut) {
        self.cut_again_and_again(at, what, &[(*sign, cut)]);
    }

    /// The same at each of these phases, in the order in which they begin: in the same apply where that one goes on, in another one where it
    /// ended with the cut.
    #[track_caller]
    pub(crate) fn cut_again_and_again(&self, (lab, terraform): (&Lab, &Terraform), what: &str, cuts: &[(Sign, Cut)]) {
        let begin = || terraform.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "cut.log");
        let said = || std::fs::read_to_string(terraform.path("cut.log")).unwrap_or_default();
        let ended = |status: ExitStatus| {
            let said = said();
            let error = said.lines().find(|line| line.starts_with("Error: ")).unwrap_or("no error");
            self.says(&format!("        {status}: {error}"));
        };
        let (mut apply, mut is_cut) = (begin(), false);
        for (Sign { phase, seen_on, line, victim }, cut) in cuts {
            self.count.set(self.count.get() + 1);
            self.says(&format!("case {}: {what}: {phase}: {cut:?} of {victim}", self.count.get()));
            let line = line.replace("K ", &format!("{} ", self.kubectl));
            let patience = Instant::now() + Duration::from_secs(900);
            while lab.exec(seen_on, &line).code != 0 {
                if let Some(status) = apply.try_wait().expect("terraform") {
                    assert!(is_cut && !status.success(), "{phase}: not seen before the end\n{}", said());
                    ended(status);
                    (apply, is_cut) = (begin(), false);
                }
                assert!(Instant::now() < patience, "{phase}: not seen\n{}", said());
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
            is_cut = true;
        }
        ended(apply.wait().expect("terraform ends"));
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
