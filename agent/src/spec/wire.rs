//! The specification as it arrives, field by field. Rules are in `check`; here only what the wire can say and we cannot.

use super::{
    CommandSpec, ContainerRuntime, FileSpec, Filesystem, HostNames, Kubernetes, KubernetesRepository, Mount, NodeSpec,
    Package, Problem, Problems, Registry, Repository, Service, Swap,
};
use agent_proto::v1 as wire;
use std::collections::BTreeMap;

impl TryFrom<wire::NodeSpec> for NodeSpec {
    type Error = Problems;

    fn try_from(spec: wire::NodeSpec) -> Result<Self, Problems> {
        let swap = match spec.swap.as_deref() {
            None => None,
            Some("off") => Some(Swap::Off),
            Some(_) => {
                let why = "the only value is \"off\"".to_owned();
                return Err(Problems(vec![Problem { path: "swap".to_owned(), why }]));
            }
        };
        Self {
            hostname: spec.hostname,
            hosts: each(spec.hosts, |hosts| HostNames { names: hosts.names }),
            time_sync: spec.time_sync,
            swap,
            kernel_modules: spec.kernel_modules.into_iter().collect(),
            sysctls: spec.sysctls,
            repositories: each(spec.repositories, repository),
            packages: each(spec.packages, package),
            files: each(spec.files, file),
            services: each(spec.services, service),
            filesystems: each(spec.filesystems, |fs| Filesystem { kind: fs.kind, label: fs.label, uuid: fs.uuid }),
            mounts: each(spec.mounts, |m| Mount { source: m.source, kind: m.kind, options: m.options }),
            container_runtime: spec.container_runtime.map(runtime),
            kubernetes: spec.kubernetes.map(kubernetes),
            commands: each(spec.commands, command),
        }
        .checked()
    }
}

fn each<A, B>(items: BTreeMap<String, A>, into: fn(A) -> B) -> BTreeMap<String, B> {
    items.into_iter().map(|(name, item)| (name, into(item))).collect()
}

fn repository(from: wire::RepositorySpec) -> Repository {
    Repository {
        url: from.url,
        suites: from.suites,
        components: from.components,
        key_pem: from.key_pem,
        key_url: from.key_url,
        trusted: from.trusted.unwrap_or_default(),
    }
}

fn package(from: wire::PackageSpec) -> Package {
    Package { version: from.version, hold: from.hold, absent: from.absent.unwrap_or_default() }
}

fn file(from: wire::FileSpec) -> FileSpec {
    FileSpec { content: from.content, mode: from.mode, owner: from.owner, group: from.group }
}

fn service(from: wire::ServiceSpec) -> Service {
    Service { enabled: from.enabled, running: from.running, masked: from.masked, restart_on: from.restart_on }
}

fn runtime(from: wire::ContainerRuntimeSpec) -> ContainerRuntime {
    ContainerRuntime {
        package: from.package,
        version: from.version,
        sandbox_image: from.sandbox_image,
        registries: each(from.registries, |registry| Registry {
            mirrors: registry.mirrors,
            skip_verify: registry.skip_verify.unwrap_or_default(),
            ca_pem: registry.ca_pem,
            override_path: registry.override_path.unwrap_or_default(),
        }),
    }
}

fn kubernetes(from: wire::KubernetesSpec) -> Kubernetes {
    let repository = from.repository.map(|from| KubernetesRepository { url: from.url, key_pem: from.key_pem });
    Kubernetes { version: from.version, repository }
}

fn command(from: wire::CommandSpec) -> CommandSpec {
    CommandSpec { argv: from.argv, unless: from.unless, creates: from.creates, timeout_s: from.timeout_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_not_false() {
        let service = wire::ServiceSpec { enabled: Some(false), ..Default::default() };
        let spec = wire::NodeSpec { services: [("x".to_owned(), service)].into(), ..Default::default() };
        let spec = NodeSpec::try_from(spec).unwrap();
        assert_eq!(spec.services["x"].enabled, Some(false));
        assert_eq!(spec.services["x"].running, None);
        assert_eq!(spec.swap, None);
    }

    #[test]
    fn an_unknown_word_is_named() {
        let spec = wire::NodeSpec { swap: Some("on".to_owned()), ..Default::default() };
        assert_eq!(NodeSpec::try_from(spec).unwrap_err().0[0].path, "swap");
    }
}
