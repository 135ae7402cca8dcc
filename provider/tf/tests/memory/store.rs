//! The other side: objects as files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tf::Diagnostic;

/// A folder of objects.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) dir: PathBuf,
}

/// What the other side knows of a thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) size: i64,
    pub(crate) revision: i64,
    /// How long the password was that it was given.
    pub(crate) password_length: usize,
    pub(crate) faults: Vec<String>,
    /// How long the codes of its locks were that it was given.
    #[serde(default)]
    pub(crate) lock_lengths: BTreeMap<String, usize>,
    /// What an import finds of its shelves.
    #[serde(default)]
    pub(crate) shelf_widths: BTreeMap<String, i64>,
}

impl Store {
    pub(crate) fn find(&self, id: &str) -> Result<Option<Object>, Diagnostic> {
        match fs::read(self.path(id)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| broken(id, &error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(broken(id, &error)),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test's object needs no atomicity")]
    pub(crate) fn save(&self, id: &str, object: &Object) -> Result<(), Diagnostic> {
        let json = serde_json::to_vec(object).map_err(|error| broken(id, &error))?;
        fs::write(self.path(id), json).map_err(|error| broken(id, &error))
    }

    pub(crate) fn remove(&self, id: &str) -> Result<(), Diagnostic> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(broken(id, &error)),
            _ => Ok(()),
        }
    }

    /// Adds a line to the story of leases.
    pub(crate) fn note(&self, line: &str) -> Result<(), Diagnostic> {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("leases"));
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(|error| broken(line, &error))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

fn broken(id: &str, error: &dyn std::error::Error) -> Diagnostic {
    Diagnostic::error(format!("Cannot reach thing {id}")).happened(tf::chain(error))
}
