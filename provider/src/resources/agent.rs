//! `groundwork_agent`: the agent on a machine that was there before, brought once.
//!
//! Creating looks at the machine, installs what a seed would have brought, and enrols. From then on only the agent is asked; the way in is
//! used again where a refresh has found something else in the agent's place, or what is written on the machine changes. How a machine is
//! reached is a block, `ssh` or `guest_agent`, of which a resource has exactly one; what is done there is the same for both (`way`).

mod install;
mod look;
mod model;
mod way;

use crate::agents::{Endpoint, Error, Until, again};
use crate::context::{Cx, Data, looking};
use crate::endpoint::{AgentEndpoint, EndpointModel};
use crate::timeouts::Limit;
use crate::{departure, explain, guest, keys};
use model::Agent;
use std::time::Duration;
use tf::{Attr, Diagnostic, Diagnostics, Path, PlanNotes, Presence, Resource};
use tokio::time::Instant;
use trust::Role;

/// See [`Resource::DOC`].
pub(crate) struct AgentResource;

impl Resource for AgentResource {
    type Data = Data;
    type Model = Agent;

    const NAME: &'static str = "agent";
    const DOC: &'static str = "The agent on a Linux machine that Groundwork did not make: a Raspberry Pi, a server, a VM of somebody else's. It is \
        installed over SSH, or in a VM of this Proxmox VE through QEMU's guest agent, and enrolled by the same proof as on a new VM; `endpoint` \
        then goes where that of a `groundwork_vm` goes. After that the way in is not used any more, and SSH may be switched off. What `ssh` or \
        `guest_agent` says is read when the agent is installed, when it is repaired, and when `port` or `allow_from` change; changes of the \
        block itself do nothing before.\n\n\
        The machine needs systemd as its first process, a 64-bit system on x86_64 or arm64, and the agent's port open from where Terraform \
        runs; for `ssh` an account that is root or may become root with `sudo`. It is looked at first, and what does not fit is said before \
        anything is changed. Nothing is put into `/tmp`. An agent of this CA that is there already is taken as it is; one of another CA is \
        refused. An apply that was cut off goes on where it was.\n\n\
        By SSH, a host is known by `ssh.host_key` or by `known_hosts` and not otherwise: one that nobody knows is an error that shows its \
        fingerprint. Keys, passphrases and passwords are write-only: they stand in no state and no plan.\n\n\
        With `guest_agent`, the program goes up through Proxmox VE's API in parts of 45 KiB, packed, and is checked there by its checksum: \
        some seconds to half a minute. The API token needs VM.Audit and VM.GuestAgent.Unrestricted on the VM (Proxmox VE 8: VM.Audit and \
        VM.Monitor), for the installation and repairs only. RHEL and its relatives forbid the commands that are needed until their \
        administrator allows them; the error names them. Without `address` the agent is followed to where the guest agent sees the VM when it \
        gives no answer where it was, and known there by its key.\n\n\
        An agent that gives no answer is a warning, and the state stays. Where another agent answers in its place, such as that of a machine \
        that was installed anew, `drift` says what was found, and the next apply repairs it by the way in; SSH then wants the machine's new \
        host key. A machine that was installed anew and has no agent gives no answer: `terraform apply -replace=…` brings it one. \
        Destroying this resource leaves the machine as it is, with its agent, unless `uninstall_on_destroy` is set.";

    fn validate(&self, m: &Agent) -> Diagnostics {
        let mut found = Diagnostics::new();
        let happened = match (m.ssh.is_null(), m.guest_agent.is_null()) {
            (true, true) => "The configuration does not say how the machine is reached, and there is no default.",
            (false, false) => "The configuration says two ways in: `ssh` and `guest_agent`.",
            (true, false) | (false, true) => return found,
        };
        found.push(
            Diagnostic::error("Cannot reach a machine but by exactly one way")
                .happened(happened)
                .next("Give the block `ssh`, or for a VM of this Proxmox VE the block `guest_agent`."),
        );
        found
    }

