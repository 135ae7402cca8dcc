//! Servers and agents of K3s on an imitated machine: from clean to node and back, and from every cut in between.

mod imitation;
mod recovery;
mod rke2;
mod several;
mod upgrade;

use self::imitation::{Machine, Moment};
use super::{AgentPlan, K3S, Release, ServerPlan, Source, Variant, init, join};
use crate::cluster::status::cluster_id_of;
use crate::cluster::{
    AccessPlan, Joiner, Standing, credential, join_ended, join_material, kubeconfig, leave, reset, status,
};
use crate::host::Host;
use crate::run::{Failure, Outcome, RunCx, Runner, What};
use crate::state::State;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::StreamExt as _;

/// A machine, its agent's folder, and the story of the last run.
struct Scene {
    machine: Arc<Machine>,
    runner: Runner,
    folder: tempfile::TempDir,
    story: Vec<What>,
}

impl Scene {
    fn new() -> Self {
        Self::on(Machine::new())
    }

    fn on(machine: Machine) -> Self {
        let machine = Arc::new(machine);
        let runner = Runner::new(Arc::clone(&machine) as Arc<dyn Host>);
        Self { machine, runner, folder: tempfile::tempdir().unwrap(), story: Vec::new() }
    }

    fn state(&self) -> State {
        State::open(self.folder.path()).unwrap()
    }

    async fn run<J, F>(&mut self, job: J) -> Result<Outcome, Failure>
    where
        J: FnOnce(RunCx) -> F,
        F: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        let id = self.runner.start("test", job).unwrap();
        self.story = self.runner.attach(&id).unwrap().map(|event| event.what).collect().await;
        match self.story.pop().unwrap() {
            What::Finished(outcome) => Ok(outcome),
            What::Failed(failure) => Err(failure),
            other => panic!("{other:?} is no end"),
        }
    }

    async fn init(&mut self) -> Result<Outcome, Failure> {
        self.init_with(server()).await
    }

    async fn init_with(&mut self, plan: ServerPlan) -> Result<Outcome, Failure> {
        let state = self.state();
        self.run(|cx| init(cx, state, plan)).await
    }

    async fn join(&mut self) -> Result<Outcome, Failure> {
        let plan = self.agent();
        self.join_with(plan).await
    }

    async fn join_with(&mut self, plan: AgentPlan) -> Result<Outcome, Failure> {
        let state = self.state();
        self.run(|cx| join(cx, state, plan)).await
    }

    async fn reset(&mut self) -> Result<Outcome, Failure> {
        let cluster_id = self.cluster_id();
        self.reset_for(&cluster_id).await
    }

    async fn reset_for(&mut self, cluster_id: &str) -> Result<Outcome, Failure> {
        let (state, cluster_id) = (self.state(), cluster_id.to_owned());
        self.run(|cx| reset(cx, state, cluster_id)).await
    }

    async fn leave(&mut self) -> Result<Outcome, Failure> {
        let state = self.state();
        self.run(|cx| leave(cx, state, Duration::from_secs(60))).await
    }

    fn agent(&self) -> AgentPlan {
        AgentPlan {
            release: release_of(self.machine.own),
            node_name: "worker-1".into(),
            address: Some("10.99.0.11".into()),
            endpoint: "10.99.0.1:6443".into(),
            token: self.machine.token(),
            ca_hash: self.cluster_id(),
            near: vec!["10.42.0.0/16".into()],
            overlay: serde_json::Map::new(),
        }
    }

    fn cluster_id(&self) -> String {
        cluster_id_of(self.machine.authority.as_bytes()).unwrap()
    }

    async fn standing(&self) -> Standing {
        status(&*self.machine, &self.state()).await.unwrap().evidence.standing
    }

    fn told(&self) -> String {
        self.story.iter().map(|what| format!("{what:?}\n")).collect()
    }
}

fn release() -> Release {
    release_of(&K3S)
}

fn release_of(own: &'static Variant) -> Release {
    let program = Source { url: "https://example.org/k3s".into(), sha256: imitation::sum("a program") };
    Release { own, version: imitation::of_variant(own, "v1.34.3+k3s1"), program, images: None }
}

fn server() -> ServerPlan {
    server_of(&K3S)
}

fn server_of(own: &'static Variant) -> ServerPlan {
    ServerPlan {
        release: release_of(own),
        node_name: "cp-1".into(),
        address: Some("10.99.0.11".into()),
        ..ServerPlan::default()
    }
}

