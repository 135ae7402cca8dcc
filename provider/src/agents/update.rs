//! Agents as new as their provider: what an older one cannot look at is said while planning, and before anything is applied to it, it
//! is given the program that this provider carries.
//!
//! The agent tries the new program out by itself and takes it back if nobody reaches it; here it is reached. An agent that is newer
//! than the provider is used as it is: the contract only grows.

use super::call::{Agent, Description, Missing, for_observer, role_to_plan};
use super::job::Job;
use super::program::{PROGRAMS, Program};
use super::restart::again;
use super::rotate::{Due, due};
use super::{Agents, Endpoint, Error, Until, Wait};
use agent_proto::fields;
use agent_proto::v1::machine::NodeSpec;
use agent_proto::v1::{UpdateBegin, UpdateRequest, update_request::Part};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use semver::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use trust::Role;

/// What a provider does about agents of other versions.
#[derive(Debug)]
pub(crate) struct Updates {
    /// Whether older agents are updated; otherwise nothing is applied to them.
    pub(crate) allowed: bool,
    /// This provider's own version.
    pub(super) version: String,
    /// The programs it carries, by machine.
    pub(super) programs: &'static [Program],
    /// Fingerprints of agents that were found to be as new as this provider.
    pub(super) current: Mutex<BTreeSet<String>>,
}

impl Default for Updates {
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { allowed: true, version, programs: PROGRAMS, current: Mutex::default() }
    }
}

/// A machine, looked at.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Facts by name.
    pub(crate) facts: BTreeMap<String, String>,
    /// What it lacks, and what of that its agent cannot see.
    pub(crate) missing: Missing,
    /// Version of the agent, if it is newer than this provider.
    pub(crate) newer: Option<String>,
}

/// How an agent compares with this provider, for what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Age {
    Current,
    Newer,
    /// Older; or of the same version, built before it knew these fields.
    Older {
        unknown: Vec<String>,
    },
    /// Newer, and without what it once knew.
    Other {
        unknown: Vec<String>,
    },
}

impl Updates {
    /// As the provider block says.
    pub(crate) fn new(allowed: bool) -> Self {
        Self { allowed, ..Self::default() }
    }

    fn age(&self, said: &Description, spec: Option<&NodeSpec>) -> Age {
        let unknown = spec.map(|spec| fields::beyond(&fields::used(spec), &said.fields)).unwrap_or_default();
        // What has no version that can be read was not made by a release of ours.
        let read = |text: &str| Version::parse(text).ok();
        match (read(&said.version), read(&self.version)) {
            (Some(agent), Some(own)) if agent > own => match unknown.is_empty() {
                true => Age::Newer,
                false => Age::Other { unknown },
            },
            (Some(agent), Some(own)) if agent == own && unknown.is_empty() => Age::Current,
            _ => Age::Older { unknown },
        }
    }

    fn program_for(&self, machine: &str) -> Option<Vec<u8>> {
        self.programs.iter().find(|program| program.machine == machine).map(|program| program.unpacked())
    }

    fn is_current(&self, fingerprint: &str) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).contains(fingerprint)
    }

    fn remember(&self, fingerprint: &str) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).insert(fingerprint.to_owned());
    }
}

impl Agents {
    /// Facts, and what the machine lacks to be as `spec` says. What an older agent cannot look at is part of that: it is unknown
    /// whether the machine is so.
    pub(crate) async fn inspect(&self, endpoint: &Endpoint, spec: &NodeSpec, until: &Until) -> Result<Look, Error> {
        again(|| self.inspected(endpoint, spec, until)).await
    }

