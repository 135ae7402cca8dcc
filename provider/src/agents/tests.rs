//! The provider's side against the real agent, in process, over loopback TLS.
#![expect(clippy::disallowed_methods, reason = "servers of a test end with its runtime")]

mod bare;
mod credentials;
mod restarts;
mod roles;
mod rotation;
mod stops;
mod updates;

use self::bare::Bare;
use super::dial::dial;
use super::machine::NodeSpec;
use super::program::Program;
use super::run::Report;
use super::{Agents, Authority, Endpoint, Error, Job, PendingEnrolment, SeedFor, Standing, Until, Wait, install, pki};
use agent_proto::v1::enrolment_client::EnrolmentClient;
use agent_proto::v1::{EnrollAccept, EnrollHello, EnrollRequest, enroll_request};
use groundwork_agent::about::About;
use groundwork_agent::anchors::Anchors;
use groundwork_agent::enrol::Trust;
use groundwork_agent::host::Host;
use groundwork_agent::identity::Machine;
use groundwork_agent::records::Records;
use groundwork_agent::run::Runner;
use groundwork_agent::server::{AgentService, serve};
use groundwork_agent::state::State;
use groundwork_agent::update::Trial;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trust::Role;

const UUID: &str = "11111111-2222-3333-4444-555555555555";

/// An operator with a CA.
struct Operator {
    agents: Agents,
    ca_pem: String,
    dir: tempfile::TempDir,
}

impl Operator {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init(dir.path()).unwrap();
        let authority = Authority::from_dir(dir.path()).unwrap();
        let ca_pem = authority.pem().to_owned();
        Self { agents: Agents::new(Some(authority)), ca_pem, dir }
    }

    fn authority(&self) -> &Authority {
        self.agents.authority().unwrap()
    }

    /// Writes a seed's secret into the machine's folder, as the seed's script does.
    fn seed(&self, machine: &Path, generation: u64) -> PendingEnrolment {
        let wanted = SeedFor { machine_uuid: UUID, generation, port: 7443, machine: None, allow_from: &[] };
        let (part, pending) = install::seed_of(&[Program::of("x86_64", b"agent")], self.authority(), &wanted).unwrap();
        let file = part.files.iter().find(|file| file.path == "groundwork/enrol.json").unwrap();
        State::open(machine).unwrap().write("enrol.json", std::str::from_utf8(&file.bytes).unwrap()).unwrap();
        pending
    }

    async fn enrol(&self, address: &str, pending: &PendingEnrolment) -> Result<Endpoint, Error> {
        let (stop, progress) = (CancellationToken::new(), |_: &str| {});
        let deadline = Instant::now() + Duration::from_millis(900);
        self.agents.enrol(&[address.to_owned()], pending, &Wait { deadline, stop: &stop, progress: &progress }).await
    }
}

/// Limits that no test reaches.
fn soon() -> Until {
    Until::new(Instant::now() + Duration::from_secs(60), &CancellationToken::new())
}

/// A running agent; gone when dropped.
struct Running {
    address: String,
    task: tokio::task::JoinHandle<()>,
    host: Arc<Bare>,
    runner: Runner,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn start(folder: &Path, operator: &Operator) -> Running {
    let host = Arc::new(Bare::letting(100));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (task, runner) =
        serving(folder, operator, Arc::clone(&host) as Arc<dyn Host>, (listener, About::default(), Trial::default()));
    Running { address, task, host, runner }
}

/// An agent at work, and its runs.
fn serving(
    folder: &Path,
    operator: &Operator,
    host: Arc<dyn Host>,
    (listener, about, trial): (TcpListener, About, Trial),
) -> (tokio::task::JoinHandle<()>, Runner) {
    let runner = Runner::new(host);
    let state = State::open(folder).unwrap();
    let anchors = anchors(folder, operator);
    let machine = Machine { uuid: UUID.to_owned(), id: "m".to_owned() };
    let trust = Arc::new(Trust::load(state.clone(), machine, anchors).unwrap());
    let records = Records::new(state.clone());
    let service = AgentService { trust: Arc::clone(&trust), records, state, runner: runner.clone(), about, trial };
    let task =
        tokio::spawn(
            async move { serve((listener, Vec::new()), trust, service, std::future::pending()).await.unwrap() },
        );
    (task, runner)
}

/// The CAs that the agent of this folder believes: the operator's, or those that it was told since.
fn anchors(folder: &Path, operator: &Operator) -> Anchors {
    let file = folder.join("ca.pem");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| operator.ca_pem.clone());
    Anchors::of_pem(&file, &text).unwrap()
}

