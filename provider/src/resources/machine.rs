//! `groundwork_machine`: the operating system of one machine, by its agent.
//!
//! Refreshing asks the agent which changes are still needed; they stand in `drift`, and a plan that finds some turns them into an
//! update. Creating and updating are the same act: the agent makes what is missing. Destroying takes a node of ours out of its cluster
//! in order, and otherwise forgets the machine and changes nothing on it, because what a user built on it may still need it.

mod message;
mod model;
mod rules;

use crate::agents::{Endpoint, Error, Job, Wait, again};
use crate::context::{Cx, Data, looking};
use crate::endpoint::EndpointModel;
use crate::timeouts::Limit;
use crate::{departure, explain, keys, record};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use message::To as _;
use model::Machine;
use std::time::Duration;
use tf::{Attr, Diagnostic, Diagnostics, PlanNotes, Presence, Resource};
use trust::Role;

/// See [`Resource::DOC`].
pub(crate) struct MachineResource;

impl Resource for MachineResource {
    type Data = Data;
    type Model = Machine;

    const NAME: &'static str = "machine";
    const DOC: &'static str = "The operating system of one machine, through its agent. Only what is given is managed. What differs inside the \
        machine, now or after its next boot, stands in `drift` of the plan and is repaired by the next apply; nothing else is touched or \
        restarted.\n\n`kubernetes { version = \"1.36.2\" }` alone sets everything a kubeadm node needs. Destroying this resource leaves the \
        machine as it is, but for one thing: if the machine is a node of a cluster that `groundwork_cluster` made, the node first leaves it \
        in order. It is cordoned, its pods are evicted with their budgets honoured, and the machine is reset; of one cluster one machine goes \
        at a time, and the last control plane never does while its cluster lives. Destroyed together with its cluster, nothing is drained. To \
        forget a machine and keep its node, use a `removed` block with `destroy = false`.\n\n\
        Kubernetes and containerd have to fit: 1.34 wants at least containerd 1.7.28, 2.0.6 or 2.1.3, 1.35 at least 1.7.28, 2.1.5 or 2.2.0, \
        and 1.36 at least 2.2.0. From 1.38 on the kubelet does not work with containerd 1.x at all: the agent then refuses to install it \
        beside one. The distribution's `containerd` is often older, that of Debian 12 is 1.6.20. `node` in the example takes a newer one \
        from Docker's repository. Where the distribution's is installed already, add \
        `package \"containerd\" { absent = true }` and `package \"runc\" { absent = true }` to make room for it.";

    fn validate(&self, m: &Machine) -> Diagnostics {
        rules::problems(m)
    }

    fn plan(&self, prior: Option<&Machine>, _config: &Machine, m: &mut Machine, _notes: &mut PlanNotes) {
        // What is missing now will be made: after the apply nothing is. This line is what makes drift a change of the plan.
        m.drift.set(Vec::new());
        // Another machine has other facts and another identity.
        if prior.is_some_and(|prior| key(prior) != key(m)) {
            m.id = Attr::Unknown;
            m.facts = Attr::Unknown;
            m.skipped = Attr::Unknown;
        }
    }

    async fn create(&self, cx: &Cx, m: &mut Machine) -> Result<(), Diagnostics> {
        let time = Limit::of("create", m.timeouts.get().map(|timeouts| &timeouts.create), APPLY).time;
        apply(cx, m, "prepare", time).await
    }

    async fn read(&self, cx: &Cx, m: &mut Machine) -> Result<Presence, Diagnostics> {
        let endpoint = endpoint(m)?;
        let name = name(m);
        keys::recall(cx);
        match look(cx, m, &endpoint).await {
            Ok(()) => {}
            Err(error) if error.is_unreachable() => cx.warn(explain::unreachable("machine", &name, &error)),
            // A machine that was made anew, or another one at its address, is no reason to stop a plan that may put it right.
            Err(error) if error.is_somebody_else() => cx.warn(explain::somebody_else("machine", &name, &error)),
            Err(error) => return Err(explain::agent(&format!("read machine {name}"), &error).into()),
        }
        keys::note(cx, [endpoint.fingerprint]);
        Ok(Presence::Here)
    }

    async fn update(&self, cx: &Cx, _prior: &Machine, m: &mut Machine) -> Result<(), Diagnostics> {
        keys::recall(cx);
        let time = Limit::of("update", m.timeouts.get().map(|timeouts| &timeouts.update), APPLY).time;
        apply(cx, m, "change", time).await
    }

    async fn delete(&self, cx: &Cx, m: &Machine) -> Result<(), Diagnostics> {
        keys::recall(cx);
        let Some(endpoint) = m.endpoint.get().and_then(EndpointModel::to_endpoint) else { return Ok(()) };
        let limit = Limit::of("delete", m.timeouts.get().map(|timeouts| &timeouts.delete), DEPARTURE);
        departure::depart(cx, &format!("destroy machine {}", name(m)), &endpoint, limit).await
    }

