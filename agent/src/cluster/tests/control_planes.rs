//! Several control planes: joining, leaving, dying, and never without a quorum.

use super::super::{Joiner, KubeVip, join_material, remove};
use super::imitation::CONTROL_PLANE_MOMENTS;
use super::{InitPlan, Scene, Standing, init};
use crate::run::{Failure, Outcome};
use std::time::Duration;

impl Scene {
    /// A control plane among `others`.
    async fn among(others: &[&str]) -> Self {
        let mut scene = Self::new();
        scene.init().await.unwrap();
        others.iter().for_each(|name| scene.machine.add_node(name, true));
        scene
    }

    async fn remove(&mut self, name: &str) -> Result<Outcome, Failure> {
        let (state, name) = (self.state(), name.to_owned());
        self.run(|cx| remove(cx, state, name, Some(Duration::from_secs(60)))).await
    }

    async fn mend(&mut self, cluster_id: &str) -> Result<Outcome, Failure> {
        let state = self.state();
        let plan = InitPlan {
            name: "example".into(),
            version: "1.35.1".parse().unwrap(),
            node_name: "cp-1".into(),
            cluster_id: Some(cluster_id.to_owned()),
            ..InitPlan::default()
        };
        self.run(|cx| init(cx, state, plan)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_becomes_a_further_control_plane_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.join_control_plane().await.unwrap().changes, 1);
    assert_eq!((scene.standing().await, scene.machine.members()), (Standing::ControlPlane, vec!["cp-2".to_owned()]));
    assert_eq!(scene.join_control_plane().await.unwrap().changes, 0);
    assert_eq!(scene.join().await.unwrap_err().step, "ownership", "it is no worker");
}

#[tokio::test(start_paused = true)]
async fn a_join_killed_at_any_moment_is_begun_anew() {
    for moment in 0..CONTROL_PLANE_MOMENTS {
        let mut scene = Scene::new();
        scene.machine.add_node("cp-1", true);
        scene.machine.dies_after(Some(moment));
        scene.join_control_plane().await.unwrap_err();
        scene.machine.dies_after(None);
        scene.join_control_plane().await.unwrap();
        assert_eq!(scene.standing().await, Standing::ControlPlane, "after {moment} files");
        assert!(scene.machine.members_are_well(), "after {moment} files: a member came back without its data");
        assert_eq!(scene.join_control_plane().await.unwrap().changes, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_join_goes_with_its_machine() {
    for moment in 1..CONTROL_PLANE_MOMENTS {
        let mut scene = Scene::new();
        scene.machine.add_node("cp-1", true);
        scene.machine.dies_after(Some(moment));
        scene.join_control_plane().await.unwrap_err();
        scene.machine.dies_after(None);
        scene.leave().await.unwrap();
        assert_eq!(
            (scene.standing().await, scene.machine.members()),
            (Standing::Clean, vec!["cp-1".to_owned()]),
            "{moment}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_leaves_etcd_before_it_is_reset() {
    let mut scene = Scene::among(&["cp-2", "cp-3"]).await;
    scene.machine.add_pod("web", 0);
    assert_eq!(scene.leave().await.unwrap().changes, 3, "drained, out of etcd, reset");
    assert_eq!(
        (scene.standing().await, scene.machine.members()),
        (Standing::Clean, ["cp-2", "cp-3"].map(str::to_owned).to_vec())
    );
    assert_eq!(scene.machine.node("cp-1"), Some((true, true)));
}

#[tokio::test(start_paused = true)]
async fn nobody_leaves_whom_the_quorum_needs() {
    let mut scene = Scene::among(&["cp-2", "cp-3"]).await;
    scene.machine.member_dies("cp-3");
    for failure in [scene.leave().await.unwrap_err(), scene.remove("cp-2").await.unwrap_err()] {
        assert_eq!(failure.step, "quorum");
        assert!(
            failure.message.contains("of the other 2 members of etcd 1 are well, and it needs 2"),
            "{}",
            failure.message
        );
    }
    assert_eq!(scene.machine.members(), ["cp-1", "cp-2", "cp-3"]);
    assert_eq!(scene.remove("cp-3").await.unwrap().changes, 3, "the dead one may go: drained, out of etcd, deleted");
    scene.leave().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_member_goes_although_its_node_is_gone() {
    let mut scene = Scene::among(&["cp-2", "cp-3"]).await;
    scene.machine.member_dies("cp-2");
    scene.machine.forget_node("cp-2");
    assert_eq!(scene.remove("cp-2").await.unwrap().changes, 1);
    assert_eq!(scene.machine.members(), ["cp-1", "cp-3"]);
    assert_eq!(scene.remove("cp-2").await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn an_election_is_waited_for_and_is_no_loss_of_the_quorum() {
    let mut scene = Scene::among(&["cp-2", "cp-3"]).await;
    scene.machine.member_dies("cp-3");
    scene.machine.leader_is_missed(2);
    assert_eq!(scene.remove("cp-3").await.unwrap().changes, 3, "drained, out of etcd, deleted");
    scene.machine.leader_is_missed(9);
    assert_eq!(scene.remove("cp-2").await.unwrap_err().step, "quorum");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_gets_no_change_done_is_passed_over() {
    let mut scene = Scene::among(&["cp-2", "cp-3"]).await;
    scene.machine.member_is_deaf("cp-1");
    assert_eq!(scene.remove("cp-3").await.unwrap().changes, 3);
    assert_eq!(scene.machine.members(), ["cp-1", "cp-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_never_came_up_is_in_nobodys_way() {
    let scene = Scene::among(&["cp-2"]).await;
    scene.machine.announce_member("192.0.2.13");
    let ask = || join_material(&*scene.machine, Duration::from_secs(60), Joiner::ControlPlane);
    ask().await.unwrap();
    assert_eq!(scene.machine.members(), ["cp-1", "cp-2"]);
    scene.machine.member_dies("cp-2");
    let why = ask().await.unwrap_err().to_string();
    assert!(why.starts_with("etcd is not ready for another member: member cp-2 of etcd is not well"), "{why}");
    join_material(&*scene.machine, Duration::from_secs(60), Joiner::Worker).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_second_cluster_is_made_where_one_is_meant_to_stand() {
    let mut scene = Scene::new();
    let failure = scene.mend("sha256:00").await.unwrap_err();
    assert!(failure.message.contains("none is made anew"), "{}", failure.message);
    assert_eq!((scene.standing().await, scene.machine.left()), (Standing::Clean, Vec::new()));
    scene.init().await.unwrap();
    let here = scene.cluster_id().await;
    scene.machine.forget_node("cp-1");
    assert_eq!(scene.mend(&here).await.unwrap().changes, 2, "registered and marked");
    assert_eq!(scene.mend("sha256:00").await.unwrap_err().step, "look");
}

#[tokio::test(start_paused = true)]
async fn a_virtual_address_on_a_card_that_is_not_there_is_refused() {
    let mut scene = Scene::new();
    scene.machine.put("/sys/class/net/eth0/address", "bc:24:11:00:00:01\n");
    let state = scene.state();
    let plan = InitPlan {
        name: "example".into(),
        version: "1.35.1".parse().unwrap(),
        node_name: "cp-1".into(),
        kube_vip: Some(KubeVip { address: "192.0.2.10".into(), interface: "host0".into(), ..KubeVip::default() }),
        ..InitPlan::default()
    };
    let failure = scene.run(|cx| init(cx, state, plan)).await.unwrap_err();
    assert_eq!(failure.step, "kube-vip");
    assert_eq!(failure.message, "`kube_vip.interface` is host0, which this machine has not: it has eth0");
}
