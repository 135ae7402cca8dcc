//! What a cluster is made with, and where that keeps what every operation needs: credentials, authorities, its kubectl, its unit.
//!
//! Draining, marks of nodes, manifests, credentials and status are one code for all distributions, which asks here. How a node is made and
//! unmade is the distribution's own: kubeadm's stands in `init`, `join` and `cleanup`, K3s' in `k3s`. A further one is a variant here with
//! its paths, and a folder beside `k3s`.

use super::evidence::{TRACES, Trace};
use super::{k3s, kube};
use crate::host::{Host, HostError};

/// What a cluster is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Kubernetes as kubeadm sets it up.
    Kubeadm,
    /// K3s: one program, with etcd and containerd in it.
    K3s,
}

impl Distribution {
    /// Reads its name in a request.
    ///
    /// # Errors
    /// For a name that this agent does not know.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "kubeadm" => Ok(Self::Kubeadm),
            "k3s" => Ok(Self::K3s),
            other => Err(format!("distribution: this agent knows kubeadm and k3s, not {other:?}")),
        }
    }

    /// The one whose files stand on this machine; kubeadm where none's do. Where both stand, somebody else had a hand in it, and what K3s
    /// would do about its own part is not done.
    pub(super) fn here(host: &dyn Host) -> Result<Self, HostError> {
        let stands = |paths: &[&str]| -> Result<bool, HostError> {
            for path in paths {
                if host.exists(path)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let own: Vec<&str> =
            k3s::TRACES.iter().filter(|(_, trace)| *trace != Trace::Stranger).map(|one| one.0).collect();
        if stands(&own)? && !stands(&[kube::ADMIN, kube::KUBELET, kube::CA])? {
            Ok(Self::K3s)
        } else {
            Ok(Self::Kubeadm)
        }
    }

    /// Files whose presence tells how far a machine is in a cluster of this kind.
    pub(super) fn traces(self) -> &'static [(&'static str, Trace)] {
        match self {
            Self::Kubeadm => &TRACES,
            Self::K3s => &k3s::TRACES,
        }
    }

    /// Its kubectl.
    pub(super) const fn kubectl(self) -> &'static str {
        match self {
            Self::Kubeadm => kube::KUBECTL,
            Self::K3s => k3s::KUBECTL,
        }
    }

    /// Kubeconfig of the administrator, on a control plane.
    pub(super) const fn admin(self) -> &'static str {
        match self {
            Self::Kubeadm => kube::ADMIN,
            Self::K3s => k3s::ADMIN,
        }
    }

    /// The administrator's kubeconfig with certificate and key in it.
    pub(super) const fn kubeconfig(self) -> &'static str {
        match self {
            Self::Kubeadm => kube::ADMIN,
            Self::K3s => k3s::KUBECONFIG,
        }
    }

    /// Kubeconfig of the node itself.
    pub(super) const fn node(self) -> &'static str {
        match self {
            Self::Kubeadm => kube::KUBELET,
            Self::K3s => k3s::KUBELET,
        }
    }

    /// The CA by which the cluster is told from others: the one that its API server has its certificate from.
    pub(super) fn authority(self, host: &dyn Host) -> Result<Option<Vec<u8>>, HostError> {
        let places: &[&str] = match self {
            Self::Kubeadm => &[kube::CA],
            Self::K3s => &k3s::AUTHORITIES,
        };
        for path in places {
            // Neither waits for the disk: after a power cut the file may be there and empty.
            if let Some(pem) = host.read(path)?.filter(|pem| !pem.is_empty()) {
                return Ok(Some(pem));
            }
        }
        Ok(None)
    }

    /// Certificate and key of the CA that the API server knows its clients by, on a control plane.
    pub(super) const fn authority_of_clients(self) -> [&'static str; 2] {
        match self {
            Self::Kubeadm => [kube::CA, "/etc/kubernetes/pki/ca.key"],
            Self::K3s => k3s::AUTHORITY_OF_CLIENTS,
        }
    }

    /// Where its etcd notes whom it joined, on a control plane that has a member of its own.
    pub(super) const fn etcd_note(self) -> &'static str {
        match self {
            Self::Kubeadm => "/etc/kubernetes/manifests/etcd.yaml",
            Self::K3s => k3s::ETCD_NOTE,
        }
    }

    /// The node that a member of etcd is of, by its name.
    pub(super) fn node_of(self, member: &str) -> &str {
        match self {
            Self::Kubeadm => member,
            Self::K3s => k3s::node_of(member),
        }
    }

    /// The unit whose work the node is.
    pub(super) fn unit(self, host: &dyn Host) -> Result<&'static str, HostError> {
        match self {
            Self::Kubeadm => Ok("kubelet.service"),
            Self::K3s => k3s::unit_here(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn the_distribution_is_told_by_what_stands_here() {
        let host = Fake::template();
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::Kubeadm, "nothing stands here");
        host.put("/etc/rancher/k3s/registries.yaml", "mirrors: {}\n");
        host.put("/var/lib/rancher/k3s/agent/images/own.tar", "");
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::Kubeadm, "a user prepared the machine");
        host.put("/etc/rancher/k3s/config.yaml", "{}");
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::K3s);
        host.put("/etc/kubernetes/admin.conf", "");
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::Kubeadm, "somebody else's hand");
    }

    #[test]
    fn only_known_names_are_read() {
        assert_eq!(Distribution::parse("k3s"), Ok(Distribution::K3s));
        assert!(Distribution::parse("rke2").unwrap_err().contains("rke2"));
    }
}
