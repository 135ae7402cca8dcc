//! What an observer is shown: of a specification what needs no program and tells nobody a content, of a run its steps.
//!
//! An observer chooses the specification, so an answer to "is this the content of that file" would let it guess whatever root alone may
//! read. It is answered only for what an operator declared: where the record of the machine has the same content for the same path.

use crate::run::{Event, Failure, Plan, Skipped, What};
use agent_proto::v1::machine::NodeSpec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A specification, as far as an observer may look.
#[derive(Debug, Default)]
pub(super) struct Glance {
    /// What is looked at.
    pub(super) spec: NodeSpec,
    /// What is not, and why.
    pub(super) not_looked_at: Vec<Skipped>,
    files: BTreeSet<String>,
    hidden: BTreeSet<String>,
}

impl Glance {
    /// Takes out of `spec` what the machine's record does not allow.
    pub(super) fn of(mut spec: NodeSpec, record: Option<&str>) -> Self {
        let recorded: Recorded = record.and_then(|document| serde_json::from_str(document).ok()).unwrap_or_default();
        let mut not_looked_at = Vec::new();
        spec.command.retain(|name, command| {
            let is_open = command.unless.is_empty();
            if !is_open {
                let reason = format!("{name}: its `unless` is a program, and only an operator may have it run");
                not_looked_at.push(Skipped { step: "commands", reason });
            }
            is_open
        });
        let mut hidden = BTreeSet::new();
        let files = spec.file.keys().cloned().collect();
        for (path, file) in &mut spec.file {
            if recorded.file.get(path).and_then(Content::bytes).is_some_and(|known| known == file.content) {
                continue;
            }
            // What was guessed must not even take its time.
            file.content = bytes::Bytes::new();
            let reason = format!("{path}: an observer may compare only what the machine's record has");
            not_looked_at.push(Skipped { step: FILES, reason });
            hidden.insert(path.clone());
        }
        Self { spec, not_looked_at, files, hidden }
    }

    /// The plan without what was found where nobody was to look, and without what is said beside it: that may repeat a file's words.
    pub(super) fn of_plan(&self, mut plan: Plan) -> Plan {
        plan.warnings.clear();
        plan.changes.retain(|change| {
            // A path may begin as another one does: the longest is meant.
            let is_about =
                |path: &&String| change.finding.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with(' '));
            let path = self.files.iter().filter(is_about).max_by_key(|path| path.len());
            change.step != FILES || !path.is_some_and(|path| self.hidden.contains(path))
        });
        plan
    }
}

/// An event without the words of programs and people.
pub(super) fn event(event: Event) -> Option<Event> {
    let Event { elapsed_ms, what } = event;
    let what = match what {
        What::Output { .. } | What::Note { .. } => return None,
        What::Failed(failure) => {
            let message = "why is told to operators".to_owned();
            What::Failed(Failure { message, output: Vec::new(), ..failure })
        }
        What::Began { .. }
        | What::StepBegan { .. }
        | What::ChangeMade { .. }
        | What::Skipped { .. }
        | What::Finished(_) => what,
    };
    Some(Event { elapsed_ms, what })
}

/// Of the provider's record of a machine: its files.
#[derive(Debug, Default, Deserialize)]
struct Recorded {
    #[serde(default)]
    file: BTreeMap<String, Content>,
}

#[derive(Debug, Deserialize)]
struct Content {
    content: Option<String>,
    content_base64: Option<String>,
}

impl Content {
    fn bytes(&self) -> Option<Vec<u8>> {
        let decoded = |text: &String| STANDARD.decode(text.split_whitespace().collect::<String>()).ok();
        self.content.clone().map(String::into_bytes).or_else(|| self.content_base64.as_ref().and_then(decoded))
    }
}

const FILES: &str = "files";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::PlannedChange;

    fn spec(json: &str) -> NodeSpec {
        serde_json::from_str(json).unwrap()
    }

    fn left(glance: &Glance) -> Vec<&str> {
        glance.not_looked_at.iter().map(|left| left.reason.split(':').next().unwrap()).collect()
    }

    #[test]
    fn a_content_is_compared_only_where_the_record_has_the_same() {
        let record =
            r#"{"file": {"/a": {"content": "one"}, "/b": {"content_base64": "dHdv"}, "/c": {"mode": "0600"}}}"#;
        let wanted = spec(
            r#"{"file": {"/a": {"content": "one"}, "/b": {"content": "two"}, "/c": {"content": ""}, "/etc/shadow": {"content": "guess"}}}"#,
        );
        let glance = Glance::of(wanted.clone(), Some(record));
        assert_eq!(left(&glance), ["/c", "/etc/shadow"]);
        assert_eq!(glance.spec.file["/a"].content.as_ref(), b"one");
        assert!(glance.spec.file["/etc/shadow"].content.is_empty(), "a guess is not even compared");
        for record in [None, Some("garbage"), Some("{}")] {
            assert_eq!(left(&Glance::of(wanted.clone(), record)), ["/a", "/b", "/c", "/etc/shadow"]);
        }
    }

    #[test]
    fn what_was_found_of_a_hidden_file_is_not_told() {
        let record = r#"{"file": {"/a b": {"content": "x"}}}"#;
        let glance = Glance::of(spec(r#"{"file": {"/a": {"content": "y"}, "/a b": {"content": "x"}}}"#), Some(record));
        let change = |step, finding: &str| PlannedChange { step, finding: finding.to_owned(), why: String::new() };
        let all = vec![change("files", "/a differs"), change("files", "/a b differs"), change("swap", "/a is active")];
        let told = glance.of_plan(Plan { changes: all.clone(), ..Plan::default() });
        assert_eq!(told.changes, all[1..]);
    }

    #[test]
    fn a_guard_is_no_program_of_an_observer() {
        let glance = Glance::of(
            spec(
                r#"{"command": {"x": {"argv": ["/bin/true"], "unless": ["/bin/false"]}, "y": {"argv": ["/bin/true"], "creates": "/y"}}}"#,
            ),
            None,
        );
        assert_eq!((left(&glance), glance.spec.command.len()), (vec!["x"], 1));
    }
}
