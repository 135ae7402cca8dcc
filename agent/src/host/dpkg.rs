//! The package database of Debian and Ubuntu, read from its own file.

use super::{Host, HostError};
use std::collections::HashMap;

/// Packages that dpkg knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packages {
    known: HashMap<String, Package>,
    /// Packages that an interrupted run has left half done.
    pub broken: Vec<String>,
}

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its version.
    pub version: String,
    /// Nothing may change it.
    pub held: bool,
}

impl Packages {
    /// As the database stands.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(host: &dyn Host) -> Result<Self, HostError> {
        let mut packages = Self::parse(&host.text(STATUS)?.unwrap_or_default());
        if host.list(UPDATES)?.iter().any(|name| name.bytes().all(|b| b.is_ascii_digit())) {
            packages.broken.push("dpkg's journal".to_owned());
        }
        Ok(packages)
    }

    /// An installed package; `None` if it is not (wholly) installed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.known.get(name)
    }

    fn parse(text: &str) -> Self {
        let mut packages = Self::default();
        for paragraph in text.split("\n\n") {
            let (mut name, mut status, mut version) = ("", "", "");
            for line in paragraph.lines() {
                match line.split_once(": ") {
                    Some(("Package", value)) => name = value,
                    Some(("Status", value)) => status = value,
                    Some(("Version", value)) => version = value,
                    _ => continue,
                }
                if !version.is_empty() && !status.is_empty() {
                    break;
                }
            }
            packages.add(name, status, version);
        }
        packages
    }

    fn add(&mut self, name: &str, status: &str, version: &str) {
        let mut words = status.split(' ');
        let (want, _, state) = (words.next(), words.next(), words.next());
        match state {
            // Triggers of another package run at the end of any transaction: the package itself is usable.
            Some("installed" | "triggers-pending" | "triggers-awaited") => {
                let package = Package { version: version.to_owned(), held: want == Some("hold") };
                self.known.insert(name.to_owned(), package);
            }
            Some("half-installed" | "unpacked" | "half-configured") => self.broken.push(name.to_owned()),
            _ => (),
        }
    }
}

/// Whether an installed version is the one wanted, which may end in `*`.
#[must_use]
pub fn version_matches(installed: &str, wanted: &str) -> bool {
    wanted.strip_suffix('*').map_or(installed == wanted, |start| installed.starts_with(start))
}

/// One of the numbers between the dots of a version, the first of which may follow an epoch.
#[must_use]
pub fn number(version: &str, index: usize) -> Option<u32> {
    let plain = version.split_once(':').map_or(version, |(_, rest)| rest);
    plain.split('.').nth(index)?.parse().ok()
}

/// dpkg's database.
pub const STATUS: &str = "/var/lib/dpkg/status";
/// Its journal: not empty while dpkg works, or after it was interrupted.
const UPDATES: &str = "/var/lib/dpkg/updates";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_is_understood() {
        let text = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0-1\nDescription: x\n y: z\n\n\
                    Package: b\nStatus: hold ok installed\nVersion: 2:1~rc1\n\n\
                    Package: c\nStatus: deinstall ok config-files\nVersion: 3\n\n\
                    Package: d\nStatus: install ok half-configured\nVersion: 4\n";
        let packages = Packages::parse(text);
        assert_eq!(packages.get("a"), Some(&Package { version: "1.0-1".into(), held: false }));
        assert!(packages.get("b").unwrap().held);
        assert_eq!(packages.get("c"), None);
        assert_eq!(packages.get("d"), None);
        assert_eq!(packages.broken, ["d"]);
    }

    #[test]
    fn a_star_stands_for_the_rest() {
        assert!(version_matches("1.28.4-1.1", "1.28.4-*"));
        assert!(!version_matches("1.28.40-1.1", "1.28.4-*"));
        assert!(version_matches("1", "1"));
        assert!(!version_matches("1.0", "1"));
    }

    #[test]
    fn numbers_of_a_version_are_read() {
        assert_eq!((number("1:2.3.0-1", 0), number("1:2.3.0-1", 1)), (Some(2), Some(3)));
        assert_eq!((number("1.6.20~ds1-1", 0), number("1", 1)), (Some(1), None));
    }

    #[test]
    fn any_text_is_answered() {
        total::text(
            "dpkg",
            &["Package: a\nStatus: hold ok installed\nVersion: 1:2.3-1\n\nPackage: b\nStatus: install ok unpacked\n"],
            Packages::parse,
        );
        total::text("dpkg-number", &["1:2.3.0-1", "1.6.20~ds1-1"], |text| number(text, 1));
    }
}
