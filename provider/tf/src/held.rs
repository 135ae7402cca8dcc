//! The Rust types that an attribute may hold, and how each is read from a value and written to one.
//!
//! A new leaf type is one `impl Held`. Objects are models, and come with their rows.

use std::collections::{BTreeMap, BTreeSet};

use crate::attr::{Attr, Secret};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::model::{self, Model};
use crate::number::Number;
use crate::path::Path;
use crate::schema::{Block, Form, Shape};
use crate::value::{Type, Value};

/// A type that an attribute may hold.
pub trait Held: Clone + Send + Sync + Sized + 'static {
    /// True if values of this type are never shown.
    const SECRET: bool = false;

    /// Its shape in the schema.
    fn shape() -> Shape;

    /// Reads a value that is neither null nor unknown as a whole; unknown if this type cannot hold what is unknown in it.
    ///
    /// # Errors
    /// If the value is of another type, with its path.
    fn read(value: &Value, at: &Path) -> Result<Attr<Self>, Diagnostics>;

    /// Writes the value.
    fn write(&self) -> Value;

    /// What stands for a value of a creation-only attribute after an import, when nobody knows the real one.
    fn placeholder() -> Self;

    /// A generic test of the rows within; see [`crate::testing::rows_match_fields`].
    fn check_rows() {}
}

/// What blocks may hold: a model, or models by label.
pub trait Written: Held {
    /// How a configuration writes it.
    const FORM: Form;
}

impl<M: Model> Written for M {
    const FORM: Form = Form::Block;
}

impl<M: Model> Written for BTreeMap<String, M> {
    const FORM: Form = Form::LabelledBlocks;
}

/// What stands in creation-only text after an import.
pub const IMPORTED: &str = "(imported)";

impl<T: Held> Attr<T> {
    /// Stands for a creation-only value after an import; planning keeps it whatever the configuration says.
    #[must_use]
    pub fn imported() -> Self {
        Self::Known(T::placeholder())
    }
}

/// True for a value that [`Attr::imported`] wrote.
#[must_use]
pub(crate) fn is_placeholder(value: &Value) -> bool {
    match value {
        Value::String(text) => text == IMPORTED,
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.values().all(Value::is_null),
        Value::Null | Value::Unknown | Value::Bool(_) | Value::Number(_) | Value::Typed(..) => false,
    }
}

macro_rules! scalar {
    ($own:ty, $type:expr, $placeholder:expr, |$value:ident| $read:expr, |$this:ident| $write:expr) => {
        impl Held for $own {
            fn shape() -> Shape {
                Shape::Leaf($type)
            }

            fn read($value: &Value, at: &Path) -> Result<Attr<Self>, Diagnostics> {
                $read.map(Attr::Known).ok_or_else(|| mismatch(at, &$type))
            }

            fn write(&self) -> Value {
                let $this = self;
                $write
            }

            fn placeholder() -> Self {
                $placeholder
            }
        }
    };
}

scalar!(String, Type::String, IMPORTED.to_owned(), |value| value.text().map(str::to_owned), |this| this
    .as_str()
    .into());
scalar!(bool, Type::Bool, false, |value| boolean(value), |this| (*this).into());
scalar!(i64, Type::Number, 0, |value| number(value).and_then(Number::to_i64), |this| (*this).into());
scalar!(Number, Type::Number, Self::from(0_i64), |value| number(value).cloned(), |this| this.clone().into());
scalar!(Value, Type::Dynamic, Self::from(IMPORTED), |value| Some(value.clone()), |this| this.clone());

impl Held for Secret<String> {
    const SECRET: bool = true;

    fn shape() -> Shape {
        String::shape()
    }

    fn read(value: &Value, at: &Path) -> Result<Attr<Self>, Diagnostics> {
        Ok(match String::read(value, at)? {
            Attr::Known(text) => Attr::Known(Self::new(text)),
            Attr::Null => Attr::Null,
            Attr::Unknown => Attr::Unknown,
        })
    }

    fn write(&self) -> Value {
        self.expose().write()
    }

    fn placeholder() -> Self {
        Self::new(String::placeholder())
    }
}

