//! What others than kubeadm and the packages of Kubernetes made of a node: its kubelet, and the etcd of its cluster. Kubespray makes both.
//!
//! What goes by way of kubeadm and the API server holds there too. What needs the packages, or an etcd that kubeadm made, is refused before
//! anything is done: half of it would come to pass, and the rest never. Told from files, so that it is known while nothing answers.
//! Source: Kubespray, roles `kubernetes/node` and `etcd`; kubeadm, `etcd.external`; systemd.unit(5), "Unit File Load Path".

use super::Distribution;
use super::kube::{Kube, failed, failure, standing_at};
use crate::host::{Host, HostError, dpkg};
use crate::run::Failure;

/// What was made by others; empty on a node that kubeadm and its packages made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Path of a kubelet that no package brought.
    pub kubelet: String,
    /// What the kubelet reads in the place of the file that kubeadm writes.
    pub config: String,
    /// Where an etcd is that kubeadm did not make: `https://192.0.2.11:2379`; on a control plane.
    pub etcd: Vec<String>,
    /// A member of it has its data on this machine.
    pub member: bool,
}

impl Foreign {
    /// Looks at a node.
    pub(super) fn look(host: &dyn Host) -> Result<Self, HostError> {
        if Distribution::here(host)? != Distribution::Kubeadm {
            return Ok(Self::default());
        }
        let etcd = etcd(host)?;
        let member = !etcd.is_empty() && host.exists(DATA)?;
        let (kubelet, config) = (kubelet(host)?.unwrap_or_default(), config(host)?.unwrap_or_default());
        Ok(Self { kubelet, config, etcd, member })
    }
}

/// Packages bring this node another version. The provider knows the step by this name.
pub(super) fn has_packages(kube: &Kube<'_>) -> Result<(), Failure> {
    match look(kube)?.kubelet.as_str() {
        "" => Ok(()),
        path => Err(failure("programs", format!("the kubelet of this node, {path}, came by no package"))),
    }
}

/// What kubeadm writes is what the kubelet reads.
pub(super) fn reads_kubeadms_file(kube: &Kube<'_>, step: &str, what: &str) -> Result<(), Failure> {
    match look(kube)?.config.as_str() {
        "" => Ok(()),
        path => {
            Err(failure(step, format!("{what}: the kubelet of this node reads {path}, and not what kubeadm writes")))
        }
    }
}

/// The cluster's etcd is kubeadm's.
pub(super) fn has_own_etcd(kube: &Kube<'_>, step: &str, act: &str) -> Result<(), Failure> {
    let etcd = look(kube)?.etcd;
    if etcd.is_empty() {
        return Ok(());
    }
    Err(failure(step, format!("{act}: kubeadm did not make the cluster's etcd, {}", etcd.join(", "))))
}

/// No data of an etcd of others would go with this machine's node.
pub(super) fn has_no_member(kube: &Kube<'_>, step: &str, act: &str) -> Result<(), Failure> {
    let found = look(kube)?;
    if !found.member {
        return Ok(());
    }
    let etcd = found.etcd.join(", ");
    Err(failure(step, format!("{act}: {DATA} on this machine is of an etcd that kubeadm did not make, {etcd}")))
}

fn look(kube: &Kube<'_>) -> Result<Foreign, Failure> {
    Foreign::look(kube.host()).map_err(failed("look", "look at who made this node"))
}

/// An administrator's unit comes before that of a package, and says which kubelet runs.
fn kubelet(host: &dyn Host) -> Result<Option<String>, HostError> {
    let unit = host.text(UNIT)?.unwrap_or_default();
    let started = unit.lines().filter_map(started).next_back().filter(|program| *program != KUBELET[0]);
    if let Some(program) = started {
        return Ok(Some(program.to_owned()));
    }
    let is_packaged = dpkg::Packages::read(host)?.get("kubelet").is_some();
    Ok(if is_packaged { None } else { standing_at(host, KUBELET)?.map(str::to_owned) })
}

/// Arguments of an administrator's unit stand in it, or in Kubespray's file beside kubeadm's.
fn config(host: &dyn Host) -> Result<Option<String>, HostError> {
    let mut found = None;
    for path in [UNIT, ENVIRONMENT] {
        found = found.or(configured(&host.text(path)?.unwrap_or_default()).map(str::to_owned));
    }
    Ok(found.filter(|path| path != CONFIG))
}

