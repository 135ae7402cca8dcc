//! The only door to the operating system: files, programs, the runtime's socket. Everything else is derived from these.
//!
//! Small files are read synchronously, for a read of `/proc` takes microseconds; what may take time is asynchronous. No path leads
//! through a user's link: that is a [`HostError::Foreign`], whatever was to be done there.
//! [`linux`] is the real machine, `fake` an imitation for tests. `disk`, `dpkg`, `fstab` and `units`
//! understand what the system says.

mod bolt;
pub mod disk;
pub mod dpkg;
pub mod etcd;
#[cfg(test)]
pub(crate) mod fake;
pub mod fstab;
pub mod linux;
pub mod units;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

/// A future kept behind a pointer, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where lines go that a program prints while it runs.
pub type Lines<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A machine.
pub trait Host: Send + Sync {
    /// The time by the machine's clock.
    fn now(&self) -> SystemTime;

    /// The content of a file; `None` if there is none. For the system's own files: what a provider declares is [compared](Self::compare).
    ///
    /// # Errors
    /// When something is there that cannot be read, is no file, or is larger than a file that a provider can bring.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, HostError>;

    /// What stands at a path, links not followed; `None` if nothing does.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn stat(&self, path: &str) -> Result<Option<Stat>, HostError>;

    /// What stands at a path, links not followed, and whether it is a file with this content; `None` if nothing does.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn compare(&self, path: &str, content: &[u8]) -> Result<Option<Compared>, HostError>;

    /// Copies the file at `from` to `to`, as [`write`](Self::write) does, and says what it was that stood there; what is no file is
    /// not copied. `None` if there is nothing.
    ///
    /// # Errors
    /// When it cannot be copied; what stood at `to` then still stands.
    fn copy(&self, from: &str, to: &str, access: Access) -> Result<Option<Stat>, HostError>;

    /// Names in a folder, sorted; none if there is no such folder.
    ///
    /// # Errors
    /// When it cannot be listed.
    fn list(&self, folder: &str) -> Result<Vec<String>, HostError>;

    /// Replaces a file as a whole (temporary file, fsync, rename) and makes the folders it needs.
    ///
    /// # Errors
    /// When it cannot be written, or when a link on the way to it is a user's; the old file then still stands.
    fn write(&self, path: &str, content: &[u8], access: Access) -> Result<(), HostError>;

    /// Makes a symbolic link, in the place of a file or link that stands there.
    ///
    /// # Errors
    /// When it cannot be made; the old file then still stands.
    fn link(&self, path: &str, to: &str) -> Result<(), HostError>;

    /// Removes a file; content if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    fn remove(&self, path: &str) -> Result<(), HostError>;

    /// Writes into a file of the kernel, such as those of `/proc/sys`.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn poke(&self, path: &str, value: &str) -> Result<(), HostError>;

    /// What a block device starts and ends with, and whether something holds it.
    ///
    /// # Errors
    /// When it cannot be read.
    fn probe(&self, device: &str) -> Result<Option<Probe>, HostError>;

    /// Runs a program to its end. A non-zero exit is an [`Output`], not an error.
    ///
    /// **Cancel:** a program that is a [unit](Command::unit) goes on, others are killed.
    fn run<'a>(&'a self, command: &'a Command, lines: Lines<'a>) -> BoxFuture<'a, Result<Output, HostError>>;

    /// Waits for programs that an earlier agent has started as units and left behind.
    fn settle<'a>(&'a self, lines: Lines<'a>) -> BoxFuture<'a, Result<(), HostError>>;

    /// What a container runtime says about itself on its CRI socket.
    fn runtime<'a>(&'a self, socket: &'a str) -> BoxFuture<'a, Result<Runtime, HostError>>;

    /// The etcd of the cluster that this machine is a control plane of.
    fn etcd(&self) -> &dyn etcd::Etcd {
        &etcd::Nowhere
    }
}

