//! How Proxmox VE writes values: booleans as 0 and 1, integers in quotes, options packed into property strings.
//!
//! Reading is total: what nobody here knows is kept and printed again as it was.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::units::Size;

/// A boolean from `0`, `1`, `true`, `"1"` and the like.
pub(crate) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let text = from.deserialize_any(Scalar)?;
    truth(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &"a boolean"))
}

/// An integer from a number or a quoted one.
pub(crate) fn int<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let text = from.deserialize_any(Scalar)?;
    let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
    whole.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"an integer"))
}

/// A size in bytes, never negative.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    int(from).map(|number| u64::try_from(number).unwrap_or_default())
}

/// A string, also where the server sends a number or a boolean.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    from.deserialize_any(Scalar)
}

/// What [`text`] reads, or nothing.
pub(crate) fn optional_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Text>::deserialize(from)?.map(|text| text.0))
}

/// The server's list of words separated by `,`, `;` or blanks.
pub(crate) fn words(text: &str) -> Vec<String> {
    let separator = |c: char| matches!(c, ',' | ';' | '\0') || c.is_whitespace();
    text.split(separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The meaning of a boolean in any of the server's spellings.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "0" | "off" | "no" | "false" | "" => Some(false),
        _ => None,
    }
}

/// A scalar as text.
#[derive(Deserialize)]
struct Text(#[serde(deserialize_with = "text")] String);

struct Scalar;

impl Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a boolean")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<String, E> {
        Ok(u8::from(truth).to_string())
    }
}

/// Options packed into one string: `local-lvm:vm-100-disk-0,discard=on,size=20G`. Parsing and printing lose nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyString(Vec<(Option<String>, String)>);

impl PropertyString {
    /// Takes the text apart. Every text is a property string.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        let part = |part: &str| match part.split_once('=') {
            Some((key, value)) => (Some(key.to_owned()), value.to_owned()),
            None => (None, part.to_owned()),
        };
        Self(text.split(',').map(part).collect())
    }

    /// Begins with the value whose key may be left out.
    #[must_use]
    pub fn of(value: impl Into<String>) -> Self {
        Self(vec![(None, value.into())])
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.as_deref() == Some(key)).map(|(_, value)| value.as_str())
    }

    /// The value of a key as boolean.
    #[must_use]
    pub fn truth(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(truth)
    }

    /// The value whose key was left out.
    #[must_use]
    pub fn bare(&self) -> Option<&str> {
        self.0.iter().find(|(key, _)| key.is_none()).map(|(_, value)| value.as_str())
    }

    /// Sets the value of a key, where it stood or at the end.
    pub fn set(&mut self, key: &str, value: impl fmt::Display) {
        let value = value.to_string();
        match self.0.iter_mut().find(|(own, _)| own.as_deref() == Some(key)) {
            Some((_, own)) => *own = value,
            None => self.0.push((Some(key.to_owned()), value)),
        }
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(own, _)| own.as_deref() != Some(key));
    }

    /// Keys and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.0.iter().map(|(key, value)| (key.as_deref(), value.as_str()))
    }
}

impl fmt::Display for PropertyString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match key {
                Some(key) => write!(f, "{comma}{key}={value}")?,
                None => write!(f, "{comma}{value}")?,
            }
        }
        Ok(())
    }
}

/// A drive of a VM: a volume and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive(pub PropertyString);

impl Drive {
    /// Reads the value of a slot such as `scsi0`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(PropertyString::parse(text))
    }

    /// The volume, or `none`.
    #[must_use]
    pub fn volume(&self) -> &str {
        self.0.bare().or_else(|| self.0.get("file")).or_else(|| self.0.get("volume")).unwrap_or_default()
    }

    /// The storage of the volume.
    #[must_use]
    pub fn storage(&self) -> Option<&str> {
        self.volume().split_once(':').map(|(storage, _)| storage)
    }

    /// The size the server recorded.
    #[must_use]
    pub fn size(&self) -> Option<Size> {
        self.0.get("size").and_then(|text| text.parse().ok())
    }

    /// True for CD-ROM drives, also those of Proxmox VE's own cloud-init.
    #[must_use]
    pub fn is_cdrom(&self) -> bool {
        self.0.get("media") == Some("cdrom")
    }
}

