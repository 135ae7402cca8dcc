//! The forms of values, which both ends check. Each says how a bad value must be instead, so that it completes "`attribute` …".
//!
//! Which value of a specification has which form, and what does not go together, is in `check`.

#![expect(clippy::missing_errors_doc, reason = "the first line of each says what is good; anything else is the error")]

use std::net::IpAddr;

/// Fine, or how the value must be.
pub type Verdict = Result<(), String>;

fn demand(good: bool, what: &str) -> Verdict {
    if good { Ok(()) } else { Err(format!("must be {what}")) }
}

/// A machine's own name. Linux keeps 64 bytes of it.
pub fn hostname(text: &str) -> Verdict {
    demand(text.len() <= 64 && is_dns_name(text), &format!("a host name: {DNS_NAME}, at most 64"))
}

/// A node of a cluster. Kubernetes makes its name a label's value, which has 63 bytes at most.
pub fn node_name(text: &str) -> Verdict {
    demand(text.len() <= 63 && is_dns_name(text), &format!("a name: {DNS_NAME}, at most 63"))
}

/// A name as DNS knows them. Source: RFC 1123.
pub fn dns_name(text: &str) -> Verdict {
    demand(is_dns_name(text), &format!("a DNS name: {DNS_NAME}"))
}

/// An address of IPv4 or IPv6.
pub fn address(text: &str) -> Verdict {
    demand(text.parse::<IpAddr>().is_ok(), "an IP address")
}

/// What can be wanted of swap. HCL's `false` and "on" end here too.
pub fn swap(text: &str) -> Verdict {
    demand(text == "off", "\"off\", or left out if swap is to stay as it is")
}

/// A module's name, which is not its file's.
pub fn kernel_module(text: &str) -> Verdict {
    demand(is_word(text, "_-"), "the name of a kernel module, such as `br_netfilter`")
}

/// The key of one kernel setting. Source: sysctl.d(5).
pub fn sysctl(text: &str) -> Verdict {
    let path = sysctl_path(text);
    let good = is_word(text, "._-/:@") && path.contains('/') && is_straight(&path);
    demand(good, "a kernel setting such as `net.ipv4.ip_forward`")
}

/// Where a kernel setting stands below `/proc/sys`. Dots and slashes may be swapped, as in `net.ipv4.conf.eth0/1.rp_filter`: the
/// first separator says which is which.
#[must_use]
pub fn sysctl_path(key: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let dotted = key.chars().find(|c| matches!(c, '.' | '/')) == Some('.');
    if dotted { key.chars().map(swap).collect() } else { key.to_owned() }
}

/// The value of a kernel setting.
pub fn sysctl_value(text: &str) -> Verdict {
    demand(!text.trim().is_empty() && is_line(text), "one line that is not empty")
}

/// A name that becomes part of a file's or unit's.
pub fn short_name(text: &str) -> Verdict {
    demand(is_word(text, "_-"), "a name of letters, digits, `_` and `-`")
}

/// A package. Source: Debian policy, 5.6.1.
pub fn package(text: &str) -> Verdict {
    demand(is_word(text, "+-.") && text.starts_with(|c: char| c.is_ascii_alphanumeric()), "the name of a package")
}

/// The version of a package, or its beginning.
pub fn package_version(text: &str) -> Verdict {
    let plain = text.strip_suffix('*').unwrap_or(text);
    let good = !text.is_empty() && (plain.is_empty() || is_word(plain, "+-.:~")) && !plain.starts_with('-');
    demand(good, "a version, exact or with `*` at its end")
}

/// Where apt can fetch something.
pub fn url(text: &str) -> Verdict {
    demand(is_url(text, &["http://", "https://", "file:///"]), "a URL with http, https or file")
}

/// Where a container runtime can fetch something.
pub fn web_url(text: &str) -> Verdict {
    demand(is_url(text, &["http://", "https://"]), "a URL with http or https")
}

