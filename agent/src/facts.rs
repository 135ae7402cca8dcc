//! What a machine is: read, never changed. Steps decide by these facts what a machine cannot do.

use crate::host::{Command, Host, HostError, fstab};

/// Facts of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Host name in force.
    pub hostname: String,
    /// "debian"
    pub os_id: String,
    /// "12"
    pub os_version: String,
    /// "Debian GNU/Linux 12 (bookworm)"
    pub os_name: String,
    /// "6.1.0-31-cloud-amd64"
    pub kernel: String,
    /// "x86_64"
    pub architecture: &'static str,
    /// As systemd-detect-virt says.
    pub virtualization: String,
    /// The kernel is shared with others.
    pub container: bool,
    /// Processors that are on.
    pub cpus: u32,
    /// Usable memory.
    pub memory_bytes: u64,
    /// SMBIOS UUID, lower case; empty if there is none.
    pub machine_uuid: String,
    /// systemd's machine-id.
    pub machine_id: String,
    /// This boot.
    pub boot_id: String,
    /// Packages ask for a restart.
    pub reboot_required: bool,
    /// Something keeps the clock right.
    pub clock_synchronised: bool,
    /// 1 or 2.
    pub cgroup_version: u32,
    /// Addresses with prefix length, loopback and link-local ones left out.
    pub addresses: Vec<String>,
    /// Capabilities that even PID 1 lacks.
    pub missing_capabilities: Vec<String>,
}

/// Reads all of them; what cannot be read stays empty.
pub async fn read(host: &dyn Host) -> Facts {
    let os = file(host, "/etc/os-release");
    let of = |key: &str| of_os(&os, key).to_owned();
    Facts {
        hostname: file(host, "/proc/sys/kernel/hostname"),
        os_id: of("ID"),
        os_version: of("VERSION_ID"),
        os_name: of("PRETTY_NAME"),
        kernel: file(host, "/proc/sys/kernel/osrelease"),
        architecture: std::env::consts::ARCH,
        virtualization: virtualization(host).await,
        container: container(host).is_some(),
        cpus: cpus(&file(host, "/sys/devices/system/cpu/online")),
        memory_bytes: kibibytes(&file(host, "/proc/meminfo"), "MemTotal").saturating_mul(1024),
        machine_uuid: file(host, "/sys/class/dmi/id/product_uuid").to_lowercase(),
        machine_id: file(host, "/etc/machine-id"),
        boot_id: file(host, crate::reboot::BOOT_ID),
        reboot_required: reboot_required(host),
        clock_synchronised: clock_synchronised(host).await.unwrap_or(false),
        cgroup_version: if exists(host, "/sys/fs/cgroup/cgroup.controllers") { 2 } else { 1 },
        addresses: addresses(host).await.unwrap_or_default(),
        missing_capabilities: missing_capabilities(host).into_iter().map(str::to_owned).collect(),
    }
}

/// A value of `/etc/os-release`, without its quotes; empty if it is not there.
fn of_os<'a>(text: &'a str, key: &str) -> &'a str {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    value.trim_matches('"')
}

/// The kind of container this machine is, such as "systemd-nspawn"; `None` if it has a kernel of its own.
#[must_use]
pub fn container(host: &dyn Host) -> Option<String> {
    let kind = file(host, "/run/systemd/container");
    (!kind.is_empty()).then_some(kind)
}

/// Packages ask for a restart.
#[must_use]
pub fn reboot_required(host: &dyn Host) -> bool {
    exists(host, "/run/reboot-required")
}

/// Something keeps the clock right, in this boot. For a call or a connection, never for a timer: the question may wake timedated.
///
/// # Errors
/// When it cannot be asked.
pub async fn clock_synchronised(host: &dyn Host) -> Result<bool, HostError> {
    // timesyncd's mark is the cheap way. Other clients, chrony and ntpd among them, set the kernel's flag, which timedated reads: we
    // cannot, for the unit may not call adjtimex.
    if container(host).is_some() || exists(host, "/run/systemd/timesync/synchronized") {
        return Ok(true);
    }
    let ask = Command::new("/usr/bin/timedatectl", ["show", "--property=NTPSynchronized", "--value"]);
    Ok(host.run(&ask, &|_| ()).await?.stdout.trim() == "yes")
}

