//! Promises as data: what is planned, what is found, and what must leave.

#![expect(clippy::needless_pass_by_value, reason = "cases are data")]

use serde_json::{Value as Json, json};

use super::*;
use crate::attr::Attr;
use crate::model::{Model, Row, block, computed, optional};
use crate::sketch::{json as shown, value};

#[derive(Debug, Clone, Default)]
struct Net {
    bridge: Attr<String>,
    mac: Attr<String>,
    key: Attr<String>,
}

impl Model for Net {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { bridge, mac, key } = self;
        vec![optional("bridge", bridge, ""), computed("mac", mac, ""), optional("key", key, "").write_only()]
    }
}

#[derive(Debug, Clone, Default)]
struct Vm {
    id: Attr<String>,
    name: Attr<String>,
    nets: Attr<BTreeMap<String, Net>>,
    password: Attr<String>,
}

impl Model for Vm {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { id, name, nets, password } = self;
        vec![
            computed("id", id, ""),
            optional("name", name, ""),
            optional("nets", nets, ""),
            optional("password", password, "").write_only(),
        ]
    }
}

/// A model whose objects are written as blocks.
#[derive(Debug, Clone, Default)]
struct Rack {
    card: Attr<BTreeMap<String, Net>>,
    base: Attr<Net>,
}

impl Model for Rack {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { card, base } = self;
        vec![block("card", card, ""), block("base", base, "")]
    }
}

#[track_caller]
fn completes(planned: Json, found: Json, wanted: Json, differ: &[&str]) {
    let (got, paths) = complete(&Block::of::<Vm>(), &value(&planned), &value(&found));
    assert_eq!(shown(&got), wanted);
    assert_eq!(paths.iter().map(ToString::to_string).collect::<Vec<_>>(), differ);
}

#[test]
fn a_planned_value_keeps_its_spelling_and_an_unknown_one_is_filled() {
    completes(
        json!({"id": "?", "name": "Web", "nets": {"net0": {"bridge": "vmbr0", "mac": "?"}}}),
        json!({"id": "7", "name": "web", "nets": {"net0": {"bridge": "vmbr0", "mac": "aa"}, "net1": {}}, "password": "x"}),
        json!({"id": "7", "name": "Web", "nets": {"net0": {"bridge": "vmbr0", "mac": "aa", "key": null}}, "password": null}),
        &["name"],
    );
}

#[test]
fn what_nobody_found_is_null() {
    completes(
        json!({"id": "?", "name": null, "nets": "?"}),
        json!({"id": "?", "nets": {"net0": {"mac": "?", "key": "secret"}}}),
        json!({"id": null, "name": null, "nets": {"net0": {"bridge": null, "mac": null, "key": null}}, "password": null}),
        &[],
    );
}

#[test]
fn write_only_values_come_from_the_configuration_and_never_leave() {
    let block = Block::of::<Vm>();
    let planned = value(&json!({"id": "?", "name": "a", "nets": {"net0": {"bridge": "b", "mac": "?"}}}));
    let config = value(&json!({"name": "a", "nets": {"net0": {"bridge": "b", "key": "k"}}, "password": "p"}));
    let merged = with_write_only(&block, &planned, &config);
    assert_eq!(
        shown(&merged),
        json!({"id": "?", "name": "a", "nets": {"net0": {"bridge": "b", "mac": "?", "key": "k"}}, "password": "p"})
    );
    assert_eq!(
        shown(&outgoing(&block, &merged)),
        json!({"id": null, "name": "a", "nets": {"net0": {"bridge": "b", "mac": null, "key": null}}, "password": null})
    );
}

#[test]
fn blocks_are_completed_one_by_one_and_never_null() {
    let rack = Block::of::<Rack>();
    let net = |mac: &str| json!({"bridge": "b", "mac": mac, "key": null});
    let planned = json!({"card": {"net0": net("?")}, "base": net("?")});
    let found = json!({"card": {"net0": {"mac": "aa", "key": "secret"}, "net1": net("bb")}, "base": net("cc")});
    let (got, differ) = complete(&rack, &value(&planned), &value(&found));
    assert_eq!(shown(&got), json!({"card": {"net0": net("aa")}, "base": net("cc")}));
    assert_eq!(differ, [Path::from("card").key("net0").name("bridge")]);
    let nothing = json!({"card": {}, "base": null});
    assert_eq!(shown(&complete(&rack, &value(&json!({"card": "?", "base": "?"})), &Value::Null).0), nothing);
    assert_eq!(shown(&outgoing(&rack, &Value::Null)), nothing);
}

#[track_caller]
fn refused(config: Json, planned: Json, at: &str) {
    refused_by::<Vm>(config, None, planned, at);
}

#[track_caller]
fn refused_by<M: Model>(config: Json, prior: Option<Json>, planned: Json, at: &str) {
    let prior = prior.map(|prior| value(&prior));
    let problems = keeps_the_rules(&Block::of::<M>(), &value(&config), prior.as_ref(), &value(&planned)).unwrap_err();
    assert!(problems.to_string().contains(&format!("`{at}`")), "{problems}");
}

#[test]
fn a_plan_that_does_not_have_the_blocks_of_the_configuration_is_refused() {
    let cards = |card: Json| json!({"card": card, "base": null});
    let refused = |config: Json, planned: Json, at: &str| refused_by::<Rack>(config, None, planned, at);
    refused(cards(json!({"net0": {"bridge": "a"}})), cards(json!({})), "card");
    refused(cards(json!({})), cards(json!({"net0": {"bridge": "a"}})), "card");
    refused(cards(json!({})), cards(json!("?")), "card");
    refused(cards(json!("?")), cards(json!({})), "card");
    refused(cards(Json::Null), cards(Json::Null), "card");
    refused(cards(json!({"net0": {}})), cards(json!({"net0": {"bridge": "b"}})), r#"card["net0"].bridge"#);
    refused(json!({"card": {}, "base": null}), json!({"card": {}, "base": {"mac": "a"}}), "base");
}

/// What may stand for an attribute as a whole must not for a block: Terraform compares what is in it, name by name.
#[test]
fn a_block_may_not_be_as_it_was_before() {
    let before = json!({"card": {}, "base": {"bridge": null}});
    refused_by::<Rack>(json!({"card": {}, "base": {"bridge": "b"}}), Some(before.clone()), before, "base.bridge");
}

#[test]
fn a_plan_that_breaks_a_rule_is_refused_with_its_path() {
    refused(json!({"name": "a"}), json!({"name": "b"}), "name");
    refused(json!({"name": "a"}), json!({"name": "?"}), "name");
    refused(json!({}), json!({"name": "a"}), "name");
    refused(json!({"password": "a"}), json!({"password": "a"}), "password");
    refused(json!({"nets": {"net0": {"bridge": "a"}}}), json!({"nets": {}}), "nets");
    refused(
        json!({"nets": {"net0": {"bridge": "a"}}}),
        json!({"nets": {"net0": {"bridge": "b"}}}),
        r#"nets["net0"].bridge"#,
    );
}