    fn plan(&self, prior: Option<&Agent>, _config: &Agent, m: &mut Agent, notes: &mut PlanNotes) {
        m.drift.set(Vec::new());
        let Some(prior) = prior else { return };
        let (before, after) = (prior.vm(), m.vm());
        if before.is_known() && !after.is_null() && before != after {
            // Nobody else says which machine it is.
            notes.replace(Path::from("guest_agent").name("vmid"));
        }
        if is_written_anew(prior, m) {
            m.id = Attr::Unknown;
            m.endpoint = Attr::Unknown;
            m.facts = Attr::Unknown;
        } else if m.asks().is_none() && (prior.place() != m.place() || prior.endpoint.is_null()) {
            m.endpoint = moved(prior, m).map_or(Attr::Unknown, |endpoint| AgentEndpoint::from(&endpoint).into());
        }
    }

    async fn create(&self, cx: &Cx, m: &mut Agent) -> Result<(), Diagnostics> {
        let limit = Limit::of("create", m.timeouts.get().map(|timeouts| &timeouts.create), TIME);
        install::install(cx, m, "install", limit).await
    }

    async fn read(&self, cx: &Cx, m: &mut Agent) -> Result<Presence, Diagnostics> {
        let Some(endpoint) = m.endpoint.get().and_then(AgentEndpoint::to_endpoint) else {
            return Err(Diagnostic::bug("an agent's endpoint is not in the state").into());
        };
        let act = format!("look at the agent of {}", m.name());
        keys::recall(cx);
        match look(cx, m, &endpoint, &looking(cx)).await {
            Ok(()) => m.drift.set(Vec::new()),
            Err(error) if error.is_unreachable() => match followed(cx, m, &endpoint).await {
                Some(moved) => m.endpoint.set(AgentEndpoint::from(&moved)),
                None => cx.warn(unreachable(m, &error)),
            },
            // Somebody else is there, or an agent that nobody knows: a person sees it in the plan, and SSH asks for the host's key.
            Err(error) if error.is_somebody_else() => m.drift.set(vec![tf::chain(&error)]),
            Err(error) => return Err(explain::agent(&act, &error).into()),
        }
        keys::note(cx, [endpoint.fingerprint]);
        Ok(Presence::Here)
    }

    async fn update(&self, cx: &Cx, prior: &Agent, m: &mut Agent) -> Result<(), Diagnostics> {
        keys::recall(cx);
        let limit = Limit::of("update", m.timeouts.get().map(|timeouts| &timeouts.update), TIME);
        if is_written_anew(prior, m) {
            return install::install(cx, m, "repair", limit).await;
        }
        let Some(endpoint) = moved(prior, m).filter(|_| prior.place() != m.place()) else { return Ok(()) };
        let until = Until::new(cx.deadline(limit.time), &cx.stop);
        let act = format!("reach the agent of {} at {}", m.name(), endpoint.address);
        look(cx, m, &endpoint, &until).await.map_err(|error| explain::agent(&act, &error).at("address"))?;
        m.endpoint.set(AgentEndpoint::from(&endpoint));
        Ok(())
    }

