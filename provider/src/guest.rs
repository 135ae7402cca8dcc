//! The way into a VM through QEMU's guest agent, for as long as it has no agent of ours: run a script as root, write a file. Proxmox VE
//! carries it, so that neither an account nor an open port of the machine is needed.
//!
//! Start with [`Way`], which says to which VM, and [`Session`], which is there once [`connect`] has found that the guest agent answers and
//! is allowed to do it. A script is the input of `/bin/sh`, so that nothing of it stands in a list of processes. A file goes up in parts of
//! what one call takes: a part that is there already is not sent again. What an error means for a user is said in `crate::explain`.

mod error;
mod parts;

pub(crate) use error::Error;
pub(crate) use parts::Have;

use crate::output;
use pve::{AgentCommand, Class, Client, GuestKind, NodeName, Settings, Vm, Vmid};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// To which VM.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) vmid: Vmid,
    /// Where it is looked for first.
    pub(crate) node: Option<NodeName>,
    /// How long a guest agent may take to answer at all: the machine may be starting.
    pub(crate) timeout: Duration,
}

/// How long to wait, and what ends the wait early.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) deadline: Instant,
    pub(crate) stop: CancellationToken,
}

/// A VM whose guest agent does what is asked.
pub(crate) struct Session {
    client: Client,
    limits: Limits,
    node: NodeName,
    vmid: Vmid,
}

