//! The texts of containerd's files: `config.toml` by the version of its format, `certs.d` by registry.

use crate::host::dpkg;
use agent_proto::v1::machine::{ContainerRuntimeSpec, RegistrySpec, RuntimeSpec};
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
    /// Pause image, further files, runtimes.
    pub(super) wanted: &'a ContainerRuntimeSpec,
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
        let sandbox = self.wanted.sandbox_image.as_ref();
        let sandbox = sandbox.map(|image| format!("  sandbox_image = {image:?}\n")).unwrap_or_default();
        let (imports, restrict) = (self.imports(), self.restrict());
        let runtimes = self.runtimes("plugins.\"io.containerd.grpc.v1.cri\".containerd", '"');
        format!(
            "{HEADER}version = 2\n{imports}\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n{sandbox}{restrict}\
             \x20 [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
             \x20   bin_dir = \"/opt/cni/bin\"\n\
             \x20   conf_dir = \"/etc/cni/net.d\"\n\
             {runtimes}\
             \x20 [plugins.\"io.containerd.grpc.v1.cri\".registry]\n\
             \x20   config_path = \"/etc/containerd/certs.d\"\n"
        )
    }

    fn three(&self) -> String {
        let pinned = self.wanted.sandbox_image.as_ref();
        let pinned = pinned
            .map(|image| format!("  [plugins.'io.containerd.cri.v1.images'.pinned_images]\n    sandbox = {image:?}\n"));
        let (pinned, imports, restrict) = (pinned.unwrap_or_default(), self.imports(), self.restrict());
        let runtimes = self.runtimes("plugins.'io.containerd.cri.v1.runtime'.containerd", '\'');
        format!(
            "{HEADER}version = 3\n{imports}\n\
             [plugins.'io.containerd.cri.v1.images']\n{pinned}\
             \x20 [plugins.'io.containerd.cri.v1.images'.registry]\n\
             \x20   config_path = '/etc/containerd/certs.d'\n\n\
             [plugins.'io.containerd.cri.v1.runtime']\n{restrict}\
             \x20 [plugins.'io.containerd.cri.v1.runtime'.cni]\n\
             \x20   conf_dir = '/etc/cni/net.d'\n\
             {runtimes}"
        )
    }

    fn imports(&self) -> String {
        let list: Vec<_> = self.wanted.imports.iter().map(|path| quoted(path)).collect();
        if list.is_empty() { String::new() } else { format!("imports = [{}]\n", list.join(", ")) }
    }

    /// runc and the others, below the table `at`; names are plain words.
    fn runtimes(&self, at: &str, quote: char) -> String {
        let default = self.wanted.default_runtime.as_ref();
        let mut text = default
            .map(|name| format!("  [{at}]\n    default_runtime_name = {quote}{name}{quote}\n"))
            .unwrap_or_default();
        let own = RuntimeSpec::default();
        let (runc, others) = ("runc".to_owned(), &self.wanted.runtime);
        let all = others.iter().chain((!others.contains_key(&runc)).then_some((&runc, &own)));
        for (name, RuntimeSpec { runtime_type, binary_name }) in all.collect::<BTreeMap<_, _>>() {
            let kind = runtime_type.as_deref().unwrap_or(RUNC);
            text.push_str(&format!("  [{at}.runtimes.{name}]\n    runtime_type = {quote}{kind}{quote}\n"));
            let binary =
                binary_name.as_ref().map(|path| format!("      BinaryName = {}\n", quoted(path))).unwrap_or_default();
            // runc's shim and no other knows it; without it a pod has two managers of its cgroup.
            let systemd = if kind == RUNC { "      SystemdCgroup = true\n" } else { "" };
            if !binary.is_empty() || !systemd.is_empty() {
                text.push_str(&format!("    [{at}.runtimes.{name}.options]\n{binary}{systemd}"));
            }
        }
        text
    }

    fn restrict(&self) -> &'static str {
        if self.restricted { "  # This machine lacks CAP_SYS_RESOURCE.\n  restrict_oom_score_adj = true\n" } else { "" }
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What a configuration says that ours will not: one line each, "path.to.key = value". What cannot be read is said as such.
pub(super) fn lost(present: &str, ours: &str) -> Vec<String> {
    let (Ok(present), Ok(ours)) = (present.parse::<toml::Table>(), ours.parse::<toml::Table>()) else {
        return vec!["what stands there cannot be read, and is replaced as a whole".to_owned()];
    };
    let mut lines = Vec::new();
    collect(&present, Some(&ours), "", &mut lines);
    if lines.len() > MOST {
        let more = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!("loses {more} further settings"));
    }
    lines
}

/// Whether a line of [`lost`] is of what a package brings, which nobody chose.
/// Source: `config.toml` of Debian's containerd 1.6 and 1.7, and of Docker's containerd.io.
pub(super) fn is_shipped(line: &str) -> bool {
    SHIPPED.contains(&line)
}

const SHIPPED: [&str; 4] = [
    "loses plugins.\"io.containerd.grpc.v1.cri\".cni.bin_dir = \"/usr/lib/cni\"",
    "loses plugins.\"io.containerd.internal.v1.opt\".path = \"/var/lib/containerd/opt\"",
    "loses plugins.\"io.containerd.internal.v1.opt\".path = \"/var/lib/containerd\"",
    "loses disabled_plugins = [\"cri\"]",
];

