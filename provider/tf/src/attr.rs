//! What an attribute of a model holds: a value, nothing, or something known only after the apply.
//!
//! `Unknown` is met only in `validate` and `plan`. Where a resource acts, the framework has proved every input known.

use std::fmt;
use std::panic::Location;

use crate::diagnostic::Diagnostic;

/// The value of one attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attr<T> {
    /// A value.
    Known(T),
    /// Not set.
    #[default]
    Null,
    /// Known only after the apply.
    Unknown,
}

impl<T> Attr<T> {
    /// The value, if there is one.
    #[must_use]
    pub const fn get(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Null | Self::Unknown => None,
        }
    }

    /// The value in place, if there is one.
    #[must_use]
    pub const fn get_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Null | Self::Unknown => None,
        }
    }

    /// The value of an attribute that is certainly set.
    ///
    /// # Errors
    /// Only by a bug in the provider, and the diagnostic says so and names the caller.
    #[track_caller]
    pub fn need(&self) -> Result<&T, Diagnostic> {
        self.get().ok_or_else(|| {
            let what = if self.is_unknown() { "unknown" } else { "null" };
            Diagnostic::bug(&format!("a value that must be there is {what} at {}", Location::caller()))
        })
    }

    /// Gives the attribute a value.
    pub fn set(&mut self, value: impl Into<T>) {
        *self = Self::Known(value.into());
    }

    /// Takes the value as it comes: `None` is null.
    pub fn put(&mut self, value: Option<impl Into<T>>) {
        *self = value.map_or(Self::Null, |value| Self::Known(value.into()));
    }

    /// True if the value is known only after the apply.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// True if the attribute is certainly not set.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// True if there is a value.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

impl<T: Clone> Attr<T> {
    /// A copy of the value, if there is one.
    #[must_use]
    pub fn cloned(&self) -> Option<T> {
        self.get().cloned()
    }

    /// A copy of the value, or this one instead.
    #[must_use]
    pub fn or(&self, instead: impl Into<T>) -> T {
        self.cloned().unwrap_or_else(|| instead.into())
    }
}

impl Attr<String> {
    /// The text, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.get().map(String::as_str)
    }
}

impl Attr<bool> {
    /// True if the attribute is set and true.
    #[must_use]
    pub const fn is_true(&self) -> bool {
        matches!(self, Self::Known(true))
    }
}

impl<T> From<T> for Attr<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

impl From<&str> for Attr<String> {
    fn from(text: &str) -> Self {
        Self::Known(text.to_owned())
    }
}

/// Something that must not be seen. Its `Debug` prints nothing of it, and an attribute that holds it is sensitive by itself.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The hidden value, for the one place that sends it.
    #[must_use]
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<&str> for Secret<String> {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_is_a_bug_that_names_the_caller() {
        let diagnostic = Attr::<String>::Null.need().unwrap_err();
        assert!(diagnostic.detail().contains("null at provider/tf/src/attr.rs:"), "{}", diagnostic.detail());
    }

    #[test]
    fn a_secret_prints_nothing() {
        assert_eq!(format!("{:?}", Attr::Known(Secret::new("hunter2"))), "Known(Secret)");
    }

    #[test]
    fn an_option_becomes_known_or_null() {
        let mut attr = Attr::<String>::Unknown;
        attr.put(Some("x"));
        assert_eq!(attr.text(), Some("x"));
        attr.put(None::<String>);
        assert!(attr.is_null());
    }
}
