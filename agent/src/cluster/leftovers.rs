//! What a cluster that is destroyed leaves outside of its machines: what load balancers keep for Services, and volumes that are kept elsewhere.
//!
//! A reset ends everything that runs on the machines, and with it the controllers that would have told the others. Of each a line is asked
//! for and no object: there may be many, and a look is taken with every plan.

use super::Distribution;
use super::kube::kubectl;
use super::output::reasons;
use super::status::ClusterError;
use crate::host::Host;

/// What would be left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Services of type LoadBalancer.
    pub services: Vec<LoadBalancer>,
    /// Volumes that are not on a machine's own disk.
    pub volumes: Vec<Volume>,
}

/// A Service that something outside of the cluster may be set up for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadBalancer {
    /// `namespace/name`
    pub name: String,
    /// Addresses and names that it was given.
    pub addresses: Vec<String>,
}

/// A PersistentVolume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// `namespace/name` of the claim that it is bound to; empty if it is to none.
    pub claim: String,
    /// Whose it is, by the driver's name or the kind of volume.
    pub storage: String,
}

/// What the cluster of this control plane would leave.
///
/// # Errors
/// When this is no control plane, or its API server does not answer.
pub async fn leftovers(host: &dyn Host) -> Result<Leftovers, ClusterError> {
    let own = Distribution::here(host).map_err(ClusterError::Host)?;
    if !host.exists(own.admin()).map_err(ClusterError::Host)? {
        return Err(ClusterError::NotControlPlane);
    }
    let ask = async |question: &[&str]| -> Result<String, ClusterError> {
        let said = kubectl(host, (own, own.admin()), question).await.map_err(ClusterError::Host)?;
        if said.code == Some(0) { Ok(said.stdout) } else { Err(ClusterError::Silent(reasons(&said.stderr).join("; "))) }
    };
    let services = ask(&["get", "services", "--all-namespaces", "-o", SERVICES]).await?;
    let volumes = ask(&["get", "persistentvolumes", "-o", VOLUMES]).await?;
    Ok(Leftovers {
        services: services.lines().filter_map(load_balancer).take(MOST).collect(),
        volumes: volumes.lines().filter_map(volume).take(MOST).collect(),
    })
}

fn load_balancer(line: &str) -> Option<LoadBalancer> {
    let (name, addresses) = line.split_once('\t')?;
    let addresses = addresses.split_whitespace().map(str::to_owned).collect();
    Some(LoadBalancer { name: name.to_owned(), addresses })
}

/// `None` for one on a machine's own disk.
fn volume(line: &str) -> Option<Volume> {
    let mut words = line.split('\t');
    let mut next = || words.next();
    let (name, claim, own, driver, kind) = (next()?, next()?, next()?, next()?, next()?);
    if !own.is_empty() {
        return None;
    }
    let storage = match (driver, kind) {
        ("", "") => "of a kind that is not known here".to_owned(),
        ("", server) => format!("nfs {server}"),
        (driver, _) => format!("csi {driver}"),
    };
    Some(Volume { name: name.to_owned(), claim: claim.trim_matches('/').to_owned(), storage })
}

const SERVICES: &str = r#"jsonpath={range .items[?(@.spec.type=="LoadBalancer")]}{.metadata.namespace}/{.metadata.name}{"\t"}{.status.loadBalancer.ingress[*].ip}{" "}{.status.loadBalancer.ingress[*].hostname}{"\n"}{end}"#;
const VOLUMES: &str = r#"jsonpath={range .items[*]}{.metadata.name}{"\t"}{.spec.claimRef.namespace}/{.spec.claimRef.name}{"\t"}{.spec.hostPath.path}{.spec.local.path}{"\t"}{.spec.csi.driver}{"\t"}{.spec.nfs.server}{"\n"}{end}"#;
/// More than a person reads.
const MOST: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_an_address_elsewhere_is_told_with_it() {
        let read = |line: &str| load_balancer(line).unwrap();
        let web = read("default/web\t192.0.2.80 fd00::80 lb.example.org");
        assert_eq!((web.name.as_str(), web.addresses.len()), ("default/web", 3));
        assert_eq!(read("default/waits\t ").addresses, [""; 0]);
    }

    #[test]
    fn a_volume_on_a_machines_own_disk_goes_with_the_machine() {
        assert_eq!(volume("pv-1\tdefault/data\t/mnt/disk\t\t"), None);
        let kept = |line: &str| {
            let Volume { name, claim, storage } = volume(line).unwrap();
            format!("{name}|{claim}|{storage}")
        };
        assert_eq!(kept("pv-2\tdefault/data\t\trbd.csi.ceph.com\t"), "pv-2|default/data|csi rbd.csi.ceph.com");
        assert_eq!(kept("pv-3\t/\t\t\tnas.example.org"), "pv-3||nfs nas.example.org");
        assert_eq!(kept("pv-4\t/\t\t\t"), "pv-4||of a kind that is not known here");
    }

    #[test]
    fn any_text_is_answered() {
        total::text("leftovers", &["a/b\t192.0.2.1 ", "pv\ta/b\t\tdriver\t"], |text| {
            (load_balancer(text), volume(text))
        });
    }
}
