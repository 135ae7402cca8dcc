//! Bytes that Terraform itself writes, round trips of random values, and garbage.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::number::Number;

#[track_caller]
fn check(own: &Type, value: &Value, hex: &str) {
    let bytes: Vec<u8> = hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let written = encode(value, own).unwrap();
    assert_eq!(written.msgpack, bytes, "written");
    assert!(decode(Some(&written), own).unwrap() == *value, "read back");
}

#[track_caller]
fn reads(own: &Type, hex: &str, value: &Value) {
    let msgpack = hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    assert!(decode(Some(&DynamicValue { msgpack, json: vec![] }), own).unwrap() == *value);
}

fn number(text: &str) -> Value {
    Value::Number(Number::parse(text).unwrap())
}

#[test]
fn values_are_written_as_terraform_writes_them() {
    check(&Type::String, &Value::Null, "c0");
    check(&Type::String, &Value::Unknown, "d4 00 00");
    check(&Type::Number, &number("3"), "03");
    check(&Type::Number, &number("-1"), "ff");
    check(&Type::Number, &number("-200"), "d1 ff 38");
    check(&Type::Number, &number("1.5"), "cb 3f f8 00 00 00 00 00 00");
    check(&Type::Number, &number("0.1"), "a3 30 2e 31");
    check(
        &Type::Number,
        &number("12345678901234567890"),
        "b4 31 32 33 34 35 36 37 38 39 30 31 32 33 34 35 36 37 38 39 30",
    );
    let text = Value::Typed(Box::new(Type::String), Box::new("x".into()));
    check(&Type::Dynamic, &text, "92 c4 08 22 73 74 72 69 6e 67 22 a1 78");
}

#[test]
fn an_object_holds_every_attribute() {
    let own = Type::Object(BTreeMap::from([
        ("id".into(), Type::String),
        ("name".into(), Type::String),
        ("size".into(), Type::Number),
        ("tags".into(), Type::List(Box::new(Type::String))),
    ]));
    let value = Value::Map(BTreeMap::from([
        ("id".into(), Value::Unknown),
        ("name".into(), "web".into()),
        ("size".into(), 3.into()),
        ("tags".into(), Value::Null),
    ]));
    let hex = "84 a2 69 64 d4 00 00 a4 6e 61 6d 65 a3 77 65 62 a4 73 69 7a 65 03 a4 74 61 67 73 c0";
    check(&own, &value, hex);
}

#[test]
fn other_widths_and_refinements_are_read() {
    reads(&Type::String, "c7 09 0c 82 01 c2 02 a4 70 72 65 2d", &Value::Unknown);
    reads(&Type::Number, "cd 01 2c", &300.into());
    reads(&Type::Number, "ce 00 01 11 70", &70_000.into());
    reads(&Type::Number, "cf 7f ff ff ff ff ff ff ff", &number("9223372036854775807"));
    reads(&Type::Number, "ca 3f c0 00 00", &number("1.5"));
    reads(&Type::Set(Box::new(Type::String)), "93 a1 62 a1 61 a1 62", &vec!["a", "b"].into());
}

