//! The promises between plan, state and configuration, checked before an object leaves.
//!
//! Terraform checks the same and blames the provider in its own words. Here a broken promise is either prevented
//! ([`complete`], [`outgoing`]) or reported with its path and as what it is: a bug.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::path::Path;
use crate::schema::{Attribute, Block, Shape};
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
    let null = Value::Null;
    match (&attribute.shape, config, planned) {
        (Shape::Single(block), Value::Map(_), Value::Map(_)) => object(block, [config, prior, planned], at),
        (Shape::List(block), Value::List(wanted), Value::List(items)) if wanted.len() == items.len() => {
            let prior = prior.items().unwrap_or_default();
            wanted.iter().zip(items).enumerate().try_for_each(|(index, (config, planned))| {
                object(block, [config, prior.get(index).unwrap_or(&null), planned], &at.index(index))
            })
        }
        (Shape::Map(block), Value::Map(wanted), Value::Map(entries)) if wanted.keys().eq(entries.keys()) => wanted
            .iter()
            .try_for_each(|(key, config)| object(block, [config, prior.attribute(key), &entries[key]], &at.key(key))),
        (Shape::Leaf(_) | Shape::Single(_) | Shape::List(_) | Shape::Map(_), _, _) => Err(at.clone()),
    }
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
        return known(&attribute.shape, found);
    }
    match (&attribute.shape, planned) {
        (Shape::Single(block), Value::Map(_)) => completed(block, planned, found, at, differ),
        (Shape::List(block), Value::List(items)) => {
            let found = found.items().unwrap_or_default();
            let each = |(index, item)| {
                completed(block, item, found.get(index).unwrap_or(&Value::Null), &at.index(index), differ)
            };
            Value::List(items.iter().enumerate().map(each).collect())
        }
        (Shape::Map(block), Value::Map(entries)) => {
            let each = |(key, item): (&String, &Value)| {
                (key.clone(), completed(block, item, found.attribute(key), &at.key(key), differ))
            };
            Value::Map(entries.iter().map(each).collect())
        }
        (Shape::Leaf(_), _) if !planned.is_wholly_known() => known(&attribute.shape, found),
        (Shape::Leaf(_) | Shape::Single(_) | Shape::List(_) | Shape::Map(_), _) => {
            if planned != found && !found.is_unknown() {
                differ.push(at.clone());
            }
            planned.clone()
        }
    }
}

/// An object as it may be stored: wholly known, write-only values null, nothing missing.
pub(crate) fn outgoing(block: &Block, object: &Value) -> Value {
    let stored = |attribute: &Attribute| {
        let name = attribute.facts.name;
        let write_only = attribute.facts.write_only;
        (name.to_owned(), if write_only { Value::Null } else { known(&attribute.shape, object.attribute(name)) })
    };
    Value::Map(block.attributes.iter().map(stored).collect())
}

fn known(shape: &Shape, value: &Value) -> Value {
    match (shape, value) {
        (Shape::Single(block), Value::Map(_)) => outgoing(block, value),
        (Shape::List(block), Value::List(items)) => {
            Value::List(items.iter().map(|item| element(block, item)).collect())
        }
        (Shape::Map(block), Value::Map(entries)) => {
            Value::Map(entries.iter().map(|(key, item)| (key.clone(), element(block, item))).collect())
        }
        (Shape::Leaf(_), _) if value.is_wholly_known() => value.clone(),
        (Shape::Leaf(_) | Shape::Single(_) | Shape::List(_) | Shape::Map(_), _) => Value::Null,
    }
}

fn element(block: &Block, value: &Value) -> Value {
    if value.entries().is_some() { outgoing(block, value) } else { Value::Null }
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
    match (shape, planned) {
        (Shape::Single(block), Value::Map(_)) => with_write_only(block, planned, config),
        (Shape::List(block), Value::List(items)) => {
            let config = config.items().unwrap_or_default();
            let each = |(index, item)| with_write_only(block, item, config.get(index).unwrap_or(&Value::Null));
            Value::List(items.iter().enumerate().map(each).collect())
        }
        (Shape::Map(block), Value::Map(entries)) => {
            let each =
                |(key, item): (&String, &Value)| (key.clone(), with_write_only(block, item, config.attribute(key)));
            Value::Map(entries.iter().map(each).collect())
        }
        (Shape::Leaf(_) | Shape::Single(_) | Shape::List(_) | Shape::Map(_), _) => planned.clone(),
    }
}

#[cfg(test)]
mod tests;
