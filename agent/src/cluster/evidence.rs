//! What stands on this machine of a cluster, judged from files alone.
//!
//! kubeadm writes nothing as a whole: killed at any moment it leaves a part. So an attempt of ours is noted before it begins and
//! crossed out when it is done; what stands here without such a note is somebody else's, and is never reset by itself.
//! Source: recordings of kubeadm v1.28 killed at several moments; node preparation reference, 2.6.

use crate::state::{State, StateError};
use serde::{Deserialize, Serialize};

/// Files whose presence tells something, with what they tell.
pub(super) const TRACES: [(&str, Trace); 10] = [
    ("/etc/kubernetes/manifests/kube-apiserver.yaml", Trace::Manifest),
    ("/etc/kubernetes/manifests/etcd.yaml", Trace::Manifest),
    ("/etc/kubernetes/admin.conf", Trace::Admin),
    ("/etc/kubernetes/kubelet.conf", Trace::Kubelet),
    ("/etc/kubernetes/bootstrap-kubelet.conf", Trace::Bootstrap),
    ("/var/lib/kubelet/pki/kubelet-client-current.pem", Trace::Credential),
    ("/etc/kubernetes/pki/ca.crt", Trace::Authority),
    ("/etc/kubernetes/pki/ca.key", Trace::Other),
    ("/var/lib/kubelet/config.yaml", Trace::Other),
    ("/var/lib/etcd/member", Trace::Etcd),
];

/// What a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trace {
    /// A control plane's static pod.
    Manifest,
    /// The administrator's access: a control plane.
    Admin,
    /// The kubelet has, or is about to have, an identity.
    Kubelet,
    /// The kubelet waits for its identity.
    Bootstrap,
    /// The kubelet's identity.
    Credential,
    /// The cluster's CA.
    Authority,
    /// etcd has data: nobody else's may be thrown away.
    Etcd,
    /// Part of one of these.
    Other,
}

/// How far this machine is in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of a cluster.
    Clean,
    /// Something, but no whole node.
    Partial,
    /// A whole control plane, as far as files tell.
    ControlPlane,
    /// A whole worker, as far as files tell.
    Worker,
}

/// Judges by the traces that were found.
pub(super) fn standing(found: &[Trace]) -> Standing {
    let has = |trace| found.contains(&trace);
    if found.is_empty() {
        Standing::Clean
    } else if has(Trace::Manifest) && has(Trace::Admin) && has(Trace::Kubelet) && has(Trace::Authority) {
        Standing::ControlPlane
    } else if has(Trace::Manifest) || has(Trace::Admin) || has(Trace::Etcd) {
        Standing::Partial
    } else if has(Trace::Kubelet) && has(Trace::Credential) && has(Trace::Authority) {
        Standing::Worker
    } else {
        Standing::Partial
    }
}

/// An attempt of ours to make this machine a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// `init`, `join` or `reset`
    pub(super) kind: String,
    /// Name of the node.
    pub(super) node_name: String,
    /// Whether etcd's folder had data before: then it is not ours to throw away.
    pub(super) etcd_before: bool,
    /// The CA of the cluster it made this machine a node of, once it came to its end.
    pub(super) cluster_id: Option<String>,
}

impl Attempt {
    /// One that is about to begin.
    pub(super) fn new(kind: &str, node_name: &str, etcd_before: bool) -> Self {
        Self { kind: kind.to_owned(), node_name: node_name.to_owned(), etcd_before, cluster_id: None }
    }

    /// The same, done: this machine is a node of the cluster with this CA.
    pub(super) fn finished(self, cluster_id: &str) -> Self {
        Self { cluster_id: Some(cluster_id.to_owned()), ..self }
    }

    /// The last one, if there was any.
    pub(super) fn last(state: &State) -> Result<Option<Self>, StateError> {
        Ok(state.read(FILE)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Notes it before it begins, or that it is done.
    pub(super) fn note(&self, state: &State) -> Result<(), StateError> {
        let text = serde_json::to_string(self).unwrap_or_default();
        state.write(FILE, &text)
    }

    /// Forgets it: the machine is clean again.
    pub(super) fn forget(state: &State) -> Result<(), StateError> {
        state.burn(FILE)
    }

    /// Whether what stands here may be thrown away without asking: our own attempt, not finished, over nobody's data.
    pub(super) fn may_be_undone(&self) -> bool {
        self.cluster_id.is_none() && !self.etcd_before
    }

    /// Whether the cluster with this CA may be what this attempt made: not, if somebody made another one after it.
    pub(super) fn may_have_made(&self, here: &str) -> bool {
        self.cluster_id.as_ref().is_none_or(|made| made == here)
    }
}

const FILE: &str = "cluster/attempt.json";

#[cfg(test)]
mod tests {
    use super::*;
    use Trace::{Admin, Authority, Bootstrap, Credential, Etcd, Kubelet, Manifest, Other};

    #[track_caller]
    fn check(found: &[Trace], want: Standing) {
        assert_eq!(standing(found), want, "{found:?}");
    }

    #[test]
    fn whole_nodes_are_recognised() {
        check(&[], Standing::Clean);
        check(&[Manifest, Admin, Kubelet, Credential, Authority, Other, Etcd], Standing::ControlPlane);
        check(&[Kubelet, Credential, Authority, Other], Standing::Worker);
    }

    #[test]
    fn what_a_killed_kubeadm_leaves_is_partial() {
        check(&[Authority, Other], Standing::Partial);
        check(&[Bootstrap, Authority, Other], Standing::Partial);
        check(&[Manifest, Authority], Standing::Partial);
        check(&[Admin, Kubelet, Authority], Standing::Partial);
        check(&[Etcd], Standing::Partial);
    }

    #[test]
    fn only_an_unfinished_attempt_of_ours_may_be_undone() {
        assert!(Attempt::new("init", "cp-1", false).may_be_undone());
        assert!(!Attempt::new("init", "cp-1", false).finished("sha256:00").may_be_undone());
        assert!(!Attempt::new("init", "cp-1", true).may_be_undone());
    }

    #[test]
    fn an_attempt_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        assert_eq!(Attempt::last(&state).unwrap(), None);
        let attempt = Attempt::new("join", "worker-1", false);
        attempt.note(&state).unwrap();
        assert_eq!(Attempt::last(&state).unwrap(), Some(attempt));
        Attempt::forget(&state).unwrap();
        assert_eq!(Attempt::last(&state).unwrap(), None);
    }
}
