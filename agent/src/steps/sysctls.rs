//! Kernel settings: in force now, and after the next boot.
//!
//! Source: sysctl.d(5). Files of all folders are read in the order of their names, and the last one wins; so a later file than
//! ours that says something else is a finding too. Values are compared with their white space normalised.

use super::Step;
use crate::change::{File, StepError, Todo, Verb};
use crate::facts;
use crate::host::{Host, HostError};
use agent_proto::form::sysctl_path;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Sysctls(pub(super) BTreeMap<String, String>);

impl Step for Sysctls {
    fn name(&self) -> &'static str {
        "sysctls"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        self.written(host, &mut todo)?;
        for (name, content) in self.overriding(host)? {
            let path = format!("/etc/sysctl.d/{name}");
            let finding = format!("{path} sets something else after our file");
            todo.push(finding, Verb::Write(File::ours(&path, content)), "the last file wins at the next boot");
        }
        for (key, want) in &self.0 {
            live(host, key, want, &mut todo)?;
        }
        Ok(todo)
    }
}

impl Sysctls {
    fn written(&self, host: &dyn Host, todo: &mut Todo) -> Result<(), StepError> {
        let present = host.text(FILE)?;
        if self.0.is_empty() {
            if present.is_some() {
                todo.push(format!("{FILE} is no longer wanted"), Verb::Remove(FILE.to_owned()), "nothing is declared");
            }
            return Ok(());
        }
        let want = self.text();
        if present.as_deref() == Some(&want) {
            return Ok(());
        }
        let present: BTreeMap<_, _> = present.iter().flat_map(|text| text.lines()).filter_map(setting).collect();
        let wrong: Vec<_> = self
            .0
            .iter()
            .filter(|(key, value)| present.get(&sysctl_path(key)) != Some(&normal(value)))
            .map(|(key, _)| key.as_str())
            .collect();
        let finding = if present.is_empty() {
            format!("{FILE} is missing")
        } else if wrong.is_empty() {
            format!("{FILE} is not as wanted")
        } else {
            format!("{FILE} does not set {}", wrong.join(", "))
        };
        todo.push(finding, Verb::Write(File::ours(FILE, want)), "the settings after the next boot");
        Ok(())
    }

    fn text(&self) -> String {
        let lines = self.0.iter().map(|(key, value)| format!("{key} = {value}\n"));
        std::iter::once(HEAD.to_owned()).chain(lines).collect()
    }

    /// Files that come after ours and contradict it: their names, and their content with those lines commented out.
    fn overriding(&self, host: &dyn Host) -> Result<Vec<(String, String)>, HostError> {
        let wanted: BTreeMap<_, _> = self.0.iter().map(|(key, value)| (sysctl_path(key), normal(value))).collect();
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        for folder in FOLDERS {
            for name in host.list(folder)?.into_iter().filter(|name| name.as_str() > NAME && name.ends_with(".conf")) {
                if !seen.insert(name.clone()) {
                    continue;
                }
                let text = host.text(&format!("{folder}/{name}"))?.unwrap_or_default();
                let wrong = |line: &str| {
                    setting(line).is_some_and(|(key, value)| wanted.get(&key).is_some_and(|want| *want != value))
                };
                if text.lines().any(wrong) {
                    let lines = text
                        .lines()
                        .map(|line| if wrong(line) { format!("# groundwork: {line}\n") } else { format!("{line}\n") });
                    found.push((name, lines.collect()));
                }
            }
        }
        Ok(found)
    }
}

fn live(host: &dyn Host, key: &str, want: &str, todo: &mut Todo) -> Result<(), HostError> {
    let path = format!("/proc/sys/{}", sysctl_path(key));
    let now = host.text(&path)?;
    if now.as_deref().map(normal) == Some(normal(want)) {
        return Ok(());
    }
    if let Some(kind) = facts::container(host) {
        if now.is_none() {
            todo.skip(format!("{key}: this container ({kind}) does not have it"));
            return Ok(());
        }
        if !facts::is_writable(host, &path) {
            todo.skip(format!("{key}: read-only in this container ({kind})"));
            return Ok(());
        }
    }
    let finding = match now {
        Some(now) => format!("{key} is {}, not {want}", normal(&now)),
        None => format!("{key} does not exist"),
    };
    todo.push(finding, Verb::Set { path, value: want.to_owned() }, "the setting now");
    Ok(())
}

/// "key = value" of a line, normalised; a leading dash makes it optional, which changes nothing here.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (key, value) = line.strip_prefix('-').unwrap_or(line).split_once('=')?;
    (!line.starts_with(['#', ';'])).then(|| (sysctl_path(key.trim()), normal(value)))
}

fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

const NAME: &str = "99-zz-groundwork.conf";
const FILE: &str = "/etc/sysctl.d/99-zz-groundwork.conf";
const HEAD: &str = "# Written by Groundwork; changes made here are taken back.\n";
/// By precedence: a file hides those of the same name in later folders.
const FOLDERS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