/// Whether what is mounted over `path` can be written to.
#[must_use]
pub fn is_writable(host: &dyn Host, path: &str) -> bool {
    fstab::is_writable(&fstab::mounted(&file(host, "/proc/self/mountinfo")), path)
}

/// Whether PID 1, and so every service, has a capability.
#[must_use]
pub fn has_capability(host: &dyn Host, name: &str) -> bool {
    !missing_capabilities(host).contains(&name)
}

fn missing_capabilities(host: &dyn Host) -> Vec<&'static str> {
    let status = file(host, "/proc/1/status");
    let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let Some(bits) = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()) else { return Vec::new() };
    CAPABILITIES.iter().filter(|(bit, _)| bits & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

/// Bytes of a field of `/proc/meminfo`, in KiB as it is written there.
#[must_use]
pub fn kibibytes(meminfo: &str, field: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

async fn virtualization(host: &dyn Host) -> String {
    if let Some(kind) = container(host) {
        return kind;
    }
    let detect = Command::new("/usr/bin/systemd-detect-virt", [""; 0]);
    host.run(&detect, &|_| ()).await.map(|output| output.stdout.trim().to_owned()).unwrap_or_default()
}

/// Addresses with prefix length, loopback and link-local ones left out.
///
/// # Errors
/// When they cannot be listed.
pub async fn addresses(host: &dyn Host) -> Result<Vec<String>, HostError> {
    let ask = Command::new("/usr/sbin/ip", ["-oneline", "address", "show", "scope", "global"]);
    let output = host.run_ok(&ask, &|_| ()).await?;
    let mut words = output.stdout.lines().map(|line| line.split_whitespace().skip(2));
    Ok(words
        .by_ref()
        .filter_map(|mut words| (words.next()?.starts_with("inet")).then(|| words.next()).flatten())
        .map(str::to_owned)
        .collect())
}

/// "0-3,6" is five.
fn cpus(online: &str) -> u32 {
    let count = |part: &str| -> Option<u32> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    online.split(',').filter_map(count).fold(0, u32::saturating_add)
}

fn file(host: &dyn Host, path: &str) -> String {
    host.text(path).ok().flatten().unwrap_or_default().trim().to_owned()
}

fn exists(host: &dyn Host, path: &str) -> bool {
    host.exists(path).unwrap_or(false)
}

/// Those that our steps depend on, by bit (linux/capability.h).
const CAPABILITIES: [(u32, &str); 5] = [
    (12, "CAP_NET_ADMIN"),
    (16, "CAP_SYS_MODULE"),
    (21, "CAP_SYS_ADMIN"),
    (24, "CAP_SYS_RESOURCE"),
    (25, "CAP_SYS_TIME"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn numbers_that_cannot_be_do_no_harm() {
        assert_eq!(cpus("0-3,6"), 5);
        assert_eq!(cpus("0-4294967294,0-4294967294"), u32::MAX);
        assert_eq!(kibibytes("MemTotal:       18446744073709551615 kB\n", "MemTotal").saturating_mul(1024), u64::MAX);
    }

    #[test]
    fn any_text_is_answered() {
        total::text("cpus", &["0-3,6"], cpus);
        total::text("os-release", &["ID=debian\nVERSION_ID=\"12\"\n"], |text| of_os(text, "VERSION_ID").to_owned());
        total::text("meminfo", &["MemTotal: 4030000 kB\n"], |text| kibibytes(text, "MemTotal"));
        total::text("capabilities", &["CapBnd:\t000001ffffffffff\n"], |text| {
            let host = Fake::template();
            host.put("/proc/1/status", text);
            missing_capabilities(&host)
        });
    }
}
