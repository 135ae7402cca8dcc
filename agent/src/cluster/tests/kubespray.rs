//! A control plane as Kubespray leaves it: by kubeadm, with programs of its own in `/usr/local/bin`, a kubelet with a unit and a configuration
//! of its own, and an etcd that is a service of systemd. It is taken over; what needs packages, or an etcd of kubeadm's, is refused before
//! anything is done. Source: Kubespray (2026-08), `kubeadm-config.v1beta4.yaml.j2`, `kubelet.service.j2`, `kubelet.env.v1beta1.j2`,
//! `etcd.env.j2`, `0050-create_directories.yml`.

use super::*;
use crate::cluster::{
    ClusterError, ConfigurePlan, Foreign, QuorumPlan, Schedule, SnapshotPlan, UpgradePlan, Wanted, adopt, configure,
    look_at_found, recover_quorum, remove, schedule, take_snapshot, upgrade,
};
use serde_json::json;
use zeroize::Zeroizing;

const SERVERS: [&str; 3] = ["https://10.99.0.11:2379", "https://10.99.0.12:2379", "https://10.99.0.13:2379"];
const UNIT: &str = "[Unit]\nDescription=Kubernetes Kubelet Server\nAfter=containerd.service\nWants=containerd.service\n\n\
    [Service]\nEnvironmentFile=-/etc/kubernetes/kubelet.env\nExecStart=/usr/local/bin/kubelet \\\n\t\t$KUBE_LOGTOSTDERR \\\n\
    \t\t$KUBELET_ARGS\nRestart=always\nRestartSec=10s\n\n[Install]\nWantedBy=multi-user.target\n";
const ENVIRONMENT: &str = "KUBE_LOG_LEVEL=\"--v=2\"\nKUBELET_ADDRESS=\"--node-ip=10.99.0.11\"\nKUBELET_HOSTNAME=\"--hostname-override=cp-1\"\n\n\
    KUBELET_ARGS=\"--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \\\n--config=/etc/kubernetes/kubelet-config.yaml \\\n\
    --kubeconfig=/etc/kubernetes/kubelet.conf \\\n--runtime-cgroups=/system.slice/containerd.service \\\n \"\n\
    PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";

impl Scene {
    fn of_kubespray() -> Self {
        let scene = Self::made_by_hand();
        let machine = &scene.machine;
        machine.without_packages();
        let gone: &dyn Host = &**machine;
        gone.remove("/etc/kubernetes/manifests/etcd.yaml").unwrap();
        machine.put(
            "/etc/kubernetes/manifests/kube-apiserver.yaml",
            &format!(
                "    - --advertise-address=10.99.0.11\n    - --etcd-cafile=/etc/ssl/etcd/ssl/ca.pem\n    - --etcd-servers={}\n    \
                 image: registry.k8s.io/kube-apiserver:v1.35.1\n",
                SERVERS.join(",")
            ),
        );
        machine.put("/etc/systemd/system/kubelet.service", UNIT);
        machine.put("/etc/kubernetes/kubelet.env", ENVIRONMENT);
        machine
            .put("/etc/kubernetes/kubelet-config.yaml", "kind: KubeletConfiguration\nclusterDNS:\n- 169.254.25.10\n");
        machine.put("/etc/etcd.env", "ETCD_DATA_DIR=/var/lib/etcd\nETCD_NAME=etcd1\n");
        let cluster = json!({
            "apiServer": { "certSANs": ["kubernetes", "cp-1", "lb-apiserver.kubernetes.local", "10.233.0.1", "127.0.0.1", "::1"] },
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "certificatesDir": "/etc/kubernetes/ssl",
            "clusterName": "cluster.local",
            "controlPlaneEndpoint": "10.99.0.11:6443",
            "etcd": { "external": {
                "caFile": "/etc/ssl/etcd/ssl/ca.pem",
                "certFile": "/etc/ssl/etcd/ssl/node-cp-1.pem",
                "endpoints": SERVERS,
                "keyFile": "/etc/ssl/etcd/ssl/node-cp-1-key.pem",
            } },
            "kind": "ClusterConfiguration",
            "kubernetesVersion": "v1.35.1",
            "networking": { "dnsDomain": "cluster.local", "podSubnet": "10.233.64.0/18", "serviceSubnet": "10.233.0.0/18" },
        });
        machine.set_document("kubeadm-config", &cluster);
        scene
    }

    async fn of_kubespray_taken_over() -> Self {
        let scene = Self::of_kubespray();
        let here = scene.cluster_id().await;
        adopt(&*scene.machine, &scene.state(), &here).unwrap();
        scene
    }

