//! Log lines on stderr, for journald: it adds the time itself.

use tracing::level_filters::LevelFilter;

/// Starts logging. `GROUNDWORK_LOG` names the level (`debug`, `trace`); `info` without.
pub fn start() {
    let level = std::env::var("GROUNDWORK_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .init();
}
