//! What Terraform says in environment variables, and the one line it reads as the answer.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::socket::Address;
use crate::resource::Provider;

/// Terraform's mark: no secret, only a guard against being started by hand.
const COOKIE: (&str, &str) =
    ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2");

/// Version of go-plugin's own protocol, and the only version of Terraform's that is served. Terraform says which ones it
/// knows; if 6 is not among them it reports that itself.
const VERSIONS: (u32, u32) = (1, 6);

/// What matters of the environment.
#[derive(Debug, Default)]
pub(super) struct Environment {
    cookie: Option<String>,
    /// The only client to be let in (PEM); without it connections are plain.
    pub(super) client_certificate: Option<String>,
    /// Where a Unix socket should be.
    #[cfg_attr(not(unix), expect(dead_code, reason = "sockets of this kind are of Unix"))]
    pub(super) socket_dir: Option<PathBuf>,
    /// The group, by name or number, that may use the socket.
    #[cfg_attr(not(unix), expect(dead_code, reason = "sockets of this kind are of Unix"))]
    pub(super) socket_group: Option<String>,
    /// Between which TCP ports to listen, where a Unix socket is not to be had; any, without.
    pub(super) ports: (u16, u16),
    asks_for_multiplexing: bool,
}

impl Environment {
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let filled = |name| variable(name).filter(|value| !value.is_empty());
        let port = |name| filled(name).and_then(|port| port.parse().ok()).unwrap_or(0);
        Self {
            cookie: variable(COOKIE.0),
            client_certificate: filled("PLUGIN_CLIENT_CERT"),
            socket_dir: filled("PLUGIN_UNIX_SOCKET_DIR").map(PathBuf::from),
            socket_group: filled("PLUGIN_UNIX_SOCKET_GROUP"),
            ports: (port("PLUGIN_MIN_PORT"), port("PLUGIN_MAX_PORT")),
            asks_for_multiplexing: filled("PLUGIN_MULTIPLEX_GRPC").is_some(),
        }
    }

    pub(super) fn is_from_terraform(&self) -> bool {
        self.cookie.as_deref() == Some(COOKIE.1)
    }
}

/// The handshake line: versions, address, transport, and the certificate in base64 without padding.
pub(super) fn line(environment: &Environment, address: &Address, certificate: Option<&CertificateDer<'_>>) -> String {
    let certificate = certificate.map(|der| STANDARD_NO_PAD.encode(der)).unwrap_or_default();
    let multiplexing = if environment.asks_for_multiplexing { "|false" } else { "" };
    let (core, app) = VERSIONS;
    format!("{core}|{app}|{}|{}|grpc|{certificate}{multiplexing}", address.network, address.text)
}

/// How a developer makes Terraform use this process. `Test` keeps Terraform from ending it.
pub(super) fn reattach<P: Provider>(address: &Address) -> String {
    let this = json!({
        "Protocol": "grpc",
        "ProtocolVersion": VERSIONS.1,
        "Pid": std::process::id(),
        "Test": true,
        "Addr": { "Network": address.network, "String": address.text },
    });
    let providers = json!({ P::ADDRESS: this, in_opentofu(P::ADDRESS): this });
    format!("TF_REATTACH_PROVIDERS='{providers}'")
}

/// The same provider's address in OpenTofu, whose registry is another one.
fn in_opentofu(address: &str) -> String {
    address.replacen("registry.terraform.io/", "registry.opentofu.org/", 1)
}

/// For those who start the executable themselves.
pub(super) fn for_humans<P: Provider>() -> String {
    let name = P::NAME;
    let address = P::ADDRESS;
    // Without the registry's host it is right for OpenTofu too.
    let source = address.split_once('/').map_or(address, |(_, source)| source);
    format!(
        "This is the provider {name} ({address}). Terraform starts it by itself:\n\n    \
         terraform {{ required_providers {{ {name} = {{ source = \"{source}\" }} }} }}\n\n\
         To debug it, start it with -debug and give Terraform the line it prints."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address { network: "unix", text: "/tmp/p".to_owned() }
    }

    #[test]
    fn the_line_has_a_certificate_without_padding() {
        let certificate = CertificateDer::from(vec![0xfb, 0xff, 1, 2]);
        assert_eq!(line(&Environment::default(), &address(), Some(&certificate)), "1|6|unix|/tmp/p|grpc|+/8BAg");
        assert_eq!(line(&Environment::default(), &address(), None), "1|6|unix|/tmp/p|grpc|");
    }

    #[test]
    fn multiplexing_is_declined_when_asked_for() {
        let environment = Environment::read(|name| (name == "PLUGIN_MULTIPLEX_GRPC").then(|| "true".to_owned()));
        assert_eq!(line(&environment, &address(), None), "1|6|unix|/tmp/p|grpc||false");
    }

    #[test]
    fn opentofu_knows_the_provider_by_its_own_registry() {
        assert_eq!(in_opentofu("registry.terraform.io/test/memory"), "registry.opentofu.org/test/memory");
    }

    #[test]
    fn only_terraform_has_the_cookie() {
        let with = |cookie: &str| {
            let cookie = cookie.to_owned();
            Environment::read(move |name| (name == COOKIE.0).then(|| cookie.clone()))
        };
        assert!(with(COOKIE.1).is_from_terraform());
        assert!(!with("").is_from_terraform());
        assert!(!Environment::default().is_from_terraform());
    }
}
