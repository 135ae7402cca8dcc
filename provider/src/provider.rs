//! The provider, and THE list of resources, data sources and ephemeral resources.
//!
//! The provider block's attributes are in `block`; `settings` is where they meet the environment. Nothing connects here.

mod block;
#[cfg(test)]
mod contract;
mod settings;
#[cfg(test)]
mod tests;

use tf::{
    AnyDataSource, AnyEphemeralResource, AnyResource, Diagnostics, Provider, data_source, ephemeral_resource, resource,
};

use self::block::Block;
use self::settings::Settings;
use crate::context::Data;
use crate::{data_sources, ephemeral_resources, explain, resources};

/// The provider `groundwork`.
#[derive(Debug, Default)]
pub(crate) struct Groundwork;

impl Provider for Groundwork {
    type Data = Data;
    type Model = Block;

    const NAME: &'static str = "groundwork";
    const ADDRESS: &'static str = "registry.terraform.io/groundwork-tf/groundwork";
    const DOC: &'static str = "Takes bare Proxmox VE hosts to a Kubernetes cluster in one apply: images, virtual machines, the operating \
        systems inside them, and the cluster over them, of one control plane and any number of workers, with your network plugin. \
        Nothing needs SSH, Ansible or a snippet store.\n\n\
        What the provider block leaves out comes from the environment; each attribute names its variable. Do not give `api_token` or \
        `ca_key_pem` by an ordinary input variable: Terraform writes its value into saved plans. Use the environment, or a variable with \
        `ephemeral = true`.\n\n\
        Blocks are written by hand, and Terraform refuses misspelt names in them. The guides say \
        how to install the provider, what Proxmox VE needs, how to run in a pipeline, and how to come from bpg's provider.";
    const LOGGED: &'static [&'static str] = &["groundwork_provider", "pve", "trust"];

    fn resources(&self) -> Vec<AnyResource<Data>> {
        vec![
            resource(resources::agent::AgentResource),
            resource(resources::cluster::ClusterResource),
            resource(resources::etcd_snapshot::EtcdSnapshotResource),
            resource(resources::image::ImageResource),
            resource(resources::machine::MachineResource),
            resource(resources::pool::PoolResource),
            resource(resources::vm::VmResource),
        ]
    }

    fn data_sources(&self) -> Vec<AnyDataSource<Data>> {
        vec![
            data_source(data_sources::nodes::NodesSource),
            data_source(data_sources::storages::StoragesSource),
            data_source(data_sources::version::VersionSource),
            data_source(data_sources::vms::VmsSource),
        ]
    }

    fn ephemeral_resources(&self) -> Vec<AnyEphemeralResource<Data>> {
        vec![ephemeral_resource(ephemeral_resources::kubeconfig::KubeconfigEphemeral)]
    }

    fn validate(&self, m: &Block) -> Diagnostics {
        block::contradictions(m)
    }

    async fn configure(&self, m: Block) -> Result<Data, Diagnostics> {
        let settings = Settings { block: m, variable: |name: &str| std::env::var(name).ok() };
        Ok(Data::new(settings.proxmox(), settings.agents()?))
    }

    fn notices(&self, data: &Data) -> Diagnostics {
        let endings = data.agents.endings();
        let insecure = data.believes_anybody().then(explain::anybody);
        endings.iter().map(explain::ending).chain(insecure).collect()
    }
}
