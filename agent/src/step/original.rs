//! What stood at a path before our first write, kept so that it can be put back.

use super::{StepError, Todo, Verb};
use crate::host::{Access, Host, HostError, Kind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;

#[derive(Serialize, Deserialize)]
struct Original {
    path: String,
    /// `None`: there was no file.
    content: Option<String>,
    /// Where the link led that was there.
    #[serde(default)]
    link: Option<String>,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Keeps what stands at `path`, unless something is kept already.
pub(super) fn keep(host: &dyn Host, path: &str) -> Result<(), StepError> {
    let store = store(path);
    if host.exists(&store)? {
        return Ok(());
    }
    let link = match host.stat(path)?.map(|stat| stat.kind) {
        Some(Kind::Link(to)) => Some(to),
        _ => None,
    };
    // What a link leads to is not touched: it need not be kept.
    let content = if link.is_none() { host.read(path)?.map(|bytes| STANDARD.encode(bytes)) } else { None };
    let Access { mode, uid, gid } = host.access(path)?;
    let original = Original { path: path.to_owned(), content, link, mode, uid, gid };
    let text = serde_json::to_vec(&original).map_err(|error| unreadable(&store, error))?;
    Ok(host.write(&store, &text, Access::PRIVATE)?)
}

/// Puts back what was kept.
pub(super) fn restore(host: &dyn Host, path: &str) -> Result<(), StepError> {
    let store = store(path);
    let Some(text) = host.read(&store)? else { return Ok(()) };
    let original: Original = serde_json::from_slice(&text).map_err(|error| unreadable(&store, error))?;
    match (original.link, original.content) {
        (Some(to), _) => host.link(path, &to)?,
        (None, None) => host.remove(path)?,
        (None, Some(content)) => {
            let content = STANDARD.decode(content).map_err(|error| unreadable(&store, error))?;
            host.write(path, &content, Access { mode: original.mode, uid: original.uid, gid: original.gid })?;
        }
    }
    Ok(host.remove(&store)?)
}

/// Paths of which the original is kept.
///
/// # Errors
/// When the folder cannot be listed.
pub fn originals(host: &dyn Host) -> Result<Vec<String>, HostError> {
    let names = host.list(FOLDER)?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).map(decode).collect())
}

/// What has to be put back because nothing claims its path any more.
///
/// # Errors
/// When the folder cannot be listed.
pub fn restores(host: &dyn Host, claimed: &BTreeSet<String>) -> Result<Todo, HostError> {
    let mut todo = Todo::default();
    for path in originals(host)?.into_iter().filter(|path| !claimed.contains(path)) {
        todo.push(format!("{path} is no longer declared"), Verb::Restore(path), "what stood there before comes back");
    }
    Ok(todo)
}

fn store(path: &str) -> String {
    format!("{FOLDER}/{}.json", path.replace('%', "%25").replace('/', "%2F"))
}

fn decode(name: &str) -> String {
    name.replace("%2F", "/").replace("%25", "%")
}

fn unreadable(path: &str, error: impl std::error::Error + Send + Sync + 'static) -> HostError {
    HostError::File { act: "understand", path: path.to_owned(), source: io::Error::other(error) }
}

const FOLDER: &str = "/var/lib/groundwork/originals";
