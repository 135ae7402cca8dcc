//! What people and `kubectl` start the provider's binary for.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "these commands speak to a terminal or to kubectl")]

use crate::agents::{self, Authority, Endpoint, Error};
use crate::kubeconfig;
use std::path::Path;
use std::process::ExitCode;
use tf::chain;

/// `pki init DIR`: makes the agents' CA.
#[must_use]
pub fn pki_init(dir: &str) -> ExitCode {
    match agents::init(Path::new(dir)) {
        Ok(()) => {
            println!("The agents' CA is in {dir}: ca.pem and ca-key.pem. Keep the key as you keep a root password.");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// `credential ADDRESS FINGERPRINT`: prints the administrator's credential for `kubectl`. The CA is taken from the environment.
#[must_use]
pub fn credential(address: &str, fingerprint: &str) -> ExitCode {
    let endpoint = Endpoint { address: address.to_owned(), fingerprint: fingerprint.to_owned() };
    let asked = || -> Result<String, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::BadAuthority(error.to_string()))?;
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let authority = Authority::from_environment(set)?.ok_or(Error::NoAuthority)?;
        runtime.block_on(kubeconfig::credential(authority, &endpoint)).map(|credential| credential.to_string())
    };
    match asked() {
        Ok(credential) => {
            println!("{credential}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&chain(&error)),
    }
}

/// `version`: which, of which commit, for which platform.
#[must_use]
pub fn version(commit: Option<&str>) -> ExitCode {
    let commit = commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown");
    println!("terraform-provider-groundwork {} (commit {commit}, {})", env!("CARGO_PKG_VERSION"), platform());
    ExitCode::SUCCESS
}

/// As Terraform's registry calls it: `linux_amd64`.
fn platform() -> String {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{system}_{machine}")
}

/// Anything else.
#[must_use]
pub fn usage() -> ExitCode {
    eprintln!(
        "usage: terraform-provider-groundwork pki init DIR             make the agents' CA\n       \
         terraform-provider-groundwork credential ADDRESS FINGERPRINT   credential for kubectl (GROUNDWORK_AGENT_*)\n       \
         terraform-provider-groundwork -debug                           serve, and print how to attach Terraform\n       \
         terraform-provider-groundwork version\n\n\
         Terraform starts it without arguments."
    );
    ExitCode::FAILURE
}

fn fail(why: &str) -> ExitCode {
    eprintln!("terraform-provider-groundwork: {why}");
    ExitCode::FAILURE
}
