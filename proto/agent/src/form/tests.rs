//! Good and bad texts of every form.

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

/// A rule, and a text that it takes.
type Rule = (&'static str, fn(&str) -> Verdict, &'static str);

macro_rules! rules {
    ($($rule:ident $good:literal)*) => { [$((stringify!($rule), $rule as fn(&str) -> Verdict, $good)),*] };
}

/// Every rule of one text; those of lines of text (`armoured_key`, `certificates`) let line ends and tabs pass.
fn rules() -> Vec<Rule> {
    rules! {
        hostname "cp-1"
        node_name "cp-1"
        manifest_name "cp-1"
        dns_name "cp-1.example.org"
        address "192.0.2.1"
        certificate_name "*.example.org"
        interface "eth0.5"
        swap "off"
        kernel_module "br_netfilter"
        sysctl "net.ipv4.ip_forward"
        sysctl_value "10000 60999"
        short_name "a-b"
        incident "2026-11-27 rack 3"
        package "g++"
        package_version "1.28.4-*"
        url "file:///srv/apt"
        web_url "https://a:5000/b"
        source "cdrom:"
        proxy "http://proxy:3128"
        no_proxy "10.0.0.0/8"
        suite "bookworm"
        armoured_key "-----BEGIN PGP PUBLIC KEY BLOCK-----"
        certificates "-----BEGIN CERTIFICATE-----"
        path "/etc/a b"
        file "/etc/motd"
        mode "0644"
        account "www-data"
        unit "ssh.service"
        calendar "Mon..Fri *-*-* 22:30"
        s3_endpoint "https://minio.example.org:9000"
        bucket "etcd-prod"
        object_prefix "prod/etcd"
        object_key "prod/cp-1/etcd-20261127030000Z.db"
        region "eu-central-1"
        access_key "AKIAIOSFODNN7EXAMPLE"
        device "/dev/disk/by-id/x y"
        filesystem "ext4"
        uuid "8a7e3f52-0000-4000-8000-0123456789ab"
        mount_source "UUID=x"
        mount_kind "nfs"
        mount_option "x-systemd.device-timeout=30s"
        runtime_package "containerd.io"
        runtime_type "io.containerd.runc.v2"
        imports "/etc/containerd/conf.d/*.toml"
        image "registry.k8s.io/pause:3.10"
        registry "docker.io"
        kubernetes_version "1.36.2"
        k3s_version "v1.34.3+k3s1"
        rke2_version "v1.34.3+rke2r1"
        sha256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        label_key "example.org/zone"
        label_value "a_b"
        kubernetes_user "system:serviceaccount:a:b"
        taint "dedicated=db:NoSchedule"
        preflight_check "SystemVerification"
    }
    .to_vec()
}

#[test]
fn every_rule_is_among_those_below() {
    let text = include_str!("../form.rs");
    let written =
        text.lines().filter_map(|line| line.strip_prefix("pub fn ")?.strip_suffix("(text: &str) -> Verdict {"));
    assert_eq!(rules().iter().map(|(name, ..)| *name).collect::<Vec<_>>(), written.collect::<Vec<_>>());
}

#[test]
fn no_rule_lets_a_character_pass_that_does_not_print() {
    let controls = (0..=0x9f).filter_map(char::from_u32).filter(|c| c.is_control());
    let turns = ['\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{200f}'];
    let bad: Vec<char> = controls.chain(turns).collect();
    for (name, rule, good) in rules() {
        assert_eq!(rule(good), Ok(()), "{name}");
        let lines = ["armoured_key", "certificates"].contains(&name);
        for at in (0..=good.len()).filter(|at| good.is_char_boundary(*at)) {
            for c in bad.iter().filter(|c| !(lines && matches!(c, '\n' | '\r' | '\t'))) {
                let (before, after) = good.split_at(at);
                assert!(rule(&format!("{before}{c}{after}")).is_err(), "{name} takes {c:?} at {at} of {good:?}");
            }
        }
    }
    assert!(filesystem_label("a\nb", "ext4").is_err());
}

#[test]
fn names_are_those_of_dns() {
    let long = "a".repeat(63);
    check(dns_name, &["cp-1", "cp-1.example.org", &long], &["", "CP", "a_b", "-a", "a-", "a..b", &format!("{long}a")]);
    check(hostname, &[&format!("{}.b", "a".repeat(62))], &[&format!("{long}.b")]);
    check(node_name, &[&long, "cp-1.lan"], &[&format!("{long}.b"), "CP_1"]);
}

#[test]
fn a_certificate_is_for_no_url() {
    let bad = ["https://api.example.org", "api.example.org:6443", "*", ""];
    check(certificate_name, &["api.example.org", "*.example.org", "192.0.2.10", "::1"], &bad);
}

