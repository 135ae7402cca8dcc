//! The texts of containerd's files: `config.toml` by the version of its format, `certs.d` by registry.

use crate::host::dpkg;
use agent_proto::v1::machine::RegistrySpec;
use std::collections::BTreeMap;

/// Format of `config.toml`. Version 3 is read by every 2.x, version 2 by every 1.x since 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Two,
    Three,
}

impl Version {
    /// By the version of the package; one that is not installed yet is looked at again once it is.
    pub(super) fn of(package: Option<&str>) -> Self {
        let major = package.and_then(|version| dpkg::number(version, 0));
        if major.is_some_and(|major| major >= 2) { Self::Three } else { Self::Two }
    }
}

/// What the configuration says beyond the fixed part.
pub(super) struct Settings<'a> {
    /// Pause image.
    pub(super) sandbox_image: Option<&'a str>,
    /// The machine lacks CAP_SYS_RESOURCE: a lower oom_score_adj than containerd's own cannot be given to a pod.
    pub(super) restricted: bool,
}

impl Settings<'_> {
    pub(super) fn text(&self, version: Version) -> String {
        match version {
            Version::Two => self.two(),
            Version::Three => self.three(),
        }
    }

    fn two(&self) -> String {
        let sandbox = self.sandbox_image.map(|image| format!("  sandbox_image = {image:?}\n")).unwrap_or_default();
        let restrict = self.restrict();
        format!(
            "{HEADER}version = 2\n\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n{sandbox}{restrict}\
             \x20 [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
             \x20   bin_dir = \"/opt/cni/bin\"\n\
             \x20   conf_dir = \"/etc/cni/net.d\"\n\
             \x20 [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
             \x20   runtime_type = \"io.containerd.runc.v2\"\n\
             \x20   [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n\
             \x20     SystemdCgroup = true\n\
             \x20 [plugins.\"io.containerd.grpc.v1.cri\".registry]\n\
             \x20   config_path = \"/etc/containerd/certs.d\"\n"
        )
    }

    fn three(&self) -> String {
        let pinned = self
            .sandbox_image
            .map(|image| format!("  [plugins.'io.containerd.cri.v1.images'.pinned_images]\n    sandbox = {image:?}\n"));
        let (pinned, restrict) = (pinned.unwrap_or_default(), self.restrict());
        format!(
            "{HEADER}version = 3\n\n\
             [plugins.'io.containerd.cri.v1.images']\n{pinned}\
             \x20 [plugins.'io.containerd.cri.v1.images'.registry]\n\
             \x20   config_path = '/etc/containerd/certs.d'\n\n\
             [plugins.'io.containerd.cri.v1.runtime']\n{restrict}\
             \x20 [plugins.'io.containerd.cri.v1.runtime'.cni]\n\
             \x20   conf_dir = '/etc/cni/net.d'\n\
             \x20 [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
             \x20   runtime_type = 'io.containerd.runc.v2'\n\
             \x20   [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n\
             \x20     SystemdCgroup = true\n"
        )
    }

    fn restrict(&self) -> &'static str {
        if self.restricted { "  # This machine lacks CAP_SYS_RESOURCE.\n  restrict_oom_score_adj = true\n" } else { "" }
    }
}

/// Files below `certs.d`: path and text. containerd reads them at every pull.
pub(super) fn registries(registries: &BTreeMap<String, RegistrySpec>) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (name, registry) in registries {
        let folder = format!("{REGISTRIES}/{name}");
        if let Some(ca) = &registry.ca_pem {
            files.push((format!("{folder}/ca.crt"), ca.clone()));
        }
        files.push((format!("{folder}/hosts.toml"), hosts(&folder, name, registry)));
    }
    files
}

fn hosts(folder: &str, name: &str, registry: &RegistrySpec) -> String {
    let mut text = HEADER.to_owned();
    match name {
        "_default" => {}
        "docker.io" => text.push_str("server = \"https://registry-1.docker.io\"\n"),
        name => text.push_str(&format!("server = \"https://{name}\"\n")),
    }
    for mirror in &registry.mirrors {
        text.push_str(&format!("\n[host.{mirror:?}]\n  capabilities = [\"pull\", \"resolve\"]\n"));
        if registry.ca_pem.is_some() {
            text.push_str(&format!("  ca = \"{folder}/ca.crt\"\n"));
        }
        if registry.skip_verify() {
            text.push_str("  skip_verify = true\n");
        }
        if registry.override_path() {
            text.push_str("  override_path = true\n");
        }
    }
    text
}

/// A folder for each registry.
const REGISTRIES: &str = "/etc/containerd/certs.d";
/// Begins every file of ours.
const HEADER: &str = "# Written by groundwork-agent; changes are overwritten.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_package() {
        for (package, version) in [
            (None, Version::Two),
            (Some("1.6.20~ds1-1+deb12u1"), Version::Two),
            (Some("1.7.24-1"), Version::Two),
            (Some("2.1.4-1"), Version::Three),
            (Some("1:2.3.0-1"), Version::Three),
        ] {
            assert_eq!(Version::of(package), version, "{package:?}");
        }
    }

    #[test]
    fn both_formats_are_toml_with_the_systemd_driver() {
        let settings = Settings { sandbox_image: Some("registry.k8s.io/pause:3.9"), restricted: true };
        for (version, plugin) in
            [(Version::Two, "io.containerd.grpc.v1.cri"), (Version::Three, "io.containerd.cri.v1.runtime")]
        {
            let config: toml::Table = settings.text(version).parse().unwrap();
            let plugin = &config["plugins"][plugin];
            assert_eq!(plugin["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"].as_bool(), Some(true));
            assert_eq!(plugin["restrict_oom_score_adj"].as_bool(), Some(true));
        }
    }

    #[test]
    fn mirrors_are_written_for_each_registry() {
        let mirrors = vec!["https://mirror.lan:5000".to_owned()];
        let registry = RegistrySpec { mirrors, ca_pem: Some("CA".to_owned()), ..RegistrySpec::default() };
        let files = registries(&[("docker.io".to_owned(), registry)].into());
        assert_eq!(files[0], ("/etc/containerd/certs.d/docker.io/ca.crt".to_owned(), "CA".to_owned()));
        let hosts: toml::Table = files[1].1.parse().unwrap();
        assert_eq!(hosts["server"].as_str(), Some("https://registry-1.docker.io"));
        assert_eq!(
            hosts["host"]["https://mirror.lan:5000"]["ca"].as_str(),
            Some("/etc/containerd/certs.d/docker.io/ca.crt")
        );
    }
}
