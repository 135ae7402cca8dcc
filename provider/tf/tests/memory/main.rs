//! A provider for tests that uses everything the crate offers. Its objects are files in a folder, `MEMORY_DIR`, so that they
//! outlive the process and tests can change them behind Terraform's back.

mod lease;
mod store;
mod thing;

use std::path::PathBuf;
use std::process::ExitCode;

use tf::{
    AnyDataSource, AnyEphemeralResource, AnyResource, Attr, DataSource, Diagnostic, Diagnostics, Mode, Model, Provider,
    Row, computed, data_source, ephemeral_resource, optional, required, resource,
};

use lease::LeaseResource;
use store::Store;
use thing::ThingResource;

fn main() -> ExitCode {
    let debug = std::env::args().any(|argument| argument == "-debug");
    tf::serve(Memory, if debug { Mode::Debug } else { Mode::Hosted })
}

struct Memory;

#[derive(Debug, Clone, Default)]
struct Block {
    dir: Attr<String>,
}

impl Model for Block {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { dir } = self;
        vec![optional("dir", dir, "Folder of the objects. Environment: `MEMORY_DIR`.")]
    }
}

impl Provider for Memory {
    type Data = Store;
    type Model = Block;

    const NAME: &'static str = "memory";
    const ADDRESS: &'static str = "registry.terraform.io/test/memory";
    const DOC: &'static str = "Objects for tests.";
    const LOGGED: &'static [&'static str] = &["terraform_provider_memory"];

    fn resources(&self) -> Vec<AnyResource<Store>> {
        vec![resource(ThingResource)]
    }

    fn data_sources(&self) -> Vec<AnyDataSource<Store>> {
        vec![data_source(NameSource)]
    }

    fn ephemeral_resources(&self) -> Vec<AnyEphemeralResource<Store>> {
        vec![ephemeral_resource(LeaseResource)]
    }

    async fn configure(&self, m: Block) -> Result<Store, Diagnostics> {
        let dir = m.dir.cloned().or_else(|| std::env::var("MEMORY_DIR").ok());
        let missing = || Diagnostic::error("Cannot find the objects").happened("No folder is given.").at("dir");
        Ok(Store { dir: PathBuf::from(dir.ok_or_else(missing)?) })
    }
}

/// The name of a thing.
struct NameSource;

#[derive(Debug, Clone, Default)]
struct NameOf {
    id: Attr<String>,
    name: Attr<String>,
}

impl Model for NameOf {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { id, name } = self;
        vec![required("id", id, "Which thing."), computed("name", name, "Its name.")]
    }
}

impl DataSource for NameSource {
    type Data = Store;
    type Model = NameOf;

    const NAME: &'static str = "name";
    const DOC: &'static str = "The name of a thing.";

    async fn read(&self, cx: &tf::Cx<Store>, m: &mut NameOf) -> Result<(), Diagnostics> {
        let id = m.id.need()?;
        if !id.starts_with("id-") {
            cx.warn(Diagnostic::warning(format!("Cannot be an id: {id}")).happened("Ids begin with `id-`."));
        }
        let missing = || Diagnostic::error(format!("Cannot find thing {id}")).happened("It does not exist.").at("id");
        m.name.set(cx.find(id)?.ok_or_else(missing)?.name);
        Ok(())
    }
}
