//! The services of go-plugin beside the provider itself. Only `Shutdown` matters; the streams stay open and silent so that
//! Terraform's log has no complaints.

use futures_util::stream::{StreamExt as _, once};
use tfplugin::health::health_check_response::ServingStatus;
use tfplugin::health::{HealthCheckRequest, HealthCheckResponse, health_server};
use tfplugin::plugin::{ConnInfo, Empty, StdioData, grpc_broker_server, grpc_controller_server, grpc_stdio_server};
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

/// All of them; `closing` ends the process.
#[derive(Clone)]
pub(super) struct Services {
    closing: CancellationToken,
}

impl Services {
    pub(super) const fn new(closing: CancellationToken) -> Self {
        Self { closing }
    }

    /// A stream without items that ends with the process.
    fn silence<T: Send + 'static>(&self) -> BoxStream<T> {
        let closed = self.closing.clone().cancelled_owned();
        Box::pin(once(closed).filter_map(|()| std::future::ready(None)))
    }
}

#[tonic::async_trait]
impl grpc_controller_server::GrpcController for Services {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        tracing::debug!("shutting down on request");
        self.closing.cancel();
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl grpc_stdio_server::GrpcStdio for Services {
    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<BoxStream<StdioData>>, Status> {
        Ok(Response::new(self.silence()))
    }
}

#[tonic::async_trait]
impl grpc_broker_server::GrpcBroker for Services {
    async fn start_stream(&self, _: Request<Streaming<ConnInfo>>) -> Result<Response<BoxStream<ConnInfo>>, Status> {
        Ok(Response::new(self.silence()))
    }
}

#[tonic::async_trait]
impl health_server::Health for Services {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match request.into_inner().service.as_str() {
            "" | "plugin" => Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() })),
            _ => Err(Status::not_found("unknown service")),
        }
    }
}
