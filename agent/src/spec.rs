//! What a machine is to be: [`NodeSpec`], after every value has been checked.
//!
//! It comes from the wire (`wire`) or from a JSON file (`from_json`); `check` finds all problems with their paths; `preset` adds
//! what `kubernetes` and `container_runtime` imply. Nothing behind it sees a value that is not well-formed.

mod check;
mod preset;
mod wire;

use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};

pub use check::{Problem, Problems};

/// What a machine is to be. Absent means: not managed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSpec {
    /// Host name.
    pub hostname: Option<String>,
    /// Addresses and their names, a block in `/etc/hosts`.
    pub hosts: BTreeMap<String, HostNames>,
    /// Wait for a synchronised clock before anything else.
    pub time_sync: Option<bool>,
    /// Swap, all sources of it.
    pub swap: Option<Swap>,
    /// Modules loaded now and at boot.
    pub kernel_modules: BTreeSet<String>,
    /// Kernel settings, now and at boot.
    pub sysctls: BTreeMap<String, String>,
    /// Package repositories by a short name.
    pub repositories: BTreeMap<String, Repository>,
    /// Packages by name.
    pub packages: BTreeMap<String, Package>,
    /// Files by path.
    pub files: BTreeMap<String, FileSpec>,
    /// systemd units by name.
    pub services: BTreeMap<String, Service>,
    /// Filesystems by device.
    pub filesystems: BTreeMap<String, Filesystem>,
    /// Mounts by mount point.
    pub mounts: BTreeMap<String, Mount>,
    /// containerd.
    pub container_runtime: Option<ContainerRuntime>,
    /// Everything a kubeadm node needs.
    pub kubernetes: Option<Kubernetes>,
    /// Guarded commands by a short name.
    pub commands: BTreeMap<String, CommandSpec>,
}

/// Names of one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostNames {
    /// The first is the canonical one.
    pub names: Vec<String>,
}

/// What can be wanted of swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Swap {
    /// None now, none after a reboot.
    Off,
}

/// A package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Package {
    /// Exact, or with `*` at its end.
    pub version: Option<String>,
    /// Whether the package manager may change it.
    pub hold: Option<bool>,
    /// Must not be installed.
    pub absent: bool,
}

/// A package repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repository {
    /// Where it is.
    pub url: String,
    /// Suites; none: flat.
    pub suites: Vec<String>,
    /// Components.
    pub components: Vec<String>,
    /// Armoured OpenPGP key.
    pub key_pem: Option<String>,
    /// Where to fetch the key.
    pub key_url: Option<String>,
    /// No signature wanted.
    pub trusted: bool,
}

/// A file. `Debug` prints no content.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileSpec {
    /// What is in it.
    #[serde(deserialize_with = "bytes")]
    pub content: Vec<u8>,
    /// Permission bits, octal.
    pub mode: Option<String>,
    /// Owner's name or number.
    pub owner: Option<String>,
    /// Group's name or number.
    pub group: Option<String>,
}

impl std::fmt::Debug for FileSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileSpec({} bytes, {:?}, {:?}:{:?})", self.content.len(), self.mode, self.owner, self.group)
    }
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    Ok(String::deserialize(from)?.into_bytes())
}

/// A systemd unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Starts at boot.
    pub enabled: Option<bool>,
    /// Runs now.
    pub running: Option<bool>,
    /// Cannot be started.
    pub masked: Option<bool>,
    /// Files that it must not be older than.
    pub restart_on: Vec<String>,
}

/// A filesystem on a device of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filesystem {
    /// "ext4" or "xfs".
    pub kind: String,
    /// Its label.
    pub label: Option<String>,
    /// Absent: derived from machine and device.
    pub uuid: Option<String>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Device, `UUID=…`, `LABEL=…` or a network source.
    pub source: String,
    /// Absent: that of the filesystem.
    pub kind: Option<String>,
    /// Absent: sensible ones.
    #[serde(default)]
    pub options: Vec<String>,
}

/// containerd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerRuntime {
    /// "containerd" or "containerd.io".
    pub package: Option<String>,
    /// Version of the package.
    pub version: Option<String>,
    /// Pause image.
    pub sandbox_image: Option<String>,
    /// Mirrors by registry host.
    pub registries: BTreeMap<String, Registry>,
}

impl ContainerRuntime {
    /// The package it comes in.
    #[must_use]
    pub fn package(&self) -> &str {
        self.package.as_deref().unwrap_or("containerd")
    }
}

/// Mirrors of a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// URLs in the order they are tried.
    pub mirrors: Vec<String>,
    /// Accept any certificate.
    pub skip_verify: bool,
    /// CA of the mirrors.
    pub ca_pem: Option<String>,
    /// The URL already holds `/v2/…`.
    pub override_path: bool,
}

/// The preset of a kubeadm node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// "1.36.2"
    pub version: String,
    /// Absent: pkgs.k8s.io.
    pub repository: Option<KubernetesRepository>,
}

/// Where kubeadm and its like come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesRepository {
    /// Absent: pkgs.k8s.io of the minor release.
    pub url: Option<String>,
    /// Absent: the key that lies beside the repository.
    pub key_pem: Option<String>,
}

/// A guarded command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommandSpec {
    /// Absolute program first.
    pub argv: Vec<String>,
    /// Do not run while this ends well.
    pub unless: Vec<String>,
    /// Do not run while this exists.
    pub creates: Option<String>,
    /// Life span.
    pub timeout_s: Option<u32>,
}

impl NodeSpec {
    /// From a JSON file of the same shape as the resource `groundwork_machine`.
    ///
    /// # Errors
    /// Every problem with its path; or where the text is not JSON.
    pub fn from_json(text: &str) -> Result<Self, Problems> {
        let spec: Self = serde_json::from_str(text)
            .map_err(|error| Problems(vec![Problem { path: String::new(), why: error.to_string() }]))?;
        spec.checked()
    }

    /// Itself, if every value is well-formed.
    ///
    /// # Errors
    /// Every problem with its path.
    pub fn checked(self) -> Result<Self, Problems> {
        let problems = check::check(&self);
        if problems.is_empty() { Ok(self) } else { Err(Problems(problems)) }
    }

    /// With everything that `kubernetes` and `container_runtime` imply; what is given explicitly stays as it is.
    #[must_use]
    pub fn complete(&self) -> Self {
        preset::complete(self.clone())
    }
}
