//! Every rule a specification must keep, each problem with the path of the attribute that is the cure.

use super::{CommandSpec, FileSpec, Filesystem, Kubernetes, Mount, NodeSpec, Package, Repository, Service};
use std::fmt;
use std::net::IpAddr;

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
    if let Some(name) = &spec.hostname {
        found.unless(is_hostname(name), "hostname", "must be lower-case labels of letters, digits and dashes");
    }
    for (address, hosts) in &spec.hosts {
        let path = key("hosts", address);
        found.unless(address.parse::<IpAddr>().is_ok(), &path, "must be an IP address");
        let names = !hosts.names.is_empty() && hosts.names.iter().all(|name| is_hostname(name));
        found.unless(names, &format!("{path}.names"), "must be one or more host names");
    }
    for module in &spec.kernel_modules {
        found.unless(is_word(module, "_-"), "kernel_modules", &format!("{module:?} is no module name"));
    }
    for (name, value) in &spec.sysctls {
        let path = key("sysctls", name);
        let known = is_word(name, "._-/*:@") && name.contains(['.', '/']) && !name.contains("..");
        found.unless(known, &path, "must be a key such as net.ipv4.ip_forward");
        found.unless(!value.is_empty() && is_line(value), &path, "must be one line");
    }
    found.each("packages", &spec.packages, package);
    found.each("repositories", &spec.repositories, repository);
    found.each("files", &spec.files, file);
    found.each("services", &spec.services, service);
    found.each("filesystems", &spec.filesystems, filesystem);
    found.each("mounts", &spec.mounts, mount);
    found.each("commands", &spec.commands, command);
    if let Some(kubernetes) = &spec.kubernetes {
        kubernetes_version(&mut found, kubernetes);
    }
    if let Some(runtime) = &spec.container_runtime {
        let known = ["containerd", "containerd.io"].contains(&runtime.package());
        found.unless(known, "container_runtime.package", "must be containerd or containerd.io");
        let image = runtime.sandbox_image.as_deref().unwrap_or("x");
        found.unless(is_word(image, "._-/:@"), "container_runtime.sandbox_image", "must be an image reference");
        for (name, registry) in &runtime.registries {
            let path = key("container_runtime.registries", name);
            found.unless(is_word(name, "._-:"), &path, "must be a registry host or _default");
            let good = registry.mirrors.iter().all(|url| is_url(url));
            found.unless(good, &format!("{path}.mirrors"), "must be http or https URLs");
        }
    }
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    fn unless(&mut self, good: bool, path: &str, why: &str) {
        if !good {
            self.0.push(Problem { path: path.to_owned(), why: why.to_owned() });
        }
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
    let named = is_word(name, "+-.") && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    found.unless(named, path, "must be a package name");
    let version = package.version.as_deref().unwrap_or("1");
    let plain = version.strip_suffix('*').unwrap_or(version);
    let good = (plain.is_empty() || is_word(plain, "+-.:~")) && !plain.starts_with('-') && !version.is_empty();
    found.unless(good, &format!("{path}.version"), "must be a version, exact or with * at its end");
    let clash = package.absent && (package.version.is_some() || package.hold == Some(true));
    found.unless(!clash, &format!("{path}.absent"), "does not go with version or hold");
}

fn repository(found: &mut Found, path: &str, name: &str, repository: &Repository) {
    found.unless(is_word(name, "_-"), path, "the name must be letters, digits, _ and -");
    found.unless(is_url(&repository.url), &format!("{path}.url"), "must be an http, https or file URL");
    for word in repository.suites.iter().chain(&repository.components) {
        found.unless(is_word(word, "._-/"), path, &format!("{word:?} is no suite or component"));
    }
    let flat = repository.suites.iter().all(|suite| suite.ends_with('/'));
    found.unless(
        flat || !repository.components.is_empty(),
        &format!("{path}.components"),
        "must be given with a suite",
    );
    let key = repository.key_pem.as_deref().unwrap_or("-----BEGIN PGP");
    found.unless(key.trim_start().starts_with("-----BEGIN PGP"), &format!("{path}.key_pem"), "must be an armoured key");
    let url = repository.key_url.as_deref().unwrap_or("https://x");
    found.unless(is_url(url), &format!("{path}.key_url"), "must be an http or https URL");
    let proof = repository.trusted || repository.key_pem.is_some() || repository.key_url.is_some();
    found.unless(proof, &format!("{path}.key_pem"), "is needed, unless key_url or trusted is given");
}

