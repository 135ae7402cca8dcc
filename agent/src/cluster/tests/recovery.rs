//! What a cluster is kept and brought back by: snapshots of etcd, now and by a timer, a cluster that begins with one, and certificates
//! that are renewed before they end.

use super::imitation::MOMENTS;
use super::*;
use crate::cluster::{
    QuorumPlan, RenewalPlan, Schedule, SnapshotError, SnapshotPlan, Status, Target, Wanted, discard, keep,
    look_at_snapshot, recover_quorum, renew, schedule, take_scheduled, take_snapshot,
};
use zeroize::Zeroizing;

const PATH: &str = "/var/backups/etcd/one.db";
const ETCD: &str = "/etc/kubernetes/manifests/etcd.yaml";
const DAY: Duration = Duration::from_secs(86_400);

impl Scene {
    fn authority_id(&self) -> String {
        cluster_id_of(self.machine.authority.as_bytes()).unwrap()
    }

    async fn status(&self) -> Status {
        status(&*self.machine, &self.state()).await.unwrap()
    }

    async fn take(&mut self) -> Result<Outcome, Failure> {
        let (state, plan) = (self.state(), SnapshotPlan { cluster_id: self.authority_id(), path: PATH.into() });
        self.run(|cx| take_snapshot(cx, state, plan)).await
    }

    async fn schedule(&mut self, wanted: Option<Schedule>) -> Result<Outcome, Failure> {
        let wanted = wanted.map(|schedule| Wanted { schedule, secret: Zeroizing::new("of the bucket".to_owned()) });
        let (state, cluster_id) = (self.state(), self.authority_id());
        self.run(|cx| schedule(cx, state, cluster_id, wanted)).await
    }

    /// A control plane of three, of which two are gone.
    async fn left_alone() -> Self {
        let mut scene = Self::new();
        scene.init().await.unwrap();
        scene.machine.put(ETCD, "spec:\n  containers:\n  - command:\n    - etcd\n    - --initial-cluster=cp-1=https://cp-1:2380,cp-2=https://cp-2:2380\n    - --name=cp-1\n");
        for name in ["cp-2", "cp-3"] {
            scene.machine.add_node(name, true);
            scene.machine.member_dies(name);
        }
        scene
    }

    fn of_etcd(&self) -> Option<String> {
        self.machine.read(ETCD).unwrap().map(|text| String::from_utf8(text).unwrap())
    }

    async fn recover(&mut self, stand_down: bool) -> Result<Outcome, Failure> {
        let (cluster_id, incident) = (self.authority_id(), "a fire".to_owned());
        let (state, plan) = (self.state(), QuorumPlan { cluster_id, incident, stand_down });
        self.run(|cx| recover_quorum(cx, state, plan)).await
    }

    async fn renew(&mut self) -> Result<Outcome, Failure> {
        let (cluster_id, node_name) = (self.authority_id(), "cp-1".to_owned());
        let (state, plan) = (self.state(), RenewalPlan { cluster_id, node_name, within: 30 * DAY });
        self.run(|cx| renew(cx, state, plan)).await
    }

    async fn restore(&mut self) -> Result<Outcome, Failure> {
        let state = self.state();
        let plan = InitPlan {
            name: "example".into(),
            version: "1.35.1".parse().unwrap(),
            node_name: "cp-1".into(),
            restore_from: Some(PATH.into()),
            ..InitPlan::default()
        };
        self.run(|cx| init(cx, state, plan)).await
    }
}

fn daily() -> Schedule {
    Schedule { schedule: "daily".into(), keep: 2, directory: "/var/backups/etcd".into(), s3: None }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_has_its_name_when_somebody_hears_of_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.take().await.unwrap_err().step, "ownership", "there is no cluster");
    scene.init().await.unwrap();
    assert!(matches!(keep(&*scene.machine, PATH), Err(SnapshotError::Nothing(_))));
    scene.take().await.unwrap();
    assert_eq!(look_at_snapshot(&*scene.machine, PATH).unwrap(), None);
    // Whoever asked was killed, and asks again.
    scene.take().await.unwrap();
    let kept = keep(&*scene.machine, PATH).unwrap();
    assert_eq!(keep(&*scene.machine, PATH).unwrap(), kept, "the answer was lost");
    let refused = scene.take().await.unwrap_err();
    assert!(refused.step == "ownership" && refused.message.contains("not written over"), "{refused:?}");
    assert_eq!(look_at_snapshot(&*scene.machine, PATH).unwrap(), Some(kept.clone()));
}

