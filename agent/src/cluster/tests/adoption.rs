//! A node that somebody made by hand, taken over.

use super::*;
use crate::cluster::{adopt, look_at_found};

impl Scene {
    /// A control plane that kubeadm made, with a kubelet that has its certificate.
    pub(super) fn made_by_hand() -> Self {
        let scene = Self::new();
        scene.machine.init_by_hand();
        scene.machine.living();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:cp-1");
        let pem = params.self_signed(&key).unwrap().pem();
        scene.machine.put("/var/lib/kubelet/pki/kubelet-client-current.pem", &pem);
        scene
    }

    fn adopt(&self, cluster_id: &str) -> Result<(), String> {
        adopt(&*self.machine, &self.state(), cluster_id).map_err(|error| error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_somebody_made_is_ours_when_it_was_taken_over_and_not_before() {
    let mut scene = Scene::made_by_hand();
    let here = scene.cluster_id().await;
    assert_eq!(look_at_found(&*scene.machine).await.unwrap().node_name, "cp-1");
    assert_eq!(scene.reset_for(&here).await.unwrap_err().step, "ownership");
    assert!(scene.adopt("sha256:00").unwrap_err().contains("a node of another cluster"));
    for _ in 0..2 {
        scene.adopt(&here).unwrap();
        assert_eq!(scene.standing().await, Standing::ControlPlane);
    }
    scene.reset_for(&here).await.unwrap();
    assert_eq!(scene.machine.left(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_whole_node_is_not_taken_over() {
    let scene = Scene::new();
    assert!(scene.adopt("").unwrap_err().contains("no whole node"));
    let scene = Scene::made_by_hand();
    let here = scene.cluster_id().await;
    super::super::evidence::Attempt::new("join", "cp-1").under(&here).note(&scene.state()).unwrap();
    assert!(scene.adopt(&here).unwrap_err().contains("no whole node"), "a join of ours was cut off there");
}
