//! Records: what a provider stored here to find it again at an import. Opaque JSON by kind; the agent never acts on it.

use crate::state::{State, StateError};
use std::collections::BTreeMap;

/// Records on disk.
#[derive(Debug, Clone)]
pub struct Records(State);

/// A record that cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not a kind that exists.
    #[error("a record is a machine's or a cluster's, not {0:?}")]
    Kind(String),
    /// Larger than any model.
    #[error("a record has at most {LARGEST} bytes")]
    Large,
    /// Not JSON.
    #[error("a record is JSON")]
    NotJson,
    /// The agent's own folder.
    #[error("the record cannot be kept")]
    Keep(#[source] StateError),
}

impl Records {
    /// Records in the agent's own folder.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self(state)
    }

    /// Stores a document; an empty one removes the record.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn store(&self, kind: &str, document: &str) -> Result<(), RecordError> {
        if !KINDS.contains(&kind) {
            return Err(RecordError::Kind(kind.to_owned()));
        }
        let name = format!("{FOLDER}/{kind}.json");
        if document.is_empty() {
            return self.0.burn(&name).map_err(RecordError::Keep);
        }
        if document.len() > LARGEST {
            return Err(RecordError::Large);
        }
        serde_json::from_str::<serde::de::IgnoredAny>(document).map_err(|_| RecordError::NotJson)?;
        self.0.write(&name, document).map_err(RecordError::Keep)
    }

    /// All documents by kind.
    ///
    /// # Errors
    /// When one is there and cannot be read.
    pub fn all(&self) -> Result<BTreeMap<String, String>, RecordError> {
        let mut all = BTreeMap::new();
        for kind in KINDS {
            if let Some(document) = self.of(kind)? {
                all.insert(kind.to_owned(), document);
            }
        }
        Ok(all)
    }

    /// The document of one kind, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn of(&self, kind: &str) -> Result<Option<String>, RecordError> {
        self.0.read(&format!("{FOLDER}/{kind}.json")).map_err(RecordError::Keep)
    }
}

const FOLDER: &str = "records";
const KINDS: [&str; 3] = ["machine", "cluster", "vm"];
const LARGEST: usize = 24 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_again_and_can_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(State::open(folder.path()).unwrap());
        records.store("machine", r#"{"a":1}"#).unwrap();
        records.store("cluster", "{}").unwrap();
        records.store("cluster", "").unwrap();
        assert_eq!(records.all().unwrap(), BTreeMap::from([("machine".to_owned(), r#"{"a":1}"#.to_owned())]));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(State::open(folder.path()).unwrap());
        assert!(matches!(records.store("../key", "{}"), Err(RecordError::Kind(_))));
        assert!(matches!(records.store("machine", "{"), Err(RecordError::NotJson)));
        assert!(matches!(records.store("machine", &" ".repeat(LARGEST + 1)), Err(RecordError::Large)));
    }

    #[test]
    fn any_text_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(State::open(folder.path()).unwrap());
        total::text("record", &[r#"{"a": [1, {"b": "c"}]}"#], |text| records.store("machine", text).is_ok());
    }
}
