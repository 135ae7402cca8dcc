//! The provider's process. Terraform starts it without arguments; people start it with a command.

use groundwork_provider::{command, serve};
use std::process::ExitCode;
use tf::Mode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => serve(Mode::Hosted),
        ["-debug" | "--debug"] => serve(Mode::Debug),
        ["pki", "init", dir] => command::pki_init(dir),
        ["pki", "issue", rest @ ..] => command::pki_issue(rest),
        ["pki", "intermediate", rest @ ..] => command::pki_intermediate(rest),
        ["pki", "rotate", rest @ ..] => command::pki_rotate(rest),
        ["pki", "show", file] => command::pki_show(file),
        ["credential", agents @ ..] if !agents.is_empty() => command::credential(agents),
        // Here and not in the library: another commit builds no more than this file anew.
        ["version" | "-version" | "--version"] => command::version(option_env!("GROUNDWORK_COMMIT")),
        _ => command::usage(),
    }
}
