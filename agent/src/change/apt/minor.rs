//! A cluster's node keeps its minor version of Kubernetes: kubeadm has an order for upgrades, and each node is drained first.
//!
//! A plan shows the refusal in the place of the change: a node that somebody has upgraded by hand is still readable.

use super::{StepError, Transaction};
use crate::host::{Host, dpkg};

pub(crate) fn stays(host: &dyn Host, transaction: &Transaction) -> Result<(), StepError> {
    if !host.exists(MEMBER)? {
        return Ok(());
    }
    let installed = dpkg::Packages::read(host)?;
    for (name, version) in transaction.install.iter().filter(|(name, _)| PROGRAMS.contains(&name.as_str())) {
        let wanted = version.as_deref().and_then(minor);
        let found = installed.get(name).and_then(|package| minor(&package.version));
        let (Some(wanted), Some(found)) = (wanted, found) else { continue };
        if wanted != found {
            let why = format!(
                "this machine is a node of a cluster ({MEMBER}), where another minor version comes by kubeadm's upgrade, which \
                 is not done here; nothing was installed. If the cluster has {found}, set `kubernetes.version` to one of it. If only \
                 this package was changed by hand, put it back by hand: drain the node, and install one of {wanted}"
            );
            return Err(StepError::refused(format!("changing {name} from {found} to {wanted}"), why));
        }
    }
    Ok(())
}

/// "1.28" of "1.28.4-1.1" and of "1.28.4-*".
fn minor(version: &str) -> Option<&str> {
    let (at, _) = version.match_indices('.').nth(1)?;
    version.get(..at)
}

const PROGRAMS: [&str; 2] = ["kubeadm", "kubelet"];
/// The kubelet's proof that it is a cluster's.
const MEMBER: &str = "/etc/kubernetes/kubelet.conf";