/// An enrolled agent.
async fn enrolled(folder: &Path, operator: &Operator) -> (Running, Endpoint) {
    let pending = operator.seed(folder, 1);
    let agent = start(folder, operator).await;
    let endpoint = operator.enrol(&agent.address, &pending).await.unwrap();
    (agent, endpoint)
}

#[tokio::test]
async fn a_machine_is_enrolled_and_recognised_ever_after() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    let endpoint = operator.enrol(&agent.address, &pending).await.unwrap();
    assert_eq!(operator.agents.identify(&agent.address, UUID, &soon()).await.unwrap(), endpoint);

    drop(agent);
    let again = start(folder.path(), &operator).await;
    let endpoint = Endpoint { address: again.address.clone(), ..endpoint };
    let mut called = operator.agents.connect(&endpoint, Role::Operator, &soon()).await.unwrap();
    called.record("machine", "{}").await.unwrap();
    assert_eq!(called.describe().await.unwrap().records["machine"], "{}");
    assert!(!folder.path().join("enrol.json").exists(), "the secret is burnt");
}

/// Everything that both sides log in one thread.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_logged_even_at_trace() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    // With a single dispatcher, whoever meets a line first asks the one of its own thread whether to write it. Other tests have none.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    operator.enrol(&agent.address, &pending).await.unwrap();
    drop(guard);
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("enrolled"), "something was logged");
    let key = std::fs::read_to_string(folder.path().join("identity/key.pem")).unwrap();
    for secret in [pending.secret.to_base64().to_string(), key.lines().nth(1).unwrap().to_owned()] {
        assert!(!log.contains(&secret), "a secret is logged");
    }
}

#[tokio::test]
async fn an_enrolment_that_is_repeated_finds_the_same_machine() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    let first = operator.enrol(&agent.address, &pending).await.unwrap();
    assert_eq!(operator.enrol(&agent.address, &pending).await.unwrap(), first);
    let other = operator.agents.identify(&agent.address, "99999999-2222-3333-4444-555555555555", &soon()).await;
    assert!(matches!(other, Err(Error::OtherMachine { .. })), "{other:?}");
}

#[tokio::test]
async fn a_reissued_secret_replaces_the_one_that_was_lost() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let lost = operator.seed(folder.path(), 1);
    let pending = operator.seed(folder.path(), 2);
    let agent = start(folder.path(), &operator).await;
    let old = operator.enrol(&agent.address, &lost).await;
    let Err(Error::Deadline { last: Some(last), .. }) = old else { panic!("{old:?}") };
    assert!(matches!(*last, Error::NotEnrolled { .. }), "{last:?}");
    operator.enrol(&agent.address, &pending).await.unwrap();
}

#[tokio::test]
async fn before_the_enrolment_nothing_else_is_offered() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    let not_yet = operator.agents.identify(&agent.address, UUID, &soon()).await;
    assert!(matches!(not_yet, Err(Error::NotEnrolled { .. })), "{not_yet:?}");
    let dialled = dial(operator.authority(), Role::Admin, &agent.address, &soon()).await.unwrap();
    let endpoint = Endpoint { address: agent.address.clone(), fingerprint: dialled.pin().to_string() };
    let said = operator.agents.connect(&endpoint, Role::Admin, &soon()).await.unwrap().describe().await.unwrap_err();
    assert!(said.to_string().contains("not enrolled"), "{said}");
}

#[tokio::test]
async fn a_stranger_is_refused_in_the_handshake() {
    let (operator, stranger, folder) = (Operator::new(), Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    for enrolled in [false, true] {
        if enrolled {
            operator.enrol(&agent.address, &pending).await.unwrap();
        }
        let other = stranger.enrol(&agent.address, &pending).await;
        assert!(matches!(other, Err(Error::OtherAuthority { .. })), "{other:?}");
    }
}

#[tokio::test]
async fn wrong_proofs_lock_nobody_out() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    for _ in 0..12 {
        let refused = wrong_proof(&operator, &agent.address, &pending).await;
        assert!(refused.message().contains("does not hold"), "{refused:?}");
    }
    operator.enrol(&agent.address, &pending).await.unwrap();
}