#[tokio::test(start_paused = true)]
async fn only_the_snapshot_that_is_meant_is_removed() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.take().await.unwrap();
    let kept = keep(&*scene.machine, PATH).unwrap();
    assert!(matches!(discard(&*scene.machine, PATH, "0"), Err(SnapshotError::Another { .. })));
    discard(&*scene.machine, PATH, &kept.sha256).unwrap();
    discard(&*scene.machine, PATH, &kept.sha256).unwrap();
    scene.machine.put(PATH, "a letter");
    assert!(matches!(discard(&*scene.machine, PATH, &kept.sha256), Err(SnapshotError::Another { .. })));
    assert_eq!(look_at_snapshot(&*scene.machine, PATH).unwrap(), None, "of another file nothing is told");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_well_gives_no_snapshot() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.member_dies("cp-1");
    let refused = scene.take().await.unwrap_err();
    assert!(refused.step == "snapshot" && refused.message.contains("does not answer"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_timer_takes_snapshots_and_goes_with_the_cluster() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let nonsense = Schedule { schedule: "nonsense".into(), ..daily() };
    let refused = scene.schedule(Some(nonsense)).await.unwrap_err();
    assert!(refused.step == "schedule" && refused.message.contains("calendar"), "{refused:?}");
    assert_eq!(scene.status().await.snapshots, None);
    for (wanted, changes) in [(daily(), 1), (daily(), 0), (Schedule { keep: 3, ..daily() }, 1)] {
        assert_eq!(scene.schedule(Some(wanted.clone())).await.unwrap().changes, changes);
        let there = scene.status().await.snapshots.unwrap();
        assert_eq!((there.schedule, there.active, there.failure.as_str()), (wanted, true, ""));
    }
    scene.machine.stop_timer();
    assert!(!scene.status().await.snapshots.unwrap().active);
    assert_eq!(scene.schedule(Some(daily())).await.unwrap().changes, 1);
    assert_eq!(scene.schedule(None).await.unwrap().changes, 1);
    assert_eq!(scene.schedule(None).await.unwrap().changes, 0);
    scene.schedule(Some(daily())).await.unwrap();
    scene.reset().await.unwrap();
    assert_eq!(scene.machine.list("/etc/systemd/system").unwrap(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_new_bucket_is_tried_at_once_and_its_key_goes_with_it() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let key = |scene: &Scene| scene.state().read("cluster/snapshots-s3-secret").unwrap();
    let target = |endpoint: &str| Target { endpoint: endpoint.to_owned(), ..Target::default() };
    let away = Schedule { s3: Some(target("https://one")), ..daily() };
    assert_eq!(scene.schedule(Some(away.clone())).await.unwrap().changes, 2);
    assert_eq!(key(&scene).as_deref(), Some("of the bucket"));
    let host: &dyn Host = &*scene.machine;
    let timer = host.text("/etc/systemd/system/groundwork-etcd-snapshot.timer").unwrap().unwrap();
    assert!(timer.contains("https://one") && !timer.contains("of the bucket"), "{timer}");
    for (wanted, changes) in [(away.clone(), 0), (Schedule { keep: 9, ..away.clone() }, 1)] {
        assert_eq!(scene.schedule(Some(wanted)).await.unwrap().changes, changes);
    }
    let other = Schedule { s3: Some(target("https://two")), ..daily() };
    assert_eq!(scene.schedule(Some(other)).await.unwrap().changes, 2);
    scene.schedule(Some(daily())).await.unwrap();
    assert_eq!(key(&scene), None);
    scene.schedule(Some(away)).await.unwrap();
    scene.reset().await.unwrap();
    assert_eq!(key(&scene), None);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_failed_is_told_and_made_up_for() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.schedule(Some(daily())).await.unwrap();
    scene.machine.snapshots_fail(2);
    assert!(scene.status().await.snapshots.unwrap().failure.contains("no space left"));
    let refused = scene.schedule(Some(daily())).await.unwrap_err();
    assert!(refused.step == "snapshot" && refused.message.contains("no space left"), "{refused:?}");
    assert_eq!(scene.schedule(Some(daily())).await.unwrap().changes, 1);
    assert_eq!(scene.status().await.snapshots.unwrap().failure, "");
}

#[tokio::test(start_paused = true)]
async fn the_timers_process_keeps_as_many_as_it_is_told() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    let folder = "/var/backups/etcd";
    for name in
        ["etcd-20200101000000Z.db", "etcd-20200102000000Z.db", "etcd-by-hand.db", ".etcd-20200103000000Z.db.part"]
    {
        scene.machine.put(&format!("{folder}/{name}"), "");
    }
    let (path, _) = take_scheduled(&*scene.machine, folder, 2).await.unwrap();
    let names = scene.machine.list(folder).unwrap();
    let newest = path.rsplit('/').next().unwrap();
    assert_eq!(names, ["etcd-20200102000000Z.db", newest, "etcd-by-hand.db"]);
    // Another one, of the same second.
    let (second, _) = take_scheduled(&*scene.machine, folder, 2).await.unwrap();
    assert!(second > path, "{second}");
    assert_eq!(
        scene.machine.list(folder).unwrap()[..2],
        [path, second].map(|path| path.rsplit('/').next().unwrap().to_owned())
    );
    // Of a clock that was ahead.
    for name in ["etcd-29990101000000Z.db", "etcd-29990102000000Z.db"] {
        scene.machine.put(&format!("{folder}/{name}"), "");
    }
    let (third, _) = take_scheduled(&*scene.machine, folder, 2).await.unwrap();
    assert!(scene.machine.list(folder).unwrap().iter().any(|name| third.ends_with(name.as_str())), "{third}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_begins_with_a_snapshot_forgets_the_nodes_of_before() {
    let mut scene = Scene::new();
    let refused = scene.restore().await.unwrap_err();
    assert!(refused.step == "restore" && refused.message.contains(PATH), "{refused:?}");
    assert_eq!(scene.machine.left(), [""; 0]);
    scene.machine.put(PATH, "a snapshot of revision 7");
    scene.machine.add_node("worker-9", false);
    scene.restore().await.unwrap();
    assert_eq!((scene.machine.node("worker-9"), scene.machine.node("cp-1").is_some()), (None, true));
    let init = scene.machine.commands().into_iter().find(|line| line.contains("init --config")).unwrap();
    assert!(init.contains("--ignore-preflight-errors=DirAvailable--var-lib-etcd"), "{init}");
    // Nothing is put into a cluster that there is.
    assert_eq!(scene.restore().await.unwrap().changes, 0);

    // The agent died when kubeadm was done, and before the nodes were gone.
    crate::cluster::evidence::Attempt::new("init", "cp-1").under(&scene.authority_id()).note(&scene.state()).unwrap();
    scene.machine.add_node("worker-9", false);
    scene.restore().await.unwrap();
    assert_eq!((scene.machine.node("worker-9"), scene.machine.node("cp-1").is_some()), (None, true));
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_was_cut_off_begins_anew() {
    for moment in 0..MOMENTS.0 {
        let mut scene = Scene::new();
        scene.machine.put(PATH, "a snapshot of revision 7");
        scene.machine.dies_after(Some(moment));
        scene.restore().await.unwrap_err();
        scene.machine.dies_after(None);
        scene.restore().await.unwrap_or_else(|failure| panic!("after {moment}: {failure:?}"));
        assert_eq!(scene.status().await.evidence.standing, Standing::ControlPlane);
    }
}

#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_when_they_end_soon_and_the_pods_take_them() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.certify_for(40);
    assert_eq!(scene.renew().await.unwrap().changes, 0);
    scene.machine.certify_for(20);
    assert_eq!(scene.renew().await.unwrap().changes, 2, "renewed, and restarted");
    let manifest = scene.machine.read("/etc/kubernetes/manifests/etcd.yaml").unwrap().unwrap();
    assert!(String::from_utf8_lossy(&manifest).contains("groundwork/certificates"));
    let status = scene.status().await;
    let ends: Vec<u64> = status.certificates.iter().filter(|one| !one.authority).map(|one| one.ends).collect();
    assert_eq!((ends.len(), status.renewal_unfinished), (2, false));
    assert_eq!(scene.renew().await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_renewal_that_was_cut_off_are_restarted_later() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.certify_for(365);
    scene.state().write("cluster/renewal", "1796000000").unwrap();
    assert!(scene.status().await.renewal_unfinished);
    assert_eq!(scene.renew().await.unwrap().changes, 1);
    assert!(!scene.status().await.renewal_unfinished);
    assert!(!scene.machine.commands().iter().any(|line| line.contains("certs renew")));
}

#[tokio::test(start_paused = true)]
async fn certificates_that_are_over_are_renewed_although_nothing_answers() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.certify_for(0);
    scene.machine.api_down(true);
    scene.renew().await.unwrap();
    assert!(scene.story.iter().any(|what| matches!(what, What::Note { warning: true, .. })));
    scene.machine.api_down(false);
    assert_eq!(scene.renew().await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_quorum_is_recovered_from_the_member_that_is_left_from_wherever_it_was_cut_off() {
    for moment in 1.. {
        let mut scene = Scene::left_alone().await;
        scene.machine.quorum_is_lost();
        scene.machine.lives_for(Some(moment));
        let cut = scene.recover(false).await;
        scene.machine.lives_for(None);
        if cut.is_err() {
            assert!(scene.status().await.quorum_recovery.unwrap().unfinished, "cut after {moment} changes");
            scene.recover(false).await.unwrap();
        }
        let last = scene.status().await.quorum_recovery.unwrap();
        assert_eq!((last.incident.as_str(), last.unfinished), ("a fire", false));
        assert_eq!(scene.machine.members(), ["cp-1"], "cut after {moment} changes");
        let manifest = scene.of_etcd().unwrap();
        assert!(
            manifest.contains("--initial-cluster=cp-1=https://cp-1:2380\n") && !manifest.contains("force"),
            "{manifest}"
        );
        assert_eq!(scene.recover(false).await.unwrap().changes, 0);
        if cut.is_ok() {
            assert!(moment > 2, "{moment}");
            break;
        }
    }
    let mut scene = Scene::left_alone().await;
    scene.machine.quorum_is_lost();
    scene.recover(false).await.unwrap();
    let commands = scene.machine.commands();
    assert!(
        commands.iter().any(|line| line
            .contains("cp -a --reflink=auto /var/lib/etcd/member /var/backups/groundwork/etcd/before-recovery-")),
        "{commands:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recovered_while_etcd_has_a_leader() {
    let mut scene = Scene::left_alone().await;
    let before = scene.of_etcd();
    for stand_down in [false, true] {
        assert_eq!(scene.recover(stand_down).await.unwrap_err().step, "quorum");
    }
    assert_eq!((scene.of_etcd(), scene.machine.members().len()), (before, 3));
    assert_eq!(scene.status().await.quorum_recovery, None);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_the_one_to_go_on_stops_for_good_and_may_be_reset() {
    let mut scene = Scene::left_alone().await;
    scene.machine.quorum_is_lost();
    scene.recover(true).await.unwrap();
    assert_eq!(scene.of_etcd(), None);
    assert_eq!(scene.recover(true).await.unwrap().changes, 0);
    assert_eq!(scene.standing().await, Standing::ControlPlane);
    scene.reset().await.unwrap();
    assert_eq!(scene.machine.left(), [""; 0]);
}
