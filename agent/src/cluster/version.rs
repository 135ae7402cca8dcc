//! Kubernetes versions: `1.28.4`, with or without a `v`.

use std::fmt;
use std::str::FromStr;

/// Major, minor, patch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// Whether kubeadm of this version reads `v1beta4`.
    pub(super) const fn has_v1beta4(self) -> bool {
        self.minor >= 31
    }

    /// Whether kubeadm of this version gives the administrator no rights but by the API server, and `super-admin.conf` all.
    pub(super) const fn has_super_admin(self) -> bool {
        self.minor >= 29
    }

    /// Whether kubeadm of this version knows `config validate`.
    pub(super) const fn has_config_validate(self) -> bool {
        self.minor >= 26
    }

    /// How many minor versions this one is above another; below zero when it is beneath.
    #[must_use]
    pub fn minors_above(self, other: Self) -> i64 {
        // Nobody knows what comes after 1: it is far away.
        (i64::from(self.major) - i64::from(other.major)) * 1_000 + i64::from(self.minor) - i64::from(other.minor)
    }

    /// As package repositories are named: `1.28`.
    #[must_use]
    pub fn minor(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// As packages have it, whatever their revision: `1.28.4-*`.
    #[must_use]
    pub fn of_packages(self) -> String {
        format!("{}.{}.{}-*", self.major, self.minor, self.patch)
    }

    /// Whether both are of one minor version.
    #[must_use]
    pub const fn same_minor(self, other: Self) -> bool {
        self.major == other.major && self.minor == other.minor
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no Kubernetes version such as 1.28.4")]
pub struct BadVersion(String);

impl FromStr for Version {
    type Err = BadVersion;

    /// A suffix after the patch (`-00`, `+build`) is left out: packages carry one.
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.chars().take(40).collect());
        let mut numbers = text.trim().trim_start_matches('v').splitn(3, '.');
        let mut number = || numbers.next().ok_or_else(bad);
        let (major, minor, rest) = (number()?, number()?, number()?);
        let patch = rest.split(['-', '+']).next().unwrap_or_default();
        let read = |digits: &str| digits.parse().map_err(|_| bad());
        Ok(Self { major: read(major)?, minor: read(minor)?, patch: read(patch)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_all_their_spellings() {
        for text in ["1.28.4", "v1.28.4", "v1.28.4-1.1", "1.28.4+x\n"] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), "v1.28.4", "{text}");
        }
        for text in ["", "1.28", "1.28.x", "stable", "1.28.4294967296"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn any_text_is_answered() {
        total::text("kubernetes-version", &["v1.28.4-rc.0+x"], |text| text.parse::<Version>().ok());
    }
}