    async fn import(&self, cx: &Cx, id: &str) -> Result<Machine, Diagnostics> {
        let refusal = |why: &str| {
            Diagnostic::error(format!("Cannot import machine {id}"))
                .happened(why)
                .holds("Nothing was recorded in the state.")
                .next("Give the address and the fingerprint of its agent: `192.0.2.11:7443,sha256:…`.")
        };
        let model = EndpointModel::from_id(id).ok_or_else(|| refusal("This is no id of a machine."))?;
        let endpoint = model.to_endpoint().ok_or_else(|| refusal("This is no id of a machine."))?;
        let act = format!("import machine {id}");
        let explained = |error: Error| explain::agent(&act, &error);
        // Only operators are told records.
        let role = cx.agents.at_most(Role::Operator);
        let mut agent = cx.agents.connect(&endpoint, role, &looking(cx)).await.map_err(explained)?;
        if role != Role::Operator {
            let what = ["what was declared for it, which its agent has on record: all of it shows as new".to_owned()];
            cx.warn(explain::not_looked_at("machine", id, &what));
        }
        let said = agent.describe().await.map_err(explained)?;
        let recorded = said.records.get(RECORD).and_then(|document| record::read::<Machine>(document));
        // A machine that was never applied to is imported empty: the first plan then shows everything as new.
        let mut m = recorded.unwrap_or_default();
        m.endpoint.set(model);
        Ok(m)
    }
}

/// Has the agent make what is missing, and keeps a record of it there.
async fn apply(cx: &Cx, m: &mut Machine, verb: &str, time: Duration) -> Result<(), Diagnostics> {
    let endpoint = endpoint(m)?;
    let act = format!("{verb} machine {}", name(m));
    let explained = |error: Error| explain::agent(&act, &error);
    let spec = m.settings.to();
    m.id.set(endpoint.fingerprint.clone());
    let progress = |line: &str| cx.progress(line);
    let wait = Wait { deadline: cx.deadline(time), stop: &cx.stop, progress: &progress };
    let report = cx.agents.run(&endpoint, &Job::Apply(Box::new(spec)), &wait).await.map_err(explained)?;
    report.warnings.iter().for_each(|line| cx.warn(explain::noted(&format!("machine {}", name(m)), line)));
    if report.reboot_needed {
        cx.warn(
            Diagnostic::warning(format!("Machine {} needs a reboot", name(m)))
                .happened("Something that was changed takes effect only after the next boot.")
                .next("Reboot it when it suits you."),
        );
    }
    let document = Machine { drift: Attr::Null, skipped: Attr::Null, facts: Attr::Null, ..m.clone() };
    let (document, until) = (record::write(&document), wait.until());
    let keep =
        again(|| async { cx.agents.connect(&endpoint, Role::Operator, &until).await?.record(RECORD, &document).await });
    match keep.await {
        Err(error @ Error::Refused { .. }) => cx.warn(unrecorded(&name(m), &error)),
        kept => kept.map_err(explained)?,
    }
    Ok(())
}

/// The warning for a record that the agent does not keep, such as one of very large files.
fn unrecorded(name: &str, error: &Error) -> Diagnostic {
    Diagnostic::warning(format!("Cannot keep the record of machine {name}"))
        .happened(tf::chain(error))
        .holds("The machine is as declared. Only `terraform import` cannot tell later what was declared for it.")
        .next("Declare large files in another way, such as a package, if you want to import the machine one day.")
}

/// Facts, and what is missing.
async fn look(cx: &Cx, m: &mut Machine, endpoint: &Endpoint) -> Result<(), Error> {
    let spec = m.settings.to();
    let look = cx.agents.inspect(endpoint, &spec, &looking(cx)).await?;
    if let Some(version) = look.newer {
        cx.warn(explain::newer("machine", &name(m), &version));
    }
    if !look.missing.not_looked_at.is_empty() {
        cx.warn(explain::not_looked_at("machine", &name(m), &look.missing.not_looked_at));
    }
    look.missing.warnings.iter().for_each(|line| cx.warn(explain::noted(&format!("machine {}", name(m)), line)));
    m.id.set(endpoint.fingerprint.clone());
    m.facts.set(look.facts);
    m.drift.set(look.missing.drift);
    m.skipped.set(look.missing.skipped);
    Ok(())
}

fn endpoint(m: &Machine) -> Result<Endpoint, Diagnostic> {
    let endpoint = m.endpoint.get().and_then(EndpointModel::to_endpoint);
    endpoint.ok_or_else(|| Diagnostic::bug("a machine's endpoint is not known at apply"))
}

/// Which machine this is; `None` while that is unknown.
fn key(m: &Machine) -> Option<String> {
    m.endpoint.get()?.fingerprint.cloned()
}

/// How a person calls the machine.
fn name(m: &Machine) -> String {
    let address = || m.endpoint.get().and_then(|endpoint| endpoint.address.cloned());
    match (m.settings.hostname.cloned(), address()) {
        (Some(hostname), Some(address)) => format!("{hostname} ({address})"),
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => String::new(),
    }
}

/// Bytes of Base64 text; white space in it does not count.
fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.split_whitespace().collect::<String>()).ok()
}

/// Kind of the agent's record.
const RECORD: &str = "machine";
const APPLY: Duration = Duration::from_secs(1800);
const DEPARTURE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_in_the_state_makes_a_plan_of_repairs() {
        let prior = Machine { drift: vec!["swap: /swap.img is active".to_owned()].into(), ..Machine::default() };
        let mut planned = prior.clone();
        MachineResource.plan(Some(&prior), &prior, &mut planned, &mut PlanNotes::new(false));
        assert_eq!(planned.drift, Attr::Known(Vec::new()));
    }
}
