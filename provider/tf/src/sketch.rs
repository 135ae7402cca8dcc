//! Values in tests: written as JSON, where `"?"` is an unknown value, and printed the same way.

use serde_json::{Value as Json, json};

use crate::number::Number;
use crate::value::Value;

pub(crate) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => (*bool).into(),
        Json::Number(number) => Value::Number(Number::parse(&number.to_string()).unwrap()),
        Json::String(text) if text == "?" => Value::Unknown,
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Object(entries) => Value::Map(entries.iter().map(|(key, item)| (key.clone(), value(item))).collect()),
    }
}

pub(crate) fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Unknown => "?".into(),
        Value::Bool(bool) => json!(bool),
        Value::Number(number) => serde_json::from_str(number.text()).unwrap(),
        Value::String(text) => json!(text),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => Json::Object(entries.iter().map(|(key, item)| (key.clone(), json(item))).collect()),
        Value::Typed(_, value) => json(value),
    }
}
