//! Reboots of the machine on request.

use crate::host::{Command, Host, HostError};

/// Whether the machine is in the boot with this id still.
///
/// # Errors
/// If the kernel's file cannot be read.
pub fn is_boot(host: &dyn Host, boot_id: &str) -> Result<bool, HostError> {
    Ok(host.text(BOOT_ID)?.unwrap_or_default().trim() == boot_id)
}

/// Reboots the machine in a second, so that an answer gets out before.
///
/// # Errors
/// If systemd does not take the order.
pub async fn begin(host: &dyn Host) -> Result<(), HostError> {
    let reboot = ["--on-active=1", "--collect", "/usr/bin/systemctl", "reboot"];
    host.run_ok(&Command::new("/usr/bin/systemd-run", reboot), &|_| ()).await.map(drop)
}

/// Drawn by the kernel at every boot.
pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
