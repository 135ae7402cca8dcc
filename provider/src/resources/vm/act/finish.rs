//! The second part of a creation, which can be repeated from any point: options, sizes, seed, start, enrolment, and the mark
//! comes off last.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pve::{Class, Settings};
use tf::Diagnostic;
use tokio::time::Instant;

use super::error::{Error, Problem};
use super::holds::Holds;
use super::operation::Target;
use super::seeding::{self, Attached};
use super::{clone, first_boot, watch, write};
use crate::agents::{self, Endpoint, PendingEnrolment, Wait};
use crate::endpoint::AgentEndpoint;
use crate::resources::vm::config;
use crate::resources::vm::model::Vm;
use crate::resources::vm::notes::{noted, slots};
use crate::resources::vm::{addresses, disks, fill};

/// When the creation was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    Now,
    /// By a run that was interrupted: look before doing anything again.
    Earlier,
}

/// Completes a VM that carries the mark. `found` is what it has.
pub(super) async fn finish(target: &Target<'_>, m: &mut Vm, found: Settings, begun: Begun) -> Result<(), Error> {
    m.uuid.put(config::uuid(&found));
    let (mut settings, written) = configured(target, m, found).await?;
    let grown = grown(target, m, &settings).await?;
    // What was made a moment ago is off.
    let running = begun == Begun::Earlier && target.is_running().await?;
    let enrolled = if running { already_enrolled(target, m, &settings).await? } else { None };
    let mut attached = seeding::attached(target.vmid, &settings);
    let mut pending = None;
    if enrolled.is_none() && m.is_seeded() {
        let (seed, enrolment) = seeding::attach(target, m, &settings).await?;
        attached = Some(seed);
        pending = enrolment;
        settings = target.settings().await?;
    }
    let again = running && pending.is_some();
    start(target, m, if again { Power::Again } else { Power::of(running) }).await?;
    find_addresses(target, m, &settings).await?;
    enrol(target, m, &settings, (enrolled, pending)).await?;
    unseed(target, m, attached, begun).await?;
    let failed = match endpoint(m) {
        Some(endpoint) => first_boot::judged(target, m, &endpoint).await?,
        None => None,
    };
    unmark(target, m).await?;
    // What was read is still so: nothing but the mark was written since. Otherwise the framework reads once more.
    if begun == Begun::Now && !written && !grown && !m.is_seeded() {
        filled(target, m, &settings);
    }
    match failed {
        None => Ok(()),
        Some(problem) => {
            target.op.now(Holds::BadFirstBoot);
            Err(problem.into())
        }
    }
}

/// Writes what the create call could not say: everything for a clone, little otherwise. Says whether anything was written.
async fn configured(target: &Target<'_>, m: &Vm, now: Settings) -> Result<(Settings, bool), pve::Error> {
    let delta = |now: &Settings| {
        let mut delta = config::delta(None, m, now);
        for (key, value) in addresses::recording(m.cloud_init.get()).iter() {
            if now.written(key) != Some(value) {
                delta.set.insert(key.to_owned(), value.to_owned());
            }
        }
        delta
    };
    if delta(&now).is_empty() {
        return Ok((now, false));
    }
    write::write(target, now, delta).await?;
    Ok((target.settings().await?, true))
}

/// Grows disks to the size the model gives; says whether any had to.
async fn grown(target: &Target<'_>, m: &Vm, now: &Settings) -> Result<bool, Error> {
    let mut any = false;
    for (slot, disk) in &disks::of(m) {
        let Some(present) = now.written(slot) else { continue };
        match disks::growth(disk, present) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                target.calls().resize(slot, bytes).done_at_least_once().await?;
                any = true;
            }
            Err(present) => return Err(clone::too_large(slot, disk, present).into()),
        }
    }
    Ok(any)
}

