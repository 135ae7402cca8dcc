//! The second part of a creation, which can be repeated from any point: options, sizes, seed, start, enrolment, and the mark
//! comes off last.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pve::{Class, Error, NodeName, Settings, Vm as Machine, Vmid};
use tf::{Diagnostic, Diagnostics, Path};

use super::config::{self, Seen};
use super::create::recorded_addresses;
use super::locate::Found;
use super::model::{AgentEndpoint, Vm};
use super::seeding;
use super::site::Site;
use super::{disks, fill, first_boot, noted, probe, slots};
use crate::agents::{Endpoint, Error as AgentError};

/// When the creation was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    Now,
    /// By a run that was interrupted: look before doing anything again.
    Earlier,
}

/// Completes a VM that carries the mark.
pub(super) async fn finish(site: &Site<'_>, m: &mut Vm, found: Found, begun: Begun) -> Result<(), Diagnostics> {
    let place = (found.node.clone(), found.vmid);
    m.uuid.put(Seen(&found.settings).uuid());
    let (mut settings, written) = configured(site, m, &place, found.settings).await?;
    let grown = grown(site, m, &place, &settings).await?;
    // What was made a moment ago is off.
    let running = begun == Begun::Earlier && is_running(site, m, &place).await?;
    let enrolled = if running { already_enrolled(site, m, &place).await? } else { None };
    let mut attached = seeding::attached(place.1, &settings);
    let mut pending = None;
    if enrolled.is_none() && seeding::is_wanted(m) {
        let (seed, enrolment) = seeding::attach(site, m, &place, &settings).await?;
        attached = Some(seed);
        pending = enrolment;
        settings = read(site, m, &place).await?;
    }
    let again = running && pending.is_some();
    start(site, m, &place, if again { Power::Again } else { Power::of(running) }).await?;
    addresses(site, m, &place, &settings).await?;
    if let Some(endpoint) = enrolled {
        keep(m, &endpoint);
    } else if let Some(pending) = pending {
        let address = agent_address(site, m)?;
        site.cx.progress(&format!("VM {} starts; waiting for its agent at {address}", found.vmid));
        let progress = |line: &str| site.cx.progress(line);
        let ended = site.cx.agents.enrol(&address, &pending, &site.wait(&progress)).await;
        keep(m, &ended.map_err(|error| site.not_enrolled(found.vmid, &error))?);
    }
    if m.endpoint.is_known()
        && let Some(attached) = attached
    {
        seeding::remove(site, m, &place, (&attached, site.holds)).await?;
    }
    // A run that was cut off after it ejected the seed, or before it attached one, left an image behind.
    if m.endpoint.is_known() && begun == Begun::Earlier {
        let uuid = m.uuid.cloned().unwrap_or_default();
        seeding::remove_all(site, m, &place, (&uuid, site.holds)).await?;
    }
    let failed = match endpoint(m) {
        Some(endpoint) => first_boot::judged(site, m, found.vmid, &endpoint).await?,
        None => None,
    };
    unmark(site, m, &place).await?;
    // What was read is still so: nothing but the mark was written since. Otherwise the framework reads once more.
    if begun == Begun::Now && !written && !grown && !seeding::is_wanted(m) {
        m.vmid.set(i64::from(place.1.get()));
        m.current_node.set(place.0.to_string());
        fill::fill(m, &settings, &slots::ours(site.cx.private()));
        if let Some((seen, _)) = site.client.cluster().guests_known() {
            noted::note(site.cx.private(), &settings, seen.nodes());
        }
        site.cx.filled();
    }
    failed.map_or(Ok(()), |failed| Err(failed.into()))
}

/// Writes what the create call could not say: everything for a clone, little otherwise. Says whether anything was written.
async fn configured(site: &Site<'_>, m: &Vm, place: &Place, now: Settings) -> Result<(Settings, bool), Diagnostics> {
    let delta = |now: &Settings| {
        let mut delta = config::delta(None, m, now);
        for (key, value) in recorded_addresses(m.cloud_init.get()).iter() {
            if now.written(key) != Some(value) {
                delta.set.insert(key.to_owned(), value.to_owned());
            }
        }
        delta
    };
    if delta(&now).is_empty() {
        return Ok((now, false));
    }
    write(site, m, (place, site.holds), now, delta).await?;
    Ok((read(site, m, place).await?, true))
}

/// Writes what `delta` finds missing. Bound to what was read, so that a call which is repeated makes no disk twice, and nobody
/// else's change is lost: then it looks again and decides anew. Returns what was read last, before the write.
pub(super) async fn write(
    site: &Site<'_>,
    m: &Vm,
    (place, holds): (&Place, &str),
    mut now: Settings,
    delta: impl Fn(&Settings) -> config::Delta,
) -> Result<Settings, Diagnostics> {
    let mut attempt = 1;
    loop {
        let delta = delta(&now);
        if delta.is_empty() {
            return Ok(now);
        }
        let (params, machine) = (delta.params(), machine(site, place));
        match machine.configure(&params, &delta.delete, now.digest()).done().await {
            Ok(_) => return Ok(now),
            Err(error) if error.is(Class::Conflict) && attempt < 4 => now = read(site, m, place).await?,
            Err(error) => return Err(site.failed(m, &error, holds).into()),
        }
        attempt += 1;
    }
}

