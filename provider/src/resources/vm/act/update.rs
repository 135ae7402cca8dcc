//! Changing a VM in place: refuse what cannot be, grow, write, read what waits, reboot only if something waits, the plan announced it
//! and `reboot` allows it.

use std::collections::BTreeSet;
use std::time::Duration;

use pve::{Class, Settings};
use tf::{Diagnostic, Diagnostics, Path, Private};
use tokio::time::Instant;

use super::error::{Error, Problem};
use super::finish::{self, Begun};
use super::holds::Holds;
use super::operation::{Operation, Target, UPDATE};
use super::write;
use crate::context::Cx;
use crate::resources::vm::config::{self, Gone};
use crate::resources::vm::locate::{self, Found};
use crate::resources::vm::model::Vm;
use crate::resources::vm::notes::noted::{self, Held, Noted, no_node};
use crate::resources::vm::notes::{announced, slots};
use crate::resources::vm::plan::replace;
use crate::resources::vm::{disks, marker};
use crate::timeouts::Limit;

/// Makes the VM what the model says.
pub(crate) async fn update(cx: &Cx, prior: &Vm, m: &mut Vm) -> Result<(), Diagnostics> {
    let Some(found) = locate::find(cx, prior).await? else {
        let gone = Diagnostic::error(format!("Cannot change VM {}", prior.id.or("")))
            .happened("The VM is gone since the plan was made.")
            .next("Plan again.");
        return Err(gone.into());
    };
    let limit = Limit::of("update", m.timeouts.get().map(|timeouts| &timeouts.update), UPDATE);
    let act = format!("change VM {} on node {}", found.vmid, found.node);
    let op = Operation::new(cx, act, limit, Holds::NothingChanged)?;
    let ended = changed(&op, prior, m, found).await;
    ended.map_err(|error| op.explained(m, error))
}

async fn changed(op: &Operation<'_>, prior: &Vm, m: &mut Vm, found: Found) -> Result<(), Error> {
    let template = found.is_template();
    let Found { node, vmid, settings, .. } = found;
    let target = &op.on(node, vmid);
    if marker::is_any_in(settings.written("description").unwrap_or_default()) {
        op.now(Holds::PartlyChanged);
        return finish::finish(target, m, settings, Begun::Earlier).await;
    }
    possible(op, prior, m, &settings).await?;
    op.now(Holds::PartlyChanged);
    let private = op.cx.private();
    let prior = slots::owned(prior, private);
    slots::begun(private);
    let status = target.calls().status().await?;
    let mut running = status.is_running();
    if status.is_paused() && m.started.is_true() {
        target.calls().resume().done_at_least_once().await?;
    }
    if running && m.started.get() == Some(&false) {
        // A guest that executes nothing cannot shut down.
        if status.is_paused() {
            target.stop().await?
        } else {
            shut_down(target).await?
        }
        running = false;
    }
    let gone = config::gone(&prior, m);
    let (before, grew) = sized(target, m, settings).await?;
    written(target, (&prior, m), before.clone(), &grew).await?;
    let refused = discard(target, &gone).await?;
    // No power cycle makes these go.
    let going = without_held(gone.clone(), private);
    if m.started.is_true() && !running && !template {
        started(target).await?;
    } else if running {
        reboot_if_needed(target, m, &going).await?;
    }
    let left = detached(target, &gone, &before).await?;
    slots::done(private, left);
    refused.map_or(Ok(()), |error| Err(error.into()))
}

/// Without the disks that stay until their snapshots go.
fn without_held(mut gone: Gone, private: &Private) -> Gone {
    let noted = Noted::of(private);
    gone.disks.retain(|slot| noted.held(slot) != Some(Held::Snapshot));
    gone
}

/// Refuses what the plan said cannot be, before anything is changed.
async fn possible(op: &Operation<'_>, prior: &Vm, m: &Vm, now: &Settings) -> Result<(), Error> {
    let mut wrong = Vec::new();
    for (slot, disk) in &disks::of(m) {
        let line = disks::line(now, slot).unwrap_or_default();
        if let Err(present) = disks::growth(disk, &line) {
            let said = format!("Disk {slot} has {present} GiB and cannot shrink to {} GiB.", disk.size_gib.or(0));
            let cure =
                format!("Set `size_gib` to {present} or more, or make the machine anew: `terraform apply -replace=…`.");
            wrong.push(Problem::new(said, cure).at(Path::from("disk").key(slot).name("size_gib")));
        }
    }
    if replace::to_another_node(prior, m) {
        let node = m.node.or("");
        let all = op.client.cluster().guests_now().await?;
        let online = all.nodes().iter().find(|(own, _)| own.as_str() == node).map(|(_, online)| *online);
        let why = no_node(&node, online, all.nodes().keys().map(pve::NodeName::as_str));
        let why = why.unwrap_or_else(|| format!("When this was planned, no machine could be made on node {node}."));
        let said = format!("Another `node` needs a new machine. {why}");
        wrong.push(Problem::new(said, "Correct `node`, or bring that node back, and plan again.").at("node"));
    }
    Error::if_any(wrong)
}