/// The endpoint of an agent that an interrupted run has enrolled.
async fn already_enrolled(target: &Target<'_>, m: &Vm, now: &Settings) -> Result<Option<Endpoint>, Error> {
    let (Some(_), Some(uuid)) = (m.agent.get(), m.uuid.text()) else { return Ok(None) };
    let mut places = places(m);
    learn(target, m, now, &mut places).await;
    for address in &places {
        match target.op.cx.agents.identify(address, uuid, &target.op.until()).await {
            Ok(endpoint) => return Ok(Some(endpoint)),
            Err(agents::Error::OtherMachine { .. }) => {
                let said = format!("The address {address} of VM {} belongs to another machine.", target.vmid);
                return Err(Problem::new(said, "Give each machine an address of its own.").at("cloud_init").into());
            }
            Err(error) => target.op.cx.progress(&format!("VM {} is not enrolled yet: {error}", target.vmid)),
        }
    }
    Ok(None)
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
async fn start(target: &Target<'_>, m: &Vm, power: Power) -> Result<(), pve::Error> {
    if !m.started.is_true() || power == Power::On {
        return Ok(());
    }
    if power == Power::Again {
        target.stop().await?;
    }
    // High availability may have the machine's number from an earlier one: its task ends when a start was asked for.
    target.start().await
}

/// The static addresses, or what the guest agent says.
async fn find_addresses(target: &Target<'_>, m: &mut Vm, now: &Settings) -> Result<(), Error> {
    let statics = m.cloud_init.get().map(addresses::statics).unwrap_or_default();
    let mut all: Vec<String> = statics.iter().map(|(_, address)| address.to_string()).collect();
    if all.is_empty() && m.options.guest_agent.is_true() && m.started.is_true() {
        all = told(target, m, now).await?;
        if all.is_empty() && m.agent.is_null() {
            target.op.cx.warn(silent(m));
        }
    }
    m.addresses.set(all);
    Ok(())
}

/// Addresses of the VM's own cards from its guest agent, once it has any. An image without the agent costs a warning.
async fn told(target: &Target<'_>, m: &Vm, now: &Settings) -> Result<Vec<String>, Error> {
    let patience = Instant::now() + if m.agent.is_known() { AGENT_PATIENCE * 5 } else { AGENT_PATIENCE };
    let mut settled = None;
    loop {
        let all = match target.calls().agent_addresses(now).await {
            Err(error) if error.is(Class::Rights) => return Err(error.into()),
            asked => asked.unwrap_or_default(),
        };
        let has_v4 = all.iter().any(IpAddr::is_ipv4);
        // IPv6 configures itself before a DHCP server has answered.
        let waits = !all.is_empty() && Instant::now() < *settled.get_or_insert(Instant::now() + DHCP_PATIENCE);
        if has_v4 || (!all.is_empty() && !waits) || Instant::now() > patience {
            return Ok(all.iter().map(IpAddr::to_string).collect());
        }
        target.op.pause(Duration::from_secs(2), "the guest agent's first answer").await?;
    }
}

fn silent(m: &Vm) -> Diagnostic {
    Diagnostic::warning(format!("VM {} has told no address", m.name.or("")))
        .happened("Its guest agent did not answer in time, or knew no address of the VM's own cards.")
        .holds("The VM runs; `addresses` is empty until a later refresh finds some.")
        .next("See that the image carries qemu-guest-agent and gets an address, or set `guest_agent = false`.")
        .at("guest_agent")
}

/// Keeps what is known of the agent, or waits for it and enrols it.
async fn enrol(
    target: &Target<'_>,
    m: &mut Vm,
    now: &Settings,
    (enrolled, pending): (Option<Endpoint>, Option<PendingEnrolment>),
) -> Result<(), Error> {
    if let Some(endpoint) = enrolled {
        keep(m, &endpoint);
    } else if let Some(pending) = pending {
        let endpoint = watch::while_on(target, found_agent(target, m, now, &pending)).await?;
        keep(m, &endpoint);
    }
    Ok(())
}

/// Waits for the agent wherever the machine may be. A static address may be of a card that is not reached from here, and another card
/// have its address by DHCP: then the guest agent knows of it, once it runs.
async fn found_agent(
    target: &Target<'_>,
    m: &Vm,
    now: &Settings,
    pending: &PendingEnrolment,
) -> Result<Endpoint, Error> {
    let (cx, vmid) = (target.op.cx, target.vmid);
    let mut places = places(m);
    if places.is_empty() {
        return Err(nowhere().into());
    }
    cx.progress(&format!("VM {vmid} starts; waiting for its agent at {}", places.join(", ")));
    let progress = |line: &str| cx.progress(line);
    loop {
        let whole = target.op.wait(&progress);
        let deadline = if learns(m) { whole.deadline.min(Instant::now() + LOOK_AROUND) } else { whole.deadline };
        match cx.agents.enrol(&places, pending, &Wait { deadline, ..whole }).await {
            Err(agents::Error::Deadline { .. }) if deadline < target.op.deadline => {}
            ended => return ended.map_err(|error| Error::Enrol(vmid, error)),
        }
        learn(target, m, now, &mut places).await;
    }
}

/// Takes the seed away once the agent has enrolled.
async fn unseed(target: &Target<'_>, m: &Vm, attached: Option<Attached>, begun: Begun) -> Result<(), pve::Error> {
    if !m.endpoint.is_known() {
        return Ok(());
    }
    if let Some(attached) = attached {
        seeding::remove(target, &attached).await?;
    }
    // A run that was cut off after it ejected the seed, or before it attached one, left an image behind.
    if begun == Begun::Earlier {
        seeding::remove_all(target, m).await?;
    }
    Ok(())
}

/// Where the agent may answer, by the configuration and by what is known of the machine: the likeliest first.
fn places(m: &Vm) -> Vec<String> {
    let given = m.agent.get().and_then(|agent| agent.address.text()?.parse().ok());
    let statics = m.cloud_init.get().map(addresses::statics).unwrap_or_default();
    let known = m.addresses.get().into_iter().flatten().filter_map(|text| text.parse().ok());
    let all: Vec<IpAddr> = match given {
        Some(given) => vec![given],
        None => statics.into_iter().map(|(_, address)| address).chain(known).collect(),
    };
    let mut places = Vec::new();
    all.into_iter().for_each(|address| add(&mut places, m, address));
    places
}

fn add(places: &mut Vec<String>, m: &Vm, address: IpAddr) {
    let port = m.agent.get().and_then(|agent| u16::try_from(*agent.port.get()?).ok()).unwrap_or(trust::PORT);
    let place = SocketAddr::new(address, port).to_string();
    if !places.contains(&place) {
        places.push(place);
    }
}

/// Whether the guest agent may know of more places.
fn learns(m: &Vm) -> bool {
    let given = m.agent.get().is_some_and(|agent| agent.address.is_known());
    !given && m.options.guest_agent.is_true()
}

/// Adds what the guest agent says at this moment, if it says anything.
async fn learn(target: &Target<'_>, m: &Vm, now: &Settings, places: &mut Vec<String>) {
    if learns(m) {
        let told = target.calls().agent_addresses(now).await.unwrap_or_default();
        told.into_iter().for_each(|address| add(places, m, address));
    }
}

fn nowhere() -> Problem {
    let cure = "Give a static `address` in `cloud_init.network`, set `agent.address`, or use an image that carries QEMU's guest agent.";
    Problem::new("The machine has no address that anybody knows.", cure).at("agent")
}

fn endpoint(m: &Vm) -> Option<Endpoint> {
    m.endpoint.get()?.to_endpoint()
}

fn keep(m: &mut Vm, endpoint: &Endpoint) {
    let found = endpoint.address.parse().map(|socket: SocketAddr| socket.ip().to_string());
    if let (Ok(found), Some(all)) = (found, m.addresses.get_mut())
        && !all.contains(&found)
        && m.agent.get().is_none_or(|agent| !agent.address.is_known())
    {
        all.push(found);
    }
    m.endpoint.set(AgentEndpoint::from(endpoint));
}

/// The last act: the description becomes the user's. It neither plugs nor allocates anything, so it needs no task; and it may be said
/// twice.
async fn unmark(target: &Target<'_>, m: &Vm) -> Result<(), pve::Error> {
    let description = m.description.text().map(str::trim_end).unwrap_or_default();
    let (params, delete) = match description {
        "" => (pve::Params::new(), vec!["description".to_owned()]),
        text => (pve::Params::new().with("description", text), Vec::new()),
    };
    target.configured_now(&params, &delete).await
}

/// What was read is what the framework would read.
fn filled(target: &Target<'_>, m: &mut Vm, settings: &Settings) {
    let cx = target.op.cx;
    m.vmid.set(i64::from(target.vmid.get()));
    m.current_node.set(target.node.to_string());
    fill::fill(m, settings, &slots::ours(cx.private()));
    if let Some((seen, _)) = target.op.client.cluster().guests_known() {
        noted::note(cx.private(), settings, seen.nodes());
    }
    cx.filled();
}

const AGENT_PATIENCE: Duration = Duration::from_secs(60);
const DHCP_PATIENCE: Duration = Duration::from_secs(10);
/// After this long without an answer the guest agent is asked for more addresses.
const LOOK_AROUND: Duration = Duration::from_secs(15);
