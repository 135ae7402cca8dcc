//! Nodes that get another version: in order, from every cut, and given back when nothing comes of it.

use super::super::evidence::Attempt;
use super::super::{UpgradePlan, newest, upgrade};
use super::Scene;
use crate::host::Host as _;
use crate::run::{Failure, Outcome};
use crate::steps::source_of;
use std::time::Duration;

impl Scene {
    async fn control_plane() -> Self {
        let mut scene = Self::new();
        scene.init().await.unwrap();
        scene.machine.with_packages();
        scene
    }

    /// A worker of a cluster whose control plane has this version.
    async fn worker(cluster: &str) -> Self {
        let mut scene = Self::new();
        scene.join().await.unwrap();
        scene.machine.with_packages();
        scene.machine.cluster_is(cluster);
        scene
    }

    async fn upgrade(&mut self, node_name: &str, version: &str) -> Result<Outcome, Failure> {
        self.upgrade_with(node_name, version, |plan| plan).await
    }

    async fn upgrade_with(
        &mut self,
        node_name: &str,
        version: &str,
        change: impl FnOnce(UpgradePlan) -> UpgradePlan,
    ) -> Result<Outcome, Failure> {
        let (state, cluster_id) = (self.state(), self.cluster_id().await);
        let plan = UpgradePlan {
            version: version.parse().unwrap(),
            node_name: node_name.to_owned(),
            cluster_id,
            drain: Duration::from_secs(60),
            ignored_checks: Vec::new(),
            only_check: false,
            after: None,
        };
        let plan = change(plan);
        self.run(|cx| upgrade(cx, state, plan)).await
    }

    /// Which of these was done in which order.
    fn order<'a>(&self, words: &[&'a str]) -> Vec<&'a str> {
        let commands = self.machine.commands();
        commands.iter().filter_map(|line| words.iter().find(|word| line.contains(**word)).copied()).collect()
    }

    /// The machine declares the repository of 1.36.
    fn declares_the_next_minor(&self) {
        self.machine.put("/usr/bin/apt-get", "");
        self.machine.put(&source_of("kubernetes"), "URIs: https://pkgs.k8s.io/core:/stable:/v1.36/deb/\nSuites: /\n");
    }

    fn passage(&self) -> bool {
        self.machine.stat(&source_of("kubernetes-on-the-way")).unwrap().is_some()
    }

    #[track_caller]
    fn is_whole(&self, name: &str, version: &str) {
        assert_eq!(self.machine.of_node(name), (version.to_owned(), false, false), "version, cordoned, by us");
        for package in ["kubeadm", "kubelet", "kubectl"] {
            assert_eq!(self.machine.status_of(package), format!("{version} held"), "{package}");
        }
    }
}

const PARTS: [&str; 6] = [
    "--no-remove kubeadm=",
    "kubeadm upgrade",
    "\"unschedulable\":true",
    "/eviction",
    "--no-remove kubelet=",
    "restart kubelet.service",
];

