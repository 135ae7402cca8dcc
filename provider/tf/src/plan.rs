//! Planning: what an object will look like, as a pure function of its rows, the prior state and the configuration.
//!
//! Source: "Lifecycle rules" of the plugin protocol. Two passes: if the configuration changes nothing, computed values stay as
//! they are, so that nothing is unknown and the plan is empty; otherwise those that a change may touch become unknown.

use std::collections::BTreeMap;

use crate::cx::Private;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::held::is_placeholder;
use crate::path::{Path, PathStep};
use crate::place::Place;
use crate::promise;
use crate::resource::PlanNotes;
use crate::schema::{Attribute, Block};
use crate::value::Value;

/// What is planned from.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) block: &'a Block,
    /// `None` to create.
    pub(crate) prior: Option<&'a Value>,
    pub(crate) config: &'a Value,
    pub(crate) private: &'a Private,
}

/// The plan.
pub(crate) struct Planned {
    pub(crate) value: Value,
    pub(crate) replace: Vec<Path>,
    pub(crate) warnings: Diagnostics,
    pub(crate) private: Private,
}

impl Planned {
    /// Fails if the notes have errors.
    pub(crate) fn new(value: Value, notes: PlanNotes) -> Result<Self, Diagnostics> {
        let PlanNotes { replace, diagnostics, private, changed: _ } = notes;
        Ok(Self { value, replace, warnings: diagnostics.or_errors()?, private })
    }
}

/// What becomes of computed values that the configuration does not give.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    Prior,
    Unknown,
}

/// Plans a creation or a change. `adjust` is the resource's own part: it gets the planned object and returns its own.
///
/// Where the configuration changes nothing, it is first asked with the prior state, and if it then wants a change, a second
/// time with everything unknown that a change may touch. Only the last call counts: notes of the first one are dropped.
pub(crate) fn change(
    request: Request<'_>,
    adjust: impl Fn(Value, &mut PlanNotes) -> Result<Value, Diagnostics>,
) -> Result<Planned, Diagnostics> {
    let Request { block, prior, config, private } = request;
    let unchanged = object(block, config, prior, Fill::Prior);
    if prior == Some(&unchanged) {
        let mut notes = PlanNotes { private: private.copy(), ..PlanNotes::new(false) };
        let value = adjust(unchanged, &mut notes)?;
        if prior == Some(&value) {
            return Planned::new(value, notes);
        }
    }
    let mut notes = PlanNotes { private: private.copy(), ..PlanNotes::new(true) };
    let value = adjust(object(block, config, prior, Fill::Unknown), &mut notes)?;
    let mut planned = Planned::new(value, notes)?;
    promise::keeps_the_rules(block, config, prior, &planned.value)?;
    if let Some(prior) = prior {
        replacements(request, prior, &planned.value, &mut planned.replace)?;
    }
    Ok(planned)
}

fn object(block: &Block, config: &Value, prior: Option<&Value>, fill: Fill) -> Value {
    let planned = |attribute: &Attribute| {
        let name = attribute.facts.name;
        let prior = prior.map(|prior| prior.attribute(name));
        (name.to_owned(), field(attribute, config.attribute(name), prior, fill))
    };
    Value::Map(block.attributes.iter().map(planned).collect())
}

/// `prior` is `None` if the object around the attribute is new.
fn field(attribute: &Attribute, config: &Value, prior: Option<&Value>, fill: Fill) -> Value {
    let facts = &attribute.facts;
    if facts.write_only {
        return Value::Null;
    }
    match prior {
        // Blocks are as configured, whatever an import could not know.
        Some(prior)
            if facts.first_boot
                && !facts.form.is_block()
                && is_placeholder(prior)
                && (!config.is_null() || attribute.is_computed()) =>
        {
            return prior.clone();
        }
        _ => {}
    }
    if config.is_null() {
        return absent(attribute, config, prior, fill);
    }
    if config.is_unknown() {
        return config.clone();
    }
    let within = |block: &Block, place: Place<'_>, config: &Value| {
        if config.is_null() || config.is_unknown() {
            return config.clone();
        }
        object(block, config, prior.map(|prior| place.of(prior)).filter(|prior| !prior.is_null()), fill)
    };
    attribute.shape.rebuilt(config, within).unwrap_or_else(|| config.clone())
}

