//! The attributes of `groundwork_machine`.

use crate::agents::spec::form;
use crate::endpoint::EndpointModel;
use crate::timeouts;
use std::collections::BTreeMap;
use tf::check::{Verdict, keys};
use tf::{Attr, Model, Row, Value, computed, optional, required};

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
            optional("hostname", hostname, "Hostname, now and after every boot.").check(form::hostname),
            optional("hosts", hosts, "Lines of `/etc/hosts` by address, in a block of their own.").check(keys(form::address)),
            optional("time_sync", time_sync, "Whether to wait for a synchronised clock before anything else. Unless asked for, nothing waits: a machine without a time server would never be ready."),
            optional("swap", swap, "`off` turns every source of swap off, now and after every boot. Left out, swap stays as it is, unless `kubernetes` is given.").check(off),
            optional("kernel_modules", kernel_modules, "Kernel modules to load, now and after every boot.").check(form::kernel_module),
            optional("sysctls", sysctls, "Kernel settings, now and after every boot.").check(keys(form::sysctl)).check(form::sysctl_value),
            optional("repositories", repositories, "Package repositories by name.").check(keys(form::short_name)),
            optional("packages", packages, "Packages by name; installed in one transaction.").check(keys(form::package)),
            optional("files", files, "Files by absolute path. Their content is no place for secrets: it stands in the state.").check(keys(form::file)),
            optional("services", services, "systemd units by name, such as `ssh.service`.").check(keys(form::unit)),
            optional(
                "filesystems",
                filesystems,
                "Filesystems by device. It must have a stable name, such as one in `/dev/disk/by-id/`; `/dev/sdb` may be another disk after \
                 the next boot and is refused. A device that holds anything is never formatted.",
            )
            .check(keys(form::device)),
            optional("mounts", mounts, "Mounts by absolute path, now and after every boot.").check(keys(form::path)),
            optional(
                "container_runtime",
                container_runtime,
                "containerd with the systemd cgroup driver. `kubernetes` implies it, but not a version of it that fits: see above.",
            ),
            optional(
                "kubernetes",
                kubernetes,
                "Everything a kubeadm node needs: swap off, kernel modules and settings, containerd, and kubelet, kubeadm and kubectl of \
                 this version, pinned and held. What the other attributes set themselves wins over this preset.",
            ),
            optional("commands", commands, "Guarded commands by name, for what nothing else covers. They run last.")
                .check(keys(form::short_name)),
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
        required names: Vec<String> = "Names, the canonical one first.".check(some).check(form::dns_name);
    }
}

object! {
    /// A package repository, as a deb822 source.
    Repository {
        required url: String = "Base URL, with `http`, `https` or `file`.".check(form::url);
        optional suites: Vec<String> = "Suites. Default: a flat repository; a suite that ends in `/` is one too.".check(form::suite);
        optional components: Vec<String> = "Components: required with suites, none for a flat repository.".check(form::suite);
        optional key_pem: String = "Armoured public key that signs it. `key_pem`, `key_url` or `trusted` is required.".check(form::armoured_key);
        optional key_url: String = "Where the machine fetches that key once, in place of `key_pem`.".check(form::url);
        optional trusted: bool = "Take it without a signature, in place of a key: only for repositories of your own.";
    }
}

object! {
    /// A package.
    Package {
        optional version: String = "Version to pin; `1.28.4-*` takes any build of it.".check(form::package_version);
        optional hold: bool = "Whether upgrades leave it alone. Default `true` for the packages of `kubernetes` and `container_runtime`; others stay as they are.";
        optional absent: bool = "Whether it must not be installed. Not together with `version` or `hold`.";
    }
}

object! {
    /// A file.
    File {
        optional content: String = "Content, text. It stands readable in the state and in plan files, so secrets do not belong here: have the machine fetch them itself, for example with a service such as Vault Agent.";
        optional content_base64: String = "Content, Base64; in place of `content`, and just as readable in the state and in plan files.".check(base64_form);
        optional mode: String = "Permissions, octal. Default `0644`.".check(form::mode);
        optional owner: String = "Owner. Default `root`.".check(form::account);
        optional group: String = "Group. Default `root`.".check(form::account);
    }
}

object! {
    /// A systemd unit.
    Service {
        optional enabled: bool = "Whether it starts on boot.";
        optional running: bool = "Whether it runs now.";
        optional masked: bool = "Whether it cannot be started at all. Not together with `enabled` or `running`.";
        optional restart_on: Vec<String> = "Files by absolute path: while one of them is newer than the running service, it is restarted.".check(form::path);
    }
}

