//! What values of `groundwork_vm` must be like. Each message completes "`attribute` …".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tf::check::Verdict;

use crate::cidr;

fn demand(good: bool, what: &str) -> Verdict {
    if good { Ok(()) } else { Err(format!("must be {what}")) }
}

/// Labels of letters, digits and `-`, joined by dots.
pub(super) fn dns_name(text: &str) -> Verdict {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    demand(text.len() <= 253 && text.split('.').all(label), "a DNS name: letters, digits and `-`")
}

pub(super) fn volume(text: &str) -> Verdict {
    if text.contains("://") {
        return Err("must not be a URL: bring it in with a `groundwork_image`, and give its `volume_id`".to_owned());
    }
    demand(text.parse::<pve::VolumeId>().is_ok(), "a volume such as `local:import/debian-13.qcow2`")
}

/// At least so many MiB.
pub(super) fn mib(low: i64) -> impl Fn(i64) -> Verdict + Send + Sync + 'static {
    move |mib| if mib >= low { Ok(()) } else { Err(format!("must be at least {low}; it is in MiB")) }
}

/// Bridges, bonds of them and SDN networks.
pub(super) fn bridge(text: &str) -> Verdict {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    demand(!text.is_empty() && text.bytes().all(inner), "the name of a bridge or SDN network, such as `vmbr0`")
}

/// What Linux takes for the name of an account.
pub(super) fn user(text: &str) -> Verdict {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.len() <= 32;
    demand(good && text.bytes().all(inner), "the name of an account: a letter, then letters, digits and `-_.`")
}

/// A line of `authorized_keys`: options may stand before the type.
pub(super) fn ssh_key(text: &str) -> Verdict {
    let words: Vec<&str> = text.split_whitespace().collect();
    let kind = |word: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start));
    let good = words.windows(2).any(|pair| matches!(pair, [one, key] if kind(one) && key.starts_with("AAAA")));
    let one_line = text.trim_end().lines().count() == 1;
    demand(
        good && one_line,
        "one public key, such as `ssh-ed25519 AAAA… me`; `file(\"~/.ssh/id_ed25519.pub\")` reads one",
    )
}

/// cloud-init takes what it does not know for nothing.
pub(super) fn user_data(text: &str) -> Verdict {
    crate::seed::user_data::check(text)
}

pub(super) fn description(text: &str) -> Verdict {
    demand(text.len() <= 8000, "at most 8000 bytes long")
}

pub(super) fn tag(text: &str) -> Verdict {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let inner = |byte: u8| first(byte) || matches!(byte, b'-' | b'+' | b'.');
    let good = text.bytes().next().is_some_and(first) && text.bytes().all(inner);
    demand(good, "a tag: letters, digits and `_-+.`, and none of the last three first")
}

/// `scsi0`: a bus and a number without leading zeros, below the bus's limit. `scsi30` is kept for the seed.
pub(super) fn disk_slot(text: &str) -> Verdict {
    if text == SEED_SLOT || text == SEED_SLOT_IDE {
        return Err(format!("must not have a disk at `{text}`: that drive is for the seed image"));
    }
    let good = [("scsi", 31), ("virtio", 16), ("sata", 6)].iter().any(|(bus, count)| numbered(text, bus, *count));
    demand(good, "named by slots from `scsi0` to `scsi29`, `virtio0` to `virtio15` or `sata0` to `sata5`")
}

pub(super) fn network_slot(text: &str) -> Verdict {
    demand(numbered(text, "net", 32), "named by slots from `net0` to `net31`")
}

pub(super) fn seed_slot(text: &str) -> Verdict {
    let good = [("scsi", 31), ("ide", 4), ("sata", 6)].iter().any(|(bus, count)| numbered(text, bus, *count));
    demand(good, "a drive such as `scsi30`, `ide2` or `sata5`")
}

fn numbered(text: &str, prefix: &str, count: u32) -> bool {
    let Some(digits) = text.strip_prefix(prefix) else { return false };
    let plain = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
    plain && digits.parse::<u32>().is_ok_and(|number| number < count)
}

/// A model, and flags that Proxmox VE lets anybody set.
pub(super) fn cpu(text: &str) -> Verdict {
    let property = pve::PropertyString::parse(text);
    let model = property.bare().or_else(|| property.get("cputype")).unwrap_or_default();
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    demand(!model.is_empty() && model.bytes().all(inner), "a CPU model such as `host` or `x86-64-v2-AES`")?;
    for (key, value) in property.iter() {
        match key {
            None if Some(value) != property.bare() => {
                return Err(format!("has `{value}` after the model; flags are written `{model},flags=+aes;-pcid`"));
            }
            None | Some("cputype" | "hidden" | "hv-vendor-id" | "phys-bits" | "guest-phys-bits" | "level") => {}
            Some("flags") => flags(value)?,
            Some(other) => return Err(format!("has the unknown option `{other}`")),
        }
    }
    Ok(())
}