    async fn inspected(&self, endpoint: &Endpoint, spec: &NodeSpec, until: &Until) -> Result<Look, Error> {
        let updates = &self.authority()?.updates;
        let role = self.at_most(role_to_plan(spec));
        let narrow = (role == Role::Observer).then(|| for_observer(spec.clone()));
        let mut agent = self.connect(endpoint, role, until).await?;
        let said = agent.describe().await?;
        let age = updates.age(&said, Some(spec));
        let blind = |what: &str| blind(&said.version, what, updates.allowed);
        let mut missing = match agent.plan(narrow.as_ref().unwrap_or(spec)).await {
            // A value that is fine in this version may be none in another.
            Err(Error::Refused { message, .. }) if matches!(age, Age::Older { .. }) => {
                Missing { drift: vec![blind(&format!("what is declared ({message})"))], ..Missing::default() }
            }
            // Agents of before are asked by an operator or not at all.
            Err(Error::Refused { message, .. }) if narrow.is_some() => {
                Missing { not_looked_at: vec![format!("what is declared: {message}")], ..Missing::default() }
            }
            other => other?,
        };
        let unseen = match &age {
            Age::Older { unknown } | Age::Other { unknown } => unknown.as_slice(),
            Age::Current | Age::Newer => &[],
        };
        let lines = unseen.iter().map(|field| blind(&format!("`{field}`")));
        missing.drift.splice(0..0, lines.collect::<Vec<_>>());
        let newer = matches!(age, Age::Newer | Age::Other { .. }).then(|| said.version.clone());
        Ok(Look { facts: said.facts, missing, newer })
    }

    /// Sees to it that the agent is as new as this provider before it is set to do anything.
    pub(super) async fn as_new_as_us(&self, endpoint: &Endpoint, job: &Job, wait: &Wait<'_>) -> Result<(), Error> {
        let spec = if let Job::Apply(spec) = job { Some(&**spec) } else { None };
        let updates = &self.authority()?.updates;
        if spec.is_none() && updates.is_current(&endpoint.fingerprint) {
            return Ok(());
        }
        let mut agent = self.connect(endpoint, Role::Operator, &wait.until()).await?;
        let said = agent.describe().await?;
        let address = endpoint.address.clone();
        match updates.age(&said, spec) {
            Age::Current => {}
            Age::Newer => {
                let (agent, own) = (&said.version, &updates.version);
                (wait.progress)(&format!("{address}: its agent is {agent}, newer than this provider ({own})"));
            }
            Age::Other { unknown } => return Err(Error::NotKnown { address, what: unknown.join(", ") }),
            Age::Older { unknown } if !updates.allowed => {
                let (agent, provider) = (said.version, updates.version.clone());
                return Err(Error::Outdated { address, agent, provider, unknown });
            }
            Age::Older { .. } => self.update(endpoint, &said, spec, wait).await?,
        }
        // A provider without the CA's key leaves it to one that has it.
        let due = due(&agent.0.chain, said.key_since, self.authority()?);
        if due != Due::Nothing && self.authority()?.can_enrol().is_ok() {
            self.certify(endpoint, &wait.until()).await?;
        }
        updates.remember(&endpoint.fingerprint);
        Ok(())
    }

    async fn update(
        &self,
        endpoint: &Endpoint,
        said: &Description,
        spec: Option<&NodeSpec>,
        wait: &Wait<'_>,
    ) -> Result<(), Error> {
        let updates = &self.authority()?.updates;
        let machine = said.facts.get("architecture").map_or("", String::as_str);
        let program = updates.program_for(machine).ok_or_else(|| Error::NoProgram {
            address: endpoint.address.clone(),
            agent: said.version.clone(),
            provider: updates.version.clone(),
            machine: machine.to_owned(),
        })?;
        let (from, to) = (&said.version, &updates.version);
        (wait.progress)(&format!("{}: updating its agent from {from} to {to}", endpoint.address));
        let sha256 = hex::encode(digest(&SHA256, &program));
        // An update is an administrator's: it decides what runs as root.
        let mut agent = self.connect(endpoint, Role::Admin, &wait.until()).await?;
        let begin = UpdateBegin { version: to.clone(), sha256: sha256.clone(), size: length(&program) };
        agent.send(begin, program).await?;
        self.came_back(endpoint, &sha256, spec, wait).await?;
        (wait.progress)(&format!("{}: its agent is {to} now", endpoint.address));
        Ok(())
    }