/// A suite or a component of a package repository.
pub fn suite(text: &str) -> Verdict {
    demand(is_word(text, "._-/"), "a suite or a component, such as `bookworm` or `stable`")
}

/// Suites with components, or flat ones, whose names end in `/`, without. Source: sources.list(5).
pub fn suites_fit_components(suites: &[String], components: &[String]) -> Verdict {
    let flat = |suite: &String| suite.ends_with('/');
    match components {
        [] if suites.iter().all(flat) => Ok(()),
        [] => Err("must be given with a suite that does not end in `/`".to_owned()),
        _ if !suites.is_empty() && !suites.iter().any(flat) => Ok(()),
        _ => Err("does not go with a flat repository: one without suites, or with a suite that ends in `/`".to_owned()),
    }
}

/// An OpenPGP key as text.
pub fn armoured_key(text: &str) -> Verdict {
    let good = text.trim_start().starts_with("-----BEGIN PGP");
    demand(good, "an armoured key: it begins with `-----BEGIN PGP PUBLIC KEY BLOCK-----`")
}

/// A path in its shortest form, which is not the root.
pub fn path(text: &str) -> Verdict {
    let good = is_line(text) && text.strip_prefix('/').is_some_and(is_straight);
    demand(good, "an absolute path, without `.`, `..` and `/` at its end")
}

/// The path of a file that is kept on a disk.
pub fn file(text: &str) -> Verdict {
    path(text)?;
    let kernel = ["/proc/", "/sys/", "/dev/"].iter().any(|folder| text.starts_with(folder));
    demand(!kernel, "outside `/proc`, `/sys` and `/dev`: those are the kernel's; settings are `sysctls`")
}

/// A program, the first of its arguments.
pub fn program<S: AsRef<str>>(argv: &[S]) -> Verdict {
    let good = argv.first().is_some_and(|program| path(program.as_ref()).is_ok());
    if good { Ok(()) } else { Err("must begin with the absolute path of a program".to_owned()) }
}

/// Permission bits.
pub fn mode(text: &str) -> Verdict {
    let good = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    demand(good, "permissions in octal, such as `0644`")
}

/// A user or a group.
pub fn account(text: &str) -> Verdict {
    demand(is_word(text, "._-"), "a name or a number")
}

/// A unit of systemd.
pub fn unit(text: &str) -> Verdict {
    demand(is_word(text, "._-@:\\") && !text.starts_with('-'), "the name of a systemd unit")
}

/// A device by a name that it keeps: the kernel numbers disks in the order in which it finds them.
pub fn device(text: &str) -> Verdict {
    let moving = ["/dev/sd", "/dev/vd", "/dev/xvd", "/dev/hd"].iter().any(|disk| text.starts_with(disk));
    let good = path(text).is_ok() && text.starts_with("/dev/") && !moving;
    demand(good, "a device by a stable name, such as one in `/dev/disk/by-id/`")
}

/// A filesystem that can be made.
pub fn filesystem(text: &str) -> Verdict {
    demand(["ext4", "xfs"].contains(&text), "`ext4` or `xfs`")
}

/// A filesystem's label. Source: mke2fs(8), mkfs.xfs(8).
pub fn filesystem_label(text: &str, filesystem: &str) -> Verdict {
    let most = if filesystem == "xfs" { 12 } else { 16 };
    let good = is_word(text, "._-") && text.len() <= most;
    demand(good, &format!("letters, digits, `.`, `_` and `-`, at most {most} of them"))
}

/// A filesystem's UUID.
pub fn uuid(text: &str) -> Verdict {
    let groups: Vec<_> = text.split('-').map(str::len).collect();
    let good = groups == [8, 4, 4, 4, 12] && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    demand(good, "a UUID in lower case")
}

/// What is mounted.
pub fn mount_source(text: &str) -> Verdict {
    let good = !text.is_empty() && !text.contains(char::is_whitespace);
    demand(good, "a device, `UUID=…`, `LABEL=…` or a network source, without blanks")
}

