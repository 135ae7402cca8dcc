//! Checks of configured values: plain functions, given to a row with `.check(…)`.
//!
//! A check says what is wrong so that it completes "`memory_mib` …": "must be at least 16". Unknown and null values are skipped.
//! Checks of text apply to every element when the attribute is a list, a set or a map.

use std::fmt;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::held::IMPORTED;
use crate::path::Path;
use crate::place::Place;
use crate::schema::{Attribute, Block, Facts, Given, Shape};
use crate::value::{Type, Value};

/// What a check says: fine, or what is wrong.
pub type Verdict = Result<(), String>;

/// A rule for the values of one attribute.
#[derive(Clone)]
pub struct Check(Rule);

#[derive(Clone)]
enum Rule {
    Text(Arc<dyn Fn(&str) -> Verdict + Send + Sync>),
    Keys(Arc<dyn Fn(&str) -> Verdict + Send + Sync>),
    Whole(Arc<dyn Fn(i64) -> Verdict + Send + Sync>),
    Any(Arc<dyn Fn(&Value) -> Verdict + Send + Sync>),
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

/// Functions that can be checks. `Kind` only tells them apart.
pub trait IntoCheck<Kind> {
    /// The function as a check.
    fn into_check(self) -> Check;
}

/// Marks functions of text.
#[derive(Debug)]
pub struct OfText;
/// Marks functions of whole numbers.
#[derive(Debug)]
pub struct OfWhole;
/// Marks functions of any value.
#[derive(Debug)]
pub struct OfAny;

impl<F: Fn(&str) -> Verdict + Send + Sync + 'static> IntoCheck<OfText> for F {
    fn into_check(self) -> Check {
        Check(Rule::Text(Arc::new(self)))
    }
}

impl<F: Fn(i64) -> Verdict + Send + Sync + 'static> IntoCheck<OfWhole> for F {
    fn into_check(self) -> Check {
        Check(Rule::Whole(Arc::new(self)))
    }
}

impl<F: Fn(&Value) -> Verdict + Send + Sync + 'static> IntoCheck<OfAny> for F {
    fn into_check(self) -> Check {
        Check(Rule::Any(Arc::new(self)))
    }
}

impl IntoCheck<()> for Check {
    fn into_check(self) -> Check {
        self
    }
}

/// A rule for the keys of a map.
pub fn keys(rule: impl Fn(&str) -> Verdict + Send + Sync + 'static) -> Check {
    Check(Rule::Keys(Arc::new(rule)))
}

/// One of these words.
pub fn one_of(words: &'static [&'static str]) -> impl Fn(&str) -> Verdict + Send + Sync + 'static {
    move |text| {
        if words.contains(&text) {
            return Ok(());
        }
        let list: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        Err(format!("must be one of {}", list.join(", ")))
    }
}

/// At least `low`, at most `high`.
pub fn between(low: i64, high: i64) -> impl Fn(i64) -> Verdict + Send + Sync + 'static {
    move |number| if (low..=high).contains(&number) { Ok(()) } else { Err(format!("must be from {low} to {high}")) }
}

/// At least `low`.
pub fn at_least(low: i64) -> impl Fn(i64) -> Verdict + Send + Sync + 'static {
    move |number| if number >= low { Ok(()) } else { Err(format!("must be at least {low}")) }
}

/// Something other than nothing.
///
/// # Errors
/// If the text is empty or all blank.
pub fn not_blank(text: &str) -> Verdict {
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(()) }
}

/// All problems of a configured object that its rows can see.
#[must_use]
pub fn configured(block: &Block, config: &Value) -> Diagnostics {
    let mut found = Diagnostics::new();
    object(block, config, &Path::root(), &mut found);
    found
}

fn object(block: &Block, value: &Value, at: &Path, found: &mut Diagnostics) {
    if value.is_unknown() {
        return;
    }
    for attribute in &block.attributes {
        let name = attribute.facts.name;
        field(attribute, value.attribute(name), &at.name(name), found);
    }
}

