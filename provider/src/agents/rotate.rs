//! Keys and certificates of machines that are due, and going over from one CA to another.
//!
//! An agent believes the old CA, then both, then the new one: each step is one file that it replaces as a whole, and it refuses a step by
//! which its caller would lock himself out. So whatever is cut off, the machine can be reached with one of the two, and doing it
//! again goes on. A machine's key is followed by another in the same way: the one before counts until the next has its certificate, and
//! whoever knows one before is led to the one in force.

use super::call::Agent;
use super::{Agents, Authority, Endpoint, Error, Until};
use agent_proto::v1 as wire;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trust::{Certificate, Clock, Role, Usage};

/// How far going over is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Machines believe both CAs.
    Both,
    /// Machines believe the new one alone.
    New,
}

/// Takes the machines over from one CA to another, and says each step. Those that cannot be reached are counted, and only when there
/// are none is the old CA taken from anybody.
pub(crate) async fn rotate(
    (old, new): (Authority, Authority),
    machines: &[Endpoint],
    goal: Goal,
    say: &(dyn Fn(&str) + Sync),
) -> Result<usize, Error> {
    old.can_enrol()?;
    new.can_enrol()?;
    let both: Vec<_> = new.anchors().iter().chain(old.anchors()).cloned().collect();
    let only = new.anchors().to_vec();
    let (old, new) = (Agents::new(Some(old)), Agents::new(Some(new)));
    let mut failed = 0;
    for machine in machines {
        match over(&old, &new, machine, &both).await {
            Ok(done) => say(&format!("{}: {done}", machine.address)),
            Err(error) => {
                failed += 1;
                say(&format!("{}: {}", machine.address, tf::chain(&error)));
            }
        }
    }
    if failed > 0 || goal == Goal::Both {
        return Ok(failed);
    }
    for machine in machines {
        match new.believe(machine, &only, &soon()).await {
            Ok(()) => say(&format!("{}: believes the new CA alone", machine.address)),
            Err(error) => {
                failed += 1;
                say(&format!("{}: {}", machine.address, tf::chain(&error)));
            }
        }
    }
    Ok(failed)
}

/// Gives each of the machines another key now, and says so. Those that could not be given one are counted.
pub(crate) async fn renew(
    authority: Authority,
    machines: &[Endpoint],
    say: &(dyn Fn(&str) + Sync),
) -> Result<usize, Error> {
    authority.can_enrol()?;
    let agents = Agents::new(Some(authority));
    let mut failed = 0;
    for machine in machines {
        let renewed = async {
            let mut agent = agents.connect(machine, Role::Admin, &soon()).await?;
            agents.give(&mut agent, Due::Key).await?;
            agents.connect(machine, Role::Observer, &soon()).await
        };
        match renewed.await {
            Ok(_) => {
                let key = agents.latest_key(&machine.fingerprint).unwrap_or_default();
                say(&format!("{}: has the key {key} now", machine.address));
            }
            Err(error) => {
                failed += 1;
                say(&format!("{}: {}", machine.address, tf::chain(&error)));
            }
        }
    }
    Ok(failed)
}

/// One machine, until it believes the new CA and has a certificate of it.
async fn over(
    old: &Agents,
    new: &Agents,
    machine: &Endpoint,
    both: &[CertificateDer<'static>],
) -> Result<&'static str, Error> {
    let believed = match new.connect(machine, Role::Admin, &soon()).await {
        Ok(_) => "believes the new CA already",
        Err(Error::OtherAuthority { .. }) => {
            old.believe(machine, both, &soon()).await?;
            "believes both CAs"
        }
        Err(error) => return Err(error),
    };
    new.certify(machine, &soon()).await?;
    Ok(believed)
}

impl Agents {
    /// Has the agent believe these CAs and no others.
    async fn believe(
        &self,
        endpoint: &Endpoint,
        certificates: &[CertificateDer<'static>],
        until: &Until,
    ) -> Result<(), Error> {
        let mut agent = self.connect(endpoint, Role::Admin, until).await?;
        let request =
            wire::ReplaceAuthoritiesRequest { certificates: certificates.iter().map(|der| der.to_vec()).collect() };
        let asked = |mut client: super::line::Client| async move { client.replace_authorities(request).await };
        agent.0.ask("ReplaceAuthorities", asked).await.map(drop)
    }

    /// Gives the agent the key or the certificate that is due.
    pub(super) async fn certify(&self, endpoint: &Endpoint, until: &Until) -> Result<(), Error> {
        let mut agent = self.connect(endpoint, Role::Admin, until).await?;
        let said = agent.describe().await?;
        match due(&agent.0.chain, said.key_since, self.authority()?) {
            Due::Nothing => Ok(()),
            due => self.give(&mut agent, due).await,
        }
    }

    /// Gives the agent a certificate, for the key that it has or for the one that follows.
    async fn give(&self, agent: &mut Agent, due: Due) -> Result<(), Error> {
        let authority = self.authority()?;
        let Some((own, machine_uuid)) = agent.0.chain.first().and_then(identity) else {
            return Err(agent.0.odd("ReplaceCertificate", "the machine's certificate does not name it"));
        };
        let key = if due == Due::Key { agent.next_key().await? } else { own };
        let mut chain = authority.machine(&key, &machine_uuid)?.into_iter().map(|der| der.to_vec());
        let certificate = chain.next().unwrap_or_default();
        let request = wire::ReplaceCertificateRequest { certificate, issuers: chain.collect() };
        let asked = |mut client: super::line::Client| async move { client.replace_certificate(request).await };
        agent.0.ask("ReplaceCertificate", asked).await.map(drop)
    }
}

impl Agent {
    /// The key that is to follow the agent's own.
    async fn next_key(&mut self) -> Result<Vec<u8>, Error> {
        let asked = |mut client: super::line::Client| async move { client.next_key(wire::NextKeyRequest {}).await };
        Ok(self.0.ask("NextKey", asked).await?.public_key)
    }
}

/// What a machine should have anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// A certificate for the key that it has: its own is of a CA that is no longer ours, or near its end.
    Certificate,
    /// Another key, with a certificate.
    Key,
}

