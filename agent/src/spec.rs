//! What a machine is to be: the contract's own message, once all its values have been checked.
//!
//! It comes over the wire or from a JSON file; the rules are the contract's (`agent_proto::check`). Nothing behind [`Spec`] sees a
//! value that is not well-formed. `preset` adds what `kubernetes` and `container_runtime` imply.

mod preset;

use agent_proto::check::{self, Problem};
use agent_proto::v1::machine::NodeSpec;
use std::fmt;

pub(crate) use preset::runtime_package;

/// A specification that can be used. Absent means: not managed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spec(NodeSpec);

/// All values that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the specification cannot be used: ")?;
        for (index, Problem { at, why, .. }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{at}: {why}")?;
        }
        Ok(())
    }
}

/// A file that holds no specification, or one that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Not JSON, or with a name that means nothing.
    #[error("the specification cannot be read: {0}")]
    Json(serde_json::Error),
    /// Values.
    #[error(transparent)]
    Values(Problems),
}

impl TryFrom<NodeSpec> for Spec {
    type Error = Problems;

    fn try_from(spec: NodeSpec) -> Result<Self, Problems> {
        let problems = check::check(&spec);
        if problems.is_empty() { Ok(Self(spec)) } else { Err(Problems(problems)) }
    }
}

impl Spec {
    /// From a JSON file of the same shape as the resource `groundwork_machine`.
    ///
    /// # Errors
    /// Every problem with its path; or where the text is not JSON.
    pub fn from_json(text: &str) -> Result<Self, Unusable> {
        let spec: NodeSpec = serde_json::from_str(text).map_err(Unusable::Json)?;
        Self::try_from(spec).map_err(Unusable::Values)
    }

    /// As it was asked for.
    #[must_use]
    pub const fn given(&self) -> &NodeSpec {
        &self.0
    }

    /// With everything that `kubernetes` and `container_runtime` imply; what is given explicitly stays as it is.
    #[must_use]
    pub fn complete(&self) -> NodeSpec {
        preset::complete(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once() {
        let problems = Spec::from_json(r#"{"hostname": "-", "kubernetes": {"version": "x"}}"#).unwrap_err();
        assert_eq!(
            problems.to_string(),
            "the specification cannot be used: hostname: must be a host name: lower-case letters, digits and `-`, joined by dots, at most 64; \
             kubernetes.version: must be three numbers, such as `1.36.2`, without `v`"
        );
    }

    #[test]
    fn a_name_that_means_nothing_is_refused() {
        let unread = Spec::from_json(r#"{"hostnam": "x"}"#).unwrap_err().to_string();
        assert!(unread.contains("unknown field `hostnam`"), "{unread}");
    }

    #[test]
    fn absent_is_not_false() {
        let spec = Spec::from_json(r#"{"service": {"x": {"enabled": false}}}"#).unwrap();
        assert_eq!(spec.given().service["x"].enabled, Some(false));
        assert_eq!(spec.given().service["x"].running, None);
        assert_eq!(spec.given().swap, None);
    }

    #[test]
    fn content_is_not_printed() {
        let spec = Spec::from_json(r#"{"file": {"/x": {"content": "hunter2"}}}"#).unwrap();
        assert_eq!(spec.given().file["/x"].content.as_ref(), b"hunter2");
        assert!(!format!("{spec:?}").contains("hunter2"));
    }

    #[test]
    fn any_text_is_answered() {
        total::text(
            "specification-json",
            &[r#"{"hostname": "a", "file": {"/x": {"content": "y"}}, "sysctls": {"a.b": "1"}}"#],
            |text| Spec::from_json(text).is_ok(),
        );
    }
}