object! {
    /// A filesystem on a device.
    Filesystem {
        required kind: String = "`ext4` or `xfs`.".check(form::filesystem);
        optional label: String = "Label: at most 16 characters, 12 for `xfs`.";
        optional uuid: String = "UUID. Default: derived from machine and device.".check(form::uuid);
    }
}

object! {
    /// A mount.
    Mount {
        required source: String = "Device, `LABEL=…`, `UUID=…`, or the source of a network filesystem.".check(form::mount_source);
        optional kind: String = "Filesystem type. Default: the filesystem's own.".check(form::mount_kind);
        optional options: Vec<String> = "Mount options, one by one. Default `defaults`, `noatime`, `nofail` and a device timeout of 30 s.".check(form::mount_option);
    }
}

object! {
    /// containerd.
    ContainerRuntime {
        optional package: String = "Package to install: `containerd` of the distribution, or Docker's `containerd.io`, whose repository stands in `repositories`. Default `containerd`, or `containerd.io` where that is installed already.".check(form::runtime_package);
        optional version: String = "Version of the package to pin, such as `2.2.1-*`: `*` at its end takes any build of it. Default: the newest when it is installed.".check(form::package_version);
        optional sandbox_image: String = "Pause image. Default: the runtime's own.".check(form::image);
        optional registries: BTreeMap<String, Registry> = "Settings by registry host; `_default` for the rest.".check(keys(form::registry));
    }
}

object! {
    /// How images of one registry are fetched.
    Registry {
        optional mirrors: Vec<String> = "URLs, tried in order.".check(form::web_url);
        optional skip_verify: bool = "Whether their certificates are not verified.";
        optional ca_pem: String = "CA of their certificates, PEM.";
        optional override_path: bool = "Whether their URLs hold the API path already.";
    }
}

object! {
    /// The packages of a kubeadm node.
    Kubernetes {
        required version: String = "Version, three numbers, `1.24.0` or newer. Another patch version installs its packages and restarts the kubelet at once, also on a live node: nothing is drained. Another minor version is refused on a machine that is a node of a cluster.".check(form::kubernetes_version);
        optional repository: KubernetesRepository = "Repository to take the packages from. Default: the Kubernetes project's own one of the minor version.";
    }
}

object! {
    /// A repository of Kubernetes packages.
    KubernetesRepository {
        optional url: String = "Base URL of a flat repository, with `http`, `https` or `file`.".check(form::url);
        optional key_pem: String = "Armoured public key that signs it. Without it the machine fetches the key once from `<url>/Release.key`.".check(form::armoured_key);
    }
}

object! {
    /// A command with a guard.
    Command {
        required argv: Vec<String> = "Absolute path of the program, and its arguments. No shell reads them.".check(program);
        optional creates: String = "It is needed while this path does not exist. Exactly one of `creates` and `unless` is required.".check(form::path);
        optional unless: Vec<String> = "It is needed while this program fails: its absolute path, and its arguments.".check(program);
        optional timeout: String = "How long it may take. Default `10m`.".check(timeouts::check);
    }
}

object! {
    /// How long to wait.
    Timeouts {
        optional create: String = "Until a new machine is prepared. Default `30m`.".check(timeouts::check);
        optional update: String = "Until a change is made. Default `30m`.".check(timeouts::check);
        optional delete: String = "How long the pods of a node may take to leave before its machine goes. Default `10m`.".check(timeouts::check);
    }
}

/// HCL's `false` and `"on"` end here too.
fn off(text: &str) -> Verdict {
    if text == "off" { Ok(()) } else { Err("must be \"off\", or left out if swap is to stay as it is".to_owned()) }
}

fn base64_form(text: &str) -> Verdict {
    super::decoded(text).map(drop).ok_or_else(|| "must be Base64".to_owned())
}

fn some(list: &Value) -> Verdict {
    match list {
        Value::List(items) if items.is_empty() => Err("must have one element or more".to_owned()),
        _ => Ok(()),
    }
}

/// A list of which only the first element has a form, once it is known.
fn program(argv: &Value) -> Verdict {
    let Value::List(items) = argv else { return Ok(()) };
    match items.first() {
        Some(Value::String(program)) => form::program(&[program]),
        Some(_) => Ok(()),
        None => form::program::<&str>(&[]),
    }
}
