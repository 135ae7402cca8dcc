//! Generic tests for models, called by the tests of every provider built on this crate.

use std::collections::BTreeMap;

use crate::model::Model;
use crate::path::Path;
use crate::schema::{Block, Shape};
use crate::value::{Type, Value};

/// Fills one row at a time: the field of that name must be the one that becomes known. Nested models are looked at too
/// when their own type is given to this function.
///
/// # Panics
/// If a row is bound to another field, with both names.
#[track_caller]
pub fn rows_match_fields<M: Model>() {
    let block = Block::of::<M>();
    for attribute in &block.attributes {
        let name = attribute.facts.name;
        let mut model = M::default();
        for mut row in model.rows() {
            if row.name() == name {
                let loaded = row.load(&sample(&attribute.shape), &Path::from(name));
                assert!(loaded.is_ok(), "the row `{name}` does not read a value of its own type");
            }
        }
        let printed = format!("{model:#?}");
        let known: Vec<&str> = printed
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(": Known("))
            .filter(|field| !field.starts_with(' '))
            .collect();
        assert_eq!(known, [name], "the row `{name}` fills another field");
    }
}

/// Some value of a shape, with something in every collection.
#[must_use]
pub fn sample(shape: &Shape) -> Value {
    match shape {
        Shape::Leaf(own) => sample_of(own),
        Shape::Single(block) => sample_object(block),
        Shape::List(block) => Value::List(vec![sample_object(block)]),
        Shape::Map(block) => Value::Map(BTreeMap::from([("key".to_owned(), sample_object(block))])),
    }
}

/// An object with every attribute set.
#[must_use]
pub fn sample_object(block: &Block) -> Value {
    Value::Map(block.attributes.iter().map(|a| (a.facts.name.to_owned(), sample(&a.shape))).collect())
}

fn sample_of(own: &Type) -> Value {
    match own {
        Type::String => "text".into(),
        Type::Number => 1.into(),
        Type::Bool => true.into(),
        Type::Dynamic => Value::Typed(Box::new(Type::String), Box::new("text".into())),
        Type::List(element) | Type::Set(element) => Value::List(vec![sample_of(element)]),
        Type::Map(element) => Value::Map(BTreeMap::from([("key".to_owned(), sample_of(element))])),
        Type::Object(attributes) => Value::Map(attributes.iter().map(|(k, v)| (k.clone(), sample_of(v))).collect()),
        Type::Tuple(elements) => Value::List(elements.iter().map(sample_of).collect()),
    }
}
