//! The configuration of a living cluster, as an agent is asked to look at it and to change it.

use super::Error;
use super::call::Agent;
use super::job::Kubeadm;
use agent_proto::v1 as wire;

/// A node that is to be configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Configure {
    /// The cluster it is a node of.
    pub(crate) cluster_id: String,
    pub(crate) node_name: String,
    pub(crate) declared: Kubeadm,
    /// As far as it is known.
    pub(crate) before: Kubeadm,
    /// Further names in the API server's certificate, and those of before.
    pub(crate) names: Vec<String>,
    pub(crate) names_before: Vec<String>,
    /// On a worker: the kubelet takes the cluster's configuration.
    pub(crate) kubelet: bool,
    /// On a control plane, last of all: every node has it.
    pub(crate) settle: bool,
}

/// What is not as it is declared, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// Of the cluster; a control plane tells.
    pub(crate) cluster: Vec<String>,
    /// Of the machine.
    pub(crate) node: Vec<String>,
}

impl Configure {
    pub(super) fn to_wire(&self) -> wire::ClusterConfigureRequest {
        wire::ClusterConfigureRequest {
            cluster_id: self.cluster_id.clone(),
            node_name: self.node_name.clone(),
            config: Some(self.declared.to_wire()),
            before: Some(self.before.to_wire()),
            kubelet: self.kubelet,
            settle: self.settle,
            certificate_names: self.names.clone(),
            certificate_names_before: self.names_before.clone(),
        }
    }
}

impl Agent {
    /// What a machine and, on a control plane, its cluster do not have of the configuration that is declared.
    pub(crate) async fn configuration(&mut self, declared: &Kubeadm, names: &[String]) -> Result<Differences, Error> {
        let request =
            wire::ClusterConfigStatusRequest { config: Some(declared.to_wire()), certificate_names: names.to_vec() };
        let ask = |mut client: super::line::Client| async move { client.cluster_config_status(request).await };
        let said = self.0.ask("ClusterConfigStatus", ask).await?;
        Ok(Differences { cluster: plain::list(said.cluster), node: plain::list(said.node) })
    }
}
