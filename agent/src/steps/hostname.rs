//! The machine's name, in the kernel and in `/etc/hostname`; cloud-init must not set it back at the next boot.
//!
//! Source: hostname(5); cloud-init, module `update_hostname`. A name that a kubelet has joined with stays: its certificate
//! carries it.

use crate::host::Host;
use crate::step::{File, Step, StepError, Todo, Verb};

pub(super) struct Hostname(pub(super) Option<String>);

impl Step for Hostname {
    fn name(&self) -> &'static str {
        "hostname"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        let Some(want) = &self.0 else {
            if host.exists(CLOUD)? {
                todo.push(format!("{CLOUD} is ours"), Verb::Remove(CLOUD.to_owned()), "no name is declared any more");
            }
            return Ok(todo);
        };
        let live = host.text(LIVE)?.unwrap_or_default();
        let written = host.text(FILE)?.unwrap_or_default();
        if live.trim() != want && host.exists(KUBELET)? {
            let why = format!("this machine is a cluster's node {:?}; take it out of the cluster first", live.trim());
            return Err(StepError::refused(format!("the name {want:?}"), why));
        }
        // First, for it wins at the next boot.
        if host.text(CLOUD)?.as_deref() != Some(KEEP) && host.exists("/etc/cloud")? {
            let file = File::ours(CLOUD, KEEP);
            todo.push(format!("{CLOUD} is not as wanted"), Verb::Write(file), "cloud-init sets the name at every boot");
        }
        if written.trim() != want {
            let file = File::ours(FILE, format!("{want}\n"));
            todo.push(format!("{FILE} says {:?}", written.trim()), Verb::Write(file), "the name at the next boot");
        }
        if live.trim() != want {
            let set = Verb::Set { path: LIVE.to_owned(), value: want.clone() };
            todo.push(format!("the name is {:?}", live.trim()), set, "the name now");
        }
        Ok(todo)
    }
}

const LIVE: &str = "/proc/sys/kernel/hostname";
const FILE: &str = "/etc/hostname";
const CLOUD: &str = "/etc/cloud/cloud.cfg.d/99-zz-groundwork.cfg";
const KEEP: &str = "# Groundwork keeps the host name.\npreserve_hostname: true\n";
const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
