//! `groundwork_nodes`: the nodes of the cluster.
//!
//! Source: `GET /nodes`, Proxmox VE 8 and 9. Numbers need Sys.Audit on the node.

use tf::{Attr, DataSource, Diagnostics, Model, Row, computed};

use crate::context::{Cx, Data};
use crate::explain;

/// The data source `groundwork_nodes`.
pub(crate) struct NodesSource;

#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes {
    nodes: Attr<Vec<Node>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    name: Attr<String>,
    online: Attr<bool>,
    cpus: Attr<i64>,
    memory_mib: Attr<i64>,
    memory_used_mib: Attr<i64>,
    tls_fingerprint: Attr<String>,
}

impl Model for Nodes {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { nodes } = self;
        vec![computed("nodes", nodes, "All nodes, by name.")]
    }
}

impl Model for Node {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { name, online, cpus, memory_mib, memory_used_mib, tls_fingerprint } = self;
        vec![
            computed("name", name, "Name of the node."),
            computed("online", online, "Whether the node is in reach of the others."),
            computed("cpus", cpus, "CPUs. Null without Sys.Audit on the node, as are the other numbers."),
            computed("memory_mib", memory_mib, "Memory in MiB."),
            computed("memory_used_mib", memory_used_mib, "Memory in use, in MiB."),
            computed("tls_fingerprint", tls_fingerprint, "SHA-256 of the node's certificate, for `tls_fingerprint`."),
        ]
    }
}

impl DataSource for NodesSource {
    type Data = Data;
    type Model = Nodes;

    const NAME: &'static str = "nodes";
    const DOC: &'static str = "The nodes of the Proxmox VE cluster.";

    async fn read(&self, cx: &Cx, m: &mut Nodes) -> Result<(), Diagnostics> {
        let found = cx.pve()?.nodes().list().await.map_err(|error| explain::pve("read the nodes", &error))?;
        m.nodes.set(found.into_iter().map(node).collect::<Vec<_>>());
        Ok(())
    }
}

fn node(found: pve::Node) -> Node {
    let mib = |bytes: Option<u64>| bytes.and_then(|bytes| i64::try_from(bytes / pve::MIB).ok());
    let mut node = Node::default();
    node.name.set(found.node.to_string());
    node.online.set(found.status == "online");
    node.cpus.put(found.maxcpu.map(i64::from));
    node.memory_mib.put(mib(found.maxmem));
    node.memory_used_mib.put(mib(found.mem));
    node.tls_fingerprint.put(found.ssl_fingerprint);
    node
}
