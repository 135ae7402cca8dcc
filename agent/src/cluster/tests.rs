//! Cluster operations on an imitated machine: from clean to node and back, and from every cut in between.

mod adoption;
mod configuration;
mod control_planes;
mod departure;
pub(super) mod files;
mod imitation;
mod kubespray;
mod recovery;
mod upgrade;

use self::imitation::{MOMENTS, Machine};
use super::status::cluster_id_of;
use super::tokens::forget;
use super::{
    ControlPlane, InitPlan, JoinPlan, Joiner, Overlay, Standing, init, join, join_ended, join_material, leave, reset,
    status,
};
use crate::host::Host;
use crate::run::{Failure, Outcome, RunCx, Runner, What};
use crate::state::State;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::StreamExt as _;

/// Of no cluster.
const CERTIFICATE_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A machine, its agent's folder, and the story of the last run.
struct Scene {
    machine: Arc<Machine>,
    runner: Runner,
    folder: tempfile::TempDir,
    story: Vec<What>,
}

impl Scene {
    fn new() -> Self {
        let machine = Arc::new(Machine::new());
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
        let state = self.state();
        let plan = InitPlan {
            name: "example".into(),
            version: "1.35.1".parse().unwrap(),
            node_name: "cp-1".into(),
            ..InitPlan::default()
        };
        self.run(|cx| init(cx, state, plan)).await
    }

    async fn join(&mut self) -> Result<Outcome, Failure> {
        let ca_hash = cluster_id_of(self.machine.authority.as_bytes()).unwrap();
        self.join_with(&ca_hash).await
    }

    async fn join_with(&mut self, ca_hash: &str) -> Result<Outcome, Failure> {
        self.join_as("worker-1", ca_hash, None).await
    }

    /// Joins as a further control plane.
    async fn join_control_plane(&mut self) -> Result<Outcome, Failure> {
        let ca_hash = cluster_id_of(self.machine.authority.as_bytes()).unwrap();
        let control_plane = ControlPlane { certificate_key: CERTIFICATE_KEY.to_owned(), taints: None, kube_vip: None };
        self.join_as("cp-2", &ca_hash, Some(control_plane)).await
    }

    async fn join_as(
        &mut self,
        node_name: &str,
        ca_hash: &str,
        control_plane: Option<ControlPlane>,
    ) -> Result<Outcome, Failure> {
        let state = self.state();
        let plan = JoinPlan {
            version: "1.35.1".parse().unwrap(),
            node_name: node_name.into(),
            advertise_address: None,
            endpoint: "10.99.0.11:6443".into(),
            token: "abcdef.0123456789abcdef".into(),
            ca_hash: ca_hash.to_owned(),
            near: vec!["10.244.0.0/16".into(), "10.96.0.0/12".into()],
            ignored_checks: Vec::new(),
            overlay: Overlay::default(),
            control_plane,
        };
        self.run(|cx| join(cx, state, plan)).await
    }

