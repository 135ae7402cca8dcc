//! MessagePack as Terraform writes it: `terraform-plugin-protocol` "Values", go-cty's `msgpack` package.
//!
//! Unknown values are extensions of any type; their refinements are promises of the host that we may ignore.
//! Numbers come as any integer, as floats, or as text when neither holds them exactly.

use std::collections::BTreeMap;

use rmp::Marker;

use super::WireError;
use crate::number::Number;
use crate::path::Path;
use crate::value::{Type, Value};

pub(super) fn decode(bytes: &[u8], own: &Type) -> Result<Value, WireError> {
    let mut reader = Reader { rest: bytes, dynamic: 0 };
    let value = reader.value(own, &Path::root())?;
    if reader.rest.is_empty() { Ok(value) } else { Err(WireError::new(&Path::root(), "has bytes after its end")) }
}

pub(super) fn encode(value: &Value, own: &Type) -> Result<Vec<u8>, WireError> {
    let mut writer = Writer::default();
    writer.value(value, own, &Path::root())?;
    Ok(writer.out)
}

/// Dynamic values within dynamic values; more than anybody means, and little enough for the stack.
const MAX_DYNAMIC: usize = 16;

struct Reader<'a> {
    rest: &'a [u8],
    dynamic: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, own: &Type, at: &Path) -> Result<Value, WireError> {
        let marker = self.marker(at)?;
        if let Some(length) = self.extension(marker, at)? {
            self.take(length, at)?;
            return Ok(Value::Unknown);
        }
        match (own, marker) {
            (_, Marker::Null) => Ok(Value::Null),
            (Type::String, _) => Ok(Value::String(self.text(marker, at)?)),
            (Type::Bool, Marker::True) => Ok(Value::Bool(true)),
            (Type::Bool, Marker::False) => Ok(Value::Bool(false)),
            (Type::Bool, _) => Err(WireError::new(at, "is not a bool")),
            (Type::Number, _) => Ok(Value::Number(self.number(marker, at)?)),
            (Type::Dynamic, _) => self.dynamic(marker, at),
            (Type::List(element), _) => Ok(Value::List(self.elements(marker, element, at)?)),
            (Type::Set(element), _) => Ok(Value::set(self.elements(marker, element, at)?)),
            (Type::Map(element), _) => self.map(marker, element, at),
            (Type::Object(attributes), _) => self.object(marker, attributes, at),
            (Type::Tuple(elements), _) => self.tuple(marker, elements, at),
        }
    }

    fn elements(&mut self, marker: Marker, element: &Type, at: &Path) -> Result<Vec<Value>, WireError> {
        let length = self.array(marker, at)?;
        (0..length).map(|index| self.value(element, &at.index(index))).collect()
    }

    fn tuple(&mut self, marker: Marker, elements: &[Type], at: &Path) -> Result<Value, WireError> {
        if self.array(marker, at)? != elements.len() {
            return Err(WireError::new(at, format!("has not {} elements", elements.len())));
        }
        let read = |(index, own)| self.value(own, &at.index(index));
        elements.iter().enumerate().map(read).collect::<Result<_, _>>().map(Value::List)
    }

    fn map(&mut self, marker: Marker, element: &Type, at: &Path) -> Result<Value, WireError> {
        let mut entries = BTreeMap::new();
        for _ in 0..self.map_length(marker, at)? {
            let key = self.key(at)?;
            let value = self.value(element, &at.key(&key))?;
            entries.insert(key, value);
        }
        Ok(Value::Map(entries))
    }

    fn object(&mut self, marker: Marker, own: &BTreeMap<String, Type>, at: &Path) -> Result<Value, WireError> {
        let mut attributes: BTreeMap<String, Value> = own.keys().map(|name| (name.clone(), Value::Null)).collect();
        for _ in 0..self.map_length(marker, at)? {
            let name = self.key(at)?;
            let at = at.name(&name);
            let own = own.get(&name).ok_or_else(|| WireError::new(&at, "is no attribute"))?;
            let value = self.value(own, &at)?;
            attributes.insert(name, value);
        }
        Ok(Value::Map(attributes))
    }

    fn dynamic(&mut self, marker: Marker, at: &Path) -> Result<Value, WireError> {
        let wrong = || WireError::new(at, "is not a value with its type");
        if self.array(marker, at)? != 2 || self.dynamic == MAX_DYNAMIC {
            return Err(wrong());
        }
        let marker = self.marker(at)?;
        let length = match marker {
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => self.length(marker, at)?,
            _ => return Err(wrong()),
        };
        let json = serde_json::from_slice(self.take(length, at)?).map_err(|_| wrong())?;
        let own = Type::from_json(&json).ok_or_else(wrong)?;
        self.dynamic += 1;
        let value = self.value(&own, at)?;
        self.dynamic -= 1;
        Ok(Value::Typed(Box::new(own), Box::new(value)))
    }

    fn number(&mut self, marker: Marker, at: &Path) -> Result<Number, WireError> {
        let number = match marker {
            Marker::FixPos(small) => Some(Number::from(i64::from(small))),
            Marker::FixNeg(small) => Some(Number::from(i64::from(small))),
            Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => Some(Number::from(self.unsigned(marker, at)?)),
            Marker::I8 => Some(Number::from(i64::from(i8::from_be_bytes(self.array_of(at)?)))),
            Marker::I16 => Some(Number::from(i64::from(i16::from_be_bytes(self.array_of(at)?)))),
            Marker::I32 => Some(Number::from(i64::from(i32::from_be_bytes(self.array_of(at)?)))),
            Marker::I64 => Some(Number::from(i64::from_be_bytes(self.array_of(at)?))),
            Marker::F32 => Number::exactly(f64::from(f32::from_be_bytes(self.array_of(at)?))),
            Marker::F64 => Number::exactly(f64::from_be_bytes(self.array_of(at)?)),
            _ => Number::parse(&self.text(marker, at)?),
        };
        number.ok_or_else(|| WireError::new(at, "is not a finite number"))
    }

    fn unsigned(&mut self, marker: Marker, at: &Path) -> Result<u64, WireError> {
        match marker {
            Marker::U8 => Ok(u64::from(u8::from_be_bytes(self.array_of(at)?))),
            Marker::U16 => Ok(u64::from(u16::from_be_bytes(self.array_of(at)?))),
            Marker::U32 => Ok(u64::from(u32::from_be_bytes(self.array_of(at)?))),
            _ => Ok(u64::from_be_bytes(self.array_of(at)?)),
        }
    }

    fn key(&mut self, at: &Path) -> Result<String, WireError> {
        let marker = self.marker(at)?;
        self.text(marker, at)
    }

    fn text(&mut self, marker: Marker, at: &Path) -> Result<String, WireError> {
        let length = match marker {
            Marker::FixStr(length) => usize::from(length),
            Marker::Str8 | Marker::Str16 | Marker::Str32 => self.length(marker, at)?,
            _ => return Err(WireError::new(at, "is not text")),
        };
        let bytes = self.take(length, at)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| WireError::new(at, "is not UTF-8"))
    }

    fn array(&mut self, marker: Marker, at: &Path) -> Result<usize, WireError> {
        match marker {
            Marker::FixArray(length) => Ok(usize::from(length)),
            Marker::Array16 | Marker::Array32 => self.length(marker, at),
            _ => Err(WireError::new(at, "is not an array")),
        }
    }

    fn map_length(&mut self, marker: Marker, at: &Path) -> Result<usize, WireError> {
        match marker {
            Marker::FixMap(length) => Ok(usize::from(length)),
            Marker::Map16 | Marker::Map32 => self.length(marker, at),
            _ => Err(WireError::new(at, "is not a map")),
        }
    }

    /// Length of an extension's payload, if this is one; its type has been read then.
    fn extension(&mut self, marker: Marker, at: &Path) -> Result<Option<usize>, WireError> {
        let length = match marker {
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => self.length(marker, at)?,
            _ => return Ok(None),
        };
        self.take(1, at)?;
        Ok(Some(length))
    }

    fn length(&mut self, marker: Marker, at: &Path) -> Result<usize, WireError> {
        let length = match marker {
            Marker::Str8 | Marker::Bin8 | Marker::Ext8 => u32::from(u8::from_be_bytes(self.array_of(at)?)),
            Marker::Str16 | Marker::Bin16 | Marker::Ext16 | Marker::Array16 | Marker::Map16 => {
                u32::from(u16::from_be_bytes(self.array_of(at)?))
            }
            _ => u32::from_be_bytes(self.array_of(at)?),
        };
        usize::try_from(length).map_err(|_| WireError::new(at, "is too long"))
    }

    fn marker(&mut self, at: &Path) -> Result<Marker, WireError> {
        Ok(Marker::from_u8(u8::from_be_bytes(self.array_of(at)?)))
    }

    fn array_of<const N: usize>(&mut self, at: &Path) -> Result<[u8; N], WireError> {
        self.take(N, at)?.try_into().map_err(|_| WireError::new(at, "is cut off"))
    }

    fn take(&mut self, length: usize, at: &Path) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| WireError::new(at, "is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
}

