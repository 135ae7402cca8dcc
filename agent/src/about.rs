//! What this agent says of itself: its version, and which fields of a specification it knows.

use agent_proto::fields;
use agent_proto::v1::machine::NodeSpec;
use std::collections::BTreeSet;

/// Its version.
pub const VERSION: &str = if cfg!(feature = "yesterday") { "0.0.9" } else { env!("CARGO_PKG_VERSION") };

/// Version, commit and platform, for people; the version is the first word.
#[must_use]
pub fn build(commit: Option<&str>) -> String {
    let commit = commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown");
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{VERSION} (commit {commit}, linux_{machine})")
}

/// What is said of an agent.
#[derive(Debug, Clone)]
pub struct About {
    /// Its version.
    pub version: String,
    /// The fields it knows.
    pub fields: BTreeSet<String>,
}

impl Default for About {
    fn default() -> Self {
        let mut fields = fields::known();
        if cfg!(feature = "yesterday") {
            fields.retain(|name| name != "host" && !name.starts_with("host."));
        }
        Self { version: VERSION.to_owned(), fields }
    }
}

/// A specification as this agent reads it.
#[must_use]
pub fn read(spec: NodeSpec) -> NodeSpec {
    if cfg!(feature = "yesterday") { NodeSpec { host: Default::default(), ..spec } } else { spec }
}
