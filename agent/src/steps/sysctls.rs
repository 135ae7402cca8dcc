//! Kernel settings: in force now, and after the next boot.
//!
//! Source: sysctl.d(5), sysctl(8). Files of all folders are read in the order of their names, and the last one wins; so a later file
//! than ours that says something else is a finding too, by a pattern, too, or by another name of the same switch. `sysctl --system`
//! reads /etc/sysctl.conf after all of them. Values are compared with their white space normalised.

use super::Step;
use crate::change::{self, File, StepError, Todo, Verb};
use crate::facts;
use crate::host::{Host, HostError};
use agent_proto::form::sysctl_path;
use std::collections::{BTreeMap, BTreeSet};
use std::iter;

pub(super) struct Sysctls(pub(super) BTreeMap<String, String>);

impl Step for Sysctls {
    fn name(&self) -> &'static str {
        STEP
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        // What somebody else has set comes back when there is nothing for it to be in the way of.
        let mut todo = change::restores(host, STEP, |_| !self.0.is_empty())?;
        self.written(host, &mut todo)?;
        for (path, content) in self.overriding(host)? {
            let finding = format!("{path} sets something else after our file");
            let file = File { access: host.access(&path)?, ..File::theirs(STEP, &path, content) };
            todo.push(finding, Verb::Write(file), "the last file wins at the next boot");
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
        iter::once(HEAD.to_owned()).chain(lines).collect()
    }

    /// Files that come after ours and contradict it: where each is to be written, and its content with those lines commented out.
    fn overriding(&self, host: &dyn Host) -> Result<Vec<(String, String)>, HostError> {
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        for folder in FOLDERS {
            for name in host.list(folder)?.into_iter().filter(|name| name.as_str() > NAME && name.ends_with(".conf")) {
                if seen.insert(name.clone()) {
                    let text = self.without_rivals(host, &format!("{folder}/{name}"))?;
                    found.extend(text.map(|text| (format!("{}/{name}", FOLDERS[0]), text)));
                }
            }
        }
        found.extend(self.without_rivals(host, LAST)?.map(|text| (LAST.to_owned(), text)));
        Ok(found)
    }

    /// A file's text with the lines commented out that contradict us, if there are any.
    fn without_rivals(&self, host: &dyn Host, path: &str) -> Result<Option<String>, HostError> {
        let text = host.text(path)?.unwrap_or_default();
        let wrong = |line: &str| setting(line).is_some_and(|(key, value)| self.contradicts(&key, &value));
        if !text.lines().any(wrong) {
            return Ok(None);
        }
        let mark = |line: &str| if wrong(line) { format!("# groundwork: {line}\n") } else { format!("{line}\n") };
        Ok(Some(text.lines().map(mark).collect()))
    }

    /// Whether a setting, whose key may be a pattern, gives one of ours another value.
    fn contradicts(&self, pattern: &str, value: &str) -> bool {
        self.0.iter().any(|(key, want)| {
            let path = sysctl_path(key);
            let mut names =
                iter::once(path.as_str()).chain(SAME.iter().filter(|(one, _)| *one == path).map(|(_, other)| *other));
            normal(want) != value && names.any(|name| matches(pattern, name))
        })
    }
}

/// Whether a pattern covers a path, as glob(7): nothing in it reaches over a `/`.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if part_matches(one.as_bytes(), other.as_bytes()) => {}
            _ => return false,
        }
    }
}

/// The same for what stands between two slashes. A set of letters is taken for any letter.
fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on if the last star has to stand for more.
    let mut retry = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at, from));
                at += 1;
                continue;
            }
            Some(b'[') if pattern.iter().skip(at).any(|byte| *byte == b']') => {
                at += pattern.iter().skip(at).position(|byte| *byte == b']').unwrap_or(0) + 1;
                from += 1;
                continue;
            }
            Some(byte) if *byte == b'?' || Some(byte) == text.get(from) => {
                (at, from) = (at + 1, from + 1);
                continue;
            }
            _ => {}
        }
        let Some((star, reached)) = retry else { return false };
        retry = Some((star, reached + 1));
        (at, from) = (star + 1, reached + 1);
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
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

const STEP: &str = "sysctls";
const NAME: &str = "99-zz-groundwork.conf";
const FILE: &str = "/etc/sysctl.d/99-zz-groundwork.conf";
const HEAD: &str = "# Written by Groundwork; changes made here are taken back.\n";
/// Read last by `sysctl --system`.
const LAST: &str = "/etc/sysctl.conf";
/// One switch of the kernel by two names. Source: the kernel's ip-sysctl.
const SAME: [(&str, &str); 2] =
    [("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"), ("net/ipv4/conf/all/forwarding", "net/ipv4/ip_forward")];
/// By precedence: a file hides those of the same name in later folders.
const FOLDERS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn patterns_cover_what_glob_says() {
        for (pattern, path, covers) in [
            ("net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/forwarding", true),
            ("net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/x/forwarding", false),
            ("net/*/ip_forward", "net/ipv4/ip_forward", true),
            ("net/ipv?/ip_*w*d", "net/ipv4/ip_forward", true),
            ("net/ipv4/ip_*x", "net/ipv4/ip_forward", false),
            ("net/ipv[46]/ip_forward", "net/ipv4/ip_forward", true),
            ("net/ipv4", "net/ipv4/ip_forward", false),
            ("**", "a", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, path), covers, "{pattern} {path}");
        }
    }

    #[tokio::test]
    async fn a_pattern_another_name_and_the_file_read_last_are_rivals() {
        let host = Fake::template();
        host.put("/usr/lib/sysctl.d/99-zzzz.conf", "net.ipv4.conf.*.forwarding = 0\nnet.ipv4.conf.*.rp_filter = 0\n");
        host.put("/usr/lib/sysctl.d/10-early.conf", "net.ipv4.ip_forward = 0\n");
        host.put("/etc/sysctl.conf", "#x\nnet.ipv4.conf.all.forwarding=0\nnet.ipv4.ip_forward = 1\n");
        let step = Sysctls([("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into());
        let written: BTreeMap<_, _> = step
            .missing(&host)
            .await
            .unwrap()
            .changes
            .into_iter()
            .filter_map(|change| match change.verb {
                Verb::Write(file) => Some((file.path, String::from_utf8_lossy(&file.content).into_owned())),
                _ => None,
            })
            .collect();
        assert_eq!(
            written["/etc/sysctl.d/99-zzzz.conf"],
            "# groundwork: net.ipv4.conf.*.forwarding = 0\nnet.ipv4.conf.*.rp_filter = 0\n"
        );
        assert_eq!(
            written["/etc/sysctl.conf"],
            "#x\n# groundwork: net.ipv4.conf.all.forwarding=0\nnet.ipv4.ip_forward = 1\n"
        );
        assert!(!written.contains_key("/etc/sysctl.d/10-early.conf"), "{written:?}");
    }

    #[test]
    fn any_text_is_answered() {
        total::text("sysctl", &["net.ipv4.conf.*.forwarding = 0\n-a/b=1"], |text| {
            text.lines().filter_map(setting).collect::<Vec<_>>()
        });
        total::text("sysctl-pattern", &["net/ipv4/conf/*/f[ab]?"], |text| {
            matches(text, "net/ipv4/conf/all/forwarding")
        });
    }
}
