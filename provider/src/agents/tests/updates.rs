//! Agents older and newer than the provider: updated, refused, taken back, used.

use super::*;
use crate::agents::Updates;
use crate::agents::program::Program;
use agent_proto::v1::machine::HostNames;
use groundwork_agent::host::{
    Access, BoxFuture, Command, Compared, HostError, Kind, Lines, Output, Probe, Runtime, Stat,
};
use groundwork_agent::update::{self, BIN};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{LazyLock, Mutex};
use std::time::SystemTime;
use tokio::sync::Notify;

/// A machine with files, whose agent is `agent VERSION` in a file, and whose systemd tells when it is to restart it.
#[derive(Default)]
struct Computer {
    files: Mutex<BTreeMap<String, Node>>,
    restart: Notify,
    /// Runs wait for it.
    busy: tokio::sync::RwLock<()>,
}

#[derive(Clone)]
enum Node {
    File(Vec<u8>),
    Link(String),
}

impl Computer {
    fn node(&self, path: &str) -> Option<Node> {
        self.files.lock().unwrap().get(path).cloned()
    }

    fn put(&self, path: &str, node: Node) {
        self.files.lock().unwrap().insert(path.to_owned(), node);
    }

    /// Where the program is that systemd would start, and its version.
    fn program(&self) -> (String, String) {
        let path = match self.node(BIN) {
            Some(Node::Link(to)) => to,
            _ => BIN.to_owned(),
        };
        let Some(Node::File(content)) = self.node(&path) else { panic!("{path} is no file") };
        let text = String::from_utf8(content).unwrap();
        (path, text.strip_prefix("agent ").unwrap().to_owned())
    }
}

impl Host for Computer {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(match self.node(path) {
            Some(Node::File(content)) => Some(content),
            _ => None,
        })
    }

    fn stat(&self, path: &str) -> Result<Option<Stat>, HostError> {
        let kind = self.node(path).map(|node| match node {
            Node::File(_) => Kind::File,
            Node::Link(to) => Kind::Link(to),
        });
        let (access, modified) = (Access { mode: 0o755, uid: 0, gid: 0 }, SystemTime::UNIX_EPOCH);
        Ok(kind.map(|kind| Stat { kind, access, modified }))
    }

    fn compare(&self, path: &str, content: &[u8]) -> Result<Option<Compared>, HostError> {
        let same = matches!(self.node(path), Some(Node::File(own)) if own == content);
        Ok(self.stat(path)?.map(|stat| Compared { stat, same }))
    }

    fn copy(&self, from: &str, to: &str, _: Access) -> Result<Option<Stat>, HostError> {
        if let Some(Node::File(content)) = self.node(from) {
            self.put(to, Node::File(content));
        }
        self.stat(from)
    }

    fn list(&self, _: &str) -> Result<Vec<String>, HostError> {
        Ok(Vec::new())
    }

    fn write(&self, path: &str, content: &[u8], _: Access) -> Result<(), HostError> {
        self.put(path, Node::File(content.to_owned()));
        Ok(())
    }

    fn link(&self, path: &str, to: &str) -> Result<(), HostError> {
        self.put(path, Node::Link(to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), HostError> {
        self.files.lock().unwrap().remove(path);
        Ok(())
    }

    fn poke(&self, _: &str, _: &str) -> Result<(), HostError> {
        Ok(())
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn probe(&self, _: &str) -> Result<Option<Probe>, HostError> {
        Ok(None)
    }

    fn run<'a>(&'a self, command: &'a Command, _: Lines<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
        if command.args.iter().any(|word| word == "restart") {
            self.restart.notify_one();
        }
        let stdout = match self.node(&command.program) {
            Some(Node::File(content)) => String::from_utf8_lossy(&content).replace("agent ", ""),
            _ => String::new(),
        };
        Box::pin(ready(Ok(Output { code: Some(0), stdout, ..Output::default() })))
    }

    fn settle<'a>(&'a self, _: Lines<'a>) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(async {
            drop(self.busy.read().await);
            Ok(())
        })
    }

    fn runtime<'a>(&'a self, socket: &'a str) -> BoxFuture<'a, Result<Runtime, HostError>> {
        let why = "there is none".to_owned();
        Box::pin(ready(Err(HostError::Runtime { socket: socket.to_owned(), why })))
    }
}

/// What this provider carries, for the machine that the tests run on.
static PROGRAMS: LazyLock<[Program; 1]> =
    LazyLock::new(|| [Program::of(std::env::consts::ARCH, concat!("agent ", env!("CARGO_PKG_VERSION")).as_bytes())]);
const OWN: &str = env!("CARGO_PKG_VERSION");