fn field(attribute: &Attribute, value: &Value, at: &Path, found: &mut Diagnostics) {
    if !value.is_null() && attribute.facts.given == Given::Computed {
        found.push(not_yours(at));
    } else if stands_for_the_unknown(attribute, value) {
        // Good for an imported object, and what is not known of it is asked of nothing.
    } else if !value.is_null() && !value.is_unknown() {
        known_field(attribute, value, at, found);
    }
}

fn known_field(attribute: &Attribute, value: &Value, at: &Path, found: &mut Diagnostics) {
    for check in &attribute.facts.checks {
        check.run(&attribute.facts, value, at, found);
    }
    if let Shape::Leaf(own) = &attribute.shape {
        leaf(own, value, at, found);
    }
    let Some(block) = attribute.shape.block() else { return };
    for (place, element) in attribute.shape.objects(value).unwrap_or_default() {
        let at = place.path(at);
        if element.is_null() {
            found.push(wrong(&attribute.facts, None, &at, "must not be null"));
        }
        object(block, element, &at, found);
    }
}

/// Terraform before 1.11 would store write-only values.
pub(crate) fn too_old_for_write_only(block: &Block, config: &Value) -> Diagnostics {
    let refusal = |path: Path| {
        Diagnostic::error(format!("Cannot keep {path} out of the state"))
            .happened("This Terraform does not know write-only attributes and would store the value.")
            .next(format!("Use Terraform 1.11 or later, or remove `{path}`."))
            .at(path)
    };
    write_only_in(block, config, &Path::root()).into_iter().map(refusal).collect()
}

/// The write-only attributes that have a value.
fn write_only_in(block: &Block, object: &Value, at: &Path) -> Vec<Path> {
    let within = |attribute: &Attribute| {
        let (value, at) = (object.attribute(attribute.facts.name), at.name(attribute.facts.name));
        if attribute.facts.write_only {
            return if value.is_null() { vec![] } else { vec![at] };
        }
        let Some(block) = attribute.shape.block() else { return vec![] };
        let objects = attribute.shape.objects(value).unwrap_or_default();
        objects.into_iter().flat_map(|(place, item)| write_only_in(block, item, &place.path(&at))).collect()
    };
    block.attributes.iter().flat_map(within).collect()
}

/// What the model's own types cannot hold: null among the elements.
fn leaf(own: &Type, value: &Value, at: &Path, found: &mut Diagnostics) {
    if !matches!(own, Type::List(_) | Type::Set(_) | Type::Map(_)) {
        return;
    }
    for (at, element) in elements(value, at) {
        if element.is_null() {
            found.push(
                Diagnostic::error(format!("Cannot use this value of {at}")).happened("An element is null.").at(at),
            );
        }
    }
}

/// The elements of a collection with their paths; a set's share the path of the set only by being lists here.
fn elements<'a>(value: &'a Value, at: &Path) -> Vec<(Path, &'a Value)> {
    match value {
        Value::List(items) => items.iter().enumerate().map(|(index, item)| (at.index(index), item)).collect(),
        Value::Map(entries) => entries.iter().map(|(key, item)| (at.key(key), item)).collect(),
        Value::Null | Value::Unknown | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Typed(..) => {
            vec![]
        }
    }
}

