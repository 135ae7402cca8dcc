//! `groundwork_version`: what Proxmox VE says it is.
//!
//! Source: `GET /version`, Proxmox VE 8 and 9.

use tf::{Attr, DataSource, Diagnostics, Model, Row, computed};

use crate::context::{Cx, Data};
use crate::explain;

/// The data source `groundwork_version`.
pub(crate) struct VersionSource;

#[derive(Debug, Clone, Default)]
pub(crate) struct Version {
    version: Attr<String>,
    release: Attr<String>,
    repository_id: Attr<String>,
}

impl Model for Version {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { version, release, repository_id } = self;
        vec![
            computed("version", version, "Full version of the node that answers, such as `9.1.8`."),
            computed("release", release, "Its release, such as `9.1`."),
            computed("repository_id", repository_id, "Short hash of its build."),
        ]
    }
}

impl DataSource for VersionSource {
    type Data = Data;
    type Model = Version;

    const NAME: &'static str = "version";
    const DOC: &'static str = "The version of Proxmox VE.";

    async fn read(&self, cx: &Cx, m: &mut Version) -> Result<(), Diagnostics> {
        let found =
            cx.pve()?.version().await.map_err(|error| explain::pve("read the version of Proxmox VE", &error))?;
        m.version.set(found.version);
        m.release.set(found.release);
        m.repository_id.set(found.repoid);
        Ok(())
    }
}