#[test]
fn bytes_of_another_type_are_refused_with_their_place() {
    let own = Type::Map(Box::new(Type::List(Box::new(Type::Bool))));
    let message = DynamicValue { msgpack: vec![0x81, 0xa1, b'k', 0x92, 0xc3, 0x05], json: vec![] };
    assert_eq!(decode(Some(&message), &own).unwrap_err().to_string(), r#"["k"][1]: is not a bool"#);
}

#[test]
fn stored_state_is_read_without_rounding_and_leniently() {
    let own = Type::Object(BTreeMap::from([
        ("count".into(), Type::Number),
        ("name".into(), Type::String),
        ("on".into(), Type::Bool),
        ("ratio".into(), Type::Number),
        ("since".into(), Type::String),
    ]));
    let json = br#"{"count": 123456789012345678901234567890, "name": 5, "on": "true", "ratio": 0.1, "gone": [1]}"#;
    let value = decode_json(json, &own).unwrap();
    assert!(*value.attribute("count") == number("123456789012345678901234567890"));
    assert!(*value.attribute("name") == Value::from("5"));
    assert!(*value.attribute("on") == Value::Bool(true));
    assert!(*value.attribute("ratio") == number("0.1"));
    assert!(value.attribute("since").is_null());
}

#[test]
fn a_stored_dynamic_value_carries_its_type() {
    let value = decode_json(br#"{"value": ["a"], "type": ["list", "string"]}"#, &Type::Dynamic).unwrap();
    assert!(value == Value::Typed(Box::new(Type::List(Box::new(Type::String))), Box::new(vec!["a"].into())));
}

#[test]
fn dynamic_values_without_end_are_refused() {
    let msgpack = [&[0x92, 0xc4, 9][..], br#""dynamic""#].concat().repeat(100_000);
    assert!(decode(Some(&DynamicValue { msgpack, json: vec![] }), &Type::Dynamic).is_err());
}

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![Just(Type::String), Just(Type::Number), Just(Type::Bool), Just(Type::Dynamic)];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|own| Type::List(Box::new(own))),
            inner.clone().prop_map(|own| Type::Set(Box::new(own))),
            inner.clone().prop_map(|own| Type::Map(Box::new(own))),
            prop::collection::btree_map("[a-z]{1,4}", inner.clone(), 0..4).prop_map(Type::Object),
            prop::collection::vec(inner, 0..4).prop_map(Type::Tuple),
        ]
    })
}

fn values(own: &Type) -> BoxedStrategy<Value> {
    let present: BoxedStrategy<Value> = match own {
        Type::String => ".{0,40}".prop_map(Value::String).boxed(),
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::Number => prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|float| Number::shortest(float).map_or(Value::Null, Value::Number)),
            "-?[0-9]{1,40}(\\.[0-9]{1,40})?".prop_map(|text| number(&text)),
        ]
        .boxed(),
        Type::Dynamic => prop_oneof![Just(Type::String), Just(Type::Number)]
            .prop_flat_map(|own| {
                values(&own).prop_map(move |value| Value::Typed(Box::new(own.clone()), Box::new(value)))
            })
            .boxed(),
        Type::List(element) => prop::collection::vec(values(element), 0..4).prop_map(Value::List).boxed(),
        Type::Set(element) => prop::collection::vec(values(element), 0..4).prop_map(Value::set).boxed(),
        Type::Map(element) => prop::collection::btree_map(".{0,5}", values(element), 0..4).prop_map(Value::Map).boxed(),
        Type::Object(attributes) => attributes
            .iter()
            .map(|(name, own)| {
                values(own).prop_map({
                    let name = name.clone();
                    move |value| (name.clone(), value)
                })
            })
            .collect::<Vec<_>>()
            .prop_map(|entries| Value::Map(entries.into_iter().collect()))
            .boxed(),
        Type::Tuple(elements) => elements.iter().map(values).collect::<Vec<_>>().prop_map(Value::List).boxed(),
    };
    prop_oneof![8 => present, 1 => Just(Value::Null), 1 => Just(Value::Unknown)].boxed()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back((own, value) in types().prop_flat_map(|own| { let value = values(&own); (Just(own), value) })) {
        let written = encode(&value, &own).unwrap();
        prop_assert!(decode(Some(&written), &own).unwrap() == value);
    }

    #[test]
    fn garbage_is_refused_and_never_a_panic(own in types(), msgpack in prop::collection::vec(any::<u8>(), 1..80)) {
        let read = decode(Some(&DynamicValue { msgpack: msgpack.clone(), json: vec![] }), &own);
        if let Ok(value) = read {
            encode(&value, &own).unwrap();
        }
        drop(decode_json(&msgpack, &own));
    }

    #[test]
    fn a_cut_message_is_refused((own, value) in types().prop_flat_map(|own| { let value = values(&own); (Just(own), value) }), at in any::<prop::sample::Index>()) {
        let mut written = encode(&value, &own).unwrap();
        let keep = at.index(written.msgpack.len());
        written.msgpack.truncate(keep);
        prop_assert!(keep == 0 || decode(Some(&written), &own).is_err());
    }
}
