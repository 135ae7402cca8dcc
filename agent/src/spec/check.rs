//! Every rule a specification must keep, each problem with the path of the attribute that is the cure. The provider has checked them
//! all; but values that it knew too late, and other clients, come here unchecked.

use super::{
    CommandSpec, ContainerRuntime, FileSpec, Filesystem, Kubernetes, KubernetesRepository, Mount, NodeSpec, Package,
    Repository, Service,
};
use agent_proto::form::{self, Verdict};
use std::fmt;

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `files["/etc/motd"].mode`
    pub path: String,
    /// What a good value looks like.
    pub why: String,
}

/// All values that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the specification cannot be used: ")?;
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let colon = if problem.path.is_empty() { "" } else { ": " };
            write!(f, "{separator}{}{colon}{}", problem.path, problem.why)?;
        }
        Ok(())
    }
}

pub(super) fn check(spec: &NodeSpec) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    found.given("hostname", spec.hostname.as_deref(), form::hostname);
    for (address, hosts) in &spec.hosts {
        let path = key("hosts", address);
        found.see(&path, form::address(address));
        found.all(&format!("{path}.names"), &hosts.names, form::dns_name);
        found.unless(!hosts.names.is_empty(), &format!("{path}.names"), "must have one name or more");
    }
    found.all("kernel_modules", &spec.kernel_modules, form::kernel_module);
    for (name, value) in &spec.sysctls {
        let path = key("sysctls", name);
        found.see(&path, form::sysctl(name));
        found.see(&path, form::sysctl_value(value));
    }
    found.each("packages", &spec.packages, package);
    found.each("repositories", &spec.repositories, repository);
    found.each("files", &spec.files, file);
    found.each("services", &spec.services, service);
    found.each("filesystems", &spec.filesystems, filesystem);
    found.each("mounts", &spec.mounts, mount);
    found.each("commands", &spec.commands, command);
    if let Some(kubernetes) = &spec.kubernetes {
        self::kubernetes(&mut found, kubernetes);
    }
    if let Some(runtime) = &spec.container_runtime {
        container_runtime(&mut found, runtime);
    }
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    fn see(&mut self, path: &str, verdict: Verdict) {
        if let Err(why) = verdict {
            self.0.push(Problem { path: path.to_owned(), why });
        }
    }

    fn given(&mut self, path: &str, value: Option<&str>, rule: fn(&str) -> Verdict) {
        self.see(path, value.map_or(Ok(()), rule));
    }

    /// The first value that cannot be used: of a list it says which one is meant.
    fn all<'a>(&mut self, path: &str, values: impl IntoIterator<Item = &'a String>, rule: fn(&str) -> Verdict) {
        let wrong = values.into_iter().find_map(|value| Some(format!("{value:?} {}", rule(value).err()?)));
        self.see(path, wrong.map_or(Ok(()), Err));
    }

    fn unless(&mut self, good: bool, path: &str, why: &str) {
        self.see(path, if good { Ok(()) } else { Err(why.to_owned()) });
    }

    fn each<T>(
        &mut self,
        field: &str,
        items: &std::collections::BTreeMap<String, T>,
        rule: fn(&mut Self, &str, &str, &T),
    ) {
        for (name, item) in items {
            rule(self, &key(field, name), name, item);
        }
    }
}

fn key(field: &str, name: &str) -> String {
    format!("{field}[{name:?}]")
}

fn package(found: &mut Found, path: &str, name: &str, package: &Package) {
    found.see(path, form::package(name));
    found.given(&format!("{path}.version"), package.version.as_deref(), form::package_version);
    let clash = package.absent && (package.version.is_some() || package.hold == Some(true));
    found.unless(!clash, &format!("{path}.absent"), "does not go with version or hold");
}