/// A kind of filesystem that the kernel mounts.
pub fn mount_kind(text: &str) -> Verdict {
    demand(is_word(text, "._-"), "a kind of filesystem, such as `ext4` or `nfs`")
}

/// One mount option.
pub fn mount_option(text: &str) -> Verdict {
    demand(!text.is_empty() && !text.contains([' ', '\t', ',', '\n']), "one mount option, such as `noatime`")
}

/// The package that containerd comes in.
pub fn runtime_package(text: &str) -> Verdict {
    demand(["containerd", "containerd.io"].contains(&text), "`containerd` or `containerd.io`")
}

/// An image by its name.
pub fn image(text: &str) -> Verdict {
    demand(is_word(text, "._-/:@"), "an image, such as `registry.k8s.io/pause:3.10`")
}

/// A registry of images.
pub fn registry(text: &str) -> Verdict {
    demand(is_word(text, "._-:"), "the host of a registry, or `_default`")
}

/// A version of Kubernetes from 1.24 on: the first in the project's present package repositories, and the first kubelet that always
/// asks a container runtime by its socket.
pub fn kubernetes_version(text: &str) -> Verdict {
    let parts: Vec<_> = text.split('.').map(number).collect();
    let [Some(major), Some(minor), Some(_)] = parts[..] else {
        return Err("must be three numbers, such as `1.36.2`, without `v`".to_owned());
    };
    demand((major, minor) >= (1, 24), "1.24.0 or newer")
}

/// The key of a node's label or taint: a name, and before it an optional domain. Source: Kubernetes, "Labels and Selectors".
pub fn label_key(text: &str) -> Verdict {
    let (domain, name) = text.split_once('/').map_or((None, text), |(domain, name)| (Some(domain), name));
    let good = is_label(name) && domain.is_none_or(is_dns_name);
    demand(
        good,
        "a key of Kubernetes such as `example.org/zone`: at most 63 letters, digits, `.`, `_` and `-` after a DNS name",
    )
}

/// The value of a node's label or taint.
pub fn label_value(text: &str) -> Verdict {
    let good = text.is_empty() || is_label(text);
    demand(good, "at most 63 letters, digits, `.`, `_` and `-`, with a letter or digit at both ends")
}

/// A taint of a node. Source: kubectl-taint(1).
pub fn taint(text: &str) -> Verdict {
    let (pair, effect) = text.rsplit_once(':').unwrap_or((text, ""));
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let good = EFFECTS.contains(&effect) && label_key(key).is_ok() && label_value(value).is_ok();
    demand(good, &format!("`key=value:Effect` or `key:Effect`, with one of the effects {}", EFFECTS.join(", ")))
}

/// One of kubeadm's checks before its work. Source: kubeadm, `--ignore-preflight-errors`.
pub fn preflight_check(text: &str) -> Verdict {
    let good = is_word(text, "-_.") && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    demand(good, "the name of one of kubeadm's checks, such as `SystemVerification`, or `all`")
}

fn number(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| plain)
}

fn is_dns_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn is_label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63 && is_word(text, "-_.") && text.starts_with(edge) && text.ends_with(edge)
}