impl dyn Host + '_ {
    /// The text of a file; `None` if there is none. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn text(&self, path: &str) -> Result<Option<String>, HostError> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Mode and owner for what replaces the file at a path: those that it has, without set-user-ID and its like. A link has none of
    /// its own, and 0777 is no mode to take.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn access(&self, path: &str) -> Result<Access, HostError> {
        let stat = self.stat(path)?.filter(|stat| !matches!(stat.kind, Kind::Link(_)));
        Ok(stat.map_or(Access::OPEN, |stat| stat.access.without_privileges()))
    }

    /// Whether anything stands at a path.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn exists(&self, path: &str) -> Result<bool, HostError> {
        Ok(self.stat(path)?.is_some())
    }

    /// Runs a program that must end well.
    ///
    /// # Errors
    /// When it does not, with the last lines it printed.
    pub async fn run_ok(&self, command: &Command, lines: Lines<'_>) -> Result<Output, HostError> {
        let output = self.run(command, lines).await?;
        if output.code == Some(0) { Ok(output) } else { Err(HostError::failed(command, &output)) }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// File, folder, …
    pub kind: Kind,
    /// Who may do what with it.
    pub access: Access,
    /// When its content was last changed.
    pub modified: SystemTime,
}

/// What stands at a path, compared with what should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// What it is.
    pub stat: Stat,
    /// It is a file, and has the content.
    pub same: bool,
}

/// Kinds of things in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link and where it leads.
    Link(String),
    /// A device, socket or pipe.
    Other,
}

/// Mode and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Access {
    /// Root's, readable by all.
    pub const OPEN: Self = Self { mode: 0o644, uid: 0, gid: 0 };
    /// Root's alone.
    pub const PRIVATE: Self = Self { mode: 0o600, uid: 0, gid: 0 };

    /// Without the bits by which a program runs as its owner or group: they belong to a content, not to a path.
    #[must_use]
    pub fn without_privileges(self) -> Self {
        Self { mode: self.mode & !0o6000, ..self }
    }
}

/// What can be said about a block device before it is formatted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Size in bytes.
    pub size: u64,
    /// First and last mebibyte hold nothing but zeros.
    pub zeros: bool,
    /// Mounted, part of something, or otherwise in use.
    pub busy: bool,
}

/// What a container runtime says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// "containerd"
    pub name: String,
    /// "1.7.24"
    pub version: String,
    /// Why it is not ready, readable.
    pub complaint: Option<String>,
    /// What else it finds wrong, such as its deprecations: no obstacle.
    pub warnings: Vec<String>,
}

/// A program with its arguments; never a shell line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Absolute path.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Additions to the environment.
    pub env: Vec<(String, String)>,
    /// Given to the program's standard input.
    pub stdin: Option<Vec<u8>>,
    /// Life of the program.
    pub timeout: Duration,
    /// Run as the transient systemd unit `groundwork-op-<this>`, which survives the agent.
    pub unit: Option<String>,
}

