//! The service `Agent`: one short method per call.

use super::glance::{self, Glance};
use super::{configuration, k3s, manifests, snapshots, wire};
use crate::about::{self, About};
use crate::aside::aside;
use crate::chain::chain;
use crate::clone;
use crate::cluster::{self, Distribution};
use crate::door::Peer;
use crate::enrol::Trust;
use crate::facts;
use crate::first_boot;
use crate::host::Host;
use crate::reboot;
use crate::records::Records;
use crate::run::{self, Busy, Failure, Outcome, RunCx, Runner};
use crate::spec::Spec;
use crate::state::State;
use crate::uninstall;
use crate::update::{self, Trial};
use agent_proto::v1 as proto;
use agent_proto::v1::agent_server::Agent;
use agent_proto::v1::machine::NodeSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};
use trust::Role;

/// What the calls work with.
pub struct AgentService {
    /// Who the agent is.
    pub trust: Arc<Trust>,
    /// What providers stored.
    pub records: Records,
    /// The agent's own folder.
    pub state: State,
    /// The machine and what is done to it.
    pub runner: Runner,
    /// What it says of itself.
    pub about: About,
    /// Whether it still has to prove itself.
    pub trial: Trial,
}

type Events = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<proto::Event, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

impl AgentService {
    fn host(&self) -> &dyn Host {
        &**self.runner.host()
    }

    async fn first_boot(&self) -> proto::FirstBoot {
        let mut told = first_boot::look(self.host()).await;
        told.warnings.extend(clone::warning(self.host(), &self.state));
        wire::first_boot(told)
    }

    /// Starts a job; it goes on when the caller hangs up.
    fn start<J, F>(&self, kind: &str, job: J) -> Answer<Events>
    where
        J: FnOnce(RunCx) -> F,
        F: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        let id = self.runner.start(kind, |cx| aside(job(cx))).map_err(|Busy(id)| wire::busy(&id))?;
        self.story(&id, Some)
    }

    fn story(&self, id: &str, shown: fn(run::Event) -> Option<run::Event>) -> Answer<Events> {
        let story = self.runner.attach(id).ok_or_else(|| Status::not_found(format!("run {id} is not known")))?;
        let id = id.to_owned();
        Ok(Response::new(Box::pin(story.filter_map(move |event| Some(Ok(wire::event(&id, shown(event)?)))))))
    }

    /// What an observer is told of a plan.
    async fn glance(&self, spec: NodeSpec) -> Result<proto::PlanReply, Status> {
        let (host, records) = (Arc::clone(self.runner.host()), self.records.clone());
        let planned = aside(async move {
            let record = records.of(RECORD).map_err(internal)?;
            let glance = Glance::of(spec, record.as_deref());
            let spec = Spec::try_from(glance.spec.clone()).map_err(refused)?;
            let plan = run::plan(&*host, &spec).await.map_err(|error| Status::failed_precondition(said(&error)))?;
            Ok::<_, Status>((glance.of_plan(plan), glance.not_looked_at))
        });
        let (plan, not_looked_at) = planned.await?;
        Ok(wire::plan(plan, not_looked_at))
    }
}

#[tonic::async_trait]
impl Agent for AgentService {
    type ApplyStream = Events;
    type AttachStream = Events;
    type ClusterInitStream = Events;
    type ClusterJoinStream = Events;
    type ClusterResetStream = Events;
    type ClusterLeaveStream = Events;
    type ClusterUpgradeStream = Events;
    type NodeSetStream = Events;
    type NodeRemoveStream = Events;
    type ManifestApplyStream = Events;
    type ManifestRemoveStream = Events;
    type EtcdSnapshotTakeStream = Events;
    type EtcdSnapshotScheduleStream = Events;
    type CertificatesRenewStream = Events;
    type QuorumRecoverStream = Events;
    type ClusterConfigureStream = Events;

