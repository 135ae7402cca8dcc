//! What answers to Terraform are made of: capabilities, names, and diagnostics and paths as messages.

use tfplugin::v6;
use tfplugin::v6::attribute_path::Step;
use tfplugin::v6::attribute_path::step::Selector;

use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::path::{Path, PathStep};
use crate::schema::{Block, Form};

/// What this framework does beyond the base protocol: destroying is planned, no call depends on an earlier schema call, and
/// imported objects become configuration.
pub(super) const CAPABILITIES: v6::ServerCapabilities = v6::ServerCapabilities {
    plan_destroy: true,
    get_provider_schema_optional: true,
    move_resource_state: false,
    generate_resource_config: true,
};

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
        attribute: diagnostic.path().map(path_message),
    }
}

/// Turns the paths of diagnostics into what Terraform finds the source line of; the texts name the full path.
pub(super) fn point_at_source(diagnostics: &mut [v6::Diagnostic], block: &Block) {
    for diagnostic in diagnostics {
        if let Some(path) = &mut diagnostic.attribute {
            path.steps = source_steps(block, &path.steps);
        }
    }
}

/// The way through blocks, and then one attribute: for a path into the value of an attribute, Terraform 1.11 would point at the
/// whole resource. So it does for a path that ends at a block; a name that the block does not have makes it point at the block.
fn source_steps(block: &Block, steps: &[Step]) -> Vec<Step> {
    let name = |step: &Step| match &step.selector {
        Some(Selector::AttributeName(name)) => block.find(name),
        _ => None,
    };
    let Some((first, rest)) = steps.split_first() else { return vec![nameless()] };
    let (found, mut way) = (name(first), vec![first.clone()]);
    let within = found.filter(|attribute| attribute.facts.form.is_block()).and_then(|a| Some((a, a.shape.block()?)));
    let Some((attribute, within)) = within else { return way };
    let labels = usize::from(attribute.facts.form == Form::LabelledBlocks).min(rest.len());
    let (label, rest) = rest.split_at(labels);
    way.extend_from_slice(label);
    way.extend(source_steps(within, rest));
    way
}

fn nameless() -> Step {
    Step { selector: Some(Selector::AttributeName(String::new())) }
}

/// A path as a message.
pub(super) fn path_message(path: &Path) -> v6::AttributePath {
    let step = |step: &PathStep| Step {
        selector: Some(match step {
            PathStep::Name(name) => Selector::AttributeName(name.clone()),
            PathStep::Key(key) => Selector::ElementKeyString(key.clone()),
            PathStep::Index(index) => Selector::ElementKeyInt(i64::try_from(*index).unwrap_or(i64::MAX)),
        }),
    };
    v6::AttributePath { steps: path.steps().iter().map(step).collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::attr::Attr;
    use crate::model::{Model, Row, block, optional};

    #[derive(Debug, Clone, Default)]
    struct Inner<const DEEP: bool> {
        tags: Attr<BTreeMap<String, String>>,
        slot: Attr<BTreeMap<String, Inner<false>>>,
    }

    impl<const DEEP: bool> Model for Inner<DEEP> {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { tags, slot } = self;
            let tags = optional("tags", tags, "");
            if DEEP { vec![tags, block("slot", slot, "")] } else { vec![tags] }
        }
    }

    #[track_caller]
    fn points(path: &Path, wanted: &str) {
        let mut message = [v6::Diagnostic { attribute: Some(path_message(path)), ..Default::default() }];
        point_at_source(&mut message, &Block::of::<Inner<true>>());
        let [v6::Diagnostic { attribute: Some(path), .. }] = message else { panic!("the path is gone") };
        let shown: Vec<String> = path.steps.iter().map(shown).collect();
        assert_eq!(shown.join(" "), wanted);
    }

    fn shown(step: &Step) -> String {
        match &step.selector {
            Some(Selector::AttributeName(name)) if name.is_empty() => "(block)".to_owned(),
            Some(Selector::AttributeName(name) | Selector::ElementKeyString(name)) => name.clone(),
            Some(Selector::ElementKeyInt(index)) => index.to_string(),
            None => "?".to_owned(),
        }
    }

    #[test]
    fn a_path_leads_through_blocks_to_an_attribute() {
        points(&Path::from("tags").key("env"), "tags");
        points(&Path::from("slot").key("a").name("tags").key("env"), "slot a tags");
    }

    #[test]
    fn a_path_that_ends_at_a_block_points_at_it() {
        points(&Path::from("slot").key("a"), "slot a (block)");
        points(&Path::from("slot"), "slot (block)");
    }

    #[test]
    fn a_path_that_leads_nowhere_stays_as_it_is() {
        points(&Path::from("other").name("thing"), "other");
    }
}
