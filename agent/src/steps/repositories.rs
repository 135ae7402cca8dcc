//! Package repositories: a deb822 file and a key for each, both ours by their names.
//!
//! Source: sources.list(5). Package lists are fetched when something is installed (`packages`), not here: a plan must not depend on
//! the network. A key that is not given inline is fetched once, by apt's own means.

mod rivals;

use super::Step;
use crate::change::{self, File, StepError, Todo, Verb};
use crate::host::Host;
use agent_proto::v1::machine::RepositorySpec;
use std::collections::{BTreeMap, BTreeSet};

/// Repositories by name.
pub(super) struct Repositories(pub(super) BTreeMap<String, RepositorySpec>);

impl Step for Repositories {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        // A source of somebody else's that is in the way comes back when there is nothing for it to be in the way of.
        let mut todo = change::restores(host, NAME, |_| !self.0.is_empty())?;
        if !self.0.is_empty() && !host.exists("/etc/apt")? {
            return Err(StepError::unsupported(
                "package repositories",
                "only apt (Debian, Ubuntu) is known to this agent",
            ));
        }
        rivals::switch_off(host, &self.0, &mut todo)?;
        let mut wanted = BTreeSet::new();
        for (name, repository) in self.0.iter().filter(|(_, repository)| !repository.absent()) {
            // The key first: a list whose key is missing breaks every update.
            if let Some((path, verb)) = key(host, name, repository)? {
                todo.push(format!("the key of {name} is not as wanted"), verb, "apt checks signatures with it");
                wanted.insert(path);
            }
            wanted.insert(key_path(name));
            let (path, want) = (source_of(name), text(name, repository));
            if host.text(&path)?.as_deref() != Some(&want) {
                let finding = if host.exists(&path)? { "differs" } else { "is missing" };
                todo.push(format!("{path} {finding}"), Verb::Write(File::ours(&path, want)), "packages come from it");
            }
            wanted.insert(path);
        }
        for folder in [LISTS, KEYS] {
            for name in host.list(folder)?.into_iter().filter(|name| name.starts_with(PREFIX)) {
                let path = format!("{folder}/{name}");
                if !wanted.contains(&path) {
                    todo.push(
                        format!("{path} is no longer declared"),
                        Verb::Remove(path),
                        "nothing comes from it any more",
                    );
                }
            }
        }
        Ok(todo)
    }
}

fn key(host: &dyn Host, name: &str, repository: &RepositorySpec) -> Result<Option<(String, Verb)>, StepError> {
    let path = key_path(name);
    let present = host.text(&path)?;
    let verb = match (&repository.key_pem, &repository.key_url) {
        _ if repository.trusted() => None,
        (Some(key), _) => {
            let want = change::plain_key(key);
            (present.as_deref() != Some(&want)).then(|| Verb::Write(File::ours(&path, want)))
        }
        (None, Some(url)) => {
            let ours = present.is_some() && host.text(&source_of(name))?.is_some_and(|text| text.contains(&from(url)));
            (!ours).then(|| Verb::Fetch { url: url.clone(), path: path.clone() })
        }
        (None, None) => None,
    };
    Ok(verb.map(|verb| (path, verb)))
}

fn text(name: &str, repository: &RepositorySpec) -> String {
    let suites = if repository.suites.is_empty() { "/".to_owned() } else { repository.suites.join(" ") };
    // Which key it was: another address means to fetch again.
    let from = repository.key_url.as_deref().filter(|_| repository.key_pem.is_none()).map(from).unwrap_or_default();
    let mut text = format!("{HEAD}{from}Types: deb\nURIs: {}\nSuites: {suites}\n", repository.url);
    if !repository.components.is_empty() {
        text.push_str(&format!("Components: {}\n", repository.components.join(" ")));
    }
    if repository.trusted() {
        text.push_str("Trusted: yes\n");
    } else {
        text.push_str(&format!("Signed-By: {}\n", key_path(name)));
    }
    text
}

/// A line of a source that says where its key was fetched.
fn from(url: &str) -> String {
    format!("# Key: {url}\n")
}

/// The file of a repository of ours.
pub(crate) fn source_of(name: &str) -> String {
    format!("{LISTS}/{PREFIX}{name}.sources")
}

fn key_path(name: &str) -> String {
    format!("{KEYS}/{PREFIX}{name}.asc")
}

const NAME: &str = "repositories";
const SOURCES: &str = "/etc/apt/sources.list";
const LISTS: &str = "/etc/apt/sources.list.d";
const KEYS: &str = "/etc/apt/keyrings";
const PREFIX: &str = "groundwork-";
const HEAD: &str = "# Written by Groundwork; changes made here are taken back.\n";
