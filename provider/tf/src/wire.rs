//! Values on the wire: `DynamicValue` and stored state, to and from [`Value`].
//!
//! The only place that knows MessagePack. Both directions are led by the type, because the same bytes mean different things
//! for different types. Nothing here panics, whatever the bytes are.

mod json;
mod msgpack;

use serde_json::value::RawValue;
use tfplugin::v6::DynamicValue;

use crate::path::Path;
use crate::value::{Type, Value};

/// Bytes or a value that do not fit their type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if at.steps().is_empty() { String::new() } else { format!("{at}: ") })]
pub(crate) struct WireError {
    pub(crate) at: Path,
    pub(crate) problem: String,
}

impl WireError {
    fn new(at: &Path, problem: impl Into<String>) -> Self {
        Self { at: at.clone(), problem: problem.into() }
    }
}

/// Reads a value of a request; a missing one is null.
pub(crate) fn decode(message: Option<&DynamicValue>, own: &Type) -> Result<Value, WireError> {
    match message {
        Some(message) if !message.msgpack.is_empty() => msgpack::decode(&message.msgpack, own),
        Some(message) if !message.json.is_empty() => decode_json(&message.json, own),
        _ => Ok(Value::Null),
    }
}

/// Writes a value for an answer: always MessagePack, because JSON has no unknown values.
pub(crate) fn encode(value: &Value, own: &Type) -> Result<DynamicValue, WireError> {
    Ok(DynamicValue { msgpack: msgpack::encode(value, own)?, json: Vec::new() })
}

/// Reads stored state. What is missing is null, what is unknown to the type is skipped, and scalars may be quoted.
pub(crate) fn decode_json(bytes: &[u8], own: &Type) -> Result<Value, WireError> {
    let raw: &RawValue = serde_json::from_slice(bytes)
        .map_err(|error| WireError::new(&Path::root(), format!("is not JSON ({:?})", error.classify())))?;
    json::decode(raw, own, &Path::root())
}

#[cfg(test)]
mod tests;
