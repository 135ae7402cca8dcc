//! Problems for the user, in the house form: a title, and what happened, what holds now, what to do next.
//!
//! A path is given exactly when editing that attribute is the cure. What others said stands in a diagnostic as [`plain`] text: here,
//! once, for all of them.

use std::error::Error;
use std::fmt;

use crate::path::Path;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Stops the run.
    Error,
    /// Shown, and the run goes on.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    summary: String,
    paragraphs: Vec<String>,
    path: Option<Path>,
}

impl Diagnostic {
    /// An error. The summary reads `Cannot <verb> <kind> <identity>`, without a full stop.
    pub fn error(summary: impl Into<String>) -> Self {
        let summary = summary.into();
        let summary = plain::short(&plain::line(&summary), SUMMARY).into_owned();
        Self { severity: Severity::Error, summary, paragraphs: Vec::new(), path: None }
    }

    /// A warning: only where the user can act on it.
    pub fn warning(summary: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(summary) }
    }

    /// The error for a broken promise of our own code.
    #[must_use]
    pub fn bug(what: &str) -> Self {
        Self::error("This is a bug in the provider")
            .happened(format!("{}{}.", what.get(..1).unwrap_or("").to_uppercase(), what.get(1..).unwrap_or(what)))
            .next("Report it with the log of `TF_LOG_PROVIDER=trace`; what the log shows was done before may exist.")
    }

    /// First paragraph: the operation, and the other side's own words.
    #[must_use]
    pub fn happened(self, text: impl Into<String>) -> Self {
        self.paragraph(text)
    }

    /// Second paragraph: what exists now, and what the state records.
    #[must_use]
    pub fn holds(self, text: impl Into<String>) -> Self {
        self.paragraph(text)
    }

    /// Third paragraph: one imperative that names the attribute, privilege or command.
    #[must_use]
    pub fn next(self, text: impl Into<String>) -> Self {
        self.paragraph(text)
    }

    /// The attribute whose editing is the cure.
    #[must_use]
    pub fn at(mut self, path: impl Into<Path>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Error or warning.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// The title.
    #[must_use]
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The paragraphs below the title.
    #[must_use]
    pub fn detail(&self) -> String {
        self.paragraphs.join("\n\n")
    }

    /// The attribute whose editing is the cure.
    #[must_use]
    pub const fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    fn paragraph(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.paragraphs.push(plain::short(&plain::text(&text), PARAGRAPH).into_owned());
        }
        self
    }
}

/// As Terraform shows it: for test failures and logs.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "Error",
            Severity::Warning => "Warning",
        };
        write!(f, "{severity}: {}", self.summary)?;
        if let Some(path) = &self.path {
            write!(f, " (at {path})")?;
        }
        for paragraph in &self.paragraphs {
            write!(f, "\n\n{paragraph}")?;
        }
        Ok(())
    }
}

/// Any number of problems: all independent ones are reported in one go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Those of another list too.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Diagnostic>) {
        self.0.extend(others);
    }

    /// True if any is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// True if there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// `value` if none is an error.
    ///
    /// # Errors
    /// All of them otherwise.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.has_errors() { Err(self) } else { Ok(value) }
    }

    /// The warnings if none is an error.
    pub(crate) fn or_errors(self) -> Result<Self, Self> {
        if self.has_errors() { Err(self) } else { Ok(self) }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(diagnostics: I) -> Self {
        Self(diagnostics.into_iter().collect())
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{diagnostic}")?;
        }
        Ok(())
    }
}

/// An error and its causes in one line: `cannot read /etc/x: permission denied`.
///
/// A cause whose text already stands in the line is left out.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// Characters of a title: names of ours, and those of whoever named them.
const SUMMARY: usize = 300;
/// Characters of a paragraph: the last lines of a task or a program, and room.
const PARAGRAPH: usize = 16_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_moves_no_cursor_and_has_an_end() {
        let said = format!("\u{1b}[2J\u{202e}{}", "x".repeat(1 << 20));
        let diagnostic = Diagnostic::error(format!("Cannot read\r{said}")).happened(&*said).holds(&*said).next(&*said);
        let shown = diagnostic.to_string();
        assert!(shown.starts_with(r"Error: Cannot read\r\u{1b}[2J\u{202e}xxx"), "{:.60}", shown);
        assert!(shown.chars().all(|c| plain::is_plain(c) || c == '\n') && shown.len() < 50_000, "{}", shown.len());
        assert!(shown.contains(" more characters)\n\n"));
    }

    #[test]
    fn a_diagnostic_reads_as_title_and_paragraphs() {
        let diagnostic = Diagnostic::error("Cannot create VM 120 on node pve1")
            .happened("POST /nodes/pve1/qemu was refused (403).")
            .holds("Nothing was created and nothing was recorded in the state.")
            .next("Grant VM.Allocate on /vms to the API token.")
            .at("node");
        expect_test::expect![[r"
            Error: Cannot create VM 120 on node pve1 (at node)

            POST /nodes/pve1/qemu was refused (403).

            Nothing was created and nothing was recorded in the state.

            Grant VM.Allocate on /vms to the API token."]]
        .assert_eq(&diagnostic.to_string());
    }

    #[test]
    fn a_chain_of_errors_is_one_line() {
        let inner = std::io::Error::other("connection refused");
        let outer = std::io::Error::other(Wrapper(inner));
        assert_eq!(chain(&outer), "cannot reach pve1: connection refused");
    }

    #[derive(Debug)]
    struct Wrapper(std::io::Error);

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot reach pve1")
        }
    }

    impl Error for Wrapper {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
}