macro_rules! collection {
    ($own:ty, $shape:expr, |$value:ident| $elements:expr, |$this:ident| $write:expr) => {
        impl Held for $own {
            fn shape() -> Shape {
                Shape::Leaf($shape)
            }

            fn read($value: &Value, at: &Path) -> Result<Attr<Self>, Diagnostics> {
                if !$value.is_wholly_known() {
                    return Ok(Attr::Unknown);
                }
                $elements.map(Attr::Known).ok_or_else(|| mismatch(at, &$shape))
            }

            fn write(&self) -> Value {
                let $this = self;
                $write
            }

            fn placeholder() -> Self {
                Self::default()
            }
        }
    };
}

collection!(
    Vec<String>,
    Type::List(Box::new(Type::String)),
    |value| value.items().and_then(|items| items.iter().map(owned).collect()),
    |this| this.clone().into()
);
collection!(
    Vec<i64>,
    Type::List(Box::new(Type::Number)),
    |value| value.items().and_then(|items| items.iter().map(|item| number(item)?.to_i64()).collect()),
    |this| this.clone().into()
);
collection!(
    BTreeSet<String>,
    Type::Set(Box::new(Type::String)),
    |value| value.items().and_then(|items| items.iter().map(owned).collect()),
    |this| Value::set(this.iter().map(|text| text.as_str().into()).collect())
);
collection!(
    BTreeMap<String, String>,
    Type::Map(Box::new(Type::String)),
    |value| value.entries().and_then(|all| all.iter().map(|(key, item)| Some((key.clone(), owned(item)?))).collect()),
    |this| this.clone().into()
);

impl<M: Model> Held for M {
    fn shape() -> Shape {
        Shape::Single(Block::of::<M>())
    }

    fn read(value: &Value, at: &Path) -> Result<Attr<Self>, Diagnostics> {
        model::load_at(value, at).map(Attr::Known)
    }

    fn write(&self) -> Value {
        model::dump(self)
    }

    fn placeholder() -> Self {
        M::default()
    }

    fn check_rows() {
        crate::testing::rows_match_fields::<M>();
    }
}

impl<M: Model> Held for Vec<M> {
    fn shape() -> Shape {
        Shape::List(Block::of::<M>())
    }

    fn read(value: &Value, at: &Path) -> Result<Attr<Self>, Diagnostics> {
        let items = value.items().ok_or_else(|| mismatch(at, &Self::shape().own_type()))?;
        let read = |(index, item)| model::load_at(item, &at.index(index));
        items.iter().enumerate().map(read).collect::<Result<_, _>>().map(Attr::Known)
    }

    fn write(&self) -> Value {
        Value::List(self.iter().map(model::dump).collect())
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn check_rows() {
        crate::testing::rows_match_fields::<M>();
    }
}

impl<M: Model> Held for BTreeMap<String, M> {
    fn shape() -> Shape {
        Shape::Map(Block::of::<M>())
    }

    fn read(value: &Value, at: &Path) -> Result<Attr<Self>, Diagnostics> {
        let entries = value.entries().ok_or_else(|| mismatch(at, &Self::shape().own_type()))?;
        let read = |(key, item): (&String, &Value)| Ok((key.clone(), model::load_at(item, &at.key(key))?));
        entries.iter().map(read).collect::<Result<_, _>>().map(Attr::Known)
    }

    fn write(&self) -> Value {
        Value::Map(self.iter().map(|(key, item)| (key.clone(), model::dump(item))).collect())
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn check_rows() {
        crate::testing::rows_match_fields::<M>();
    }
}

fn owned(value: &Value) -> Option<String> {
    value.text().map(str::to_owned)
}

const fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(bool) => Some(*bool),
        _ => None,
    }
}

const fn number(value: &Value) -> Option<&Number> {
    match value {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

fn mismatch(at: &Path, wanted: &Type) -> Diagnostics {
    let wanted = match wanted {
        Type::Number => "a whole number of at most 64 bits".to_owned(),
        other => format!("a value of type {}", other.to_json()),
    };
    Diagnostic::error(format!("Cannot use this value of {at}"))
        .happened(format!("`{at}` must be {wanted}."))
        .at(at.clone())
        .into()
}
