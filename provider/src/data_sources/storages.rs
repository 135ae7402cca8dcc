//! `groundwork_storages`: the storages of a node.
//!
//! Source: `GET /nodes/{node}/storage`, Proxmox VE 8 and 9. Storages that the token may not see are not listed.

use std::collections::BTreeSet;

use tf::{Attr, DataSource, Diagnostic, Diagnostics, Model, Row, computed, optional, required};

use crate::context::{Cx, Data};
use crate::explain;

/// The data source `groundwork_storages`.
pub(crate) struct StoragesSource;

#[derive(Debug, Clone, Default)]
pub(crate) struct Storages {
    node: Attr<String>,
    content: Attr<String>,
    storages: Attr<Vec<Storage>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Storage {
    name: Attr<String>,
    kind: Attr<String>,
    content: Attr<BTreeSet<String>>,
    active: Attr<bool>,
    shared: Attr<bool>,
    total_gib: Attr<i64>,
    free_gib: Attr<i64>,
}

impl Model for Storages {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { node, content, storages } = self;
        vec![
            required("node", node, "Node whose storages are listed."),
            optional("content", content, "Lists only storages for this content: `images`, `iso`, `import` …"),
            computed("storages", storages, "The storages, by name."),
        ]
    }
}

impl Model for Storage {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { name, kind, content, active, shared, total_gib, free_gib } = self;
        vec![
            computed("name", name, "Name of the storage."),
            computed("type", kind, "`dir`, `lvmthin`, `zfspool` …"),
            computed("content", content, "What it may hold: `images`, `iso`, `import` …"),
            computed("active", active, "Whether it can be used now."),
            computed("shared", shared, "Whether all nodes see the same."),
            computed("total_gib", total_gib, "Size in GiB, rounded down."),
            computed("free_gib", free_gib, "Free space in GiB, rounded down."),
        ]
    }
}

impl DataSource for StoragesSource {
    type Data = Data;
    type Model = Storages;

    const NAME: &'static str = "storages";
    const DOC: &'static str = "The storages of a Proxmox VE node.";

    async fn read(&self, cx: &Cx, m: &mut Storages) -> Result<(), Diagnostics> {
        let name = m.node.need()?;
        let act = format!("read the storages of node {name}");
        let bad = |_| Diagnostic::error(format!("Cannot {act}")).happened("This is no name of a node.").at("node");
        let node = name.parse().map_err(bad)?;
        let found = cx.pve()?.storages(&node).list().await.map_err(|error| explain::pve(&act, &error))?;
        let wanted = m.content.cloned();
        let fits = |storage: &pve::Storage| wanted.as_ref().is_none_or(|content| storage.holds(content));
        m.storages.set(found.iter().filter(|storage| fits(storage)).map(storage).collect::<Vec<_>>());
        Ok(())
    }
}

fn storage(found: &pve::Storage) -> Storage {
    let gib = |bytes: u64| i64::try_from(bytes / pve::GIB).unwrap_or(i64::MAX);
    let mut storage = Storage::default();
    storage.name.set(found.storage.clone());
    storage.kind.set(found.kind.clone());
    storage.content.set(found.content().into_iter().collect::<BTreeSet<_>>());
    storage.active.set(found.active && found.enabled);
    storage.shared.set(found.shared);
    storage.total_gib.set(gib(found.total));
    storage.free_gib.set(gib(found.avail));
    storage
}
