//! The state of a machine as `groundwork_machine` wants it, and its form on the wire.

use agent_proto::v1 as wire;
use std::collections::BTreeMap;
use trust::Role;

/// What its values must be like: the agent's own rules.
pub(crate) use agent_proto::{form, overlay};

/// What a machine is to be. What is absent is not managed. Its `Debug` prints nothing: files may hold secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct MachineSpec {
    pub(crate) hostname: Option<String>,
    /// Names by address.
    pub(crate) hosts: BTreeMap<String, Vec<String>>,
    pub(crate) time_sync: Option<bool>,
    pub(crate) swap: Option<String>,
    pub(crate) kernel_modules: Vec<String>,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) repositories: BTreeMap<String, Repository>,
    pub(crate) packages: BTreeMap<String, Package>,
    /// By absolute path.
    pub(crate) files: BTreeMap<String, File>,
    /// By unit.
    pub(crate) services: BTreeMap<String, Service>,
    /// By device.
    pub(crate) filesystems: BTreeMap<String, Filesystem>,
    /// By absolute path.
    pub(crate) mounts: BTreeMap<String, Mount>,
    pub(crate) container_runtime: Option<ContainerRuntime>,
    pub(crate) kubernetes: Option<Kubernetes>,
    pub(crate) commands: BTreeMap<String, Command>,
}

/// A package repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(crate) url: String,
    pub(crate) suites: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) key_pem: Option<String>,
    pub(crate) key_url: Option<String>,
    pub(crate) trusted: Option<bool>,
}

/// A package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) version: Option<String>,
    pub(crate) hold: Option<bool>,
    pub(crate) absent: Option<bool>,
}

/// A file.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) group: Option<String>,
}

/// A systemd unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) enabled: Option<bool>,
    pub(crate) running: Option<bool>,
    pub(crate) masked: Option<bool>,
    pub(crate) restart_on: Vec<String>,
}

/// A filesystem on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filesystem {
    pub(crate) kind: String,
    pub(crate) label: Option<String>,
    pub(crate) uuid: Option<String>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) source: String,
    pub(crate) kind: Option<String>,
    pub(crate) options: Vec<String>,
}

/// containerd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContainerRuntime {
    pub(crate) package: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) sandbox_image: Option<String>,
    pub(crate) registries: BTreeMap<String, Registry>,
}

/// How images of one registry are fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    pub(crate) mirrors: Vec<String>,
    pub(crate) skip_verify: Option<bool>,
    pub(crate) ca_pem: Option<String>,
    pub(crate) override_path: Option<bool>,
}

/// The packages of a kubeadm node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kubernetes {
    pub(crate) version: String,
    /// URL and key.
    pub(crate) repository: Option<(Option<String>, Option<String>)>,
}

/// A command with a guard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) argv: Vec<String>,
    pub(crate) unless: Vec<String>,
    pub(crate) creates: Option<String>,
    pub(crate) timeout_s: Option<u32>,
}

impl std::fmt::Debug for MachineSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MachineSpec")
    }
}

impl MachineSpec {
    /// The least role that may plan it: an `unless` is a program that the agent runs to find out.
    pub(crate) fn role_to_plan(&self) -> Role {
        let has_guard = self.commands.values().any(|command| !command.unless.is_empty());
        if has_guard { Role::Operator } else { Role::Observer }
    }

    pub(super) fn to_wire(&self) -> wire::NodeSpec {
        let own = self.clone();
        let hosts = own.hosts.into_iter().map(|(address, names)| (address, wire::HostNames { names }));
        wire::NodeSpec {
            hostname: own.hostname,
            swap: own.swap,
            kernel_modules: own.kernel_modules,
            sysctls: own.sysctls.into_iter().collect(),
            packages: each(own.packages, Package::into_wire),
            repositories: each(own.repositories, Repository::into_wire),
            files: each(own.files, File::into_wire),
            services: each(own.services, Service::into_wire),
            filesystems: each(own.filesystems, Filesystem::into_wire),
            mounts: each(own.mounts, Mount::into_wire),
            container_runtime: own.container_runtime.map(ContainerRuntime::into_wire),
            kubernetes: own.kubernetes.map(Kubernetes::into_wire),
            commands: each(own.commands, Command::into_wire),
            hosts: hosts.collect(),
            time_sync: own.time_sync,
        }
    }
}

fn each<S, W>(specs: BTreeMap<String, S>, map: fn(S) -> W) -> BTreeMap<String, W> {
    specs.into_iter().map(|(key, spec)| (key, map(spec))).collect()
}

impl Package {
    fn into_wire(self) -> wire::PackageSpec {
        let Self { version, hold, absent } = self;
        wire::PackageSpec { version, hold, absent }
    }
}

impl Repository {
    fn into_wire(self) -> wire::RepositorySpec {
        let Self { url, suites, components, key_pem, key_url, trusted } = self;
        wire::RepositorySpec { url, suites, components, key_pem, key_url, trusted }
    }
}

impl File {
    fn into_wire(self) -> wire::FileSpec {
        let Self { content, mode, owner, group } = self;
        wire::FileSpec { content, mode, owner, group }
    }
}

impl Service {
    fn into_wire(self) -> wire::ServiceSpec {
        let Self { enabled, running, masked, restart_on } = self;
        wire::ServiceSpec { enabled, running, masked, restart_on }
    }
}

impl Filesystem {
    fn into_wire(self) -> wire::FilesystemSpec {
        let Self { kind, label, uuid } = self;
        wire::FilesystemSpec { kind, label, uuid }
    }
}

impl Mount {
    fn into_wire(self) -> wire::MountSpec {
        let Self { source, kind, options } = self;
        wire::MountSpec { source, kind, options }
    }
}

impl ContainerRuntime {
    fn into_wire(self) -> wire::ContainerRuntimeSpec {
        let Self { package, version, sandbox_image, registries } = self;
        wire::ContainerRuntimeSpec {
            package,
            version,
            sandbox_image,
            registries: each(registries, Registry::into_wire),
        }
    }
}

impl Registry {
    fn into_wire(self) -> wire::RegistrySpec {
        let Self { mirrors, skip_verify, ca_pem, override_path } = self;
        wire::RegistrySpec { mirrors, skip_verify, ca_pem, override_path }
    }
}

impl Kubernetes {
    fn into_wire(self) -> wire::KubernetesSpec {
        let repository = self.repository.map(|(url, key_pem)| wire::KubernetesRepository { url, key_pem });
        wire::KubernetesSpec { version: self.version, repository }
    }
}

impl Command {
    fn into_wire(self) -> wire::CommandSpec {
        let Self { argv, unless, creates, timeout_s } = self;
        wire::CommandSpec { argv, unless, creates, timeout_s }
    }
}
