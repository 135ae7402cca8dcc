//! Unit files and drop-ins that are declared as files: read by systemd, and in force in the services that run.
//!
//! A file on the disk says nothing about a service that was started before it, or while systemd still had the old one in mind. So
//! what systemd has loaded is asked (`NeedDaemonReload`, `DropInPaths`, `FragmentPath`), when the service was started, and which
//! environment its process has. Source: systemctl(1), org.freedesktop.systemd1(5).
//!
//! A plan foretells what a change of the file will need. Only services with a process are restarted: a mount, a timer or a socket
//! takes its new file at the reload, and what ran once does not run again.

use super::Step;
use crate::change::{Act, StepError, Todo, Verb};
use crate::host::units::{self, Unit};
use crate::host::{Host, HostError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Declared files of units by unit, and by path.
pub(super) struct Units(BTreeMap<String, BTreeMap<String, Option<Bytes>>>);

impl Units {
    /// Of all files with their contents; `None` for one that another step writes.
    pub(super) fn among(files: impl Iterator<Item = (String, Option<Bytes>)>) -> Self {
        let mut units = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (path, content) in files {
            if let Some(unit) = unit_of(&path) {
                units.entry(unit).or_default().insert(path, content);
            }
        }
        Self(units)
    }

    /// Those that this step sees to.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }
}

impl Step for Units {
    fn name(&self) -> &'static str {
        "units"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        let names: Vec<_> = self.0.keys().map(String::as_str).collect();
        let found = units::units(host, &names).await?;
        let (mut stale, mut old) = (Vec::new(), Vec::new());
        for (name, files) in &self.0 {
            let Some(unit) = found.get(name).filter(|unit| unit.known && !unit.masked) else { continue };
            let reason = reason(host, unit, files)?;
            if let Some(Reason { finding, unread: true }) = &reason {
                stale.push(format!("{name}: systemd has not read {finding}"));
            }
            if let Some(reason) = reason.filter(|_| unit.pid > 0) {
                old.push((name, reason.finding));
            }
            if let Some(other) = hidden(unit, files) {
                todo.warn(format!("{name}: systemd uses {} and not {other}, which is declared", unit.fragment));
            }
        }
        todo.push_all(stale, Verb::Reload, "systemd still uses what it read earlier");
        for (name, file) in old {
            if !may_restart(name) {
                todo.warn(format!(
                    "{name} runs without {file} until the next boot: it is not restarted while the machine is in use"
                ));
                continue;
            }
            let restart = Verb::Unit { unit: name.clone(), act: Act::Restart };
            todo.push(format!("{name} runs without {file}"), restart, "it was started before that was in force");
        }
        Ok(todo)
    }
}

/// Whether a unit takes what is new by a restart, and can be restarted while the machine is in use.
pub(super) fn may_restart(unit: &str) -> bool {
    unit.ends_with(".service") && !UNTOUCHED.contains(&unit)
}

/// Why a unit is not as its files say.
struct Reason {
    finding: String,
    /// systemd has not read it.
    unread: bool,
}

fn reason(host: &dyn Host, unit: &Unit, files: &BTreeMap<String, Option<Bytes>>) -> Result<Option<Reason>, HostError> {
    for (path, content) in files {
        let differs = match content {
            Some(content) => host.compare(path, content)?.is_none_or(|found| !found.same),
            None => false,
        };
        let is_drop_in = path.rsplit_once('/').is_some_and(|(folder, _)| folder.ends_with(".d"));
        let unread = is_drop_in && host.exists(path)? && !unit.drop_ins.contains(path);
        // A unit that nothing holds in memory is read anew whenever it is asked for.
        if unit.active && (differs || unread) || unit.stale {
            return Ok(Some(Reason { finding: path.clone(), unread: true }));
        }
        if host.stat(path)?.is_some_and(|stat| units::is_older(unit, stat.modified, host.now())) {
            return Ok(Some(Reason { finding: path.clone(), unread: false }));
        }
    }
    if lacks(&environment(host, unit.pid), &unit.environment) {
        let finding = "its declared environment".to_owned();
        return Ok(Some(Reason { finding, unread: false }));
    }
    Ok(None)
}