    /// Files of the cluster, and what stands in them.
    fn whole(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let host: &dyn Host = &*self.machine;
        self.machine.left().into_iter().map(|path| (path.clone(), host.read(&path).unwrap())).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_of_kubesprays_is_looked_at_and_taken_over() {
    let scene = Scene::of_kubespray();
    let found = look_at_found(&*scene.machine).await.unwrap();
    assert_eq!((found.node_name.as_str(), found.endpoint.as_str()), ("cp-1", "10.99.0.11:6443"));
    assert_eq!((found.pod_subnet.as_str(), found.service_subnet.as_str()), ("10.233.64.0/18", "10.233.0.0/18"));
    assert!(found.certificate_names.contains(&"lb-apiserver.kubernetes.local".to_owned()));
    let told = status(&*scene.machine, &scene.state()).await.unwrap();
    assert_eq!((told.evidence.standing, told.version.as_str()), (Standing::ControlPlane, "v1.35.1"));
    assert_eq!(told.etcd, Ok(Vec::new()), "its members are not for kubeadm's certificates to ask");
    let foreign = Foreign {
        kubelet: "/usr/local/bin/kubelet".to_owned(),
        config: "/etc/kubernetes/kubelet-config.yaml".to_owned(),
        etcd: SERVERS.map(str::to_owned).to_vec(),
        member: true,
    };
    assert_eq!(told.foreign, foreign);
    let here = scene.cluster_id().await;
    adopt(&*scene.machine, &scene.state(), &here).unwrap();
    let material = join_material(&*scene.machine, Duration::from_secs(60), Joiner::Worker).await.unwrap();
    assert_eq!(material.endpoint, "10.99.0.11:6443");
    let commands = scene.machine.commands();
    let strange = commands.iter().find(|line| line.contains("/usr/bin/kube"));
    assert!(strange.is_none(), "programs are found where they are: {strange:?}");
}

#[tokio::test(start_paused = true)]
async fn what_needs_packages_or_an_etcd_of_kubeadms_is_refused_before_anything_is_done() {
    let mut scene = Scene::of_kubespray_taken_over().await;
    let (cluster_id, before) = (scene.cluster_id().await, scene.whole());
    let (name, id) = (|| "cp-1".to_owned(), || cluster_id.clone());
    let mut told = Vec::new();
    let state = scene.state();
    let plan = UpgradePlan {
        version: "1.35.9".parse().unwrap(),
        node_name: name(),
        cluster_id: id(),
        drain: Duration::from_secs(60),
        ignored_checks: Vec::new(),
        only_check: true,
        after: None,
    };
    told.push(scene.run(|cx| upgrade(cx, state, plan)).await);
    let (state, plan) = (scene.state(), SnapshotPlan { cluster_id: id(), path: "/var/backups/one.db".to_owned() });
    told.push(scene.run(|cx| take_snapshot(cx, state, plan)).await);
    let daily = Schedule { schedule: "daily".into(), keep: 2, directory: "/var/backups".into(), s3: None };
    let wanted = Some(Wanted { schedule: daily, secret: Zeroizing::default() });
    let (state, cluster) = (scene.state(), id());
    told.push(scene.run(|cx| schedule(cx, state, cluster, wanted)).await);
    let plan = QuorumPlan { cluster_id: id(), incident: "a fire".to_owned(), stand_down: false };
    let state = scene.state();
    told.push(scene.run(|cx| recover_quorum(cx, state, plan)).await);
    let mut declared = Overlay::default();
    declared.kubelet.insert("maxPods".to_owned(), json!(50));
    let plan = ConfigurePlan { cluster_id: id(), node_name: name(), declared, ..ConfigurePlan::default() };
    let state = scene.state();
    told.push(scene.run(|cx| configure(cx, state, plan)).await);
    let state = scene.state();
    told.push(scene.run(|cx| remove(cx, state, "cp-1".to_owned(), None)).await);
    told.push(scene.leave().await);
    told.push(scene.reset_for(&cluster_id).await);
    let told: Vec<Failure> = told.into_iter().map(Result::unwrap_err).collect();
    let steps: Vec<&str> = told.iter().map(|failure| failure.step.as_str()).collect();
    assert_eq!(steps, ["programs", "snapshot", "snapshot", "etcd", "config", "quorum", "quorum", "etcd"]);
    for (failure, words) in told.iter().zip([
        "/usr/local/bin/kubelet",
        SERVERS[2],
        SERVERS[0],
        SERVERS[0],
        "/etc/kubernetes/kubelet-config.yaml",
        SERVERS[1],
        "/var/lib/etcd/member",
        "/var/lib/etcd/member",
    ]) {
        assert!(failure.message.contains(words), "{failure:?}");
    }
    assert_eq!(scene.whole(), before);
    let refused = join_material(&*scene.machine, Duration::from_secs(60), Joiner::ControlPlane).await;
    assert!(matches!(refused, Err(ClusterError::ForeignEtcd(_))), "{refused:?}");
}
