//! What the provider offers, by name, and how Terraform is told of it.

use tfplugin::v6;

use super::Inner;
use super::answer::CAPABILITIES;
use super::rpc::About;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ephemeral::AnyEphemeralResource;
use crate::resource::{AnyDataSource, AnyResource, Provider};
use crate::schema::Block;

impl<P: Provider> Inner<P> {
    pub(super) fn resource(&self, name: &str) -> Result<&AnyResource<P::Data>, Diagnostics> {
        self.resources.get(name).ok_or_else(|| unknown_thing("resource", name))
    }

    pub(super) fn data_source(&self, name: &str) -> Result<&AnyDataSource<P::Data>, Diagnostics> {
        self.data_sources.get(name).ok_or_else(|| unknown_thing("data source", name))
    }

    pub(super) fn ephemeral_resource(&self, name: &str) -> Result<&AnyEphemeralResource<P::Data>, Diagnostics> {
        self.ephemeral.get(name).ok_or_else(|| unknown_thing("ephemeral resource", name))
    }

    /// The attributes of what a call is about, or else of the provider block.
    pub(super) fn block_of(&self, about: &About) -> Block {
        let found = match about {
            About::Provider => None,
            About::Resource(name) => self.resources.get(name).map(AnyResource::block),
            About::DataSource(name) => self.data_sources.get(name).map(AnyDataSource::block),
            About::Ephemeral(name) => self.ephemeral.get(name).map(AnyEphemeralResource::block),
        };
        found.unwrap_or_else(Block::of::<P::Model>)
    }

    /// Names of everything the provider offers.
    pub(super) fn metadata(&self) -> v6::get_metadata::Response {
        use v6::get_metadata::{DataSourceMetadata, EphemeralMetadata, ResourceMetadata};
        let resource = |name: &String| ResourceMetadata { type_name: name.clone() };
        let data_source = |name: &String| DataSourceMetadata { type_name: name.clone() };
        let ephemeral = |name: &String| EphemeralMetadata { type_name: name.clone() };
        v6::get_metadata::Response {
            server_capabilities: Some(CAPABILITIES),
            resources: self.resources.keys().map(resource).collect(),
            data_sources: self.data_sources.keys().map(data_source).collect(),
            ephemeral_resources: self.ephemeral.keys().map(ephemeral).collect(),
            ..Default::default()
        }
    }

    pub(super) fn schemas(&self) -> v6::get_provider_schema::Response {
        let resource = |(name, resource): (&String, &AnyResource<P::Data>)| {
            (name.clone(), resource.block().message(resource.0.version(), resource.0.doc()))
        };
        let data_source = |(name, source): (&String, &AnyDataSource<P::Data>)| {
            (name.clone(), source.block().message(0, source.0.doc()))
        };
        let ephemeral = |(name, ephemeral): (&String, &AnyEphemeralResource<P::Data>)| {
            (name.clone(), ephemeral.block().message(0, ephemeral.0.doc()))
        };
        v6::get_provider_schema::Response {
            provider: Some(Block::of::<P::Model>().message(0, P::DOC)),
            resource_schemas: self.resources.iter().map(resource).collect(),
            data_source_schemas: self.data_sources.iter().map(data_source).collect(),
            ephemeral_resource_schemas: self.ephemeral.iter().map(ephemeral).collect(),
            server_capabilities: Some(CAPABILITIES),
            ..Default::default()
        }
    }
}

fn unknown_thing(kind: &str, name: &str) -> Diagnostics {
    Diagnostic::bug(&format!("Terraform asked for the {kind} {name}, which the schema does not have")).into()
}
