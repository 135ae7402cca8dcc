//! The configuration of a living cluster, changed on an imitated machine: what comes up, what does not, and every cut in between.

use super::super::{ConfigurePlan, Differences, Overlay, configure, look_at_configuration, status};
use super::Scene;
use crate::host::Host;
use crate::run::{Failure, Outcome};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

impl Scene {
    async fn living() -> Self {
        let mut scene = Self::new();
        scene.init().await.unwrap();
        scene.machine.living();
        scene
    }

    async fn configure(&mut self, declared: &Overlay, before: &Overlay) -> Result<Outcome, Failure> {
        self.configure_as("cp-1", declared, before, false).await
    }

    async fn configure_as(
        &mut self,
        node_name: &str,
        declared: &Overlay,
        before: &Overlay,
        settle: bool,
    ) -> Result<Outcome, Failure> {
        let (state, cluster_id) = (self.state(), self.cluster_id().await);
        let (declared, before) = (declared.clone(), before.clone());
        let plan = ConfigurePlan { cluster_id, node_name: node_name.into(), declared, before, kubelet: true, settle };
        self.run(|cx| configure(cx, state, plan)).await
    }

    async fn differences(&self, declared: &Overlay) -> Differences {
        look_at_configuration(&*self.machine, declared).await.unwrap()
    }

    fn manifest(&self, name: &str) -> String {
        self.text(&format!("/etc/kubernetes/manifests/{name}.yaml")).unwrap()
    }

    fn text(&self, path: &str) -> Option<String> {
        let host: &dyn Host = &*self.machine;
        host.text(path).unwrap()
    }