    /// Waits until the new agent answers; that ends its trial.
    async fn came_back(
        &self,
        endpoint: &Endpoint,
        sha256: &str,
        spec: Option<&NodeSpec>,
        wait: &Wait<'_>,
    ) -> Result<(), Error> {
        let updates = &self.authority()?.updates;
        let wait = Wait { deadline: wait.deadline.min(Instant::now() + TRIAL), ..*wait };
        let address = || endpoint.address.clone();
        let mut last = Error::Unreachable { address: address(), why: "it has not restarted yet".to_owned() };
        loop {
            wait.pause(PAUSE, "the updated agent to answer", last).await?;
            let asked = async { self.connect_once(endpoint, Role::Operator, &wait.until()).await?.describe().await };
            let said = match asked.await {
                Ok(said) => said,
                Err(error) if error.is_unreachable() => {
                    last = error;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !matches!(updates.age(&said, spec), Age::Older { .. }) {
                return Ok(());
            }
            if let Some(failed) = said.failed_update.filter(|failed| failed.sha256 == sha256) {
                let (agent, provider) = (said.version, failed.version);
                return Err(Error::TakenBack { address: address(), agent, provider, why: failed.why });
            }
            last = Error::Unreachable { address: address(), why: format!("its agent is {} still", said.version) };
        }
    }
}

impl Agent {
    pub(super) async fn send(&mut self, begin: UpdateBegin, program: Vec<u8>) -> Result<(), Error> {
        let requests = tokio_stream::iter(Parts { begin: Some(begin), left: program.into() });
        self.0.send(("Update", SENDING), |mut client| async move { client.update(requests).await }).await.map(drop)
    }
}

/// A program as it is sent.
struct Parts {
    begin: Option<UpdateBegin>,
    left: Bytes,
}

impl Iterator for Parts {
    type Item = UpdateRequest;

    fn next(&mut self) -> Option<UpdateRequest> {
        if let Some(begin) = self.begin.take() {
            return Some(UpdateRequest { part: Some(Part::Begin(begin)) });
        }
        let piece = self.left.split_to(self.left.len().min(PIECE));
        (!piece.is_empty()).then(|| UpdateRequest { part: Some(Part::Piece(piece.to_vec())) })
    }
}

fn blind(agent: &str, what: &str, updated: bool) -> String {
    let next =
        if updated { "the next apply updates it first" } else { "`agent_update = false` keeps it from being updated" };
    format!("agent {agent} cannot look at {what}; {next}")
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

const PAUSE: Duration = Duration::from_secs(1);
/// How much of the program one message carries.
const PIECE: usize = 64 << 10;
/// How long the program may take on its way, also through a slow tunnel.
const SENDING: Duration = Duration::from_secs(600);
/// How long an updated agent may take to answer: its trial, and the old one's start after it.
const TRIAL: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests {
    use super::*;

    fn said(version: &str, fields: &[&str]) -> Description {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Description { version: version.to_owned(), fields, ..Description::default() }
    }

    #[test]
    fn an_agents_age_is_its_version_and_what_it_knows() {
        let updates = Updates { version: "0.10.0".to_owned(), ..Updates::default() };
        let spec = NodeSpec { hostname: Some("a".to_owned()), swap: Some("off".to_owned()), ..NodeSpec::default() };
        let all = ["hostname", "swap"];
        let check = |version, fields: &[&str], age| {
            assert_eq!(updates.age(&said(version, fields), Some(&spec)), age, "{version}");
        };
        check("0.10.0", &all, Age::Current);
        check("0.9.0", &all, Age::Older { unknown: Vec::new() });
        check("0.10.0-rc.1", &all, Age::Older { unknown: Vec::new() });
        check("0.9.0", &["hostname"], Age::Older { unknown: vec!["swap".to_owned()] });
        check("0.10.0", &["swap"], Age::Older { unknown: vec!["hostname".to_owned()] });
        check("0.11.0", &all, Age::Newer);
        check("0.11.0", &["swap"], Age::Other { unknown: vec!["hostname".to_owned()] });
        check("nonsense", &all, Age::Older { unknown: Vec::new() });
        assert_eq!(updates.age(&said("0.10.0", &[]), None), Age::Current);
    }

    #[test]
    fn what_an_agent_cannot_look_at_is_said() {
        assert_eq!(
            blind("0.1.0", "`proxy`", true),
            "agent 0.1.0 cannot look at `proxy`; the next apply updates it first"
        );
        assert!(blind("0.1.0", "`proxy`", false).ends_with("`agent_update = false` keeps it from being updated"));
    }
}
