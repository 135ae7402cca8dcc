//! The objects within the value of an attribute, whatever its shape, and where each of them stands.
//!
//! What goes through two or three values at once walks over one of them and looks up the same place in the others.

use crate::path::Path;
use crate::schema::{Block, Shape};
use crate::value::Value;

/// Where an object stands in the value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// It is the value.
    Whole,
    /// In a list.
    Index(usize),
    /// In a map.
    Key(&'a str),
}

impl Place<'_> {
    /// What stands at this place of a value; null if nothing does.
    pub(crate) fn of(self, value: &Value) -> &Value {
        match self {
            Self::Whole => value,
            Self::Index(index) => value.items().and_then(|items| items.get(index)).unwrap_or(&Value::Null),
            Self::Key(key) => value.attribute(key),
        }
    }

    /// The path of this place in the attribute at `at`.
    pub(crate) fn path(self, at: &Path) -> Path {
        match self {
            Self::Whole => at.clone(),
            Self::Index(index) => at.index(index),
            Self::Key(key) => at.key(key),
        }
    }
}

impl Shape {
    /// The objects in a value with their places; `None` if it is no value of objects, or null or unknown as a whole.
    pub(crate) fn objects<'a>(&self, value: &'a Value) -> Option<Vec<(Place<'a>, &'a Value)>> {
        match (self, value) {
            (Self::Single(_), Value::Map(_)) => Some(vec![(Place::Whole, value)]),
            (Self::List(_), Value::List(items)) => {
                Some(items.iter().enumerate().map(|(index, item)| (Place::Index(index), item)).collect())
            }
            (Self::Map(_), Value::Map(entries)) => {
                Some(entries.iter().map(|(key, item)| (Place::Key(key), item)).collect())
            }
            (Self::Leaf(_) | Self::Single(_) | Self::List(_) | Self::Map(_), _) => None,
        }
    }

    /// The value with each object in it replaced; `None` like [`Shape::objects`].
    pub(crate) fn rebuilt<'a>(
        &self,
        value: &'a Value,
        mut replace: impl FnMut(&Block, Place<'a>, &'a Value) -> Value,
    ) -> Option<Value> {
        match (self, value) {
            (Self::Single(block), Value::Map(_)) => Some(replace(block, Place::Whole, value)),
            (Self::List(block), Value::List(items)) => {
                let each = |(index, item)| replace(block, Place::Index(index), item);
                Some(Value::List(items.iter().enumerate().map(each).collect()))
            }
            (Self::Map(block), Value::Map(entries)) => {
                let each = |(key, item): (&'a String, &'a Value)| (key.clone(), replace(block, Place::Key(key), item));
                Some(Value::Map(entries.iter().map(each).collect()))
            }
            (Self::Leaf(_) | Self::Single(_) | Self::List(_) | Self::Map(_), _) => None,
        }
    }
}
