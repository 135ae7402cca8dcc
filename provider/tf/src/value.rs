//! Values and their types, as Terraform has them, free of any encoding.
//!
//! Resources rarely meet them: they see models. `wire` reads and writes them, `plan` compares them, `model` fills models.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

use crate::number::Number;

/// A value of any type. Which type it has, its schema says.
///
/// Lists, sets and tuples are all `List`; a set is sorted and holds nothing twice. Maps and objects are all `Map`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// Known only after the apply.
    Unknown,
    /// True or false.
    Bool(bool),
    /// A number of any size.
    Number(Number),
    /// Text.
    String(String),
    /// List, set or tuple.
    List(Vec<Self>),
    /// Map or object.
    Map(BTreeMap<String, Self>),
    /// A value of an attribute without a fixed type, with the type it has.
    Typed(Box<Type>, Box<Self>),
}

impl Value {
    /// A set: sorted, nothing twice.
    #[must_use]
    pub fn set(mut items: Vec<Self>) -> Self {
        items.sort();
        // Unknown elements may turn out to differ.
        items.dedup_by(|one, other| one == other && one.is_wholly_known());
        Self::List(items)
    }

    /// True for [`Value::Null`], also if it has a type.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.bare(), Self::Null)
    }

    /// True for [`Value::Unknown`], also if it has a type.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.bare(), Self::Unknown)
    }

    /// The value without the type that one of a dynamic attribute carries.
    #[must_use]
    pub fn bare(&self) -> &Self {
        match self {
            Self::Typed(_, value) => value,
            value => value,
        }
    }

    /// True if nothing unknown is in it, at any depth.
    #[must_use]
    pub fn is_wholly_known(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => true,
            Self::List(items) => items.iter().all(Self::is_wholly_known),
            Self::Map(entries) => entries.values().all(Self::is_wholly_known),
            Self::Typed(_, value) => value.is_wholly_known(),
        }
    }

    /// An attribute of an object; null if it is missing or this is no object.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &Self {
        match self {
            Self::Map(entries) => entries.get(name).unwrap_or(&Self::Null),
            _ => &Self::Null,
        }
    }

    /// The elements of a map or object.
    #[must_use]
    pub const fn entries(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The elements of a list.
    #[must_use]
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The type this value has by itself; a list counts as a tuple and a map as an object.
    #[must_use]
    pub fn own_type(&self) -> Type {
        match self {
            Self::Null | Self::Unknown => Type::Dynamic,
            Self::Bool(_) => Type::Bool,
            Self::Number(_) => Type::Number,
            Self::String(_) => Type::String,
            Self::List(items) => Type::Tuple(items.iter().map(Self::own_type).collect()),
            Self::Map(entries) => Type::Object(entries.iter().map(|(k, v)| (k.clone(), v.own_type())).collect()),
            Self::Typed(own, _) => (**own).clone(),
        }
    }
}

/// A sketch of the value: shape and names, but no content, which may be secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Unknown => f.write_str("unknown"),
            Self::Bool(_) => f.write_str("bool"),
            Self::Number(_) => f.write_str("number"),
            Self::String(_) => f.write_str("string"),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Map(entries) => f.debug_map().entries(entries).finish(),
            Self::Typed(_, value) => value.fmt(f),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::from(i64::from(number))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number.into())
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl<V: Into<Self>> From<Vec<V>> for Value {
    fn from(items: Vec<V>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<V: Into<Self>> From<BTreeMap<String, V>> for Value {
    fn from(entries: BTreeMap<String, V>) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key, value.into())).collect())
    }
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// Text.
    String,
    /// A number of any size.
    Number,
    /// True or false.
    Bool,
    /// Decided by each value.
    Dynamic,
    /// Elements of one type, in order.
    List(Box<Self>),
    /// Elements of one type, without order, none twice.
    Set(Box<Self>),
    /// Elements of one type by key.
    Map(Box<Self>),
    /// Named attributes, each with its type.
    Object(BTreeMap<String, Self>),
    /// Elements, each with its type.
    Tuple(Vec<Self>),
}

/// How deep types may nest; Terraform's own stay below ten.
const MAX_DEPTH: usize = 64;

impl Type {
    /// The type as Terraform writes it in JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::String => "string".into(),
            Self::Number => "number".into(),
            Self::Bool => "bool".into(),
            Self::Dynamic => "dynamic".into(),
            Self::List(element) => Json::Array(vec!["list".into(), element.to_json()]),
            Self::Set(element) => Json::Array(vec!["set".into(), element.to_json()]),
            Self::Map(element) => Json::Array(vec!["map".into(), element.to_json()]),
            Self::Object(attributes) => {
                let attributes = attributes.iter().map(|(name, own)| (name.clone(), own.to_json())).collect();
                Json::Array(vec!["object".into(), Json::Object(attributes)])
            }
            Self::Tuple(elements) => {
                Json::Array(vec!["tuple".into(), Json::Array(elements.iter().map(Self::to_json).collect())])
            }
        }
    }

    /// Reads what [`Type::to_json`] writes; `None` if it is no type.
    #[must_use]
    pub fn from_json(json: &Json) -> Option<Self> {
        Self::read(json, MAX_DEPTH)
    }

    fn read(json: &Json, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let element = |json: &Json| Self::read(json, depth).map(Box::new);
        match json {
            Json::String(name) => match name.as_str() {
                "string" => Some(Self::String),
                "number" => Some(Self::Number),
                "bool" => Some(Self::Bool),
                "dynamic" => Some(Self::Dynamic),
                _ => None,
            },
            Json::Array(parts) => match (parts.first()?.as_str()?, parts.get(1)?) {
                ("list", of) => Some(Self::List(element(of)?)),
                ("set", of) => Some(Self::Set(element(of)?)),
                ("map", of) => Some(Self::Map(element(of)?)),
                ("object", Json::Object(attributes)) => attributes
                    .iter()
                    .map(|(name, own)| Some((name.clone(), Self::read(own, depth)?)))
                    .collect::<Option<_>>()
                    .map(Self::Object),
                ("tuple", Json::Array(elements)) => {
                    elements.iter().map(|own| Self::read(own, depth)).collect::<Option<_>>().map(Self::Tuple)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_written_and_read_as_terraform_does() {
        let own = Type::Object(BTreeMap::from([
            ("names".into(), Type::Set(Box::new(Type::String))),
            ("pair".into(), Type::Tuple(vec![Type::Number, Type::Dynamic])),
        ]));
        let json = own.to_json();
        assert_eq!(json.to_string(), r#"["object",{"names":["set","string"],"pair":["tuple",["number","dynamic"]]}]"#);
        assert_eq!(Type::from_json(&json), Some(own));
    }

    #[test]
    fn a_type_without_end_is_refused() {
        let mut json = Json::from("string");
        for _ in 0..1000 {
            json = Json::Array(vec!["list".into(), json]);
        }
        assert_eq!(Type::from_json(&json), None);
    }

    #[test]
    fn debug_of_a_value_prints_no_content() {
        let value = Value::Map(BTreeMap::from([("password".into(), "hunter2".into())]));
        assert_eq!(format!("{value:?}"), r#"{"password": string}"#);
    }
}
