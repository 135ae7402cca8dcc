//! What is wrong with a configured machine: the rules of the specification, and those of attributes that are not in it as such.
//!
//! A value that is not known yet is waited for: a rule speaks only when it knows all that it looks at.

use super::message::To as _;
use super::model::{Machine, Settings};
use crate::agents::{Part, check};
use tf::{Diagnostic, Diagnostics, Path, PathStep, Value};

pub(super) fn problems(m: &Machine) -> Diagnostics {
    let own = of_attributes(&m.settings);
    // What has a problem of its own already is as unclear to the others as what is not known.
    let mut unclear: Vec<_> = own.iter().map(|(at, _)| words(at)).collect();
    unknown(&tf::dump(&m.settings), &mut Vec::new(), &mut unclear);
    let is_clear = |at: &Path| !unclear.iter().any(|other| words(at).starts_with(other));
    let mut found: Diagnostics = own.iter().map(|(at, why)| wrong(at, why, None)).collect();
    for problem in check::check(&m.settings.to()) {
        if problem.seen.iter().map(|seen| attribute(seen.parts())).all(|at| is_clear(&at)) {
            found.push(wrong(&attribute(problem.at.parts()), &problem.why, problem.value.as_deref()));
        }
    }
    found
}

/// Where a value of the specification stands in the configuration: fields and attributes have the same names.
fn attribute(parts: &[Part]) -> Path {
    parts.iter().fold(Path::root(), |at, part| match part {
        Part::Field(name) => at.name(name),
        Part::Key(key) => at.key(key),
        Part::Index(index) => at.index(*index),
    })
}

fn wrong(at: &Path, why: &str, value: Option<&str>) -> Diagnostic {
    let quoted = value.map(|value| format!("; it is `{value}`")).unwrap_or_default();
    Diagnostic::error(format!("Cannot use this value of {at}"))
        .happened(format!("`{at}` {why}{quoted}."))
        .at(at.clone())
}

/// What cannot be said in the specification: a file with two contents or none, and a guard that is given but empty.
fn of_attributes(settings: &Settings) -> Vec<(Path, &'static str)> {
    let mut found = Vec::new();
    for (path, file) in settings.file.get().into_iter().flatten() {
        let (text, binary) = (&file.content, &file.content_base64);
        let problem = match (text.is_null() && binary.is_null(), text.is_known() && binary.is_known()) {
            (true, _) => "is needed, or `content_base64`",
            (_, true) => "does not go together with `content_base64`",
            _ => continue,
        };
        found.push((Path::from("file").key(path).name("content"), problem));
    }
    for (name, command) in settings.command.get().into_iter().flatten() {
        if command.unless.get().is_some_and(Vec::is_empty) {
            found.push((Path::from("command").key(name).name("unless"), "must have one element or more"));
        }
    }
    found
}

/// Paths of all that is not known yet. Nothing tells the attributes of an object from the elements of a map here, so each step is
/// only its text.
fn unknown(value: &Value, at: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    if value.is_unknown() {
        found.push(at.clone());
    }
    for (name, inner) in value.entries().into_iter().flatten() {
        at.push(name.clone());
        unknown(inner, at, found);
        at.pop();
    }
}

/// A path in that form.
fn words(path: &Path) -> Vec<String> {
    let word = |step: &PathStep| match step {
        PathStep::Name(text) | PathStep::Key(text) => text.clone(),
        PathStep::Index(index) => index.to_string(),
    };
    path.steps().iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::super::model::{Command, File, Filesystem, Repository, Service};
    use super::*;
    use std::collections::BTreeMap;
    use tf::Attr;

    fn one<M>(model: M) -> Attr<BTreeMap<String, M>> {
        BTreeMap::from([("/x".to_owned(), model)]).into()
    }

    #[track_caller]
    fn check(settings: Settings, paths: &[&str]) {
        let found = problems(&Machine { settings, ..Machine::default() });
        let said: Vec<_> = found.iter().filter_map(Diagnostic::path).map(ToString::to_string).collect();
        assert_eq!(said, paths);
    }

    #[test]
    fn a_file_has_one_content() {
        let check = |file, paths: &[&str]| check(Settings { file: one(file), ..Settings::default() }, paths);
        check(File::default(), &[r#"file["/x"].content"#]);
        check(File { content: "".into(), content_base64: "".into(), ..File::default() }, &[r#"file["/x"].content"#]);
        check(File { content: "".into(), content_base64: Attr::Unknown, ..File::default() }, &[]);
        check(File { content_base64: Attr::Unknown, ..File::default() }, &[]);
    }

    #[test]
    fn a_rule_waits_for_what_it_looks_at() {
        let check = |repository, paths: &[&str]| {
            let repository = BTreeMap::from([("x".to_owned(), repository)]).into();
            check(Settings { repository, ..Settings::default() }, paths);
        };
        let known = || Repository { url: "http://x".into(), ..Repository::default() };
        check(known(), &[r#"repository["x"].key_pem"#]);
        check(Repository { key_url: Attr::Unknown, ..known() }, &[]);
        check(Repository { url: Attr::Unknown, trusted: true.into(), ..known() }, &[]);
        let suites = || Attr::Known(vec!["bookworm".to_owned()]);
        check(Repository { trusted: true.into(), suites: suites(), components: Attr::Unknown, ..known() }, &[]);
        check(Repository { trusted: Attr::Unknown, suites: suites(), ..known() }, &[r#"repository["x"].components"#]);
    }

    #[test]
    fn what_is_known_is_judged_beside_what_is_not() {
        let services = [("a", Attr::Unknown), ("b", true.into())]
            .map(|(name, running)| (name.to_owned(), Service { masked: true.into(), running, ..Service::default() }));
        let settings = Settings {
            hostname: Attr::Unknown,
            service: BTreeMap::from(services).into(),
            filesystem: Attr::Unknown,
            ..Settings::default()
        };
        check(settings, &[r#"service["b"].masked"#]);
        let filesystems = BTreeMap::from([(
            "/dev/x".to_owned(),
            Filesystem { kind: Attr::Unknown, label: "thirteen-long".into(), uuid: "X".into() },
        )]);
        let settings = Settings { filesystem: filesystems.into(), ..Settings::default() };
        check(settings, &[r#"filesystem["/dev/x"].uuid"#]);
    }

    #[test]
    fn a_guard_that_is_empty_is_one_problem() {
        let command = |unless| Command { argv: vec!["/bin/true".to_owned()].into(), unless, ..Command::default() };
        let check = |unless, paths: &[&str]| {
            let command = BTreeMap::from([("x".to_owned(), command(unless))]).into();
            check(Settings { command, ..Settings::default() }, paths);
        };
        check(Vec::new().into(), &[r#"command["x"].unless"#]);
        check(Attr::Null, &[r#"command["x"]"#]);
        check(Attr::Unknown, &[]);
    }

    #[test]
    fn any_record_is_answered() {
        let good = r#"{"hostname":"web-1","package":{"nginx":{"version":"1.2"}},"sysctls":{"a.b":"1"},"file":{"/a":{"content":"b"}}}"#;
        total::text("machine-record", &[good], crate::record::read::<Machine>);
    }

    #[test]
    fn a_bad_value_is_quoted() {
        let m = Machine { settings: Settings { hostname: "CP_1".into(), ..Settings::default() }, ..Machine::default() };
        let found = problems(&m);
        let detail = found.iter().next().unwrap().detail().to_owned();
        assert!(detail.starts_with("`hostname` must be a host name") && detail.contains("; it is `CP_1`."), "{detail}");
    }
}
