//! What stands on this machine of a cluster, judged from files alone. The files here are kubeadm's; those of K3s and its relatives stand in `k3s`.
//!
//! kubeadm writes nothing as a whole: killed at any moment it leaves a part. So an attempt of ours is noted, with the CA of what it
//! makes, before it begins, and crossed out when it is done. What stands here without such a note, or with another CA, is somebody
//! else's, and is never reset by itself.
//! Source: recordings of kubeadm, 1.28 and 1.35, killed at several moments.

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
    ("/etc/kubernetes/pki/ca.key", Trace::AuthorityKey),
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
    /// Its key.
    AuthorityKey,
    /// etcd has data: nobody else's may be thrown away.
    Etcd,
    /// Another distribution than the one that is to stand here: never ours.
    Stranger,
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
    /// The CA of what it makes; `None` until there is one.
    pub(super) authority: Option<String>,
    /// The CA of the cluster it made this machine a node of, once it came to its end.
    pub(super) cluster_id: Option<String>,
    /// Tells what it makes from what others made, where that has no CA yet.
    #[serde(default)]
    pub(super) mark: Option<String>,
}

impl Attempt {
    /// One that is about to begin.
    pub(super) fn new(kind: &str, node_name: &str) -> Self {
        Self { kind: kind.to_owned(), node_name: node_name.to_owned(), authority: None, cluster_id: None, mark: None }
    }

    /// The same, whose work has this CA.
    pub(super) fn under(self, authority: &str) -> Self {
        Self { authority: Some(authority.to_owned()), ..self }
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

    /// Whether what was `found`, with the CA `here`, may be thrown away without asking: it is of our own attempt, not finished.
    pub(super) fn may_be_undone(&self, here: &str, found: &[Trace]) -> bool {
        let is_authority = |trace: &Trace| matches!(trace, Trace::Authority | Trace::AuthorityKey);
        match (&self.cluster_id, &self.authority) {
            (Some(_), _) => false,
            // A killed reset takes the CA away first.
            (None, Some(made)) => here.is_empty() || made == here,
            // It was killed before it knew its CA, and it makes nothing else before.
            (None, None) => found.iter().all(is_authority),
        }
    }

    /// Whether the cluster with this CA is what this attempt made: not, if somebody made another one after it.
    pub(super) fn has_made(&self, here: &str) -> bool {
        self.cluster_id.as_ref().or(self.authority.as_ref()).is_some_and(|made| made == here)
    }
}

const FILE: &str = "cluster/attempt.json";

#[cfg(test)]
mod tests {
    use super::*;
    use Trace::{Admin, Authority, AuthorityKey, Bootstrap, Credential, Etcd, Kubelet, Manifest, Other, Stranger};

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
        check(&[Stranger], Standing::Partial);
    }

    #[test]
    fn only_an_unfinished_attempt_of_ours_may_be_undone() {
        let begun = Attempt::new("init", "cp-1");
        let known = begun.clone().under("sha256:00");
        let done = known.clone().finished("sha256:00");
        for (attempt, here, found, may) in [
            (&begun, "", vec![], true),
            (&begun, "sha256:00", vec![Authority, AuthorityKey], true),
            (&begun, "sha256:00", vec![Authority, Manifest], false),
            (&begun, "", vec![Etcd], false),
            (&known, "sha256:00", vec![Authority, Manifest, Etcd], true),
            (&known, "", vec![Kubelet, Etcd], true),
            (&known, "sha256:01", vec![Authority], false),
            (&done, "sha256:00", vec![Authority], false),
        ] {
            assert_eq!(attempt.may_be_undone(here, &found), may, "{attempt:?} {here} {found:?}");
        }
    }

    #[test]
    fn an_attempt_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        assert_eq!(Attempt::last(&state).unwrap(), None);
        let attempt = Attempt::new("join", "worker-1").under("sha256:00");
        attempt.note(&state).unwrap();
        assert_eq!(Attempt::last(&state).unwrap(), Some(attempt));
        Attempt::forget(&state).unwrap();
        assert_eq!(Attempt::last(&state).unwrap(), None);
    }
}
