//! `groundwork-agent seal`: makes this machine a template. What tells it from its clones goes: a clone gets its own.
//!
//! Run as root on the machine, right before it is turned off for good; repeating it does no harm. Sources: systemd's "Building
//! Images", machine-id(5), random-seed; cloud-init's command `clean`, which knows what cloud-init itself has left.

use crate::clone::{DBUS, MACHINE_ID};
use crate::cluster;
use crate::host::{Access, Command, Host, HostError, Kind, units};
use crate::state::{State, StateError};
use std::error::Error;
use std::time::Duration;

type Done = Result<(), Box<dyn Error>>;

/// A machine that cannot be a template.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Its clones would all be the same node.
    #[error(
        "this machine is a node of a Kubernetes cluster ({0}), and its clones would be, too; take it out of the cluster first. \
         Nothing was changed"
    )]
    Node(String),
    /// The machine did not do something.
    #[error("the machine is not sealed; what was said above is done, and the command can be repeated")]
    Host(#[from] HostError),
    /// The agent's own folder.
    #[error("the machine is not sealed; what was said above is done, and the command can be repeated")]
    State(#[from] StateError),
}

/// Takes away what is this machine's alone, and says each thing.
///
/// # Errors
/// When the machine is a cluster's node, or something cannot be taken away.
pub async fn seal(host: &dyn Host, state: &State, say: fn(&str) -> Done) -> Done {
    let evidence = cluster::status(host, state).await?.evidence;
    if evidence.standing != cluster::Standing::Clean {
        return Err(SealError::Node(evidence.found.join(", ")).into());
    }
    agent(host, state, say).await?;
    cloud_init(host, say).await?;
    machine(host, say).await?;
    logs(host, say).await?;
    say("Sealed. Turn the machine off now, make it a template, and do not start it again: that would undo this.")
}

/// The agent stops for good, and forgets.
async fn agent(host: &dyn Host, state: &State, say: fn(&str) -> Done) -> Done {
    let unit = units::units(host, &[UNIT]).await.map_err(SealError::from)?.remove(UNIT).unwrap_or_default();
    if unit.known && (unit.active || unit.enabled) {
        run(host, units::SYSTEMCTL, &["disable", "--now", UNIT]).await?;
        say("stopped and disabled the agent: the seed of a clone brings and starts its own")?;
    }
    if !state.list("").map_err(SealError::from)?.is_empty() {
        state.clear(&[]).map_err(SealError::from)?;
        say("removed the agent's identity, records, originals and enrolment")?;
    }
    remove(host, HOSTNAME, "removed the setting that keeps this machine's host name", say)
}

/// A clone is a new instance to cloud-init by its own seed; what this one's made is not to meet it.
async fn cloud_init(host: &dyn Host, say: fn(&str) -> Done) -> Done {
    if !host.exists(CLOUD_INIT).map_err(SealError::from)? {
        return say("there is no cloud-init: clones will get neither a name nor an agent from `groundwork_vm`");
    }
    if host.exists("/var/lib/cloud/instance").map_err(SealError::from)?
        || host.exists(CLOUD_LOG).map_err(SealError::from)?
    {
        run(host, CLOUD_INIT, &["clean", "--logs"]).await?;
        say("removed what cloud-init knew of this machine (cloud-init clean --logs)")?;
    }
    for folder in NETWORK_FOLDERS {
        for name in host.list(folder).map_err(SealError::from)? {
            if name.contains("cloud-init") {
                let path = format!("{folder}/{name}");
                remove(host, &path, &format!("removed {path}, this machine's network configuration"), say)?;
            }
        }
    }
    // cloud-init makes new ones, and nobody else would.
    for name in host.list(SSH).map_err(SealError::from)? {
        if name.starts_with("ssh_host_") {
            let path = format!("{SSH}/{name}");
            remove(host, &path, &format!("removed {path}"), say)?;
        }
    }
    Ok(())
}

/// The machine-id and what is derived from it.
async fn machine(host: &dyn Host, say: fn(&str) -> Done) -> Done {
    let id = host.text(MACHINE_ID).map_err(SealError::from)?.unwrap_or_default().trim().to_owned();
    if !id.is_empty() {
        host.write(MACHINE_ID, b"", Access { mode: 0o444, ..Access::OPEN }).map_err(SealError::from)?;
        say(&format!("emptied {MACHINE_ID}: every clone gets an id of its own"))?;
    }
    // Where it is a link, it leads to the one that is empty now.
    if host.stat(DBUS).map_err(SealError::from)?.is_some_and(|stat| stat.kind == Kind::File) {
        remove(host, DBUS, &format!("removed {DBUS}"), say)?;
    }
    for path in SECRETS {
        remove(host, path, &format!("removed {path}"), say)?;
    }
    for folder in LEASES {
        for name in host.list(folder).map_err(SealError::from)? {
            if name.contains("lease") {
                remove(host, &format!("{folder}/{name}"), &format!("removed {folder}/{name}"), say)?;
            }
        }
    }
    Ok(())
}

/// The journal lies in a folder named after the machine-id.
async fn logs(host: &dyn Host, say: fn(&str) -> Done) -> Done {
    for name in host.list(JOURNAL).map_err(SealError::from)? {
        if name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            run(host, "/usr/bin/rm", &["-rf", "--", &format!("{JOURNAL}/{name}")]).await?;
            say(&format!("removed the journal {JOURNAL}/{name}"))?;
        }
    }
    Ok(())
}

fn remove(host: &dyn Host, path: &str, told: &str, say: fn(&str) -> Done) -> Done {
    if host.exists(path).map_err(SealError::from)? {
        host.remove(path).map_err(SealError::from)?;
        say(told)?;
    }
    Ok(())
}

async fn run(host: &dyn Host, program: &str, args: &[&str]) -> Done {
    let command = Command::new(program, args.iter().copied()).timeout(PATIENCE);
    host.run_ok(&command, &|_| ()).await.map_err(SealError::from)?;
    Ok(())
}

const UNIT: &str = "groundwork-agent.service";
const HOSTNAME: &str = "/etc/cloud/cloud.cfg.d/99-zz-groundwork.cfg";
const CLOUD_INIT: &str = "/usr/bin/cloud-init";
const CLOUD_LOG: &str = "/var/log/cloud-init.log";
const NETWORK_FOLDERS: [&str; 3] = ["/etc/netplan", "/etc/systemd/network", "/etc/network/interfaces.d"];
const SSH: &str = "/etc/ssh";
const SECRETS: [&str; 2] = ["/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret"];
const LEASES: [&str; 3] = ["/var/lib/dhcp", "/var/lib/dhclient", "/var/lib/NetworkManager"];
const JOURNAL: &str = "/var/log/journal";
/// The agent may have a change to finish.
const PATIENCE: Duration = Duration::from_secs(90);
