//! The attributes of `groundwork_machine`.
//!
//! What a machine is to be ([`Settings`] and what is in it) has the names of the specification that the agent is sent, which has
//! the rules of its values, too. Checks stand here only for what is not in it as it is written.

use super::message::{Field, To};
use crate::agents::machine::{
    self, ContainerRuntimeSpec, FilesystemSpec, KubernetesSpec, MountSpec, NodeSpec, PackageSpec, ProxySpec,
    RegistrySpec, RepositorySpec, RuntimeSpec, ServiceSpec,
};
use crate::endpoint::EndpointModel;
use crate::timeouts;
use std::collections::BTreeMap;
use tf::check::Verdict;
use tf::{Attr, Model, Row, block, computed, optional, required};

/// One machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Machine {
    pub(super) id: Attr<String>,
    pub(super) endpoint: Attr<EndpointModel>,
    /// What its operating system is to be: attributes beside the others.
    pub(super) settings: Settings,
    pub(super) timeouts: Attr<Timeouts>,
    pub(super) drift: Attr<Vec<String>>,
    pub(super) skipped: Attr<Vec<String>>,
    pub(super) facts: Attr<BTreeMap<String, String>>,
}

impl Model for Machine {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { id, endpoint, settings, timeouts, drift, skipped, facts } = self;
        let mut rows = vec![
            computed("id", id, "Fingerprint of the machine's agent.").keep(),
            required(
                "endpoint",
                endpoint,
                "The machine's agent: `endpoint` of its `groundwork_vm` or `groundwork_agent`.",
            ),
        ];
        rows.extend(settings.rows());
        rows.extend([
            block("timeouts", timeouts, "How long to wait."),
            computed(
                "drift",
                drift,
                "What differs inside the machine from what is declared, one line each; the next apply repairs it.",
            ),
            computed("skipped", skipped, "What this machine cannot do, such as swap in a container, or what is another resource's to do, with the reason.")
                .keep(),
            computed(
                "facts",
                facts,
                "Facts about the machine: `os`, `kernel`, `architecture`, `virtualization`, `cpus`, `memory_mib` …",
            )
            .keep(),
        ]);
        rows
    }
}

