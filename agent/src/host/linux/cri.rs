//! Asking a container runtime about itself, over its own socket: `Version` and `Status` of CRI.
//!
//! Source: kubernetes/cri-api, `runtime/v1/api.proto`; only the fields that are read are written down here.

use crate::host::{HostError, Runtime};
use http::uri::PathAndQuery;
use std::time::Duration;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct VersionRequest {
    #[prost(string, tag = "1")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct VersionReply {
    #[prost(string, tag = "2")]
    runtime_name: String,
    #[prost(string, tag = "3")]
    runtime_version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusReply {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Condition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bool, tag = "2")]
    status: bool,
    #[prost(string, tag = "3")]
    reason: String,
    #[prost(string, tag = "4")]
    message: String,
}

pub(super) async fn ask(socket: &str) -> Result<Runtime, HostError> {
    let failed = |why: String| HostError::Runtime { socket: socket.to_owned(), why };
    match timeout(PATIENCE, talk(socket)).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed("no answer".to_owned())),
    }
}

async fn talk(socket: &str) -> Result<Runtime, String> {
    let endpoint = Endpoint::from_shared(format!("unix://{socket}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| crate::chain::chain(&error))?;
    let version: VersionReply = call(&channel, "Version", VersionRequest { version: String::new() }).await?;
    let status: StatusReply = call(&channel, "Status", StatusRequest {}).await?;
    let conditions = status.status.unwrap_or_default().conditions;
    let (complaint, warnings) = judge(&conditions);
    Ok(Runtime {
        name: version.runtime_name,
        version: version.runtime_version.trim_start_matches('v').to_owned(),
        complaint,
        warnings,
    })
}

/// Why the runtime is not ready, and what it says besides. The contract knows two conditions: the kubelet demands `RuntimeReady`, and
/// `NetworkReady` waits for a CNI plugin. All others are a runtime's own, and may be false on a healthy machine: containerd 2.2 has
/// one for its deprecations.
fn judge(conditions: &[Condition]) -> (Option<String>, Vec<String>) {
    let told = |condition: &Condition| {
        let Condition { kind, reason, message, .. } = condition;
        [kind.as_str(), reason, message].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ")
    };
    let complaint = match conditions.iter().find(|condition| condition.kind == READY) {
        None => Some(format!("nothing of {READY}")),
        Some(condition) => (!condition.status).then(|| told(condition)),
    };
    let others =
        conditions.iter().filter(|condition| !condition.status && ![READY, NETWORK].contains(&&*condition.kind));
    (complaint, others.map(told).collect())
}

async fn call<Q, A>(channel: &Channel, method: &str, request: Q) -> Result<A, String>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let path =
        PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}")).map_err(|error| error.to_string())?;
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| crate::chain::chain(&error))?;
    let codec = ProstCodec::<Q, A>::default();
    let reply = client.unary(tonic::Request::new(request), path, codec).await;
    reply.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
}

const READY: &str = "RuntimeReady";
const NETWORK: &str = "NetworkReady";
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: bool) -> Condition {
        Condition { kind: kind.into(), status, reason: "Because".into(), message: "of it".into() }
    }

    #[test]
    fn only_the_contracts_own_condition_is_demanded() {
        let deprecated = condition("ContainerdHasNoDeprecationWarnings", false);
        let told = "ContainerdHasNoDeprecationWarnings: Because: of it".to_owned();
        let ready = judge(&[condition(READY, true), condition(NETWORK, false), deprecated.clone()]);
        assert_eq!(ready, (None, vec![told.clone()]));
        let down = judge(&[condition(READY, false), deprecated.clone()]);
        assert_eq!(down, (Some("RuntimeReady: Because: of it".into()), vec![told]));
        assert_eq!(judge(&[]).0, Some("nothing of RuntimeReady".into()));
    }
}
