//! Talking to a member of etcd: mutual TLS with the certificate that kubeadm made for looking after it, and the few calls that are made.
//!
//! What is done with snapshots stands in `snapshot`. Source: etcd 3.6, `api/etcdserverpb/rpc.proto`; only the fields that are read are
//! written down here.

mod snapshot;

use crate::chain::chain;
use crate::host::etcd::{Etcd, Member, Snapshot, Standing};
use crate::host::{BoxFuture, HostError};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// An etcd whose certificates lie in this folder: its CA's, and one for clients with its key.
pub(super) struct At {
    folder: Cow<'static, str>,
    files: [&'static str; 3],
}

/// The one that kubeadm makes.
static KUBEADMS: At = At {
    folder: Cow::Borrowed("/etc/kubernetes/pki/etcd"),
    files: ["ca.crt", "healthcheck-client.crt", "healthcheck-client.key"],
};
/// The ones of K3s and its relatives.
static K3S: At = of_k3s("/var/lib/rancher/k3s/server/tls/etcd");
static RKE2: At = of_k3s("/var/lib/rancher/rke2/server/tls/etcd");

const fn of_k3s(folder: &'static str) -> At {
    At { folder: Cow::Borrowed(folder), files: ["server-ca.crt", "client.crt", "client.key"] }
}

/// The one whose certificates stand here.
pub(super) fn here() -> &'static At {
    let stands = |at: &At| Path::new(&*at.folder).join(at.files[0]).exists();
    [&KUBEADMS, &K3S, &RKE2].into_iter().find(|at| stands(at)).unwrap_or(&KUBEADMS)
}

impl Etcd for At {
    fn members<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Member>, HostError>> {
        Box::pin(async move {
            let agreed = bounded(at, LOOK, self.list(at, true)).await;
            // Without a quorum nothing is agreed on, and its own list is what there is.
            if agreed.is_ok() { agreed } else { bounded(at, LOOK, self.list(at, false)).await }
        })
    }

    fn standing<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Standing, HostError>> {
        Box::pin(bounded(at, LOOK, async {
            let said: StatusReply = self.call(at, "Maintenance/Status", Empty {}).await?;
            Ok(Standing { version: said.version, has_leader: said.leader != 0 })
        }))
    }

    fn alarms<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<(u64, String)>, HostError>> {
        Box::pin(async move {
            // An empty request asks for all that are in force; the members agree on the answer as on a change.
            let ask = || bounded(at, LOOK, self.call::<_, AlarmReply>(at, "Maintenance/Alarm", Empty {}));
            let said = match ask().await {
                Ok(said) => said,
                Err(_) => ask().await?,
            };
            Ok(said.alarms.into_iter().map(|alarm| (alarm.member, alarm.word())).collect())
        })
    }

    fn remove<'a>(&'a self, at: &'a str, id: u64) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(bounded(at, CHANGE, self.take_out(at, id)))
    }

    fn snapshot<'a>(&'a self, at: &'a str, to: &'a str) -> BoxFuture<'a, Result<Snapshot, HostError>> {
        Box::pin(self.take(at, to))
    }

    fn look(&self, path: &str) -> Result<Option<Snapshot>, HostError> {
        snapshot::look(path)
    }

    fn keys(&self, path: &str, prefix: &str) -> Result<BTreeSet<String>, HostError> {
        snapshot::keys(path, prefix)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), HostError> {
        snapshot::rename(from, to)
    }

    fn restore(&self, from: &str, to: &str) -> Result<Snapshot, HostError> {
        snapshot::restore(from, to)
    }
}