/// Says Hello properly and answers the agent's proof with garbage.
async fn wrong_proof(operator: &Operator, address: &str, pending: &PendingEnrolment) -> tonic::Status {
    let dialled = dial(operator.authority(), Role::Admin, address, &soon()).await.unwrap();
    let hello =
        EnrollHello { enrolment_id: pending.id.clone(), provider_nonce: vec![1; trust::NONCE_LEN], provider_time: 0 };
    let accept = EnrollAccept { certificate: vec![1; 10], proof: vec![2; trust::PROOF_LEN], issuers: Vec::new() };
    let requests = [enroll_request::Message::Hello(hello), enroll_request::Message::Accept(accept)]
        .map(|message| EnrollRequest { message: Some(message) });
    let mut client = EnrolmentClient::new(dialled.channel);
    let mut replies = client.enroll(tokio_stream::iter(requests)).await.unwrap().into_inner();
    replies.message().await.unwrap();
    replies.message().await.unwrap_err()
}

#[tokio::test]
async fn a_relay_in_between_is_found_out_even_with_a_good_certificate() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    let relay = relay(&operator, &agent.address).await;
    let refused = operator.enrol(&relay, &pending).await;
    assert!(matches!(refused, Err(Error::NotProven { .. })), "{refused:?}");
    operator.enrol(&agent.address, &pending).await.unwrap();
}

/// Ends TLS on both sides and passes the bytes on. Its own client certificate is of the operator's CA.
async fn relay(operator: &Operator, agent: &str) -> String {
    let own = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let outward =
        tokio_rustls::TlsConnector::from(Arc::new(super::dial::config(operator.authority(), Role::Admin).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, agent) = (listener.local_addr().unwrap().to_string(), agent.to_owned());
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut inner = acceptor.accept(tcp).await.unwrap();
        let name = rustls::pki_types::ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let mut outer = outward.connect(name, TcpStream::connect(agent).await.unwrap()).await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut inner, &mut outer).await);
    });
    address
}

#[tokio::test]
async fn the_provider_refuses_an_agent_that_does_not_know_the_secret() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    let other = PendingEnrolment { secret: trust::Secret::generate(), ..pending };
    let refused = operator.enrol(&agent.address, &other).await;
    assert!(matches!(&refused, Err(Error::NotProven { why, .. }) if why.contains("relay")), "{refused:?}");
}

#[tokio::test]
async fn another_key_at_the_address_is_an_error_that_names_both() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    let endpoint = operator.enrol(&agent.address, &pending).await.unwrap();
    let rebuilt = Endpoint { fingerprint: trust::Pin::of(b"other").to_string(), ..endpoint.clone() };
    let said = operator.agents.connect(&rebuilt, Role::Observer, &soon()).await.err().unwrap();
    assert!(matches!(said, Error::OtherKey { .. }), "{said}");
    assert!(said.to_string().contains(&endpoint.fingerprint), "{said}");
}

#[tokio::test]
async fn roles_are_held_to_the_table() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let pending = operator.seed(folder.path(), 1);
    let agent = start(folder.path(), &operator).await;
    let endpoint = operator.enrol(&agent.address, &pending).await.unwrap();
    for (role, may_look, may_record) in
        [(Role::Backup, false, false), (Role::Observer, true, false), (Role::Operator, true, true)]
    {
        let mut called = operator.agents.connect(&endpoint, role, &soon()).await.unwrap();
        assert_eq!(called.describe().await.is_ok(), may_look, "{role:?}");
        assert_eq!(called.record("machine", "{}").await.is_ok(), may_record, "{role:?}");
    }
}

#[tokio::test]
async fn an_address_where_nobody_is_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let said = Operator::new().agents.identify(&address, UUID, &soon()).await.unwrap_err();
    assert!(said.is_unreachable(), "{said}");
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn a_machine_that_restarts_is_reached_and_one_that_is_gone_is_given_up() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    let (stop, progress) = (CancellationToken::new(), |_: &str| {});
    let wait = Wait { deadline: Instant::now() + Duration::from_secs(20), stop: &stop, progress: &progress };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let away = Endpoint { address: address.clone(), ..endpoint };
    let reach = |seconds| operator.agents.reach(&away, Role::Observer, &wait, Duration::from_secs(seconds));
    assert!(reach(0).await.err().unwrap().is_unreachable());
    let comes_back = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let listener = TcpListener::bind(&address).await.unwrap();
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(&agent.address).await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
    };
    tokio::select! {
        reached = reach(10) => drop(reached.unwrap()),
        () = comes_back => panic!("hung up"),
    }
    stop.cancel();
    assert!(matches!(reach(10).await, Err(Error::Stopped)));
}

