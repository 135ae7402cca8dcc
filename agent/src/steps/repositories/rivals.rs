//! Sources of apt that somebody else has written: those for a repository of ours, for apt refuses all work when two sources of one
//! repository name different keys, and those that are declared absent, such as the disc that an installer leaves in the list. Theirs
//! is switched off, and what stood there is kept.
//!
//! Source: sources.list(5).

use super::{LISTS, NAME, PREFIX, SOURCES, key_path};
use crate::change::{File, StepError, Todo, Verb};
use crate::host::{Host, HostError};
use agent_proto::v1::machine::RepositorySpec;
use std::collections::BTreeMap;

pub(super) fn switch_off(
    host: &dyn Host,
    ours: &BTreeMap<String, RepositorySpec>,
    todo: &mut Todo,
) -> Result<(), StepError> {
    for path in foreign(host)? {
        let Some(found) = host.text(&path)? else { continue };
        let (mut text, mut findings) = (found.clone(), Vec::new());
        for (name, ours) in ours {
            let without = without(&path, &text, name, ours)?;
            if without != text {
                let wrong = if ours.absent() { "which is to be absent" } else { "which is ours, with another key" };
                findings.push(format!("{path} lists {}, {wrong}", ours.url));
                text = without;
            }
        }
        let file = File { access: host.access(&path)?, ..File::theirs(NAME, &path, text) };
        todo.push_all(findings, Verb::Write(file), "apt refuses to work with what it cannot reach, or with two keys");
    }
    Ok(())
}

fn without(path: &str, text: &str, name: &str, ours: &RepositorySpec) -> Result<String, StepError> {
    if path.ends_with(".sources") {
        return stanzas(text, &|source| is_rival(name, ours, &source), path);
    }
    Ok(lines(text, &|source| is_rival(name, ours, &source)))
}

fn foreign(host: &dyn Host) -> Result<Vec<String>, HostError> {
    let names = host.list(LISTS)?.into_iter().filter(|name| !name.starts_with(PREFIX));
    let read = names.filter(|name| name.ends_with(".list") || name.ends_with(".sources"));
    Ok([SOURCES.to_owned()].into_iter().chain(read.map(|name| format!("{LISTS}/{name}"))).collect())
}

/// A source as it is written: a line, or a stanza.
struct Source<'a> {
    uris: Vec<&'a str>,
    suites: Vec<&'a str>,
    signed_by: Option<&'a str>,
    trusted: bool,
}

/// What a source has to do with a repository of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rival {
    /// Nothing.
    No,
    /// It is the same.
    Wholly,
    /// It lists others too.
    InPart,
}

fn is_rival(name: &str, ours: &RepositorySpec, theirs: &Source<'_>) -> Rival {
    if ours.absent() {
        return unwanted(ours, theirs);
    }
    let alike = match ours.trusted() {
        true => theirs.trusted,
        false => theirs.signed_by == Some(key_path(name).as_str()),
    };
    let is_our_uri = |uri: &&str| uri.trim_end_matches('/') == ours.url.trim_end_matches('/');
    let is_our_suite = |suite: &&str| match ours.suites.is_empty() {
        true => flat(suite).is_empty(),
        false => ours.suites.iter().any(|our| flat(our) == flat(suite)),
    };
    if alike || !theirs.uris.iter().any(is_our_uri) || !theirs.suites.iter().any(is_our_suite) {
        return Rival::No;
    }
    let all = theirs.uris.iter().all(is_our_uri) && theirs.suites.iter().all(is_our_suite);
    if all { Rival::Wholly } else { Rival::InPart }
}

/// Whether a source is one that is not to be used.
fn unwanted(ours: &RepositorySpec, theirs: &Source<'_>) -> Rival {
    let is_it = |uri: &&str| match ours.url.ends_with(':') {
        true => uri.starts_with(&ours.url),
        false => uri.trim_end_matches('/') == ours.url.trim_end_matches('/'),
    };
    let is_suite = |suite: &&str| ours.suites.is_empty() || ours.suites.iter().any(|our| flat(our) == flat(suite));
    let (uris, suites) = (&theirs.uris, &theirs.suites);
    if !uris.iter().any(is_it) || !suites.iter().any(is_suite) {
        return Rival::No;
    }
    if uris.iter().all(is_it) && suites.iter().all(is_suite) { Rival::Wholly } else { Rival::InPart }
}

/// The suite of a flat repository can be written in more than one way.
fn flat(suite: &str) -> &str {
    suite.trim_start_matches("./").trim_end_matches('/')
}

