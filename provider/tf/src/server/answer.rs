//! What answers to Terraform are made of: capabilities, names, and diagnostics and paths as messages.

use tfplugin::v6;

use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::path::{Path, PathStep};

/// What this framework does beyond the base protocol: destroying is planned, no call depends on an earlier schema call, and
/// imported objects become configuration.
pub(super) const CAPABILITIES: v6::ServerCapabilities = v6::ServerCapabilities {
    plan_destroy: true,
    get_provider_schema_optional: true,
    move_resource_state: false,
    generate_resource_config: true,
};

/// Names of everything the provider offers.
pub(super) fn metadata<'a>(
    resources: impl Iterator<Item = &'a String>,
    data_sources: impl Iterator<Item = &'a String>,
) -> v6::get_metadata::Response {
    use v6::get_metadata::{DataSourceMetadata, ResourceMetadata};
    v6::get_metadata::Response {
        server_capabilities: Some(CAPABILITIES),
        resources: resources.map(|name| ResourceMetadata { type_name: name.clone() }).collect(),
        data_sources: data_sources.map(|name| DataSourceMetadata { type_name: name.clone() }).collect(),
        ..Default::default()
    }
}

/// Diagnostics as messages; each is logged too.
pub(super) fn messages(diagnostics: Diagnostics) -> Vec<v6::Diagnostic> {
    diagnostics.into_iter().map(|diagnostic| message(&diagnostic)).collect()
}

fn message(diagnostic: &Diagnostic) -> v6::Diagnostic {
    use v6::diagnostic::Severity as Level;
    let (severity, word) = match diagnostic.severity() {
        Severity::Error => (Level::Error, "ERROR"),
        Severity::Warning => (Level::Warning, "WARNING"),
    };
    let detail = diagnostic.detail();
    tracing::debug!(
        diagnostic_severity = word,
        diagnostic_summary = diagnostic.summary(),
        diagnostic_detail = detail,
        diagnostic_attribute = diagnostic.path().map(Path::to_string),
        "answer has a diagnostic"
    );
    v6::Diagnostic {
        severity: severity.into(),
        summary: diagnostic.summary().to_owned(),
        detail,
        attribute: diagnostic.path().and_then(source_message),
    }
}

/// The attribute at the top of a path. Terraform 1.11 finds the source line of that one only, and would point at the whole
/// block for a longer path; the text names the full path.
fn source_message(path: &Path) -> Option<v6::AttributePath> {
    let Some(PathStep::Name(top)) = path.steps().first() else { return None };
    Some(path_message(&Path::from(top.as_str())))
}

/// A path as a message.
pub(super) fn path_message(path: &Path) -> v6::AttributePath {
    use v6::attribute_path::Step;
    use v6::attribute_path::step::Selector;
    let step = |step: &PathStep| Step {
        selector: Some(match step {
            PathStep::Name(name) => Selector::AttributeName(name.clone()),
            PathStep::Key(key) => Selector::ElementKeyString(key.clone()),
            PathStep::Index(index) => Selector::ElementKeyInt(i64::try_from(*index).unwrap_or(i64::MAX)),
        }),
    };
    v6::AttributePath { steps: path.steps().iter().map(step).collect() }
}