/// Grows disks first: a line that is written afterwards has the new size, also where it waits. Returns what is there now, and
/// which slots grew.
async fn sized(target: &Target<'_>, m: &Vm, now: Settings) -> Result<(Settings, Vec<String>), pve::Error> {
    let mut grew = Vec::new();
    for (slot, disk) in &disks::of(m) {
        let Some(line) = disks::line(&now, slot) else { continue };
        if let Ok(Some(bytes)) = disks::growth(disk, &line) {
            target.calls().resize(slot, bytes).done_at_least_once().await?;
            grew.push(slot.clone());
        }
    }
    if grew.is_empty() { Ok((now, grew)) } else { Ok((target.settings().await?, grew)) }
}

/// Writes what differs. `grew` are slots that have their size: where the record of it was lost, the line is written for its sake,
/// and Proxmox VE measures the volume.
async fn written(
    target: &Target<'_>,
    (prior, m): (&Vm, &Vm),
    now: Settings,
    grew: &[String],
) -> Result<(), pve::Error> {
    let delta = |now: &Settings| {
        let mut delta = config::delta(Some(prior), m, now);
        describe(m, now, &mut delta);
        for (slot, disk) in disks::of(m).iter().filter(|(slot, _)| grew.contains(slot)) {
            let line = disks::line(now, slot).filter(|line| matches!(disks::growth(disk, line), Ok(Some(_))));
            delta.set.extend(line.map(|line| (slot.clone(), disks::changed(&line, disk))));
        }
        delta
    };
    write::write(target, now, delta).await
}

/// Takes away the disks that are not in the model any more, with their volumes. What a running machine does not let go of waits; what a
/// snapshot uses stays, and keeps nothing else of the change: the refusal is given back.
async fn discard(target: &Target<'_>, gone: &Gone) -> Result<Option<pve::Error>, Error> {
    if gone.disks.is_empty() {
        return Ok(None);
    }
    let private = target.op.cx.private();
    let now = target.settings().await?;
    let noted = Noted::of(private);
    let again = |slot: &String| now.leaving(slot).is_some() && noted.held(slot) == Some(Held::Snapshot);
    let is_there = |slot: &&String| now.written(slot).is_some() || again(slot);
    let asked: Vec<String> = gone.disks.iter().filter(is_there).cloned().collect();
    if asked.is_empty() {
        return Ok(None);
    }
    let ended = match target.calls().discard(&asked).done_at_least_once().await {
        Err(error) if error.is(Class::HeldByGuest) => {
            let left = |now: &Settings| -> Vec<String> {
                asked.iter().filter(|slot| now.leaving(slot).is_some()).cloned().collect()
            };
            let again = |now: &Settings| {
                Some(left(now)).filter(|left| !left.is_empty()).map(|left| target.calls().discard(&left))
            };
            let waited = write::until_booted(target, error, again).await;
            noted::hold(private, asked.iter(), Held::Guest);
            waited
        }
        ended => ended.map(drop),
    };
    let after = target.settings().await?;
    let left = asked.iter().find(|slot| after.written(slot).is_some());
    match ended {
        Err(error) if error.is(Class::InUse) => {
            let said = error.to_string();
            let held = asked.iter().filter(|slot| after.leaving(slot).is_some() && said.contains(slot.as_str()));
            noted::hold(private, held, Held::Snapshot);
            Ok(Some(error))
        }
        // A plan that announced the reboot knew that the machine would not let go of it.
        Err(error) if left.is_some() || !announced::is(target.op.cx.private()) => Err(error.into()),
        _ => match left {
            None => Ok(None),
            Some(slot) => {
                let said = format!("Proxmox VE was asked to take disk {slot} away, and the VM still has it.");
                let cure = "Look at the VM's hardware in Proxmox VE, and apply again.";
                Err(Problem::new(said, cure).at(Path::from("disk").key(slot)).into())
            }
        },
    }
}

/// Destroys volumes that came out of a slot and were kept: Proxmox VE does that when nobody asked for the volume, too. Returns the
/// slots whose removal still waits.
async fn detached(target: &Target<'_>, gone: &Gone, before: &Settings) -> Result<BTreeSet<String>, pve::Error> {
    let all = gone.disks.iter().chain(&gone.cards);
    if all.clone().next().is_none() {
        return Ok(BTreeSet::new());
    }
    let now = target.settings().await?;
    let kept = disks::detached(&gone.disks, before, &now);
    if !kept.is_empty() {
        target.calls().discard(&kept).done_at_least_once().await?;
    }
    Ok(all.filter(|slot| now.leaving(slot).is_some()).cloned().collect())
}

fn describe(m: &Vm, now: &Settings, delta: &mut config::Delta) {
    let Some(text) = m.description.text().map(str::trim_end) else { return };
    if text == now.written("description").unwrap_or_default().trim_end() {
        return;
    }
    if text.is_empty() {
        delta.delete.push("description".to_owned());
    } else {
        delta.set.insert("description".to_owned(), text.to_owned());
    }
}