/// Finds the VM, and waits for as long as the way's `timeout` until its guest agent answers.
pub(crate) async fn connect(
    client: &Client,
    way: &Way,
    limits: &Limits,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<Session, Error> {
    let client = client.within(limits.deadline, &limits.stop);
    let node = find(&client, way).await?;
    let session = Session { client, limits: limits.clone(), node, vmid: way.vmid };
    session.runs().await?;
    let commands = session.answers(way.timeout, progress).await?;
    session.is_linux(&commands).await?;
    session.is_allowed(&commands)?;
    Ok(session)
}

/// The addresses that the guest agent tells of the VM, wherever that is now; none where nobody can say.
pub(crate) async fn addresses(client: &Client, way: &Way) -> Vec<IpAddr> {
    let asked = async || {
        let node = find(client, way).await?;
        let vm = client.vm(&node, way.vmid);
        let failed = |source| Error::Pve { during: ADDRESSES.to_owned(), source };
        if !vm.status().await.map_err(failed)?.is_running() {
            return Ok(Vec::new());
        }
        addresses_of(&vm).await.map_err(failed)
    };
    asked().await.unwrap_or_else(|error: Error| {
        tracing::debug!(vmid = way.vmid.get(), error = tf::chain(&error), "no address is told");
        Vec::new()
    })
}

async fn addresses_of(vm: &Vm<'_>) -> Result<Vec<IpAddr>, pve::Error> {
    let settings: Settings = vm.pending().await?;
    vm.agent_addresses(&settings).await
}

/// The node of the VM: VMs move.
async fn find(client: &Client, way: &Way) -> Result<NodeName, Error> {
    let failed = |source| Error::Pve { during: format!("looking for VM {}", way.vmid), source };
    if let Some(node) = &way.node {
        match client.vm(node, way.vmid).status().await {
            Ok(_) => return Ok(node.clone()),
            Err(error) if error.is(Class::NoGuest) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let guests = client.cluster().guests_now().await.map_err(failed)?;
    match guests.find(way.vmid) {
        Some(guest) if guest.kind == GuestKind::Qemu => Ok(guest.node.clone()),
        Some(_) => Err(Error::NoVm { vmid: way.vmid, found: "a container" }),
        None => Err(Error::NoVm { vmid: way.vmid, found: "no guest" }),
    }
}

impl Session {
    /// `VM 120`
    pub(crate) fn place(&self) -> String {
        format!("VM {}", self.vmid)
    }

    /// The addresses of its own cards, as the guest agent sees them now.
    pub(crate) async fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        addresses_of(&self.vm()).await.map_err(|error| self.failed(ADDRESSES, error))
    }

    /// Runs a script of ASCII letters as root, which must succeed.
    pub(crate) async fn script(&self, what: &str, script: &str, patience: Duration) -> Result<String, Error> {
        debug_assert!(script.is_ascii() && script.len() <= INPUT, "{what}");
        let began = Instant::now();
        let pid = self.vm().agent_exec(SHELL, script).await.map_err(|error| self.failed(what, error))?;
        let exit = loop {
            match self.vm().agent_exec_status(pid).await {
                Ok(Some(exit)) => break exit,
                Ok(None) => {}
                // It is busy; the script goes on.
                Err(error) if error.is(Class::NoAgent) => {}
                Err(error) => return Err(self.failed(what, error)),
            }
            if began.elapsed() > patience {
                let after_s = patience.as_secs();
                return Err(Error::TooLong { vmid: self.vmid, what: what.to_owned(), after_s });
            }
            // At first as fast as the calls are, which take some tenths of a second themselves.
            self.pause((began.elapsed() / 4).clamp(SOON, PAUSE), what).await?;
        };
        if exit.code == Some(0) {
            return Ok(exit.stdout);
        }
        let status = exit.code.map_or_else(|| "a signal".to_owned(), |code| format!("status {code}"));
        let output = output::last_lines(&exit.stdout, &exit.stderr);
        Err(Error::Failed { vmid: self.vmid, what: what.to_owned(), status, output })
    }

    fn vm(&self) -> Vm<'_> {
        self.client.vm(&self.node, self.vmid)
    }

    async fn runs(&self) -> Result<(), Error> {
        let status = self.vm().status().await.map_err(|error| self.failed("looking at the VM", error))?;
        let off = |status: &str| Error::Off { vmid: self.vmid, node: self.node.clone(), status: status.to_owned() };
        if !status.is_running() {
            return Err(off(&status.status));
        }
        if status.is_paused() { Err(off("paused")) } else { Ok(()) }
    }

    async fn answers(
        &self,
        timeout: Duration,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Vec<AgentCommand>, Error> {
        let until = Instant::now() + timeout;
        let mut told = false;
        loop {
            let source = match self.vm().agent_commands().await {
                Err(error) if error.is(Class::NoAgent) => error,
                answer => return answer.map_err(|error| self.failed("asking the guest agent", error)),
            };
            if Instant::now() + PAUSE > until {
                return Err(Error::Silent { vmid: self.vmid, after_s: timeout.as_secs(), source });
            }
            if !told {
                let place = self.place();
                progress(&format!(
                    "{place}: its guest agent does not answer; asking again for {} s",
                    timeout.as_secs()
                ));
                told = true;
            }
            self.pause(PAUSE, "the guest agent's answer").await?;
        }
    }

    async fn is_linux(&self, commands: &[AgentCommand]) -> Result<(), Error> {
        if !is_enabled(commands, "guest-get-osinfo") {
            return Ok(());
        }
        let os = self.vm().agent_os().await.map_err(|error| self.failed("asking for the guest's system", error))?;
        // A program that is not there costs five seconds, and the answer is lost: there is no shell to ask.
        if os.id == WINDOWS { Err(Error::NotLinux { vmid: self.vmid, system: os.name }) } else { Ok(()) }
    }

    fn is_allowed(&self, commands: &[AgentCommand]) -> Result<(), Error> {
        let missing = NEEDED.iter().filter(|name| !is_enabled(commands, name));
        let commands: Vec<String> = missing.map(|&name| name.to_owned()).collect();
        if commands.is_empty() { Ok(()) } else { Err(Error::Forbidden { vmid: self.vmid, commands }) }
    }

    fn failed(&self, during: &str, source: pve::Error) -> Error {
        match source {
            pve::Error::Stopped { .. } => Error::Stopped,
            pve::Error::Deadline { .. } => Error::Deadline { what: during.to_owned() },
            source => Error::Pve { during: during.to_owned(), source },
        }
    }

    async fn pause(&self, pause: Duration, what: &str) -> Result<(), Error> {
        let wake = Instant::now() + pause;
        if wake > self.limits.deadline {
            return Err(Error::Deadline { what: what.to_owned() });
        }
        // Both arms are cancel-safe: a token and a timer.
        tokio::select! {
            () = self.limits.stop.cancelled() => Err(Error::Stopped),
            () = tokio::time::sleep_until(wake) => Ok(()),
        }
    }
}

fn is_enabled(commands: &[AgentCommand], name: &str) -> bool {
    commands.iter().any(|command| command.enabled && command.name == name)
}

const SHELL: &str = "/bin/sh";
/// Bytes of a script. Source: the API's schema, 8.2 and 9.1.
const INPUT: usize = 64 << 10;
const ADDRESSES: &str = "asking for the VM's addresses";
/// As QEMU's guest agent calls it.
const WINDOWS: &str = "mswindows";
const NEEDED: [&str; 5] =
    ["guest-exec", "guest-exec-status", "guest-file-open", "guest-file-write", "guest-file-close"];
const PAUSE: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(50);
