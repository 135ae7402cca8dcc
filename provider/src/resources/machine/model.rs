//! The attributes of `groundwork_machine`.

use crate::endpoint::EndpointModel;
use crate::timeouts;
use std::collections::BTreeMap;
use tf::check::{keys, one_of};
use tf::{Attr, Model, Row, computed, optional, required};

/// What a machine's operating system is to be. Only what is given is managed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Machine {
    pub(super) id: Attr<String>,
    pub(super) endpoint: Attr<EndpointModel>,
    pub(super) hostname: Attr<String>,
    pub(super) hosts: Attr<BTreeMap<String, HostNames>>,
    pub(super) time_sync: Attr<bool>,
    pub(super) swap: Attr<String>,
    pub(super) kernel_modules: Attr<Vec<String>>,
    pub(super) sysctls: Attr<BTreeMap<String, String>>,
    pub(super) repositories: Attr<BTreeMap<String, Repository>>,
    pub(super) packages: Attr<BTreeMap<String, Package>>,
    pub(super) files: Attr<BTreeMap<String, File>>,
    pub(super) services: Attr<BTreeMap<String, Service>>,
    pub(super) filesystems: Attr<BTreeMap<String, Filesystem>>,
    pub(super) mounts: Attr<BTreeMap<String, Mount>>,
    pub(super) container_runtime: Attr<ContainerRuntime>,
    pub(super) kubernetes: Attr<Kubernetes>,
    pub(super) commands: Attr<BTreeMap<String, Command>>,
    pub(super) timeouts: Attr<Timeouts>,
    pub(super) drift: Attr<Vec<String>>,
    pub(super) skipped: Attr<Vec<String>>,
    pub(super) facts: Attr<BTreeMap<String, String>>,
}

impl Model for Machine {
    fn rows(&mut self) -> Vec<Row<'_>> {
        #[rustfmt::skip]
        let Self {
            id, endpoint, hostname, hosts, time_sync, swap, kernel_modules, sysctls, repositories, packages, files, services, filesystems, mounts,
            container_runtime, kubernetes, commands, timeouts, drift, skipped, facts,
        } = self;
        vec![
            computed("id", id, "Fingerprint of the machine's agent.").keep(),
            required("endpoint", endpoint, "The machine's agent: `endpoint` of its `groundwork_vm`."),
            optional("hostname", hostname, "Hostname, now and after every boot.").check(hostname_form),
            optional("hosts", hosts, "Lines of `/etc/hosts` by address, in a block of their own."),
            optional("time_sync", time_sync, "Whether to wait for a synchronised clock before anything else. Unless asked for, nothing waits: a machine without a time server would never be ready."),
            optional("swap", swap, "`off` turns every source of swap off, now and after every boot.").check(one_of(&["off"])),
            optional("kernel_modules", kernel_modules, "Kernel modules to load, now and after every boot.").check(word),
            optional("sysctls", sysctls, "Kernel settings, now and after every boot.").check(keys(sysctl_key)),
            optional("repositories", repositories, "Package repositories by name.").check(keys(word)),
            optional("packages", packages, "Packages by name; installed in one transaction.").check(keys(word)),
            optional("files", files, "Files by absolute path.").check(keys(absolute)),
            optional("services", services, "systemd units by name, such as `ssh.service`.").check(keys(word)),
            optional("filesystems", filesystems, "Filesystems by device, preferably a `/dev/disk/by-id/` name. A device that holds anything is never formatted.")
                .check(keys(absolute)),
            optional("mounts", mounts, "Mounts by absolute path, now and after every boot.").check(keys(absolute)),
            optional("container_runtime", container_runtime, "containerd with the systemd cgroup driver. `kubernetes` implies it."),
            optional(
                "kubernetes",
                kubernetes,
                "Everything a kubeadm node needs: swap off, kernel modules and settings, containerd, and kubelet, kubeadm and kubectl of \
                 this version, pinned and held.",
            ),
            optional("commands", commands, "Guarded commands by name, for what nothing else covers. They run last.").check(keys(word)),
            optional("timeouts", timeouts, "How long to wait."),
            computed("drift", drift, "What differs inside the machine from what is declared, one line each; the next apply repairs it."),
            computed("skipped", skipped, "What this machine cannot do, such as swap in a container, with the reason.").keep(),
            computed("facts", facts, "Facts about the machine: `os`, `kernel`, `architecture`, `virtualization`, `cpus`, `memory_mib` …").keep(),
        ]
    }
}

/// Declares a nested model: its fields are rows in order.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($row:ident $field:ident : $type:ty = $text:literal $(. $modifier:ident ($($argument:expr),*))*;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(crate) struct $name {
            $(pub(super) $field: Attr<$type>,)+
        }

        impl Model for $name {
            fn rows(&mut self) -> Vec<Row<'_>> {
                let Self { $($field),+ } = self;
                vec![$($row(stringify!($field), $field, $text)$(.$modifier($($argument),*))*),+]
            }
        }
    };
}

object! {
    /// Names of an address.
    HostNames {
        required names: Vec<String> = "Names, the canonical one first.";
    }
}

object! {
    /// A package repository, as a deb822 source.
    Repository {
        required url: String = "Base URL.".check(web_address);
        optional suites: Vec<String> = "Suites. Default: a flat repository.";
        optional components: Vec<String> = "Components; none for a flat repository.";
        optional key_pem: String = "Armoured public key that signs it.";
        optional key_url: String = "Where the machine fetches that key once, in place of `key_pem`.".check(web_address);
        optional trusted: bool = "Take it without a signature: only for repositories of your own.";
    }
}