fn settings(json: &str) -> agent_proto::overlay::Fragment {
    serde_json::from_str(json).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_clean_machine_becomes_a_server_once_and_is_clean_again() {
    let mut scene = Scene::new();
    scene.machine.put("/etc/rancher/k3s/registries.yaml", "mirrors: {}\n");
    scene.machine.put("/var/lib/rancher/k3s/agent/images/own.tar", "of the user");
    scene.machine.put("/usr/local/bin/crictl", "the user's own");
    let before = scene.machine.files();
    assert_eq!(scene.init().await.unwrap().changes, 2);
    assert_eq!(scene.standing().await, Standing::ControlPlane);
    let config: serde_json::Value = serde_json::from_str(&scene.machine.text("/etc/rancher/k3s/config.yaml")).unwrap();
    assert_eq!(config["cluster-init"], true);
    assert_eq!(
        (config["node-ip"].as_str(), config.get("server"), config.get("token")),
        (Some("10.99.0.11"), None, None)
    );
    assert_eq!(scene.init().await.unwrap().changes, 0);
    let told = status(&*scene.machine, &scene.state()).await.unwrap();
    assert_eq!((told.version.as_str(), told.evidence.kubelet.as_str()), ("v1.34.3+k3s1", "active"));
    assert_eq!(scene.reset().await.unwrap().changes, 1);
    assert_eq!(scene.standing().await, Standing::Clean);
    assert_eq!(scene.machine.files(), before, "what the user put there stays");
    assert_eq!(scene.reset().await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_cut_off_at_any_moment_is_begun_anew_or_taken_away() {
    for moment in 0..Moment::SERVER {
        for away in [false, true] {
            let mut scene = Scene::new();
            scene.machine.dies_after(Some(moment));
            scene.init().await.unwrap_err();
            scene.machine.dies_after(None);
            if away {
                scene.reset_for("").await.unwrap();
                assert_eq!(scene.standing().await, Standing::Clean, "after {moment} writes");
            }
            scene.init().await.unwrap_or_else(|failure| panic!("after {moment} writes: {failure:?}"));
            assert_eq!(scene.standing().await, Standing::ControlPlane, "after {moment} writes");
            assert_eq!(scene.init().await.unwrap().changes, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_cut_off_at_any_moment_is_begun_anew() {
    for moment in 0..Moment::AGENT {
        let mut scene = Scene::new();
        scene.machine.dies_after(Some(moment));
        scene.join().await.unwrap_err();
        scene.machine.dies_after(None);
        scene.join().await.unwrap_or_else(|failure| panic!("after {moment} writes: {failure:?}"));
        assert_eq!(scene.standing().await, Standing::Worker, "after {moment} writes");
        assert_eq!(scene.join().await.unwrap().changes, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_made_is_left_alone() {
    let mut scene = Scene::new();
    scene.machine.put("/etc/rancher/k3s/config.yaml", "cluster-init: true\n");
    scene.machine.put("/var/lib/rancher/k3s/server/db/etcd/name", "cp-1-0123abcd");
    for failure in [scene.init().await.unwrap_err(), scene.join().await.unwrap_err(), scene.reset().await.unwrap_err()]
    {
        assert_eq!(failure.step, "ownership", "{failure:?}");
        assert!(failure.message.contains("/etc/rancher/k3s/config.yaml"), "{failure:?}");
    }
    let mut scene = Scene::new();
    scene.machine.put("/etc/kubernetes/admin.conf", "");
    assert_eq!(scene.init().await.unwrap_err().step, "ownership");
    // Begun, and killed before anything was made; then somebody else makes a cluster.
    let mut scene = Scene::new();
    scene.machine.dies_after(Some(1));
    scene.init().await.unwrap_err();
    scene.machine.dies_after(None);
    scene.machine.put("/etc/rancher/k3s/config.yaml", "cluster-init: true\n");
    assert_eq!(scene.init().await.unwrap_err().step, "ownership");
    assert_eq!(scene.reset_for("").await.unwrap_err().step, "ownership");
}

#[tokio::test(start_paused = true)]
async fn what_has_another_sum_or_version_is_never_run() {
    let mut scene = Scene::new();
    scene.machine.offers("another program");
    let failure = scene.init().await.unwrap_err();
    assert!(failure.message.contains("`k3s.checksum`"), "{failure:?}");
    assert!(!scene.machine.commands().iter().any(|line| line.starts_with("/usr/local/bin/k3s")));
    assert!(scene.machine.text("/usr/local/bin/k3s").is_empty());
    let mut scene = Scene::new();
    let mut plan = server();
    plan.release.version = "v1.34.4+k3s1".into();
    let failure = scene.init_with(plan).await.unwrap_err();
    assert!(failure.message.contains("`k3s.url` gives K3s v1.34.3+k3s1"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn images_are_put_where_k3s_takes_them_in() {
    let mut scene = Scene::new();
    let images = Source { url: "https://example.org/images.tar.zst?raw=1".into(), sha256: imitation::sum("a program") };
    let plan = ServerPlan { release: Release { images: Some(images), ..release() }, ..server() };
    scene.init_with(plan).await.unwrap();
    assert!(!scene.machine.text("/var/lib/rancher/k3s/agent/images/groundwork-images.tar.zst").is_empty());
    scene.reset().await.unwrap();
    assert!(scene.machine.text("/var/lib/rancher/k3s/agent/images/groundwork-images.tar.zst").is_empty());
}

#[tokio::test(start_paused = true)]
async fn settings_are_merged_and_unknown_ones_refused() {
    let mut scene = Scene::new();
    let overlay = settings(r#"{"disable":["traefik"],"kubelet-arg+":["max-pods=50"],"no-such-key":1}"#);
    let failure = scene.init_with(ServerPlan { overlay, ..server() }).await.unwrap_err();
    assert_eq!(failure.step, "config");
    assert!(failure.message.contains("config.server") && failure.message.contains("no-such-key"), "{failure:?}");
    let overlay = settings(r#"{"disable":["traefik","servicelb"]}"#);
    scene.init_with(ServerPlan { overlay, ..server() }).await.unwrap();
    assert!(scene.machine.text("/etc/rancher/k3s/config.yaml").contains("servicelb"));
    let mut scene = Scene::new();
    let plan = AgentPlan { overlay: settings(r#"{"disable":["traefik"]}"#), ..scene.agent() };
    let failure = scene.join_with(plan).await.unwrap_err();
    assert!(failure.message.contains("config.agent"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_for_one_join_and_shown_to_nobody() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let material = join_material(&*scene.machine, Duration::from_secs(600), Joiner::Worker).await.unwrap();
    assert_eq!((material.endpoint.as_str(), material.ca_hash), ("10.99.0.11:6443", scene.cluster_id()));
    assert!(!material.lasting);
    join_ended(&*scene.machine, "aaaaaa", Joiner::Worker).await.unwrap();
    assert!(scene.machine.commands().iter().any(|line| line.contains("delete secret bootstrap-token-aaaaaa")));

    let mut scene = Scene::new();
    scene.join().await.unwrap();
    let secret = scene.machine.token();
    let config = scene.machine.text("/etc/rancher/k3s/config.yaml");
    assert!(config.contains("token-file") && !config.contains(&secret), "{config}");
    assert!(!scene.machine.commands().concat().contains(&secret) && !scene.told().contains(&secret));
    let units = scene.machine.text("/etc/systemd/system/k3s-agent.service");
    assert!(!units.contains(&secret) && units.contains("k3s agent"), "{units}");
    for bare in ["", "SECRET", "K10::server:SECRET"] {
        let mut scene = Scene::new();
        let failure = scene.join_with(AgentPlan { token: bare.into(), ..scene.agent() }).await.unwrap_err();
        assert!(failure.message.contains("which CA"), "{failure:?}");
        assert!(scene.machine.text("/etc/systemd/system/k3s-agent.service").is_empty(), "nothing was begun");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_tries_for_ever_is_stopped_and_its_reason_told() {
    for (journal, words) in [
        (include_str!("recorded/agent-wrong-ca-hash.txt"), "Another cluster answers"),
        (include_str!("recorded/agent-expired-token.txt"), "The token was not taken"),
        (include_str!("recorded/agent-duplicate-name.txt"), "kubectl delete node"),
        (include_str!("recorded/agent-unreachable.txt"), "failed to get CA certs"),
    ] {
        let mut scene = Scene::new();
        scene.machine.never_runs(journal);
        let failure = scene.join().await.unwrap_err();
        assert!(failure.message.contains(words), "{failure:?}");
        assert!(
            scene
                .machine
                .commands()
                .iter()
                .any(|line| line.contains("kill --kill-who=main --signal=KILL -- k3s-agent.service"))
        );
        assert!(!scene.machine.runs());
        assert_eq!(scene.standing().await, Standing::Partial);
        scene.machine.never_runs("");
        scene.join().await.unwrap();
        assert_eq!(scene.standing().await, Standing::Worker);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_with_0_again_and_again_has_not_come_up() {
    let mut scene = Scene::new();
    scene.machine.never_runs(include_str!("recorded/server-wrong-yaml.txt"));
    let failure = scene.init().await.unwrap_err();
    assert!(failure.message.contains("mapping values are not allowed"), "{failure:?}");
    let again = scene.init().await.unwrap_err();
    assert!(!again.message.contains("after 0 s"), "restarts of before count no more: {again:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_stopped_or_whose_node_was_deleted_is_brought_back() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let known = ServerPlan { cluster_id: Some(scene.cluster_id()), ..server() };
    scene.machine.stop();
    assert_eq!(status(&*scene.machine, &scene.state()).await.unwrap().evidence.kubelet, "inactive");
    assert_eq!(scene.init_with(known.clone()).await.unwrap().changes, 1);
    scene.machine.forget_node("cp-1");
    assert_eq!(scene.init_with(known.clone()).await.unwrap().changes, 1);
    assert_eq!(scene.init_with(known).await.unwrap().changes, 0);
    let other = ServerPlan { cluster_id: Some("sha256:00".into()), ..server() };
    assert!(scene.init_with(other).await.unwrap_err().message.contains("none is made anew"));

    let mut scene = Scene::new();
    scene.join().await.unwrap();
    scene.machine.stop();
    assert_eq!(scene.join().await.unwrap().changes, 1);
    scene.machine.forget_node("worker-1");
    assert!(scene.join().await.unwrap().changes > 1, "it does not register again by itself");
    assert_eq!(scene.join().await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_takes_its_containers_and_its_password_along() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    scene.machine.runs_a_pod();
    scene.leave().await.unwrap();
    assert_eq!(scene.standing().await, Standing::Clean);
    let commands = scene.machine.commands();
    assert!(commands.iter().any(|line| line.contains("annotate --overwrite node worker-1 groundwork/leaving=true")));
    assert!(commands.iter().any(|line| line == "/usr/bin/kill -KILL 20 21"), "{commands:?}");
    assert!(scene.machine.text("/etc/rancher/node/password").is_empty());
    assert!(scene.machine.text("/usr/local/bin/k3s").is_empty());
    assert!(scene.machine.files().keys().all(|path| !path.starts_with("/run/netns/")), "no name of a network is left");
    assert!(!scene.machine.rules().contains("KUBE-"));
}

#[tokio::test(start_paused = true)]
async fn the_only_server_of_a_cluster_with_more_nodes_does_not_leave() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let failure = scene.leave().await.unwrap_err();
    assert_eq!(failure.step, "quorum");
    assert_eq!(scene.standing().await, Standing::ControlPlane);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_stood_here_before_stays() {
    let mut scene = Scene::new();
    scene.machine.put("/usr/local/bin/k3s", "a program");
    scene.init().await.unwrap();
    assert!(!scene.machine.commands().iter().any(|line| line.contains("apt-helper")));
    scene.reset().await.unwrap();
    assert_eq!(scene.machine.text("/usr/local/bin/k3s"), "a program");
    assert!(scene.machine.text("/usr/local/bin/kubectl").is_empty(), "nothing is put beside it");
}

#[tokio::test(start_paused = true)]
async fn access_is_signed_by_the_cas_of_clients_and_checked_by_that_of_servers() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let public_key = rcgen::PublicKeyData::subject_public_key_info(&rcgen::KeyPair::generate().unwrap());
    let plan = AccessPlan {
        cluster_id: scene.cluster_id(),
        public_key,
        user: "alice".into(),
        ttl: Duration::from_secs(600),
        ..AccessPlan::default()
    };
    let access = credential(&*scene.machine, &plan).unwrap();
    assert_eq!((access.endpoint.as_str(), &access.ca_certificate), ("10.99.0.11:6443", &scene.machine.authority));
    assert!(access.certificate.contains("BEGIN CERTIFICATE"));
    let kubeconfig = kubeconfig(&*scene.machine).unwrap();
    assert!(kubeconfig.text.contains("client-key-data") && kubeconfig.ca_certificate == scene.machine.authority);
}
