//! The agent's program: `serve` answers providers; `plan` and `apply` do by hand what a provider asks for; `seal` makes the
//! machine a template. `guard` and `revert` are for its unit, while a newer agent is on trial, `etcd-snapshot` for a timer of systemd.

use groundwork_agent::{about, config, life, log};
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    log::start();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["serve"] => life::serve(Path::new(config::FILE)),
        ["serve", file] => life::serve(Path::new(file)),
        ["plan", file] => life::plan(Path::new(file), say),
        ["apply", file] => life::apply(Path::new(file), say),
        ["seal"] => life::seal(say),
        ["etcd-snapshot", directory, keep] => life::etcd_snapshot(directory, keep, say),
        // Here and not in the library: another commit builds no more than this file anew.
        ["version"] => say(&about::build(option_env!("GROUNDWORK_COMMIT"))),
        ["guard"] => life::guard(),
        ["revert"] => life::revert(),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %groundwork_agent::chain::chain(&*error), "stopped");
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) -> Result<(), Box<dyn Error>> {
    writeln!(std::io::stdout().lock(), "{}", plain::text(line))?;
    Ok(())
}

const USAGE: &str = "usage: groundwork-agent serve [CONFIG] | plan SPEC.json | apply SPEC.json | seal | version";
