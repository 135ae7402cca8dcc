//! Rules between the values of a machine. The agent has them too; here they name the attribute before anything is asked of it.
//!
//! A value that is not known yet is waited for: each rule speaks only when nothing unknown could satisfy it.

use super::model::{Command, File, Filesystem, Machine, Package, Repository, Service};
use crate::agents::spec::form;
use std::collections::BTreeMap;
use tf::{Attr, Diagnostic, Diagnostics, Path};

/// The attribute that is the cure, below the element, and what is wrong with it; none for the element itself.
type Problem = Option<(Option<&'static str>, String)>;

pub(super) fn problems(m: &Machine) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.extend(each("repositories", &m.repositories, proof));
    found.extend(each("repositories", &m.repositories, components));
    found.extend(each("packages", &m.packages, package));
    found.extend(each("files", &m.files, file));
    found.extend(each("services", &m.services, service));
    found.extend(each("filesystems", &m.filesystems, filesystem));
    found.extend(each("commands", &m.commands, command));
    found
}

fn each<M>(attribute: &str, models: &Attr<BTreeMap<String, M>>, rule: fn(&M) -> Problem) -> Vec<Diagnostic> {
    let broken = |(key, model): (&String, &M)| {
        let (name, problem) = rule(model)?;
        let element = Path::from(attribute).key(key);
        let at = name.map_or_else(|| element.clone(), |name| element.name(name));
        Some(Diagnostic::error(format!("Cannot use {element}")).happened(format!("`{at}` {problem}.")).at(at))
    };
    models.get().into_iter().flatten().filter_map(broken).collect()
}

fn at(name: &'static str, problem: &str) -> Problem {
    Some((Some(name), problem.to_owned()))
}

fn proof(m: &Repository) -> Problem {
    let may_be_trusted = m.trusted.is_unknown() || m.trusted.is_true();
    let bare = m.key_pem.is_null() && m.key_url.is_null() && !may_be_trusted;
    if bare { at("key_pem", "is needed, or `key_url`, or `trusted = true` for a repository of your own") } else { None }
}

fn components(m: &Repository) -> Problem {
    if m.suites.is_unknown() || m.components.is_unknown() {
        return None;
    }
    let problem = form::suites_fit_components(&m.suites.or(Vec::new()), &m.components.or(Vec::new())).err()?;
    at("components", &problem)
}

fn package(m: &Package) -> Problem {
    let clash = m.absent.is_true() && (m.version.is_known() || m.hold.is_true());
    if clash { at("absent", "does not go together with `version` or `hold`") } else { None }
}

fn file(m: &File) -> Problem {
    let (text, binary) = (&m.content, &m.content_base64);
    match (text.is_null() && binary.is_null(), text.is_known() && binary.is_known()) {
        (true, _) => at("content", "is needed, or `content_base64`"),
        (_, true) => at("content", "does not go together with `content_base64`"),
        _ => None,
    }
}

fn service(m: &Service) -> Problem {
    let clash = m.masked.is_true() && (m.enabled.is_true() || m.running.is_true());
    if clash {
        at("masked", "does not go together with `enabled` or `running`: a masked unit cannot be started")
    } else {
        None
    }
}

fn filesystem(m: &Filesystem) -> Problem {
    let problem = form::filesystem_label(m.label.text()?, m.kind.text()?).err()?;
    at("label", &problem)
}

fn command(m: &Command) -> Problem {
    let (creates, unless) = (&m.creates, &m.unless);
    let none = creates.is_null() && unless.is_null();
    let both = creates.is_known() && unless.is_known();
    (none || both)
        .then(|| (None, "needs exactly one guard that says when it is needed: `creates` or `unless`".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<M>(model: M) -> Attr<BTreeMap<String, M>> {
        BTreeMap::from([("x".to_owned(), model)]).into()
    }

    #[track_caller]
    fn check(m: &Machine, path: &str) {
        let found = problems(m);
        let paths: Vec<_> = found.iter().filter_map(Diagnostic::path).map(ToString::to_string).collect();
        let wanted: Vec<_> = (!path.is_empty()).then(|| path.to_owned()).into_iter().collect();
        assert_eq!(paths, wanted);
    }

    #[test]
    fn a_repository_needs_a_key_or_trust() {
        let check = |repository, path| check(&Machine { repositories: one(repository), ..Machine::default() }, path);
        check(Repository::default(), r#"repositories["x"].key_pem"#);
        check(Repository { trusted: false.into(), ..Repository::default() }, r#"repositories["x"].key_pem"#);
        check(Repository { trusted: true.into(), ..Repository::default() }, "");
        check(Repository { key_url: Attr::Unknown, ..Repository::default() }, "");
    }

    #[test]
    fn components_go_with_suites() {
        let trusted = || Repository { trusted: true.into(), ..Repository::default() };
        let check = |repository, path| check(&Machine { repositories: one(repository), ..Machine::default() }, path);
        let suites = || Attr::Known(vec!["bookworm".to_owned()]);
        check(Repository { suites: suites(), ..trusted() }, r#"repositories["x"].components"#);
        check(Repository { suites: suites(), components: Attr::Unknown, ..trusted() }, "");
        check(Repository { suites: suites(), components: vec!["main".to_owned()].into(), ..trusted() }, "");
    }

    #[test]
    fn what_is_absent_has_no_version() {
        let check = |package, path| check(&Machine { packages: one(package), ..Machine::default() }, path);
        let absent = || Package { absent: true.into(), ..Package::default() };
        check(Package { version: "1".into(), ..absent() }, r#"packages["x"].absent"#);
        check(Package { hold: true.into(), ..absent() }, r#"packages["x"].absent"#);
        check(Package { version: Attr::Unknown, hold: false.into(), ..absent() }, "");
    }

    #[test]
    fn a_file_has_one_content() {
        let check = |file, path| check(&Machine { files: one(file), ..Machine::default() }, path);
        check(File::default(), r#"files["x"].content"#);
        check(File { content: "".into(), content_base64: "".into(), ..File::default() }, r#"files["x"].content"#);
        check(File { content: "".into(), content_base64: Attr::Unknown, ..File::default() }, "");
        check(File { content_base64: Attr::Unknown, ..File::default() }, "");
    }

    #[test]
    fn a_masked_service_does_not_run() {
        let check = |service, path| check(&Machine { services: one(service), ..Machine::default() }, path);
        let masked = || Service { masked: true.into(), ..Service::default() };
        check(Service { running: true.into(), ..masked() }, r#"services["x"].masked"#);
        check(Service { running: false.into(), enabled: Attr::Unknown, ..masked() }, "");
    }

    #[test]
    fn a_label_fits_its_filesystem() {
        let check = |filesystem, path| check(&Machine { filesystems: one(filesystem), ..Machine::default() }, path);
        let labelled = |kind| Filesystem { kind, label: "thirteen-long".into(), ..Filesystem::default() };
        check(labelled("xfs".into()), r#"filesystems["x"].label"#);
        check(labelled("ext4".into()), "");
        check(labelled(Attr::Unknown), "");
    }

    #[test]
    fn a_command_has_one_guard() {
        let check = |command, path| check(&Machine { commands: one(command), ..Machine::default() }, path);
        let guards = |creates, unless| Command { creates, unless, ..Command::default() };
        let program = || Attr::Known(vec!["/bin/true".to_owned()]);
        check(guards(Attr::Null, Attr::Null), r#"commands["x"]"#);
        check(guards("/x".into(), program()), r#"commands["x"]"#);
        check(guards("/x".into(), Attr::Unknown), "");
        check(guards(Attr::Unknown, Attr::Null), "");
    }
}
