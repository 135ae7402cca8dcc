//! Noticing that Terraform has died: nothing tells a provider, and without this it would live for ever.

use super::Mode;

/// Returns when nobody holds the other end of stdout any more. Never while debugging, where stdout is a terminal.
#[cfg(unix)]
pub(super) async fn orphaned(mode: Mode) {
    if mode == Mode::Debug {
        return std::future::pending().await;
    }
    let (gone, told) = tokio::sync::oneshot::channel();
    // A thread of its own, because it blocks for as long as Terraform lives.
    let watcher = std::thread::Builder::new().name("orphan".to_owned()).stack_size(64 * 1024);
    let watching = watcher.spawn(move || gone.send(wait_for_hangup()).ok());
    if let Err(error) = watching {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot watch for the death of terraform");
        return std::future::pending().await;
    }
    if told.await != Ok(true) {
        // Stdout is no pipe: there is nothing to learn from it.
        return std::future::pending().await;
    }
    tracing::info!("terraform is gone");
}

/// Blocks until the reader of stdout is gone; false if stdout is nothing that can be watched.
#[cfg(unix)]
fn wait_for_hangup() -> bool {
    use std::os::fd::AsFd as _;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let stdout = std::io::stdout();
    loop {
        let mut watched = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        match poll(&mut watched, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(_) => return false,
            Ok(_) => {
                let flags = watched[0].revents().unwrap_or(PollFlags::empty());
                return flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
            }
        }
    }
}

/// Windows ends the pipes with the process; there is no signal to wait for.
#[cfg(not(unix))]
pub(super) async fn orphaned(_: Mode) {
    std::future::pending().await
}
