//! Puts the agents into the provider: one per machine architecture for which a binary was built.
//!
//! `GROUNDWORK_AGENT_X86_64` and `GROUNDWORK_AGENT_AARCH64` hold paths. Without them the provider builds, and says so when it is
//! asked to install an agent.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a build script writes into cargo's own folder and can only fail"
)]

use std::fmt::Write as _;
use std::path::PathBuf;

fn main() {
    let mut agents = String::from("/// The agents inside this provider: machine (as `uname -m` says it), binary.\n");
    agents.push_str("const AGENTS: &[(&str, &[u8])] = &[\n");
    for (machine, variable) in [("x86_64", "GROUNDWORK_AGENT_X86_64"), ("aarch64", "GROUNDWORK_AGENT_AARCH64")] {
        println!("cargo:rerun-if-env-changed={variable}");
        let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from) else {
            continue;
        };
        let path = path.canonicalize().unwrap_or_else(|error| panic!("{variable}: {}: {error}", path.display()));
        println!("cargo:rerun-if-changed={}", path.display());
        writeln!(agents, "    ({machine:?}, include_bytes!({path:?})),").expect("a string takes text");
    }
    agents.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("agents.rs"), agents).expect("OUT_DIR is writable");
}