impl Writer {
    fn value(&mut self, value: &Value, own: &Type, at: &Path) -> Result<(), WireError> {
        match (own, value) {
            (Type::Dynamic, Value::Typed(own, value)) => return self.dynamic(own, value, at),
            (_, Value::Null) => self.marker(Marker::Null),
            (_, Value::Unknown) => self.out.extend([0xd4, 0, 0]),
            (Type::Dynamic, value) => return self.dynamic(&value.own_type(), value, at),
            (Type::String, Value::String(text)) => self.text(text, at)?,
            (Type::Bool, Value::Bool(bool)) => self.marker(if *bool { Marker::True } else { Marker::False }),
            (Type::Number, Value::Number(number)) => self.number(number, at)?,
            (Type::List(element) | Type::Set(element), Value::List(items)) => {
                self.elements(items, std::iter::repeat(&**element), at)?;
            }
            (Type::Tuple(elements), Value::List(items)) if items.len() == elements.len() => {
                self.elements(items, elements.iter(), at)?;
            }
            (Type::Map(element), Value::Map(entries)) => {
                self.map_length(entries.len(), at)?;
                for (key, value) in entries {
                    self.text(key, at)?;
                    self.value(value, element, &at.key(key))?;
                }
            }
            (Type::Object(attributes), Value::Map(entries)) => self.object(attributes, entries, at)?,
            (own, _) => return Err(WireError::new(at, format!("is not of type {}", own.to_json()))),
        }
        Ok(())
    }

