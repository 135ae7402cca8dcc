//! Changing a VM in place: write, read what waits, reboot only if something waits and `reboot` allows it.

use std::time::Duration;

use pve::Settings;
use tf::{Diagnostic, Diagnostics, Path};

use super::config;
use super::disks;
use super::finish::{self, Begun, Place, grown, is_running, machine, read};
use super::locate;
use super::marker;
use super::model::Vm;
use super::site::{Site, UPDATE};
use super::slots;
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
    let place = (found.node, found.vmid);
    let prior = slots::owned(prior, cx.private());
    slots::begun(cx.private());
    let mut running = is_running(&site, m, &place).await?;
    if running && m.started.get() == Some(&false) {
        shut_down(&site, m, &place).await?;
        running = false;
    }
    let settings = written(&site, (&prior, m), &place, found.settings).await?;
    grown(&site, m, &place, &settings).await?;
    if m.started.is_true() && !running {
        started(&site, m, &place).await?;
    } else if running {
        reboot_if_needed(&site, m, &place).await?;
    }
    slots::done(cx.private());
    Ok(())
}

/// Writes what differs; drives that are not ours any more go with their volumes.
async fn written(
    site: &Site<'_>,
    (prior, m): (&Vm, &Vm),
    place: &Place,
    now: Settings,
) -> Result<Settings, Diagnostics> {
    let delta = |now: &Settings| {
        let mut delta = config::delta(Some(prior), m, now);
        describe(m, now, &mut delta);
        delta
    };
    let now = finish::write(site, m, (place, PARTLY), now, delta).await?;
    discard(site, (prior, m), place, &now).await?;
    read(site, m, place).await
}

/// Destroys the disks that are not in the model any more.
async fn discard(site: &Site<'_>, (prior, m): (&Vm, &Vm), place: &Place, now: &Settings) -> Result<(), Diagnostics> {
    let there = |slot: &String| now.written(slot).is_some();
    let gone: Vec<String> = config::gone(prior, m).disks.into_iter().filter(there).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let failed = |error: pve::Error| site.failed(m, &error, PARTLY);
    let machine = machine(site, place);
    machine.discard(&gone).done().await.map_err(failed)?;
    let after = read(site, m, place).await?;
    if let Some(slot) = gone.iter().find(|slot| after.written(slot).is_some()) {
        let said = format!("Proxmox VE was asked to take disk {slot} away, and the VM still has it.");
        let cure = "Look at the VM's hardware in Proxmox VE, and apply again.";
        return Err(site.error(said).holds(PARTLY).next(cure).at(Path::from("disks").key(slot)).into());
    }
    let kept = disks::detached(&gone, now, &after);
    if !kept.is_empty() {
        machine.discard(&kept).done().await.map_err(failed)?;
    }
    Ok(())
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
    let failed = |error: pve::Error| site.failed(m, &error, CHANGED);
    let machine = machine(site, place);
    machine.start().done().await.map_err(failed)?;
    site.power(place, true).await.map_err(failed)?;
    Ok(())
}

/// A power cycle by the API applies what waits. A guest that does not react is cut off.
async fn reboot_if_needed(site: &Site<'_>, m: &Vm, place: &Place) -> Result<(), Diagnostics> {
    let waiting = config::ours(m, read(site, m, place).await?.waiting());
    if waiting.is_empty() {
        return Ok(());
    }
    if !m.reboot.is_true() {
        let warning = Diagnostic::warning(format!("VM {} needs a reboot", place.1))
            .happened(format!("Written, and waiting for the next power cycle by Proxmox VE: {}. A reboot inside the guest is not one.", waiting.join(", ")))
            .next("Reboot the VM in Proxmox VE when it suits, or set `reboot = true`.");
        site.cx.warn(warning);
        return Ok(());
    }
    site.cx.progress(&format!("rebooting VM {}", place.1));
    let machine = machine(site, place);
    let rebooted = machine.reboot(SHUTDOWN).done().await;
    match rebooted {
        Ok(_) => back(site, m, place).await?,
        Err(pve::Error::Task(_)) => {
            shut_down(site, m, place).await?;
            started(site, m, place).await?;
        }
        Err(error) => return Err(site.failed(m, &error, CHANGED).into()),
    }
    agent_answers(site, m).await
}

/// The task of a reboot ends when the VM is off: it is back when it runs and nothing waits any more.
async fn back(site: &Site<'_>, m: &Vm, place: &Place) -> Result<(), Diagnostics> {
    loop {
        let applied = config::ours(m, read(site, m, place).await?.waiting()).is_empty();
        if applied && is_running(site, m, place).await? {
            return Ok(());
        }
        site.pause(Duration::from_millis(500), "the VM to come back").await?;
    }
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
const BOOT: Duration = Duration::from_secs(10 * 60);
const PARTLY: &str = "The VM exists; some of the changes may have been made. The next plan shows which are missing.";
const CHANGED: &str = "The changes were written; the VM is off or still runs with the old values.";
