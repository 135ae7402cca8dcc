//! Files as they are declared: content, mode, owner. What stood there before the first write comes back when one is no longer declared.
//!
//! Those of apt come before the packages: a source that an installer has left, and that breaks every update, can be replaced.

use super::Step;
use super::units::{may_restart, unit_of};
use crate::change::{self, Act, File, StepError, Todo, Verb};
use crate::host::{Access, Host, HostError, Kind, units};
use agent_proto::v1::machine::FileSpec;
use std::collections::BTreeMap;

/// Files by path.
pub(super) struct Files {
    /// All that are declared.
    pub(super) wanted: BTreeMap<String, FileSpec>,
    /// Whether these are apt's, or all others.
    pub(super) of_apt: bool,
}

impl Step for Files {
    fn name(&self) -> &'static str {
        if self.of_apt { "apt_files" } else { NAME }
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let is_its = |path: &str| path.starts_with("/etc/apt/") == self.of_apt;
        let mut todo = change::restores(host, NAME, |path| !is_its(path) || self.wanted.contains_key(path))?;
        gone(host, &mut todo).await?;
        let (accounts, others) = (Accounts::read(host)?, change::others(host, NAME)?);
        for (path, want) in self.wanted.iter().filter(|(path, _)| is_its(path)) {
            // Files can be many and large: whoever no longer waits for the answer stops the work here.
            tokio::task::yield_now().await;
            let file = File { access: accounts.access(path, want)?, ..File::theirs(NAME, path, want.content.clone()) };
            let finding = match (difference(host, &file)?, others.get(path)) {
                (None, None) => continue,
                (Some(finding), _) => finding,
                // That step would put back what it found as soon as it no longer wants the file.
                (None, Some(step)) => format!("was written by the step {step}"),
            };
            todo.push(format!("{path} {finding}"), Verb::Write(file), "it is declared");
        }
        Ok(todo)
    }
}

/// Drop-ins that go are no longer in force in what runs: a unit's own file may be all that there is of it, and stays so.
async fn gone(host: &dyn Host, todo: &mut Todo) -> Result<(), StepError> {
    const WHY: &str = "it is no longer declared";
    let paths = todo.changes.iter().filter_map(|change| match &change.verb {
        Verb::Restore { path, .. } => Some((unit_of(path)?, path.clone())),
        _ => None,
    });
    let gone: BTreeMap<_, _> = paths.collect();
    if gone.is_empty() {
        return Ok(());
    }
    let found = units::units(host, &gone.keys().map(String::as_str).collect::<Vec<_>>()).await?;
    todo.push(format!("systemd has read {}", gone.values().cloned().collect::<Vec<_>>().join(", ")), Verb::Reload, WHY);
    let runs = |unit: &str| found.get(unit).is_some_and(|unit| unit.pid > 0) && may_restart(unit);
    for (unit, path) in gone.iter().filter(|(unit, path)| path.contains(".d/") && runs(unit)) {
        todo.push(format!("{unit} runs with {path}"), Verb::Unit { unit: unit.clone(), act: Act::Restart }, WHY);
    }
    Ok(())
}

/// What is different, if anything. Content is never shown.
fn difference(host: &dyn Host, want: &File) -> Result<Option<String>, StepError> {
    let Some(found) = host.compare(&want.path, &want.content)? else { return Ok(Some("is missing".to_owned())) };
    match found.stat.kind {
        Kind::File if !found.same => Ok(Some("differs".to_owned())),
        Kind::File => Ok(access(found.stat.access, want.access)),
        Kind::Link(to) => Ok(Some(format!("is a link to {to}"))),
        Kind::Folder | Kind::Other => Err(StepError::no_file(&want.path)),
    }
}

fn access(found: Access, want: Access) -> Option<String> {
    if found.mode != want.mode {
        return Some(format!("has mode {:04o}, not {:04o}", found.mode, want.mode));
    }
    ((found.uid, found.gid) != (want.uid, want.gid))
        .then(|| format!("belongs to {}:{}, not {}:{}", found.uid, found.gid, want.uid, want.gid))
}

/// The machine's own users and groups.
struct Accounts {
    users: String,
    groups: String,
}

impl Accounts {
    fn read(host: &dyn Host) -> Result<Self, HostError> {
        let text = |path| Ok(host.text(path)?.unwrap_or_default());
        Ok(Self { users: text("/etc/passwd")?, groups: text("/etc/group")? })
    }

    fn access(&self, path: &str, want: &FileSpec) -> Result<Access, StepError> {
        let mode = want.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0o644);
        let uid = number(&self.users, want.owner.as_deref(), path, "user")?;
        let gid = number(&self.groups, want.group.as_deref(), path, "group")?;
        Ok(Access { mode, uid, gid })
    }
}

/// The third field of `/etc/passwd` and `/etc/group` alike.
fn number(accounts: &str, who: Option<&str>, path: &str, kind: &str) -> Result<u32, StepError> {
    let Some(who) = who else { return Ok(0) };
    if let Ok(number) = who.parse() {
        return Ok(number);
    }
    let found = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(who)).then(|| fields.nth(1)).flatten()?.parse().ok()
    });
    found.ok_or_else(|| StepError::unsupported(format!("the owner of {path}"), format!("there is no {kind} {who:?}")))
}

const NAME: &str = "files";

#[cfg(test)]
mod tests {
    use super::*;

    /// A specification is as large as its files: it is received into the memory once, and stays there.
    #[tokio::test]
    async fn a_content_is_not_copied() {
        use agent_proto::v1::machine::NodeSpec;
        use prost::Message as _;
        let file = FileSpec { content: vec![7; 100_000].into(), ..Default::default() };
        let spec = NodeSpec { file: [("/x".to_owned(), file)].into(), ..Default::default() };
        let received: bytes::Bytes = spec.encode_to_vec().into();
        let place = received.as_ptr_range();
        let spec = crate::spec::Spec::try_from(NodeSpec::decode(received).unwrap()).unwrap();
        let host = crate::host::fake::Fake::template();
        let changes = Files { wanted: spec.complete().file, of_apt: false }.missing(&host).await.unwrap().changes;
        let [Verb::Write(file)] = &changes.iter().map(|change| &change.verb).collect::<Vec<_>>()[..] else {
            panic!("{changes:?}")
        };
        assert!(file.content.len() == 100_000 && place.contains(&file.content.as_ptr()));
    }

    #[test]
    fn an_owner_is_a_name_or_a_number() {
        let accounts = Accounts {
            users: "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n".to_owned(),
            groups: "root:x:0:\nadm:x:4:syslog\n".to_owned(),
        };
        let file = |owner: &str, group: &str, mode: Option<&str>| FileSpec {
            owner: Some(owner.to_owned()),
            group: Some(group.to_owned()),
            mode: mode.map(str::to_owned),
            ..FileSpec::default()
        };
        let access = |file| accounts.access("/x", &file);
        assert_eq!(access(file("www-data", "adm", None)).unwrap(), Access { mode: 0o644, uid: 33, gid: 4 });
        assert_eq!(access(file("7", "8", Some("0755"))).unwrap(), Access { mode: 0o755, uid: 7, gid: 8 });
        let error = access(file("nobody-else", "adm", None)).unwrap_err().to_string();
        assert_eq!(error, "the owner of /x is not possible here: there is no user \"nobody-else\"");
    }
}