    fn elements<'a>(
        &mut self,
        items: &[Value],
        types: impl Iterator<Item = &'a Type>,
        at: &Path,
    ) -> Result<(), WireError> {
        self.header(items.len(), at, [(15, 0x90), (0xffff, 0xdc), (0xffff_ffff, 0xdd)])?;
        for (index, (item, own)) in items.iter().zip(types).enumerate() {
            self.value(item, own, &at.index(index))?;
        }
        Ok(())
    }

    /// Every attribute of the type and no other: the host counts them.
    fn object(
        &mut self,
        own: &BTreeMap<String, Type>,
        entries: &BTreeMap<String, Value>,
        at: &Path,
    ) -> Result<(), WireError> {
        if let Some(extra) = entries.keys().find(|name| !own.contains_key(*name)) {
            return Err(WireError::new(&at.name(extra), "is no attribute"));
        }
        self.map_length(own.len(), at)?;
        for (name, own) in own {
            self.text(name, at)?;
            self.value(entries.get(name).unwrap_or(&Value::Null), own, &at.name(name))?;
        }
        Ok(())
    }

    fn dynamic(&mut self, own: &Type, value: &Value, at: &Path) -> Result<(), WireError> {
        let json = own.to_json().to_string();
        self.out.push(0x92);
        self.header(json.len(), at, [(0xff, 0xc4), (0xffff, 0xc5), (0xffff_ffff, 0xc6)])?;
        self.out.extend(json.as_bytes());
        self.value(value, own, at)
    }

    /// An integer if it fits, a float if it says exactly the same, text for everything else.
    fn number(&mut self, number: &Number, at: &Path) -> Result<(), WireError> {
        if let Some(whole) = number.to_i64() {
            self.whole(whole);
            return Ok(());
        }
        let float = number.to_f64();
        let same = |other: Option<Number>| other.as_ref() == Some(number);
        if same(Number::shortest(float)) && same(Number::exactly(float)) && !is_whole(number) {
            self.marker(Marker::F64);
            self.out.extend(float.to_be_bytes());
            return Ok(());
        }
        self.text(number.text(), at)
    }

    fn whole(&mut self, whole: i64) {
        match (i8::try_from(whole), i16::try_from(whole), i32::try_from(whole)) {
            (Ok(small), ..) if small >= -32 => self.out.extend(small.to_be_bytes()),
            (Ok(small), ..) => self.tagged(Marker::I8, small.to_be_bytes()),
            (_, Ok(middle), _) => self.tagged(Marker::I16, middle.to_be_bytes()),
            (_, _, Ok(large)) => self.tagged(Marker::I32, large.to_be_bytes()),
            _ => self.tagged(Marker::I64, whole.to_be_bytes()),
        }
    }

    fn text(&mut self, text: &str, at: &Path) -> Result<(), WireError> {
        match u8::try_from(text.len()) {
            Ok(short @ 0..=31) => self.marker(Marker::FixStr(short)),
            _ => self.header(text.len(), at, [(0xff, 0xd9), (0xffff, 0xda), (0xffff_ffff, 0xdb)])?,
        }
        self.out.extend(text.as_bytes());
        Ok(())
    }

    fn map_length(&mut self, length: usize, at: &Path) -> Result<(), WireError> {
        self.header(length, at, [(15, 0x80), (0xffff, 0xde), (0xffff_ffff, 0xdf)])
    }

    /// The smallest of three headers that holds the length: in the marker itself or in one byte, in two, in four.
    fn header(&mut self, length: usize, at: &Path, forms: [(u32, u8); 3]) -> Result<(), WireError> {
        let length = u32::try_from(length).map_err(|_| WireError::new(at, "is too long"))?;
        let [_, _, b2, b3] = length.to_be_bytes();
        match forms {
            [(15, marker), ..] if length <= 15 => self.out.push(marker | b3),
            [(0xff, marker), ..] if length <= 0xff => self.out.extend([marker, b3]),
            [_, (_, marker), _] if length <= 0xffff => self.out.extend([marker, b2, b3]),
            [.., (_, marker)] => {
                self.out.push(marker);
                self.out.extend(length.to_be_bytes());
            }
        }
        Ok(())
    }

    fn tagged<const N: usize>(&mut self, marker: Marker, bytes: [u8; N]) {
        self.marker(marker);
        self.out.extend(bytes);
    }

    fn marker(&mut self, marker: Marker) {
        self.out.push(marker.to_u8());
    }
}

fn is_whole(number: &Number) -> bool {
    !number.text().contains('.')
}
