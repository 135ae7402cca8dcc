//! What a kubeadm node needs besides kubeadm: the presets, written into the fields they imply.
//!
//! Source: kubernetes.io, "Installing kubeadm" and "Container runtimes". An explicit value always wins.

use agent_proto::v1::machine::{ContainerRuntimeSpec, KubernetesSpec, NodeSpec, RepositorySpec};

pub(super) fn complete(mut spec: NodeSpec) -> NodeSpec {
    if let Some(kubernetes) = spec.kubernetes.clone() {
        kubeadm(&mut spec, &kubernetes);
    }
    if let Some(runtime) = &spec.container_runtime {
        let package = spec.package.entry(runtime_package(runtime).to_owned()).or_default();
        package.version = package.version.take().or_else(|| runtime.version.clone());
        // An upgrade restarts every shim's parent; when that happens is the operator's choice.
        package.hold.get_or_insert(true);
    }
    spec
}

fn kubeadm(spec: &mut NodeSpec, kubernetes: &KubernetesSpec) {
    spec.swap.get_or_insert_with(|| "off".to_owned());
    spec.memory_cgroup.get_or_insert(true);
    spec.container_runtime.get_or_insert_with(ContainerRuntimeSpec::default);
    spec.kernel_modules.extend(MODULES.map(str::to_owned));
    for (key, value) in SYSCTLS {
        spec.sysctls.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    spec.repository.entry("kubernetes".to_owned()).or_insert_with(|| repository(kubernetes));
    for name in ["kubeadm", "kubectl", "kubelet"] {
        let package = spec.package.entry(name.to_owned()).or_default();
        package.version.get_or_insert_with(|| format!("{}-*", kubernetes.version));
        package.hold.get_or_insert(true);
    }
    // Not `running`: until kubeadm has configured it, the kubelet restarts every ten seconds, by design.
    let kubelet = spec.service.entry("kubelet".to_owned()).or_default();
    kubelet.enabled.get_or_insert(true);
    // dpkg rewrites it when it unpacks the package: until it is restarted, the old program runs on.
    kubelet.restart_on.push("/var/lib/dpkg/info/kubelet.list".to_owned());
}

fn repository(kubernetes: &KubernetesSpec) -> RepositorySpec {
    let given = kubernetes.repository.clone().unwrap_or_default();
    let minor = kubernetes.version.rsplit_once('.').map_or("", |(minor, _)| minor);
    let url = given.url.unwrap_or_else(|| format!("https://pkgs.k8s.io/core:/stable:/v{minor}/deb/"));
    let key_url = given.key_pem.is_none().then(|| format!("{}/Release.key", url.trim_end_matches('/')));
    RepositorySpec { url, key_pem: given.key_pem, key_url, ..RepositorySpec::default() }
}

/// The package that the runtime comes in, unless the machine decides.
pub(crate) fn runtime_package(runtime: &ContainerRuntimeSpec) -> &str {
    runtime.package.as_deref().unwrap_or("containerd")
}

const MODULES: [&str; 2] = ["overlay", "br_netfilter"];

const SYSCTLS: [(&str, &str); 3] = [
    ("net.ipv4.ip_forward", "1"),
    ("net.bridge.bridge-nf-call-iptables", "1"),
    ("net.bridge.bridge-nf-call-ip6tables", "1"),
];

#[cfg(test)]
mod tests {
    use crate::spec::Spec;

    #[test]
    fn a_version_alone_is_a_kubeadm_node() {
        let spec = Spec::from_json(r#"{"kubernetes": {"version": "1.28.4"}}"#).unwrap().complete();
        assert_eq!(spec.swap(), "off");
        assert_eq!(spec.memory_cgroup, Some(true));
        assert_eq!(spec.sysctls["net.ipv4.ip_forward"], "1");
        assert_eq!(spec.package["kubelet"].version.as_deref(), Some("1.28.4-*"));
        assert_eq!(spec.package["containerd"].hold, Some(true));
        assert_eq!(spec.service["kubelet"].restart_on, ["/var/lib/dpkg/info/kubelet.list"]);
        let repository = &spec.repository["kubernetes"];
        assert_eq!(repository.url, "https://pkgs.k8s.io/core:/stable:/v1.28/deb/");
        assert_eq!(repository.key_url.as_deref(), Some("https://pkgs.k8s.io/core:/stable:/v1.28/deb/Release.key"));
    }

    #[test]
    fn what_is_given_stays() {
        let text = r#"{"kubernetes": {"version": "1.28.4", "repository": {"url": "http://lab/", "key_pem": "-----BEGIN PGP"}},
            "container_runtime": {"package": "containerd.io", "version": "1.7.24-1"},
            "sysctls": {"net.ipv4.ip_forward": "0"}, "package": {"kubectl": {"version": "1.28.7-1.1", "hold": false}}}"#;
        let spec = Spec::from_json(text).unwrap().complete();
        assert_eq!(spec.sysctls["net.ipv4.ip_forward"], "0");
        assert_eq!(spec.package["kubectl"].version.as_deref(), Some("1.28.7-1.1"));
        assert_eq!(spec.package["kubectl"].hold, Some(false));
        assert_eq!(spec.package["containerd.io"].version.as_deref(), Some("1.7.24-1"));
        assert!(!spec.package.contains_key("containerd"));
        assert_eq!(spec.repository["kubernetes"].key_url, None);
    }
}
