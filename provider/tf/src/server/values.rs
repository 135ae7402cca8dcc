//! Values of calls: read, looked through, brought to the current form, and written.

use tfplugin::v6;

use crate::check;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::promise;
use crate::resource::AnyResource;
use crate::schema::Block;
use crate::value::Value;
use crate::wire;

/// What rows find wrong with a configuration; if that is nothing, what the author's rules do.
pub(super) fn problems_of(block: &Block, config: &Value, rules: impl FnOnce(&Value) -> Diagnostics) -> Diagnostics {
    let mut found = check::configured(block, config);
    if !found.has_errors() {
        found.extend(rules(&check::without_placeholders(block, config)));
    }
    found
}

/// Stored state in the current form.
pub(super) fn upgraded<D>(resource: &AnyResource<D>, version: i64, stored: &[u8]) -> Result<Value, Diagnostics> {
    let block = resource.block();
    let unreadable = |what: &str| {
        Diagnostic::error(format!("Cannot read the stored {}", resource.name()))
            .happened(format!("The state holds an object that {what}."))
            .holds("Nothing was changed.")
            .next("Restore the state from a backup, or remove the object from it and import it again.")
    };
    if stored.is_empty() {
        return Err(unreadable("was written by Terraform 0.11 or older").into());
    }
    let current = if version < resource.0.version() {
        let json = serde_json::from_slice(stored).map_err(|_| unreadable("is not JSON"))?;
        resource.0.upgrade(version, json)?.to_string().into_bytes()
    } else {
        stored.to_vec()
    };
    let state = wire::decode_json(&current, &block.own_type())
        .map_err(|error| unreadable(&format!("does not fit: {error}")))?;
    Ok(promise::outgoing(&block, &state))
}

pub(super) fn decode(message: Option<&v6::DynamicValue>, block: &Block) -> Result<Value, Diagnostics> {
    let unreadable = |error| Diagnostic::bug(&format!("a value from Terraform does not fit the schema: {error}"));
    Ok(wire::decode(message, &block.own_type()).map_err(unreadable)?)
}

pub(super) fn encode(value: &Value, block: &Block) -> Result<v6::DynamicValue, Diagnostics> {
    let unwritable = |error| Diagnostic::bug(&format!("a value for Terraform does not fit the schema: {error}"));
    Ok(wire::encode(value, &block.own_type()).map_err(unwritable)?)
}