/// The planned value where the configuration has none. Its null may have a type (`tostring(null)` in a dynamic attribute), which
/// Terraform wants back.
fn absent(attribute: &Attribute, config: &Value, prior: Option<&Value>, fill: Fill) -> Value {
    let facts = &attribute.facts;
    if let Some(default) = &facts.default {
        return default.clone();
    }
    if !attribute.is_computed() {
        return config.clone();
    }
    match (prior, fill) {
        (None, _) => Value::Unknown,
        (Some(prior), Fill::Prior) => prior.clone(),
        (Some(prior), Fill::Unknown) if facts.keep || facts.replaces => prior.clone(),
        (Some(_), Fill::Unknown) => Value::Unknown,
    }
}

/// Adds the paths of rows that demand a new object, and proves those that the resource named.
fn replacements(
    request: Request<'_>,
    prior: &Value,
    planned: &Value,
    replace: &mut Vec<Path>,
) -> Result<(), Diagnostics> {
    for path in &*replace {
        if find(prior, path).is_none() && find(planned, path).is_none() {
            return Err(Diagnostic::bug(&format!("planning named `{path}`, which does not exist")).into());
        }
    }
    let mut found = Vec::new();
    in_object(request.block, [prior, planned, request.config], &Path::root(), &mut found);
    replace.extend(found);
    replace.sort();
    replace.dedup();
    Ok(())
}

fn in_object(block: &Block, [prior, planned, config]: [&Value; 3], at: &Path, found: &mut Vec<Path>) {
    for attribute in &block.attributes {
        let name = attribute.facts.name;
        let values = [prior, planned, config].map(|object| object.attribute(name));
        in_field(attribute, values, &at.name(name), found);
    }
}

fn in_field(attribute: &Attribute, values: [&Value; 3], at: &Path, found: &mut Vec<Path>) {
    let [prior, planned, config] = values;
    if prior == planned {
        return;
    }
    if attribute.facts.replaces {
        // A computed value that merely becomes unknown is no reason.
        if !(config.is_null() && planned.is_unknown()) {
            found.push(at.clone());
        }
        return;
    }
    let Some(block) = attribute.shape.block() else { return };
    // An object that comes or goes is a change of what is around it.
    for (place, prior) in attribute.shape.objects(prior).unwrap_or_default() {
        let [planned, config] = [planned, config].map(|value| place.of(value));
        if !planned.is_null() {
            in_object(block, [prior, planned, config], &place.path(at), found);
        }
    }
}

/// The value at a path, if the path leads somewhere.
pub(crate) fn find<'a>(object: &'a Value, path: &Path) -> Option<&'a Value> {
    path.steps().iter().try_fold(object, |value, step| match step {
        PathStep::Name(name) | PathStep::Key(name) => value.entries()?.get(name),
        PathStep::Index(index) => value.items()?.get(*index),
    })
}

/// What a resource made of a planned or stored object: where its model says the same as before, the exact value stays,
/// because a model cannot hold everything (an unknown element in a list of strings, a null with a type).
pub(crate) fn adopt(exact: &Value, before: &Value, after: Value) -> Value {
    if *before == after {
        return exact.clone();
    }
    match (exact, before, after) {
        (Value::Map(exact), Value::Map(before), Value::Map(after)) => {
            let adopted = |(key, after): (String, Value)| {
                let value = match (exact.get(&key), before.get(&key)) {
                    (Some(exact), Some(before)) => adopt(exact, before, after),
                    _ => after,
                };
                (key, value)
            };
            Value::Map(after.into_iter().map(adopted).collect::<BTreeMap<_, _>>())
        }
        (Value::List(exact), Value::List(before), Value::List(after))
            if exact.len() == after.len() && before.len() == after.len() =>
        {
            Value::List(after.into_iter().zip(exact.iter().zip(before)).map(|(a, (e, b))| adopt(e, b, a)).collect())
        }
        (_, _, after) => after,
    }
}

#[cfg(test)]
mod tests;
