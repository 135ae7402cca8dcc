//! Where in an object a value stands: `disks["scsi0"].size_gib`.
//!
//! The same path leads through a configuration, a plan and a state. Elements of a set have no path of their own.

use std::fmt;

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathStep {
    /// An attribute of an object.
    Name(String),
    /// An element of a map.
    Key(String),
    /// An element of a list.
    Index(usize),
}

/// A way from the root of an object to one of its values; the empty path is the object itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<PathStep>);

impl Path {
    /// The object itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// This path, and then an attribute.
    #[must_use]
    pub fn name(&self, name: &str) -> Self {
        self.and(PathStep::Name(name.to_owned()))
    }

    /// This path, and then the element of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.and(PathStep::Key(key.to_owned()))
    }

    /// This path, and then the element of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.and(PathStep::Index(index))
    }

    /// The steps from the root.
    #[must_use]
    pub fn steps(&self) -> &[PathStep] {
        &self.0
    }

    fn and(&self, step: PathStep) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

/// A top-level attribute.
impl From<&str> for Path {
    fn from(name: &str) -> Self {
        Self::root().name(name)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Name(name) if at == 0 => write!(f, "{name}")?,
                PathStep::Name(name) => write!(f, ".{name}")?,
                PathStep::Key(key) => write!(f, "[{key:?}]")?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_terraform_writes_it() {
        assert_eq!(Path::from("disks").key("scsi0").name("size_gib").to_string(), r#"disks["scsi0"].size_gib"#);
        assert_eq!(Path::from("dns").index(1).to_string(), "dns[1]");
    }
}
