//! `…/qemu/{vmid}/agent`: what QEMU's guest agent tells of the guest.

use std::net::IpAddr;

use serde::Deserialize;

use super::Vm;
use crate::error::Error;

/// A network interface inside the guest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AgentInterface {
    /// The guest's own name for it.
    pub name: String,
    /// Its hardware address.
    #[serde(default, rename = "hardware-address")]
    pub mac: Option<String>,
    #[serde(default, rename = "ip-addresses")]
    addresses: Vec<Address>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Address {
    #[serde(rename = "ip-address")]
    address: String,
}

impl AgentInterface {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter_map(|address| address.address.parse().ok())
    }
}

#[derive(Deserialize)]
struct Interfaces {
    result: Vec<AgentInterface>,
}

impl Vm<'_> {
    /// The interfaces inside the guest.
    ///
    /// # Errors
    /// [`crate::Class::NoAgent`] while the guest agent does not answer.
    pub async fn agent_interfaces(&self) -> Result<Vec<AgentInterface>, Error> {
        let answer: Interfaces = self.client.call(self.get(&["agent", "network-get-interfaces"])).await?;
        Ok(answer.result)
    }
}