/// Declares a model: its attributes are rows in order. With a message, each attribute becomes the field of the same name; an
/// attribute without a field, or a field without an attribute, does not compile.
macro_rules! object {
    (
        $(#[$doc:meta])*
        $name:ident $(=> $message:path)? {
            $($row:ident $field:ident : $type:ty = $text:literal $(. $modifier:ident ($($argument:expr),*))*;)+
        }
    ) => {
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

        object!(@message $name $($message)? { $($field)+ });
    };
    (@message $name:ident { $($field:ident)+ }) => {};
    (@message $name:ident $message:path { $($field:ident)+ }) => {
        impl To<$message> for $name {
            fn to(&self) -> $message {
                let Self { $($field),+ } = self;
                type Message = $message;
                Message { $($field: Field::of($field)),+ }
            }
        }
    };
}

object! {
    /// What a machine's operating system is to be. Only what is given is managed.
    Settings => NodeSpec {
        optional hostname: String = "Hostname, now and after every boot.";
        block host: BTreeMap<String, HostNames> = "Lines of `/etc/hosts`: the label is the address.";
        optional time_sync: bool = "Whether to wait for a synchronised clock before anything else. Unless asked for, nothing waits: a machine without a time server would never be ready.";
        optional swap: String = "`off` turns every source of swap off, now and after every boot. Left out, swap stays as it is, unless `kubernetes` is given.";
        optional memory_cgroup: bool = "Whether the kernel has to account memory by control groups, which Kubernetes needs. A Raspberry Pi starts without: the kernel's command line on its firmware partition (`/boot/firmware/cmdline.txt`, before Debian 12 `/boot/cmdline.txt`) is completed, and is in force after the next boot, which the apply asks for and does not make. Nothing of that line is taken back. Default: not looked at, unless `kubernetes` is given.";
        optional kernel_modules: Vec<String> = "Kernel modules to load, now and after every boot.";
        optional sysctls: BTreeMap<String, String> = "Kernel settings, now and after every boot.";
        block proxy: Proxy = "The proxy by which the machine reaches the outside. apt, containerd, the kubelet and kubeadm with its static pods are told, before anything is fetched; services that run are restarted.";
        block repository: BTreeMap<String, Repository> = "Package repositories, before any package: the label is a name.";
        block package: BTreeMap<String, Package> = "Packages: the label is the name. All are installed in one transaction.";
        block file: BTreeMap<String, File> = "Files: the label is the absolute path. Those in `/etc/apt/` are written before any package is fetched. For unit files and drop-ins of systemd, systemd reads them again and services that run without them are restarted. Their content is no place for secrets: it stands in the state.";
        block service: BTreeMap<String, Service> = "systemd units: the label is the name, such as `ssh.service`.";
        block filesystem: BTreeMap<String, Filesystem> = "Filesystems: the label is the device. It must have a stable name, such as one in `/dev/disk/by-id/`; `/dev/sdb` may be another disk after the next boot and is refused. A device that holds anything is never formatted.";
        block mount: BTreeMap<String, Mount> = "Mounts, now and after every boot: the label is the absolute path.";
        block container_runtime: ContainerRuntime = "containerd with the systemd cgroup driver. `kubernetes` implies it, but not a version of it that fits: see above.";
        block kubernetes: Kubernetes = "Everything a kubeadm node needs: swap off, memory accounted by control groups, kernel modules and settings, containerd, and kubelet, kubeadm and kubectl of this version, pinned and held. On a machine that is a node these three are the cluster's to change. What the other attributes set themselves wins over this preset.";
        block command: BTreeMap<String, Command> = "Guarded commands, for what nothing else covers: the label is a name. They run last.";
    }
}

object! {
    /// Names of an address.
    HostNames => machine::HostNames {
        required names: Vec<String> = "Names, the canonical one first.";
    }
}

object! {
    /// A package repository, as a deb822 source.
    Repository => RepositorySpec {
        required url: String = "Base URL, with `http`, `https` or `file`.";
        optional suites: Vec<String> = "Suites. Default: a flat repository; a suite that ends in `/` is one too.";
        optional components: Vec<String> = "Components: required with suites, none for a flat repository.";
        optional key_pem: String = "Armoured public key that signs it. `key_pem`, `key_url` or `trusted` is required.";
        optional key_url: String = "Where the machine fetches that key once, in place of `key_pem`.";
        optional trusted: bool = "Take it without a signature, in place of a key: only for repositories of your own.";
        optional absent: bool = "Whether it must not be used: every source with this `url`, and these `suites` if there are any, is switched off, whoever wrote it, such as the `cdrom:` that an installer leaves behind.";
    }
}

object! {
    /// A proxy.
    Proxy => ProxySpec {
        optional http: String = "URL of the proxy for `http`, without user and password. `http`, `https` or both are required.";
        optional https: String = "URL of the proxy for `https`, without user and password.";
        optional no_proxy: Vec<String> = "Hosts, domains such as `.example.org` and networks that are reached without it. The network of the machine and names within a cluster are always among them, and on a node the networks of its cluster's pods and services and the host of its `endpoint`.";
    }
}

object! {
    /// A package.
    Package => PackageSpec {
        optional version: String = "Version to pin; `1.28.4-*` takes any build of it.";
        optional hold: bool = "Whether upgrades leave it alone. Default `true` for the packages of `kubernetes` and `container_runtime`; others stay as they are.";
        optional absent: bool = "Whether it must not be installed. Not together with `version` or `hold`.";
    }
}

object! {
    /// A file.
    File {
        optional content: String = "Content, text. It stands readable in the state and in plan files, so secrets do not belong here: have the machine fetch them itself, for example with a service such as Vault Agent.";
        optional content_base64: String = "Content, Base64; in place of `content`, and just as readable in the state and in plan files.".check(base64_form);
        optional mode: String = "Permissions, octal. Default `0644`.";
        optional owner: String = "Owner. Default `root`.";
        optional group: String = "Group. Default `root`.";
    }
}

object! {
    /// A systemd unit.
    Service => ServiceSpec {
        optional enabled: bool = "Whether it starts on boot.";
        optional running: bool = "Whether it runs now.";
        optional masked: bool = "Whether it cannot be started at all. Not together with `enabled` or `running`.";
        optional restart_on: Vec<String> = "Files by absolute path: while one of them is newer than the running service, it is restarted.";
    }
}

object! {
    /// A filesystem on a device.
    Filesystem => FilesystemSpec {
        required kind: String = "`ext4` or `xfs`.";
        optional label: String = "Label: at most 16 characters, 12 for `xfs`.";
        optional uuid: String = "UUID. Default: derived from machine and device.";
    }
}

object! {
    /// A mount.
    Mount => MountSpec {
        required source: String = "Device, `LABEL=…`, `UUID=…`, or the source of a network filesystem.";
        optional kind: String = "Filesystem type. Default: the filesystem's own.";
        optional options: Vec<String> = "Mount options, one by one. Default `defaults`, `noatime`, `nofail` and a device timeout of 30 s.";
    }
}

object! {
    /// containerd.
    ContainerRuntime => ContainerRuntimeSpec {
        optional package: String = "Package to install: `containerd` of the distribution, or Docker's `containerd.io`, whose `repository` has to be given. Default `containerd`, or `containerd.io` where that is installed already.";
        optional version: String = "Version of the package to pin, such as `2.2.1-*`: `*` at its end takes any build of it. Default: the newest when it is installed.";
        optional sandbox_image: String = "Pause image. Default: the runtime's own.";
        optional imports: Vec<String> = "Further files of configuration that containerd reads, such as `/etc/containerd/conf.d/*.toml`. What others write belongs there: in `config.toml` it is replaced, and the plan names what is lost.";
        block runtime: BTreeMap<String, Runtime> = "Runtimes beside `runc`: the label is the name that a `RuntimeClass` has as its handler.";
        optional default_runtime: String = "The runtime of pods that ask for none. Default `runc`.";
        block registry: BTreeMap<String, Registry> = "How images are fetched: the label is the registry's host, or `_default` for the rest.";
    }
}

object! {
    /// A runtime of containerd.
    Runtime => RuntimeSpec {
        optional runtime_type: String = "Its type. Default `io.containerd.runc.v2`.";
        optional binary_name: String = "Absolute path of the program, such as `/usr/bin/nvidia-container-runtime`. Default: the type's own.";
    }
}

object! {
    /// How images of one registry are fetched.
    Registry => RegistrySpec {
        optional mirrors: Vec<String> = "URLs, tried in order.";
        optional skip_verify: bool = "Whether their certificates are not verified.";
        optional ca_pem: String = "CA of their certificates, PEM.";
        optional override_path: bool = "Whether their URLs hold the API path already.";
    }
}

object! {
    /// The packages of a kubeadm node.
    Kubernetes => KubernetesSpec {
        required version: String = "Version, three numbers, `1.24.0` or newer. On a machine that is a node of a cluster another version is installed by the upgrade that `version` of `groundwork_cluster` makes, drained and in order; give both one value. Until then `skipped` says what waits for it.";
        block repository: KubernetesRepository = "Repository to take the packages from. Default: the Kubernetes project's own one of the minor version.";
    }
}

object! {
    /// A repository of Kubernetes packages.
    KubernetesRepository => machine::KubernetesRepository {
        optional url: String = "Base URL of a flat repository, with `http`, `https` or `file`.";
        optional key_pem: String = "Armoured public key that signs it. Without it the machine fetches the key once from `<url>/Release.key`.";
    }
}

object! {
    /// A command with a guard.
    Command {
        required argv: Vec<String> = "Absolute path of the program, and its arguments. No shell reads them.";
        optional creates: String = "It is needed while this path does not exist. Exactly one of `creates` and `unless` is required.";
        optional unless: Vec<String> = "It is needed while this program fails: its absolute path, and its arguments.";
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

fn base64_form(text: &str) -> Verdict {
    super::decoded(text).map(drop).ok_or_else(|| "must be Base64".to_owned())
}
