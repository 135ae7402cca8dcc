//! Where an agent is and how it is recognised, as an object of the configuration: `groundwork_vm` and `groundwork_agent` give it,
//! others take it.

use crate::agents::Endpoint;
use tf::{Attr, Model, Row, computed, required};

/// `{ address = "192.0.2.11:7443", fingerprint = "sha256:…" }`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EndpointModel {
    pub(crate) address: Attr<String>,
    pub(crate) fingerprint: Attr<String>,
}

impl Model for EndpointModel {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { address, fingerprint } = self;
        vec![
            required("address", address, "Address and port of the machine's agent, `192.0.2.11:7443`.")
                .check(address_and_port),
            required("fingerprint", fingerprint, "SHA-256 of the agent's public key, `sha256:` and 64 hex digits; the machine's first one stays good when its key is renewed.")
                .check(fingerprint_form),
        ]
    }
}

impl EndpointModel {
    /// As the agents' side wants it; `None` while a part is unknown.
    pub(crate) fn to_endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint { address: self.address.cloned()?, fingerprint: self.fingerprint.cloned()? })
    }

    /// From `address,fingerprint`, the form of import ids.
    pub(crate) fn from_id(id: &str) -> Option<Self> {
        let (address, fingerprint) = id.split_once(',')?;
        address_and_port(address).ok()?;
        fingerprint_form(fingerprint).ok()?;
        Some(Self { address: address.into(), fingerprint: fingerprint.into() })
    }
}

impl From<&Endpoint> for EndpointModel {
    fn from(endpoint: &Endpoint) -> Self {
        Self { address: endpoint.address.clone().into(), fingerprint: endpoint.fingerprint.clone().into() }
    }
}

/// Where the agent is and how it is recognised. As a resource gives it, for `groundwork_machine`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct AgentEndpoint {
    pub(crate) address: Attr<String>,
    pub(crate) fingerprint: Attr<String>,
}

impl Model for AgentEndpoint {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { address, fingerprint } = self;
        vec![
            computed("address", address, "Address and port.").keep(),
            computed(
                "fingerprint",
                fingerprint,
                "SHA-256 of the agent's first public key; it stays when the key is renewed.",
            )
            .keep(),
        ]
    }
}

impl AgentEndpoint {
    /// As the agents' side wants it; `None` while a part is unknown.
    pub(crate) fn to_endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint { address: self.address.cloned()?, fingerprint: self.fingerprint.cloned()? })
    }
}

impl From<&Endpoint> for AgentEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self { address: endpoint.address.clone().into(), fingerprint: endpoint.fingerprint.clone().into() }
    }
}

fn address_and_port(text: &str) -> Result<(), String> {
    let good = text.parse::<std::net::SocketAddr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains([':', '/', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
    if good { Ok(()) } else { Err("must be an address with a port, such as `192.0.2.11:7443`".to_owned()) }
}

/// The pin of a key, an agent's or a cluster CA's.
pub(crate) fn fingerprint_form(text: &str) -> Result<(), String> {
    let good = text.parse::<trust::Pin>().is_ok();
    if good { Ok(()) } else { Err("must be `sha256:` and the digest of a public key".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_id_is_address_and_fingerprint() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let model = EndpointModel::from_id(&format!("192.0.2.11:7443,{pin}")).unwrap();
        assert_eq!(model.to_endpoint().unwrap().address, "192.0.2.11:7443");
        assert!(EndpointModel::from_id(&format!("192.0.2.11,{pin}")).is_none());
        assert!(EndpointModel::from_id("192.0.2.11:7443").is_none());
        assert!(EndpointModel::from_id("192.0.2.11:7443,sha256:zz").is_none());
        total::text("import-id", &[&format!("192.0.2.11:7443,{pin}")], |id| {
            EndpointModel::from_id(id).map(|model| model.to_endpoint().is_some())
        });
    }
}
