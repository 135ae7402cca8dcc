//! A misspelt name in any block is refused by `terraform validate`, with its line, before the provider is asked anything.

use crate::harness::{Terraform, ready};
use serde_json::{Map, Value};

const HEAD: &str =
    "terraform {\n  required_providers {\n    groundwork = { source = \"groundwork-tf/groundwork\" }\n  }\n}\n";

/// A configuration being written, and the lines on which something is misspelt.
#[derive(Default)]
struct Text {
    lines: Vec<String>,
    misspelt: Vec<(u64, String)>,
}

impl Text {
    fn line(&mut self, depth: usize, text: &str) {
        self.lines.push(format!("{:indent$}{text}", "", indent = depth * 2));
    }

    fn misspell(&mut self, depth: usize, text: &str) {
        self.line(depth, text);
        let line = u64::try_from(HEAD.lines().count() + self.lines.len()).expect("a line number");
        self.misspelt.push((line, text.to_owned()));
    }

    /// A block with everything in it that is a block, and one misspelt name of each kind.
    fn block(&mut self, depth: usize, head: &str, schema: &Value) {
        self.line(depth, &format!("{head} {{"));
        for name in names(&schema["attributes"]).take(1) {
            self.misspell(depth + 1, &format!("{name}_x = 1"));
        }
        for (name, within) in schema["block_types"].as_object().into_iter().flatten() {
            let label = if within["nesting_mode"] == "map" { " \"one\"" } else { "" };
            self.misspell(depth + 1, &format!("{name}_x{label} {{}}"));
            self.block(depth + 1, &format!("{name}{label}"), &within["block"]);
        }
        self.line(depth, "}");
    }
}

fn names(attributes: &Value) -> impl Iterator<Item = &String> {
    attributes.as_object().into_iter().flat_map(Map::keys)
}

/// Validates, and compares the lines of what Terraform did not expect with those where something is misspelt.
#[track_caller]
fn check(terraform: &Terraform, text: &Text) {
    terraform.write("main.tf", &format!("{HEAD}{}\n", text.lines.join("\n")));
    let said = terraform.run(&["validate", "-json"]);
    let answer: Value = serde_json::from_str(&said.text).expect("terraform validate -json is JSON");
    let diagnostics = answer["diagnostics"].as_array().cloned().unwrap_or_default();
    let unexpected =
        diagnostics.iter().filter(|d| d["detail"].as_str().is_some_and(|text| text.contains("expected here")));
    let mut lines: Vec<u64> = unexpected.filter_map(|d| d["range"]["start"]["line"].as_u64()).collect();
    lines.sort_unstable();
    let wanted: Vec<u64> = text.misspelt.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, wanted, "{:#?}\n{}", text.misspelt, said.text);
}

#[test]
fn every_misspelt_name_in_a_block_is_refused_with_its_line() {
    if !ready() {
        return;
    }
    let terraform = Terraform::new(Vec::new());
    terraform.write("main.tf", HEAD);
    let said = terraform.run(&["providers", "schema", "-json"]);
    let schemas: Value = serde_json::from_str(&said.exits(0).text).expect("the schemas are JSON");
    let provider = schemas["provider_schemas"].as_object().and_then(|all| all.values().next());
    let schema = provider.expect("the one provider");

    let mut provider = Text::default();
    provider.block(0, "provider \"groundwork\"", &schema["provider"]["block"]);
    assert!(provider.misspelt.len() > 3, "the provider block has blocks");
    // A provider that nothing needs is not looked at.
    provider.line(0, "data \"groundwork_version\" \"one\" {}");
    check(&terraform, &provider);

    let mut resources = Text::default();
    for (name, resource) in schema["resource_schemas"].as_object().expect("resources") {
        resources.block(0, &format!("resource \"{name}\" \"one\""), &resource["block"]);
    }
    assert!(resources.misspelt.len() > 40, "resources have blocks");
    check(&terraform, &resources);
}
