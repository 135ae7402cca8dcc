//! Another version: the program is replaced when the node is empty, and what was cut off goes on.

use super::imitation::{self, NEWER, of_variant};
use super::{Release, Scene, Source, release};
use crate::cluster::k3s::{UpgradePlan, upgrade};
use crate::run::{Failure, Outcome};
use std::time::Duration;

const TO: &str = "v1.34.4+k3s1";

impl Scene {
    fn upgraded(&self, node_name: &str) -> UpgradePlan {
        let own = self.machine.own;
        let program = Source { url: "https://example.org/k3s-next".into(), sha256: imitation::sum(NEWER) };
        UpgradePlan {
            release: Release { own, version: of_variant(own, TO), program, images: None },
            node_name: node_name.into(),
            cluster_id: self.cluster_id(),
            drain: Duration::from_secs(60),
            only_check: false,
        }
    }

    pub(super) async fn upgrade(&mut self, node_name: &str) -> Result<Outcome, Failure> {
        let plan = self.upgraded(node_name);
        self.upgrade_to(plan).await
    }

    async fn upgrade_to(&mut self, plan: UpgradePlan) -> Result<Outcome, Failure> {
        let state = self.state();
        self.run(|cx| upgrade(cx, state, plan)).await
    }

    fn order(&self, words: &[&str]) -> Vec<usize> {
        let commands = self.machine.commands();
        words.iter().map(|word| commands.iter().rposition(|line| line.contains(word)).unwrap()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_gets_its_program_when_it_is_empty_and_takes_pods_again() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.offers(NEWER);
    let only = UpgradePlan { only_check: true, ..scene.upgraded("cp-1") };
    assert_eq!(scene.upgrade_to(only).await.unwrap().changes, 0);
    scene.upgrade("cp-1").await.unwrap();
    assert_eq!(scene.machine.stands("cp-1"), (TO.to_owned(), false));
    assert_eq!(scene.machine.text("/usr/local/bin/k3s"), NEWER);
    let order =
        scene.order(&["download-file", "cordon cp-1", "mv --no-target-directory", "restart --no-block", "patch node"]);
    assert!(order.is_sorted(), "{order:?}");
    scene.machine.cluster_is(TO);
    assert_eq!(scene.upgrade("cp-1").await.unwrap().changes, 0);
    scene.reset().await.unwrap();
    assert!(scene.machine.text("/usr/local/bin/k3s").is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_agent_goes_before_its_servers_and_nothing_goes_back() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    scene.machine.offers(NEWER);
    let failure = scene.upgrade("worker-1").await.unwrap_err();
    assert_eq!(failure.step, "skew");
    assert!(failure.message.contains("no worker may be newer"), "{failure:?}");
    scene.machine.cluster_is(TO);
    scene.upgrade("worker-1").await.unwrap();
    assert_eq!(scene.machine.stands("worker-1"), (TO.to_owned(), false));
    let back = UpgradePlan { release: release(), ..scene.upgraded("worker-1") };
    let failure = scene.upgrade_to(back).await.unwrap_err();
    assert!(failure.step == "skew" && failure.message.contains("nothing is made older"), "{failure:?}");
    scene.machine.cluster_is("v1.32.9+k3s1");
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.cluster_is("v1.32.9+k3s1");
    let failure = scene.upgrade("cp-1").await.unwrap_err();
    assert!(failure.message.contains("one minor version at a time"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn another_program_than_the_one_that_was_meant_changes_nothing() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let failure = scene.upgrade("cp-1").await.unwrap_err();
    assert!(failure.message.contains("`k3s.checksum`"), "{failure:?}");
    let mut plan = scene.upgraded("cp-1");
    plan.release.program.sha256 = imitation::sum("a third program");
    scene.machine.offers("a third program");
    let failure = scene.upgrade_to(plan).await.unwrap_err();
    assert!(failure.message.contains("`k3s.url` gives K3s v1.34.3+k3s1"), "{failure:?}");
    assert_eq!(scene.machine.text("/usr/local/bin/k3s"), "a program");
    assert!(!scene.machine.commands().iter().any(|line| line.contains("cordon")), "nobody had to move");
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_off_or_does_not_run_goes_on() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.offers(NEWER);
    // Its program is refused by the power cut, then its unit does not start.
    scene.machine.dies_after(Some(1));
    scene.upgrade("cp-1").await.unwrap_err();
    assert_eq!(scene.machine.stands("cp-1"), ("v1.34.3+k3s1".to_owned(), false), "given back");
    scene.machine.dies_after(None);
    scene.machine.stop();
    scene.upgrade("cp-1").await.unwrap();
    assert_eq!(scene.machine.stands("cp-1"), (TO.to_owned(), false));
    let other = UpgradePlan { cluster_id: "sha256:00".into(), ..scene.upgraded("cp-1") };
    assert_eq!(scene.upgrade_to(other).await.unwrap_err().step, "ownership");
}