    async fn describe(&self, request: Request<proto::DescribeRequest>) -> Answer<proto::Description> {
        // Whoever is here has got through handshake and gate: the agent does its work.
        self.trial.passed(self.host()).await;
        let first_boot = if operates(&request) { Some(self.first_boot().await) } else { None };
        // A machine's record holds the contents of its files.
        let records = self.records.clone();
        let records = if operates(&request) {
            aside(async move { records.all() }).await.map_err(internal)?
        } else {
            BTreeMap::new()
        };
        let trust = Arc::clone(&self.trust);
        let key_since = aside(async move { trust.key_since() }).await;
        Ok(Response::new(proto::Description {
            version: self.about.version.clone(),
            fields: self.about.fields.iter().cloned().collect(),
            failed_update: update::failed(self.host()).map_err(internal)?.map(wire::failed_update),
            facts: Some(wire::facts(facts::read(self.host()).await)),
            records,
            run_id: self.runner.current().unwrap_or_default(),
            fingerprint: self.trust.pin().to_string(),
            key_since,
            first_boot,
            authorities: self.trust.anchors().now().iter().filter_map(pin).collect(),
        }))
    }

    async fn plan(&self, request: Request<proto::PlanRequest>) -> Answer<proto::PlanReply> {
        let operates = operates(&request);
        let spec = spec(request.into_inner().spec)?;
        if !operates {
            return self.glance(spec.given().clone()).await.map(Response::new);
        }
        let began = Instant::now();
        let host = Arc::clone(self.runner.host());
        let plan = aside(async move { run::plan(&*host, &spec).await }).await;
        let plan = plan.map_err(|error| Status::failed_precondition(said(&error)))?;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(changes = plan.changes.len(), elapsed_ms, "planned");
        Ok(Response::new(wire::plan(plan, Vec::new())))
    }

    async fn apply(&self, request: Request<proto::ApplyRequest>) -> Answer<Events> {
        let spec = spec(request.into_inner().spec)?;
        self.start("apply", |cx| run::apply(cx, spec))
    }

    async fn attach(&self, request: Request<proto::AttachRequest>) -> Answer<Events> {
        let shown: fn(run::Event) -> Option<run::Event> = if operates(&request) { Some } else { glance::event };
        self.story(&request.into_inner().run_id, shown)
    }

    async fn cancel(&self, request: Request<proto::CancelRequest>) -> Answer<proto::CancelReply> {
        self.runner.cancel(&request.into_inner().run_id);
        Ok(Response::new(proto::CancelReply {}))
    }

    async fn reboot(&self, request: Request<proto::RebootRequest>) -> Answer<proto::RebootReply> {
        // A request that is repeated ends one boot, not two.
        if !reboot::is_boot(self.host(), &request.into_inner().boot_id).map_err(internal)? {
            return Ok(Response::new(proto::RebootReply {}));
        }
        if let Some(id) = self.runner.current() {
            return Err(wire::busy(&id));
        }
        reboot::begin(self.host()).await.map_err(internal)?;
        Ok(Response::new(proto::RebootReply {}))
    }

    async fn uninstall(&self, _: Request<proto::UninstallRequest>) -> Answer<proto::UninstallReply> {
        if let Some(id) = self.runner.current() {
            return Err(wire::busy(&id));
        }
        uninstall::begin(self.host()).await.map_err(internal)?;
        Ok(Response::new(proto::UninstallReply {}))
    }

    async fn record(&self, request: Request<proto::RecordRequest>) -> Answer<proto::RecordReply> {
        let proto::RecordRequest { kind, document } = request.into_inner();
        let records = self.records.clone();
        aside(async move { records.store(&kind, &document) }).await.map_err(refused)?;
        Ok(Response::new(proto::RecordReply {}))
    }

    async fn update(&self, request: Request<Streaming<proto::UpdateRequest>>) -> Answer<proto::UpdateReply> {
        super::update::take(&self.runner, request.into_inner()).await?;
        Ok(Response::new(proto::UpdateReply {}))
    }

