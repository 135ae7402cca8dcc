//! Changing a VM in place: refuse what cannot be, grow, write, read what waits, reboot only if something waits, the plan announced it
//! and `reboot` allows it.

use std::collections::BTreeSet;
use std::time::Duration;

use pve::Settings;
use tf::{Diagnostic, Diagnostics, Path};

use super::config::{self, Gone};
use super::finish::{self, Begun, Place, is_running, machine, read};
use super::locate::{self, Found};
use super::model::Vm;
use super::noted::no_node;
use super::site::{Site, UPDATE};
use super::{announced, disks, marker, replace, slots};
use crate::context::Cx;
use crate::timeouts::Limit;

/// Makes the VM what the model says.
pub(super) async fn update(cx: &Cx, prior: &Vm, m: &mut Vm) -> Result<(), Diagnostics> {
    let Some(found) = locate::find(cx, prior).await? else {
        let gone = Diagnostic::error(format!("Cannot change VM {}", prior.id.or("")))
            .happened("The VM is gone since the plan was made.")
            .next("Plan again.");
        return Err(gone.into());
    };
    let limit = Limit::of("update", m.timeouts.get().map(|timeouts| &timeouts.update), UPDATE);
    let site = Site::new(cx, format!("change VM {} on node {}", found.vmid, found.node), limit, PARTLY)?;
    if marker::is_any_in(found.settings.written("description").unwrap_or_default()) {
        return finish::finish(&site, m, found, Begun::Earlier).await;
    }
    possible(&site, prior, m, &found).await?;
    let place = (found.node, found.vmid);
    let prior = slots::owned(prior, cx.private());
    slots::begun(cx.private());
    let mut running = is_running(&site, m, &place).await?;
    if running && m.started.get() == Some(&false) {
        shut_down(&site, m, &place).await?;
        running = false;
    }
    let gone = config::gone(&prior, m);
    let (before, grew) = sized(&site, m, &place, found.settings).await?;
    written(&site, (&prior, m), &place, (before.clone(), &grew)).await?;
    discard(&site, (m, &gone), &place).await?;
    if m.started.is_true() && !running {
        started(&site, m, &place).await?;
    } else if running {
        reboot_if_needed(&site, (m, &gone), &place).await?;
    }
    let left = detached(&site, (m, &gone), &place, &before).await?;
    slots::done(cx.private(), left);
    Ok(())
}

/// Refuses what the plan said cannot be, before anything is changed.
async fn possible(site: &Site<'_>, prior: &Vm, m: &Vm, found: &Found) -> Result<(), Diagnostics> {
    let mut wrong = Diagnostics::new();
    for (slot, disk) in &disks::of(m) {
        let line = disks::line(&found.settings, slot).unwrap_or_default();
        if let Err(present) = disks::growth(disk, &line) {
            let at = Path::from("disk").key(slot).name("size_gib");
            let said = format!("Disk {slot} has {present} GiB and cannot shrink to {} GiB.", disk.size_gib.or(0));
            let cure =
                format!("Set `size_gib` to {present} or more, or make the machine anew: `terraform apply -replace=…`.");
            wrong.push(site.error(said).holds(NOTHING).next(cure).at(at));
        }
    }
    if replace::to_another_node(prior, m) {
        let node = m.node.or("");
        let all = site.client.cluster().guests_now().await.map_err(|error| site.failed(m, &error, NOTHING))?;
        let online = all.nodes().iter().find(|(own, _)| own.as_str() == node).map(|(_, online)| *online);
        let why = no_node(&node, online, all.nodes().keys().map(pve::NodeName::as_str));
        let why = why.unwrap_or_else(|| format!("When this was planned, no machine could be made on node {node}."));
        let said = format!("Another `node` needs a new machine. {why}");
        wrong.push(
            site.error(said).holds(NOTHING).next("Correct `node`, or bring that node back, and plan again.").at("node"),
        );
    }
    if wrong.has_errors() { Err(wrong) } else { Ok(()) }
}

