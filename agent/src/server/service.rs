//! The service `Agent`: one short method per call.

use crate::enrol::Trust;
use crate::records::Records;
use agent_proto::v1::agent_server::Agent;
use agent_proto::v1::*;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// What the calls work with.
pub struct AgentService {
    /// Who the agent is.
    pub trust: Arc<Trust>,
    /// What providers stored.
    pub records: Records,
}

type Events = ReceiverStream<Result<Event, Status>>;

#[tonic::async_trait]
impl Agent for AgentService {
    type ApplyStream = Events;
    type AttachStream = Events;
    type ClusterInitStream = Events;
    type ClusterJoinStream = Events;
    type ClusterResetStream = Events;
    type NodeSetStream = Events;
    type NodeRemoveStream = Events;

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<Description>, Status> {
        let records = self.records.all().map_err(|error| Status::internal(super::chain(&error)))?;
        Ok(Response::new(Description {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            records,
            fingerprint: self.trust.pin().to_string(),
            distributions: vec!["kubeadm".to_owned()],
            ..Description::default()
        }))
    }
    async fn plan(&self, _: Request<PlanRequest>) -> Result<Response<PlanReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn apply(&self, _: Request<ApplyRequest>) -> Result<Response<Events>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn attach(&self, _: Request<AttachRequest>) -> Result<Response<Events>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn reboot(&self, _: Request<RebootRequest>) -> Result<Response<RebootReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordReply>, Status> {
        let RecordRequest { kind, document } = request.into_inner();
        let stored = self.records.store(&kind, &document);
        stored.map_err(|error| Status::invalid_argument(super::chain(&error)))?;
        Ok(Response::new(RecordReply {}))
    }
    async fn cluster_status(&self, _: Request<ClusterStatusRequest>) -> Result<Response<ClusterStatusReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn cluster_init(&self, _: Request<ClusterInitRequest>) -> Result<Response<Events>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn join_material(&self, _: Request<JoinMaterialRequest>) -> Result<Response<JoinMaterialReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn cluster_join(&self, _: Request<ClusterJoinRequest>) -> Result<Response<Events>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn cluster_reset(&self, _: Request<ClusterResetRequest>) -> Result<Response<Events>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn node_set(&self, _: Request<NodeSetRequest>) -> Result<Response<Events>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn node_remove(&self, _: Request<NodeRemoveRequest>) -> Result<Response<Events>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn kubeconfig(&self, _: Request<KubeconfigRequest>) -> Result<Response<KubeconfigReply>, Status> {
        Err(Status::unimplemented(""))
    }
}
