//! Parameters of a call: ordered, each sent percent-encoded.
//!
//! The server splits pairs at `&` and `;` and cuts values at a second raw `=`, so everything but letters, digits and `-._~` is
//! encoded. Booleans are exactly `0` or `1` at top level.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Names and values, in the order they were added.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// No parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These, and one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.set(name, value);
        self
    }

    /// These, and one more if there is a value.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// These, and a boolean.
    #[must_use]
    pub fn flag(self, name: &str, value: bool) -> Self {
        self.with(name, u8::from(value))
    }

    /// Sets a parameter, in place of one of that name.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        let value = value.to_string();
        match self.0.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: &Self) {
        for (name, value) in &others.0 {
            self.set(name, value);
        }
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// True if there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn encoded(&self) -> String {
        let pairs: Vec<String> =
            self.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        pairs.join("&")
    }
}

/// Shows names only: a value may be a secret.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Encodes everything but what RFC 3986 calls unreserved.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_would_cut_is_encoded() {
        let params = Params::new().with("boot", "order=scsi0;net0").with("size", "+10G").flag("start", true);
        assert_eq!(params.encoded(), "boot=order%3Dscsi0%3Bnet0&size=%2B10G&start=1");
    }

    #[test]
    fn a_parameter_is_sent_once() {
        let mut params = Params::new().with("name", "a");
        params.extend(&Params::new().with("name", "b").with("cores", 2));
        assert_eq!(params.encoded(), "name=b&cores=2");
        assert_eq!(format!("{params:?}"), r#"["name", "cores"]"#);
    }
}
