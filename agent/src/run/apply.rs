//! Plan, apply, plan again: what a specification still needs, and how it gets it.

use super::{Failure, Outcome, RunCx};
use crate::chain::chain;
use crate::change::{self, Change, StepError, Todo, Verb, Wait};
use crate::facts;
use crate::host::Host;
use crate::spec::Spec;
use crate::steps;
use crate::steps::AnyStep;
use std::time::Instant;

/// What a specification still needs on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order they would be made.
    pub changes: Vec<PlannedChange>,
    /// What is left out.
    pub skipped: Vec<Skipped>,
    /// What a person should know, and no change puts right.
    pub warnings: Vec<Skipped>,
}

/// A change and the step that wants it, or that refuses to make it. `Display` is the line of a drift list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedChange {
    /// Which step.
    pub step: &'static str,
    /// What it found.
    pub finding: String,
    /// Why it matters.
    pub why: String,
}

impl std::fmt::Display for PlannedChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.finding)
    }
}

/// A step, or part of it, that this machine cannot do, or something to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Which step.
    pub step: &'static str,
    /// The fact that says so.
    pub reason: String,
}

/// A step that could not say what it needs.
#[derive(Debug, thiserror::Error)]
#[error("step {step} cannot be planned")]
pub struct PlanError {
    /// Which.
    pub step: &'static str,
    /// Why.
    pub source: StepError,
}

/// What `spec` still needs. Nothing is done. A step that refuses is a difference like any other: it fails when it is applied, and
/// until then does not hide what the others find.
///
/// # Errors
/// The first step that cannot look at the machine.
pub async fn plan(host: &dyn Host, spec: &Spec) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    for step in steps::steps(spec) {
        let name = step.name();
        let todo = match step.missing(host).await {
            Ok(todo) => todo,
            Err(refusal) if refusal.is_refusal() => {
                let finding = format!("cannot be as declared: {refusal}");
                plan.changes.push(PlannedChange {
                    step: name,
                    finding,
                    why: "applying fails until this is solved".into(),
                });
                continue;
            }
            Err(source) => return Err(PlanError { step: name, source }),
        };
        // To wait is no difference, unless waiting is all that a step can do about one.
        let only = todo.changes.len() == 1;
        let differs = |change: &Change| match &change.verb {
            Verb::Wait(Wait::Runtime(_)) => only,
            Verb::Wait(Wait::CloudInit | Wait::Clock) => false,
            _ => true,
        };
        let changes = todo.changes.into_iter().filter(differs);
        plan.changes.extend(changes.flat_map(|Change { finding, also, why, .. }| {
            let planned = move |finding| PlannedChange { step: name, finding, why: why.clone() };
            std::iter::once(finding).chain(also).map(planned)
        }));
        let said = |reason| Skipped { step: name, reason };
        plan.skipped.extend(todo.skipped.into_iter().map(said));
        plan.warnings.extend(todo.warnings.into_iter().map(said));
    }
    Ok(plan)
}

/// Makes the machine what `spec` says: the job behind `Apply`.
///
/// # Errors
/// The first change that failed, the first step that did not converge, or a cancellation.
pub async fn apply(cx: RunCx, spec: Spec) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let lines = |line: &str| cx.output("earlier run", line);
    cx.host().settle(&lines).await.map_err(|error| failure("", "", &StepError::Host(error)))?;
    for step in steps::steps(&spec) {
        outcome.changes += converge(&cx, &*step).await?;
    }
    outcome.reboot_needed = facts::reboot_required(cx.host());
    Ok(outcome)
}

/// One step to its end.
async fn converge(cx: &RunCx, step: &dyn AnyStep) -> Result<u32, Failure> {
    let name = step.name();
    if cx.is_cancelled() {
        return Err(Failure::cancelled(name));
    }
    let todo = look(cx, step).await?;
    for reason in &todo.skipped {
        cx.skipped(name, reason);
    }
    let count = u32::try_from(todo.changes.len()).unwrap_or(u32::MAX);
    if count == 0 {
        warn(cx, name, &todo, &[]);
        return Ok(0);
    }
    cx.step_began(name, count);
    let mut given_up = Vec::new();
    for change in &todo.changes {
        if cx.is_cancelled() {
            return Err(Failure::cancelled(name));
        }
        let began = Instant::now();
        let lines = |line: &str| cx.output(name, line);
        match (change::make(cx.host(), change, &lines).await, &change.verb) {
            (Ok(()), _) => cx.change_made(name, &change.to_string(), &change.why, began.elapsed()),
            // No specification could ask for anything else: the machine would be lost to every later run.
            (Err(error), Verb::Restore { path, .. }) => {
                cx.skipped(name, &format!("what stood at {path} is not put back: {}", chain(&error)));
                given_up.push(change);
            }
            (Err(error), _) => return Err(failure(name, &change.to_string(), &error)),
        }
    }
    let after = look(cx, step).await?;
    warn(cx, name, &after, &todo.remarks);
    let mut left = after.changes;
    left.retain(|change| !given_up.contains(&change));
    let made = count - u32::try_from(given_up.len()).unwrap_or(count);
    let Some(first) = left.first() else { return Ok(made) };
    let lines: Vec<_> = left.iter().map(ToString::to_string).collect();
    let message = format!("the step did not converge; after its changes it still finds: {}", lines.join("; "));
    Err(Failure { step: name.to_owned(), change: first.finding.clone(), message, ..Failure::default() })
}

/// Tells what a look found; of the look before the changes what was to be known once.
fn warn(cx: &RunCx, step: &str, todo: &Todo, before: &[String]) {
    let before = before.iter().filter(|remark| !todo.remarks.contains(remark));
    before.chain(&todo.warnings).chain(&todo.remarks).for_each(|warning| cx.warn(step, warning));
}

async fn look(cx: &RunCx, step: &dyn AnyStep) -> Result<Todo, Failure> {
    step.missing(cx.host()).await.map_err(|error| failure(step.name(), "", &error))
}

fn failure(step: &str, change: &str, error: &StepError) -> Failure {
    Failure {
        step: step.to_owned(),
        change: change.to_owned(),
        message: chain(error),
        output: error.tail().to_vec(),
        cancelled: false,
    }
}
