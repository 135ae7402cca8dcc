//! `…/qemu/{vmid}/pending`: what a VM has, and what waits for its next power cycle.
//!
//! Read instead of `config`, which shows waiting changes as if they were in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// One option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting {
    /// The value in force.
    pub current: Option<String>,
    /// The value that waits.
    pub pending: Option<String>,
    /// True if its removal waits.
    pub removal: bool,
}

/// Every option of a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    options: BTreeMap<String, Setting>,
    digest: Option<String>,
}

impl Settings {
    /// The value in force.
    #[must_use]
    pub fn current(&self, key: &str) -> Option<&str> {
        self.options.get(key)?.current.as_deref()
    }

    /// The value after the next power cycle: what was last written.
    #[must_use]
    pub fn written(&self, key: &str) -> Option<&str> {
        let setting = self.options.get(key)?;
        if setting.removal {
            return None;
        }
        setting.pending.as_deref().or(setting.current.as_deref())
    }

    /// The value in force of an option whose removal waits: a device that is still there.
    #[must_use]
    pub fn leaving(&self, key: &str) -> Option<&str> {
        self.options.get(key).filter(|setting| setting.removal)?.current.as_deref()
    }

    /// The options that wait for a power cycle.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        let waits = |setting: &Setting| setting.removal || setting.pending.is_some();
        self.options.iter().filter(move |(_, setting)| waits(setting)).map(|(key, _)| key.as_str())
    }

    /// The names of all options that have a value or will have one.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.options.keys().map(String::as_str).filter(|key| self.written(key).is_some())
    }

    /// Names the state of the configuration, for a write that must not overwrite another.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

#[derive(Deserialize)]
struct Row {
    key: String,
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    value: Option<String>,
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    pending: Option<String>,
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    delete: Option<String>,
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut settings = Self::default();
        for row in Vec::<Row>::deserialize(from)? {
            if row.key == "digest" {
                settings.digest = row.value;
                continue;
            }
            // 1 is a removal, 2 a removal that also destroys the volume.
            let removal = row.delete.is_some_and(|delete| delete != "0");
            settings.options.insert(row.key, Setting { current: row.value, pending: row.pending, removal });
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_kept_apart_from_what_is_in_force() {
        let json = r#"[{"key":"cores","value":2,"pending":4},{"key":"net1","value":"virtio","delete":1},
            {"key":"memory","value":"2048"},{"key":"digest","value":"abc"},{"key":"vga","pending":"std"}]"#;
        let settings: Settings = serde_json::from_str(json).unwrap();
        assert_eq!((settings.current("cores"), settings.written("cores")), (Some("2"), Some("4")));
        assert_eq!((settings.current("net1"), settings.written("net1")), (Some("virtio"), None));
        assert_eq!((settings.leaving("net1"), settings.leaving("cores")), (Some("virtio"), None));
        assert_eq!((settings.current("vga"), settings.written("vga")), (None, Some("std")));
        assert_eq!(settings.waiting().collect::<Vec<_>>(), ["cores", "net1", "vga"]);
        assert_eq!(settings.keys().collect::<Vec<_>>(), ["cores", "memory", "vga"]);
        assert_eq!(settings.digest(), Some("abc"));
    }
}
