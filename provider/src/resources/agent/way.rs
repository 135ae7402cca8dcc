//! A way into a machine: run a script as root there, and write a file. What an installation is, it is by either.

use super::look::Look;
use crate::{explain, guest, ssh};
use std::time::Duration;
use tf::{Diagnostic, Path};

/// Where lines of progress go.
pub(super) type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A machine that lets us in.
pub(super) trait WayIn: Sync {
    /// What can go wrong on it.
    type Error: Send;

    /// The machine, as lines of progress call it.
    fn place(&self) -> String;

    /// Runs a script as root, which must succeed; what it printed.
    fn script(
        &self,
        what: &str,
        script: &str,
        patience: Duration,
    ) -> impl Future<Output = Result<String, Self::Error>> + Send;

    /// Writes a file of root's into a folder that is closed to others. `look` says what is there already.
    fn write(
        &self,
        path: &str,
        bytes: &[u8],
        look: &Look,
        progress: Progress<'_>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The diagnostic for a failed act, at the attribute that is the cure.
    fn told(act: &str, error: &Self::Error, holds: &str) -> Diagnostic;
}

impl WayIn for ssh::Session {
    type Error = ssh::Error;

    fn place(&self) -> String {
        self.place()
    }

    async fn script(&self, what: &str, script: &str, patience: Duration) -> Result<String, ssh::Error> {
        self.script(what, script, patience).await
    }

    async fn write(&self, path: &str, bytes: &[u8], _: &Look, progress: Progress<'_>) -> Result<(), ssh::Error> {
        if bytes.len() > LARGE {
            progress(&format!("{}: sending the agent, {} MiB", self.place(), bytes.len() >> 20));
        }
        let line = format!("umask 077 && cat >{path}");
        self.must(&format!("writing {path}"), &line, bytes, WRITE).await.map(drop)
    }

    fn told(act: &str, error: &ssh::Error, holds: &str) -> Diagnostic {
        let told = explain::ssh(act, error, holds);
        match explain::ssh_attribute(error) {
            Some(attribute) => told.at(Path::from("ssh").name(&attribute)),
            None => told,
        }
    }
}

impl WayIn for guest::Session {
    type Error = guest::Error;

    fn place(&self) -> String {
        self.place()
    }

    async fn script(&self, what: &str, script: &str, patience: Duration) -> Result<String, guest::Error> {
        self.script(what, script, patience).await
    }

    async fn write(&self, path: &str, bytes: &[u8], look: &Look, progress: Progress<'_>) -> Result<(), guest::Error> {
        let have = guest::Have { there: &look.staged, gzip: look.gzip };
        self.write(path, bytes, have, progress).await
    }

    fn told(act: &str, error: &guest::Error, holds: &str) -> Diagnostic {
        let told = explain::guest(act, error, holds);
        match explain::guest_attribute(error) {
            Some(attribute) => told.at(Path::from("guest_agent").name(attribute)),
            None => told,
        }
    }
}

/// What takes a while to send.
const LARGE: usize = 1 << 20;
/// For one file.
const WRITE: Duration = Duration::from_secs(600);
