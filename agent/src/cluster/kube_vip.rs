//! kube-vip: a virtual address that one of the control planes has, by a static pod on each of them.
//!
//! On the first control plane it must run before there is an API server, or nobody reaches the endpoint; and from 1.29 on the administrator
//! has no rights until kubeadm has given them, so it begins with those of `super-admin.conf`, which only that machine has, and goes on with the
//! administrator's. A manifest that is not ours, such as a file of the user's, is left alone. Source: kube-vip, `manifest pod`; node
//! preparation of kubeadm 1.29.

use super::kube::{ADMIN, Kube, failed};
use super::version::Version;
use crate::host::{Access, Host, HostError};
use crate::run::Failure;
use serde_json::{Value, json};
use std::time::Instant;

/// What it is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeVip {
    /// The virtual address.
    pub address: String,
    /// Card that carries it; empty: the one of the default route.
    pub interface: String,
    /// Its image.
    pub image: String,
}

/// Before kubeadm makes a control plane of version `version` on a machine that has no cluster.
pub(super) fn before_init(kube: &Kube<'_>, wanted: Option<&KubeVip>, version: Version) -> Result<(), Failure> {
    let Some(wanted) = wanted else { return Ok(()) };
    let credentials = if version.has_super_admin() { SUPER_ADMIN } else { ADMIN };
    put(kube, &manifest(wanted, credentials))
}

/// On a finished control plane: as it is wanted, or not at all.
pub(super) fn settle(kube: &Kube<'_>, wanted: Option<&KubeVip>) -> Result<(), Failure> {
    let there = kube.host().text(FILE).map_err(failed(STEP, &format!("read {FILE}")))?;
    let is_ours = there.as_deref().is_some_and(|text| read(text).is_some());
    let since = Instant::now();
    match wanted {
        Some(wanted) => {
            let text = manifest(wanted, ADMIN);
            if there.as_deref() != Some(&text) {
                put(kube, &text)?;
                kube.made(STEP, "write kube-vip's manifest", "the control planes have a virtual address", since);
            }
        }
        None if is_ours => {
            kube.host().remove(FILE).map_err(failed(STEP, &format!("remove {FILE}")))?;
            kube.made(STEP, "remove kube-vip's manifest", "it is not wanted any more", since);
        }
        None => {}
    }
    Ok(())
}

/// What runs here by our hand.
pub(super) fn look(host: &dyn Host) -> Result<Option<KubeVip>, HostError> {
    Ok(host.text(FILE)?.as_deref().and_then(read))
}

fn put(kube: &Kube<'_>, text: &str) -> Result<(), Failure> {
    kube.host().write(FILE, text.as_bytes(), Access::PRIVATE).map_err(failed(STEP, &format!("write {FILE}")))
}

/// JSON is YAML. The kubelet waits for a file of the credentials to be there.
fn manifest(wanted: &KubeVip, credentials: &str) -> String {
    let KubeVip { address, interface, image } = wanted;
    let prefix = if address.contains(':') { "128" } else { "32" };
    let pairs = [
        ("vip_arp", "true"),
        ("port", "6443"),
        ("vip_interface", interface.as_str()),
        ("vip_subnet", prefix),
        ("dns_mode", "first"),
        ("cp_enable", "true"),
        ("cp_namespace", "kube-system"),
        ("vip_leaderelection", "true"),
        ("vip_leasename", "plndr-cp-lock"),
        ("vip_leaseduration", "5"),
        ("vip_renewdeadline", "3"),
        ("vip_retryperiod", "1"),
        ("address", address.as_str()),
    ];
    let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    let mut environment: Vec<Value> = given.map(|(name, value)| json!({ "name": name, "value": value })).collect();
    environment.push(json!({ "name": "vip_nodename", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }));
    let container = json!({
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["manager"],
        "env": environment,
        "securityContext": { "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] } },
        "volumeMounts": [{ "name": "kubeconfig", "mountPath": ADMIN }],
    });
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": NAME, "namespace": "kube-system", "annotations": { (MARK): "true" } },
        "spec": {
            "hostNetwork": true,
            // Its credentials name the virtual address, and it asks the API server beside it.
            "hostAliases": [{ "ip": "127.0.0.1", "hostnames": ["kubernetes"] }],
            "containers": [container],
            "volumes": [{ "name": "kubeconfig", "hostPath": { "path": credentials, "type": "File" } }],
        },
    });
    format!("{pod:#}\n")
}

/// The settings in a manifest of ours.
fn read(text: &str) -> Option<KubeVip> {
    let pod: Value = serde_json::from_str(text).ok()?;
    pod["metadata"]["annotations"][MARK].as_str()?;
    let container = &pod["spec"]["containers"][0];
    let of = |name: &str| {
        let entry = container["env"].as_array().into_iter().flatten().find(|entry| entry["name"] == name);
        entry.and_then(|entry| entry["value"].as_str()).unwrap_or_default().to_owned()
    };
    let image = container["image"].as_str().unwrap_or_default().to_owned();
    Some(KubeVip { address: of("address"), interface: of("vip_interface"), image })
}

/// kubeadm's check that our manifest does not pass. Source: kubeadm before 1.30 asked for an empty folder.
pub(super) const CHECK: &str = "DirAvailable--etc-kubernetes-manifests";
const FILE: &str = "/etc/kubernetes/manifests/kube-vip.yaml";
const SUPER_ADMIN: &str = "/etc/kubernetes/super-admin.conf";
/// Annotation of a manifest of ours.
const MARK: &str = "groundwork/kube-vip";
const NAME: &str = "kube-vip";
const STEP: &str = "kube-vip";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_a_users_own_is_not_ours() {
        let wanted = KubeVip { address: "192.0.2.10".into(), interface: "eth1".into(), image: "kube-vip:v1".into() };
        assert_eq!(read(&manifest(&wanted, ADMIN)), Some(wanted.clone()));
        let anywhere = KubeVip { interface: String::new(), address: "fd00::10".into(), ..wanted };
        let text = manifest(&anywhere, SUPER_ADMIN);
        assert_eq!(read(&text), Some(anywhere));
        assert!(
            text.contains("super-admin.conf") && text.contains("\"128\"") && !text.contains("vip_interface"),
            "{text}"
        );
        for theirs in ["apiVersion: v1\nkind: Pod\n", "{\"kind\":\"Pod\"}", ""] {
            assert_eq!(read(theirs), None);
        }
    }

    #[test]
    fn any_text_is_answered() {
        let good = manifest(&KubeVip { address: "192.0.2.10".into(), ..KubeVip::default() }, ADMIN);
        total::text("kube-vip", &[&good], read);
    }
}
