//! Where in a specification a value stands: `files["/etc/motd"].mode`.

use std::fmt;

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A field of a message.
    Field(&'static str),
    /// An element of a map.
    Key(String),
    /// An element of a list.
    Index(usize),
}

/// The way from a specification to one of its values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path(Vec<Part>);

impl Path {
    /// This path, and then a field.
    #[must_use]
    pub fn field(&self, name: &'static str) -> Self {
        self.and(Part::Field(name))
    }

    /// This path, and then the element of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.and(Part::Key(key.to_owned()))
    }

    /// This path, and then the element of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.and(Part::Index(index))
    }

    /// Its steps, from the specification on.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    fn and(&self, part: Part) -> Self {
        let mut parts = self.0.clone();
        parts.push(part);
        Self(parts)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            match part {
                Part::Field(name) if at == 0 => write!(f, "{name}")?,
                Part::Field(name) => write!(f, ".{name}")?,
                Part::Key(key) => write!(f, "[{key:?}]")?,
                Part::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
