//! Running programs and looking at what they said.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// The one place of the tests that makes a `Command`.
#[expect(clippy::disallowed_methods, reason = "tests block on purpose; the ban is for the product")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Whether `program` is found on `PATH`.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What a finished program left: exit code and both streams, colour codes cut.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// Exit code; -1 when a signal ended it.
    pub(crate) code: i32,
    /// stdout, then stderr.
    pub(crate) text: String,
}

impl Said {
    fn new(output: &Output) -> Self {
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        Self { code: output.status.code().unwrap_or(-1), text: String::from_utf8_lossy(&text).into_owned() }
    }

    /// Terraform wraps its diagnostics at the terminal's width: the text on one line, box drawing cut.
    pub(crate) fn flat(&self) -> String {
        let words = self.text.split(|c: char| c.is_whitespace() || matches!(c, '│' | '╷' | '╵'));
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Panics with the whole text unless the program ended with `code`.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "exit code\n{}", self.text);
        self
    }

    /// Panics unless every one of `parts` occurs in the (flattened) text.
    #[track_caller]
    pub(crate) fn says(&self, parts: &[&str]) -> &Self {
        let flat = self.flat();
        for part in parts {
            assert!(flat.contains(part), "expected {part:?} in:\n{}", self.text);
        }
        self
    }
}

/// Runs `command` to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Said {
    Said::new(&command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
}