impl Command {
    /// A program that takes seconds at most.
    #[must_use]
    pub fn new<A: Into<String>>(program: &str, args: impl IntoIterator<Item = A>) -> Self {
        Self {
            program: program.to_owned(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            stdin: None,
            timeout: Duration::from_secs(60),
            unit: None,
        }
    }

    /// With an addition to its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this on its standard input. Not for units.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// With another life span.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// As a transient unit: it goes on when the agent is restarted, and the next run waits for it.
    #[must_use]
    pub fn unit(mut self, name: &str) -> Self {
        self.unit = Some(name.to_owned());
        self
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

/// How a program ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    /// For a unit: what it printed on either.
    pub stdout: String,
    /// What it printed as errors.
    pub stderr: String,
}

/// Something the machine did not do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file operation.
    #[error("cannot {act} {path}")]
    File {
        /// "read", "write", …
        act: &'static str,
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A path that leads through a user's link.
    #[error("cannot {act} {path}: {why}")]
    Foreign {
        /// "read", "write", …
        act: &'static str,
        /// Which.
        path: String,
        /// Whose link, and what to do.
        why: String,
    },
    /// A program that could not be started or followed.
    #[error("cannot run {program}")]
    Spawn {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program that ended badly.
    #[error("{command} ended with {status}{}", reason(tail).map(|line| format!(": {line}")).unwrap_or_default())]
    Failed {
        /// Program and arguments.
        command: String,
        /// "exit code 1", "a signal"
        status: String,
        /// The last lines it printed.
        tail: Vec<String>,
    },
    /// A program that took too long.
    #[error("{command} did not end within {after_s} s")]
    TimedOut {
        /// Program and arguments.
        command: String,
        /// Its life span.
        after_s: u64,
    },
    /// A CRI socket that does not answer as one.
    #[error("no container runtime answers on {socket}: {why}")]
    Runtime {
        /// Which.
        socket: String,
        /// Why.
        why: String,
    },
    /// A member of etcd that does not answer as one.
    #[error("the member of etcd at {at} does not answer: {why}")]
    Etcd {
        /// `host:port`
        at: String,
        /// Why.
        why: String,
    },
    /// A file that is no snapshot of etcd, or a damaged one.
    #[error("{path} is no snapshot of etcd that can be used: {why}")]
    NoSnapshot {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
}

impl HostError {
    pub(crate) fn failed(command: &Command, output: &Output) -> Self {
        let status = output.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        let printed = output.stdout.lines().chain(output.stderr.lines()).rev().filter(|line| !line.trim().is_empty());
        let mut tail: Vec<String> = printed.take(TAIL).map(|line| line.chars().take(LINE).collect()).collect();
        tail.reverse();
        let first = output.stdout.lines().chain(output.stderr.lines()).find(|line| line.starts_with(APT_ERROR));
        // Many a warning can follow it.
        if let Some(first) = first.filter(|_| !tail.iter().any(|line| line.starts_with(APT_ERROR))) {
            tail.insert(0, first.chars().take(LINE).collect());
        }
        Self::Failed { command: command.to_string(), status, tail }
    }

    /// The last lines printed by the program that failed.
    #[must_use]
    pub fn tail(&self) -> &[String] {
        if let Self::Failed { tail, .. } = self { tail } else { &[] }
    }
}

/// Which line says why a program failed: apt's first error, for what follows it are often its harmless warnings; otherwise the last.
fn reason(tail: &[String]) -> Option<&String> {
    tail.iter().find(|line| line.starts_with(APT_ERROR)).or_else(|| tail.last())
}

const APT_ERROR: &str = "E: ";
/// Lines of a failed program's output that are kept.
const TAIL: usize = 20;
/// Characters of each.
const LINE: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_error_is_said_and_not_its_warning() {
        let stdout = "Ign:1 cdrom://[Debian] bookworm InRelease\n\
                      E: The repository 'cdrom://[Debian] bookworm Release' does not have a Release file.\n\
                      N: Updating from such a repository can't be done securely.\n\
                      W: Target Packages is configured multiple times\n";
        let stdout = stdout.to_owned() + &"W: And again\n".repeat(TAIL);
        let output = Output { code: Some(100), stdout, ..Output::default() };
        let said = HostError::failed(&Command::new("/usr/bin/apt-get", ["update"]), &output).to_string();
        let want = "/usr/bin/apt-get update ended with exit code 100: E: The repository 'cdrom://[Debian] bookworm Release' does not \
                    have a Release file.";
        assert_eq!(said, want);
        let output = Output { code: Some(1), stderr: "one\ntwo\n".to_owned(), ..Output::default() };
        assert!(HostError::failed(&Command::new("/bin/x", [""; 0]), &output).to_string().ends_with("exit code 1: two"));
    }
}
