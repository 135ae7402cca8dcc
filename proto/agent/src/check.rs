//! *The* rules of a specification. The provider applies them when a configuration is validated, the agent when a specification
//! arrives: values that the provider knew too late, and other clients, come there unchecked.
//!
//! The forms of single values are in [`form`]; here is which value has which form, and what does not go together. Messages are taken
//! apart without `..`, so that a new field does not compile before it has its rule here, or is said to need none.

use crate::form::{self, Verdict};
use crate::path::Path;
use crate::v1::machine::{
    CommandSpec, ContainerRuntimeSpec, FileSpec, FilesystemSpec, HostNames, KubernetesRepository, KubernetesSpec,
    MountSpec, NodeSpec, PackageSpec, ProxySpec, RegistrySpec, RepositorySpec, RuntimeSpec, ServiceSpec,
};
use std::collections::BTreeMap;

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the cure stands.
    pub at: Path,
    /// How the value must be instead: it completes "`path` …".
    pub why: String,
    /// The value, if one alone is wrong. No secret has a form, so none stands here.
    pub value: Option<String>,
    /// All that the rule looked at. Who does not know all of it yet knows nothing of this problem.
    pub seen: Vec<Path>,
}

/// All values of a specification that cannot be used, or as many of them as somebody reads.
#[must_use]
pub fn check(spec: &NodeSpec) -> Vec<Problem> {
    let NodeSpec {
        hostname,
        swap,
        kernel_modules,
        sysctls,
        package,
        repository,
        file,
        service,
        filesystem,
        mount,
        container_runtime,
        kubernetes,
        command,
        host,
        time_sync: _,
        memory_cgroup: _,
        proxy,
    } = spec;
    let (mut found, root) = (Found(Vec::new()), Path::default());
    found.given(root.field("hostname"), hostname.as_ref(), form::hostname);
    found.each(&root.field("host"), host, form::address, host_names);
    found.given(root.field("swap"), swap.as_ref(), form::swap);
    found.all(&root.field("kernel_modules"), kernel_modules, form::kernel_module);
    found.each(&root.field("sysctls"), sysctls, form::sysctl, |found, at, value| {
        found.one(at.clone(), value, form::sysctl_value);
    });
    found.each(&root.field("repository"), repository, form::short_name, self::repository);
    found.each(&root.field("package"), package, form::package, self::package);
    found.each(&root.field("file"), file, form::file, self::file);
    found.each(&root.field("service"), service, form::unit, self::service);
    found.each(&root.field("filesystem"), filesystem, form::device, self::filesystem);
    found.each(&root.field("mount"), mount, form::path, self::mount);
    found.within(&root.field("proxy"), proxy.as_ref(), self::proxy);
    found.within(&root.field("container_runtime"), container_runtime.as_ref(), self::container_runtime);
    found.within(&root.field("kubernetes"), kubernetes.as_ref(), self::kubernetes);
    found.each(&root.field("command"), command, form::short_name, self::command);
    found.0
}

fn host_names(found: &mut Found, at: &Path, HostNames { names }: &HostNames) {
    found.all(&at.field("names"), names, form::dns_name);
    let some = if names.is_empty() { Err("must have one element or more".to_owned()) } else { Ok(()) };
    found.together(at.field("names"), vec![at.field("names")], some);
}

fn repository(found: &mut Found, at: &Path, repository: &RepositorySpec) {
    let RepositorySpec { url, suites, components, key_pem, key_url, trusted, absent } = repository;
    let absent = *absent == Some(true);
    found.one(at.field("url"), url, if absent { form::source } else { form::url });
    found.all(&at.field("suites"), suites, form::suite);
    found.all(&at.field("components"), components, form::suite);
    let fit = if absent { Ok(()) } else { form::suites_fit_components(suites, components) };
    found.together(at.field("components"), ["suites", "components"].map(|name| at.field(name)).into(), fit);
    found.given(at.field("key_pem"), key_pem.as_ref(), form::armoured_key);
    found.given(at.field("key_url"), key_url.as_ref(), form::url);
    let proven = key_pem.is_some() || key_url.is_some() || *trusted == Some(true);
    let why = "is needed, or `key_url`, or `trusted = true` for a repository of your own";
    let seen = ["key_pem", "key_url", "trusted", "absent"].map(|name| at.field(name));
    found.together(at.field("key_pem"), seen.clone().into(), unless(!proven && !absent, why));
    let why = "goes together with `url` and `suites` only: what is not used needs no key";
    found.together(at.field("absent"), seen.into(), unless(proven && absent, why));
}

