//! Plans as data: prior state, configuration, and what must come out.

#![expect(clippy::needless_pass_by_value, reason = "cases are data")]

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::attr::Attr;
use crate::model::{Model, Row, block, computed, optional, optional_computed, required};
use crate::schema::{Form, Given, Shape};
use crate::sketch::{json as shown, value};
use crate::value::Type;

#[derive(Debug, Clone, Default)]
struct Disk {
    storage: Attr<String>,
    size_gib: Attr<i64>,
    volume: Attr<String>,
}

impl Model for Disk {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { storage, size_gib, volume } = self;
        vec![
            required("storage", storage, "").replaces(),
            required("size_gib", size_gib, ""),
            computed("volume", volume, "").keep(),
        ]
    }
}

/// What blocks can hold.
#[derive(Debug, Clone, Default)]
struct Card {
    bridge: Attr<String>,
    model: Attr<String>,
    mac: Attr<String>,
    speed: Attr<i64>,
    key: Attr<String>,
    vlan: Attr<Vlan>,
    route: Attr<BTreeMap<String, Vlan>>,
}

impl Model for Card {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { bridge, model, mac, speed, key, vlan, route } = self;
        vec![
            required("bridge", bridge, "").replaces(),
            optional("model", model, "").default("virtio"),
            optional_computed("mac", mac, "").keep(),
            computed("speed", speed, ""),
            optional("key", key, "").write_only(),
            block("vlan", vlan, ""),
            block("route", route, ""),
        ]
    }
}

#[derive(Debug, Clone, Default)]
struct Vlan {
    tag: Attr<i64>,
    name: Attr<String>,
}

impl Model for Vlan {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { tag, name } = self;
        vec![required("tag", tag, ""), computed("name", name, "").keep()]
    }
}

#[derive(Debug, Clone, Default)]
struct Vm {
    id: Attr<String>,
    name: Attr<String>,
    node: Attr<String>,
    cores: Attr<i64>,
    mac: Attr<String>,
    uptime: Attr<i64>,
    image: Attr<String>,
    password: Attr<String>,
    tags: Attr<Vec<String>>,
    disks: Attr<BTreeMap<String, Disk>>,
    card: Attr<BTreeMap<String, Card>>,
    clone: Attr<Vlan>,
    drift: Attr<Vec<String>>,
}

impl Model for Vm {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { id, name, node, cores, mac, uptime, image, password, tags, disks, card, clone, drift } = self;
        vec![
            computed("id", id, "").keep(),
            required("name", name, ""),
            optional_computed("node", node, "").replaces(),
            optional("cores", cores, "").default(1),
            optional_computed("mac", mac, "").keep(),
            computed("uptime", uptime, ""),
            optional("image", image, "").first_boot(),
            optional("password", password, "").write_only(),
            optional("tags", tags, ""),
            optional("disks", disks, ""),
            block("card", card, ""),
            block("clone", clone, "").first_boot(),
            computed("drift", drift, ""),
        ]
    }
}

/// A full object from what differs from null.
fn object(some: &Json) -> Value {
    let mut full = Block::of::<Vm>().nulls();
    if let (Value::Map(full), Value::Map(some)) = (&mut full, value(some)) {
        full.extend(some);
    }
    full
}

fn prior() -> Json {
    json!({
        "id": "pve1/100", "name": "web", "node": "pve1", "cores": 1, "mac": "aa:bb", "uptime": 5, "image": "debian",
        "disks": {"scsi0": {"storage": "local", "size_gib": 10, "volume": "v1"}}, "drift": []
    })
}

fn config() -> Json {
    json!({"name": "web", "image": "debian", "disks": {"scsi0": {"storage": "local", "size_gib": 10, "volume": null}}})
}

/// `base` with some entries replaced.
fn with(mut base: Json, changes: Json) -> Json {
    base.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    base
}

/// Plans, and compares what differs from null, and the replace paths.
#[track_caller]
fn check(prior: Option<Json>, config: Json, wanted: Json, replace: &[&str]) {
    let planned = plan(prior, config, |value, _| Ok(value)).unwrap();
    let mut got = shown(&planned.value);
    got.as_object_mut().unwrap().retain(|name, value| !(value.is_null() || name == "card" && *value == json!({})));
    assert_eq!(got, wanted);
    let paths: Vec<String> = planned.replace.iter().map(ToString::to_string).collect();
    assert_eq!(paths, replace);
}