    async fn replace_authorities(
        &self,
        request: Request<proto::ReplaceAuthoritiesRequest>,
    ) -> Answer<proto::ReplaceAuthoritiesReply> {
        let caller = request.extensions().get::<Peer>().map(|peer| Arc::clone(&peer.chain)).unwrap_or_default();
        let (trust, certificates) = (Arc::clone(&self.trust), request.into_inner().certificates);
        aside(async move { trust.believe(&certificates, &caller) }).await?;
        Ok(Response::new(proto::ReplaceAuthoritiesReply {}))
    }

    async fn next_key(&self, _: Request<proto::NextKeyRequest>) -> Answer<proto::NextKeyReply> {
        let trust = Arc::clone(&self.trust);
        let public_key = aside(async move { trust.next_key() }).await?;
        Ok(Response::new(proto::NextKeyReply { public_key }))
    }

    async fn replace_certificate(
        &self,
        request: Request<proto::ReplaceCertificateRequest>,
    ) -> Answer<proto::ReplaceCertificateReply> {
        let proto::ReplaceCertificateRequest { certificate, issuers } = request.into_inner();
        let trust = Arc::clone(&self.trust);
        aside(async move { trust.certify(&certificate, &issuers) }).await?;
        Ok(Response::new(proto::ReplaceCertificateReply {}))
    }

    async fn cluster_status(&self, _: Request<proto::ClusterStatusRequest>) -> Answer<proto::ClusterStatusReply> {
        let status = cluster::status(self.host(), &self.state).await.map_err(internal)?;
        Ok(Response::new(wire::cluster_status(status)))
    }

    async fn cluster_found(&self, _: Request<proto::ClusterFoundRequest>) -> Answer<proto::ClusterFoundReply> {
        let found = cluster::look_at_found(self.host()).await.map_err(refused)?;
        Ok(Response::new(wire::found(found)))
    }

    async fn cluster_adopt(&self, request: Request<proto::ClusterAdoptRequest>) -> Answer<proto::ClusterAdoptReply> {
        if let Some(id) = self.runner.current() {
            return Err(wire::busy(&id));
        }
        cluster::adopt(self.host(), &self.state, &request.into_inner().cluster_id).map_err(refused)?;
        Ok(Response::new(proto::ClusterAdoptReply {}))
    }

    async fn cluster_init(&self, request: Request<proto::ClusterInitRequest>) -> Answer<Events> {
        let (mut request, state) = (request.into_inner(), self.state.clone());
        let object = snapshots::object(&mut request).map_err(Status::invalid_argument)?;
        match Distribution::parse(&request.distribution).map_err(Status::invalid_argument)? {
            Distribution::Kubeadm => {
                let plan = wire::init_plan(request).map_err(Status::invalid_argument)?;
                let init = |cx, state| cluster::init(cx, state, plan);
                self.start("cluster init", |cx| cluster::with_object(cx, state, object, init))
            }
            Distribution::K3s(own) => {
                let plan = k3s::server_plan(own, request).map_err(Status::invalid_argument)?;
                let init = |cx, state| cluster::k3s::init(cx, state, plan);
                self.start("cluster init", |cx| cluster::with_object(cx, state, object, init))
            }
        }
    }

    async fn join_material(&self, request: Request<proto::JoinMaterialRequest>) -> Answer<proto::JoinMaterialReply> {
        let proto::JoinMaterialRequest { ttl_s, control_plane } = request.into_inner();
        let (ttl, joiner) = (wire::ttl(ttl_s).map_err(Status::invalid_argument)?, wire::joiner(control_plane));
        let cluster::JoinMaterial { endpoint, token, ca_hash, certificate_key, lasting } =
            cluster::join_material(self.host(), ttl, joiner).await.map_err(refused)?;
        Ok(Response::new(proto::JoinMaterialReply { endpoint, token, ca_hash, certificate_key, lasting }))
    }

