//! The files of imitated machines: texts by their paths, in memory.

use crate::host::{Access, Kind, Stat};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Texts by path. A folder is there while something is in it.
pub(in crate::cluster) type Files = BTreeMap<String, String>;

/// What stands at a path.
pub(in crate::cluster) fn stat(files: &Files, path: &str) -> Option<Stat> {
    let inside = format!("{path}/");
    let kind = match files.contains_key(path) {
        true => Kind::File,
        false => files.keys().any(|file| file.starts_with(&inside)).then_some(Kind::Folder)?,
    };
    Some(Stat { kind, access: Access::PRIVATE, modified: SystemTime::UNIX_EPOCH })
}

/// Names in a folder.
pub(in crate::cluster) fn list(files: &Files, folder: &str) -> Vec<String> {
    let inside = format!("{folder}/");
    let names = files.keys().filter_map(|path| path.strip_prefix(&inside)?.split('/').next());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.dedup();
    names
}