/// A declared unit file that another of the same name hides.
fn hidden<'a>(unit: &Unit, files: &'a BTreeMap<String, Option<Bytes>>) -> Option<&'a str> {
    let whole = files.keys().find(|path| !path.contains(".d/"))?;
    (!unit.fragment.is_empty() && real(&unit.fragment) != real(whole)).then_some(whole.as_str())
}

/// `/lib` is `/usr/lib` on every machine that this agent runs on.
fn real(path: &str) -> &str {
    path.strip_prefix("/usr").unwrap_or(path)
}

/// The variables of a process; none where it cannot be told.
fn environment(host: &dyn Host, pid: u32) -> Vec<String> {
    let text = (pid > 0).then(|| host.text(&format!("/proc/{pid}/environ")).ok().flatten()).flatten();
    text.unwrap_or_default().split('\0').filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

/// Whether a process lacks a variable that its unit has. What systemd quotes is not compared, nor a process without the variable that
/// systemd gives to each: it is not the service's program yet (`systemctl restart` of a simple service ends at the fork, before that is
/// executed), or has changed all of it. Source: systemd.exec(5), "Environment Variables in Spawned Processes".
fn lacks(process: &[String], unit: &str) -> bool {
    let plain = !unit.contains(['"', '\\', '\'', '$']);
    let started = process.iter().any(|has| has.starts_with("INVOCATION_ID="));
    let wanted: Vec<_> = unit.split_whitespace().filter(|one| one.contains('=')).collect();
    plain && started && wanted.iter().any(|want| !process.iter().any(|has| has == want))
}

/// The unit whose file or drop-in this is. Those of templates and of whole kinds of units are nobody's.
pub(super) fn unit_of(path: &str) -> Option<String> {
    let rest = FOLDERS.iter().find_map(|folder| path.strip_prefix(folder)?.strip_prefix('/'))?;
    let name = match rest.split_once('/') {
        None => rest,
        Some((folder, drop_in)) if drop_in.ends_with(".conf") && !drop_in.contains('/') => folder.strip_suffix(".d")?,
        Some(_) => return None,
    };
    let (stem, _) = name.rsplit_once('.').filter(|(stem, suffix)| !stem.is_empty() && SUFFIXES.contains(suffix))?;
    (!stem.ends_with('@')).then(|| name.to_owned())
}

const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const SUFFIXES: [&str; 9] = ["service", "socket", "timer", "mount", "automount", "swap", "target", "path", "slice"];
/// What everything hangs on, and who is at work.
const UNTOUCHED: [&str; 5] = [
    "groundwork-agent.service",
    "dbus.service",
    "dbus-broker.service",
    "systemd-logind.service",
    "systemd-journald.service",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_unit_is_known_by_its_place() {
        for (path, unit) in [
            ("/etc/systemd/system/a.service", Some("a.service")),
            ("/etc/systemd/system/containerd.service.d/proxy.conf", Some("containerd.service")),
            ("/usr/lib/systemd/system/b@1.timer", Some("b@1.timer")),
            ("/etc/systemd/system/b@.service", None),
            ("/etc/systemd/system/service.d/all.conf", None),
            ("/etc/systemd/system/a.service.d/readme", None),
            ("/etc/systemd/system/multi-user.target.wants/a.service", None),
            ("/etc/systemd/journald.conf", None),
            ("/etc/motd", None),
        ] {
            assert_eq!(unit_of(path).as_deref(), unit, "{path}");
        }
    }

    #[test]
    fn a_process_without_its_units_environment_is_told() {
        let process = ["A=1", "B=2", "INVOCATION_ID=0"].map(str::to_owned);
        assert!(!lacks(&process, "A=1") && !lacks(&process, ""));
        assert!(lacks(&process, "A=1 C=3") && lacks(&process, "B=1"));
        assert!(!lacks(&process, "\"C=x y\""), "quoted");
        assert!(!lacks(&[], "A=1"), "one that cannot be looked at");
        assert!(!lacks(&["TERM=vt220".to_owned()], "A=1"), "systemd's own, before it executes the program");
    }
}
