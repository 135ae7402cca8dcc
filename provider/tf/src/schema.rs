//! What a model looks like from outside: its attributes, their types, and what planning has to know about them.
//!
//! Made from the rows of a model by [`Block::of`], and from there turned into Terraform's schema message.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tfplugin::v6;

use crate::check::Check;
use crate::model::Model;
use crate::value::{Type, Value};

/// The attributes of an object, sorted by name; nested blocks count as attributes.
#[derive(Debug, Clone)]
pub struct Block {
    /// All attributes.
    pub attributes: Vec<Attribute>,
}

/// One attribute: its facts and its shape.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// What its row says.
    pub facts: Facts,
    /// What it may hold.
    pub shape: Shape,
}

/// What a row says about an attribute, beside its type.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its name.
    pub name: &'static str,
    /// Meaning, unit, allowed values and default, for users.
    pub doc: Cow<'static, str>,
    /// How a configuration writes it.
    pub form: Form,
    /// Who gives the value.
    pub given: Given,
    /// The value if the configuration has none.
    pub default: Option<Value>,
    /// What a configured value must be like.
    pub checks: Vec<Check>,
    /// A change needs a new object.
    pub replaces: bool,
    /// Hidden in Terraform's output.
    pub sensitive: bool,
    /// Read from the configuration, never stored.
    pub write_only: bool,
    /// A computed value that no change of other attributes touches.
    pub keep: bool,
    /// Used at creation only.
    pub first_boot: bool,
}

/// How a configuration writes an attribute.
///
/// Terraform refuses names it does not know in blocks, and drops them without a word in objects that are the value of an
/// attribute. In exchange the blocks of a plan are always those of the configuration: a provider adds none and leaves none out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `name = …`
    Attribute,
    /// `name { … }`, at most once; without one the value is null.
    Block,
    /// `name "label" { … }`, once per label; without any the value is an empty map, never null.
    LabelledBlocks,
}

impl Form {
    /// The value where the configuration has nothing.
    #[must_use]
    pub const fn nothing(self) -> Value {
        match self {
            Self::Attribute | Self::Block => Value::Null,
            Self::LabelledBlocks => Value::Map(BTreeMap::new()),
        }
    }

    /// True for blocks of either kind.
    #[must_use]
    pub const fn is_block(self) -> bool {
        matches!(self, Self::Block | Self::LabelledBlocks)
    }
}

/// Who gives the value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Always the configuration.
    Required,
    /// The configuration or nobody.
    Optional,
    /// Always the provider.
    Computed,
    /// The configuration or the provider.
    OptionalComputed,
}

/// What an attribute may hold.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A value of a fixed type.
    Leaf(Type),
    /// An object.
    Single(Block),
    /// A list of objects.
    List(Block),
    /// Objects by key.
    Map(Block),
}

impl Block {
    /// The attributes of a model.
    #[must_use]
    pub fn of<M: Model>() -> Self {
        let mut model = M::default();
        let mut attributes: Vec<Attribute> = model.rows().iter().map(crate::model::Row::attribute).collect();
        attributes.sort_by_key(|attribute| attribute.facts.name);
        Self { attributes }
    }

    /// The attribute of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.facts.name == name)
    }

    /// The type of the object.
    #[must_use]
    pub fn own_type(&self) -> Type {
        Type::Object(self.attributes.iter().map(|a| (a.facts.name.to_owned(), a.shape.own_type())).collect())
    }

    /// The object of a configuration that has nothing.
    #[cfg(test)]
    pub(crate) fn nulls(&self) -> Value {
        Value::Map(self.attributes.iter().map(|a| (a.facts.name.to_owned(), a.facts.form.nothing())).collect())
    }

    /// The schema message of a resource, data source or provider.
    #[must_use]
    pub fn message(&self, version: i64, doc: &str) -> v6::Schema {
        v6::Schema { version, block: Some(self.block_message(doc)) }
    }

    fn block_message(&self, doc: &str) -> v6::schema::Block {
        let (blocks, attributes): (Vec<_>, Vec<_>) = self.attributes.iter().partition(|a| a.facts.form.is_block());
        v6::schema::Block {
            attributes: attributes.into_iter().map(Attribute::message).collect(),
            block_types: blocks.into_iter().filter_map(Attribute::block_message).collect(),
            description: doc.to_owned(),
            description_kind: v6::StringKind::Markdown.into(),
            ..Default::default()
        }
    }
}

impl Attribute {
    /// True if the provider may fill the attribute when the configuration does not.
    #[must_use]
    pub const fn is_computed(&self) -> bool {
        matches!(self.facts.given, Given::Computed | Given::OptionalComputed) || self.facts.default.is_some()
    }

    fn message(&self) -> v6::schema::Attribute {
        let Facts { name, doc, given, sensitive, write_only, .. } = &self.facts;
        v6::schema::Attribute {
            name: (*name).to_owned(),
            r#type: match &self.shape {
                Shape::Leaf(own) => own.to_json().to_string().into_bytes(),
                Shape::Single(_) | Shape::List(_) | Shape::Map(_) => Vec::new(),
            },
            nested_type: self.shape.message(),
            description: doc.to_string(),
            description_kind: v6::StringKind::Markdown.into(),
            required: *given == Given::Required,
            optional: matches!(given, Given::Optional | Given::OptionalComputed),
            computed: self.is_computed(),
            sensitive: *sensitive,
            write_only: *write_only,
            ..Default::default()
        }
    }

    /// How many blocks there must be is left to checks, which say why.
    fn block_message(&self) -> Option<v6::schema::NestedBlock> {
        use v6::schema::nested_block::NestingMode;
        let nesting = match self.facts.form {
            Form::Attribute => return None,
            Form::Block => NestingMode::Single,
            Form::LabelledBlocks => NestingMode::Map,
        };
        Some(v6::schema::NestedBlock {
            type_name: self.facts.name.to_owned(),
            block: Some(self.shape.block()?.block_message(&self.facts.doc)),
            nesting: nesting.into(),
            ..Default::default()
        })
    }
}

impl Shape {
    /// The type of a value of this shape.
    #[must_use]
    pub fn own_type(&self) -> Type {
        match self {
            Self::Leaf(own) => own.clone(),
            Self::Single(block) => block.own_type(),
            Self::List(block) => Type::List(Box::new(block.own_type())),
            Self::Map(block) => Type::Map(Box::new(block.own_type())),
        }
    }

    /// The attributes of the objects within, if it holds objects.
    #[must_use]
    pub const fn block(&self) -> Option<&Block> {
        match self {
            Self::Leaf(_) => None,
            Self::Single(block) | Self::List(block) | Self::Map(block) => Some(block),
        }
    }

    fn message(&self) -> Option<v6::schema::Object> {
        use v6::schema::object::NestingMode;
        let nesting = match self {
            Self::Leaf(_) => return None,
            Self::Single(_) => NestingMode::Single,
            Self::List(_) => NestingMode::List,
            Self::Map(_) => NestingMode::Map,
        };
        let attributes = self.block()?.attributes.iter().map(Attribute::message).collect();
        Some(v6::schema::Object { attributes, nesting: nesting.into(), ..Default::default() })
    }
}