#[test]
fn a_calendar_event_is_one_line_of_what_systemd_reads() {
    let good = ["daily", "*-*-* 03:00:00", "Mon..Fri 22:30", "*:0/15", "2026-11-27 03:00:00 Europe/Berlin", "*-02~03"];
    check(calendar, &good, &["", " daily", "-daily", "daily\n[Service]", "%h", "a;b", "$(x)", &"1".repeat(201)]);
}

#[test]
fn a_bucket_is_told_by_its_server_and_its_name() {
    check(
        s3_endpoint,
        &["http://10.0.0.1:9000", "https://s3.eu-central-1.amazonaws.com", "https://[fd00::1]:9000"],
        &["", "minio:9000", "https://", "https://minio/path", "https://a@b", "https://minio?x", "ftp://minio"],
    );
    check(bucket, &["etcd", "a.b-c"], &["ab", "Etcd", "a_b", "-ab", &"a".repeat(64)]);
    check(object_prefix, &["prod", "a/b.c"], &["", "/a", "a/", "a//b", "../a", "a b", "a?b"]);
    check(object_key, &["a.db", "a b/c+d=e.db", "für/x"], &["", "/a", "a/", "a//b", "../a", "a\nb"]);
    check(access_key, &["groundwork"], &["", "a/b", "a b", "a=b", "a,b"]);
    assert!(is_secret("wJalrXUtnFEMI/K7MDENG") && !is_secret("") && !is_secret("a\n"));
}

#[test]
fn paths_have_one_spelling() {
    check(path, &["/etc/motd"], &["/", "/data/", "etc/motd", "/etc/../motd", "/etc//motd", "/a\nb"]);
    check(file, &["/etc/motd", "/developer"], &["/proc/kmsg", "/sys/power/state", "/dev/sda", "/etc/"]);
    check(device, &["/dev/disk/by-id/x", "/dev/mapper/x", "/dev/nvme0n1"], &["/dev/sdb", "/dev/vda", "/srv/x"]);
    assert!(program(&["/bin/true", "x"]).is_ok() && program(&["true"]).is_err() && program::<&str>(&[]).is_err());
    assert!(program(&["/bin/sh", "-c", "a\n\tb"]).is_ok() && program(&["/bin/sh", "\u{1b}[2J"]).is_err());
}

#[test]
fn sources_of_packages() {
    check(url, &["https://a/", "file:///srv/apt"], &["ftp://a", "https://", "file://a", "http://a b", "a"]);
    check(source, &["cdrom:", "http://deb.debian.org/debian", "cdrom:[Debian]/"], &["", "deb", "http://a b"]);
    check(proxy, &["http://proxy.example.org:3128"], &["proxy:3128", "http://user:secret@proxy:3128"]);
    check(no_proxy, &[".example.org", "10.0.0.0/8", "[::1]", "*"], &["", "a,b", "a b"]);
    check(imports, &["/etc/containerd/conf.d/*.toml"], &["conf.d/x", "/etc/*/x.toml", "/etc/containerd/config.toml"]);
    check(web_url, &["http://a:5000"], &["file:///srv", "a:5000"]);
    check(package, &["linux-image-amd64", "g++"], &["", "-f", "a b", "vim-"]);
    check(package_version, &["1.28.4-*", "1:2~rc1", "*"], &["", "-oDebug=1", "1 2"]);
    check(
        armoured_key,
        &["\n-----BEGIN PGP PUBLIC KEY BLOCK-----", "\u{feff}-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n\r\nmQ\r\n"],
        &["mQINBF", "", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\0"],
    );
    check(suite, &["bookworm", "./", "stable/main"], &["", "a b", "../x"]);
    check(registry, &["_default", "docker.io", "lab:5000"], &["", "..", ".", ".hidden", "a/b"]);
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
    check(incident, &["a fire", "2026-11-27 rack 3"], &["", " ", "a\nb", &"x".repeat(201)]);
}

#[test]
fn values_of_files_and_mounts() {
    check(mode, &["0644", "755"], &["0999", "rw-r--r--", "00644", "+64"]);
    check(uuid, &["8a7e3f52-0000-4000-8000-0123456789ab"], &["8A7E3F52-0000-4000-8000-0123456789AB", "x"]);
    check(mount_option, &["noatime"], &["", "ro,noatime"]);
    check(mount_source, &["UUID=x", "server:/a#b"], &["", "a b", "#x"]);
    check(account, &["www-data", "1000"], &["", "a:b", "4294967295"]);
    check(unit, &["ssh.service", "serial-getty@ttyS0"], &["", "-x", "..", "a/b"]);
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

#[test]
fn any_text_is_answered() {
    for (name, rule, good) in rules() {
        total::text(&format!("form-{name}"), &[good], rule);
    }
}