impl At {
    /// What a member passes on to a leader that has just died is lost, and the member waits in vain: so it is asked again when there is
    /// another leader.
    async fn take_out(&self, at: &str, id: u64) -> Result<(), String> {
        let mut again = false;
        loop {
            let ask = self.call::<_, MembersReply>(at, "Cluster/MemberRemove", ById { id });
            match timeout(ELECTION, ask).await {
                Ok(Ok(_)) => return Ok(()),
                // It was heard the first time.
                Ok(Err(why)) if again && why.contains("member not found") => return Ok(()),
                Ok(Err(why)) if !is_of_an_election(&why) => return Err(why),
                Ok(Err(_)) | Err(_) => again = true,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn list(&self, at: &str, linearizable: bool) -> Result<Vec<Member>, String> {
        let said: MembersReply = self.call(at, "Cluster/MemberList", MembersRequest { linearizable }).await?;
        let member = |wire: WireMember| Member {
            id: wire.id,
            name: wire.name,
            peer_urls: wire.peer_urls,
            client_urls: wire.client_urls,
            learner: wire.learner,
        };
        Ok(said.members.into_iter().map(member).collect())
    }

    async fn call<Q, A>(&self, at: &str, method: &str, request: Q) -> Result<A, String>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path = PathAndQuery::try_from(format!("/etcdserverpb.{method}")).map_err(|error| error.to_string())?;
        let mut client = Grpc::new(self.dial(at).await?);
        client.ready().await.map_err(|error| chain(&error))?;
        let codec = ProstCodec::<Q, A>::default();
        let reply = client.unary(tonic::Request::new(request), path, codec).await;
        reply.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }

    /// One connection, for one call.
    async fn dial(&self, at: &str) -> Result<Channel, String> {
        let host = at.rsplit_once(':').map_or(at, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(self.config()?));
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
    fn config(&self) -> Result<ClientConfig, String> {
        let read = |file: &str| {
            let path = format!("{}/{file}", self.folder);
            std::fs::read(&path).map_err(|error| format!("{path}: {error}"))
        };
        let odd =
            |error: &dyn std::fmt::Display| format!("the certificates in {} cannot be used: {error}", self.folder);
        let mut roots = RootCertStore::empty();
        let [authority, certificate, key] = self.files;
        let authority = CertificateDer::from_pem_slice(&read(authority)?).map_err(|error| odd(&error))?;
        roots.add(authority).map_err(|error| odd(&error))?;
        let own = CertificateDer::from_pem_slice(&read(certificate)?).map_err(|error| odd(&error))?;
        let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| odd(&error))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| odd(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own], key)
            .map_err(|error| odd(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

async fn bounded<T>(
    at: &str,
    patience: Duration,
    work: impl Future<Output = Result<T, String>> + Send,
) -> Result<T, HostError> {
    let said = timeout(patience, work).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    said.map_err(|why| HostError::Etcd { at: at.to_owned(), why })
}

/// Whether a member refuses because it has no leader just now. Source: etcd 3.6, `api/v3rpc/rpctypes/error.go`.
fn is_of_an_election(why: &str) -> bool {
    ["no leader", "not leader", "leader changed", "request timed out"].iter().any(|words| why.contains(words))
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

const LOOK: Duration = Duration::from_secs(4);
/// A change is agreed on by all members, on slow disks too.
const CHANGE: Duration = Duration::from_secs(20);
/// Longer than the others take to miss a leader and to elect another one, and than a disk takes for a change.
const ELECTION: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    pub(super) use super::At;
    use super::*;
    use std::ffi::OsStr;

    /// One with its certificates in this folder, as kubeadm names them.
    pub(super) fn kubeadms(folder: &Path) -> At {
        At { folder: folder.to_str().unwrap().to_owned().into(), files: KUBEADMS.files }
    }

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
    fn an_election_is_no_refusal() {
        for words in ["no leader", "leader changed", "request timed out, possibly due to previous leader failure"] {
            assert!(is_of_an_election(&format!("etcdserver: {words}")), "{words}");
        }
        for words in
            ["member not found", "unhealthy cluster", "re-configuration failed due to not enough started members"]
        {
            assert!(!is_of_an_election(&format!("etcdserver: {words}")), "{words}");
        }
    }

    #[test]
    fn alarms_have_their_names() {
        let word = |kind| Alarm { member: 1, kind }.word();
        assert_eq!((word(1), word(2), word(9)), ("NOSPACE".into(), "CORRUPT".into(), "alarm 9".into()));
    }

    /// A real etcd of three: `GROUNDWORK_ETCD` names the program.
    #[tokio::test]
    async fn a_real_etcd_tells_its_members_and_lets_one_go() {
        let Some(program) = std::env::var_os("GROUNDWORK_ETCD") else {
            eprintln!("skipped: GROUNDWORK_ETCD names no etcd");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports();
        keys(folder.path());
        let mut three = three(&program, folder.path(), &ports);
        let etcd = kubeadms(folder.path());
        let at = |member: usize| format!("127.0.0.1:{}", ports[member]);
        let (first, third) = (at(0), at(2));
        knows_a_leader(&etcd, &first, true).await;
        let members = etcd.members(&first).await.unwrap();
        let mut names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["m0", "m1", "m2"]);
        assert!(members.iter().all(|member| !member.learner && member.client_urls.len() == 1), "{members:?}");
        assert_eq!(etcd.alarms(&first).await.unwrap(), []);

        three.0.truncate(2);
        assert!(etcd.standing(&third).await.unwrap_err().to_string().contains("refused"));
        // It may have led them, and the others take it for their leader until an election's time is over.
        let dead = members.iter().find(|member| member.name == "m2").unwrap();
        etcd.remove(&first, dead.id).await.unwrap();
        assert_eq!(etcd.members(&first).await.unwrap().len(), 2);
        assert!(etcd.remove(&first, dead.id).await.unwrap_err().to_string().contains("member not found"));

        // Without a quorum a member still tells what it knows, and that it has no leader.
        three.0.truncate(1);
        knows_a_leader(&etcd, &first, false).await;
        assert_eq!(etcd.members(&first).await.unwrap().len(), 2);
    }

    pub(super) async fn knows_a_leader(etcd: &At, at: &str, wanted: bool) {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while !etcd.standing(at).await.is_ok_and(|standing| standing.has_leader == wanted) {
            assert!(tokio::time::Instant::now() < until, "waited in vain for {at}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Members that end with the test.
    pub(super) struct Running(pub(super) Vec<Ended>);

    pub(super) struct Ended(std::process::Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    /// Three for clients, then three for members.
    pub(super) fn free_ports() -> Vec<u16> {
        let listeners: Vec<_> = (0..6).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
    }

    /// A CA and a certificate for everybody, named as kubeadm names them.
    #[expect(clippy::disallowed_methods, reason = "files of the test's own, which no power cut is to survive")]
    pub(super) fn keys(folder: &Path) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        for (name, text) in [
            ("ca.crt", ca.pem()),
            ("healthcheck-client.crt", own.pem()),
            ("healthcheck-client.key", key.serialize_pem()),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }

    pub(super) fn three(program: &OsStr, folder: &Path, ports: &[u16]) -> Running {
        let names: Vec<String> = (0..3).map(|at| format!("m{at}")).collect();
        let all: Vec<String> =
            names.iter().zip(&ports[3..]).map(|(name, port)| format!("{name}={}", url(*port))).collect();
        let data = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let start = |(at, name): (usize, &String)| {
            start(program, folder, (name, &data(name)), (ports[at], ports[at + 3], &all.join(",")))
        };
        Running(names.iter().enumerate().map(start).collect())
    }

    /// A cluster of one, on the first port of each kind.
    pub(super) fn single(program: &OsStr, folder: &Path, (name, data): (&str, &str), ports: &[u16]) -> Ended {
        start(program, folder, (name, data), (ports[0], ports[3], &format!("{name}={}", url(ports[3]))))
    }

    fn url(port: u16) -> String {
        format!("https://127.0.0.1:{port}")
    }

    #[expect(clippy::disallowed_methods, reason = "a program of the test's own, which no machine has")]
    fn start(
        program: &OsStr,
        folder: &Path,
        (name, data): (&str, &str),
        (client, peer, all): (u16, u16, &str),
    ) -> Ended {
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let (client, peer) = (url(client), url(peer));
        let (ca, certificate, key) = (path("ca.crt"), path("healthcheck-client.crt"), path("healthcheck-client.key"));
        let pairs = [
            ("name", name),
            ("data-dir", data),
            ("listen-client-urls", &client),
            ("advertise-client-urls", &client),
            ("listen-peer-urls", &peer),
            ("initial-advertise-peer-urls", &peer),
            ("initial-cluster", all),
            ("trusted-ca-file", &ca),
            ("cert-file", &certificate),
            ("key-file", &key),
            ("peer-trusted-ca-file", &ca),
            ("peer-cert-file", &certificate),
            ("peer-key-file", &key),
        ];
        let words = pairs.iter().map(|(flag, value)| format!("--{flag}={value}"));
        let words =
            words.chain(["--client-cert-auth", "--peer-client-cert-auth", "--log-level=error"].map(str::to_owned));
        Ended(std::process::Command::new(program).args(words).spawn().unwrap())
    }

    #[test]
    fn any_bytes_are_answered() {
        total::bytes("etcd-members", &[&[0x12, 0x02, 0x08, 0x01]], |bytes| {
            <MembersReply as prost::Message>::decode(bytes).map(|reply| reply.members.len()).ok()
        });
    }
}
