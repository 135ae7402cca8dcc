//! A node as the imitated API server tells it.

use super::versions::FIRST;
use std::collections::BTreeMap;

/// A node as the API server has it.
#[derive(Default)]
pub(super) struct Node {
    pub(super) marked: bool,
    pub(super) silent: bool,
    pub(super) cordoned: bool,
    pub(super) leaving: bool,
    pub(super) upgrading: bool,
    /// Of its kubelet; empty: the first one.
    pub(super) version: String,
}

impl Node {
    pub(super) fn json(&self, name: &str) -> String {
        let labels = if self.marked { "{\"node-role.kubernetes.io/control-plane\":\"\"}" } else { "{}" };
        let marks = [("groundwork/leaving", self.leaving), ("groundwork/upgrading", self.upgrading)];
        let marks: BTreeMap<_, _> = marks.into_iter().filter(|(_, set)| *set).map(|(mark, _)| (mark, "true")).collect();
        let annotations = serde_json::to_string(&marks).unwrap();
        let version = if self.version.is_empty() { FIRST } else { &self.version };
        let ready = if self.silent { "Unknown" } else { "True" };
        format!(
            "{{\"metadata\":{{\"name\":{name:?},\"labels\":{labels},\"annotations\":{annotations}}},\"spec\":{{\"unschedulable\":{}}},\
             \"status\":{{\"conditions\":[{{\"type\":\"Ready\",\"status\":{ready:?}}}],\"nodeInfo\":{{\"kubeletVersion\":{version:?}}}}}}}",
            self.cordoned
        )
    }
}
