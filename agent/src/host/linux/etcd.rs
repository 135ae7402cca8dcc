//! Talking to a member of etcd: mutual TLS with the certificate that kubeadm made for looking after it, and the few calls that are made.
//!
//! Source: etcd 3.6, `api/etcdserverpb/rpc.proto`; only the fields that are read are written down here.

use crate::chain::chain;
use crate::host::etcd::{Etcd, Member, Standing};
use crate::host::{BoxFuture, HostError};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// The etcd that kubeadm makes.
pub(super) struct Kubeadms;

impl Etcd for Kubeadms {
    fn members<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Member>, HostError>> {
        Box::pin(async move {
            let agreed = bounded(at, LOOK, list(at, true)).await;
            // Without a quorum nothing is agreed on, and its own list is what there is.
            if agreed.is_ok() { agreed } else { bounded(at, LOOK, list(at, false)).await }
        })
    }

    fn standing<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Standing, HostError>> {
        Box::pin(bounded(at, LOOK, async {
            let said: StatusReply = call(at, "Maintenance/Status", Empty {}).await?;
            Ok(Standing { version: said.version, has_leader: said.leader != 0 })
        }))
    }

    fn alarms<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<(u64, String)>, HostError>> {
        Box::pin(bounded(at, LOOK, async {
            // An empty request asks for all that are in force.
            let said: AlarmReply = call(at, "Maintenance/Alarm", Empty {}).await?;
            Ok(said.alarms.into_iter().map(|alarm| (alarm.member, alarm.word())).collect())
        }))
    }

    fn remove<'a>(&'a self, at: &'a str, id: u64) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(bounded(at, CHANGE, async move {
            let _: MembersReply = call(at, "Cluster/MemberRemove", ById { id }).await?;
            Ok(())
        }))
    }
}

async fn list(at: &str, linearizable: bool) -> Result<Vec<Member>, String> {
    let said: MembersReply = call(at, "Cluster/MemberList", MembersRequest { linearizable }).await?;
    let member = |wire: WireMember| Member {
        id: wire.id,
        name: wire.name,
        peer_urls: wire.peer_urls,
        client_urls: wire.client_urls,
        learner: wire.learner,
    };
    Ok(said.members.into_iter().map(member).collect())
}

async fn bounded<T>(
    at: &str,
    patience: Duration,
    work: impl Future<Output = Result<T, String>> + Send,
) -> Result<T, HostError> {
    let said = timeout(patience, work).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    said.map_err(|why| HostError::Etcd { at: at.to_owned(), why })
}

async fn call<Q, A>(at: &str, method: &str, request: Q) -> Result<A, String>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let path = PathAndQuery::try_from(format!("/etcdserverpb.{method}")).map_err(|error| error.to_string())?;
    let mut client = Grpc::new(dial(at).await?);
    client.ready().await.map_err(|error| chain(&error))?;
    let codec = ProstCodec::<Q, A>::default();
    let reply = client.unary(tonic::Request::new(request), path, codec).await;
    reply.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
}

/// One connection, for one call.
async fn dial(at: &str) -> Result<Channel, String> {
    let host = at.rsplit_once(':').map_or(at, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(config()?));
    let tcp = TcpStream::connect(at).await.map_err(|error| error.to_string())?;
    let tls = connector.connect(name, tcp).await.map_err(|error| error.to_string())?;
    let once = Mutex::new(Some(TokioIo::new(tls)));
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let channel = Endpoint::from_static("http://etcd").connect_with_connector(connector).await;
    channel.map_err(|error| chain(&error))
}

/// Read anew each time: certificates are renewed with every upgrade.
fn config() -> Result<ClientConfig, String> {
    let read = |file: &str| {
        let path = format!("{FOLDER}/{file}");
        std::fs::read(&path).map_err(|error| format!("{path}: {error}"))
    };
    let odd = |error: &dyn std::fmt::Display| format!("the certificates in {FOLDER} cannot be used: {error}");
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(&read("ca.crt")?).map_err(|error| odd(&error))?;
    roots.add(authority).map_err(|error| odd(&error))?;
    let own = CertificateDer::from_pem_slice(&read("healthcheck-client.crt")?).map_err(|error| odd(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&read("healthcheck-client.key")?).map_err(|error| odd(&error))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| odd(&error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)
        .map_err(|error| odd(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct MembersRequest {
    #[prost(bool, tag = "1")]
    linearizable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ById {
    #[prost(uint64, tag = "1")]
    id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MembersReply {
    #[prost(message, repeated, tag = "2")]
    members: Vec<WireMember>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireMember {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    client_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusReply {
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AlarmReply {
    #[prost(message, repeated, tag = "2")]
    alarms: Vec<Alarm>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Alarm {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(int32, tag = "2")]
    kind: i32,
}

impl Alarm {
    fn word(&self) -> String {
        match self.kind {
            1 => "NOSPACE".to_owned(),
            2 => "CORRUPT".to_owned(),
            other => format!("alarm {other}"),
        }
    }
}

/// Where kubeadm keeps the certificates of etcd.
const FOLDER: &str = "/etc/kubernetes/pki/etcd";
const LOOK: Duration = Duration::from_secs(4);
/// A change is agreed on by all members, on slow disks too.
const CHANGE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_passed_over() {
        let wire = WireMember {
            id: 0x8e9e_05c5_2164_694d,
            name: "cp-1".to_owned(),
            peer_urls: vec!["https://192.0.2.11:2380".to_owned()],
            client_urls: vec!["https://192.0.2.11:2379".to_owned()],
            learner: false,
        };
        let reply = MembersReply { members: vec![wire.clone(), WireMember { learner: true, ..WireMember::default() }] };
        let bytes = prost::Message::encode_to_vec(&reply);
        assert_eq!(<MembersReply as prost::Message>::decode(&*bytes).unwrap().members[0], wire);
        // Field 1 is the reply's head, which nobody reads.
        let mut headed = vec![0x0a, 0x02, 0x08, 0x07];
        headed.extend_from_slice(&bytes);
        assert_eq!(<MembersReply as prost::Message>::decode(&*headed).unwrap(), reply);
    }

    #[test]
    fn alarms_have_their_names() {
        let word = |kind| Alarm { member: 1, kind }.word();
        assert_eq!((word(1), word(2), word(9)), ("NOSPACE".into(), "CORRUPT".into(), "alarm 9".into()));
    }

    #[test]
    fn any_bytes_are_answered() {
        total::bytes("etcd-members", &[&[0x12, 0x02, 0x08, 0x01]], |bytes| {
            <MembersReply as prost::Message>::decode(bytes).map(|reply| reply.members.len()).ok()
        });
    }
}
