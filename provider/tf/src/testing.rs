//! Generic tests for models, called by the tests of every provider built on this crate.

use std::collections::BTreeMap;

use crate::model::Model;
use crate::path::Path;
use crate::schema::{Attribute, Block, Form, Shape};
use crate::value::{Type, Value};

/// Fills one row at a time: the field of that name (`kind` for `type`) must be the one that becomes known. So in the models
/// within. Blocks must be as Terraform can have them.
///
/// # Panics
/// If a row is bound to another field, with both names, or is a block that cannot be.
#[track_caller]
pub fn rows_match_fields<M: Model>() {
    let block = Block::of::<M>();
    for attribute in &block.attributes {
        let name = attribute.facts.name;
        blocks_can_be(attribute);
        let mut model = M::default();
        for mut row in model.rows() {
            if row.name() == name {
                row.check_rows();
                let loaded = row.load(&sample(&attribute.shape), &Path::from(name));
                assert!(loaded.is_ok(), "the row `{name}` does not read a value of its own type");
            }
        }
        let printed = format!("{model:#?}");
        let known: Vec<&str> = printed
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(": Known("))
            // Rows may belong to a struct within; a model held by an attribute is deeper.
            .map(|field| field.strip_prefix("    ").unwrap_or(field))
            .filter(|field| !field.starts_with(' '))
            .collect();
        // Rust keeps `type` for itself.
        let field = if name == "type" { "kind" } else { name };
        assert_eq!(known, [field], "the row `{name}` fills another field");
    }
}

/// Planning gives a block no value of its own, and there are none in the value of an attribute; labelled ones are all of one type.
#[track_caller]
fn blocks_can_be(Attribute { facts, shape }: &Attribute) {
    let name = facts.name;
    let within = shape.block().map(|block| block.attributes.as_slice()).unwrap_or_default();
    if !facts.form.is_block() {
        assert!(!within.iter().any(|a| a.facts.form.is_block()), "the attribute `{name}` cannot hold blocks");
        return;
    }
    let given = facts.default.is_some() || facts.replaces || facts.keep || facts.write_only || facts.sensitive;
    assert!(
        !given,
        "the block `{name}` cannot have a default, replace, be kept, write-only or sensitive: what is in it can"
    );
    let dynamic = facts.form == Form::LabelledBlocks && has_dynamic(&shape.own_type());
    assert!(!dynamic, "the labelled block `{name}` cannot hold a value of any type");
}

fn has_dynamic(own: &Type) -> bool {
    match own {
        Type::Dynamic => true,
        Type::String | Type::Number | Type::Bool => false,
        Type::List(element) | Type::Set(element) | Type::Map(element) => has_dynamic(element),
        Type::Object(attributes) => attributes.values().any(has_dynamic),
        Type::Tuple(elements) => elements.iter().any(has_dynamic),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Attr;
    use crate::model::{Row, block, optional};

    #[derive(Debug, Clone, Default)]
    struct Inner<const MIXED: bool> {
        left: Attr<String>,
        right: Attr<String>,
    }

    impl<const MIXED: bool> Model for Inner<MIXED> {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { left, right } = self;
            let (left, right) = if MIXED { (right, left) } else { (left, right) };
            vec![optional("left", left, ""), optional("right", right, "")]
        }
    }

    #[derive(Debug, Clone, Default)]
    struct Outer<const MIXED: bool> {
        inner: Attr<BTreeMap<String, Inner<MIXED>>>,
    }

    impl<const MIXED: bool> Model for Outer<MIXED> {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { inner } = self;
            vec![optional("inner", inner, "")]
        }
    }

    #[test]
    fn rows_of_their_own_fields_pass() {
        rows_match_fields::<Outer<false>>();
    }

    #[test]
    fn a_row_of_another_field_is_found_however_deep() {
        let found = std::panic::catch_unwind(rows_match_fields::<Outer<true>>).unwrap_err();
        let text = found.downcast_ref::<String>().unwrap();
        assert!(text.contains("the row `left` fills another field"), "{text}");
    }

    #[derive(Debug, Clone, Default)]
    struct Blocks<const WRONG: bool> {
        inner: Attr<BTreeMap<String, Inner<false>>>,
    }

    impl<const WRONG: bool> Model for Blocks<WRONG> {
        fn rows(&mut self) -> Vec<Row<'_>> {
            let Self { inner } = self;
            let row = block("inner", inner, "");
            vec![if WRONG { row.keep() } else { row }]
        }
    }

    #[test]
    fn blocks_that_terraform_cannot_have_are_found() {
        rows_match_fields::<Blocks<false>>();
        let found = std::panic::catch_unwind(rows_match_fields::<Blocks<true>>).unwrap_err();
        let text = found.downcast_ref::<String>().unwrap();
        assert!(text.contains("the block `inner` cannot"), "{text}");
    }
}