fn flags(text: &str) -> Verdict {
    for flag in text.split(';') {
        let name =
            flag.strip_prefix(['+', '-']).ok_or_else(|| format!("needs `+` or `-` before the CPU flag `{flag}`"))?;
        if !CPU_FLAGS.contains(&name) {
            return Err(format!("has the unknown CPU flag `{name}`; known are {}", CPU_FLAGS.join(", ")));
        }
    }
    Ok(())
}

/// Six hex pairs, not of a group.
pub(super) fn mac(text: &str) -> Verdict {
    let pairs: Vec<&str> = text.split(':').collect();
    let bytes: Vec<u8> =
        pairs.iter().filter(|pair| pair.len() == 2).filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    let good = pairs.len() == 6 && bytes.len() == 6 && bytes.first().is_some_and(|first| first & 1 == 0);
    demand(good, "a hardware address such as `BC:24:11:00:00:01`, not of a group")
}

pub(super) fn serial(text: &str) -> Verdict {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    demand(!text.is_empty() && text.len() <= 20 && text.bytes().all(inner), "1 to 20 letters, digits, `-` or `_`")
}

pub(super) fn ip(text: &str) -> Verdict {
    demand(text.parse::<IpAddr>().is_ok(), "an IP address")
}

pub(super) fn ipv4(text: &str) -> Verdict {
    demand(text.parse::<Ipv4Addr>().is_ok(), "an IPv4 address")
}

pub(super) fn ipv6(text: &str) -> Verdict {
    demand(text.parse::<Ipv6Addr>().is_ok(), "an IPv6 address")
}

/// `192.0.2.11/24` or `dhcp`.
pub(super) fn address4(text: &str) -> Verdict {
    if text == DHCP {
        return Ok(());
    }
    let own = cidr::parse(text).filter(|(address, prefix)| address.is_ipv4() && (8..=32).contains(prefix));
    let form = "an IPv4 address with a prefix length from 8 to 32, such as `192.0.2.11/24`, or `dhcp`";
    let (address, length) = own.ok_or_else(|| format!("must be {form}"))?;
    of_a_host(address, length)
}

/// `2001:db8::11/64`, `auto` or `dhcp`.
pub(super) fn address6(text: &str) -> Verdict {
    if text == DHCP || text == AUTO {
        return Ok(());
    }
    let own = cidr::parse(text).filter(|(address, prefix)| address.is_ipv6() && (1..=128).contains(prefix));
    let form = "an IPv6 address with a prefix length, such as `2001:db8::11/64`, or `auto` or `dhcp`";
    let (address, length) = own.ok_or_else(|| format!("must be {form}"))?;
    of_a_host(address, length)
}

/// The first address of a network is the network's, and IPv4's last one is for everybody; networks of two have neither.
fn of_a_host(address: IpAddr, length: u8) -> Verdict {
    let (first, last) = cidr::bounds(address, length);
    let two = if address.is_ipv4() { 31 } else { 127 };
    if length < two && address == first {
        return Err(format!("must be a host's address: {address} is that of the whole network"));
    }
    if length < two && address.is_ipv4() && address == last {
        return Err(format!("must be a host's address: {address} is the broadcast address of its network"));
    }
    Ok(())
}

/// A destination: `198.51.100.0/24`.
pub(super) fn network(text: &str) -> Verdict {
    let (address, length) = cidr::parse(text)
        .filter(|(address, length)| *length <= if address.is_ipv4() { 32 } else { 128 })
        .ok_or("must be named by networks with a prefix length, such as `198.51.100.0/24`")?;
    if length == 0 {
        return Err("must not be the default route: that is `gateway` or `gateway6`".to_owned());
    }
    let (first, _) = cidr::bounds(address, length);
    demand(address == first, &format!("named by networks; the network of {text} is `{first}/{length}`"))
}

/// Whether a gateway can be reached from an address with prefix length. One with a single address in its network is meant for
/// routes that say more than we know, and an IPv6 gateway may be link-local.
pub(super) fn reaches(own: &str, gateway: &str) -> bool {
    let (Some((own, length)), Ok(gateway)) = (cidr::parse(own), gateway.parse::<IpAddr>()) else { return true };
    let alone = length >= if own.is_ipv4() { 32 } else { 128 };
    let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
    let other_kind = own.is_ipv4() != gateway.is_ipv4();
    other_kind || alone || link_local || cidr::agree(own, gateway, length)
}