    async fn join_ended(&self, request: Request<proto::JoinEndedRequest>) -> Answer<proto::JoinEndedReply> {
        let proto::JoinEndedRequest { token_id, control_plane } = request.into_inner();
        cluster::join_ended(self.host(), &token_id, wire::joiner(control_plane)).await.map_err(refused)?;
        Ok(Response::new(proto::JoinEndedReply {}))
    }

    async fn cluster_join(&self, request: Request<proto::ClusterJoinRequest>) -> Answer<Events> {
        let (request, state) = (request.into_inner(), self.state.clone());
        match Distribution::parse(&request.distribution).map_err(Status::invalid_argument)? {
            Distribution::Kubeadm => {
                let plan = wire::join_plan(request).map_err(Status::invalid_argument)?;
                self.start("cluster join", |cx| cluster::join(cx, state, plan))
            }
            Distribution::K3s(own) if request.control_plane.is_some() => {
                let plan = k3s::further_plan(own, request).map_err(Status::invalid_argument)?;
                self.start("cluster join", |cx| cluster::k3s::join_server(cx, state, plan))
            }
            Distribution::K3s(own) => {
                let plan = k3s::agent_plan(own, request).map_err(Status::invalid_argument)?;
                self.start("cluster join", |cx| cluster::k3s::join(cx, state, plan))
            }
        }
    }

    async fn cluster_reset(&self, request: Request<proto::ClusterResetRequest>) -> Answer<Events> {
        let cluster_id = request.into_inner().cluster_id;
        let (state, records) = (self.state.clone(), self.records.clone());
        self.start("cluster reset", |cx| async move {
            let outcome = cluster::reset(cx, state, cluster_id).await?;
            forget_cluster(&records)?;
            Ok(outcome)
        })
    }

    async fn cluster_leave(&self, request: Request<proto::ClusterLeaveRequest>) -> Answer<Events> {
        let drain = wire::drain(request.into_inner().drain_timeout_s);
        let (state, records) = (self.state.clone(), self.records.clone());
        self.start("cluster leave", |cx| async move {
            let outcome = cluster::leave(cx, state, drain).await?;
            forget_cluster(&records)?;
            Ok(outcome)
        })
    }

    async fn cluster_upgrade(&self, request: Request<proto::ClusterUpgradeRequest>) -> Answer<Events> {
        let (request, state) = (request.into_inner(), self.state.clone());
        if request.k3s.is_some() {
            let plan = k3s::upgrade_plan(request).map_err(Status::invalid_argument)?;
            return self.start("cluster upgrade", |cx| cluster::k3s::upgrade(cx, state, plan));
        }
        let plan = wire::upgrade_plan(request).map_err(Status::invalid_argument)?;
        self.start("cluster upgrade", |cx| cluster::upgrade(cx, state, plan))
    }

    async fn upgrade_offer(&self, request: Request<proto::UpgradeOfferRequest>) -> Answer<proto::UpgradeOfferReply> {
        let minor = wire::minor(&request.into_inner().minor).map_err(Status::invalid_argument)?;
        if let Some(id) = self.runner.current() {
            return Err(wire::busy(&id));
        }
        let newest = cluster::newest(self.host(), minor).await.map_err(refused)?;
        let version = newest.map(|version| version.to_string().trim_start_matches('v').to_owned());
        Ok(Response::new(proto::UpgradeOfferReply { version: version.unwrap_or_default() }))
    }

    async fn cluster_leftovers(
        &self,
        _: Request<proto::ClusterLeftoversRequest>,
    ) -> Answer<proto::ClusterLeftoversReply> {
        let found = cluster::leftovers(self.host()).await.map_err(refused)?;
        Ok(Response::new(wire::leftovers(found)))
    }

