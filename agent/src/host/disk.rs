//! Disks by their stable names, and the UUID of a filesystem before it is made.

use super::{Host, HostError, Kind};

/// Where a link of udev leads: "/dev/sdb". `None` if there is no such link.
///
/// # Errors
/// When it cannot be looked at.
pub fn resolved(host: &dyn Host, device: &str) -> Result<Option<String>, HostError> {
    Ok(match host.stat(device)?.map(|stat| stat.kind) {
        Some(Kind::Link(to)) => Some(format!("/dev/{}", to.rsplit('/').next().unwrap_or_default())),
        Some(Kind::File | Kind::Folder | Kind::Other) | None => None,
    })
}

/// The UUID that is given for a device's filesystem, or one that belongs to this machine and device for ever.
///
/// # Errors
/// When the machine-id cannot be read.
pub fn uuid(host: &dyn Host, device: &str, given: Option<&str>) -> Result<String, HostError> {
    if let Some(uuid) = given {
        return Ok(uuid.to_owned());
    }
    let machine = host.text("/etc/machine-id")?.unwrap_or_default();
    Ok(derived(machine.trim(), device))
}

/// A UUID of version 8 (RFC 9562: made by one's own rule) out of two FNV-1a hashes; it only has to be stable and distinct.
fn derived(machine: &str, device: &str) -> String {
    let hash = |salt: &str| {
        let bytes = salt.bytes().chain(machine.bytes()).chain([0]).chain(device.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let (high, low) = (hash("high"), hash("low"));
    format!(
        "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        ((low >> 48) & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_uuid_is_stable_and_distinct() {
        let uuid = derived("5f0c", "/dev/disk/by-id/a");
        assert_eq!(uuid, derived("5f0c", "/dev/disk/by-id/a"));
        assert_ne!(uuid, derived("5f0c", "/dev/disk/by-id/b"));
        assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }
}
