//! Puts the agents into the provider, one per machine architecture for which a binary was built, and says which commit this is.
//!
//! `GROUNDWORK_AGENT_X86_64` and `GROUNDWORK_AGENT_AARCH64` hold paths. Without them the provider builds, and says so when it is
//! asked to install an agent. They are compressed here, and unpacked when a seed or an update needs one.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a build script writes into cargo's own folder and can only fail"
)]

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Not a constant: that stands in the program once for each place that reads it.
    let mut agents = String::from(
        "/// What this provider carries; nothing after a plain `cargo build`.\npub(super) static PROGRAMS: &[Program] = &[\n",
    );
    for (machine, variable) in [("x86_64", "GROUNDWORK_AGENT_X86_64"), ("aarch64", "GROUNDWORK_AGENT_AARCH64")] {
        println!("cargo:rerun-if-env-changed={variable}");
        let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from) else {
            continue;
        };
        let path = path.canonicalize().unwrap_or_else(|error| panic!("{variable}: {}: {error}", path.display()));
        println!("cargo:rerun-if-changed={}", path.display());
        let name = format!("agent-{machine}.deflate");
        std::fs::write(out.join(&name), packed(&path)).expect("OUT_DIR is writable");
        writeln!(
            agents,
            "    Program {{ machine: {machine:?}, packed: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\")) }},"
        )
        .expect("a string takes text");
    }
    agents.push_str("];\n");
    std::fs::write(out.join("agents.rs"), agents).expect("OUT_DIR is writable");
}

fn packed(path: &Path) -> Vec<u8> {
    let agent = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&agent).and_then(|()| packed.finish()).expect("memory takes bytes")
}