#[tokio::test(start_paused = true)]
async fn a_control_plane_is_upgraded_before_its_kubelet_and_once() {
    let mut scene = Scene::control_plane().await;
    scene.machine.add_pod("dns", 0);
    scene.upgrade("cp-1", "1.35.2").await.unwrap();
    assert_eq!(scene.order(&PARTS), PARTS);
    assert_eq!(scene.order(&["upgrade apply v1.35.2 --yes", "upgrade node"]), ["upgrade apply v1.35.2 --yes"]);
    scene.is_whole("cp-1", "v1.35.2");
    assert_eq!(scene.upgrade("cp-1", "1.35.2").await.unwrap().changes, 0);
    scene.upgrade("cp-1", "1.36.0").await.unwrap();
    scene.is_whole("cp-1", "v1.36.0");
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_drained_before_anything_of_it_changes() {
    let mut scene = Scene::worker("v1.35.2").await;
    scene.machine.add_pod("web", 2);
    scene.upgrade("worker-1", "1.35.2").await.unwrap();
    let [kubeadm, upgrade, cordon, evict, kubelet, restart] = PARTS;
    assert_eq!(scene.order(&PARTS), [kubeadm, cordon, evict, evict, evict, upgrade, kubelet, restart]);
    assert_eq!(scene.order(&["upgrade apply", "upgrade node"]), ["upgrade node"]);
    scene.is_whole("worker-1", "v1.35.2");
    assert_eq!(scene.upgrade("worker-1", "1.35.2").await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn another_control_plane_than_the_first_has_its_own_command() {
    let mut scene = Scene::control_plane().await;
    scene.machine.add_node("cp-2", true);
    scene.machine.set_version("cp-2", "v1.35.2");
    scene.machine.cluster_is("v1.35.2");
    scene.upgrade("cp-1", "1.35.2").await.unwrap();
    assert_eq!(scene.order(&["upgrade apply", "upgrade node"]), ["upgrade node"]);
    scene.is_whole("cp-1", "v1.35.2");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_blocks_is_named_and_the_node_is_given_back() {
    let mut scene = Scene::worker("v1.35.2").await;
    scene.machine.add_pod("web", u32::MAX);
    let failure = scene.upgrade("worker-1", "1.35.2").await.unwrap_err();
    assert_eq!(
        (failure.step.as_str(), failure.message.as_str()),
        (
            "drain",
            "pods do not leave worker-1 within 60 s, and it was not upgraded: default/web: the disruption budget web needs 2 healthy \
             pods and has 2 currently"
        )
    );
    assert_eq!(scene.machine.of_node("worker-1"), ("v1.35.1".to_owned(), false, false));
    scene.machine.add_pod("web", 0);
    scene.upgrade("worker-1", "1.35.2").await.unwrap();
    scene.is_whole("worker-1", "v1.35.2");
}

#[tokio::test(start_paused = true)]
async fn who_was_cordoned_before_stays_so() {
    let mut scene = Scene::worker("v1.35.2").await;
    scene.machine.cordon("worker-1");
    scene.upgrade("worker-1", "1.35.2").await.unwrap();
    assert_eq!(scene.machine.of_node("worker-1"), ("v1.35.2".to_owned(), true, false));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_cut_at_any_moment_goes_on() {
    let mut cuts = 0;
    for (name, cluster) in [("cp-1", "v1.35.1"), ("worker-1", "v1.36.0")] {
        for moment in 1.. {
            let mut scene = if name == "cp-1" { Scene::control_plane().await } else { Scene::worker(cluster).await };
            scene.machine.add_pod("web", 1);
            scene.machine.lives_for(Some(moment));
            let cut = scene.upgrade(name, "1.36.0").await;
            scene.machine.lives_for(None);
            if cut.is_ok() {
                assert!(moment > 8, "{name} was upgraded by {moment} changes");
                break;
            }
            scene.upgrade(name, "1.36.0").await.unwrap();
            scene.is_whole(name, "v1.36.0");
            assert_eq!(scene.upgrade(name, "1.36.0").await.unwrap().changes, 0, "{name}, cut after {moment} changes");
            cuts += 1;
        }
    }
    println!("{cuts} cuts");
}

#[tokio::test(start_paused = true)]
async fn checks_that_come_too_early_are_asked_again() {
    let mut scene = Scene::control_plane().await;
    scene.machine.is_restless(3);
    scene.upgrade("cp-1", "1.35.2").await.unwrap();
    assert!(scene.notes().contains("CreateJob: Job \"upgrade-health-check-"), "{}", scene.notes());
    scene.is_whole("cp-1", "v1.35.2");
    scene.machine.is_restless(u32::MAX);
    let failure = scene.upgrade("cp-1", "1.35.3").await.unwrap_err();
    assert_eq!(failure.step, "upgrade");
    assert!(failure.message.contains("did not complete in 15s"), "{}", failure.message);
    assert_eq!(scene.machine.of_node("cp-1"), ("v1.35.2".to_owned(), false, false), "it was not touched");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_before_anything_changes() {
    let mut control_plane = Scene::control_plane().await;
    let mut worker = Scene::worker("v1.35.1").await;
    for (name, version, words) in [
        ("cp-1", "1.35.0", "node cp-1 has v1.35.1, and nothing is made older than it is"),
        ("cp-1", "1.37.0", "the cluster is v1.35.1, and a control plane takes one minor version"),
        ("worker-1", "1.35.2", "no worker may be newer than its control planes"),
    ] {
        let scene = if name == "cp-1" { &mut control_plane } else { &mut worker };
        let failure = scene.upgrade(name, version).await.unwrap_err();
        assert_eq!(failure.step, "skew");
        assert!(failure.message.contains(words), "{}", failure.message);
        assert_eq!(scene.order(&PARTS), [""; 0]);
    }
    let other = |plan| UpgradePlan { cluster_id: "sha256:00".to_owned(), ..plan };
    assert_eq!(control_plane.upgrade_with("cp-1", "1.35.2", other).await.unwrap_err().step, "ownership");
    Attempt::forget(&control_plane.state()).unwrap();
    assert_eq!(control_plane.upgrade("cp-1", "1.35.2").await.unwrap_err().step, "ownership", "somebody else made it");

    worker.machine.cluster_is("v1.37.0");
    let failure = worker.upgrade("worker-1", "1.37.0").await.unwrap_err();
    assert_eq!(failure.step, "offer");
    assert!(
        failure.message.starts_with("the machine's package repositories do not offer Kubernetes v1.37.0: "),
        "{}",
        failure.message
    );
    assert!(failure.message.contains("Version '1.37.0-*' for 'kubeadm' was not found"), "{}", failure.message);
    assert_eq!(worker.order(&PARTS), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_check_changes_nothing() {
    let mut scene = Scene::control_plane().await;
    let check = |plan| UpgradePlan { only_check: true, ..plan };
    assert_eq!(scene.upgrade_with("cp-1", "1.36.0", check).await.unwrap().changes, 0);
    assert_eq!(scene.order(&PARTS), [""; 0]);
    scene.is_whole("cp-1", "v1.35.1");
}

#[tokio::test(start_paused = true)]
async fn a_version_on_the_way_comes_from_the_repository_of_its_minor_which_goes_again() {
    let mut cuts = 0;
    for moment in 1.. {
        let mut scene = Scene::control_plane().await;
        scene.declares_the_next_minor();
        scene.machine.lives_for(Some(moment));
        let cut = scene.upgrade("cp-1", "1.35.2").await;
        scene.machine.lives_for(None);
        if cut.is_ok() {
            break;
        }
        scene.upgrade("cp-1", "1.35.2").await.unwrap();
        scene.is_whole("cp-1", "v1.35.2");
        assert!(!scene.passage(), "cut after {moment} changes");
        scene.upgrade("cp-1", "1.36.0").await.unwrap();
        scene.is_whole("cp-1", "v1.36.0");
        cuts += 1;
    }
    assert!(cuts > 8, "{cuts}");
}

#[tokio::test(start_paused = true)]
async fn the_newest_of_a_minor_version_is_asked_of_its_repository() {
    let scene = Scene::control_plane().await;
    scene.declares_the_next_minor();
    for (minor, found) in [("1.35.0", Some("v1.35.10")), ("1.36.0", Some("v1.36.10")), ("1.34.0", None)] {
        let newest = newest(&*scene.machine, minor.parse().unwrap()).await.unwrap();
        assert_eq!(newest.map(|version| version.to_string()).as_deref(), found);
        assert!(!scene.passage());
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_step_is_checked_as_if_the_one_before_was_done() {
    let mut scene = Scene::control_plane().await;
    scene.declares_the_next_minor();
    scene.machine.cluster_is("v1.34.4");
    let check = |plan| UpgradePlan { only_check: true, ..plan };
    assert_eq!(scene.upgrade_with("cp-1", "1.36.0", check).await.unwrap_err().step, "skew");
    let after = |plan| UpgradePlan { only_check: true, after: "1.35.10".parse().ok(), ..plan };
    assert_eq!(scene.upgrade_with("cp-1", "1.36.0", after).await.unwrap().changes, 0);
    assert!(!scene.passage());
}
