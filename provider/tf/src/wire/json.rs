//! Stored state: JSON, read with its type at hand and without ever rounding a number.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::WireError;
use crate::number::Number;
use crate::path::Path;
use crate::value::{Type, Value};

pub(super) fn decode(raw: &RawValue, own: &Type, at: &Path) -> Result<Value, WireError> {
    let text = raw.get();
    if text == "null" {
        return Ok(Value::Null);
    }
    match own {
        Type::String => scalar(text).map(Value::String).ok_or_else(|| wrong(at, "a string")),
        Type::Number => number(text).map(Value::Number).ok_or_else(|| wrong(at, "a number")),
        Type::Bool => boolean(text).map(Value::Bool).ok_or_else(|| wrong(at, "a bool")),
        Type::Dynamic => dynamic(text, at),
        Type::List(element) => Ok(Value::List(list(text, element, at)?)),
        Type::Set(element) => Ok(Value::set(list(text, element, at)?)),
        Type::Map(element) => {
            let read = |(key, raw): (String, &RawValue)| Ok((key.clone(), decode(raw, element, &at.key(&key))?));
            entries(text, at)?.into_iter().map(read).collect::<Result<_, _>>().map(Value::Map)
        }
        Type::Object(attributes) => object(text, attributes, at),
        Type::Tuple(elements) => {
            let items = items(text, at)?;
            if items.len() != elements.len() {
                return Err(wrong(at, &format!("{} elements", elements.len())));
            }
            let read = |(index, (raw, own)): (usize, (&&RawValue, &Type))| decode(raw, own, &at.index(index));
            items.iter().zip(elements).enumerate().map(read).collect::<Result<_, _>>().map(Value::List)
        }
    }
}

fn object(text: &str, attributes: &BTreeMap<String, Type>, at: &Path) -> Result<Value, WireError> {
    let stored = entries(text, at)?;
    let read = |(name, own): (&String, &Type)| {
        let value = stored.get(name).map_or(Ok(Value::Null), |raw| decode(raw, own, &at.name(name)))?;
        Ok((name.clone(), value))
    };
    attributes.iter().map(read).collect::<Result<_, _>>().map(Value::Map)
}

#[derive(Deserialize)]
struct Typed<'a> {
    r#type: Json,
    #[serde(borrow)]
    value: &'a RawValue,
}

fn dynamic(text: &str, at: &Path) -> Result<Value, WireError> {
    let typed: Typed<'_> = serde_json::from_str(text).map_err(|_| wrong(at, "a value with its type"))?;
    let own = Type::from_json(&typed.r#type).ok_or_else(|| wrong(at, "a value with its type"))?;
    let value = decode(typed.value, &own, at)?;
    Ok(Value::Typed(Box::new(own), Box::new(value)))
}

fn list(text: &str, element: &Type, at: &Path) -> Result<Vec<Value>, WireError> {
    items(text, at)?.iter().enumerate().map(|(index, raw)| decode(raw, element, &at.index(index))).collect()
}

fn items<'a>(text: &'a str, at: &Path) -> Result<Vec<&'a RawValue>, WireError> {
    serde_json::from_str(text).map_err(|_| wrong(at, "an array"))
}

fn entries<'a>(text: &'a str, at: &Path) -> Result<BTreeMap<String, &'a RawValue>, WireError> {
    serde_json::from_str(text).map_err(|_| wrong(at, "an object"))
}

/// A string, or the text of a number or bool that stands where a string belongs.
fn scalar(text: &str) -> Option<String> {
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok(),
        b'[' | b'{' => None,
        _ => Some(text.to_owned()),
    }
}

fn number(text: &str) -> Option<Number> {
    Number::parse(&scalar(text)?)
}

fn boolean(text: &str) -> Option<bool> {
    match scalar(text)?.as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn wrong(at: &Path, wanted: &str) -> WireError {
    WireError::new(at, format!("is not {wanted}"))
}