object! {
    /// A package.
    Package {
        optional version: String = "Version to pin; `1.28.4-*` takes any build of it.";
        optional hold: bool = "Whether upgrades leave it alone.";
        optional absent: bool = "Whether it must not be installed.";
    }
}

object! {
    /// A file.
    File {
        optional content: String = "Content, text.";
        optional content_base64: String = "Content, Base64; in place of `content`.".check(base64_form);
        optional mode: String = "Permissions, octal. Default `0644`.".check(octal);
        optional owner: String = "Owner. Default `root`.".check(word);
        optional group: String = "Group. Default `root`.".check(word);
    }
}

object! {
    /// A systemd unit.
    Service {
        optional enabled: bool = "Whether it starts on boot.";
        optional running: bool = "Whether it runs now.";
        optional masked: bool = "Whether it cannot be started at all.";
        optional restart_on: Vec<String> = "Files after whose change it is restarted.".check(absolute);
    }
}

object! {
    /// A filesystem on a device.
    Filesystem {
        required kind: String = "`ext4` or `xfs`.".check(one_of(&["ext4", "xfs"]));
        optional label: String = "Label.";
        optional uuid: String = "UUID. Default: derived from machine and device.";
    }
}

object! {
    /// A mount.
    Mount {
        required source: String = "Device, `LABEL=…`, `UUID=…`, or the source of a network filesystem.";
        optional kind: String = "Filesystem type. Default: the filesystem's own.";
        optional options: Vec<String> = "Mount options. Default `defaults`, `noatime`, `nofail` and a device timeout of 30 s.";
    }
}

object! {
    /// containerd.
    ContainerRuntime {
        optional package: String = "Package to install: `containerd` or `containerd.io`. Default `containerd`.".check(one_of(&["containerd", "containerd.io"]));
        optional version: String = "Version to pin.";
        optional sandbox_image: String = "Pause image. Default: the runtime's own.";
        optional registries: BTreeMap<String, Registry> = "Settings by registry host; `_default` for the rest.";
    }
}

object! {
    /// How images of one registry are fetched.
    Registry {
        optional mirrors: Vec<String> = "URLs, tried in order.".check(web_address);
        optional skip_verify: bool = "Whether their certificates are not verified.";
        optional ca_pem: String = "CA of their certificates, PEM.";
        optional override_path: bool = "Whether their URLs hold the API path already.";
    }
}

object! {
    /// The packages of a kubeadm node.
    Kubernetes {
        required version: String = "Version, three numbers.".check(version_form);
        optional repository: KubernetesRepository = "Repository to take the packages from. Default: the Kubernetes project's own one of the minor version.";
    }
}

object! {
    /// A repository of Kubernetes packages.
    KubernetesRepository {
        optional url: String = "Base URL of a flat repository.".check(web_address);
        optional key_pem: String = "Armoured public key that signs it.";
    }
}

object! {
    /// A command with a guard.
    Command {
        required argv: Vec<String> = "Absolute path of the program, and its arguments. No shell reads them.";
        optional creates: String = "It is needed while this path does not exist.".check(absolute);
        optional unless: Vec<String> = "It is needed while this program fails.";
        optional timeout: String = "How long it may take. Default `10m`.".check(timeouts::check);
    }
}

object! {
    /// How long to wait.
    Timeouts {
        optional create: String = "Until a new machine is prepared. Default `30m`.".check(timeouts::check);
        optional update: String = "Until a change is made. Default `30m`.".check(timeouts::check);
    }
}

fn web_address(text: &str) -> Result<(), String> {
    let good =
        ["http://", "https://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    if good && !text.contains(char::is_whitespace) {
        Ok(())
    } else {
        Err("must be a URL with http or https".to_owned())
    }
}

fn base64_form(text: &str) -> Result<(), String> {
    super::decoded(text).map(drop).ok_or_else(|| "must be Base64".to_owned())
}

fn hostname_form(text: &str) -> Result<(), String> {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.split('.').all(label) { Ok(()) } else { Err("must be a host name in lower case".to_owned()) }
}

fn word(text: &str) -> Result<(), String> {
    let good = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '/' || c.is_control());
    if good { Ok(()) } else { Err("must be a name without blanks and slashes".to_owned()) }
}

fn sysctl_key(text: &str) -> Result<(), String> {
    let good = text.contains('.') && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    if good { Ok(()) } else { Err("must be a kernel setting such as `net.ipv4.ip_forward`".to_owned()) }
}

fn absolute(text: &str) -> Result<(), String> {
    let good = text.starts_with('/') && text.len() > 1 && !text.split('/').any(|part| part == "..");
    if good { Ok(()) } else { Err("must be an absolute path".to_owned()) }
}

fn octal(text: &str) -> Result<(), String> {
    let good = (3..=4).contains(&text.len()) && text.chars().all(|c| c.is_digit(8));
    if good { Ok(()) } else { Err("must be permissions in octal, such as `0644`".to_owned()) }
}

fn version_form(text: &str) -> Result<(), String> {
    let good = text.split('.').count() == 3 && text.split('.').all(|part| part.parse::<u16>().is_ok());
    if good { Ok(()) } else { Err("must be three numbers, such as `1.36.2`, without `v`".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_told_from_good_ones() {
        for (check, good, bad) in [
            (hostname_form as fn(&str) -> Result<(), String>, "cp-1.example", "CP 1"),
            (word, "linux-image-amd64", "a b"),
            (sysctl_key, "net.ipv4.ip_forward", "ip forward"),
            (absolute, "/etc/motd", "etc/../motd"),
            (octal, "0644", "rw-r--r--"),
            (version_form, "1.28.4", "1.28"),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