fn collect(present: &toml::Table, ours: Option<&toml::Table>, at: &str, lines: &mut Vec<String>) {
    for (key, value) in present {
        let own = ours.and_then(|ours| ours.get(key));
        let bare = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let key = if bare { key.clone() } else { format!("{key:?}") };
        let path = if at.is_empty() { key } else { format!("{at}.{key}") };
        match value {
            toml::Value::Table(inner) => collect(inner, own.and_then(toml::Value::as_table), &path, lines),
            value if own == Some(value) || own.is_none() && is_empty(value) => {}
            // The form of the file follows the version of the package.
            _ if path == "version" => {}
            value => lines.push(format!("loses {path} = {}", shown(value).chars().take(LINE).collect::<String>())),
        }
    }
}

/// A value as somebody may have written it.
fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => quoted(text),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(is) => is.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
        toml::Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        toml::Value::Table(_) => "{ … }".to_owned(),
    }
}

fn is_empty(value: &toml::Value) -> bool {
    value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty)
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

/// The shim of runc.
const RUNC: &str = "io.containerd.runc.v2";
/// Lines that are said of what is lost: a packaged default has hundreds.
const MOST: usize = 20;
/// Characters of each.
const LINE: usize = 120;
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
        let wanted =
            ContainerRuntimeSpec { sandbox_image: Some("registry.k8s.io/pause:3.9".into()), ..Default::default() };
        let settings = Settings { wanted: &wanted, restricted: true };
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
    fn other_runtimes_stand_beside_runc() {
        let nvidia =
            RuntimeSpec { binary_name: Some("/usr/bin/nvidia-container-runtime".into()), ..Default::default() };
        let gvisor = RuntimeSpec { runtime_type: Some("io.containerd.runsc.v1".into()), ..Default::default() };
        let wanted = ContainerRuntimeSpec {
            imports: vec!["/etc/containerd/conf.d/*.toml".into()],
            runtime: [("nvidia".into(), nvidia), ("runsc".into(), gvisor)].into(),
            default_runtime: Some("nvidia".into()),
            ..Default::default()
        };
        let settings = Settings { wanted: &wanted, restricted: false };
        for (version, plugin) in
            [(Version::Two, "io.containerd.grpc.v1.cri"), (Version::Three, "io.containerd.cri.v1.runtime")]
        {
            let config: toml::Table = settings.text(version).parse().unwrap();
            assert_eq!(config["imports"][0].as_str(), Some("/etc/containerd/conf.d/*.toml"));
            let containerd = &config["plugins"][plugin]["containerd"];
            assert_eq!(containerd["default_runtime_name"].as_str(), Some("nvidia"));
            let options = &containerd["runtimes"]["nvidia"]["options"];
            assert_eq!(options["BinaryName"].as_str(), Some("/usr/bin/nvidia-container-runtime"));
            assert_eq!(options["SystemdCgroup"].as_bool(), Some(true));
            assert_eq!(containerd["runtimes"]["runsc"]["runtime_type"].as_str(), Some("io.containerd.runsc.v1"));
            assert!(containerd["runtimes"]["runsc"].get("options").is_none());
            assert_eq!(containerd["runtimes"]["runc"]["options"]["SystemdCgroup"].as_bool(), Some(true));
        }
    }

    #[test]
    fn what_others_wrote_is_named_before_it_goes() {
        let wanted = ContainerRuntimeSpec::default();
        let ours = Settings { wanted: &wanted, restricted: false }.text(Version::Two);
        let theirs = "version = 2\nimports = []\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"nvidia\"\n\
                      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia.options]\nBinaryName = \"/usr/bin/nvidia\"\n\
                      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = false\n";
        let at = "plugins.\"io.containerd.grpc.v1.cri\".containerd";
        let want = [
            format!("loses {at}.default_runtime_name = \"nvidia\""),
            format!("loses {at}.runtimes.nvidia.options.BinaryName = \"/usr/bin/nvidia\""),
            format!("loses {at}.runtimes.runc.options.SystemdCgroup = false"),
        ];
        assert_eq!(lost(theirs, &ours), want);
        assert_eq!(lost(&ours, &ours), [""; 0]);
        assert_eq!(lost("[", &ours), ["what stands there cannot be read, and is replaced as a whole"]);
        let debians = "version = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\".cni]\n    bin_dir = \"/usr/lib/cni\"\n    \
                       conf_dir = \"/etc/cni/net.d\"\n  [plugins.\"io.containerd.internal.v1.opt\"]\n    path = \"/var/lib/containerd/opt\"\n";
        for shipped in [debians, "disabled_plugins = [\"cri\"]\n"] {
            let lines = lost(shipped, &ours);
            assert!(!lines.is_empty() && lines.iter().all(|line| is_shipped(line)), "{lines:?}");
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

    #[test]
    fn any_text_is_answered() {
        let ours = Settings { wanted: &ContainerRuntimeSpec::default(), restricted: false }.text(Version::Three);
        total::text("containerd", &[&ours, "imports = []\n[a.'b c'.d]\nx = [1, {y = 2}]\n"], |text| lost(text, &ours));
    }
}