/// A network interface of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net(pub PropertyString);

impl Net {
    /// Reads the value of a slot such as `net0`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(PropertyString::parse(text))
    }

    /// The model of the card.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        let named = self.0.iter().find_map(|(key, _)| key.filter(|key| MODELS.contains(key)));
        named.or_else(|| self.0.get("model")).or_else(|| self.0.bare())
    }

    /// The hardware address.
    #[must_use]
    pub fn mac(&self) -> Option<&str> {
        let named = self.0.iter().find_map(|(key, value)| key.filter(|key| MODELS.contains(key)).map(|_| value));
        named.or_else(|| self.0.get("macaddr"))
    }
}

/// Models of network cards. Source: qemu-server's schema of `netN`, 9.1.
pub(crate) const MODELS: [&str; 14] = [
    "e1000",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82551",
    "i82557b",
    "i82559er",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "virtio",
    "vmxnet3",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn printing_a_property_string_gives_back_every_text(text in ".*") {
            prop_assert_eq!(PropertyString::parse(&text).to_string(), text);
        }

        #[test]
        fn setting_a_key_leaves_the_others_as_they_are(text in "[a-z0-9=,:.-]{0,60}", value in "[a-z0-9]{1,8}") {
            let before = PropertyString::parse(&text);
            let mut after = before.clone();
            after.set("Q", &value);
            prop_assert_eq!(after.get("Q"), Some(value.as_str()));
            after.remove("Q");
            prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn a_drive_tells_volume_size_and_kind() {
        let drive = Drive::parse("local-lvm:vm-100-disk-0,discard=on,future=7,size=1536M");
        assert_eq!(drive.volume(), "local-lvm:vm-100-disk-0");
        assert_eq!(drive.storage(), Some("local-lvm"));
        assert_eq!(drive.size().unwrap().to_string(), "1536M");
        assert!(!drive.is_cdrom());
        assert!(Drive::parse("none,media=cdrom").is_cdrom());
        assert_eq!(Drive::parse("file=local:1/x.raw,size=1G").volume(), "local:1/x.raw");
    }

    #[test]
    fn a_card_is_read_in_both_spellings() {
        let short = Net::parse("virtio=BC:24:11:00:03:20,bridge=vmbr0");
        assert_eq!((short.model(), short.mac()), (Some("virtio"), Some("BC:24:11:00:03:20")));
        let long = Net::parse("model=e1000,macaddr=BC:24:11:00:03:20");
        assert_eq!((long.model(), long.mac()), (Some("e1000"), Some("BC:24:11:00:03:20")));
        assert_eq!(Net::parse("virtio,bridge=vmbr0").model(), Some("virtio"));
    }

    #[derive(Deserialize)]
    struct Odd {
        #[serde(deserialize_with = "flag")]
        flag: bool,
        #[serde(deserialize_with = "int")]
        int: i64,
        #[serde(default, deserialize_with = "optional_text")]
        text: Option<String>,
    }

    #[test]
    fn scalars_are_read_in_every_spelling() {
        for json in [r#"{"flag":1,"int":"12","text":3}"#, r#"{"flag":"on","int":12,"text":"3"}"#] {
            let odd: Odd = serde_json::from_str(json).unwrap();
            assert_eq!((odd.flag, odd.int, odd.text.as_deref()), (true, 12, Some("3")));
        }
        let odd: Odd = serde_json::from_str(r#"{"flag":false,"int":12.9,"text":null}"#).unwrap();
        assert_eq!((odd.flag, odd.int, odd.text), (false, 12, None));
        assert!(serde_json::from_str::<Odd>(r#"{"flag":"maybe","int":1}"#).is_err());
    }

    #[test]
    fn words_are_split_at_all_separators() {
        assert_eq!(words("b;a, c\td"), ["b", "a", "c", "d"]);
    }
}