/// Grows disks to the size the model gives; says whether any had to.
pub(super) async fn grown(site: &Site<'_>, m: &Vm, place: &Place, now: &Settings) -> Result<bool, Diagnostics> {
    let mut any = false;
    for (slot, disk) in &disks::of(m) {
        let Some(present) = now.written(slot) else { continue };
        match disks::growth(disk, present) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                let machine = machine(site, place);
                let ended = machine.resize(slot, bytes).done().await;
                ended.map_err(|error| site.failed(m, &error, site.holds))?;
                any = true;
            }
            Err(present) => {
                let at = Path::from("disk").key(slot).name("size_gib");
                let said = format!(
                    "Disk {slot} has {present} GiB, as its image or template does, and cannot shrink to {} GiB.",
                    disk.size_gib.or(0)
                );
                let cure = format!("Set `size_gib` to {present} or more, or leave it out.");
                return Err(site.error(said).holds(site.holds).next(cure).at(at).into());
            }
        }
    }
    Ok(any)
}

/// The endpoint of an agent that an interrupted run has enrolled.
async fn already_enrolled(site: &Site<'_>, m: &Vm, place: &Place) -> Result<Option<Endpoint>, Diagnostics> {
    let (Some(_), Some(uuid)) = (m.agent.get(), m.uuid.text()) else { return Ok(None) };
    let Ok(address) = agent_address(site, m) else { return Ok(None) };
    match site.cx.agents.identify(&address, uuid, &site.until()).await {
        Ok(endpoint) => Ok(Some(endpoint)),
        Err(AgentError::OtherMachine { .. }) => {
            let said = format!("The address {address} of VM {} belongs to another machine.", place.1);
            Err(site
                .error(said)
                .holds(site.holds)
                .next("Give each machine an address of its own.")
                .at("cloud_init")
                .into())
        }
        Err(error) => {
            site.cx.progress(&format!("VM {} is not enrolled yet: {error}", place.1));
            Ok(None)
        }
    }
}

/// How a machine stands before it is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Off,
    On,
    /// It runs, and must take up something new.
    Again,
}

impl Power {
    const fn of(running: bool) -> Self {
        if running { Self::On } else { Self::Off }
    }
}

/// Starts the machine; one that is to start again is cut off first, so that it takes up everything that is new.
async fn start(site: &Site<'_>, m: &Vm, place: &Place, power: Power) -> Result<(), Diagnostics> {
    let failed = |error: Error| site.failed(m, &error, site.holds);
    let machine = machine(site, place);
    if !m.started.is_true() || power == Power::On {
        return Ok(());
    }
    if power == Power::Again {
        machine.stop().done().await.map_err(failed)?;
        site.power(place, false).await.map_err(failed)?;
    }
    machine.start().done().await.map_err(failed)?;
    // High availability may have the machine's number from an earlier one: its task ends when a start was asked for.
    site.power(place, true).await.map_err(failed)?;
    Ok(())
}

/// The static addresses, or what the guest agent says.
async fn addresses(site: &Site<'_>, m: &mut Vm, place: &Place, now: &Settings) -> Result<(), Diagnostics> {
    let statics = m.cloud_init.get().map(probe::statics).unwrap_or_default();
    let mut all: Vec<String> = statics.iter().map(|(_, address)| address.to_string()).collect();
    if all.is_empty() && m.guest_agent.is_true() && m.started.is_true() {
        all = told(site, m, place, now).await?;
        if all.is_empty() && m.agent.is_null() {
            site.cx.warn(silent(m));
        }
    }
    m.addresses.set(all);
    Ok(())
}

/// Addresses of the VM's own cards from its guest agent, once it has any. An image without the agent costs a warning.
async fn told(site: &Site<'_>, m: &Vm, place: &Place, now: &Settings) -> Result<Vec<String>, Diagnostics> {
    let now_is = tokio::time::Instant::now;
    let patience = now_is() + if m.agent.is_known() { AGENT_PATIENCE * 5 } else { AGENT_PATIENCE };
    let mut settled = None;
    loop {
        let asked = asked(&machine(site, place), now).await;
        let all = match asked {
            Err(error) if error.is(Class::Rights) => return Err(site.failed(m, &error, site.holds).into()),
            asked => asked.unwrap_or_default(),
        };
        let has_v4 = all.iter().any(|address| !address.contains(':'));
        // IPv6 configures itself before a DHCP server has answered.
        let waits = !all.is_empty() && now_is() < *settled.get_or_insert(now_is() + DHCP_PATIENCE);
        if has_v4 || (!all.is_empty() && !waits) || now_is() > patience {
            return Ok(all);
        }
        site.pause(Duration::from_secs(2), "the guest agent's first answer").await?;
    }
}