/// An enrolled agent of a version that systemd restarts when it is told to, as whatever then stands in its place.
struct Systemd {
    operator: Operator,
    endpoint: Endpoint,
    host: Arc<Computer>,
    life: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.life.abort();
    }
}

/// How an agent comes up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comes {
    Up,
    /// Never as the new version.
    Down,
}

impl Systemd {
    async fn with(version: &str, updates: Updates, comes: Comes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init(dir.path()).unwrap();
        let authority = Authority::from_dir(dir.path()).unwrap().with(updates);
        let ca_pem = authority.pem().to_owned();
        let operator = Operator { agents: Agents::new(Some(authority)), ca_pem, dir };
        let folder = tempfile::tempdir().unwrap();
        let pending = operator.seed(folder.path(), 1);
        let host = Arc::new(Computer::default());
        host.put(BIN, Node::File(format!("agent {version}").into_bytes()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let nowhere = tempfile::tempdir().unwrap();
        let same = Operator { agents: Agents::default(), ca_pem: operator.ca_pem.clone(), dir: nowhere };
        let at = folder.path().to_owned();
        let life = tokio::spawn(live(at, same, Arc::clone(&host), (listener, comes)));
        let endpoint = operator.enrol(&address, &pending).await.unwrap();
        Self { operator, endpoint, host, life, _folder: folder }
    }

    async fn apply(&self, spec: &NodeSpec) -> (Result<Report, Error>, String) {
        let (stop, said) = (CancellationToken::new(), Mutex::new(String::new()));
        let progress = |line: &str| said.lock().unwrap().push_str(&format!("{line}\n"));
        let wait = Wait { deadline: Instant::now() + Duration::from_secs(60), stop: &stop, progress: &progress };
        let done = self.operator.agents.run(&self.endpoint, &Job::Apply(Box::new(spec.clone())), &wait).await;
        (done, said.into_inner().unwrap())
    }
}

/// Starts the agent, and starts it again whenever systemd is asked to.
async fn live(
    folder: std::path::PathBuf,
    operator: Operator,
    host: Arc<Computer>,
    (listener, comes): (TcpListener, Comes),
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        let (path, version) = host.program();
        if comes == Comes::Down && version == OWN {
            // As the unit does: the fallback counts the starts, and takes the new one back.
            update::guard(&*host).await.unwrap();
            continue;
        }
        let here = match listener.take() {
            Some(listener) => listener,
            None => TcpListener::bind(address).await.unwrap(),
        };
        let trial = Trial::of(&*host, &path).unwrap();
        let (task, _) = serving(&folder, &operator, Arc::clone(&host) as Arc<dyn Host>, (here, about(&version), trial));
        host.restart.notified().await;
        // For the answer to get out.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        task.abort();
        drop(task.await);
    }
}

/// Of another version than this one, an agent does not know `host`.
fn about(version: &str) -> About {
    let mut about = About { version: version.to_owned(), ..About::default() };
    if version != OWN {
        about.fields.retain(|name| name != "host" && !name.starts_with("host."));
    }
    about
}

fn spec() -> NodeSpec {
    let host = [("192.0.2.9".to_owned(), HostNames { names: vec!["a".to_owned()] })].into();
    NodeSpec { host, ..NodeSpec::default() }
}

fn updates(allowed: bool) -> Updates {
    Updates { programs: &*PROGRAMS, ..Updates::new(allowed) }
}

#[tokio::test]
async fn an_older_agent_is_updated_before_anything_is_applied() {
    let systemd = Systemd::with("0.0.9", updates(true), Comes::Up).await;
    let agents = &systemd.operator.agents;
    let look = agents.inspect(&systemd.endpoint, &spec(), &soon()).await.unwrap();
    assert_eq!(look.missing.drift[0], "agent 0.0.9 cannot look at `host`; the next apply updates it first");
    assert_eq!(look.newer, None);

    let (done, said) = systemd.apply(&spec()).await;
    assert!(done.unwrap().changes > 0, "{said}");
    assert!(said.contains(&format!("updating its agent from 0.0.9 to {OWN}")), "{said}");
    assert!(said.contains(&format!("its agent is {OWN} now")), "{said}");
    assert_eq!(systemd.host.program().1, OWN);
    assert_eq!(update::failed(&*systemd.host).unwrap(), None);
    let look = agents.inspect(&systemd.endpoint, &spec(), &soon()).await.unwrap();
    assert!(!look.missing.drift.iter().any(|line| line.contains("cannot look")), "{:?}", look.missing);

    let (_, said) = systemd.apply(&spec()).await;
    assert!(!said.contains("updating"), "{said}");
}

#[tokio::test]
async fn an_older_agent_that_may_not_be_updated_is_left_alone() {
    let systemd = Systemd::with("0.0.9", updates(false), Comes::Up).await;
    let look = systemd.operator.agents.inspect(&systemd.endpoint, &spec(), &soon()).await.unwrap();
    assert!(look.missing.drift[0].contains("`agent_update = false` keeps it from being updated"), "{:?}", look.missing);
    let refused = systemd.apply(&spec()).await.0.unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("is 0.0.9") && said.contains(OWN) && said.ends_with("does not know host"), "{said}");
    let advice = crate::explain::agent("prepare machine a", &refused).to_string();
    assert!(advice.contains("Remove `agent_update = false`") && advice.contains("0.0.9"), "{advice}");
    assert_eq!(systemd.host.program().1, "0.0.9");
}

