//! Servers that join others, leave them, and are taken out.

use super::imitation::{self, Moment};
use super::{Scene, server_of, settings};
use crate::cluster::k3s::{FurtherPlan, ServerPlan, join_server};
use crate::cluster::{Joiner, Standing, join_material, remove, status};
use crate::run::{Failure, Outcome};
use std::time::Duration;

impl Scene {
    pub(super) async fn join_server(&mut self) -> Result<Outcome, Failure> {
        let plan = self.further();
        self.join_server_with(plan).await
    }

    async fn join_server_with(&mut self, plan: FurtherPlan) -> Result<Outcome, Failure> {
        let state = self.state();
        self.run(|cx| join_server(cx, state, plan)).await
    }

    fn further(&self) -> FurtherPlan {
        let endpoint = "api.example.org:6443";
        let own = server_of(self.machine.own);
        let server = ServerPlan { node_name: "cp-2".into(), endpoint: Some(endpoint.into()), ..own };
        FurtherPlan {
            server,
            endpoint: endpoint.into(),
            token: self.machine.secret(),
            ca_hash: self.cluster_id(),
            near: vec!["10.42.0.0/16".into()],
        }
    }

    async fn remove(&mut self, name: &str) -> Result<Outcome, Failure> {
        let (state, name) = (self.state(), name.to_owned());
        self.run(|cx| remove(cx, state, name, Some(Duration::from_secs(60)))).await
    }