/// The one-line format: a rival becomes a comment.
fn lines(text: &str, is_rival: &dyn Fn(Source<'_>) -> Rival) -> String {
    let off = |line: &str| line_source(line).is_some_and(|source| is_rival(source) != Rival::No);
    text.split_inclusive('\n').map(|line| if off(line) { format!("{MARK} {line}") } else { line.to_owned() }).collect()
}

fn line_source(line: &str) -> Option<Source<'_>> {
    let rest = line.trim().strip_prefix("deb-src").or_else(|| line.trim().strip_prefix("deb"))?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let option = |name| options.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let rest = rest.trim_start();
    // A disc has its name in brackets, with blanks.
    let (uri, rest) = match rest.strip_prefix("cdrom:[").and_then(|disc| disc.find(']')) {
        Some(end) => {
            let end = end + "cdrom:[".len();
            let after = rest.get(end..)?.find(char::is_whitespace)?;
            rest.split_at_checked(end + after)?
        }
        None => rest.split_once(char::is_whitespace)?,
    };
    let mut words = rest.split_whitespace();
    Some(Source {
        uris: vec![uri],
        suites: vec![words.next()?],
        signed_by: option("signed-by"),
        trusted: option("trusted") == Some("yes"),
    })
}

/// The format of stanzas: a rival gets a field that disables it.
fn stanzas(text: &str, is_rival: &dyn Fn(Source<'_>) -> Rival, path: &str) -> Result<String, StepError> {
    let mut changed = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name| field(stanza, name);
        let first = |name| field(name).and_then(|words| words.first().copied());
        let disabled = first("enabled").is_some_and(|word| ["no", "false", "0"].contains(&word));
        let source = Source {
            uris: field("uris").unwrap_or_default(),
            suites: field("suites").unwrap_or_default(),
            signed_by: first("signed-by"),
            trusted: first("trusted") == Some("yes"),
        };
        changed.push(match is_rival(source) {
            _ if disabled => stanza.to_owned(),
            Rival::No => stanza.to_owned(),
            Rival::Wholly => disable(stanza),
            Rival::InPart => {
                let why = format!(
                    "{path} lists it with others in one stanza, which cannot be switched off in part; take it out of that file, or do \
                     not declare it here"
                );
                return Err(StepError::refused("switching off a source of packages", why));
            }
        });
    }
    Ok(changed.join("\n\n"))
}

/// The words of a field, with its continued lines.
fn field<'a>(stanza: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = stanza.lines().filter(|line| !line.starts_with('#'));
    let value = lines.find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then_some(value)
    })?;
    let more = lines.take_while(|line| line.starts_with([' ', '\t']));
    Some([value].into_iter().chain(more).flat_map(str::split_whitespace).collect())
}

fn disable(stanza: &str) -> String {
    let is_switch = |line: &&str| line.split(':').next().is_some_and(|field| field.eq_ignore_ascii_case("enabled"));
    let kept: Vec<_> = stanza.trim_matches('\n').lines().filter(|line| !is_switch(line)).collect();
    format!("{}\n{MARK}\nEnabled: no\n", kept.join("\n"))
}

