//! What a seed image carries to put the agent onto a machine, and the secret it proves itself with. Over SSH the same files arrive.
//!
//! The provider holds the agent's binaries inside itself (`program`). The seed carries the one of the machine's architecture, its unit, its configuration, the CA's certificate and `enrol.json`, all in the folder `groundwork`, with the script that
//! installs them. Only that script's call stands in the user-data: the secret never gets into cloud-init's own files.

use super::Error;
use super::pki::Authority;
use super::program::{PROGRAMS, Program};
use crate::seed::{AgentPart, File};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use std::fmt;
use trust::{Secret, nonce};

/// For which machine a seed is made.
#[derive(Debug, Clone)]
pub(crate) struct SeedFor<'a> {
    /// Its SMBIOS UUID.
    pub(crate) machine_uuid: &'a str,
    /// One more than the secret issued before for this machine, from 1.
    pub(crate) generation: u64,
    /// Port the agent listens on.
    pub(crate) port: u16,
    /// The networks from which it takes connections, `192.0.2.0/24`; none: from everywhere.
    pub(crate) allow_from: &'a [String],
    /// What it is, as `uname -m` says it; without that the seed carries every agent.
    pub(crate) machine: Option<&'a str>,
}

/// A secret that was issued and not used yet. It lives in memory only.
#[derive(Clone)]
pub(crate) struct PendingEnrolment {
    pub(super) id: String,
    pub(super) generation: u64,
    pub(super) machine_uuid: String,
    pub(super) secret: Secret,
}

impl fmt::Debug for PendingEnrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, generation, machine_uuid, secret: _ } = self;
        f.debug_struct("PendingEnrolment")
            .field("id", id)
            .field("generation", generation)
            .field("machine_uuid", machine_uuid)
            .finish_non_exhaustive()
    }
}

/// Whether this build carries an agent at all.
pub(super) const fn has_binary() -> Result<(), Error> {
    if PROGRAMS.is_empty() { Err(Error::NoBinary) } else { Ok(()) }
}

/// Whom an agent believes that has the CAs of `pem`: nothing if one of ours is among them, else the fingerprints of its own.
pub(super) fn strangers(authority: &Authority, pem: &str) -> Option<String> {
    let theirs: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect();
    if theirs.iter().any(|ca| authority.anchors().contains(ca)) {
        return None;
    }
    let prints: Vec<String> = theirs.iter().map(|ca| format!("sha256:{}", hex::encode(digest(&SHA256, ca)))).collect();
    Some(if prints.is_empty() { "no CA at all".to_owned() } else { format!("the CA {}", prints.join(", ")) })
}

/// The agent's part of a seed, and the enrolment it leads to.
pub(super) fn seed(authority: &Authority, wanted: &SeedFor<'_>) -> Result<(AgentPart, PendingEnrolment), Error> {
    seed_of(PROGRAMS, authority, wanted)
}

pub(super) fn seed_of(
    programs: &[Program],
    authority: &Authority,
    wanted: &SeedFor<'_>,
) -> Result<(AgentPart, PendingEnrolment), Error> {
    let fitting = programs.iter().filter(|program| wanted.machine.is_none_or(|machine| machine == program.machine));
    let agents: Vec<(&str, Vec<u8>)> = fitting.map(|program| (program.machine, program.unpacked())).collect();
    if agents.is_empty() {
        return Err(wanted
            .machine
            .map_or(Error::NoBinary, |machine| Error::NoBinaryFor { machine: machine.to_owned() }));
    }
    let pending = PendingEnrolment {
        id: hex::encode(nonce().get(..12).unwrap_or_default()),
        generation: wanted.generation,
        machine_uuid: wanted.machine_uuid.to_ascii_lowercase(),
        secret: Secret::generate(),
    };
    let mut files = vec![
        file("install.sh", 0o755, install_script(&pending, &agents)),
        file("groundwork-agent.service", 0o644, UNIT),
        file("agent.toml", 0o644, configuration(wanted)),
        file("ca.pem", 0o644, authority.pem()),
        file("enrol.json", 0o600, enrol_json(&pending)),
    ];
    files.extend(agents.into_iter().map(|(machine, binary)| file(&format!("agent-{machine}"), 0o755, binary)));
    // The hook runs on every boot; what it starts does its work once per seed, so that a re-issued secret is taken up too.
    Ok((AgentPart { hook: FIND_SEED.to_owned(), files }, pending))
}

fn enrol_json(pending: &PendingEnrolment) -> String {
    let PendingEnrolment { id, generation, machine_uuid, secret } = pending;
    json!({ "id": id, "generation": generation, "machine_uuid": machine_uuid, "secret": secret.to_base64().as_str() })
        .to_string()
}

/// In TOML a list of plain strings is written as in JSON.
fn configuration(wanted: &SeedFor<'_>) -> String {
    let SeedFor { port, allow_from, .. } = wanted;
    let mut text = format!("# Written by Groundwork's seed.\nlisten = \"[::]:{port}\"\n");
    if !allow_from.is_empty() {
        text.push_str(&format!("allow_from = {}\n", json!(allow_from)));
    }
    text
}

fn install_script(pending: &PendingEnrolment, agents: &[(&str, Vec<u8>)]) -> String {
    let sums: Vec<String> = agents
        .iter()
        .map(|(machine, binary)| format!("{machine}) sum={} ;;", hex::encode(digest(&SHA256, binary))))
        .collect();
    INSTALL
        .replace("@ID@", &pending.id)
        .replace("@UUID@", &pending.machine_uuid)
        .replace("@GENERATION@", &pending.generation.to_string())
        .replace("@SUMS@", &sums.join("\n"))
}