    pub(super) fn config(&self) -> serde_json::Value {
        serde_json::from_str(&self.machine.text(self.machine.own.places.config)).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_becomes_a_further_server_once_and_shows_the_secret_to_nobody() {
    let mut scene = Scene::new();
    scene.machine.has_server("cp-1");
    let mut plan = scene.further();
    plan.server.overlay = settings(r#"{"disable":["traefik"]}"#);
    plan.server.pod_subnet = Some("10.52.0.0/16".into());
    assert_eq!(scene.join_server_with(plan).await.unwrap().changes, 2);
    assert_eq!(scene.standing().await, Standing::ControlPlane);
    let config = scene.config();
    assert_eq!((config["server"].as_str(), config.get("cluster-init")), (Some("https://api.example.org:6443"), None));
    assert_eq!(
        (config["cluster-cidr"].as_str(), config["tls-san"][0].as_str()),
        (Some("10.52.0.0/16"), Some("api.example.org"))
    );
    let secret = scene.machine.secret();
    assert_eq!(scene.machine.text("/etc/rancher/k3s/groundwork-token").trim(), secret);
    assert!(!config.to_string().contains(&secret) && !scene.told().contains("5ecret"));
    assert!(!scene.machine.commands().concat().contains("5ecret"));
    assert_eq!(scene.join_server().await.unwrap().changes, 0);
    let told = status(&*scene.machine, &scene.state()).await.unwrap();
    let names: Vec<String> = told.etcd.unwrap().into_iter().map(|member| member.name).collect();
    assert_eq!(names, ["cp-1", "cp-2"], "by their nodes");
    assert_eq!(scene.join().await.unwrap_err().step, "ownership", "it is no agent");
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_cut_off_at_any_moment_is_begun_anew_or_goes_with_its_machine() {
    for moment in 0..Moment::FURTHER {
        for away in [false, true] {
            let mut scene = Scene::new();
            scene.machine.has_server("cp-1");
            scene.machine.dies_after(Some(moment));
            scene.join_server().await.unwrap_err();
            scene.machine.dies_after(None);
            if away {
                scene.leave().await.unwrap();
                assert_eq!(scene.standing().await, Standing::Clean, "after {moment} writes");
                assert_eq!(scene.machine.members(), ["cp-1-624f1727"], "after {moment} writes");
            }
            scene.join_server().await.unwrap_or_else(|failure| panic!("after {moment} writes: {failure:?}"));
            assert_eq!(scene.standing().await, Standing::ControlPlane, "after {moment} writes");
            assert_eq!(scene.join_server().await.unwrap().changes, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_that_nobody_watched_to_its_end_is_taken_as_it_came_up() {
    let mut scene = Scene::new();
    scene.machine.has_server("cp-1");
    scene.join_server().await.unwrap();
    let text = scene.state().read("cluster/attempt.json").unwrap().unwrap();
    let mut attempt: serde_json::Value = serde_json::from_str(&text).unwrap();
    attempt["cluster_id"] = serde_json::Value::Null;
    scene.state().write("cluster/attempt.json", &attempt.to_string()).unwrap();
    assert_eq!(scene.standing().await, Standing::Partial);
    assert_eq!(scene.join_server().await.unwrap().changes, 0);
    assert_eq!(scene.standing().await, Standing::ControlPlane);
    // One that was finished keeps its data, also when it does not start.
    scene.machine.stop();
    scene.machine.never_runs(include_str!("../recorded/server-mismatch.txt"));
    let failure = scene.join_server().await.unwrap_err();
    assert!(failure.message.contains("`pod_subnet`"), "{failure:?}");
    assert_eq!(scene.standing().await, Standing::ControlPlane);
}

#[tokio::test(start_paused = true)]
async fn why_a_server_is_not_let_in_is_told_with_what_to_do() {
    for (journal, words) in [
        (include_str!("../recorded/server-wrong-secret.txt"), "`token rotate`"),
        (include_str!("../recorded/server-mismatch.txt"), "`config.server`"),
        (include_str!("../recorded/server-duplicate-name.txt"), "take the node out of the configuration"),
    ] {
        let mut scene = Scene::new();
        scene.machine.never_runs(journal);
        let failure = scene.join_server().await.unwrap_err();
        assert!(failure.message.contains(words), "{failure:?}");
        assert!(!scene.machine.runs());
        scene.machine.never_runs("");
        scene.join_server().await.unwrap();
    }
    for bare in ["", "SECRET", "K10::server:SECRET"] {
        let mut scene = Scene::new();
        let failure = scene.join_server_with(FurtherPlan { token: bare.into(), ..scene.further() }).await.unwrap_err();
        assert!(failure.message.contains("which CA"), "{failure:?}");
        assert!(scene.machine.text("/etc/systemd/system/k3s.service").is_empty(), "nothing was begun");
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_that_began_the_cluster_is_one_of_many_once_others_join() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    assert_eq!(scene.config()["cluster-init"], true);
    let ask = || join_material(&*scene.machine, Duration::from_secs(60), Joiner::ControlPlane);
    let material = ask().await.unwrap();
    assert!(material.lasting && material.token == scene.machine.secret() && material.certificate_key.is_empty());
    let config = scene.config();
    assert_eq!((config["server"].as_str(), config.get("cluster-init")), (Some("https://10.99.0.11:6443"), None));
    assert_eq!(config["node-name"], "cp-1");
    assert_eq!(scene.machine.text(config["token-file"].as_str().unwrap()).trim(), material.token);
    ask().await.unwrap();
    assert_eq!(scene.config(), config);
    scene.machine.has_server("cp-2");
    scene.machine.member_dies("cp-2");
    let why = ask().await.unwrap_err().to_string();
    assert!(why.starts_with("etcd is not ready for another member: member cp-2 of etcd is not well"), "{why}");
    scene
        .machine
        .put("/var/lib/rancher/k3s/server/token", &format!("K10{}::server:other\n", imitation::sum("another CA")));
    scene.machine.has_server("cp-2");
    assert!(ask().await.unwrap_err().to_string().contains("another CA"));
    scene.reset().await.unwrap();
    assert!(scene.machine.text("/etc/rancher/k3s/groundwork-token").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_leaves_etcd_before_its_machine_goes_and_never_with_the_quorum() {
    let mut scene = Scene::new();
    scene.init().await.unwrap();
    ["cp-2", "cp-3"].iter().for_each(|name| scene.machine.has_server(name));
    scene.machine.member_dies("cp-3");
    for failure in [scene.leave().await.unwrap_err(), scene.remove("cp-2").await.unwrap_err()] {
        assert_eq!(failure.step, "quorum");
        assert!(failure.message.contains("of the other 2 members of etcd 1 are well"), "{failure:?}");
    }
    scene.remove("cp-3").await.unwrap();
    assert_eq!(
        (scene.machine.members().len(), scene.machine.nodes()),
        (2, ["cp-1", "cp-2"].map(str::to_owned).to_vec())
    );
    let forgets = |scene: &Scene| {
        let commands = scene.machine.commands();
        commands
            .iter()
            .filter(|line| line.contains("delete secret cp-3.node-password.k3s --namespace kube-system"))
            .count()
    };
    assert_eq!(forgets(&scene), 1, "a machine made anew comes back under this name");
    assert_eq!(scene.remove("cp-3").await.unwrap().changes, 0);
    assert_eq!(forgets(&scene), 2, "its Node was gone before");
    scene.leave().await.unwrap();
    assert_eq!((scene.standing().await, scene.machine.members()), (Standing::Clean, vec!["cp-2-624f1727".to_owned()]));
}

#[test]
fn a_member_is_known_by_its_node() {
    for (member, node) in
        [("m1-624f1727", "m1"), ("cp-1-0123abcd", "cp-1"), ("cp-1", "cp-1"), ("", ""), ("a-0123abcg", "a-0123abcg")]
    {
        assert_eq!(super::super::node_of(member), node);
    }
}
