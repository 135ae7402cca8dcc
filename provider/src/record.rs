//! A resource's configuration as the JSON document that its agent keeps for `terraform import`. Without secrets.

use serde_json::{Map, Number as JsonNumber, Value as Json};
use tf::{Model, Number, Value};

/// The document of a model. What is null is left out, and what is write-only: whoever may look at the machine may read it.
pub(crate) fn write<M: Model>(model: &M) -> String {
    json(&tf::stored(model)).to_string()
}

/// The model of a document; `None` if it is not one of this model's.
pub(crate) fn read<M: Model>(document: &str) -> Option<M> {
    let json: Json = serde_json::from_str(document).ok()?;
    tf::load(&value(&json)).ok()
}

fn json(value: &Value) -> Json {
    match value {
        Value::Null | Value::Unknown => Json::Null,
        Value::Bool(bool) => Json::Bool(*bool),
        Value::Number(number) => {
            let whole = number.to_i64().map(JsonNumber::from);
            whole.or_else(|| JsonNumber::from_f64(number.to_f64())).map_or(Json::Null, Json::Number)
        }
        Value::String(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => {
            let known = entries.iter().filter(|(_, value)| !value.is_null() && !value.is_unknown());
            Json::Object(known.map(|(name, value)| (name.clone(), json(value))).collect::<Map<_, _>>())
        }
        Value::Typed(_, inner) => json(inner),
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(*bool),
        Json::Number(number) => Number::parse(&number.to_string()).map_or(Value::Null, Value::Number),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Object(entries) => Value::Map(entries.iter().map(|(name, json)| (name.clone(), value(json))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointModel;
    use tf::Attr;

    #[test]
    fn what_is_written_reads_back() {
        let model = EndpointModel { address: "192.0.2.11:7443".into(), fingerprint: Attr::Null };
        let document = write(&model);
        assert_eq!(document, r#"{"address":"192.0.2.11:7443"}"#);
        assert_eq!(read::<EndpointModel>(&document), Some(model));
    }

    #[test]
    fn what_no_state_keeps_is_not_recorded_either() {
        #[derive(Debug, Clone, Default, PartialEq)]
        struct Outer {
            name: Attr<String>,
            inner: Attr<Inner>,
        }
        impl Model for Outer {
            fn rows(&mut self) -> Vec<tf::Row<'_>> {
                let Self { name, inner } = self;
                vec![tf::required("name", name, "A name."), tf::block("inner", inner, "A block.")]
            }
        }
        #[derive(Debug, Clone, Default, PartialEq)]
        struct Inner {
            key_wo: Attr<tf::Secret<String>>,
            version: Attr<i64>,
        }
        impl Model for Inner {
            fn rows(&mut self) -> Vec<tf::Row<'_>> {
                let Self { key_wo, version } = self;
                let key = tf::optional("key_wo", key_wo, "A key.").sensitive().write_only();
                vec![key, tf::optional("version", version, "Its version.")]
            }
        }
        let inner = Inner { key_wo: tf::Secret::from("a-secret").into(), version: 2.into() };
        let document = write(&Outer { name: "a".into(), inner: inner.into() });
        assert_eq!(document, r#"{"inner":{"version":2},"name":"a"}"#);
    }

    #[test]
    fn a_document_of_something_else_is_none() {
        assert_eq!(read::<EndpointModel>("{\"address\": 7}"), None);
        assert_eq!(read::<EndpointModel>("garbage"), None);
    }
}