    /// Manifests and documents, as far as they say what runs.
    fn stands(&self) -> Vec<String> {
        let own = |text: String| {
            text.lines()
                .filter(|line| !line.contains("annotations:") && !line.contains("groundwork/"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let manifests = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
            .map(|name| own(self.manifest(name)));
        let documents =
            ["kubeadm-config", "kubelet-config", "kube-proxy"].map(|map| self.machine.document(map).to_string());
        let kubelet = self.text("/var/lib/kubelet/config.yaml");
        manifests.into_iter().chain(documents).chain(kubelet).chain([self.serving().join(" ")]).collect()
    }

    /// Names in the API server's certificate.
    fn serving(&self) -> Vec<String> {
        let pem = self.text("/etc/kubernetes/pki/apiserver.crt").unwrap_or_default();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        trust::Certificate::read(&der).unwrap().hosts
    }

    async fn is_unfinished(&self) -> bool {
        status(&*self.machine, &self.state()).await.unwrap().configuration_unfinished
    }
}

fn arguments(all: &[(&str, &str, &str)]) -> Overlay {
    let mut cluster = json!({});
    for (section, name, value) in all {
        let list = &mut cluster[*section]["extraArgs"];
        if list.is_null() {
            *list = json!([]);
        }
        list.as_array_mut().unwrap().push(json!({ "name": name, "value": value }));
    }
    overlay(&cluster, &json!({}), &json!({}))
}

fn overlay(cluster: &Value, kubelet: &Value, kube_proxy: &Value) -> Overlay {
    let fragment = |value: &Value| value.as_object().cloned().unwrap();
    Overlay {
        cluster: fragment(cluster),
        kubelet: fragment(kubelet),
        kube_proxy: fragment(kube_proxy),
        ..Overlay::default()
    }
}

/// Something of each part.
fn all() -> Overlay {
    let mut cluster = arguments(&[("apiServer", "v", "4"), ("scheduler", "v", "5")]).cluster;
    cluster["apiServer"]["certSANs"] = json!(["api.example.org"]);
    overlay(&cluster.into(), &json!({ "maxPods": 50 }), &json!({ "mode": "nftables" }))
}

#[tokio::test(start_paused = true)]
async fn arguments_are_changed_in_place_one_part_after_the_other() {
    let mut scene = Scene::living().await;
    let (none, one) = (Overlay::default(), arguments(&[("apiServer", "v", "4")]));
    let (scheduler, manager) = (scene.manifest("kube-scheduler"), scene.manifest("kube-controller-manager"));
    assert!(!scene.differences(&one).await.node.is_empty());
    scene.configure(&one, &none).await.unwrap();
    assert!(scene.manifest("kube-apiserver").contains("- --v=4\n"));
    assert_eq!(
        (scene.manifest("kube-scheduler"), scene.manifest("kube-controller-manager")),
        (scheduler, manager),
        "nobody else is restarted"
    );
    assert_eq!(
        scene.machine.document("kubeadm-config")["apiServer"]["extraArgs"],
        json!([{ "name": "v", "value": "4" }])
    );
    assert_eq!(scene.differences(&one).await, Differences::default());
    assert_eq!(scene.configure(&one, &none).await.unwrap().changes, 0);

    let other = arguments(&[("scheduler", "v", "5")]);
    scene.configure(&other, &one).await.unwrap();
    assert!(
        !scene.manifest("kube-apiserver").contains("--v=") && scene.manifest("kube-scheduler").contains("- --v=5\n")
    );
    assert_eq!(scene.differences(&other).await.cluster, ["a change of `config` did not come to its end on all nodes"]);
    scene.configure_as("cp-1", &other, &one, true).await.unwrap();
    assert_eq!(scene.differences(&other).await, Differences::default());
    assert!(!scene.is_unfinished().await);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_argument_costs_nothing_and_is_told_with_the_last_words() {
    for section in ["apiServer", "controllerManager", "scheduler"] {
        let mut scene = Scene::living().await;
        let before = scene.stands();
        let wrong = arguments(&[("apiServer", "v", "4"), (section, "nonsense", "1")]);
        let refused = scene.configure(&wrong, &Overlay::default()).await.unwrap_err();
        assert_eq!(refused.step, "config cluster");
        for words in
            ["does not start as it is declared: unknown flag: --nonsense", "what it was before is in force again"]
        {
            assert!(refused.message.contains(words), "{}", refused.message);
        }
        assert_eq!(scene.stands(), before, "{section}");
        assert!(!scene.is_unfinished().await);
        assert_eq!(
            scene.differences(&Overlay::default()).await,
            Differences::default(),
            "the change can be taken back"
        );
    }
}

/// Names in the API server's certificate.
fn names(names: &[&str]) -> Overlay {
    overlay(&json!({ "apiServer": { "certSANs": names } }), &json!({}), &json!({}))
}

#[tokio::test(start_paused = true)]
async fn the_api_server_shows_the_names_that_are_declared_and_no_longer_those_of_before() {
    let mut scene = Scene::living().await;
    let (none, one) = (Overlay::default(), names(&["api.example.org", "192.0.2.10"]));
    let found = scene.differences(&one).await;
    assert_eq!(
        found.cluster,
        ["the cluster's ClusterConfiguration is not as `certificate_names` says: `apiServer.certSANs`"]
    );
    assert_eq!(
        found.node,
        ["the certificate of its API server lacks names of `certificate_names`: `192.0.2.10`, `api.example.org`"]
    );
    let manifest = scene.manifest("kube-apiserver");
    scene.configure(&one, &none).await.unwrap();
    assert_eq!(scene.serving(), ["kubernetes", "10.99.0.11", "api.example.org", "192.0.2.10"]);
    assert_ne!(scene.manifest("kube-apiserver"), manifest, "it was started anew");
    assert_eq!(scene.differences(&one).await, Differences::default());
    assert_eq!(scene.configure(&one, &none).await.unwrap().changes, 0);
    scene.configure_as("cp-1", &one, &none, true).await.unwrap();

    let other = names(&["192.0.2.10"]);
    scene.configure(&other, &one).await.unwrap();
    assert_eq!(scene.serving(), ["kubernetes", "10.99.0.11", "192.0.2.10"]);
    scene.configure_as("cp-1", &other, &one, true).await.unwrap();
    assert_eq!(scene.configure(&other, &other).await.unwrap().changes, 0);

    // Somebody put another one there.
    scene.machine.remove("/etc/kubernetes/pki/apiserver.crt").unwrap();
    scene.machine.certify_for(365);
    assert_eq!(scene.differences(&other).await.node.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_whose_certificate_cannot_be_made_keeps_the_one_it_has() {
    let mut scene = Scene::living().await;
    scene.machine.remove("/etc/kubernetes/pki/ca.key").unwrap();
    let before = scene.serving();
    let refused = scene.configure(&names(&["api.example.org"]), &Overlay::default()).await.unwrap_err();
    assert!(refused.step == "certificate names" && refused.message.contains("kept elsewhere"), "{refused:?}");
    assert_eq!(scene.serving(), before);
    assert!(!scene.is_unfinished().await);
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_does_not_start_gets_what_it_had() {
    let mut scene = Scene::living().await;
    let before = scene.stands();
    let wrong = overlay(&json!({}), &json!({ "nonsense": 1 }), &json!({}));
    let refused = scene.configure(&wrong, &Overlay::default()).await.unwrap_err();
    assert_eq!(refused.step, "config kubelet");
    assert!(refused.message.contains("the kubelet does not start as it is declared"), "{}", refused.message);
    assert_eq!(scene.stands(), before);
    assert_eq!(scene.differences(&Overlay::default()).await, Differences::default());
    let right = overlay(&json!({}), &json!({ "maxPods": 50 }), &json!({}));
    scene.configure(&right, &Overlay::default()).await.unwrap();
    assert_eq!(scene.differences(&right).await, Differences::default());
    scene.configure(&Overlay::default(), &right).await.unwrap();
    assert!(scene.machine.document("kubelet-config")["maxPods"].is_null());
}

#[tokio::test(start_paused = true)]
async fn kube_proxy_is_replaced_and_one_that_does_not_come_up_is_again() {
    let mut scene = Scene::living().await;
    let before = scene.stands();
    let wrong = overlay(&json!({}), &json!({}), &json!({ "nonsense": 1 }));
    let refused = scene.configure(&wrong, &Overlay::default()).await.unwrap_err();
    assert!(refused.step == "config kube-proxy" && refused.message.contains("0 of 1 pods"), "{refused:?}");
    assert_eq!((scene.stands(), scene.machine.rollouts()), (before, 2));
    let right = overlay(&json!({}), &json!({}), &json!({ "mode": "nftables" }));
    scene.configure(&right, &Overlay::default()).await.unwrap();
    assert_eq!(
        (scene.machine.document("kube-proxy")["mode"].clone(), scene.machine.rollouts()),
        (json!("nftables"), 3)
    );
    assert_eq!(scene.configure(&right, &Overlay::default()).await.unwrap().changes, 0);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changed_by_hand_is_told_and_put_right() {
    let mut scene = Scene::living().await;
    let declared = all();
    scene.configure(&declared, &Overlay::default()).await.unwrap();
    let stands = scene.stands();
    scene.machine.put(
        "/etc/kubernetes/manifests/kube-apiserver.yaml",
        &scene.manifest("kube-apiserver").replace("--v=4", "--v=9"),
    );
    scene.machine.put("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\nmaxPods: 9\n");
    let mut proxy = scene.machine.document("kube-proxy");
    proxy["mode"] = json!("iptables");
    scene.machine.set_document("kube-proxy", &proxy);
    let found = scene.differences(&declared).await;
    assert_eq!(found.cluster, ["the cluster's KubeProxyConfiguration is not as `config.kube_proxy` says: `mode`"]);
    assert_eq!(
        found.node,
        [
            "its kubelet is not configured as `config.kubelet` says: `maxPods`",
            "its kube-apiserver does not run as `config.cluster` says: `apiServer.extraArgs.v`"
        ]
    );
    scene.configure(&declared, &declared).await.unwrap();
    assert_eq!((scene.stands(), scene.differences(&declared).await), (stands, Differences::default()));
}

#[tokio::test(start_paused = true)]
async fn a_worker_takes_what_the_cluster_has_noted() {
    let mut scene = Scene::new();
    scene.join().await.unwrap();
    scene.machine.living();
    for manifest in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        scene.machine.remove(&format!("/etc/kubernetes/manifests/{manifest}.yaml")).unwrap();
    }
    let declared = all();
    assert_eq!(scene.differences(&declared).await.node.len(), 1);
    let mut kubelet = scene.machine.document("kubelet-config");
    kubelet["maxPods"] = json!(50);
    scene.machine.set_document("kubelet-config", &kubelet);
    scene.configure_as("worker-1", &declared, &Overlay::default(), false).await.unwrap();
    assert_eq!(scene.differences(&declared).await, Differences::default());
    assert_eq!(scene.configure_as("worker-1", &declared, &Overlay::default(), false).await.unwrap().changes, 0);
    kubelet["nonsense"] = json!(1);
    scene.machine.set_document("kubelet-config", &kubelet);
    scene.configure_as("worker-1", &declared, &Overlay::default(), false).await.unwrap_err();
    assert_eq!(scene.differences(&declared).await, Differences::default(), "it has what it had");
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_kube_proxy_only_a_change_of_it_is_refused() {
    let mut scene = Scene::living().await;
    scene.machine.take_document("kube-proxy");
    let (old, new) = (json!({ "mode": "nftables" }), json!({ "mode": "ipvs" }));
    let declared = |proxy: &Value| overlay(&json!({}), &json!({ "maxPods": 50 }), proxy);
    scene.configure(&declared(&old), &declared(&old)).await.unwrap();
    assert_eq!(scene.differences(&declared(&old)).await, Differences::default());
    let refused = scene.configure(&declared(&new), &declared(&old)).await.unwrap_err();
    assert!(refused.step == "config" && refused.message.contains("no kube-proxy"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_of_another_cluster_is_left_alone() {
    let mut scene = Scene::living().await;
    let state = scene.state();
    let plan = ConfigurePlan {
        cluster_id: "sha256:00".into(),
        node_name: "cp-1".into(),
        declared: all(),
        ..ConfigurePlan::default()
    };
    let refused = scene.run(|cx| configure(cx, state, plan)).await.unwrap_err();
    assert_eq!(refused.step, "ownership");
}

/// Killed after each of its changes: the next one ends where an uncut one ends, and one that takes the change back where it began.
#[tokio::test(start_paused = true)]
async fn a_change_that_was_cut_off_comes_to_its_end_or_is_taken_back() {
    let mut whole = Scene::living().await;
    whole.configure(&all(), &Overlay::default()).await.unwrap();
    let (mut cuts, none) = (0, Overlay::default());
    for life in 1.. {
        let mut scene = Scene::living().await;
        let before = scene.stands();
        scene.machine.lives_for(Some(life));
        let ended = scene.configure(&all(), &none).await;
        scene.machine.lives_for(None);
        if ended.is_ok() {
            break;
        }
        cuts += 1;
        if life % 2 == 0 {
            scene.configure(&all(), &none).await.unwrap_or_else(|failure| panic!("after {life}: {failure:?}"));
            assert_eq!(scene.stands(), whole.stands(), "after {life}");
        } else {
            scene.configure(&none, &none).await.unwrap_or_else(|failure| panic!("after {life}: {failure:?}"));
            assert_eq!(scene.machine.document("kube-proxy")["mode"].as_str().unwrap_or_default(), "", "after {life}");
            assert!(!scene.stands().concat().contains("--v="), "after {life}");
            assert_eq!(scene.stands()[..4], before[..4], "after {life}");
        }
        assert!(!scene.is_unfinished().await, "after {life}");
    }
    assert!(cuts > 8, "{cuts}");
}

/// The API server is gone, and with it whom to ask.
#[tokio::test(start_paused = true)]
async fn an_agent_that_died_beside_an_api_server_that_does_not_start_brings_it_back() {
    let mut scene = Scene::living().await;
    let (before, wrong) = (scene.stands(), arguments(&[("apiServer", "nonsense", "1")]));
    // The note of what is laid, and the manifest.
    scene.machine.lives_for(Some(3));
    scene.configure(&wrong, &Overlay::default()).await.unwrap_err();
    scene.machine.lives_for(None);
    assert!(scene.is_unfinished().await && scene.manifest("kube-apiserver").contains("--nonsense"));
    scene.configure(&Overlay::default(), &Overlay::default()).await.unwrap();
    assert_eq!(scene.stands(), before);
    assert!(!scene.is_unfinished().await);
}
