//! Objects as the API server has them, and which part of them is ours.

use super::object::{self, Id};
use super::{AskError, MANAGER, kubectl, told};
use crate::host::Host;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

/// An object in the cluster.
#[derive(Clone, PartialEq)]
pub(super) struct Live {
    pub(super) id: Id,
    /// Tells it from another one of its name, made later.
    pub(super) uid: String,
    /// Sum of the fields that are ours; empty if none is, as in a namespace that has but its name.
    pub(super) fields: String,
    /// Who else has changed fields since ours were last other ones.
    pub(super) others: Vec<String>,
    /// It was deleted, and has not gone yet.
    pub(super) is_ending: bool,
    pub(super) body: Value,
}

/// Those of `ids` that are there.
pub(super) async fn ask(host: &dyn Host, ids: &[Id]) -> Result<Vec<Live>, AskError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let words = ["get", "--ignore-not-found", "--show-managed-fields", "--output=json", "--filename=-"];
    let said = kubectl(host, &words, object::skeletons(ids)).await.map_err(AskError::Host)?;
    if said.code != Some(0) && !is_only_about_kinds(&said.stderr) {
        return Err(AskError::Refused(told(&said.stderr)));
    }
    read(&said.stdout).map_err(AskError::Unreadable)
}

/// Whether nothing failed but that a kind is not known any more: its objects are gone with it.
fn is_only_about_kinds(stderr: &str) -> bool {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    lines.peek().is_some()
        && lines.all(|line| line.contains("no matches for kind") || line == "ensure CRDs are installed first")
}

/// A list, one object alone, or nothing.
fn read(stdout: &str) -> Result<Vec<Live>, serde_json::Error> {
    if stdout.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut answer: Value = serde_json::from_str(stdout)?;
    let bodies = match answer.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if answer["kind"] == "List" => items,
        Some(items) => {
            answer["items"] = items;
            vec![answer]
        }
        None => vec![answer],
    };
    Ok(bodies.into_iter().map(Live::of).collect())
}

impl Live {
    fn of(body: Value) -> Self {
        let metadata = &body["metadata"];
        let entries = metadata["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_whole = |entry: &&Value| entry["subresource"].as_str().unwrap_or_default().is_empty();
        let is_ours = |entry: &&Value| entry["manager"] == MANAGER && entry["operation"] == "Apply";
        let ours = entries.iter().filter(is_whole).find(is_ours);
        let since = ours.and_then(|entry| entry["time"].as_str()).unwrap_or_default();
        // What a controller says of its object's state is no change.
        let is_other = |entry: &&Value| !is_ours(entry) && entry["subresource"] != "status";
        let later = entries.iter().filter(is_other).filter(|entry| entry["time"].as_str().unwrap_or_default() >= since);
        let mut others: Vec<String> = later.filter_map(|entry| Some(entry["manager"].as_str()?.to_owned())).collect();
        others.sort();
        others.dedup();
        let fields = ours.map(|entry| sum(&entry["fieldsV1"])).unwrap_or_default();
        let uid = metadata["uid"].as_str().unwrap_or_default().to_owned();
        Self { id: Id::of(&body), uid, fields, others, is_ending: metadata["deletionTimestamp"].is_string(), body }
    }
}

/// Eight bytes of its SHA-256, hex: it tells a set of fields from the one before it, and nothing hangs on it but a line of drift.
fn sum(fields: &Value) -> String {
    let sum = digest(&SHA256, fields.to_string().as_bytes());
    hex::encode(sum.as_ref().get(..8).unwrap_or_default())
}

/// Those that are the object of this name.
pub(super) fn find<'a>(all: &'a [Live], id: &Id) -> Option<&'a Live> {
    all.iter().find(|live| live.id.is(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"{"manager": "groundwork", "operation": "Apply", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:data": {"f:a": {}}}}"#;
    const EDIT: &str = r#"{"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-02T00:00:01Z", "fieldsV1": {"f:data": {"f:b": {}}}}"#;
    const STATUS: &str =
        r#"{"manager": "kubelet", "operation": "Update", "subresource": "status", "time": "2026-01-03T00:00:00Z"}"#;
    const BEFORE: &str = r#"{"manager": "installer", "operation": "Update", "time": "2026-01-01T00:00:00Z"}"#;

    fn object(entries: &[&str]) -> String {
        let entries = entries.join(",");
        format!(
            r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "a", "managedFields": [{entries}]}}}}"#
        )
    }

    fn one(entries: &[&str]) -> Live {
        read(&object(entries)).unwrap().remove(0)
    }

    #[test]
    fn our_fields_have_a_sum_and_who_came_after_us_is_named() {
        let (alone, changed) = (one(&[OURS, STATUS, BEFORE]), one(&[OURS, EDIT]));
        assert_eq!((alone.fields.len(), alone.others.as_slice()), (16, &[][..]));
        assert_eq!((&changed.fields, changed.others.as_slice()), (&alone.fields, &["kubectl-edit".to_owned()][..]));
        let less = one(&[&OURS.replace(r#""f:a": {}"#, "")]);
        assert!(less.fields != alone.fields && !less.fields.is_empty());
        let taken = one(&[EDIT]);
        assert_eq!((taken.fields.as_str(), taken.others.as_slice()), ("", &["kubectl-edit".to_owned()][..]));
    }

    #[test]
    fn an_answer_is_a_list_one_object_or_nothing() {
        let list = format!(r#"{{"kind": "List", "items": [{0}, {0}]}}"#, object(&[OURS]));
        assert_eq!(read(&list).unwrap().len(), 2);
        assert_eq!(read(&object(&[])).unwrap()[0].id.to_string(), "ConfigMap a");
        let odd = r#"{"kind": "Basket", "items": ["apple"], "metadata": {"name": "a"}}"#;
        assert_eq!(read(odd).unwrap()[0].body["items"][0], "apple", "an object may have items");
        assert!(read("\n").unwrap().is_empty());
        assert!(read("{").is_err());
    }

    #[test]
    fn a_kind_that_is_gone_is_no_failure() {
        let gone = "error: resource mapping not found for name: \"a\" namespace: \"\" from \"STDIN\": no matches for kind \"Foo\" in version \"x.io/v1\"\nensure CRDs are installed first\n";
        assert!(is_only_about_kinds(gone));
        assert!(!is_only_about_kinds(&format!("{gone}Unable to connect to the server: EOF\n")));
        assert!(!is_only_about_kinds(""));
    }

    #[test]
    fn any_text_is_answered() {
        let list = format!(r#"{{"kind": "List", "items": [{}]}}"#, object(&[OURS, EDIT, STATUS]));
        total::text("kubectl-live", &[&object(&[OURS]), &list], |text| read(text).map(|all| all.len()).ok());
    }
}
