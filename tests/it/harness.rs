//! What the integration tests stand on: a lab to apply against, a Terraform to apply with.
//!
//! Tests that need a missing thing (root, `terraform`, the lab's programs) skip with a line that says so;
//! `scripts/test.sh` sets `GROUNDWORK_REQUIRE_LAB`, and then a missing thing is a failure.

pub(crate) mod control;
pub(crate) mod cut;
pub(crate) mod gitlab;
pub(crate) mod lab;
pub(crate) mod run;
pub(crate) mod scene;
pub(crate) mod terraform;

pub(crate) use lab::{Backend, Lab};
pub(crate) use terraform::Terraform;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

/// The built provider: `GROUNDWORK_PROVIDER`, or what `cargo build` leaves beside the test binary.
pub(crate) fn provider_binary() -> PathBuf {
    std::env::var_os("GROUNDWORK_PROVIDER").map_or_else(
        || {
            let test = std::env::current_exe().expect("path of the test binary");
            let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/it");
            profile.join("terraform-provider-groundwork")
        },
        PathBuf::from,
    )
}

/// Whether a missing prerequisite fails the test (`scripts/test.sh`) or skips it (a laptop).
fn required() -> bool {
    std::env::var_os("GROUNDWORK_REQUIRE_LAB").is_some()
}

/// `true` when everything an apply against the lab needs is here; says what is missing otherwise.
#[track_caller]
pub(crate) fn ready() -> bool {
    let missing = [
        (!nix::unistd::geteuid().is_root(), "root (network namespaces and machines)"),
        (!run::on_path("terraform"), "terraform on PATH"),
        (!provider_binary().exists(), "the provider binary: cargo build -p terraform-provider-groundwork"),
    ];
    let missing: Vec<_> = missing.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
    assert!(missing.is_empty() || !required(), "GROUNDWORK_REQUIRE_LAB is set, but this is missing: {missing:?}");
    if !missing.is_empty() {
        eprintln!("skipped: this test needs {missing:?}");
    }
    missing.is_empty()
}

/// The same for a test that is for the night: `GROUNDWORK_LONG=1` asks for those, as `scripts/test.sh --long` does.
#[track_caller]
pub(crate) fn long_ready() -> bool {
    if !asked_for_the_night() {
        eprintln!("skipped: GROUNDWORK_LONG=1 runs it too");
    }
    asked_for_the_night() && ready()
}

/// Whether the long half of a test is asked for.
pub(crate) fn asked_for_the_night() -> bool {
    std::env::var_os("GROUNDWORK_LONG").is_some()
}

/// An agent of an earlier version, as `scripts/test.sh` builds it; says that it is missing otherwise.
#[track_caller]
pub(crate) fn yesterdays_agent() -> Option<PathBuf> {
    prepared("GROUNDWORK_AGENT_YESTERDAY")
}

/// A program that `scripts/test.sh` builds or fetches, by the variable that names it; says that it is missing otherwise.
#[track_caller]
pub(crate) fn prepared(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    assert!(path.is_some() || !required(), "GROUNDWORK_REQUIRE_LAB is set, but {variable} is not");
    if path.is_none() {
        eprintln!("skipped: this test needs {variable}");
    }
    path
}

/// Looks again until it is so; five minutes at most.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(300);
    while !is_so() {
        assert!(Instant::now() < patience, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
