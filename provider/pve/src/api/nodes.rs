//! `/nodes`

use serde::Deserialize;

use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::ids::NodeName;
use crate::params::Params;

/// A node of the cluster. Numbers need Sys.Audit on it and are absent without.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Node {
    /// Its name.
    pub node: NodeName,
    /// `online`, `offline` or `unknown`
    pub status: String,
    /// CPUs.
    #[serde(default)]
    pub maxcpu: Option<u32>,
    /// Share of the CPUs in use, 0 to 1.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// Memory in bytes.
    #[serde(default)]
    pub maxmem: Option<u64>,
    /// Memory in use, in bytes.
    #[serde(default)]
    pub mem: Option<u64>,
    /// Seconds since its start.
    #[serde(default)]
    pub uptime: Option<u64>,
    /// SHA-256 of its certificate, in hex pairs.
    #[serde(default)]
    pub ssl_fingerprint: Option<String>,
}

/// A network interface of a node.
#[derive(Deserialize)]
struct Interface {
    iface: String,
}

/// How a node is.
#[derive(Deserialize)]
struct State {
    #[serde(rename = "current-kernel")]
    kernel: Kernel,
}

#[derive(Deserialize)]
struct Kernel {
    machine: String,
}

/// `/nodes`
#[derive(Debug, Clone, Copy)]
pub struct Nodes<'a>(&'a Client);

impl Client {
    /// The nodes of the cluster.
    #[must_use]
    pub const fn nodes(&self) -> Nodes<'_> {
        Nodes(self)
    }
}

impl Nodes<'_> {
    /// All nodes, by name.
    ///
    /// # Errors
    /// As every read.
    pub async fn list(&self) -> Result<Vec<Node>, Error> {
        let mut nodes: Vec<Node> = self.0.call(Call::get(&["nodes"])).await?;
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(nodes)
    }

    /// What a node is, as `uname -m` says it: `x86_64`. Needs Sys.Audit on it.
    ///
    /// # Errors
    /// As every read.
    pub async fn machine(&self, node: &NodeName) -> Result<String, Error> {
        let state: State = self.0.call(Call::get(&["nodes", node.as_str(), "status"])).await?;
        Ok(state.kernel.machine)
    }

    /// The bridges and SDN networks of a node that we may use.
    ///
    /// # Errors
    /// As every read.
    pub async fn bridges(&self, node: &NodeName) -> Result<Vec<String>, Error> {
        let params = Params::new().with("type", "any_bridge");
        let rows: Vec<Interface> = self.0.call(Call::get(&["nodes", node.as_str(), "network"]).params(params)).await?;
        Ok(rows.into_iter().map(|row| row.iface).collect())
    }
}
