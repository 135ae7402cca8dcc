//! A machine that finds another one's state on its disk is a clone of it: it forgets what it inherited before it does anything.
//!
//! Inherited originals would have its first apply put back what the other machine found, records would have an import take over
//! what the other was, and an inherited identity would answer in its name. Two machines with one machine-id get one DHCP address.
//! `seal` prepares a template so that there is nothing to forget.

use crate::host::{Access, Host, HostError, Kind};
use crate::identity::Machine;
use crate::state::{State, StateError};
use serde::{Deserialize, Serialize};

/// Whose state this is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Owner {
    machine_uuid: String,
    machine_id: String,
}

/// What was forgotten, for as long as the boot lasts in which it was.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    boot_id: String,
    /// The other machine's SMBIOS UUID, or its machine-id.
    other: String,
    /// Why the machine-id is still the other's.
    kept: Option<String>,
}

/// A clone that cannot forget.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// The agent's own folder.
    #[error("what another machine left in the agent's own folder cannot be removed")]
    State(#[source] StateError),
    /// Who this machine is.
    #[error("it cannot be told which machine this is")]
    Machine(#[source] HostError),
}

/// Says which machine this is, and forgets what belongs to another.
///
/// # Errors
/// When it cannot be told, or what is there cannot be removed: nothing may be done with it.
pub fn settle(host: &dyn Host, state: &State) -> Result<Machine, CloneError> {
    let mut machine = machine(host).map_err(CloneError::Machine)?;
    let owner = owner(state).map_err(CloneError::State)?;
    if let Some(owner) = owner.filter(|owner| machine.differs_from(&owner.machine_uuid, &owner.machine_id)) {
        let other = if owner.machine_uuid.is_empty() { &owner.machine_id } else { &owner.machine_uuid };
        tracing::warn!(other, "this machine is a clone: what the agent kept on the other one is forgotten");
        state.clear(&BROUGHT_BY_THE_SEED).map_err(CloneError::State)?;
        let mut kept = None;
        if owner.machine_id == machine.id {
            match renamed(host) {
                Ok(id) => machine.id = id,
                Err(error) => kept = Some(crate::server::chain(&error)),
            }
        }
        let boot_id = host.text(crate::reboot::BOOT_ID).ok().flatten().unwrap_or_default().trim().to_owned();
        let note = Note { boot_id, other: other.clone(), kept };
        state.write(NOTE, &json(&note)).map_err(CloneError::State)?;
    }
    let own = Owner { machine_uuid: machine.uuid.clone(), machine_id: machine.id.clone() };
    state.write(OWNER, &json(&own)).map_err(CloneError::State)?;
    Ok(machine)
}

/// What a person should know of a clone that was not prepared to be one; nothing after its next restart.
#[must_use]
pub fn warning(host: &dyn Host, state: &State) -> Option<String> {
    let note: Note = serde_json::from_str(&state.read(NOTE).ok().flatten()?).ok()?;
    let boot_id = host.text(crate::reboot::BOOT_ID).ok().flatten().unwrap_or_default();
    if boot_id.trim() != note.boot_id {
        return None;
    }
    let id = note.kept.map_or_else(
        || "It has a machine-id of its own now, which programs that run already see after the next restart".to_owned(),
        |why| format!("Its machine-id is still the other's: {why}"),
    );
    let cure = "`groundwork-agent seal` prepares a template for clones";
    Some(format!("the machine is a clone of {}, whose agent's state was found and forgotten. {id}; {cure}", note.other))
}

/// What tells this machine from its clones.
fn machine(host: &dyn Host) -> Result<Machine, HostError> {
    let text = |path| host.text(path).map(|text| text.unwrap_or_default().trim().to_lowercase());
    Ok(Machine { uuid: text("/sys/class/dmi/id/product_uuid")?, id: text(MACHINE_ID)? })
}

/// By its own note, or by that of the enrolment.
fn owner(state: &State) -> Result<Option<Owner>, StateError> {
    for name in [OWNER, crate::identity::ENROLLED] {
        let owner = state.read(name)?.and_then(|text| serde_json::from_str(&text).ok());
        if owner.is_some() {
            return Ok(owner);
        }
    }
    Ok(None)
}

/// Gives the machine an id of its own (machine-id(5)).
fn renamed(host: &dyn Host) -> Result<String, HostError> {
    let mut bytes = [0_u8; 16];
    for (byte, random) in bytes.iter_mut().zip(trust::nonce()) {
        *byte = random;
    }
    // As a UUID of version 4 has them, which some programs demand.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let id = hex::encode(bytes);
    let text = format!("{id}\n");
    let access = Access { mode: 0o444, ..Access::OPEN };
    host.write(MACHINE_ID, text.as_bytes(), access)?;
    // Elsewhere it is a link.
    if host.stat(DBUS)?.is_some_and(|stat| stat.kind == Kind::File) {
        host.write(DBUS, text.as_bytes(), access)?;
    }
    Ok(id)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

const OWNER: &str = "machine.json";
const NOTE: &str = "clone.json";
/// By the seed of this machine, possibly before this program was started; what is another's is told by its content.
const BROUGHT_BY_THE_SEED: [&str; 2] = ["enrol.json", "seed-id"];
pub(crate) const MACHINE_ID: &str = "/etc/machine-id";
pub(crate) const DBUS: &str = "/var/lib/dbus/machine-id";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    const OLD: &str = "0123456789abcdef0123456789abcdef";

    fn host(uuid: &str) -> Fake {
        let host = Fake::template();
        host.put("/sys/class/dmi/id/product_uuid", uuid);
        host.put(MACHINE_ID, OLD);
        host.put(DBUS, OLD);
        host
    }

    fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        for name in
            ["identity/key.pem", "records/machine.json", "originals/%2Fetc%2Fmotd.json", "enrol.json", "seed-id"]
        {
            state.write(name, "{}").unwrap();
        }
        (folder, state)
    }

    #[test]
    fn a_machine_keeps_what_is_its_own() {
        let ((_folder, state), host) = (state(), host("AA"));
        let first = settle(&host, &state).unwrap();
        assert_eq!((first.uuid.as_str(), first.id.as_str()), ("aa", OLD));
        assert_eq!(settle(&host, &state).unwrap(), first);
        assert_eq!(state.list("originals").unwrap().len(), 1);
        assert_eq!(warning(&host, &state), None);
    }

    #[test]
    fn a_clone_forgets_all_but_its_own_seed() {
        let (_folder, state) = state();
        settle(&host("aa"), &state).unwrap();
        let clone = host("bb");
        let machine = settle(&clone, &state).unwrap();
        assert_eq!(state.list("").unwrap(), ["clone.json", "enrol.json", "machine.json", "seed-id"]);
        assert_ne!(machine.id, OLD);
        for path in [MACHINE_ID, DBUS] {
            assert_eq!(clone.text(path).unwrap().trim(), machine.id, "{path}");
        }
        assert!(warning(&clone, &state).unwrap().contains("clone of aa"));
        assert_eq!(settle(&clone, &state).unwrap(), machine, "once");
        clone.put(crate::reboot::BOOT_ID, "the next boot");
        assert_eq!(warning(&clone, &state), None);
    }

    #[test]
    fn a_clone_that_has_an_id_of_its_own_keeps_it() {
        let (_folder, state) = state();
        settle(&host("aa"), &state).unwrap();
        let clone = host("bb");
        clone.put(MACHINE_ID, "own");
        assert_eq!(settle(&clone, &state).unwrap().id, "own");
        assert_eq!(state.list("originals").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_note_of_an_enrolment_tells_a_clone_as_well() {
        let (_folder, state) = state();
        state
            .write(crate::identity::ENROLLED, r#"{"id":"e","generation":1,"machine_uuid":"aa","machine_id":"m"}"#)
            .unwrap();
        settle(&host("bb"), &state).unwrap();
        assert_eq!(state.list("records").unwrap(), Vec::<String>::new());
    }
}
