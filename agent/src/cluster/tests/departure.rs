//! Nodes that leave: drained first, with their budgets honoured, and never the last control plane.

use super::super::remove;
use super::{Scene, Standing};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_worker_that_goes_waits_for_its_pods_and_is_clean_then() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    scene.machine.add_pod("web", 3);
    assert_eq!(scene.leave().await.unwrap().changes, 2, "drained and reset");
    assert!(scene.notes().contains("waiting for default/web: the disruption budget web needs 2"), "{}", scene.notes());
    assert_eq!(scene.machine.node("worker-1"), Some((true, true)), "cordoned, and marked for the cluster's change");
    assert_eq!((scene.standing().await, scene.machine.pods()), (Standing::Clean, Vec::new()));
    assert_eq!(scene.leave().await.unwrap().changes, 0);
    scene.join().await.unwrap();
    assert_eq!(scene.machine.node("worker-1"), Some((false, false)), "back again, it takes pods");
}

#[tokio::test(start_paused = true)]
async fn a_departure_that_was_cut_off_in_its_reset_is_finished() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    let here = scene.cluster_id().await;
    super::super::evidence::Attempt::new("reset", "").under(&here).note(&scene.state()).unwrap();
    assert_eq!(scene.leave().await.unwrap().changes, 1);
    assert_eq!(scene.standing().await, Standing::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_pods_may_not_go_stays_and_names_the_budget() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    scene.machine.add_pod("web", u32::MAX);
    let failure = scene.leave().await.unwrap_err();
    assert_eq!(
        (failure.step.as_str(), failure.message.as_str()),
        (
            "drain",
            "pods do not leave worker-1 within 60 s, and it stays cordoned: default/web: the disruption budget web needs 2 healthy \
             pods and has 2 currently"
        )
    );
    assert_eq!(scene.standing().await, Standing::Worker, "nothing was reset");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_nobody_can_drain_goes_with_a_warning() {
    for (api_down, words) in [(true, "the API server does not answer"), (false, "is not ready")] {
        let mut scene = Scene::new();
        scene.join().await.unwrap();
        scene.machine.add_pod("web", u32::MAX);
        if api_down {
            scene.machine.api_down(true)
        } else {
            scene.machine.stop_kubelet()
        };
        scene.leave().await.unwrap();
        assert!(scene.notes().contains(words), "{}", scene.notes());
        assert_eq!(scene.standing().await, Standing::Clean);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_control_plane_never_goes_and_a_strangers_node_is_left_alone() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.add_node("worker-1", false);
    let failure = scene.leave().await.unwrap_err();
    assert_eq!(failure.step, "quorum");
    assert!(failure.message.contains("only control plane of a cluster with 1 more nodes"), "{}", failure.message);
    assert_eq!(scene.standing().await, Standing::ControlPlane);
    super::super::evidence::Attempt::forget(&scene.state()).unwrap();
    assert_eq!(scene.leave().await.unwrap().changes, 0);
    assert!(scene.notes().contains("did not make"), "{}", scene.notes());
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_is_removed_without_waiting_for_its_pods() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.add_node("worker-1", false);
    scene.machine.add_pod("web", u32::MAX);
    scene.machine.stop_kubelet();
    let state = scene.state();
    let outcome = scene.run(|cx| remove(cx, state, "worker-1".into(), Some(Duration::from_secs(60)))).await.unwrap();
    assert_eq!((outcome.changes, scene.machine.node("worker-1")), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_has_just_died_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    scene.machine.add_pod("web", 0);
    scene.machine.kubelet_dies(u32::MAX);
    scene.leave().await.unwrap();
    assert!(scene.notes().contains("the kubelet of worker-1 does not run"), "{}", scene.notes());
    assert_eq!(scene.standing().await, Standing::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_while_it_is_drained_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    scene.machine.add_node("worker-1", false);
    scene.machine.add_pod("web", 0);
    scene.machine.kubelet_dies(5);
    let state = scene.state();
    let outcome = scene.run(|cx| remove(cx, state, "worker-1".into(), Some(Duration::from_secs(60)))).await.unwrap();
    assert_eq!((outcome.changes, scene.machine.node("worker-1")), (1, None));
    assert!(scene.notes().contains("its pods were not waited for"), "{}", scene.notes());
    assert_eq!(scene.machine.pods(), ["web"], "nobody ended it");
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_tells_what_its_cluster_would_leave_elsewhere() {
    let mut scene = Scene::new();
    assert!(crate::cluster::leftovers(&*scene.machine).await.is_err(), "no control plane");
    scene.init().await.unwrap();
    let found = crate::cluster::leftovers(&*scene.machine).await.unwrap();
    assert_eq!(found.services[0].addresses, ["192.0.2.80"]);
    assert_eq!((found.volumes.len(), found.volumes[0].claim.as_str()), (1, "default/data"));
    scene.machine.api_down(true);
    assert!(crate::cluster::leftovers(&*scene.machine).await.unwrap_err().to_string().contains("does not answer"));
}