fn proxy(found: &mut Found, at: &Path, ProxySpec { http, https, no_proxy }: &ProxySpec) {
    found.given(at.field("http"), http.as_ref(), form::proxy);
    found.given(at.field("https"), https.as_ref(), form::proxy);
    found.all(&at.field("no_proxy"), no_proxy, form::no_proxy);
    let none = http.is_none() && https.is_none();
    let seen = ["http", "https"].map(|name| at.field(name));
    found.together(at.field("http"), seen.into(), unless(none, "is needed, or `https`"));
}

fn package(found: &mut Found, at: &Path, PackageSpec { version, hold, absent }: &PackageSpec) {
    found.given(at.field("version"), version.as_ref(), form::package_version);
    let clash = *absent == Some(true) && (version.is_some() || *hold == Some(true));
    let seen = ["absent", "version", "hold"].map(|name| at.field(name));
    found.together(at.field("absent"), seen.into(), unless(clash, "does not go together with `version` or `hold`"));
}

fn file(found: &mut Found, at: &Path, FileSpec { content: _, mode, owner, group }: &FileSpec) {
    found.given(at.field("mode"), mode.as_ref(), form::mode);
    found.given(at.field("owner"), owner.as_ref(), form::account);
    found.given(at.field("group"), group.as_ref(), form::account);
}

fn service(found: &mut Found, at: &Path, service: &ServiceSpec) {
    let ServiceSpec { enabled, running, masked, restart_on } = service;
    found.all(&at.field("restart_on"), restart_on, form::path);
    let clash = *masked == Some(true) && (*enabled == Some(true) || *running == Some(true));
    let why = "does not go together with `enabled` or `running`: a masked unit cannot be started";
    let seen = ["masked", "enabled", "running"].map(|name| at.field(name));
    found.together(at.field("masked"), seen.into(), unless(clash, why));
}

fn filesystem(found: &mut Found, at: &Path, FilesystemSpec { kind, label, uuid }: &FilesystemSpec) {
    found.one(at.field("kind"), kind, form::filesystem);
    let fits = label.as_ref().map_or(Ok(()), |label| form::filesystem_label(label, kind));
    found.together(at.field("label"), ["label", "kind"].map(|name| at.field(name)).into(), fits);
    found.given(at.field("uuid"), uuid.as_ref(), form::uuid);
}

fn mount(found: &mut Found, at: &Path, MountSpec { source, kind, options }: &MountSpec) {
    found.one(at.field("source"), source, form::mount_source);
    found.given(at.field("kind"), kind.as_ref(), form::mount_kind);
    found.all(&at.field("options"), options, form::mount_option);
}

fn container_runtime(found: &mut Found, at: &Path, runtime: &ContainerRuntimeSpec) {
    let ContainerRuntimeSpec { package, version, sandbox_image, registry, imports, runtime, default_runtime } = runtime;
    found.given(at.field("package"), package.as_ref(), form::runtime_package);
    found.given(at.field("version"), version.as_ref(), form::package_version);
    found.given(at.field("sandbox_image"), sandbox_image.as_ref(), form::image);
    found.each(&at.field("registry"), registry, form::registry, self::registry);
    found.all(&at.field("imports"), imports, form::imports);
    found.each(&at.field("runtime"), runtime, form::short_name, self::runtime);
    let known =
        default_runtime.as_ref().is_none_or(|name| name == "runc" || runtime.contains_key(name) || !imports.is_empty());
    let seen = ["default_runtime", "runtime", "imports"].map(|name| at.field(name));
    found.together(
        at.field("default_runtime"),
        seen.into(),
        unless(!known, "must be `runc`, or one that a `runtime` block declares"),
    );
    found.given(at.field("default_runtime"), default_runtime.as_ref(), form::short_name);
}

