//! The forms of values, which both ends check. Each says how a bad value must be instead, so that it completes "`attribute` …".
//!
//! Which value of a specification has which form, and what does not go together, is in `check`. No form lets a character pass that
//! does not print: in a file of the system it would begin a line of its own, in a terminal it would act.

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

/// Name of a manifest: it becomes a label's value, and part of an object's name.
pub fn manifest_name(text: &str) -> Verdict {
    demand(
        text.len() <= 63 && !text.contains('.') && is_dns_name(text),
        "a name of lower-case letters, digits and `-`, at most 63",
    )
}

/// A name as DNS knows them. Source: RFC 1123.
pub fn dns_name(text: &str) -> Verdict {
    demand(is_dns_name(text), &format!("a DNS name: {DNS_NAME}"))
}

/// An address of IPv4 or IPv6.
pub fn address(text: &str) -> Verdict {
    demand(text.parse::<IpAddr>().is_ok(), "an IP address")
}

/// What a server's certificate may be for. Source: kubeadm, `certSANs`.
pub fn certificate_name(text: &str) -> Verdict {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let good = address(name).is_ok() || dns_name(name).is_ok();
    demand(good, "a DNS name or an IP address, without scheme and port")
}

/// A network card's name. Source: Linux, `dev_valid_name`.
pub fn interface(text: &str) -> Verdict {
    let good = (1..=15).contains(&text.len()) && is_word(text, "_-.@") && ![".", ".."].contains(&text);
    demand(good, "the name of a network card, such as `eth0`")
}

/// What can be wanted of swap. HCL's `false` and "on" end here too.
pub fn swap(text: &str) -> Verdict {
    demand(text == "off", "\"off\", or left out if swap is to stay as it is")
}