async fn run(operator: &Operator, endpoint: &Endpoint, job: &Job) -> Result<Report, Error> {
    let (stop, progress) = (CancellationToken::new(), |_: &str| {});
    let deadline = Instant::now() + Duration::from_secs(20);
    operator.agents.run(endpoint, job, &Wait { deadline, stop: &stop, progress: &progress }).await
}

fn reset() -> Job {
    Job::Reset { cluster_id: String::new() }
}

#[tokio::test]
async fn a_clean_machine_is_told_as_clean_and_its_reset_changes_nothing() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (_agent, endpoint) = enrolled(folder.path(), &operator).await;
    let mut called = operator.agents.connect(&endpoint, Role::Observer, &soon()).await.unwrap();
    assert_eq!(called.cluster_status().await.unwrap().standing, Standing::Clean);
    let report = run(&operator, &endpoint, &reset()).await.unwrap();
    assert_eq!(report.changes, 0);
}

#[tokio::test]
async fn a_failed_run_says_where_it_stood() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (_agent, endpoint) = enrolled(folder.path(), &operator).await;
    let job = Job::NodeSet(super::NodeSettings { node_name: "worker-1".into(), ..Default::default() });
    let Err(Error::Run { failure, .. }) = run(&operator, &endpoint, &job).await else { panic!("must fail") };
    assert_eq!((failure.step.as_str(), failure.run_id.is_empty()), ("labels", false));
    assert!(failure.message.contains("no node worker-1"), "{}", failure.message);
}

#[tokio::test]
async fn a_second_caller_waits_for_the_first_run() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    agent.host.gate.forget_permits(100);
    let job = reset();
    let (first, second) = (run(&operator, &endpoint, &job), run(&operator, &endpoint, &job));
    let open = async {
        while agent.runner.current().is_none() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        agent.host.gate.add_permits(2);
    };
    let (first, second, ()) = tokio::join!(first, second, open);
    assert_ne!(first.unwrap().run_id, second.unwrap().run_id);
}

/// Passes bytes on, until told to cut what is open; new connections are then passed on again.
async fn wire(agent: &str) -> (String, Arc<tokio::sync::Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, agent) = (listener.local_addr().unwrap().to_string(), agent.to_owned());
    let cut = Arc::new(tokio::sync::Notify::new());
    let scissors = Arc::clone(&cut);
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(&agent).await.unwrap();
            let scissors = Arc::clone(&scissors);
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = scissors.notified() => {}
                }
            });
        }
    });
    (address, cut)
}

#[tokio::test]
async fn a_run_is_found_again_after_the_connection_broke() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    agent.host.gate.forget_permits(100);
    let (address, cut) = wire(&agent.address).await;
    let endpoint = Endpoint { address, ..endpoint };
    let trouble = async {
        while agent.runner.current().is_none() {
            tokio::task::yield_now().await;
        }
        let id = agent.runner.current().unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        cut.notify_waiters();
        tokio::time::sleep(Duration::from_millis(50)).await;
        agent.host.gate.add_permits(1);
        id
    };
    let job = reset();
    let (report, id) = tokio::join!(run(&operator, &endpoint, &job), trouble);
    assert_eq!(report.unwrap().run_id, id);
}

#[tokio::test]
async fn a_machine_that_stays_away_is_given_up_at_the_deadline() {
    let (operator, folder) = (Operator::new(), tempfile::tempdir().unwrap());
    let (agent, endpoint) = enrolled(folder.path(), &operator).await;
    drop(agent);
    let (stop, progress) = (CancellationToken::new(), |_: &str| {});
    let wait = Wait { deadline: Instant::now() + Duration::from_millis(200), stop: &stop, progress: &progress };
    let given_up = operator.agents.run(&endpoint, &reset(), &wait).await.unwrap_err();
    assert!(given_up.is_unreachable(), "{given_up}");
}