fn file(name: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> File {
    File { path: format!("groundwork/{name}"), mode, bytes: bytes.into() }
}

const UNIT: &str = include_str!("../../../agent/groundwork-agent.service");
const FIND_SEED: &str = include_str!("install/find-seed.sh");
const INSTALL: &str = include_str!("install/install.sh");

#[cfg(test)]
mod tests {
    use super::super::pki;
    use super::*;

    fn made() -> (AgentPart, PendingEnrolment) {
        of(Some("x86_64")).unwrap()
    }

    fn of(machine: Option<&str>) -> Result<(AgentPart, PendingEnrolment), Error> {
        let dir = tempfile::tempdir().unwrap();
        pki::init(dir.path()).unwrap();
        let authority = Authority::from_dir(dir.path()).unwrap();
        let networks = ["192.0.2.0/24".to_owned(), "2001:db8::1".to_owned()];
        let wanted = SeedFor { machine_uuid: "ABCD", generation: 2, port: 7443, machine, allow_from: &networks };
        let programs = [Program::of("x86_64", b"binary"), Program::of("aarch64", b"other")];
        seed_of(&programs, &authority, &wanted)
    }

    #[test]
    fn the_secret_stands_in_one_file_of_the_seed_and_nowhere_else() {
        let (part, pending) = made();
        let secret = pending.secret.to_base64();
        let holders: Vec<_> = part
            .files
            .iter()
            .filter(|file| String::from_utf8_lossy(&file.bytes).contains(secret.as_str()))
            .map(|file| file.path.as_str())
            .collect();
        assert_eq!(holders, ["groundwork/enrol.json"]);
        assert!(!part.hook.contains(secret.as_str()));
        assert!(!format!("{pending:?}").contains(secret.as_str()), "{pending:?}");
    }

    /// It is read by the agent's own code.
    #[test]
    fn the_agent_reads_its_configuration() {
        let (part, _) = made();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| part.files.iter().find(|file| file.path.ends_with(name)).unwrap();
        let ca = dir.path().join("ca.pem");
        std::io::copy(&mut &file("ca.pem").bytes[..], &mut std::fs::File::create(&ca).unwrap()).unwrap();
        let mut text = String::from_utf8(file("agent.toml").bytes.clone()).unwrap();
        assert!(text.contains(r#"allow_from = ["192.0.2.0/24","2001:db8::1"]"#), "{text}");
        text.push_str(&format!("ca = {:?}\n", ca.display().to_string()));
        let path = dir.path().join("agent.toml");
        std::io::copy(&mut text.as_bytes(), &mut std::fs::File::create(&path).unwrap()).unwrap();
        let config = groundwork_agent::config::Config::load(&path).unwrap();
        assert_eq!((config.listen.port(), config.allow_from.len()), (7443, 2));
    }

    #[test]
    fn the_script_knows_the_binary_and_the_enrolment() {
        let (part, pending) = made();
        let script = part.files.iter().find(|file| file.path == "groundwork/install.sh").unwrap();
        let script = String::from_utf8_lossy(&script.bytes);
        assert!(script.contains(&format!("x86_64) sum={} ;;", hex::encode(digest(&SHA256, b"binary")))), "{script}");
        assert!(script.contains(&pending.id) && script.contains("= abcd ]") && script.contains("-lt 2 ]"), "{script}");
        assert!(!script.contains('@'), "every placeholder is filled: {script}");
    }

    #[test]
    fn an_agent_of_another_ca_is_a_strangers() {
        let authority = |dir: &tempfile::TempDir| {
            pki::init(dir.path()).unwrap();
            Authority::from_dir(dir.path()).unwrap()
        };
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, other) = (authority(&one), authority(&other));
        assert_eq!(strangers(&one, one.pem()), None);
        assert_eq!(
            strangers(&one, &format!("{}{}", other.pem(), one.pem())),
            None,
            "while CAs change, both are believed"
        );
        let told = strangers(&one, other.pem()).unwrap();
        assert!(told.starts_with("the CA sha256:") && told.len() == 7 + 7 + 64, "{told}");
        assert_eq!(strangers(&one, "nonsense").as_deref(), Some("no CA at all"));
    }

    #[test]
    fn a_seed_carries_the_agent_of_its_machine_or_all_where_that_is_not_known() {
        let carried = |part: &AgentPart| -> Vec<(String, Vec<u8>)> {
            let agents =
                part.files.iter().filter_map(|file| Some((file.path.strip_prefix("groundwork/agent-")?, file)));
            agents.map(|(machine, file)| (machine.to_owned(), file.bytes.clone())).collect()
        };
        let (x86, arm) = (("x86_64".to_owned(), b"binary".to_vec()), ("aarch64".to_owned(), b"other".to_vec()));
        assert_eq!(carried(&made().0), std::slice::from_ref(&x86));
        assert_eq!(carried(&of(Some("aarch64")).unwrap().0), std::slice::from_ref(&arm));
        assert_eq!(carried(&of(None).unwrap().0), [x86, arm]);
        let refused = of(Some("riscv64")).err().unwrap();
        assert!(refused.to_string().contains("no agent for \"riscv64\""), "{refused}");
    }
}