/// A module's name, which is not its file's.
pub fn kernel_module(text: &str) -> Verdict {
    demand(is_word(text, "_-") && !text.starts_with('-'), "the name of a kernel module, such as `br_netfilter`")
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

/// What has happened, in somebody's words: it is written down, and compared.
pub fn incident(text: &str) -> Verdict {
    demand(
        !text.trim().is_empty() && is_line(text) && text.len() <= 200,
        "one line that is not empty, at most 200 bytes",
    )
}

/// A package. Source: Debian policy, 5.6.1; apt-get(8): to apt a hyphen at the end of a name means that the package is to go.
pub fn package(text: &str) -> Verdict {
    let good = is_word(text, "+-.") && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && !text.ends_with('-');
    demand(good, "the name of a package, without `-` at its end")
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

/// What of the sources on a machine is not to be used: a URL, or the discs.
pub fn source(text: &str) -> Verdict {
    let good = is_url(text, &["http://", "https://", "file:/", "copy:/", "cdrom:"]) || text == "cdrom:";
    demand(good, "the URL of a source, or `cdrom:` for every disc")
}

/// A proxy. With a password in it that would stand in the state and in files that everybody can read.
pub fn proxy(text: &str) -> Verdict {
    web_url(text)?;
    demand(!text.contains('@'), "a URL without user and password: they would stand in the state")
}

/// What is reached without a proxy. Source: Go's golang.org/x/net/http/httpproxy.
pub fn no_proxy(text: &str) -> Verdict {
    demand(is_word(text, "._-:/*[]"), "a host, a domain such as `.example.org`, an address or a network")
}

/// A suite or a component of a package repository.
pub fn suite(text: &str) -> Verdict {
    let good = is_word(text, "._-/") && !text.split('/').any(|part| part == "..");
    demand(good, "a suite or a component, such as `bookworm` or `stable`")
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

/// An OpenPGP key as text. How its lines end is all the same, and so is a byte order mark before it.
pub fn armoured_key(text: &str) -> Verdict {
    let good = is_text(text) && text.trim_start_matches(BYTE_ORDER_MARK).trim_start().starts_with("-----BEGIN PGP");
    demand(good, "an armoured key: it begins with `-----BEGIN PGP PUBLIC KEY BLOCK-----`")
}

/// Certificates as text.
pub fn certificates(text: &str) -> Verdict {
    let good = is_text(text) && text.contains("-----BEGIN CERTIFICATE-----");
    demand(good, "certificates in PEM: they begin with `-----BEGIN CERTIFICATE-----`")
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

/// A program, the first of its arguments. The others may be scripts, which have lines.
pub fn program<S: AsRef<str>>(argv: &[S]) -> Verdict {
    if argv.first().is_none_or(|program| path(program.as_ref()).is_err()) {
        return Err("must begin with the absolute path of a program".to_owned());
    }
    let good = argv.iter().all(|argument| is_text(argument.as_ref()));
    demand(good, "without control characters other than line ends and tabs")
}

/// Permission bits.
pub fn mode(text: &str) -> Verdict {
    let good = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    demand(good, "permissions in octal, such as `0644`")
}

/// A user or a group. To the kernel the greatest number means: as it is.
pub fn account(text: &str) -> Verdict {
    demand(is_word(text, "._-") && text.parse::<u32>() != Ok(u32::MAX), "a name or a number")
}

/// A unit of systemd.
pub fn unit(text: &str) -> Verdict {
    demand(is_word(text, "._-@:\\") && !text.starts_with(['-', '.']), "the name of a systemd unit")
}

/// When a timer elapses, as far as it can be told without systemd. Source: systemd.time(7), "Calendar events".
pub fn calendar(text: &str) -> Verdict {
    let good = is_word(text, " *-:,/.~_+") && text.len() <= 200 && !text.starts_with([' ', '-']);
    demand(good, "a calendar event of systemd, such as `daily`, `*-*-* 03:00:00` or `Mon..Fri 22:30`")
}

/// Where a server of S3 is: its name and its port, and no path.
pub fn s3_endpoint(text: &str) -> Verdict {
    let host = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or_default();
    let good = is_word(host, ".-:[]") && !host.starts_with(['.', '-', ':']);
    demand(good, "`http://` or `https://`, a host, and a port if need be, such as `https://minio.example.org:9000`")
}

/// Name of a bucket. Source: AWS, "General purpose bucket naming rules".
pub fn bucket(text: &str) -> Verdict {
    let good = (3..=63).contains(&text.len()) && is_dns_name(text);
    demand(good, "the name of a bucket: 3 to 63 lower-case letters, digits, `-` and `.`")
}

/// What the keys of objects begin with, as a folder's path.
pub fn object_prefix(text: &str) -> Verdict {
    let good = is_word(text, "/-_.=") && is_straight(text) && text.len() <= 200;
    demand(good, "a path without a `/` at either end: letters, digits, `/`, `-`, `_`, `.` and `=`")
}

/// The whole key of one object, which others may have made.
pub fn object_key(text: &str) -> Verdict {
    let good = is_line(text) && is_straight(text) && text.len() <= 1024;
    demand(
        good,
        "the key of an object, such as `prod/cp-1/etcd-20261127030000Z.db`: one line, without a `/` at either end",
    )
}

/// What signatures for S3 name.
pub fn region(text: &str) -> Verdict {
    demand(is_word(text, "-_") && text.len() <= 64, "the name of a region, such as `us-east-1`")
}

/// Public half of an access key.
pub fn access_key(text: &str) -> Verdict {
    let good =
        !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"/,=".contains(c)) && text.len() <= 128;
    demand(good, "the id of an access key: characters that print, without `/`, `,` and `=`")
}

/// Whether this can be the secret half of an access key.
pub fn is_secret(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic())
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

/// What is mounted. A line of fstab that begins with `#` is a comment.
pub fn mount_source(text: &str) -> Verdict {
    let good = !text.is_empty() && is_line(text) && !text.contains(char::is_whitespace) && !text.starts_with('#');
    demand(good, "a device, `UUID=…`, `LABEL=…` or a network source, without blanks, and without `#` before it")
}

/// A kind of filesystem that the kernel mounts.
pub fn mount_kind(text: &str) -> Verdict {
    demand(is_word(text, "._-"), "a kind of filesystem, such as `ext4` or `nfs`")
}

/// One mount option.
pub fn mount_option(text: &str) -> Verdict {
    let good = !text.is_empty() && is_line(text) && !text.contains(|c: char| c.is_whitespace() || c == ',');
    demand(good, "one mount option, such as `noatime`")
}

/// The package that containerd comes in.
pub fn runtime_package(text: &str) -> Verdict {
    demand(["containerd", "containerd.io"].contains(&text), "`containerd` or `containerd.io`")
}

/// The kind of a container runtime, as containerd calls its shims.
pub fn runtime_type(text: &str) -> Verdict {
    demand(is_word(text, "._-"), "a runtime of containerd, such as `io.containerd.runc.v2`")
}

/// Files that containerd reads too. Source: containerd-config.toml(5), `imports`.
pub fn imports(text: &str) -> Verdict {
    path(text)?;
    let folder = text.rsplit_once('/').map_or("", |(folder, _)| folder);
    demand(
        !folder.contains('*') && text != CONFIG,
        "a file of configuration beside `/etc/containerd/config.toml`; `*` stands in its last part only",
    )
}

/// An image by its name.
pub fn image(text: &str) -> Verdict {
    demand(is_word(text, "._-/:@"), "an image, such as `registry.k8s.io/pause:3.10`")
}

/// A registry of images. It becomes the name of a folder.
pub fn registry(text: &str) -> Verdict {
    let host = is_word(text, "._-:") && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    demand(host || text == "_default", "the host of a registry, or `_default`")
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

/// A version of K3s. A further build of one Kubernetes is another number behind `k3s`.
pub fn k3s_version(text: &str) -> Verdict {
    demand(is_build(text, "+k3s"), "a version of K3s, such as `v1.34.3+k3s1`")
}

/// A version of RKE2. A further build of one Kubernetes is another number behind `rke2r`.
pub fn rke2_version(text: &str) -> Verdict {
    demand(is_build(text, "+rke2r"), "a version of RKE2, such as `v1.34.3+rke2r1`")
}

/// Of Kubernetes, with `v` before it and a number behind a mark.
fn is_build(text: &str, mark: &str) -> bool {
    let parts = text.strip_prefix('v').and_then(|rest| rest.split_once(mark));
    parts.is_some_and(|(kubernetes, build)| kubernetes_version(kubernetes).is_ok() && number(build).is_some())
}

/// SHA-256 in hex.
pub fn sha256(text: &str) -> Verdict {
    let good = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    demand(good, "64 hex digits in lower case")
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

/// A user or a group, as the API server reads it in a certificate.
pub fn kubernetes_user(text: &str) -> Verdict {
    let good = !text.is_empty() && text.len() <= 128 && text.trim() == text && is_line(text);
    demand(good, "a name such as `alice` or `example:viewers`, 128 bytes at most")
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

/// Nothing that ends a line, and nothing that a terminal acts on: control characters, line separators, and those that turn the
/// direction of writing.
fn is_line(text: &str) -> bool {
    let turns = |c| matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    !text.contains(|c: char| c.is_control() || turns(c))
}

/// Lines of text.
fn is_text(text: &str) -> bool {
    text.split(['\n', '\r', '\t']).all(is_line)
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
        && text.chars().all(|c| c.is_ascii_graphic() && c != '"')
}

const CONFIG: &str = "/etc/containerd/config.toml";
const BYTE_ORDER_MARK: char = '\u{feff}';
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const DNS_NAME: &str = "lower-case letters, digits and `-`, joined by dots";

#[cfg(test)]
mod tests;