    async fn delete(&self, cx: &Cx, m: &Agent) -> Result<(), Diagnostics> {
        if !m.uninstall_on_destroy.is_true() {
            return Ok(());
        }
        let Some(endpoint) = m.endpoint.get().and_then(AgentEndpoint::to_endpoint) else { return Ok(()) };
        keys::recall(cx);
        let act = format!("uninstall the agent of {}", m.name());
        let limit = Limit::of("delete", m.timeouts.get().map(|timeouts| &timeouts.delete), TIME);
        departure::depart(cx, &act, &endpoint, limit).await?;
        let until = Until::new(cx.deadline(limit.time), &cx.stop);
        let failed = |error: Error| {
            let next = "See that the machine runs, and destroy again; or apply once with `uninstall_on_destroy = false`, and then destroy.";
            Diagnostic::error(format!("Cannot {act}"))
                .happened(format!("The agent was not taken away: {}.", tf::chain(&error)))
                .holds("It is on the machine still, and in the state.")
                .next(next)
        };
        let mut agent = cx.agents.connect(&endpoint, Role::Admin, &until).await.map_err(failed)?;
        agent.uninstall().await.map_err(failed)?;
        drop(agent);
        // A creation that came before its end would take it for a good one.
        let end = Instant::now() + GOING;
        while cx.agents.connect_once(&endpoint, Role::Observer, &until).await.is_ok() {
            if cx.stop.is_cancelled() || Instant::now() > end {
                return Err(failed(Error::Deadline { what: "the agent to go".to_owned(), last: None }).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn import(&self, cx: &Cx, id: &str) -> Result<Agent, Diagnostics> {
        let endpoint = EndpointModel::from_id(id).and_then(|model| model.to_endpoint()).ok_or_else(|| {
            Diagnostic::error(format!("Cannot import agent {id}"))
                .happened("This is no id of an agent.")
                .holds("Nothing was recorded in the state.")
                .next("Give its address and fingerprint: `192.0.2.7:7443,sha256:…`.")
        })?;
        let port = endpoint.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let mut m = Agent { endpoint: AgentEndpoint::from(&endpoint).into(), ..Agent::default() };
        m.port.put(port.filter(|port| *port != trust::PORT).map(i64::from));
        let failed = |error: Error| explain::agent(&format!("import agent {id}"), &error);
        look(cx, &mut m, &endpoint, &looking(cx)).await.map_err(failed)?;
        Ok(m)
    }
}

/// Asks the agent itself.
async fn look(cx: &Cx, m: &mut Agent, endpoint: &Endpoint, until: &Until) -> Result<(), Error> {
    let said = again(|| async { cx.agents.connect(endpoint, Role::Observer, until).await?.describe().await }).await?;
    m.id.set(endpoint.fingerprint.clone());
    m.facts.set(said.facts);
    Ok(())
}

/// The agent where the guest agent sees its VM now. It is known by its key, whoever answers there.
async fn followed(cx: &Cx, m: &mut Agent, endpoint: &Endpoint) -> Option<Endpoint> {
    let addresses = guest::addresses(cx.pve().ok()?, &m.asks()?).await;
    for address in m.places(addresses).into_iter().filter(|address| *address != endpoint.address) {
        let moved = Endpoint { address, ..endpoint.clone() };
        if look(cx, m, &moved, &looking(cx)).await.is_ok() {
            m.drift.set(Vec::new());
            return Some(moved);
        }
    }
    None
}

/// The warning for an agent that gives no answer, with what may have become of its machine.
fn unreachable(m: &Agent, error: &Error) -> Diagnostic {
    let moved = if m.asks().is_some() { "" } else { "If its address is another one now, set `address`. " };
    let next = format!(
        "Start the machine, or see why nothing answers at that address. {moved}If it was installed anew, it has no agent: `terraform apply \
         -replace=…` of this resource brings one, by the way in."
    );
    explain::unreachable_then("the agent of", &m.name(), error, &next)
}

/// Whether something on the machine has to be written, which only the way in can do.
fn is_written_anew(prior: &Agent, m: &Agent) -> bool {
    let has_drift = prior.drift.get().is_some_and(|lines| !lines.is_empty());
    has_drift || prior.listens_on() != m.listens_on() || m.port.is_unknown() || prior.allow_from != m.allow_from
}

/// The agent of before, at its new place.
fn moved(prior: &Agent, m: &Agent) -> Option<Endpoint> {
    let before = prior.endpoint.get()?.to_endpoint()?;
    Some(Endpoint { address: m.place()?, ..before })
}

const TIME: Duration = Duration::from_secs(600);
/// systemd begins within some seconds.
const GOING: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