fn repository(found: &mut Found, path: &str, name: &str, repository: &Repository) {
    let Repository { url, suites, components, key_pem, key_url, trusted } = repository;
    found.see(path, form::short_name(name));
    found.see(&format!("{path}.url"), form::url(url));
    found.all(&format!("{path}.suites"), suites, form::suite);
    found.all(&format!("{path}.components"), components, form::suite);
    let fit = form::suites_fit_components(suites, components);
    found.see(&format!("{path}.components"), fit);
    found.given(&format!("{path}.key_pem"), key_pem.as_deref(), form::armoured_key);
    found.given(&format!("{path}.key_url"), key_url.as_deref(), form::url);
    let proof = *trusted || key_pem.is_some() || key_url.is_some();
    found.unless(proof, &format!("{path}.key_pem"), "is needed, unless key_url or trusted is given");
}

fn file(found: &mut Found, path: &str, name: &str, file: &FileSpec) {
    found.see(path, form::file(name));
    found.given(&format!("{path}.mode"), file.mode.as_deref(), form::mode);
    found.given(&format!("{path}.owner"), file.owner.as_deref(), form::account);
    found.given(&format!("{path}.group"), file.group.as_deref(), form::account);
}

fn service(found: &mut Found, path: &str, name: &str, service: &Service) {
    found.see(path, form::unit(name));
    let clash = service.masked == Some(true) && (service.enabled == Some(true) || service.running == Some(true));
    found.unless(!clash, &format!("{path}.masked"), "does not go with enabled or running");
    found.all(&format!("{path}.restart_on"), &service.restart_on, form::path);
}

fn filesystem(found: &mut Found, path: &str, device: &str, filesystem: &Filesystem) {
    let Filesystem { kind, label, uuid } = filesystem;
    found.see(path, form::device(device));
    found.see(&format!("{path}.kind"), form::filesystem(kind));
    let label = label.as_deref().map_or(Ok(()), |label| form::filesystem_label(label, kind));
    found.see(&format!("{path}.label"), label);
    found.given(&format!("{path}.uuid"), uuid.as_deref(), form::uuid);
}

fn mount(found: &mut Found, path: &str, point: &str, mount: &Mount) {
    found.see(path, form::path(point));
    found.see(&format!("{path}.source"), form::mount_source(&mount.source));
    found.given(&format!("{path}.kind"), mount.kind.as_deref(), form::mount_kind);
    found.all(&format!("{path}.options"), &mount.options, form::mount_option);
}

fn command(found: &mut Found, path: &str, name: &str, command: &CommandSpec) {
    found.see(path, form::short_name(name));
    found.see(&format!("{path}.argv"), form::program(&command.argv));
    if !command.unless.is_empty() {
        found.see(&format!("{path}.unless"), form::program(&command.unless));
    }
    found.given(&format!("{path}.creates"), command.creates.as_deref(), form::path);
    let guarded = command.creates.is_some() == command.unless.is_empty();
    found.unless(guarded, path, "needs exactly one guard: unless or creates");
}

fn kubernetes(found: &mut Found, kubernetes: &Kubernetes) {
    found.see("kubernetes.version", form::kubernetes_version(&kubernetes.version));
    let Some(KubernetesRepository { url, key_pem }) = &kubernetes.repository else { return };
    found.given("kubernetes.repository.url", url.as_deref(), form::url);
    found.given("kubernetes.repository.key_pem", key_pem.as_deref(), form::armoured_key);
}

fn container_runtime(found: &mut Found, runtime: &ContainerRuntime) {
    let ContainerRuntime { package, version, sandbox_image, registries } = runtime;
    found.given("container_runtime.package", package.as_deref(), form::runtime_package);
    found.given("container_runtime.version", version.as_deref(), form::package_version);
    found.given("container_runtime.sandbox_image", sandbox_image.as_deref(), form::image);
    for (name, registry) in registries {
        let path = key("container_runtime.registries", name);
        found.see(&path, form::registry(name));
        found.all(&format!("{path}.mirrors"), &registry.mirrors, form::web_url);
    }
}

#[cfg(test)]
mod tests;
