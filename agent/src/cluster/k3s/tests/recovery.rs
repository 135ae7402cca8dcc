//! What a cluster of K3s is kept and brought back by: snapshots of its etcd, now and by a timer, and a cluster that begins with one.

use super::imitation::Moment;
use super::imitation::etcd::SNAPSHOT;
use super::{Scene, ServerPlan, Standing, server};
use crate::cluster::k3s::Restore;
use crate::cluster::{
    RenewalPlan, Schedule, SnapshotPlan, Wanted, keep, look_at_snapshot, renew, schedule, status, take_snapshot,
};
use crate::run::{Failure, Outcome};
use std::time::Duration;

const PATH: &str = "/var/backups/etcd/one.db";
const UNITS: &str = "/etc/systemd/system/groundwork-etcd-snapshot";

impl Scene {
    async fn take(&mut self) -> Result<Outcome, Failure> {
        let (state, plan) = (self.state(), SnapshotPlan { cluster_id: self.cluster_id(), path: PATH.into() });
        self.run(|cx| take_snapshot(cx, state, plan)).await
    }

    async fn scheduled(&mut self) -> Result<Outcome, Failure> {
        let daily = Schedule {
            schedule: "daily".into(),
            keep: 2,
            directory: "/var/backups/etcd".into(),
            ..Schedule::default()
        };
        let wanted = Some(Wanted { schedule: daily, ..Wanted::default() });
        let (state, cluster_id) = (self.state(), self.cluster_id());
        self.run(|cx| schedule(cx, state, cluster_id, wanted)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_gives_snapshots_of_its_etcd_now_and_by_a_timer_that_goes_with_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.take().await.unwrap_err().step, "ownership", "there is no cluster");
    scene.init().await.unwrap();
    scene.take().await.unwrap();
    let kept = keep(&*scene.machine, PATH).unwrap();
    assert_eq!(look_at_snapshot(&*scene.machine, PATH).unwrap(), Some(kept));
    for changes in [1, 0] {
        assert_eq!(scene.scheduled().await.unwrap().changes, changes);
    }
    let service = scene.machine.text(&format!("{UNITS}.service"));
    assert!(service.contains("\nConditionPathExists=/var/lib/rancher/k3s/server/db/etcd/config\n"), "{service}");
    assert!(status(&*scene.machine, &scene.state()).await.unwrap().snapshots.unwrap().active);
    scene.reset().await.unwrap();
    assert_eq!(scene.machine.text(&format!("{UNITS}.timer")), "");
    assert_ne!(scene.machine.text(PATH), "", "what was taken stays");
}

#[tokio::test(start_paused = true)]
async fn an_agent_has_no_etcd_to_take_a_snapshot_of() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    assert_eq!(scene.standing().await, Standing::Worker);
    for refused in [scene.take().await.unwrap_err(), scene.scheduled().await.unwrap_err()] {
        assert_eq!(refused.step, "ownership", "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_member_is_not_well_gives_no_snapshot() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.member_dies("cp-1");
    let refused = scene.take().await.unwrap_err();
    assert!(refused.step == "snapshot" && refused.message.contains("does not answer"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn k3s_renews_its_certificates_by_itself() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let (state, node_name) = (scene.state(), "cp-1".to_owned());
    let plan = RenewalPlan { cluster_id: scene.cluster_id(), node_name, within: Duration::from_secs(1) };
    let refused = scene.run(|cx| renew(cx, state, plan)).await.unwrap_err();
    assert!(refused.message.contains("K3s renews its certificates"), "{refused:?}");
}

const TOKEN: &str = "/root/token";

impl Scene {
    fn has_snapshot(&self) {
        self.machine.put(PATH, SNAPSHOT);
        self.machine.put(TOKEN, &format!("{}\n", self.machine.secret()));
    }

    async fn restore(&mut self) -> Result<Outcome, Failure> {
        let from = Restore { path: PATH.into(), token_path: TOKEN.into() };
        self.init_with(ServerPlan { restore_from: Some(from), ..server() }).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_cluster_begins_with_a_snapshot_and_forgets_the_nodes_of_before() {
    let mut scene = Scene::new();
    scene.has_snapshot();
    scene.machine.has_server("cp-2");
    scene.restore().await.unwrap();
    assert_eq!(scene.machine.nodes(), ["cp-1"]);
    let config = scene.machine.text("/etc/rancher/k3s/config.yaml");
    assert!(config.contains("\"token-file\"") && config.contains("\"cluster-init\""), "{config}");
    let commands = scene.machine.commands();
    for name in ["cp-1", "cp-2"] {
        let forgets = format!("delete secret {name}.node-password.k3s");
        assert!(commands.iter().any(|line| line.contains(&forgets)), "{commands:?}");
    }
    assert!(!commands.iter().any(|line| line.contains("5ecret")), "{commands:?}");
    // Nothing is put into a cluster that there is.
    assert_eq!(scene.restore().await.unwrap().changes, 0);
    scene.reset().await.unwrap();
    assert_ne!(scene.machine.text(PATH), "", "the snapshot is the user's");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_does_not_open_the_snapshot_is_refused_before_anything_is_done() {
    let mut scene = Scene::new();
    for (path, words) in [(PATH, "no snapshot of etcd stands"), (TOKEN, "no secret of a cluster stands at /root/token")]
    {
        scene.has_snapshot();
        scene.machine.forget(path);
        let refused = scene.restore().await.unwrap_err();
        assert!(refused.step == "restore" && refused.message.contains(words), "{refused:?}");
    }
    scene.has_snapshot();
    scene.machine.put(TOKEN, "another");
    let before = scene.machine.files();
    let refused = scene.restore().await.unwrap_err();
    assert!(refused.message.contains("does not open the snapshot"), "{refused:?}");
    assert_eq!(scene.machine.files(), before);
    assert_eq!(scene.standing().await, Standing::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_was_cut_off_begins_anew() {
    for moment in 0..Moment::SERVER + 3 {
        let mut scene = Scene::new();
        scene.has_snapshot();
        scene.machine.dies_after(Some(moment));
        scene.restore().await.unwrap_err();
        scene.machine.dies_after(None);
        scene.restore().await.unwrap_or_else(|failure| panic!("after {moment}: {failure:?}"));
        assert_eq!(scene.standing().await, Standing::ControlPlane);
    }
}