/// Words in place of an address.
pub(super) const DHCP: &str = "dhcp";
pub(super) const AUTO: &str = "auto";
/// Where the seed image goes unless something else is said.
pub(super) const SEED_SLOT: &str = "scsi30";
/// The same without a VirtIO SCSI controller.
pub(super) const SEED_SLOT_IDE: &str = "ide2";

/// Source: qemu-server 9.2, `supported_cpu_flags`; the first is new in 9.
const CPU_FLAGS: [&str; 13] = [
    "nested-virt",
    "md-clear",
    "pcid",
    "spec-ctrl",
    "ssbd",
    "ibpb",
    "virt-ssbd",
    "amd-ssbd",
    "amd-no-ssb",
    "pdpe1gb",
    "hv-tlbflush",
    "hv-evmcs",
    "aes",
];

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
    fn slots_are_a_bus_and_a_number() {
        check(
            disk_slot,
            &["scsi0", "scsi29", "virtio15", "sata5"],
            &["scsi31x", "scsi99", "scsi00", "ide2", "scsi30", "sata6", "SCSI0", "scsi"],
        );
        check(network_slot, &["net0", "net31"], &["eth0", "net32", "net", "net01"]);
    }

    #[test]
    fn cpu_flags_are_known_ones() {
        check(
            cpu,
            &["host", "x86-64-v2-AES", "kvm64,flags=+aes;-pcid", "cputype=host,hidden=1"],
            &["", "host,flags=+nonsense", "host,flags=aes", "host,+aes", "host,aes", "host,x=1", "a b"],
        );
    }

    #[test]
    fn addresses_have_a_prefix_length() {
        let no_form = ["10.77.0.11/33", "10.77.0.256/24", "10.77.0.11", "10.77.0.11/+8", "::1/64", "auto", "DHCP"];
        check(address4, &["10.77.0.11/24", "10.77.0.0/31", "10.77.0.0/32", "dhcp"], &no_form);
        check(address4, &["10.77.0.1/8"], &["10.77.0.0/24", "10.77.0.255/24", "10.77.1.255/23"]);
        check(
            address6,
            &["2001:db8::1/64", "auto", "dhcp", "2001:db8::/127"],
            &["2001:db8::1/129", "10.0.0.1/8", "slaac"],
        );
        check(address6, &[], &["2001:db8::/64"]);
        check(
            network,
            &["198.51.100.0/24", "2001:db8::/32", "10.1.2.3/32"],
            &["198.51.100.1/24", "0.0.0.0/0", "::/0", "x"],
        );
        check(
            mac,
            &["BC:24:11:00:00:01", "bc:24:11:00:00:0f"],
            &["BC:24:11:00:00", "01:24:11:00:00:01", "BC-24-11-00-00-01", "BC:24:11:0:00:01"],
        );
    }

    #[test]
    fn what_a_first_boot_would_not_take_is_refused() {
        let keys = ["ssh-ed25519 AAAAC3 me@here\n", "from=\"10.0.0.1\" ecdsa-sha2-nistp256 AAAAE2"];
        check(ssh_key, &keys, &["~/.ssh/id.pub", "ssh-ed25519", "", "ssh-rsa AAAAB3 a\nssh-rsa AAAAB3 b"]);
        check(user, &["admin", "_ci"], &["", "my user", "1a", "root;"]);
        check(user_data, &["#cloud-config\n{}", "#!/bin/sh"], &["packages: [x]", ""]);
        check(volume, &["local:import/a.qcow2"], &["https://example.org/a.qcow2", "a.qcow2"]);
        check(bridge, &["vmbr0", "vmbr0v10"], &["", "vmbr 0"]);
    }

    #[test]
    fn a_gateway_is_in_the_network() {
        for (own, gateway) in [
            ("10.7.0.11/24", "10.7.0.1"),
            ("10.7.0.11/32", "10.9.0.1"),
            ("fd00::2/64", "fe80::1"),
            ("fd00::2/64", "fd00::1"),
        ] {
            assert!(reaches(own, gateway), "{own} {gateway}");
        }
        assert!(!reaches("10.7.0.11/24", "10.7.1.1") && !reaches("fd00::2/64", "fd01::1"));
    }

    #[test]
    fn names_are_dns_names() {
        check(dns_name, &["one", "web-1.example.org"], &["one two", "-a", "a_b", "a.", ""]);
    }
}
