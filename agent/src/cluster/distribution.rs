//! What a cluster is made with, and where that keeps what every operation needs: credentials, authorities, its kubectl, its unit.
//!
//! Draining, marks of nodes, manifests, credentials and status are one code for all distributions, which asks here. How a node is made and
//! unmade is the distribution's own: kubeadm's stands in `init`, `join` and `cleanup`, that of K3s and its relatives in `k3s`. A further relative is one file
//! there; what is none, such as k0s, is a variant here with its paths, and a folder beside `k3s`.

use super::evidence::{TRACES, Trace};
use super::k3s::Variant;
use super::{k3s, kube};
use crate::host::{Host, HostError};

/// What a cluster is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Kubernetes as kubeadm sets it up.
    Kubeadm,
    /// K3s, or a relative: one program, with etcd and containerd in it.
    K3s(&'static Variant),
}

impl Distribution {
    /// Reads its name in a request.
    ///
    /// # Errors
    /// For a name that this agent does not know.
    pub fn parse(name: &str) -> Result<Self, String> {
        if name == "kubeadm" {
            return Ok(Self::Kubeadm);
        }
        let known = || k3s::ALL.map(|own| own.program).join(", ");
        let unknown = || format!("distribution: this agent knows kubeadm, {}, not {name:?}", known());
        Variant::called(name).map(Self::K3s).ok_or_else(unknown)
    }

    /// The one whose files stand on this machine; kubeadm where none's do. Where those of several stand, somebody else had a hand in it, and what K3s
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
        if stands(&[kube::ADMIN, kube::KUBELET, kube::CA])? {
            return Ok(Self::Kubeadm);
        }
        let mut here = Vec::new();
        for own in k3s::ALL {
            if stands(&own.traces().map(|(path, _)| path))? {
                here.push(own);
            }
        }
        match here[..] {
            [own] => Ok(Self::K3s(own)),
            _ => Ok(Self::Kubeadm),
        }
    }

    /// Files whose presence tells how far a machine is in a cluster of this kind.
    pub(super) fn traces(self) -> Vec<(&'static str, Trace)> {
        let (own, kubeadms) = match self {
            Self::Kubeadm => (TRACES.to_vec(), &[][..]),
            Self::K3s(own) => (own.traces().to_vec(), &KUBEADMS[..]),
        };
        let others = k3s::ALL.into_iter().filter(|other| self != Self::K3s(other));
        let strangers = kubeadms.iter().copied().chain(others.flat_map(Variant::marks));
        own.into_iter().chain(strangers.map(|path| (path, Trace::Stranger))).collect()
    }

    /// Its kubectl.
    pub(super) fn kubectl(self, host: &dyn Host) -> &'static str {
        match self {
            Self::Kubeadm => kube::placed(host, kube::KUBECTL),
            Self::K3s(own) => own.kubectl(),
        }
    }

    /// Kubeconfig of the administrator, on a control plane.
    pub(super) const fn admin(self) -> &'static str {
        match self {
            Self::Kubeadm => kube::ADMIN,
            Self::K3s(own) => own.places().admin,
        }
    }

    /// The administrator's kubeconfig with certificate and key in it.
    pub(super) const fn kubeconfig(self) -> &'static str {
        match self {
            Self::Kubeadm => kube::ADMIN,
            Self::K3s(own) => own.places().kubeconfig,
        }
    }

    /// Kubeconfig of the node itself.
    pub(super) const fn node(self) -> &'static str {
        match self {
            Self::Kubeadm => kube::KUBELET,
            Self::K3s(own) => own.places().kubelet,
        }
    }

    /// The CA by which the cluster is told from others: the one that its API server has its certificate from.
    pub(super) fn authority(self, host: &dyn Host) -> Result<Option<Vec<u8>>, HostError> {
        let places: &[&str] = match self {
            Self::Kubeadm => &[kube::CA],
            Self::K3s(own) => &own.places().authorities,
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
            Self::K3s(own) => own.places().authority_of_clients,
        }
    }

    /// Where its etcd notes whom it joined, on a control plane that has a member of its own.
    pub(super) const fn etcd_note(self) -> &'static str {
        match self {
            Self::Kubeadm => "/etc/kubernetes/manifests/etcd.yaml",
            Self::K3s(own) => own.places().etcd_note,
        }
    }

    /// The node that a member of etcd is of, by its name.
    pub(super) fn node_of(self, member: &str) -> &str {
        match self {
            Self::Kubeadm => member,
            Self::K3s(_) => k3s::node_of(member),
        }
    }

    /// The unit whose work the node is.
    pub(super) fn unit(self, host: &dyn Host) -> Result<&'static str, HostError> {
        match self {
            Self::Kubeadm => Ok("kubelet.service"),
            Self::K3s(own) => k3s::unit_here(host, own),
        }
    }
}

/// By which kubeadm's work is known where another distribution is to stand.
const KUBEADMS: [&str; 5] =
    [kube::ADMIN, kube::KUBELET, "/etc/kubernetes/bootstrap-kubelet.conf", kube::CA, "/var/lib/kubelet/config.yaml"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::k3s::{K3S, RKE2};
    use crate::host::fake::Fake;

    #[test]
    fn the_distribution_is_told_by_what_stands_here() {
        let host = Fake::template();
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::Kubeadm, "nothing stands here");
        host.put("/etc/rancher/k3s/registries.yaml", "mirrors: {}\n");
        host.put("/var/lib/rancher/k3s/agent/images/own.tar", "");
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::Kubeadm, "a user prepared the machine");
        host.put("/etc/rancher/k3s/config.yaml", "{}");
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::K3s(&K3S));
        let strangers = Distribution::K3s(&RKE2).traces();
        assert!(strangers.contains(&("/etc/rancher/k3s/config.yaml", Trace::Stranger)), "{strangers:?}");
        host.put("/etc/rancher/rke2/config.yaml", "{}");
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::Kubeadm, "two of them");
        host.remove("/etc/rancher/k3s/config.yaml").unwrap();
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::K3s(&RKE2));
        host.put("/etc/kubernetes/admin.conf", "");
        assert_eq!(Distribution::here(&host).unwrap(), Distribution::Kubeadm, "somebody else's hand");
    }

    #[test]
    fn only_known_names_are_read() {
        assert_eq!(Distribution::parse("k3s"), Ok(Distribution::K3s(&K3S)));
        assert_eq!(Distribution::parse("rke2"), Ok(Distribution::K3s(&RKE2)));
        assert!(Distribution::parse("k0s").unwrap_err().contains("kubeadm, k3s, rke2, not \"k0s\""));
    }
}
