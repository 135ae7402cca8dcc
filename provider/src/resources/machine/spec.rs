//! From the attributes to what the agent is asked for.

use super::decoded;
use super::model::{
    Command, ContainerRuntime, File, Filesystem, Kubernetes, Machine, Mount, Package, Registry, Repository, Service,
};
use crate::agents::spec;
use crate::timeouts;
use std::collections::BTreeMap;
use tf::{Attr, Diagnostic};

/// The specification; fails only by a bug.
pub(super) fn of(m: &Machine) -> Result<spec::MachineSpec, Diagnostic> {
    let hosts = m.hosts.get().into_iter().flatten();
    Ok(spec::MachineSpec {
        hostname: m.hostname.cloned(),
        hosts: hosts.map(|(address, names)| (address.clone(), names.names.or(Vec::new()))).collect(),
        time_sync: m.time_sync.cloned(),
        swap: m.swap.cloned(),
        kernel_modules: m.kernel_modules.or(Vec::new()),
        sysctls: m.sysctls.or(BTreeMap::new()),
        repositories: each(&m.repositories, repository),
        packages: each(&m.packages, package),
        files: files(&m.files)?,
        services: each(&m.services, service),
        filesystems: each(&m.filesystems, filesystem),
        mounts: each(&m.mounts, mount),
        container_runtime: m.container_runtime.get().map(container_runtime),
        kubernetes: m.kubernetes.get().map(kubernetes),
        commands: each(&m.commands, command),
    })
}

fn each<M, S>(models: &Attr<BTreeMap<String, M>>, map: fn(&M) -> S) -> BTreeMap<String, S> {
    models.get().into_iter().flatten().map(|(key, model)| (key.clone(), map(model))).collect()
}

fn repository(m: &Repository) -> spec::Repository {
    spec::Repository {
        url: m.url.or(""),
        suites: m.suites.or(Vec::new()),
        components: m.components.or(Vec::new()),
        key_pem: m.key_pem.cloned(),
        key_url: m.key_url.cloned(),
        trusted: m.trusted.cloned(),
    }
}

fn package(m: &Package) -> spec::Package {
    spec::Package { version: m.version.cloned(), hold: m.hold.cloned(), absent: m.absent.cloned() }
}

fn files(models: &Attr<BTreeMap<String, File>>) -> Result<BTreeMap<String, spec::File>, Diagnostic> {
    models.get().into_iter().flatten().map(|(path, model)| Ok((path.clone(), file(model)?))).collect()
}

fn file(m: &File) -> Result<spec::File, Diagnostic> {
    let content = match m.content_base64.text() {
        Some(text) => decoded(text).ok_or_else(|| Diagnostic::bug("Base64 that was checked does not decode"))?,
        None => m.content.or("").into_bytes(),
    };
    Ok(spec::File { content, mode: m.mode.cloned(), owner: m.owner.cloned(), group: m.group.cloned() })
}

fn service(m: &Service) -> spec::Service {
    spec::Service {
        enabled: m.enabled.cloned(),
        running: m.running.cloned(),
        masked: m.masked.cloned(),
        restart_on: m.restart_on.or(Vec::new()),
    }
}

fn filesystem(m: &Filesystem) -> spec::Filesystem {
    spec::Filesystem { kind: m.kind.or(""), label: m.label.cloned(), uuid: m.uuid.cloned() }
}

fn mount(m: &Mount) -> spec::Mount {
    spec::Mount { source: m.source.or(""), kind: m.kind.cloned(), options: m.options.or(Vec::new()) }
}

fn container_runtime(m: &ContainerRuntime) -> spec::ContainerRuntime {
    spec::ContainerRuntime {
        package: m.package.cloned(),
        version: m.version.cloned(),
        sandbox_image: m.sandbox_image.cloned(),
        registries: each(&m.registries, registry),
    }
}

fn registry(m: &Registry) -> spec::Registry {
    spec::Registry {
        mirrors: m.mirrors.or(Vec::new()),
        skip_verify: m.skip_verify.cloned(),
        ca_pem: m.ca_pem.cloned(),
        override_path: m.override_path.cloned(),
    }
}

fn kubernetes(m: &Kubernetes) -> spec::Kubernetes {
    let repository = m.repository.get().map(|repository| (repository.url.cloned(), repository.key_pem.cloned()));
    spec::Kubernetes { version: m.version.or(""), repository }
}

fn command(m: &Command) -> spec::Command {
    spec::Command {
        argv: m.argv.or(Vec::new()),
        unless: m.unless.or(Vec::new()),
        creates: m.creates.cloned(),
        timeout_s: m.timeout.text().and_then(timeouts::parse).and_then(|time| u32::try_from(time.as_secs()).ok()),
    }
}