/// Grows disks first: a line that is written afterwards has the new size, also where it waits. Returns what is there now, and
/// which slots grew.
async fn sized(site: &Site<'_>, m: &Vm, place: &Place, now: Settings) -> Result<(Settings, Vec<String>), Diagnostics> {
    let mut grew = Vec::new();
    for (slot, disk) in &disks::of(m) {
        let Some(line) = disks::line(&now, slot) else { continue };
        if let Ok(Some(bytes)) = disks::growth(disk, &line) {
            let ended = machine(site, place).resize(slot, bytes).done().await;
            ended.map_err(|error| site.failed(m, &error, PARTLY))?;
            grew.push(slot.clone());
        }
    }
    if grew.is_empty() { Ok((now, grew)) } else { Ok((read(site, m, place).await?, grew)) }
}

/// Writes what differs. `grew` are slots that have their size: where the record of it was lost, the line is written for its sake,
/// and Proxmox VE measures the volume.
async fn written(
    site: &Site<'_>,
    (prior, m): (&Vm, &Vm),
    place: &Place,
    (now, grew): (Settings, &[String]),
) -> Result<(), Diagnostics> {
    let delta = |now: &Settings| {
        let mut delta = config::delta(Some(prior), m, now);
        describe(m, now, &mut delta);
        for (slot, disk) in disks::of(m).iter().filter(|(slot, _)| grew.contains(slot)) {
            let line = disks::line(now, slot).filter(|line| matches!(disks::growth(disk, line), Ok(Some(_))));
            delta.set.extend(line.map(|line| (slot.clone(), disks::changed(&line, disk))));
        }
        delta
    };
    finish::write(site, m, (place, PARTLY), now, delta).await.map(|_| ())
}

/// Takes away the disks that are not in the model any more, with their volumes. What a running machine does not let go of waits.
async fn discard(site: &Site<'_>, (m, gone): (&Vm, &Gone), place: &Place) -> Result<(), Diagnostics> {
    if gone.disks.is_empty() {
        return Ok(());
    }
    let now = read(site, m, place).await?;
    let asked: Vec<String> = gone.disks.iter().filter(|slot| now.written(slot).is_some()).cloned().collect();
    if asked.is_empty() {
        return Ok(());
    }
    let ended = machine(site, place).discard(&asked).done().await;
    let after = read(site, m, place).await?;
    let left = asked.iter().find(|slot| after.written(slot).is_some());
    match ended {
        // A plan that announced the reboot knew that the machine would not let go of it.
        Err(error) if left.is_some() || !announced::is(site.cx.private()) => Err(site.failed(m, &error, PARTLY).into()),
        _ => match left {
            None => Ok(()),
            Some(slot) => {
                let said = format!("Proxmox VE was asked to take disk {slot} away, and the VM still has it.");
                let cure = "Look at the VM's hardware in Proxmox VE, and apply again.";
                Err(site.error(said).holds(PARTLY).next(cure).at(Path::from("disk").key(slot)).into())
            }
        },
    }
}