async fn shut_down(target: &Target<'_>) -> Result<(), pve::Error> {
    target.calls().shutdown(SHUTDOWN).done_at_least_once().await?;
    target.power(false).await
}

async fn started(target: &Target<'_>) -> Result<(), pve::Error> {
    target.op.now(Holds::Off);
    target.start().await?;
    target.op.now(Holds::PartlyChanged);
    Ok(())
}

/// The options of ours that wait, and the devices that are to go.
async fn waiting(target: &Target<'_>, m: &Vm, gone: &Gone) -> Result<Vec<String>, pve::Error> {
    let now = target.settings().await?;
    let mut waiting = config::ours(m, now.waiting());
    let leaving = gone.disks.iter().chain(&gone.cards).filter(|slot| now.leaving(slot).is_some());
    waiting.extend(leaving.cloned());
    Ok(waiting)
}

/// A power cycle by the API applies what waits. A guest that does not react is cut off.
async fn reboot_if_needed(target: &Target<'_>, m: &Vm, gone: &Gone) -> Result<(), Error> {
    let waits = waiting(target, m, gone).await?;
    if waits.is_empty() {
        return Ok(());
    }
    let op = target.op;
    if !m.reboot.is_true() || !announced::is(op.cx.private()) {
        op.cx.warn(needs_a_reboot(target, m, &waits));
        return Ok(());
    }
    op.cx.progress(&format!("rebooting VM {}", target.vmid));
    op.now(Holds::Cycling);
    match target.calls().reboot(SHUTDOWN).done().await {
        Ok(_) => back(target).await?,
        // A second reboot is no second look: what waits tells whether the first was made.
        Err(error) if error.outcome_unknown() => cycled(target, m, gone, error).await?,
        Err(pve::Error::Task(_)) => {
            shut_down(target).await?;
            started(target).await?;
        }
        Err(error) => return Err(error.into()),
    }
    op.now(Holds::PartlyChanged);
    let still = waiting(target, m, gone).await?;
    if !still.is_empty() {
        let said = format!("Proxmox VE did not apply with the power cycle: {}.", still.join(", "));
        let cure = "See the VM's last tasks in Proxmox VE for the reason, remove it, and apply again.";
        return Err(Problem::new(said, cure).into());
    }
    agent_answers(target, m).await
}

fn needs_a_reboot(target: &Target<'_>, m: &Vm, waits: &[String]) -> Diagnostic {
    let next = if m.reboot.is_true() {
        "The plan announced no reboot, so none was made: the next one does. Or reboot the VM in Proxmox VE when it suits."
    } else {
        "Reboot the VM in Proxmox VE when it suits, or set `reboot = true`."
    };
    Diagnostic::warning(format!("VM {} needs a reboot", target.vmid))
        .happened(format!(
            "Written, and waiting for the next power cycle by Proxmox VE: {}. A reboot inside the guest is not one.",
            waits.join(", ")
        ))
        .next(next)
}

/// The task of a reboot ends when the VM is off, and ends well even if it stays off: the host starts it by a task of its own, that
/// nobody tells us of. If it does not, we start it, and get the reason.
async fn back(target: &Target<'_>) -> Result<(), Error> {
    let patience = Instant::now() + HOST_STARTS;
    while !target.is_running().await? {
        if Instant::now() > patience {
            target.op.cx.progress(&format!("VM {} did not come back; starting it", target.vmid));
            return Ok(started(target).await?);
        }
        target.op.pause(Duration::from_millis(500), "the VM to come back").await?;
    }
    Ok(())
}

/// Whether the reboot whose answer was lost is made: nothing waits any more then.
async fn cycled(target: &Target<'_>, m: &Vm, gone: &Gone, lost: pve::Error) -> Result<(), Error> {
    let patience = Instant::now() + Duration::from_secs(SHUTDOWN) + HOST_STARTS;
    while !waiting(target, m, gone).await?.is_empty() {
        if Instant::now() > patience {
            return Err(lost.into());
        }
        target.op.pause(Duration::from_secs(1), "the reboot whose answer was lost").await?;
    }
    back(target).await
}

/// What depends on the machine should find it up.
async fn agent_answers(target: &Target<'_>, m: &Vm) -> Result<(), Error> {
    let (Some(endpoint), Some(uuid)) = (m.endpoint.get(), m.uuid.text()) else { return Ok(()) };
    let (op, address) = (target.op, endpoint.address.or(""));
    let patience = Instant::now() + BOOT;
    while let Err(error) = op.cx.agents.identify(&address, uuid, &op.until()).await {
        if Instant::now() > patience {
            let warning =
                Diagnostic::warning(format!("The agent of VM {} does not answer after the reboot", m.name.or("")))
                    .happened(error.to_string())
                    .next("Look at the machine's console.");
            op.cx.warn(warning);
            return Ok(());
        }
        op.pause(Duration::from_secs(1), "the agent to answer again").await?;
    }
    Ok(())
}

const SHUTDOWN: u64 = 120;
/// A host starts a VM about a second after it went off; a busy one takes longer.
const HOST_STARTS: Duration = Duration::from_secs(6);
const BOOT: Duration = Duration::from_secs(10 * 60);