    async fn node_set(&self, request: Request<proto::NodeSetRequest>) -> Answer<Events> {
        let settings = wire::node_settings(request.into_inner()).map_err(Status::invalid_argument)?;
        let state = self.state.clone();
        self.start("node set", |cx| cluster::set(cx, state, settings))
    }

    async fn node_remove(&self, request: Request<proto::NodeRemoveRequest>) -> Answer<Events> {
        let (name, drain) = wire::node_remove(request.into_inner()).map_err(Status::invalid_argument)?;
        let state = self.state.clone();
        self.start("node remove", |cx| cluster::remove(cx, state, name, drain))
    }

    async fn manifest_apply(&self, request: Request<proto::ManifestApplyRequest>) -> Answer<Events> {
        let plan = manifests::plan(request.into_inner()).map_err(Status::invalid_argument)?;
        let state = self.state.clone();
        self.start("manifest apply", |cx| cluster::apply_manifest(cx, state, plan))
    }

    async fn manifest_remove(&self, request: Request<proto::ManifestRemoveRequest>) -> Answer<Events> {
        let plan = manifests::removal(request.into_inner()).map_err(Status::invalid_argument)?;
        let state = self.state.clone();
        self.start("manifest remove", |cx| cluster::remove_manifest(cx, state, plan))
    }

    async fn manifest_status(
        &self,
        request: Request<proto::ManifestStatusRequest>,
    ) -> Answer<proto::ManifestStatusReply> {
        let found = cluster::manifests(self.host(), &request.into_inner().names).await.map_err(refused)?;
        Ok(Response::new(manifests::status(found)))
    }

    async fn kubeconfig(&self, _: Request<proto::KubeconfigRequest>) -> Answer<proto::KubeconfigReply> {
        let cluster::Kubeconfig { text, ca_certificate, endpoint } =
            cluster::kubeconfig(self.host()).map_err(refused)?;
        Ok(Response::new(proto::KubeconfigReply { kubeconfig: text, ca_certificate, endpoint }))
    }

    async fn cluster_credential(
        &self,
        request: Request<proto::ClusterCredentialRequest>,
    ) -> Answer<proto::ClusterCredentialReply> {
        let plan = wire::access_plan(request.into_inner()).map_err(Status::invalid_argument)?;
        let host = Arc::clone(self.runner.host());
        // An RSA key takes its time to sign.
        let access = aside(async move { cluster::credential(&*host, &plan) }).await.map_err(refused)?;
        Ok(Response::new(wire::access(access)))
    }

    async fn etcd_snapshot_take(&self, request: Request<proto::EtcdSnapshotTakeRequest>) -> Answer<Events> {
        let plan = snapshots::plan(request.into_inner()).map_err(Status::invalid_argument)?;
        let state = self.state.clone();
        self.start("etcd snapshot", |cx| cluster::take_snapshot(cx, state, plan))
    }

    async fn etcd_snapshot_keep(
        &self,
        request: Request<proto::EtcdSnapshotKeepRequest>,
    ) -> Answer<proto::EtcdSnapshotKeepReply> {
        let path = snapshots::path(request.into_inner().path).map_err(Status::invalid_argument)?;
        if let Some(id) = self.runner.current() {
            return Err(wire::busy(&id));
        }
        let kept = cluster::keep(self.host(), &path).map_err(refused)?;
        Ok(Response::new(proto::EtcdSnapshotKeepReply { snapshot: Some(snapshots::snapshot(kept)) }))
    }

    async fn etcd_snapshot_status(
        &self,
        request: Request<proto::EtcdSnapshotStatusRequest>,
    ) -> Answer<proto::EtcdSnapshotStatusReply> {
        let path = snapshots::path(request.into_inner().path).map_err(Status::invalid_argument)?;
        let found = cluster::look_at_snapshot(self.host(), &path).map_err(refused)?;
        Ok(Response::new(proto::EtcdSnapshotStatusReply { snapshot: found.map(snapshots::snapshot) }))
    }

