//! What stood at a path before our first write, kept so that it can be put back.
//!
//! An original belongs to the step that wrote over it: that step puts it back when it no longer wants the path. On disk it is a note
//! of what stood there and, for a file, a copy of its content beside the note, in a folder of the step.

use super::{StepError, Todo, Verb};
use crate::host::{Access, Host, HostError, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// What stood at a path.
#[derive(Serialize, Deserialize)]
enum Original {
    /// Nothing.
    Nothing,
    /// A link that led there. What it led to is not touched: it need not be kept.
    Link(String),
    /// A file. Without set-user-ID and its like: they belong to a program that came from elsewhere, and it may have been a user's.
    File { mode: u32, uid: u32, gid: u32 },
}

/// Keeps what stands at `path` for `step`, unless something is kept already; what another step has kept is this one's from now on.
pub(super) fn keep(host: &dyn Host, step: &str, path: &str) -> Result<(), StepError> {
    let (note, content) = places(step, path);
    if host.exists(&note)? {
        return Ok(());
    }
    if let Some(other) = others(host, step)?.get(path) {
        let (its_note, its_content) = places(other, path);
        host.copy(&its_content, &content, Access::PRIVATE)?;
        host.copy(&its_note, &note, Access::PRIVATE)?;
        return forget(host, other, path);
    }
    // The content before the note: a note without its content could never be put back.
    let original = match host.copy(path, &content, Access::PRIVATE)? {
        None => Original::Nothing,
        Some(stat) => match stat.kind {
            Kind::Link(to) => Original::Link(to),
            Kind::File => {
                let Access { mode, uid, gid } = stat.access.without_privileges();
                Original::File { mode, uid, gid }
            }
            Kind::Folder | Kind::Other => return Err(StepError::no_file(path)),
        },
    };
    let text = serde_json::to_vec(&original).map_err(|error| unreadable(&note, error))?;
    Ok(host.write(&note, &text, Access::PRIVATE)?)
}

/// Puts back what was kept.
pub(super) fn restore(host: &dyn Host, step: &str, path: &str) -> Result<(), StepError> {
    let (note, content) = places(step, path);
    let Some(text) = host.read(&note)? else { return Ok(()) };
    match serde_json::from_slice(&text).map_err(|error| unreadable(&note, error))? {
        Original::Nothing => host.remove(path)?,
        Original::Link(to) => host.link(path, &to)?,
        Original::File { mode, uid, gid } => {
            let lost = || unreadable(&note, io::Error::other("the content that it describes is gone"));
            host.copy(&content, path, Access { mode, uid, gid })?.ok_or_else(lost)?;
        }
    }
    forget(host, step, path)
}

fn forget(host: &dyn Host, step: &str, path: &str) -> Result<(), StepError> {
    let (note, content) = places(step, path);
    host.remove(&note)?;
    Ok(host.remove(&content)?)
}

/// What `step` has to put back, for it no longer wants the path. What cannot be reached is left where it is: a user's link on the
/// way must not keep a machine from everything else.
///
/// # Errors
/// When the agent's own folder cannot be listed.
pub fn restores(host: &dyn Host, step: &'static str, wants: impl Fn(&str) -> bool) -> Result<Todo, HostError> {
    let mut todo = Todo::default();
    for path in originals(host, step)?.into_iter().filter(|path| !wants(path)) {
        if let Err(error) = host.stat(&path) {
            todo.skip(format!("what stood at {path} is not put back: {}", crate::chain::chain(&error)));
            continue;
        }
        let finding = format!("{path} is no longer declared");
        todo.push(finding, Verb::Restore { step, path }, "what stood there before comes back");
    }
    Ok(todo)
}

/// Paths whose originals are kept for other steps than `step`, and for which.
///
/// # Errors
/// When the agent's own folder cannot be listed.
pub fn others(host: &dyn Host, step: &str) -> Result<BTreeMap<String, String>, HostError> {
    let mut all = BTreeMap::new();
    for other in host.list(FOLDER)?.into_iter().filter(|other| other != step) {
        all.extend(originals(host, &other)?.into_iter().map(|path| (path, other.clone())));
    }
    Ok(all)
}

fn originals(host: &dyn Host, step: &str) -> Result<Vec<String>, HostError> {
    let names = host.list(&format!("{FOLDER}/{step}"))?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(NOTE)).map(decode).collect())
}

/// Where the note and the content are.
fn places(step: &str, path: &str) -> (String, String) {
    let name = path.replace('%', "%25").replace('/', "%2F");
    (format!("{FOLDER}/{step}/{name}{NOTE}"), format!("{FOLDER}/{step}/{name}.content"))
}

fn decode(name: &str) -> String {
    name.replace("%2F", "/").replace("%25", "%")
}

fn unreadable(path: &str, error: impl std::error::Error + Send + Sync + 'static) -> HostError {
    HostError::File { act: "understand", path: path.to_owned(), source: io::Error::other(error) }
}

const FOLDER: &str = "/var/lib/groundwork/originals";
const NOTE: &str = ".json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn any_text_is_answered() {
        total::text(
            "original",
            &[r#"{"File":{"mode":420,"uid":0,"gid":0}}"#, r#"{"Link":"/x"}"#, r#""Nothing""#],
            |text| {
                let host = Fake::template();
                host.put(&places("files", "/etc/motd").0, text);
                restore(&host, "files", "/etc/motd").is_ok()
            },
        );
        total::text("original-name", &["%2Fetc%2Fa%25b"], decode);
    }
}
