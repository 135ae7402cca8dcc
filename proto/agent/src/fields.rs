//! The fields of a specification by name: which there are, and which ones a specification uses.
//!
//! An agent tells a provider the ones it knows, so that nothing is sent that it would drop without a word. Both lists are derived
//! from the contract, by `tests/fresh.rs`.

use crate::v1::machine::NodeSpec;
use prost::Message as _;
use prost::bytes::Buf as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::collections::BTreeSet;

/// A field of a message.
struct Field {
    number: u32,
    name: &'static str,
    /// By key; `fields` are then those of the value.
    map: bool,
    /// Of the message within, if it is one.
    fields: &'static [Self],
}

include!("gen/fields.rs");

/// Names of all fields: `file`, `file.mode`.
#[must_use]
pub fn known() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    list(NODE_SPEC, "", &mut found);
    found
}

fn list(fields: &[Field], at: &str, found: &mut BTreeSet<String>) {
    for field in fields {
        let name = join(at, field.name);
        list(field.fields, &name, found);
        found.insert(name);
    }
}

/// Names of the fields that a specification has values in.
#[must_use]
pub fn used(spec: &NodeSpec) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // What has just been encoded can be read.
    let _ = walk(&spec.encode_to_vec(), NODE_SPEC, "", &mut found);
    found
}

/// The names of `used` that are not `known`; of what is unknown as a whole, only the whole.
#[must_use]
pub fn beyond(used: &BTreeSet<String>, known: &BTreeSet<String>) -> Vec<String> {
    let is_within = |name: &str| name.match_indices('.').any(|(at, _)| !known.contains(&name[..at]));
    used.iter().filter(|name| !known.contains(*name) && !is_within(name)).cloned().collect()
}

/// Reads as far as it understands.
fn walk(mut bytes: &[u8], fields: &[Field], at: &str, found: &mut BTreeSet<String>) -> Option<()> {
    while bytes.has_remaining() {
        let (number, kind) = decode_key(&mut bytes).ok()?;
        let field = fields.iter().find(|field| field.number == number)?;
        let name = join(at, field.name);
        if kind == WireType::LengthDelimited {
            let inner = delimited(&mut bytes)?;
            if !field.fields.is_empty() {
                let message = if field.map { value(inner)? } else { inner };
                walk(message, field.fields, &name, found)?;
            }
        } else {
            skip_field(kind, number, &mut bytes, DecodeContext::default()).ok()?;
        }
        found.insert(name);
    }
    Some(())
}

/// The value of a map's entry; nothing stands for an empty one.
fn value(mut entry: &[u8]) -> Option<&[u8]> {
    while entry.has_remaining() {
        let (number, _) = decode_key(&mut entry).ok()?;
        let part = delimited(&mut entry)?;
        if number == 2 {
            return Some(part);
        }
    }
    Some(&[])
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_used_is_named() {
        let spec = r#"{
            "hostname": "a", "time_sync": false, "sysctls": {"a.b": "1"}, "kernel_modules": ["x"],
            "file": {"/x": {"content": "", "mode": "0600"}, "/y": {"content": "y"}}, "package": {"vim": {}},
            "kubernetes": {"version": "1.28.4", "repository": {"url": "http://x"}}
        }"#;
        let used = used(&serde_json::from_str(spec).unwrap());
        let want = [
            "file",
            "file.content",
            "file.mode",
            "hostname",
            "kernel_modules",
            "kubernetes",
            "kubernetes.repository",
            "kubernetes.repository.url",
            "kubernetes.version",
            "package",
            "sysctls",
            "time_sync",
        ];
        assert_eq!(used, names(&want));
        assert!(used.is_subset(&known()));
        assert_eq!(self::used(&NodeSpec::default()), names(&[]));
    }

    #[test]
    fn every_field_of_every_message_is_known() {
        let known = known();
        for name in ["host.names", "container_runtime.registry.ca_pem", "command.timeout_s", "swap"] {
            assert!(known.contains(name), "{name}");
        }
        assert!(!known.iter().any(|name| name.ends_with(".key") || name.ends_with(".value")), "{known:?}");
    }

    #[test]
    fn what_is_beyond_is_named_once() {
        let used = names(&["file", "file.mode", "proxy", "proxy.url", "proxy.user"]);
        assert_eq!(beyond(&used, &names(&["file", "file.content"])), ["file.mode", "proxy"]);
        assert_eq!(beyond(&used, &used), [""; 0]);
    }
}