fn configured(text: &str) -> Option<&str> {
    let mut words = text.split([' ', '\t', '\n', '"', '\'']);
    words.find_map(|word| word.strip_prefix("--config=")).filter(|path| !path.is_empty())
}

/// The program of a line `ExecStart=`, without the signs that may stand before it.
fn started(line: &str) -> Option<&str> {
    let command = line.trim().strip_prefix("ExecStart=")?.trim_start_matches(['-', '@', ':', '+', '!']);
    command.split_whitespace().next()
}

/// Where the API server's etcd is, if that is not the one that kubeadm puts beside it.
fn etcd(host: &dyn Host) -> Result<Vec<String>, HostError> {
    if host.exists(Distribution::Kubeadm.etcd_note())? {
        return Ok(Vec::new());
    }
    let servers = servers(&host.text(MANIFEST)?.unwrap_or_default());
    // Its manifest may have been taken away, by a recovery or a reset that was cut off.
    Ok(if servers.iter().all(|server| BESIDE.contains(&server.as_str())) { Vec::new() } else { servers })
}

fn servers(manifest: &str) -> Vec<String> {
    let flag = manifest.lines().find_map(|line| line.trim().strip_prefix("- --etcd-servers="));
    let all = flag.into_iter().flat_map(|flag| flag.trim().trim_matches('"').split(','));
    all.map(|server| server.trim().to_owned()).filter(|server| !server.is_empty()).collect()
}

/// Where packages put it, and where others do.
const KUBELET: [&str; 3] = ["/usr/bin/kubelet", "/usr/local/bin/kubelet", "/opt/bin/kubelet"];
const UNIT: &str = "/etc/systemd/system/kubelet.service";
const ENVIRONMENT: &str = "/etc/kubernetes/kubelet.env";
const CONFIG: &str = "/var/lib/kubelet/config.yaml";
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const DATA: &str = "/var/lib/etcd/member";
const BESIDE: [&str; 2] = ["https://127.0.0.1:2379", "https://[::1]:2379"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_that_a_unit_starts_is_told() {
        for (line, program) in [
            ("ExecStart=/usr/local/bin/kubelet \\", Some("/usr/local/bin/kubelet")),
            (" ExecStart=-/usr/bin/kubelet $KUBELET_ARGS", Some("/usr/bin/kubelet")),
            ("ExecStart=", None),
            ("ExecStartPre=/bin/mkdir -p /sys/fs/cgroup", None),
        ] {
            assert_eq!(started(line), program, "{line}");
        }
        total::text("kubelet-unit", &["ExecStart=/usr/bin/kubelet\n"], |unit| {
            unit.lines().filter_map(started).next_back().map(str::to_owned)
        });
    }

    #[test]
    fn the_file_that_a_kubelet_reads_is_told() {
        let of_kubespray = "KUBE_LOG_LEVEL=\"--v=2\"\nKUBELET_ARGS=\"--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \\\n\
            --config=/etc/kubernetes/kubelet-config.yaml \\\n--kubeconfig=/etc/kubernetes/kubelet.conf \\\n \"\n";
        assert_eq!(configured(of_kubespray), Some("/etc/kubernetes/kubelet-config.yaml"));
        assert_eq!(configured("ExecStart=/usr/bin/kubelet --bootstrap-kubeconfig=/a --kubeconfig=/b\n"), None);
        total::text("kubelet-arguments", &[of_kubespray], |text| configured(text).map(str::to_owned));
    }

    #[test]
    fn the_etcd_of_a_manifest_is_told() {
        let manifest =
            |servers: &str| format!("    - --advertise-address=192.0.2.11\n    - --etcd-servers={servers}\n");
        assert_eq!(servers(&manifest("https://192.0.2.11:2379,https://192.0.2.12:2379")).len(), 2);
        assert_eq!(servers("    image: registry.k8s.io/kube-apiserver:v1.36.3\n"), [""; 0]);
        total::text("api-servers-etcd", &[&manifest("https://127.0.0.1:2379")], servers);
    }
}