    async fn reset(&mut self) -> Result<Outcome, Failure> {
        let cluster_id = cluster_id_of(self.machine.authority.as_bytes()).unwrap();
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

    /// What the last run noted.
    fn notes(&self) -> String {
        let line = |what: &What| match what {
            What::Note { line, .. } => Some(format!("{line}\n")),
            _ => None,
        };
        self.story.iter().filter_map(line).collect()
    }

    /// Pin of the CA that stands here.
    async fn cluster_id(&self) -> String {
        status(&*self.machine, &self.state()).await.unwrap().evidence.cluster_id
    }

    async fn standing(&self) -> Standing {
        status(&*self.machine, &self.state()).await.unwrap().evidence.standing
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_machine_becomes_a_control_plane_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.init().await.unwrap().changes, 1);
    assert_eq!(scene.standing().await, Standing::ControlPlane);
    assert_eq!(scene.init().await.unwrap().changes, 0);
    assert!(scene.machine.configuration().contains("\"kubernetesVersion\": \"v1.35.1\""));
}

#[tokio::test(start_paused = true)]
async fn an_init_killed_at_any_moment_is_begun_anew() {
    for moment in 0..MOMENTS.0 {
        let mut scene = Scene::new();
        scene.machine.dies_after(Some(moment));
        scene.init().await.unwrap_err();
        scene.machine.dies_after(None);
        if moment % 2 == 0 {
            scene.reset_for("").await.unwrap();
        }
        scene.init().await.unwrap();
        assert_eq!(scene.standing().await, Standing::ControlPlane, "after {moment} files");
        assert_eq!(scene.init().await.unwrap().changes, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_killed_at_any_moment_is_begun_anew() {
    for moment in 0..MOMENTS.1 {
        let mut scene = Scene::new();
        scene.machine.dies_after(Some(moment));
        scene.join().await.unwrap_err();
        scene.machine.dies_after(None);
        scene.join().await.unwrap();
        assert_eq!(scene.standing().await, Standing::Worker, "after {moment} files");
        assert_eq!(scene.join().await.unwrap().changes, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_init_that_ended_behind_a_dead_agents_back_is_taken_as_done() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let here = scene.cluster_id().await;
    super::evidence::Attempt::new("init", "cp-1").under(&here).note(&scene.state()).unwrap();
    assert_eq!(scene.standing().await, Standing::Partial, "not known to be whole");
    assert_eq!(scene.init().await.unwrap().changes, 0);
    assert_eq!(scene.standing().await, Standing::ControlPlane);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_named_and_left_alone() {
    let mut scene = Scene::new();
    scene.machine.put("/var/lib/etcd/member/snap/db", "years of data");
    for failure in [scene.init().await.unwrap_err(), scene.join().await.unwrap_err()] {
        assert!(failure.message.contains("/var/lib/etcd/member"), "{}", failure.message);
    }
    // A refused creation is followed by a reset: Terraform takes it as tainted.
    let refused = [scene.reset_for("").await.unwrap_err(), scene.reset().await.unwrap_err()];
    assert_eq!(refused.map(|failure| failure.step), ["ownership", "ownership"]);
    assert_eq!(scene.machine.left(), ["/var/lib/etcd/member/snap/db"]);
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_made_by_hand_is_neither_adopted_nor_reset() {
    use super::evidence::Attempt;
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let (before, here) = (scene.machine.left(), scene.cluster_id().await);
    Attempt::forget(&scene.state()).unwrap();
    // With no note at all, and with one of a cluster that stood here before.
    for _ in 0..2 {
        let failure = scene.init().await.unwrap_err();
        assert!(failure.message.contains("this agent did not make"), "{}", failure.message);
        for cluster_id in ["", here.as_str()] {
            assert_eq!(scene.reset_for(cluster_id).await.unwrap_err().step, "ownership");
        }
        assert_eq!(scene.machine.left(), before);
        Attempt::new("init", "cp-1").finished("sha256:00").note(&scene.state()).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn k3s_is_refused_by_name_and_left_alone() {
    let mut scene = Scene::new();
    let left = ["/var/lib/kubelet/pods/a/volume", "/var/lib/rancher/k3s/server/token"];
    left.iter().for_each(|path| scene.machine.put(path, "theirs"));
    super::evidence::Attempt::new("join", "worker-1").under("sha256:00").note(&scene.state()).unwrap();
    let failures =
        [scene.init().await.unwrap_err(), scene.join().await.unwrap_err(), scene.reset_for("").await.unwrap_err()];
    for failure in failures {
        assert_eq!(failure.step, "ownership");
        assert!(failure.message.contains("/var/lib/rancher/k3s"), "{}", failure.message);
    }
    assert_eq!(scene.machine.left(), left);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_made_by_hand_after_our_failure_is_not_ours() {
    for moment in [None, Some(0), Some(1), Some(5)] {
        let mut scene = Scene::new();
        // At the checks, or later.
        scene.machine.runtime_down(moment.is_none());
        scene.machine.dies_after(moment);
        scene.init().await.unwrap_err();
        scene.machine.runtime_down(false);
        scene.machine.init_by_hand();
        let (before, here) = (scene.machine.left(), scene.cluster_id().await);
        for cluster_id in ["", here.as_str()] {
            assert_eq!(scene.reset_for(cluster_id).await.unwrap_err().step, "ownership", "{moment:?}");
        }
        for failure in [scene.init().await.unwrap_err(), scene.join().await.unwrap_err()] {
            assert_eq!(failure.step, "ownership", "{moment:?}");
        }
        assert_eq!(scene.machine.left(), before, "{moment:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_check_leaves_no_claim_on_the_machine() {
    let mut scene = Scene::new();
    scene.machine.runtime_down(true);
    scene.init().await.unwrap_err();
    scene.join().await.unwrap_err();
    assert_eq!(super::evidence::Attempt::last(&scene.state()).unwrap(), None);
    scene.machine.put("/var/lib/kubelet/pods/a/volume", "theirs");
    scene.reset_for("").await.unwrap();
    assert_eq!(scene.machine.left(), ["/var/lib/kubelet/pods/a/volume"]);
}

#[tokio::test(start_paused = true)]
async fn a_join_by_hand_to_another_cluster_is_not_ours() {
    let mut scene = Scene::new();
    scene.machine.dies_after(Some(3));
    scene.join().await.unwrap_err();
    let other = Machine::new().authority;
    scene.machine.put("/etc/kubernetes/pki/ca.crt", &other);
    let before = scene.machine.left();
    for failure in [scene.join().await.unwrap_err(), scene.reset_for("").await.unwrap_err()] {
        assert_eq!(failure.step, "ownership");
    }
    assert_eq!(scene.machine.left(), before);
}

#[tokio::test(start_paused = true)]
async fn data_of_another_etcd_stays_beside_ours() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.put("/var/lib/etcd/default/member/snap/db", "years of data");
    scene.reset().await.unwrap();
    assert_eq!(scene.machine.left(), ["/var/lib/etcd/default/member/snap/db"]);
    assert_eq!(scene.standing().await, Standing::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_whose_api_is_down_is_never_reset_by_itself() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.api_down(true);
    let failure = scene.init().await.unwrap_err();
    assert!(failure.message.contains("does not answer"), "{}", failure.message);
    scene.machine.api_down(false);
    assert_eq!(scene.init().await.unwrap().changes, 0, "nothing was lost");
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_another_cluster_is_left_alone() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    for cluster_id in ["", "sha256:00"] {
        assert_eq!(scene.reset_for(cluster_id).await.unwrap_err().step, "ownership");
    }
    let failure = scene.join_with("sha256:00").await.unwrap_err();
    assert!(failure.message.contains("another cluster"), "{}", failure.message);
    assert_eq!(scene.standing().await, Standing::Worker);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_node_was_deleted_joins_again() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    scene.machine.forget_node("worker-1");
    assert_eq!(scene.join().await.unwrap().changes, 2, "reset and join");
    assert_eq!(scene.standing().await, Standing::Worker);
}

#[tokio::test(start_paused = true)]
async fn failed_checks_are_told_by_name() {
    let mut scene = Scene::new();
    scene.machine.runtime_down(true);
    let failure = scene.init().await.unwrap_err();
    assert_eq!(failure.step, "preflight");
    assert!(failure.message.contains("CRI: could not connect to the container runtime"), "{}", failure.message);
    assert!(failure.output.iter().any(|line| line.contains("[ERROR CRI]")), "{:?}", failure.output);
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_never_comes_up_is_told_with_the_kubelets_reason() {
    let mut scene = Scene::new();
    scene.machine.kubelet_says(include_str!("recorded/kubelet-1.36-no-resolv-conf.txt"));
    let failure = scene.init().await.unwrap_err();
    assert_eq!(
        failure.message,
        "the kubelet says: open /etc/resolv.conf: no such file or directory; \
         kubeadm ended with exit code 1: error execution phase wait-control-plane: failed while waiting for the control plane to start: \
         kube-apiserver check failed at https://10.77.5.22:6443/livez: client rate limiter Wait returned an error: \
         rate: Wait(n=1) would exceed context deadline"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reset_leaves_a_clean_machine_and_the_rules_of_others() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.put("/etc/kubernetes/tmp/kubeadm-backup/etcd", "");
    assert_eq!(scene.reset().await.unwrap().changes, 1);
    assert_eq!((scene.standing().await, scene.machine.left()), (Standing::Clean, Vec::new()));
    assert_eq!(scene.machine.rules(), "*filter\n-A INPUT -j DROP\nCOMMIT\n");
    assert_eq!(scene.reset().await.unwrap().changes, 0);
    scene.join().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_is_deleted_by_its_id_and_nothing_else_is() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    forget(&*scene.machine, "abcdef").await.unwrap();
    let last = scene.machine.commands().pop().unwrap();
    assert!(
        last.ends_with("delete secret bootstrap-token-abcdef --namespace kube-system --ignore-not-found"),
        "{last}"
    );
    for bad in ["", "abcde", "abcdef.0123456789abcdef", "--all1", "ABCDEF"] {
        assert!(forget(&*scene.machine, bad).await.is_err(), "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_token_stands_in_an_argument_or_in_a_story() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let mut told = format!("{:?}", scene.story);
    let material = join_material(&*scene.machine, Duration::from_secs(60), Joiner::ControlPlane).await.unwrap();
    told.push_str(&format!("{material:?}"));
    let upload = scene.machine.configuration();
    assert!(upload.contains(&material.certificate_key), "{upload}");
    let mut worker = Scene::new();
    worker.join().await.unwrap();
    told.push_str(&format!("{:?}", worker.story));
    let mut second = Scene::new();
    second.join_control_plane().await.unwrap();
    told.push_str(&format!("{:?}", second.story));
    join_ended(&*scene.machine, "abcdef", Joiner::ControlPlane).await.unwrap();
    let commands = [&scene, &worker, &second].into_iter().flat_map(|scene| scene.machine.commands());
    for line in commands.chain([told]) {
        for secret in ["0123456789abcdef", CERTIFICATE_KEY, &material.certificate_key] {
            assert!(!line.contains(secret), "{line}");
        }
    }
    let ended = scene.machine.commands();
    let gone = "delete secret --namespace kube-system --ignore-not-found kubeadm-certs bootstrap-token-0wner0";
    assert!(ended.iter().any(|line| line.ends_with(gone)), "{ended:?}");
    assert!(worker.machine.configuration().contains(&material.token), "the file has it");
    assert!(worker.machine.left().iter().all(|path| !path.starts_with("/run/groundwork")), "and is gone");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_took_from_a_node_comes_back() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    scene.machine.stop_kubelet();
    assert_eq!(scene.join().await.unwrap().changes, 1, "the kubelet runs");

    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.forget_node("cp-1");
    assert_eq!(scene.init().await.unwrap().changes, 2, "registered and marked");
    assert_eq!(scene.init().await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_network_plugin_left_goes_with_the_node_and_what_was_there_stays() {
    let (mut scene, folder) = (Scene::new(), "/etc/cni/net.d");
    scene.machine.put(&format!("{folder}/87-podman.conflist"), "{}");
    scene.init().await.unwrap();
    assert!(scene.notes().contains("87-podman.conflist"), "{}", scene.notes());
    scene.machine.put(&format!("{folder}/05-antrea.conflist"), "{}");
    scene.reset().await.unwrap();
    let left = |scene: &Scene| {
        let host: &dyn Host = &*scene.machine;
        host.list(folder).unwrap()
    };
    assert_eq!(left(&scene), ["87-podman.conflist"]);

    // Somebody else resets it: nobody took the plugin's file away.
    scene.join().await.unwrap();
    scene.machine.put(&format!("{folder}/05-antrea.conflist"), "{}");
    scene.machine.reset_by_hand();
    scene.join().await.unwrap();
    assert!(!scene.notes().contains("antrea"), "{}", scene.notes());
    assert_eq!(left(&scene), ["87-podman.conflist"]);
}

#[tokio::test(start_paused = true)]
async fn ignored_checks_reach_kubeadm() {
    let mut scene = Scene::new();
    let state = scene.state();
    let plan = InitPlan {
        name: "example".into(),
        version: "1.35.1".parse().unwrap(),
        node_name: "cp-1".into(),
        ignored_checks: vec!["SystemVerification".into(), "Mem".into()],
        ..InitPlan::default()
    };
    scene.run(|cx| init(cx, state, plan)).await.unwrap();
    let with = |line: &String| line.ends_with("--ignore-preflight-errors=SystemVerification,Mem");
    assert_eq!(scene.machine.commands().iter().filter(|line| with(line)).count(), 2, "the checks and the work");
}
