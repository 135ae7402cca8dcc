//! systemd's readiness protocol: one datagram. Source: sd_notify(3).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells systemd, if it started us, that we are ready, and how we are.
///
/// # Errors
/// When its socket does not take the message.
pub fn ready(status: &str) -> io::Result<()> {
    tell(&format!("READY=1\nSTATUS={status}\n"))
}

/// Tells systemd, if it started us, how we are now.
///
/// # Errors
/// When its socket does not take the message.
pub fn status(status: &str) -> io::Result<()> {
    tell(&format!("STATUS={status}\n"))
}

fn tell(message: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let path = path.to_string_lossy();
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&*path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}