impl Check {
    fn run(&self, facts: &Facts, value: &Value, at: &Path, found: &mut Diagnostics) {
        match (&self.0, value) {
            _ if value.is_null() || value.is_unknown() => {}
            (Rule::Text(rule), Value::String(text)) => report(rule(text), facts, value, at, found),
            (Rule::Text(_), Value::List(_) | Value::Map(_)) => {
                for (at, element) in elements(value, at) {
                    self.run(facts, element, &at, found);
                }
            }
            (Rule::Keys(rule), Value::Map(entries)) => {
                for key in entries.keys() {
                    report(rule(key), facts, &key.as_str().into(), &at.key(key), found);
                }
            }
            (Rule::Whole(rule), Value::Number(number)) => {
                let verdict = number.to_i64().map_or_else(|| Err("must be a whole number".to_owned()), rule.as_ref());
                report(verdict, facts, value, at, found);
            }
            (Rule::Any(rule), _) => report(rule(value), facts, value, at, found),
            (Rule::Text(_) | Rule::Keys(_) | Rule::Whole(_), _) => {
                found.push(Diagnostic::bug(&format!("the check of {at} is for another type")));
            }
        }
    }
}

fn report(verdict: Verdict, facts: &Facts, value: &Value, at: &Path, found: &mut Diagnostics) {
    if let Err(problem) = verdict {
        found.push(wrong(facts, Some(value), at, &problem));
    }
}

fn not_yours(at: &Path) -> Diagnostic {
    Diagnostic::error(format!("Cannot set {at}"))
        .happened(format!("The provider alone gives `{at}` its value."))
        .next(format!("Remove `{at}`."))
        .at(at.clone())
}

/// `terraform plan -generate-config-out` of Terraform before 1.14 copies placeholders from the state.
fn stands_for_the_unknown(attribute: &Attribute, value: &Value) -> bool {
    attribute.facts.first_boot && value.text() == Some(IMPORTED)
}

/// The configuration as rules across attributes see it: what is not known of an imported object is unknown.
pub(crate) fn without_placeholders(block: &Block, config: &Value) -> Value {
    if config.is_null() || config.is_unknown() {
        return config.clone();
    }
    let within = |attribute: &Attribute| {
        let value = config.attribute(attribute.facts.name);
        let value = if stands_for_the_unknown(attribute, value) {
            Value::Unknown
        } else {
            let inner = |block: &Block, _: Place<'_>, value: &Value| without_placeholders(block, value);
            attribute.shape.rebuilt(value, inner).unwrap_or_else(|| value.clone())
        };
        (attribute.facts.name.to_owned(), value)
    };
    Value::Map(block.attributes.iter().map(within).collect())
}

/// Where the configuration has placeholders, from which nothing can be made.
pub(crate) fn placeholders(block: &Block, config: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    placeholders_in(block, config, &Path::root(), &mut found);
    found
}

fn placeholders_in(block: &Block, object: &Value, at: &Path, found: &mut Vec<Path>) {
    for attribute in &block.attributes {
        let (value, at) = (object.attribute(attribute.facts.name), at.name(attribute.facts.name));
        if stands_for_the_unknown(attribute, value) {
            found.push(at);
            continue;
        }
        let Some(block) = attribute.shape.block() else { continue };
        for (place, item) in attribute.shape.objects(value).unwrap_or_default() {
            placeholders_in(block, item, &place.path(&at), found);
        }
    }
}

/// What is said of a placeholder in the configuration of an object that is to be made.
pub(crate) fn placeholder(diagnostic: Diagnostic, at: &Path) -> Diagnostic {
    diagnostic
        .happened(format!(
            "`{IMPORTED}` only stands for what is not known of an imported object: from it no `{at}` can be made."
        ))
        .next("Remove this line, or write what the object is to be made from: for an imported object it makes no difference.")
        .at(at.clone())
}

/// The diagnostic of a bad value, which is quoted unless it is secret.
pub(crate) fn wrong(facts: &Facts, value: Option<&Value>, at: &Path, problem: &str) -> Diagnostic {
    let quoted = match value {
        Some(Value::String(text)) => format!("; it is `{text}`"),
        Some(Value::Number(number)) => format!("; it is {number}"),
        _ => String::new(),
    };
    let quoted = if facts.sensitive || facts.write_only { "" } else { &quoted };
    Diagnostic::error(format!("Cannot use this value of {at}"))
        .happened(format!("`{at}` {problem}{quoted}."))
        .at(at.clone())
}
