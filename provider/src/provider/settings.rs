//! Where the provider block and the environment meet: what the block leaves out, variables give.

use pve::{Auth, Config, Trust};
use tf::{Attr, Diagnostic, Path, Secret};

use super::block::{AgentBlock, Block, ProxmoxBlock};
use crate::agents::{Agents, Authority, Given, Updates};
use crate::context::Proxmox;
use crate::explain;

/// The provider block, and a way to read the environment.
pub(super) struct Settings<V> {
    pub(super) block: Block,
    pub(super) variable: V,
}

impl<V: Fn(&str) -> Option<String>> Settings<V> {
    /// Access to Proxmox VE; what is missing is told when a resource needs it.
    pub(super) fn proxmox(&self) -> Proxmox {
        let block = self.block.proxmox.or(ProxmoxBlock::default());
        if self.block.proxmox.is_unknown() || block.is_partly_unknown() {
            return Proxmox::Unknown;
        }
        let endpoints = block.endpoints.cloned().unwrap_or_else(|| {
            let listed = self.first(&["GROUNDWORK_PROXMOX_ENDPOINTS", "PROXMOX_VE_ENDPOINT"]).unwrap_or_default();
            listed.split(',').map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect()
        });
        let per_node = block.parallelism.get().and_then(|number| usize::try_from(*number).ok()).unwrap_or(0);
        if endpoints.is_empty() {
            return Proxmox::NoEndpoint;
        }
        let Some(auth) = self.auth(&block) else { return Proxmox::NoCredentials };
        Proxmox::Config(Box::new(Config { endpoints, auth, trust: self.trust(&block), per_node }))
    }

    /// The block's credentials; only if it has none, those of the environment.
    fn auth(&self, block: &ProxmoxBlock) -> Option<Auth> {
        if let Some(token) = exposed(&block.api_token) {
            return Some(Auth::Token(token));
        }
        if block.username.is_null()
            && let Some(token) = self.either("API_TOKEN")
        {
            return Some(Auth::Token(token));
        }
        Some(Auth::Password {
            username: block.username.cloned().or_else(|| self.either("USERNAME"))?,
            password: exposed(&block.password).or_else(|| self.either("PASSWORD"))?,
            otp: exposed(&block.otp).or_else(|| self.either("OTP")),
        })
    }

    /// Whom the block says to believe; only if it says nothing, whom the environment says.
    fn trust(&self, block: &ProxmoxBlock) -> Trust {
        let chosen =
            trust(block.insecure.cloned(), block.tls_fingerprint.cloned(), block.ca_cert_pem.cloned().map(pem));
        chosen.unwrap_or_else(|| {
            let yes = |text: String| matches!(text.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "y" | "yes");
            let insecure = self.either("INSECURE").map(yes);
            let variable = |name: &str| self.first(&[&format!("GROUNDWORK_PROXMOX_{name}")]);
            let chosen = trust(
                insecure.filter(|insecure| *insecure),
                variable("TLS_FINGERPRINT"),
                variable("CA_CERT_PEM").map(pem),
            );
            chosen.unwrap_or_default()
        })
    }

    /// The agents' CA, and what we hold of it; that it is missing or unknown is told when a resource needs it.
    pub(super) fn agents(&self) -> Result<Agents, Diagnostic> {
        let block = self.block.agent.or(AgentBlock::default());
        if self.block.agent.is_unknown() || block.is_partly_unknown() {
            return Ok(Agents::Unknown);
        }
        let unusable = |error| explain::agent("use the agents' CA", &error).at(Path::from("agent"));
        let updates = Updates::new(block.agent_update.or(true));
        let authority = Authority::from_given(&self.given(&block)).map_err(unusable)?;
        Ok(Agents::new(authority.map(|own| own.with(updates))))
    }

    /// The block's; what it leaves out of a certificate and its key is the environment's.
    fn given(&self, block: &AgentBlock) -> Given {
        let own = Given {
            ca_cert_pem: block.ca_cert_pem.cloned(),
            ca_key_pem: block.ca_key_pem.cloned(),
            client_cert_pem: block.client_cert_pem.cloned(),
            client_key_pem: block.client_key_pem.cloned(),
            pki_dir: block.pki_dir.cloned(),
        };
        if own.pki_dir.is_some() {
            return own;
        }
        let there = Given::in_environment(|name| self.first(&[name]));
        if own.is_empty() {
            return there;
        }
        // A key of the environment that belongs to something else than the block names would only be in the way.
        let says_who = own.ca_key_pem.is_some() || own.client_cert_pem.is_some();
        Given {
            ca_cert_pem: own.ca_cert_pem.or(there.ca_cert_pem),
            ca_key_pem: own.ca_key_pem.or(there.ca_key_pem.filter(|_| !says_who)),
            client_key_pem: own.client_key_pem.or(there.client_key_pem),
            client_cert_pem: own.client_cert_pem.or(there.client_cert_pem),
            pki_dir: None,
        }
    }

    /// Our own variable, or the one that users of other providers have.
    fn either(&self, name: &str) -> Option<String> {
        self.first(&[&format!("GROUNDWORK_PROXMOX_{name}"), &format!("PROXMOX_VE_{name}")])
    }

    /// The first of these variables that is set to something.
    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| (self.variable)(name).filter(|value| !value.trim().is_empty()))
    }
}

/// What the most careless of the given settings means; `None` if nothing is given.
fn trust(insecure: Option<bool>, fingerprint: Option<String>, pem: Option<String>) -> Option<Trust> {
    if insecure == Some(true) {
        return Some(Trust::Nobody);
    }
    fingerprint.map(Trust::Fingerprint).or_else(|| pem.map(Trust::Ca)).or_else(|| insecure.map(|_| Trust::System))
}

/// A PEM text, or what stands in the file of that path. A path that leads nowhere is told by the client, which finds no PEM in it.
fn pem(text: String) -> String {
    if text.contains("-----BEGIN ") { text } else { std::fs::read_to_string(text.trim()).unwrap_or(text) }
}

fn exposed(attr: &Attr<Secret<String>>) -> Option<String> {
    attr.get().map(|secret| secret.expose().clone())
}
