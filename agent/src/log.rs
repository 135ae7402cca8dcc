//! Log lines on stderr, for journald: it adds the time itself.

use std::io::{self, Write};
use tracing::level_filters::LevelFilter;

/// Starts logging. `GROUNDWORK_LOG` names the level (`debug`, `trace`); `info` without.
pub fn start() {
    let level = std::env::var("GROUNDWORK_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt()
        .with_writer(|| Journal(io::stderr()))
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .init();
}

/// One event, one line: whatever programs print, nobody's terminal obeys it and nothing of it passes for a line of ours.
struct Journal<W>(W);

impl<W: Write> Write for Journal<W> {
    /// The subscriber writes every event whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = plain::line(text.trim_end_matches('\n'));
        writeln!(self.0, "{}", plain::short(&line, LONGEST))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Characters of a line; the journal itself begins a new one after 48 KiB.
const LONGEST: usize = 8_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_plain_line() {
        let mut out = Vec::new();
        Journal(&mut out)
            .write_all("INFO program said line=\u{1b}[31mred\nERROR forged \u{202e}\n".as_bytes())
            .unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line, "INFO program said line=\\u{1b}[31mred\\nERROR forged \\u{202e}\n");
    }
}