/// What an agent should have anew that presents this and has its key since then, in seconds since 1970.
pub(super) fn due(chain: &[CertificateDer<'_>], key_since: u64, authority: &Authority) -> Due {
    // Agents of before do not say.
    let is_old = key_since > 0 && key_since + KEY_LIFE_S < UnixTime::now().as_secs();
    match is_old {
        true => Due::Key,
        false if is_over(chain, authority) => Due::Certificate,
        false => Due::Nothing,
    }
}

/// Whether a certificate is of a CA that is no longer ours, or near its end.
fn is_over(chain: &[CertificateDer<'_>], authority: &Authority) -> bool {
    let clock = Clock { now: UnixTime::now(), tolerance: Some(Duration::ZERO), may_be_slow: false };
    let now = clock.now.as_secs();
    let ends = |certificate: &Certificate| certificate.not_after < now + YEAR_S;
    let ends_soon = chain.first().and_then(|der| Certificate::read(der).ok()).is_none_or(|own| ends(&own));
    ends_soon || trust::verify(chain, authority.anchors(), Usage::Server, clock).is_err()
}

/// The key of a machine's certificate, and its UUID.
fn identity(certificate: &CertificateDer<'static>) -> Option<(Vec<u8>, String)> {
    let read = Certificate::read(certificate).ok()?;
    let name = trust::machine_name("");
    let machine_uuid = read.uris.iter().find_map(|uri| uri.strip_prefix(&name)).map(str::to_owned)?;
    Some((read.public_key().to_vec(), machine_uuid))
}

/// The endpoints in what `terraform show -json` or `terraform state pull` print, one for each key.
pub(crate) fn endpoints(json: &Value) -> Vec<Endpoint> {
    let mut found = BTreeMap::new();
    collect(json, &mut found);
    found.into_iter().map(|(fingerprint, address)| Endpoint { address, fingerprint }).collect()
}

fn collect(json: &Value, found: &mut BTreeMap<String, String>) {
    match json {
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str);
            if let (Some(address), Some(fingerprint)) = (text("address"), text("fingerprint"))
                && fingerprint.parse::<trust::Pin>().is_ok()
            {
                found.insert(fingerprint.to_owned(), address.to_owned());
            }
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn soon() -> Until {
    Until::new(Instant::now() + PATIENCE, &CancellationToken::new())
}

/// With one machine, for one step.
const PATIENCE: Duration = Duration::from_secs(60);
const YEAR_S: u64 = 365 * 86_400;
/// How long a key serves.
const KEY_LIFE_S: u64 = 5 * YEAR_S;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_are_found_wherever_they_stand() {
        let (one, two) = (trust::Pin::of(b"1").to_string(), trust::Pin::of(b"2").to_string());
        let state = json!({"resources": [
            {"instances": [{"attributes": {"endpoint": {"address": "192.0.2.1:7443", "fingerprint": one}}}]},
            {"values": {"control_planes": {"a": {"address": "192.0.2.1:7443", "fingerprint": one}}}},
            {"values": {"workers": {"b": {"address": "192.0.2.2:7443", "fingerprint": two}}}},
            {"values": {"address": "192.0.2.3", "fingerprint": "AB:CD"}},
        ]});
        let mut addresses: Vec<_> = endpoints(&state).into_iter().map(|endpoint| endpoint.address).collect();
        addresses.sort();
        assert_eq!(addresses, ["192.0.2.1:7443", "192.0.2.2:7443"]);
        assert!(endpoints(&json!(null)).is_empty());
    }

    #[test]
    fn any_state_is_answered() {
        let one = trust::Pin::of(b"1").to_string();
        let good = json!({"values": {"a": [{"address": "192.0.2.1:7443", "fingerprint": one}]}}).to_string();
        total::text("state-json", &[&good], |text| serde_json::from_str(text).map(|json| endpoints(&json)).ok());
    }
}