#[tokio::test]
async fn a_run_in_progress_ends_before_the_update() {
    let systemd = Systemd::with("0.0.9", updates(true), Comes::Up).await;
    let busy = systemd.host.busy.write().await;
    let mut other = systemd.operator.agents.connect(&systemd.endpoint, Role::Operator, &soon()).await.unwrap();
    let mut story = other.start(&Job::Apply(Box::default())).await.unwrap();
    story.next(std::future::pending()).await.unwrap().unwrap();
    let spec = spec();
    let mut apply = std::pin::pin!(systemd.apply(&spec));
    tokio::select! {
        _ = &mut apply => panic!("the other run is in progress"),
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
    }
    assert_eq!(systemd.host.program().1, "0.0.9");
    drop(busy);
    let (done, said) = apply.await;
    done.unwrap();
    assert!(said.contains("waiting for run"), "{said}");
    assert_eq!(systemd.host.program().1, OWN);
}

#[tokio::test]
async fn an_update_that_does_not_come_up_is_said_and_the_old_agent_goes_on() {
    let systemd = Systemd::with("0.0.9", updates(true), Comes::Down).await;
    for _ in 0..2 {
        let failed = systemd.apply(&spec()).await.0.unwrap_err();
        assert!(matches!(failed, Error::TakenBack { .. }), "{failed}");
        assert!(failed.to_string().contains("went back to 0.0.9: it was started 2 times"), "{failed}");
        assert_eq!(systemd.host.program().1, "0.0.9");
    }
    assert!(systemd.operator.agents.inspect(&systemd.endpoint, &spec(), &soon()).await.is_ok());
}

#[tokio::test]
async fn without_a_program_for_the_machine_nothing_is_applied() {
    let systemd = Systemd::with("0.0.9", Updates { programs: &[], ..Updates::new(true) }, Comes::Up).await;
    let failed = systemd.apply(&spec()).await.0.unwrap_err();
    assert!(failed.to_string().contains("carries no agent for"), "{failed}");
}

#[tokio::test]
async fn a_newer_agent_is_used_and_named() {
    let systemd = Systemd::with("99.0.0", updates(true), Comes::Up).await;
    let plain = NodeSpec { hostname: Some("a".to_owned()), ..NodeSpec::default() };
    let look = systemd.operator.agents.inspect(&systemd.endpoint, &plain, &soon()).await.unwrap();
    assert_eq!(look.newer.as_deref(), Some("99.0.0"));
    let (_, said) = systemd.apply(&plain).await;
    assert!(said.contains("its agent is 99.0.0, newer than this provider"), "{said}");
    assert_eq!(systemd.host.program().1, "99.0.0", "it is not taken back to an older version");
    // What it has given up is not asked of it.
    let failed = systemd.apply(&spec()).await.0.unwrap_err();
    assert!(matches!(failed, Error::NotKnown { .. }), "{failed}");
}

#[tokio::test]
async fn what_was_changed_on_the_way_is_not_taken_in() {
    let systemd = Systemd::with("0.0.9", updates(true), Comes::Up).await;
    let mut agent = systemd.operator.agents.connect(&systemd.endpoint, Role::Admin, &soon()).await.unwrap();
    let begin = |size| agent_proto::v1::UpdateBegin { version: OWN.to_owned(), sha256: "0".repeat(64), size };
    let refused = agent.send(begin(7), b"program".to_vec()).await.unwrap_err().to_string();
    assert!(refused.contains("0000 was announced"), "{refused}");
    let refused = agent.send(begin(1 << 30), b"program".to_vec()).await.unwrap_err().to_string();
    assert!(refused.contains("a program of 1073741824 bytes"), "{refused}");
    let mut operator = systemd.operator.agents.connect(&systemd.endpoint, Role::Operator, &soon()).await.unwrap();
    let refused = operator.send(begin(7), b"program".to_vec()).await.unwrap_err().to_string();
    assert!(refused.contains("the role operator may not call"), "{refused}");
    assert_eq!(systemd.host.program().1, "0.0.9");
}