const MARK: &str = "# Switched off by Groundwork:";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    fn kubernetes() -> RepositorySpec {
        RepositorySpec { url: "https://pkgs.k8s.io/core:/stable:/v1.28/deb/".into(), ..RepositorySpec::default() }
    }

    fn after(host: &Fake) -> Result<Vec<(String, String)>, StepError> {
        let mut todo = Todo::default();
        let other = RepositorySpec { url: "http://other/".into(), ..RepositorySpec::default() };
        let ours = [("kubernetes".to_owned(), kubernetes()), ("other".to_owned(), other)].into();
        switch_off(host, &ours, &mut todo)?;
        let texts = todo.changes.into_iter().map(|change| match change.verb {
            Verb::Write(file) if file.over_original == Some(NAME) => {
                (change.finding, String::from_utf8(file.content.into()).unwrap())
            }
            other => panic!("{other:?}"),
        });
        Ok(texts.collect())
    }

    #[test]
    fn a_line_for_the_same_repository_becomes_a_comment() {
        let host = Fake::template();
        let rival = "deb [arch=amd64 signed-by=/k.gpg] https://pkgs.k8s.io/core:/stable:/v1.28/deb /\n";
        host.put("/etc/apt/sources.list.d/k8s.list", &format!("# mine\n{rival}deb http://else/ /\n"));
        let want = format!("# mine\n{MARK} {rival}deb http://else/ /\n");
        let finding = "/etc/apt/sources.list.d/k8s.list lists https://pkgs.k8s.io/core:/stable:/v1.28/deb/, which is ours, with another key";
        assert_eq!(after(&host).unwrap(), [(finding.to_owned(), want.clone())]);
        host.put("/etc/apt/sources.list.d/k8s.list", &want);
        assert_eq!(after(&host).unwrap(), []);
    }

    #[test]
    fn a_stanza_for_the_same_repository_is_disabled() {
        let host = Fake::template();
        let text = "Types: deb\nURIs: http://else/\nSuites: /\n\nTypes: deb\nURIs: https://pkgs.k8s.io/core:/stable:/v1.28/deb\n\
                    Suites: /\nEnabled: yes\n";
        host.put("/etc/apt/sources.list.d/k8s.sources", text);
        let changed = after(&host).unwrap().pop().unwrap().1;
        let want = format!("{}{MARK}\nEnabled: no\n", text.strip_suffix("Enabled: yes\n").unwrap());
        assert_eq!(changed, want);
        host.put("/etc/apt/sources.list.d/k8s.sources", &changed);
        assert_eq!(after(&host).unwrap(), []);
    }

    #[test]
    fn two_in_one_file_are_one_change() {
        let host = Fake::template();
        host.put("/etc/apt/sources.list", &format!("deb http://other /\ndeb {} /\n", kubernetes().url));
        let changed = after(&host).unwrap();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].1.matches(MARK).count(), 2);
    }

    #[test]
    fn a_stanza_that_lists_others_too_is_not_touched() {
        let host = Fake::template();
        let text = "Types: deb\nURIs: http://else/\n https://pkgs.k8s.io/core:/stable:/v1.28/deb\nSuites: /\n";
        host.put("/etc/apt/sources.list.d/all.sources", text);
        let error = after(&host).unwrap_err().to_string();
        assert!(error.contains("/etc/apt/sources.list.d/all.sources"), "{error}");
    }

    #[test]
    fn what_an_installer_left_is_absent_when_that_is_declared() {
        let host = Fake::template();
        let disc = "deb cdrom:[Debian GNU/Linux 12.5.0 _Bookworm_ - Official amd64 NETINST]/ bookworm contrib main\n";
        let mirror = "deb http://deb.debian.org/debian bookworm main\n";
        host.put("/etc/apt/sources.list", &format!("{disc}{mirror}"));
        let deb822 =
            "Types: deb\nURIs: http://deb.debian.org/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n";
        host.put("/etc/apt/sources.list.d/debian.sources", deb822);
        let absent = |url: &str| RepositorySpec { url: url.into(), absent: Some(true), ..RepositorySpec::default() };
        let switched = |url: &str| {
            let mut todo = Todo::default();
            switch_off(&host, &[("x".to_owned(), absent(url))].into(), &mut todo).unwrap();
            let texts = todo.changes.into_iter().map(|change| match change.verb {
                Verb::Write(file) => (file.path, String::from_utf8(file.content.into()).unwrap()),
                other => panic!("{other:?}"),
            });
            texts.collect::<Vec<_>>()
        };
        assert_eq!(switched("cdrom:"), [("/etc/apt/sources.list".to_owned(), format!("{MARK} {disc}{mirror}"))]);
        let found = switched("http://deb.debian.org/debian");
        assert_eq!(found[0].1, format!("{disc}{MARK} {mirror}"));
        assert!(found[1].1.ends_with("Enabled: no\n"), "{found:?}");
        assert_eq!(switched("http://nowhere/"), []);
    }

    #[test]
    fn other_suites_and_the_same_key_are_no_rivals() {
        let host = Fake::template();
        let (key, url) = (key_path("kubernetes"), kubernetes().url);
        host.put("/etc/apt/sources.list", &format!("deb {url} stable main\ndeb [signed-by={key}] {url} /\n"));
        host.put("/etc/apt/sources.list.d/old.list.save", &format!("deb {url} /\n"));
        assert_eq!(after(&host).unwrap(), []);
    }

    #[test]
    fn any_text_is_answered() {
        let line = "deb [arch=amd64 signed-by=/k.gpg] cdrom:[Debian 12 x]/ bookworm main\n";
        let stanza = "Types: deb\nURIs: http://a/\n http://b/\nSuites: /\nEnabled: yes\n\nTypes: deb\n";
        total::text("apt-line", &[line], |text| lines(text, &|_| Rival::Wholly));
        total::text("apt-stanza", &[stanza], |text| stanzas(text, &|_| Rival::Wholly, "/x").is_ok());
    }
}
