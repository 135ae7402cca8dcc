//! The promises between plan, state and configuration, checked before an object leaves.
//!
//! Terraform checks the same and blames the provider in its own words. Here a broken promise is either prevented
//! ([`complete`], [`outgoing`]) or reported with its path and as what it is: a bug.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::path::Path;
use crate::place::Place;
use crate::schema::{Attribute, Block, Form, Shape};
use crate::value::Value;

/// Checks a planned object against the configuration and the prior state.
pub(crate) fn keeps_the_rules(
    block: &Block,
    config: &Value,
    prior: Option<&Value>,
    planned: &Value,
) -> Result<(), Diagnostics> {
    let null = Value::Null;
    object(block, [config, prior.unwrap_or(&null), planned], &Path::root()).map_err(|at| {
        Diagnostic::bug(&format!("the plan of `{at}` agrees with neither configuration nor state")).into()
    })
}

fn object(block: &Block, [config, prior, planned]: [&Value; 3], at: &Path) -> Result<(), Path> {
    for attribute in &block.attributes {
        let name = attribute.facts.name;
        let values = [config, prior, planned].map(|object| object.attribute(name));
        field(attribute, values, &at.name(name))?;
    }
    Ok(())
}

/// The rules in Terraform's order; the first that fits decides.
fn field(attribute: &Attribute, [config, prior, planned]: [&Value; 3], at: &Path) -> Result<(), Path> {
    if attribute.facts.form.is_block() {
        return blocks(attribute, [config, prior, planned], at);
    }
    let verdict = |fine: bool| if fine { Ok(()) } else { Err(at.clone()) };
    if attribute.facts.write_only {
        return verdict(planned.is_null());
    }
    let unchanged = planned == prior && !prior.is_null() && !config.is_null();
    if planned == config || unchanged {
        return Ok(());
    }
    if config.is_null() {
        return verdict(attribute.is_computed());
    }
    within(&attribute.shape, [config, prior, planned], at)
}

/// Blocks are those of the configuration, each with its label: none may be added, left out, unknown or as it was before.
fn blocks(attribute: &Attribute, [config, prior, planned]: [&Value; 3], at: &Path) -> Result<(), Path> {
    if planned == config {
        return if planned.is_null() && attribute.facts.form == Form::LabelledBlocks {
            Err(at.clone())
        } else {
            Ok(())
        };
    }
    within(&attribute.shape, [config, prior, planned], at)
}

/// The same objects in the same places, and in each of them the rules.
fn within(shape: &Shape, [config, prior, planned]: [&Value; 3], at: &Path) -> Result<(), Path> {
    match (shape.block(), shape.objects(config), shape.objects(planned)) {
        (Some(block), Some(wanted), Some(items)) if places(&wanted).eq(places(&items)) => {
            wanted.iter().try_for_each(|(place, config)| {
                object(block, [config, place.of(prior), place.of(planned)], &place.path(at))
            })
        }
        _ => Err(at.clone()),
    }
}

fn places<'a>(objects: &[(Place<'a>, &Value)]) -> impl Iterator<Item = Place<'a>> {
    objects.iter().map(|(place, _)| *place)
}

/// What apply answers: the planned object, completed. A known planned value keeps its spelling, an unknown one is taken from
/// what was found, and null if nothing was. Also says where the two differ.
pub(crate) fn complete(block: &Block, planned: &Value, found: &Value) -> (Value, Vec<Path>) {
    let mut differ = Vec::new();
    let value = completed(block, planned, found, &Path::root(), &mut differ);
    (value, differ)
}

fn completed(block: &Block, planned: &Value, found: &Value, at: &Path, differ: &mut Vec<Path>) -> Value {
    let complete = |attribute: &Attribute| {
        let name = attribute.facts.name;
        let (planned, found, at) = (planned.attribute(name), found.attribute(name), at.name(name));
        (name.to_owned(), settled(attribute, planned, found, &at, differ))
    };
    Value::Map(block.attributes.iter().map(complete).collect::<BTreeMap<_, _>>())
}

fn settled(attribute: &Attribute, planned: &Value, found: &Value, at: &Path, differ: &mut Vec<Path>) -> Value {
    if attribute.facts.write_only {
        return Value::Null;
    }
    if planned.is_unknown() {
        return known(attribute, found);
    }
    let objects = attribute
        .shape
        .rebuilt(planned, |block, place, planned| completed(block, planned, place.of(found), &place.path(at), differ));
    if let Some(objects) = objects {
        return objects;
    }
    if !planned.is_wholly_known() {
        return known(attribute, found);
    }
    if planned != found && !found.is_unknown() {
        differ.push(at.clone());
    }
    planned.clone()
}

/// An object as it may be stored: wholly known, write-only values null, nothing missing.
pub(crate) fn outgoing(block: &Block, object: &Value) -> Value {
    let stored = |attribute: &Attribute| {
        let name = attribute.facts.name;
        let write_only = attribute.facts.write_only;
        (name.to_owned(), if write_only { Value::Null } else { known(attribute, object.attribute(name)) })
    };
    Value::Map(block.attributes.iter().map(stored).collect())
}

fn known(attribute: &Attribute, value: &Value) -> Value {
    let shape = &attribute.shape;
    let stored = |block: &Block, _: Place<'_>, value: &Value| {
        if value.entries().is_some() { outgoing(block, value) } else { Value::Null }
    };
    let leaf = matches!(shape, Shape::Leaf(_)) && value.is_wholly_known();
    let otherwise = || if leaf { value.clone() } else { attribute.facts.form.nothing() };
    shape.rebuilt(value, stored).unwrap_or_else(otherwise)
}

/// The planned object with the write-only values of the configuration, for the resource's eyes.
pub(crate) fn with_write_only(block: &Block, planned: &Value, config: &Value) -> Value {
    let merged = |attribute: &Attribute| {
        let name = attribute.facts.name;
        let (planned, config) = (planned.attribute(name), config.attribute(name));
        let value = if attribute.facts.write_only { config.clone() } else { merge(&attribute.shape, planned, config) };
        (name.to_owned(), value)
    };
    Value::Map(block.attributes.iter().map(merged).collect())
}

fn merge(shape: &Shape, planned: &Value, config: &Value) -> Value {
    let within = |block: &Block, place: Place<'_>, planned: &Value| with_write_only(block, planned, place.of(config));
    shape.rebuilt(planned, within).unwrap_or_else(|| planned.clone())
}

#[cfg(test)]
mod tests;