fn runtime(found: &mut Found, at: &Path, RuntimeSpec { runtime_type, binary_name }: &RuntimeSpec) {
    found.given(at.field("runtime_type"), runtime_type.as_ref(), form::runtime_type);
    found.given(at.field("binary_name"), binary_name.as_ref(), form::path);
}

fn registry(found: &mut Found, at: &Path, registry: &RegistrySpec) {
    let RegistrySpec { mirrors, skip_verify: _, ca_pem, override_path: _ } = registry;
    found.all(&at.field("mirrors"), mirrors, form::web_url);
    // Not quoted: what was taken for a certificate may be a key.
    let good = ca_pem.as_ref().map_or(Ok(()), |text| form::certificates(text));
    found.together(at.field("ca_pem"), vec![at.field("ca_pem")], good);
}

fn kubernetes(found: &mut Found, at: &Path, KubernetesSpec { version, repository }: &KubernetesSpec) {
    found.one(at.field("version"), version, form::kubernetes_version);
    found.within(&at.field("repository"), repository.as_ref(), |found, at, repository| {
        let KubernetesRepository { url, key_pem } = repository;
        found.given(at.field("url"), url.as_ref(), form::url);
        found.given(at.field("key_pem"), key_pem.as_ref(), form::armoured_key);
    });
}

fn command(found: &mut Found, at: &Path, command: &CommandSpec) {
    let CommandSpec { argv, unless: guard, creates, timeout_s: _ } = command;
    found.together(at.field("argv"), vec![at.field("argv")], form::program(argv));
    let program = if guard.is_empty() { Ok(()) } else { form::program(guard) };
    found.together(at.field("unless"), vec![at.field("unless")], program);
    found.given(at.field("creates"), creates.as_ref(), form::path);
    let unclear = creates.is_some() != guard.is_empty();
    let why = "needs exactly one guard that says when it is needed: `creates` or `unless`";
    found.together(at.clone(), ["creates", "unless"].map(|name| at.field(name)).into(), unless(unclear, why));
}

fn unless(bad: bool, why: &str) -> Verdict {
    if bad { Err(why.to_owned()) } else { Ok(()) }
}

type Form = fn(&str) -> Verdict;

struct Found(Vec<Problem>);

impl Found {
    /// One text has a form.
    fn one(&mut self, at: Path, text: &str, form: Form) {
        if let Err(why) = form(text) {
            self.add(Problem { seen: vec![at.clone()], at, why, value: Some(text.to_owned()) });
        }
    }

    /// As [`Self::one`], if it is given.
    fn given(&mut self, at: Path, text: Option<&String>, form: Form) {
        if let Some(text) = text {
            self.one(at, text, form);
        }
    }

    /// Every element of a list has it.
    fn all(&mut self, at: &Path, texts: &[String], form: Form) {
        for (index, text) in texts.iter().enumerate() {
            self.one(at.index(index), text, form);
        }
    }

    /// Every key of a map has a form, and every element follows its rules.
    fn each<T>(&mut self, at: &Path, items: &BTreeMap<String, T>, form: Form, rules: fn(&mut Self, &Path, &T)) {
        for (key, item) in items {
            self.one(at.key(key), key, form);
            rules(self, &at.key(key), item);
        }
    }

    /// A message follows its rules, if it is given.
    fn within<T>(&mut self, at: &Path, message: Option<&T>, rules: fn(&mut Self, &Path, &T)) {
        if let Some(message) = message {
            rules(self, at, message);
        }
    }

    /// Several values go together, or a list is good as a whole.
    fn together(&mut self, at: Path, seen: Vec<Path>, verdict: Verdict) {
        if let Err(why) = verdict {
            self.add(Problem { at, why, value: None, seen });
        }
    }

    fn add(&mut self, problem: Problem) {
        if self.0.len() < MOST {
            self.0.push(problem);
        }
    }
}

/// An agent's answer must not be larger than what it answers.
const MOST: usize = 100;

#[cfg(test)]
mod tests;