fn file(found: &mut Found, path: &str, name: &str, file: &FileSpec) {
    found.unless(is_path(name), path, "must be an absolute path without .. in it");
    let mode = file.mode.as_deref().unwrap_or("0644");
    let good = u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o7777);
    found.unless(good, &format!("{path}.mode"), "must be an octal number such as 0644");
    for (field, who) in [("owner", &file.owner), ("group", &file.group)] {
        let good = who.as_deref().is_none_or(|who| is_word(who, "._-"));
        found.unless(good, &format!("{path}.{field}"), "must be a name or a number");
    }
}

fn service(found: &mut Found, path: &str, name: &str, service: &Service) {
    found.unless(is_word(name, "._-@:\\") && !name.starts_with('-'), path, "must be the name of a systemd unit");
    let clash = service.masked == Some(true) && (service.enabled == Some(true) || service.running == Some(true));
    found.unless(!clash, &format!("{path}.masked"), "does not go with enabled or running");
    let good = service.restart_on.iter().all(|file| is_path(file));
    found.unless(good, &format!("{path}.restart_on"), "must be absolute paths");
}

fn filesystem(found: &mut Found, path: &str, device: &str, filesystem: &Filesystem) {
    let unstable = ["sd", "vd", "xvd", "hd"].iter().any(|name| device.starts_with(&format!("/dev/{name}")));
    let good = is_path(device) && device.starts_with("/dev/") && !unstable;
    found.unless(good, path, "must be a stable name of a device, such as one in /dev/disk/by-id");
    let known = ["ext4", "xfs"].contains(&filesystem.kind.as_str());
    found.unless(known, &format!("{path}.type"), "must be ext4 or xfs");
    let label = filesystem.label.as_deref().unwrap_or("x");
    let most = if filesystem.kind == "xfs" { 12 } else { 16 };
    let good = is_word(label, "._-") && label.len() <= most;
    found.unless(good, &format!("{path}.label"), "must be letters, digits and ._-; at most 16 (xfs: 12) of them");
    let uuid = filesystem.uuid.as_deref().unwrap_or("00000000-0000-0000-0000-000000000000");
    found.unless(is_uuid(uuid), &format!("{path}.uuid"), "must be a UUID in lower case");
}

fn mount(found: &mut Found, path: &str, point: &str, mount: &Mount) {
    found.unless(is_path(point) && point != "/", path, "must be an absolute path");
    let source = !mount.source.is_empty() && !mount.source.contains(char::is_whitespace);
    found.unless(source, &format!("{path}.source"), "must be a device, UUID=, LABEL= or a network source");
    let kind = mount.kind.as_deref().unwrap_or("ext4");
    found.unless(is_word(kind, "._-"), &format!("{path}.type"), "must be a filesystem type");
    let good = mount.options.iter().all(|option| !option.is_empty() && !option.contains([' ', '\t', ',', '\n']));
    found.unless(good, &format!("{path}.options"), "must be single mount options");
}

fn command(found: &mut Found, path: &str, name: &str, command: &CommandSpec) {
    found.unless(is_word(name, "_-"), path, "the name must be letters, digits, _ and -");
    let good = command.argv.first().is_some_and(|program| is_path(program));
    found.unless(good, &format!("{path}.argv"), "must begin with the absolute path of a program");
    let guard = command.unless.first().is_none_or(|program| is_path(program));
    found.unless(guard, &format!("{path}.unless"), "must begin with the absolute path of a program");
    let guarded = command.creates.is_some() == command.unless.is_empty();
    found.unless(guarded, path, "needs exactly one guard: unless or creates");
}

fn kubernetes_version(found: &mut Found, kubernetes: &Kubernetes) {
    let parts: Vec<_> = kubernetes.version.split('.').map(str::parse::<u16>).collect();
    let good = parts.len() == 3 && parts.iter().all(Result::is_ok);
    found.unless(good, "kubernetes.version", "must be three numbers such as 1.36.2");
    let Some(repository) = &kubernetes.repository else { return };
    let url = repository.url.as_deref().unwrap_or("https://x");
    found.unless(is_url(url), "kubernetes.repository.url", "must be an http, https or file URL");
    let key = repository.key_pem.as_deref().unwrap_or("-----BEGIN PGP");
    let good = key.trim_start().starts_with("-----BEGIN PGP");
    found.unless(good, "kubernetes.repository.key_pem", "must be an armoured key");
}

fn is_hostname(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// ASCII letters and digits, and what else is allowed.
fn is_word(text: &str, also: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

fn is_line(text: &str) -> bool {
    !text.contains(['\n', '\r', '\0'])
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && is_line(path)
        && !path.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..")
}

fn is_url(url: &str) -> bool {
    ["http://", "https://", "file:///"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
        && !url.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"')
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

#[cfg(test)]
mod tests;
