//! Many workers on real Kubernetes: what joining them together costs beside one alone, and one more when they are there.
//!
//! `GROUNDWORK_CROWD=20` asks for so many instead of eight; it prints times, and the most memory that the provider had.

use crate::harness::terraform::provider_memory;
use crate::harness::{Backend, Lab, Terraform, long_ready};
use crate::quickstart::{self, lab_is_empty, nodes, nodes_are_ready};
use std::time::{Duration, Instant};

#[test]
fn many_workers_join_together_and_one_more_joins_alone() {
    if !long_ready() {
        return;
    }
    let many = std::env::var("GROUNDWORK_CROWD").map_or(8, |many| many.parse::<u8>().expect("a number of workers"));
    let lab = Lab::start("crowd", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, many + 1);
    let example = std::fs::read_to_string(terraform.path("main.tf")).expect("the example");
    let some = example.replace("{ for name, _ in local.workers :", "{ for name in var.joined :");
    assert_ne!(some, example);
    terraform.write("main.tf", &some);
    terraform.write("crowd.tf", "variable \"joined\" { type = set(string) }\n");
    let stage = Stage { lab: &lab, terraform: &terraform, machines: many + 1 };

    stage.wants(0);
    terraform.apply();
    let (one, _) = stage.joins(1);
    let (all, memory) = stage.joins(many);
    nodes_are_ready(&lab);
    let (more, _) = stage.joins(many + 1);
    nodes_are_ready(&lab);
    let began = Instant::now();
    terraform.has_no_changes();
    let plan = began.elapsed();
    eprintln!(
        "one worker {one:.1?}; {} together {all:.1?} ({:.2} of as many alone); one more {more:.1?}; a plan without changes {plan:.1?}; \
         the provider had {} MiB",
        many - 1,
        all.as_secs_f64() / (one.as_secs_f64() * f64::from(many - 1)),
        memory / 1024,
    );
    terraform.destroy();
    lab_is_empty(&lab);
}

struct Stage<'a> {
    lab: &'a Lab,
    terraform: &'a Terraform,
    machines: u8,
}

impl Stage<'_> {
    fn wants(&self, workers: u8) {
        let mut values = quickstart::variables(self.lab, self.machines);
        let joined: Vec<_> = (1..=workers).map(|number| format!("worker-{number}")).collect();
        values["joined"] = serde_json::json!(joined);
        self.terraform.variables(&values);
    }

    /// Has so many workers; the time that the apply took, and the most that its provider had in memory, in KiB.
    fn joins(&self, workers: u8) -> (Duration, u64) {
        self.wants(workers);
        let began = Instant::now();
        let mut apply = self.terraform.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "joins.log");
        let mut memory = 0;
        let status = loop {
            memory = memory.max(provider_memory(&apply));
            if let Some(status) = apply.try_wait().expect("terraform") {
                break status;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let said = std::fs::read_to_string(self.terraform.path("joins.log")).unwrap_or_default();
        assert!(status.success(), "{said}");
        assert_eq!(nodes(self.lab).len(), usize::from(workers) + 1);
        (began.elapsed(), memory)
    }
}