/// Destroys volumes that came out of a slot and were kept: Proxmox VE does that when nobody asked for the volume, too. Returns the
/// slots whose removal still waits.
async fn detached(
    site: &Site<'_>,
    (m, gone): (&Vm, &Gone),
    place: &Place,
    before: &Settings,
) -> Result<BTreeSet<String>, Diagnostics> {
    let all = gone.disks.iter().chain(&gone.cards);
    if all.clone().next().is_none() {
        return Ok(BTreeSet::new());
    }
    let now = read(site, m, place).await?;
    let kept = disks::detached(&gone.disks, before, &now);
    if !kept.is_empty() {
        machine(site, place).discard(&kept).done().await.map_err(|error| site.failed(m, &error, PARTLY))?;
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

async fn shut_down(site: &Site<'_>, m: &Vm, place: &Place) -> Result<(), Diagnostics> {
    let failed = |error: pve::Error| site.failed(m, &error, PARTLY);
    let machine = machine(site, place);
    machine.shutdown(SHUTDOWN).done().await.map_err(failed)?;
    site.power(place, false).await.map_err(failed)?;
    Ok(())
}

async fn started(site: &Site<'_>, m: &Vm, place: &Place) -> Result<(), Diagnostics> {
    let ended = async {
        machine(site, place).start().done().await?;
        site.power(place, true).await
    };
    match ended.await {
        // The host was a moment faster.
        Err(error) if is_running(site, m, place).await.unwrap_or_default() => {
            tracing::debug!(error = %error, "the VM runs already");
            Ok(())
        }
        ended => ended.map_err(|error| site.failed(m, &error, OFF).into()),
    }
}

/// The options of ours that wait, and the devices that are to go.
async fn waiting(site: &Site<'_>, (m, gone): (&Vm, &Gone), place: &Place) -> Result<Vec<String>, Diagnostics> {
    let now = read(site, m, place).await?;
    let mut waiting = config::ours(m, now.waiting());
    let leaving = gone.disks.iter().chain(&gone.cards).filter(|slot| now.leaving(slot).is_some());
    waiting.extend(leaving.cloned());
    Ok(waiting)
}

/// A power cycle by the API applies what waits. A guest that does not react is cut off.
async fn reboot_if_needed(site: &Site<'_>, what: (&Vm, &Gone), place: &Place) -> Result<(), Diagnostics> {
    let waits = waiting(site, what, place).await?;
    if waits.is_empty() {
        return Ok(());
    }
    let m = what.0;
    let announced = announced::is(site.cx.private());
    if !m.reboot.is_true() || !announced {
        let next = match m.reboot.is_true() {
            true => {
                "The plan announced no reboot, so none was made: the next one does. Or reboot the VM in Proxmox VE when it suits."
            }
            false => "Reboot the VM in Proxmox VE when it suits, or set `reboot = true`.",
        };
        let warning = Diagnostic::warning(format!("VM {} needs a reboot", place.1))
            .happened(format!("Written, and waiting for the next power cycle by Proxmox VE: {}. A reboot inside the guest is not one.", waits.join(", ")))
            .next(next);
        site.cx.warn(warning);
        return Ok(());
    }
    site.cx.progress(&format!("rebooting VM {}", place.1));
    let rebooted = machine(site, place).reboot(SHUTDOWN).done().await;
    match rebooted {
        Ok(_) => back(site, m, place).await?,
        Err(pve::Error::Task(_)) => {
            shut_down(site, m, place).await?;
            started(site, m, place).await?;
        }
        Err(error) => return Err(site.failed(m, &error, CHANGED).into()),
    }
    let still = waiting(site, what, place).await?;
    if !still.is_empty() {
        let said = format!("Proxmox VE did not apply with the power cycle: {}.", still.join(", "));
        let cure = "See the VM's last tasks in Proxmox VE for the reason, remove it, and apply again.";
        return Err(site.error(said).holds(PARTLY).next(cure).into());
    }
    agent_answers(site, m).await
}

/// The task of a reboot ends when the VM is off, and ends well even if it stays off: the host starts it by a task of its own, that
/// nobody tells us of. If it does not, we start it, and get the reason.
async fn back(site: &Site<'_>, m: &Vm, place: &Place) -> Result<(), Diagnostics> {
    let patience = tokio::time::Instant::now() + HOST_STARTS;
    while !is_running(site, m, place).await? {
        if tokio::time::Instant::now() > patience {
            site.cx.progress(&format!("VM {} did not come back; starting it", place.1));
            return started(site, m, place).await;
        }
        site.pause(Duration::from_millis(500), "the VM to come back").await?;
    }
    Ok(())
}

/// What depends on the machine should find it up.
async fn agent_answers(site: &Site<'_>, m: &Vm) -> Result<(), Diagnostics> {
    let (Some(endpoint), Some(uuid)) = (m.endpoint.get(), m.uuid.text()) else { return Ok(()) };
    let address = endpoint.address.or("");
    let patience = tokio::time::Instant::now() + BOOT;
    while let Err(error) = site.cx.agents.identify(&address, uuid, &site.until()).await {
        if tokio::time::Instant::now() > patience {
            let warning =
                Diagnostic::warning(format!("The agent of VM {} does not answer after the reboot", m.name.or("")))
                    .happened(error.to_string())
                    .next("Look at the machine's console.");
            site.cx.warn(warning);
            return Ok(());
        }
        site.pause(Duration::from_secs(1), "the agent to answer again").await?;
    }
    Ok(())
}

const SHUTDOWN: u64 = 120;
/// A host starts a VM about a second after it went off; a busy one takes longer.
const HOST_STARTS: Duration = Duration::from_secs(6);
const BOOT: Duration = Duration::from_secs(10 * 60);
const PARTLY: &str = "The VM exists; some of the changes may have been made. The next plan shows which are missing.";
const CHANGED: &str = "The changes were written; the VM is off or still runs with the old values.";
const OFF: &str = "The changes were written, and the VM is off; the next apply starts it.";
const NOTHING: &str = "Nothing was changed.";