fn plan(
    prior: Option<Json>,
    config: Json,
    adjust: impl Fn(Value, &mut PlanNotes) -> Result<Value, Diagnostics>,
) -> Result<Planned, Diagnostics> {
    let (block, config) = (Block::of::<Vm>(), object(&config));
    let prior = prior.map(|prior| object(&prior));
    change(Request { block: &block, prior: prior.as_ref(), config: &config, private: &Private::default() }, adjust)
}

#[test]
fn a_creation_knows_the_configuration_and_the_defaults() {
    check(
        None,
        with(config(), json!({"password": "hunter2"})),
        json!({
            "id": "?", "name": "web", "node": "?", "cores": 1, "mac": "?", "uptime": "?", "image": "debian",
            "disks": {"scsi0": {"storage": "local", "size_gib": 10, "volume": "?"}}, "drift": "?"
        }),
        &[],
    );
}

#[test]
fn an_unchanged_configuration_plans_exactly_the_prior_state() {
    check(Some(prior()), config(), prior(), &[]);
}

#[test]
fn a_change_makes_unknown_only_what_it_may_touch() {
    let wanted = with(prior(), json!({"name": "db", "uptime": "?", "drift": "?"}));
    check(Some(prior()), with(config(), json!({"name": "db"})), wanted, &[]);
}

