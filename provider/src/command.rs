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
        runtime.block_on(kubeconfig::credential(authority()?, &endpoint)).map(|credential| credential.to_string())
    };
    match asked() {
        Ok(credential) => {
            println!("{credential}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&chain(&error)),
    }
}

/// `version`.
#[must_use]
pub fn version() -> ExitCode {
    println!("terraform-provider-groundwork {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

/// Anything else.
#[must_use]
pub fn usage() -> ExitCode {
    eprintln!(
        "usage: terraform-provider-groundwork pki init DIR             make the agents' CA\n       \
         terraform-provider-groundwork credential ADDRESS FINGERPRINT   credential for kubectl (GROUNDWORK_AGENT_PKI_DIR)\n       \
         terraform-provider-groundwork -debug                           serve, and print how to attach Terraform\n       \
         terraform-provider-groundwork version\n\n\
         Terraform starts it without arguments."
    );
    ExitCode::FAILURE
}

fn authority() -> Result<Authority, Error> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(dir) = set("GROUNDWORK_AGENT_PKI_DIR") {
        return Authority::from_dir(Path::new(&dir));
    }
    match (set("GROUNDWORK_AGENT_CA_CERT_PEM"), set("GROUNDWORK_AGENT_CA_KEY_PEM")) {
        (Some(certificate), Some(key)) => Authority::from_pem(&certificate, &key),
        _ => Err(Error::NoAuthority),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("terraform-provider-groundwork: {why}");
    ExitCode::FAILURE
}