/// What the guest agent says at this moment, IPv4 first: that is what most networks route.
pub(super) async fn asked(machine: &Machine<'_>, now: &Settings) -> Result<Vec<String>, Error> {
    let macs: Vec<String> = disks::card_slots(now)
        .iter()
        .filter_map(|slot| pve::Net::parse(now.current(slot)?).mac().map(str::to_lowercase))
        .collect();
    let said = machine.agent_interfaces().await?;
    let own = said.iter().filter(|card| card.mac.as_deref().is_some_and(|mac| macs.contains(&mac.to_lowercase())));
    let mut all: Vec<IpAddr> = own.flat_map(pve::AgentInterface::addresses).filter(usable).collect();
    all.sort_by_key(IpAddr::is_ipv6);
    Ok(all.iter().map(IpAddr::to_string).collect())
}

fn silent(m: &Vm) -> Diagnostic {
    Diagnostic::warning(format!("VM {} has told no address", m.name.or("")))
        .happened("Its guest agent did not answer in time, or knew no address of the VM's own cards.")
        .holds("The VM runs; `addresses` is empty until a later refresh finds some.")
        .next("See that the image carries qemu-guest-agent and gets an address, or set `guest_agent = false`.")
        .at("guest_agent")
}

fn usable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

/// Where the agent will answer.
pub(super) fn agent_address(site: &Site<'_>, m: &Vm) -> Result<String, Diagnostics> {
    let agent = m.agent.cloned().unwrap_or_default();
    let statics = m.cloud_init.get().map(probe::statics).unwrap_or_default();
    let known = m.addresses.get().and_then(|all| all.first()?.parse().ok());
    let given = agent.address.text().and_then(|text| text.parse().ok());
    let address: Option<IpAddr> = given.or_else(|| statics.first().map(|(_, address)| *address)).or(known);
    let port = agent.port.get().and_then(|port| u16::try_from(*port).ok()).unwrap_or(trust::PORT);
    let address = address.map(|address| SocketAddr::new(address, port).to_string());
    address.ok_or_else(|| {
        let cure = "Give a static `address` in `cloud_init.network`, or use an image that carries QEMU's guest agent.";
        site.error("The machine has no address that anybody knows.").holds(site.holds).next(cure).at("agent").into()
    })
}

fn endpoint(m: &Vm) -> Option<Endpoint> {
    let AgentEndpoint { address, fingerprint } = m.endpoint.get()?;
    Some(Endpoint { address: address.cloned()?, fingerprint: fingerprint.cloned()? })
}

fn keep(m: &mut Vm, endpoint: &Endpoint) {
    m.endpoint.set(AgentEndpoint {
        address: endpoint.address.clone().into(),
        fingerprint: endpoint.fingerprint.clone().into(),
    });
}

/// The last act: the description becomes the user's. It neither plugs nor allocates anything, so it needs no task; and it may be said
/// twice.
async fn unmark(site: &Site<'_>, m: &Vm, place: &Place) -> Result<(), Diagnostics> {
    let description = m.description.text().map(str::trim_end).unwrap_or_default();
    let (params, delete) = match description {
        "" => (pve::Params::new(), vec!["description".to_owned()]),
        text => (pve::Params::new().with("description", text), Vec::new()),
    };
    let machine = machine(site, place);
    let ended = match machine.configure_now(&params, &delete, None).await {
        Err(error) if error.outcome_unknown() => machine.configure_now(&params, &delete, None).await,
        ended => ended,
    };
    ended.map_err(|error| site.failed(m, &error, site.holds).into())
}

pub(super) async fn read(site: &Site<'_>, m: &Vm, place: &Place) -> Result<Settings, Diagnostics> {
    let settings = machine(site, place).pending().await;
    settings.map_err(|error| site.failed(m, &error, site.holds).into())
}

pub(super) async fn is_running(site: &Site<'_>, m: &Vm, place: &Place) -> Result<bool, Diagnostics> {
    let status = machine(site, place).status().await;
    status.map(|status| status.is_running()).map_err(|error: Error| site.failed(m, &error, site.holds).into())
}

/// Calls about the VM.
pub(super) fn machine<'s>(site: &'s Site<'_>, (node, vmid): &'s Place) -> Machine<'s> {
    site.client.vm(node, *vmid)
}

/// Node and number of a VM.
pub(super) type Place = (NodeName, Vmid);

const AGENT_PATIENCE: Duration = Duration::from_secs(60);
const DHCP_PATIENCE: Duration = Duration::from_secs(10);