#[test]
fn a_changed_row_that_replaces_names_its_path() {
    let disks = |storage: &str, volume: Json| json!({"disks": {"scsi0": {"storage": storage, "size_gib": 10, "volume": volume}}});
    let wanted = with(with(prior(), disks("fast", json!("v1"))), json!({"uptime": "?", "drift": "?"}));
    check(Some(prior()), with(config(), disks("fast", Json::Null)), wanted, &[r#"disks["scsi0"].storage"#]);
    let wanted = with(prior(), json!({"node": "pve2", "uptime": "?", "drift": "?"}));
    check(Some(prior()), with(config(), json!({"node": "pve2"})), wanted, &["node"]);
}

#[test]
fn an_unknown_configuration_replaces_and_a_removed_one_keeps_the_value() {
    let wanted = with(prior(), json!({"node": "?", "uptime": "?", "drift": "?"}));
    check(Some(prior()), with(config(), json!({"node": "?"})), wanted, &["node"]);
    check(Some(prior()), config(), prior(), &[]);
}

#[test]
fn a_new_element_has_unknown_computed_parts_and_replaces_nothing() {
    let disk = |volume: &str| json!({"storage": "local", "size_gib": 10, "volume": volume});
    let wanted =
        with(prior(), json!({"disks": {"scsi0": disk("v1"), "scsi1": disk("?")}, "uptime": "?", "drift": "?"}));
    check(
        Some(prior()),
        with(config(), json!({"disks": {"scsi0": disk("v1"), "scsi1": {"storage": "local", "size_gib": 10}}})),
        wanted,
        &[],
    );
}

#[test]
fn creation_only_values_change_without_effect_and_an_import_makes_no_difference() {
    let imported = with(prior(), json!({"image": "(imported)"}));
    check(Some(imported.clone()), config(), imported, &[]);
    let wanted = with(prior(), json!({"image": "ubuntu", "uptime": "?", "drift": "?"}));
    check(Some(prior()), with(config(), json!({"image": "ubuntu"})), wanted, &[]);
}

#[test]
fn a_list_with_an_unknown_element_is_planned_as_configured() {
    let tags = json!({"tags": ["a", "?"]});
    check(
        Some(prior()),
        with(config(), tags.clone()),
        with(with(prior(), tags), json!({"uptime": "?", "drift": "?"})),
        &[],
    );
}

fn card(changes: Json) -> Json {
    let full =
        json!({"bridge": "b", "model": "virtio", "mac": null, "speed": null, "key": null, "vlan": null, "route": {}});
    with(full, changes)
}

#[test]
fn a_new_block_has_defaults_and_unknown_computed_parts() {
    let configured = json!({"bridge": "b", "key": "secret", "route": {"r": {"tag": 1}}});
    let made = card(json!({"mac": "?", "speed": "?", "route": {"r": {"tag": 1, "name": "?"}}}));
    let wanted = with(prior(), json!({"card": {"net0": made}, "uptime": "?", "drift": "?"}));
    check(Some(prior()), with(config(), json!({"card": {"net0": configured}})), wanted, &[]);
}

#[test]
fn a_block_that_stays_keeps_what_is_computed_in_it() {
    let made = card(json!({"mac": "aa:bb", "speed": 10, "vlan": {"tag": 1, "name": "one"}}));
    let with_card = |made: &Json| with(prior(), json!({"card": {"net0": made}}));
    let configured =
        |model: &str| json!({"card": {"net0": {"bridge": "b", "model": model, "vlan": {"tag": 1}, "route": {}}}});
    check(Some(with_card(&made)), with(config(), configured("virtio")), with_card(&made), &[]);
    let changed = with(made.clone(), json!({"model": "e1000", "speed": "?"}));
    let wanted = with(with_card(&changed), json!({"uptime": "?", "drift": "?"}));
    check(Some(with_card(&made)), with(config(), configured("e1000")), wanted, &[]);
}

#[test]
fn a_block_that_is_taken_away_is_planned_away() {
    let made = card(json!({"mac": "aa:bb", "speed": 10}));
    let before = with(prior(), json!({"card": {"net0": made}, "clone": {"tag": 1, "name": "one"}}));
    check(Some(before), config(), with(prior(), json!({"uptime": "?", "drift": "?"})), &[]);
}

#[test]
fn a_row_of_a_block_that_replaces_names_its_label() {
    let made = card(json!({"mac": "aa:bb", "speed": 10}));
    let wanted = card(json!({"bridge": "c", "mac": "aa:bb", "speed": "?"}));
    check(
        Some(with(prior(), json!({"card": {"net0": made}}))),
        with(config(), json!({"card": {"net0": {"bridge": "c", "route": {}}}})),
        with(prior(), json!({"card": {"net0": wanted}, "uptime": "?", "drift": "?"})),
        &[r#"card["net0"].bridge"#],
    );
}

/// What `dynamic` with an unknown `for_each` makes.
#[test]
fn blocks_that_are_unknown_as_a_whole_stay_so() {
    let made = card(json!({"mac": "aa:bb", "speed": 10}));
    let unknown = json!({"card": "?", "clone": "?"});
    let wanted = with(prior(), json!({"card": "?", "clone": "?", "uptime": "?", "drift": "?"}));
    check(Some(with(prior(), json!({"card": {"net0": made}}))), with(config(), unknown), wanted, &[]);
}

/// A placeholder in place of a block would be a plan that Terraform refuses: blocks are always as configured.
#[test]
fn a_creation_only_block_is_recorded_after_an_import() {
    let made = json!({"clone": {"tag": 1, "name": "?"}});
    let wanted = with(with(prior(), made), json!({"uptime": "?", "drift": "?"}));
    check(Some(prior()), with(config(), json!({"clone": {"tag": 1}})), wanted, &[]);
}

#[test]
fn what_the_resource_sets_in_an_unchanged_plan_makes_it_a_change() {
    let drifted = with(prior(), json!({"drift": ["swap is on"]}));
    let repair = |value: Value, _: &mut PlanNotes| match value {
        Value::Map(mut object) => {
            object.insert("drift".into(), Value::List(vec![]));
            Ok(Value::Map(object))
        }
        other => Ok(other),
    };
    let planned = plan(Some(drifted), config(), repair).unwrap();
    assert!(planned.value == object(&with(prior(), json!({"drift": [], "uptime": "?"}))));
}

#[test]
fn a_resource_that_plans_something_else_than_configured_is_told_so() {
    let rename = |value: Value, _: &mut PlanNotes| match value {
        Value::Map(mut object) => {
            object.insert("name".into(), "other".into());
            Ok(Value::Map(object))
        }
        other => Ok(other),
    };
    let problems = plan(Some(prior()), with(config(), json!({"cores": 2})), rename).err().unwrap();
    assert!(problems.to_string().contains("plan of `name` agrees with neither"), "{problems}");
}

/// The resource finds something to do only on its first call, and is then asked again.
#[test]
fn only_the_plan_that_counts_leaves_notes() {
    let repair = |value: Value, notes: &mut PlanNotes| {
        notes.warn(Diagnostic::warning("Cannot be silent"));
        let calls = notes.private().get::<u32>("calls").unwrap_or_default();
        notes.private().set("calls", &(calls + 1));
        let Value::Map(mut object) = value else { return Ok(value) };
        object.insert("drift".into(), vec!["swap is on"].into());
        Ok(Value::Map(object))
    };
    let planned = plan(Some(prior()), config(), repair).unwrap();
    assert_eq!(shown(&planned.value)["uptime"], "?");
    assert_eq!(planned.warnings.iter().count(), 1);
    assert_eq!(planned.private.get::<u32>("calls"), Some(1));
}

#[test]
fn a_replace_path_that_leads_nowhere_is_told() {
    let named = |value: Value, notes: &mut PlanNotes| {
        notes.replace(Path::from("disks").key("scsi9"));
        Ok(value)
    };
    let problems = plan(Some(prior()), with(config(), json!({"cores": 2})), named).err().unwrap();
    assert!(problems.to_string().contains(r#"disks["scsi9"]"#), "{problems}");
}

#[test]
fn what_a_model_cannot_hold_survives_it() {
    let exact = value(&json!({"tags": ["a", "?"], "name": "x"}));
    let before = value(&json!({"tags": "?", "name": "x"}));
    let after = value(&json!({"tags": "?", "name": "y"}));
    assert_eq!(shown(&adopt(&exact, &before, after)), json!({"tags": ["a", "?"], "name": "y"}));
}

/// Configurations of a block: required values are there, computed ones are not, and optional ones may be, or be unknown.
fn configs(block: &Block, unknowns: bool) -> BoxedStrategy<Value> {
    let attribute = |attribute: &Attribute| {
        let name = attribute.facts.name.to_owned();
        let value = match &attribute.shape {
            Shape::Leaf(Type::List(_)) => prop::collection::vec("[a-c]", 0..3).prop_map(Value::from).boxed(),
            Shape::Leaf(Type::Number) => (0_i64..3).prop_map(Value::from).boxed(),
            Shape::Leaf(_) => "[a-c]".prop_map(Value::from).boxed(),
            Shape::Single(block) => configs(block, unknowns),
            Shape::List(block) => prop::collection::vec(configs(block, unknowns), 0..3).prop_map(Value::List).boxed(),
            Shape::Map(block) => {
                prop::collection::btree_map("[xy]", configs(block, unknowns), 0..3).prop_map(Value::Map).boxed()
            }
        };
        let value = match attribute.facts.given {
            Given::Computed => Just(Value::Null).boxed(),
            Given::Required => value,
            // Terraform never says null for labelled blocks.
            _ if attribute.facts.form == Form::LabelledBlocks => value,
            Given::Optional | Given::OptionalComputed => prop_oneof![value, Just(Value::Null)].boxed(),
        };
        let unknown = u32::from(unknowns && attribute.facts.given != Given::Computed);
        prop_oneof![6 => value, unknown => Just(Value::Unknown)].prop_map(move |value| (name.clone(), value))
    };
    let attributes: Vec<_> = block.attributes.iter().map(attribute).collect();
    attributes.prop_map(|entries| Value::Map(entries.into_iter().collect())).boxed()
}

fn planned(prior: Option<&Value>, config: &Value) -> Value {
    let block = Block::of::<Vm>();
    change(Request { block: &block, prior, config, private: &Private::default() }, |value, _| Ok(value)).unwrap().value
}

/// What an apply makes of a plan: everything unknown gets some value.
fn applied(planned: &Value) -> Value {
    let block = Block::of::<Vm>();
    promise::complete(&block, planned, &crate::testing::sample_object(&block)).0
}

proptest! {
    #[test]
    fn after_an_apply_the_plan_is_empty((first, second) in (configs(&Block::of::<Vm>(), false), configs(&Block::of::<Vm>(), false))) {
        let made = applied(&planned(None, &first));
        prop_assert!(planned(Some(&made), &first) == made);
        let changed = applied(&planned(Some(&made), &second));
        prop_assert!(planned(Some(&changed), &second) == changed);
    }

    #[test]
    fn every_plan_keeps_the_rules((first, second) in (configs(&Block::of::<Vm>(), false), configs(&Block::of::<Vm>(), true))) {
        let made = applied(&planned(None, &first));
        let block = Block::of::<Vm>();
        for prior in [None, Some(&made)] {
            prop_assert!(promise::keeps_the_rules(&block, &second, prior, &planned(prior, &second)).is_ok());
        }
    }
}