/// ASCII letters and digits, and what else is allowed.
fn is_word(text: &str, also: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

/// Whether every part of a path leads further down.
fn is_straight(path: &str) -> bool {
    !path.split('/').any(|part| part.is_empty() || part == "." || part == "..")
}

fn is_line(text: &str) -> bool {
    !text.contains(['\n', '\r', '\0'])
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"')
}

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const DNS_NAME: &str = "lower-case letters, digits and `-`, joined by dots";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: fn(&str) -> Verdict, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Ok(()), "{text}");
        }
        for text in bad {
            assert!(rule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_those_of_dns() {
        let long = "a".repeat(63);
        check(
            dns_name,
            &["cp-1", "cp-1.example.org", &long],
            &["", "CP", "a_b", "-a", "a-", "a..b", &format!("{long}a")],
        );
        check(hostname, &[&format!("{}.b", "a".repeat(62))], &[&format!("{long}.b")]);
        check(node_name, &[&long, "cp-1.lan"], &[&format!("{long}.b"), "CP_1"]);
    }

    #[test]
    fn paths_have_one_spelling() {
        check(path, &["/etc/motd"], &["/", "/data/", "etc/motd", "/etc/../motd", "/etc//motd", "/a\nb"]);
        check(file, &["/etc/motd", "/developer"], &["/proc/kmsg", "/sys/power/state", "/dev/sda", "/etc/"]);
        check(device, &["/dev/disk/by-id/x", "/dev/mapper/x", "/dev/nvme0n1"], &["/dev/sdb", "/dev/vda", "/srv/x"]);
        assert!(program(&["/bin/true", "x"]).is_ok() && program(&["true"]).is_err() && program::<&str>(&[]).is_err());
    }

    #[test]
    fn sources_of_packages() {
        check(url, &["https://a/", "file:///srv/apt"], &["ftp://a", "https://", "file://a", "http://a b", "a"]);
        check(web_url, &["http://a:5000"], &["file:///srv", "a:5000"]);
        check(package, &["linux-image-amd64", "g++"], &["", "-f", "a b"]);
        check(package_version, &["1.28.4-*", "1:2~rc1", "*"], &["", "-oDebug=1", "1 2"]);
        check(armoured_key, &["\n-----BEGIN PGP PUBLIC KEY BLOCK-----"], &["mQINBF", ""]);
        check(suite, &["bookworm", "./", "stable/main"], &["", "a b"]);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (suites, components, good) in [
            ("", "", true),
            ("./", "", true),
            ("bookworm bookworm-updates", "main", true),
            ("bookworm", "", false),
            ("", "main", false),
            ("./ bookworm", "main", false),
        ] {
            let verdict = suites_fit_components(&words(suites), &words(components));
            assert_eq!(verdict.is_ok(), good, "{suites}: {components}");
        }
    }

    #[test]
    fn values_of_the_kernel() {
        check(kernel_module, &["br_netfilter"], &["br_netfilter.ko", ""]);
        check(
            sysctl,
            &["net.ipv4.ip_forward", "net/ipv4/ip_forward"],
            &["ip_forward", "a..b", "a b", "net.//.//.//.etc.shadow", "net.ipv4.conf.*.rp_filter", ".a.b"],
        );
        check(sysctl_value, &["1", "10000 60999"], &["", " ", "1\n2"]);
    }

    #[test]
    fn values_of_files_and_mounts() {
        check(mode, &["0644", "755"], &["0999", "rw-r--r--", "00644", "+64"]);
        check(uuid, &["8a7e3f52-0000-4000-8000-0123456789ab"], &["8A7E3F52-0000-4000-8000-0123456789AB", "x"]);
        check(mount_option, &["noatime"], &["", "ro,noatime"]);
        assert!(filesystem_label("thirteen-long", "ext4").is_ok() && filesystem_label("thirteen-long", "xfs").is_err());
    }

    #[test]
    fn versions_are_supported_ones() {
        check(
            kubernetes_version,
            &["1.24.0", "1.36.2", "2.0.0"],
            &["1.23.17", "1.36", "v1.36.2", "1.+36.2", "1.036.2", "1.36.2-1"],
        );
    }

    #[test]
    fn labels_are_those_of_kubernetes() {
        check(
            label_key,
            &["zone", "example.org/zone"],
            &["", "a/b/c", "Example/zone", "-zone", "--overwrite", "/zone", "a/"],
        );
        check(
            taint,
            &["dedicated=db:NoSchedule", "a/b:NoExecute"],
            &["", "a=b", "a:Never", ":NoSchedule", "a b:NoExecute"],
        );
        check(
            preflight_check,
            &["SystemVerification", "FileContent--proc-sys-net-ipv4-ip_forward", "all"],
            &["", "-v", "Swap,Mem", "a b"],
        );
        check(label_value, &["", "a_b.c"], &["-a", "a b", "a/b", &"a".repeat(64)]);
    }
}