    async fn etcd_snapshot_remove(
        &self,
        request: Request<proto::EtcdSnapshotRemoveRequest>,
    ) -> Answer<proto::EtcdSnapshotRemoveReply> {
        let proto::EtcdSnapshotRemoveRequest { path, sha256 } = request.into_inner();
        let path = snapshots::path(path).map_err(Status::invalid_argument)?;
        cluster::discard(self.host(), &path, &sha256).map_err(refused)?;
        Ok(Response::new(proto::EtcdSnapshotRemoveReply {}))
    }

    async fn etcd_snapshot_schedule(&self, request: Request<proto::EtcdSnapshotScheduleRequest>) -> Answer<Events> {
        let (cluster_id, wanted) = snapshots::schedule(request.into_inner()).map_err(Status::invalid_argument)?;
        let state = self.state.clone();
        self.start("etcd snapshot schedule", |cx| cluster::schedule(cx, state, cluster_id, wanted))
    }

    async fn cluster_config_status(
        &self,
        request: Request<proto::ClusterConfigStatusRequest>,
    ) -> Answer<proto::ClusterConfigStatusReply> {
        let declared = configuration::declared(request.into_inner()).map_err(Status::invalid_argument)?;
        let found = cluster::look_at_configuration(self.host(), &declared).await.map_err(refused)?;
        Ok(Response::new(configuration::differences(found)))
    }

    async fn cluster_configure(&self, request: Request<proto::ClusterConfigureRequest>) -> Answer<Events> {
        let plan = configuration::plan(request.into_inner()).map_err(Status::invalid_argument)?;
        let state = self.state.clone();
        self.start("cluster configure", |cx| cluster::configure(cx, state, plan))
    }

    async fn certificates_renew(&self, request: Request<proto::CertificatesRenewRequest>) -> Answer<Events> {
        let plan = snapshots::renewal(request.into_inner()).map_err(Status::invalid_argument)?;
        let state = self.state.clone();
        self.start("certificates renew", |cx| cluster::renew(cx, state, plan))
    }

    async fn quorum_recover(&self, request: Request<proto::QuorumRecoverRequest>) -> Answer<Events> {
        let plan = snapshots::quorum(request.into_inner()).map_err(Status::invalid_argument)?;
        let state = self.state.clone();
        self.start("quorum recovery", |cx| cluster::recover_quorum(cx, state, plan))
    }
}

/// Whether the caller may change the machine, and so may see and run all that a change may.
fn operates<T>(request: &Request<T>) -> bool {
    request.extensions().get::<Peer>().is_some_and(|peer| peer.role.includes(Role::Operator))
}

fn pin(certificate: &rustls::pki_types::CertificateDer<'static>) -> Option<String> {
    trust::key_of(certificate).ok().map(|key| trust::Pin::of(&key).to_string())
}

/// What a provider stored of a cluster is of no use when the machine has left it.
fn forget_cluster(records: &Records) -> Result<(), Failure> {
    let forgotten = records.store("cluster", "");
    forgotten.map_err(|error| Failure { message: chain(&error), ..Failure::default() })
}

fn spec(message: Option<NodeSpec>) -> Result<Spec, Status> {
    let message = message.ok_or_else(|| Status::invalid_argument("spec is missing"))?;
    Spec::try_from(about::read(message)).map_err(refused)
}

fn internal(error: impl std::error::Error) -> Status {
    Status::internal(said(&error))
}

fn refused(error: impl std::error::Error) -> Status {
    Status::invalid_argument(said(&error))
}

/// It repeats what was sent or found, and is a header of HTTP: a client takes in only short ones.
pub(super) fn said(error: &dyn std::error::Error) -> String {
    plain::short(&plain::text(&chain(error)), 4_000).into_owned()
}

/// Kind of the record that tells what was last applied to the machine.
const RECORD: &str = "machine";
