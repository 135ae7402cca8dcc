//! `groundwork_agent`: the agent on a machine that was there before, brought over SSH once.
//!
//! Creating looks at the machine, installs what a seed would have brought, and enrols. From then on only the agent is asked; SSH is used
//! again where a refresh has found something else in the agent's place, or what is written on the machine changes. How a machine is
//! reached is a block: `ssh` is one, and there is room for others beside it, of which a resource has exactly one.

mod install;
mod look;
mod model;

use crate::agents::{Endpoint, Error, Until};
use crate::context::{Cx, Data, looking};
use crate::endpoint::{AgentEndpoint, EndpointModel};
use crate::timeouts::Limit;
use crate::{departure, explain, keys};
use model::Agent;
use std::time::Duration;
use tf::{Attr, Diagnostic, Diagnostics, PlanNotes, Presence, Resource};
use tokio::time::Instant;
use trust::Role;

/// See [`Resource::DOC`].
pub(crate) struct AgentResource;

impl Resource for AgentResource {
    type Data = Data;
    type Model = Agent;

    const NAME: &'static str = "agent";
    const DOC: &'static str = "The agent on a Linux machine that Groundwork did not make: a Raspberry Pi, a server, a VM of somebody else's. It is \
        installed over SSH and enrolled by the same proof as on a new VM; `endpoint` then goes where that of a `groundwork_vm` goes. After \
        that SSH is not used any more, and may be switched off. What `ssh` says is read when the agent is installed, when it is repaired, \
        and when `port` or `allow_from` change; changes of `ssh` itself do nothing before.\n\n\
        The machine needs systemd as its first process, a 64-bit system on x86_64 or arm64, an account that is root or may become root with \
        `sudo`, and the agent's port open from where Terraform runs. It is looked at first, and what does not fit is said before anything is \
        changed. Nothing is put into `/tmp`. An agent of this CA that is there already is taken as it is; one of another CA is refused. An \
        apply that was cut off goes on where it was.\n\n\
        A host is known by `ssh.host_key` or by `known_hosts` and not otherwise: one that nobody knows is an error that shows its \
        fingerprint. Keys, passphrases and passwords are write-only: they stand in no state and no plan.\n\n\
        An agent that gives no answer is a warning, and the state stays. Where another agent answers in its place, such as that of a machine \
        that was installed anew, `drift` says what was found, and the next apply repairs it over SSH, which then wants the machine's new host \
        key. Destroying this resource leaves the machine as it is, with its agent, unless `uninstall_on_destroy` is set.";

    fn validate(&self, m: &Agent) -> Diagnostics {
        let mut found = Diagnostics::new();
        if m.ssh.is_null() {
            found.push(
                Diagnostic::error("Cannot reach a machine without a way into it")
                    .happened("Neither the configuration says how the machine is reached, nor is there a default.")
                    .next("Give the block `ssh`."),
            );
        }
        found
    }

    fn plan(&self, prior: Option<&Agent>, _config: &Agent, m: &mut Agent, _notes: &mut PlanNotes) {
        m.drift.set(Vec::new());
        let Some(prior) = prior else { return };
        if is_written_anew(prior, m) {
            m.id = Attr::Unknown;
            m.endpoint = Attr::Unknown;
            m.facts = Attr::Unknown;
        } else if prior.place() != m.place() || prior.endpoint.is_null() {
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
            Err(error) if error.is_unreachable() => cx.warn(explain::unreachable("the agent of", &m.name(), &error)),
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
        while cx.agents.connect(&endpoint, Role::Observer, &until).await.is_ok() {
            if cx.stop.is_cancelled() || Instant::now() > end {
                return Err(failed(Error::Deadline { what: "the agent to go".to_owned(), last: None }).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn import(&self, _cx: &Cx, id: &str) -> Result<Agent, Diagnostics> {
        let endpoint = EndpointModel::from_id(id).and_then(|model| model.to_endpoint()).ok_or_else(|| {
            Diagnostic::error(format!("Cannot import agent {id}"))
                .happened("This is no id of an agent.")
                .holds("Nothing was recorded in the state.")
                .next("Give its address and fingerprint: `192.0.2.7:7443,sha256:…`.")
        })?;
        let port = endpoint.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let mut m = Agent { endpoint: AgentEndpoint::from(&endpoint).into(), ..Agent::default() };
        m.port.put(port.filter(|port| *port != trust::PORT).map(i64::from));
        Ok(m)
    }
}

/// Asks the agent itself.
async fn look(cx: &Cx, m: &mut Agent, endpoint: &Endpoint, until: &Until) -> Result<(), Error> {
    let mut agent = cx.agents.connect(endpoint, Role::Observer, until).await?;
    let said = agent.describe().await?;
    m.id.set(endpoint.fingerprint.clone());
    m.facts.set(said.facts);
    Ok(())
}

/// Whether something on the machine has to be written, which only SSH can do.
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
