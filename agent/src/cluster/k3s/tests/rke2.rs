//! RKE2 on an imitated machine: K3s' code, in RKE2's places and at its port.

use super::imitation::{Machine, Moment, NEWER, of_variant};
use super::{Scene, ServerPlan, Standing, server, server_of, settings};
use crate::cluster::k3s::RKE2;
use crate::cluster::{Joiner, join_material, status};
use crate::run::{Failure, Outcome};
use std::time::Duration;

fn scene() -> Scene {
    Scene::on(Machine::of(&RKE2))
}

impl Scene {
    async fn begins(&mut self) -> Result<Outcome, Failure> {
        self.init_with(server_of(&RKE2)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_becomes_a_server_of_rke2_and_is_clean_again() {
    let mut scene = scene();
    scene.machine.put("/etc/rancher/rke2/registries.yaml", "mirrors: {}\n");
    scene.machine.put("/var/lib/rancher/rke2/agent/images/own.txt", "docker.io/library/web:1\n");
    let before = scene.machine.files();
    assert_eq!(scene.begins().await.unwrap().changes, 2);
    assert_eq!(scene.standing().await, Standing::ControlPlane);
    let config = scene.config();
    assert_eq!((config.get("cluster-init"), config.get("server"), config.get("token")), (None, None, None));
    assert_eq!(config["node-ip"], "10.99.0.11");
    assert_eq!(scene.begins().await.unwrap().changes, 0);
    let told = status(&*scene.machine, &scene.state()).await.unwrap();
    assert_eq!((told.version.as_str(), told.evidence.kubelet.as_str()), ("v1.34.3+rke2r1", "active"));
    assert!(scene.machine.files().keys().all(|path| !path.starts_with("/usr/local/bin/kubectl")), "no links");
    scene.machine.put("/var/lib/rancher/rke2/agent/images/etcd-image.txt", "its own list");
    scene.machine.runs_a_pod();
    scene.reset().await.unwrap();
    assert_eq!(scene.standing().await, Standing::Clean);
    let left: Vec<String> = scene.machine.files().into_keys().filter(|path| !path.starts_with("/proc/1/")).collect();
    assert_eq!(left, before.into_keys().collect::<Vec<_>>(), "what the user put there stays");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_cut_off_is_begun_anew() {
    // Three links less than with K3s.
    for moment in 0..Moment::SERVER - 3 {
        let mut scene = scene();
        scene.machine.dies_after(Some(moment));
        scene.begins().await.unwrap_err();
        scene.machine.dies_after(None);
        scene.begins().await.unwrap_or_else(|failure| panic!("after {moment} writes: {failure:?}"));
        assert_eq!(scene.standing().await, Standing::ControlPlane, "after {moment} writes");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_join_at_the_supervisor_and_the_one_that_began_becomes_one_of_many() {
    let mut scene = scene();
    scene.join().await.unwrap();
    assert_eq!(scene.config()["server"], "https://10.99.0.1:9345");
    assert_eq!(scene.standing().await, Standing::Worker);
    scene.machine.stop();
    assert_eq!(scene.join().await.unwrap().changes, 1);

    let mut scene = self::scene();
    scene.machine.has_server("cp-1");
    scene.join_server().await.unwrap();
    let config = scene.config();
    assert_eq!(
        (config["server"].as_str(), &config["tls-san"][0]),
        (Some("https://api.example.org:9345"), &"api.example.org".into())
    );
    assert_eq!(config["token-file"], "/etc/rancher/rke2/groundwork-token");
    assert!(!scene.machine.commands().concat().contains("5ecret") && !scene.told().contains("5ecret"));

    let mut scene = self::scene();
    scene.begins().await.unwrap();
    let ask = || join_material(&*scene.machine, Duration::from_secs(60), Joiner::ControlPlane);
    let material = ask().await.unwrap();
    assert_eq!((material.endpoint.as_str(), material.token), ("10.99.0.11:6443", scene.machine.secret()));
    let config = scene.config();
    assert_eq!(config["server"], "https://10.99.0.11:9345");
    ask().await.unwrap();
    assert_eq!(scene.config(), config);
}

#[tokio::test(start_paused = true)]
async fn another_version_of_rke2_takes_the_place_of_the_one_before() {
    let mut scene = scene();
    scene.begins().await.unwrap();
    scene.machine.offers(NEWER);
    scene.upgrade("cp-1").await.unwrap();
    assert_eq!(scene.machine.stands("cp-1"), (of_variant(&RKE2, "v1.34.4+k3s1"), false));
    assert_eq!(scene.machine.text("/usr/local/bin/rke2"), NEWER);
}

#[tokio::test(start_paused = true)]
async fn k3s_and_rke2_leave_one_another_alone() {
    let mut scene = scene();
    scene.begins().await.unwrap();
    let failure = scene.init_with(server()).await.unwrap_err();
    assert!(failure.step == "ownership" && failure.message.contains("/etc/rancher/rke2"), "{failure:?}");
    assert_eq!(scene.begins().await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_said_in_rke2s_words() {
    let mut scene = scene();
    let plan = ServerPlan { overlay: settings(r#"{"no-such-key":1}"#), ..server_of(&RKE2) };
    let failure = scene.init_with(plan).await.unwrap_err();
    assert!(failure.message.contains("`rke2 server` of v1.34.3+rke2r1 has no setting"), "{failure:?}");
    scene.machine.forget("/usr/local/bin/rke2");
    scene.machine.offers("another program");
    let failure = scene.begins().await.unwrap_err();
    assert!(failure.message.contains("`rke2.checksum`"), "{failure:?}");
}
