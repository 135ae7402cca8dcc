//! What a cluster that is destroyed would leave outside of its machines.

use super::Error;
use super::call::Agent;
use agent_proto::v1 as wire;

/// What would be left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// Services of type LoadBalancer.
    pub(crate) services: Vec<LoadBalancer>,
    /// PersistentVolumes, one line each.
    pub(crate) volumes: Vec<String>,
}

/// A Service that something outside of the cluster may be set up for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LoadBalancer {
    /// `namespace/name`
    pub(crate) name: String,
    /// What it was given.
    pub(crate) addresses: Vec<String>,
}

impl Agent {
    /// What the cluster of this control plane would leave.
    pub(crate) async fn leftovers(&mut self) -> Result<Leftovers, Error> {
        let request = wire::ClusterLeftoversRequest {};
        let ask = |mut client: super::line::Client| async move { client.cluster_leftovers(request).await };
        let wire::ClusterLeftoversReply { services, volumes } = self.0.ask("ClusterLeftovers", ask).await?;
        let service = |wire::LoadBalancer { name, addresses }| LoadBalancer { name, addresses };
        Ok(Leftovers {
            services: services.into_iter().map(service).collect(),
            volumes: volumes.into_iter().map(volume).collect(),
        })
    }
}

fn volume(wire::PersistentVolume { name, claim, storage }: wire::PersistentVolume) -> String {
    if claim.is_empty() { format!("{name} ({storage})") } else { format!("{name} of {claim} ({storage})") }
}
