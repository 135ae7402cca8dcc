//! Kernel modules: loaded now, and listed for the next boot.
//!
//! Source: modules-load.d(5), modprobe(8). A module that is built in is as good as loaded. A container uses its host's kernel:
//! there only the list is kept. Lines that keep a module out are switched off (`blocked`).

mod blocked;

use super::Step;
use crate::change::{self, File, StepError, Todo, Verb};
use crate::facts;
use crate::host::{Host, HostError};
use std::collections::BTreeSet;

pub(super) struct KernelModules(pub(super) BTreeSet<String>);

impl Step for KernelModules {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        // What keeps modules out comes back when none is wanted.
        let mut todo = change::restores(host, NAME, |_| !self.0.is_empty())?;
        self.listed(host, &mut todo)?;
        let absent = self.absent(host)?;
        if facts::container(host).is_none() {
            blocked::by_kernel(host, &self.0)?;
        }
        blocked::by_files(host, &self.0, &mut todo)?;
        if absent.is_empty() {
            return Ok(todo);
        }
        if let Some(kind) = facts::container(host) {
            todo.skip(format!("{}: a container ({kind}) uses its host's kernel", absent.join(", ")));
            return Ok(todo);
        }
        let kernel = host.text("/proc/sys/kernel/osrelease")?.unwrap_or_default();
        if !host.exists(&format!("/lib/modules/{}", kernel.trim()))? {
            let why = format!("the modules of the running kernel {} are gone; restart the machine", kernel.trim());
            return Err(StepError::unsupported(format!("loading {}", absent.join(", ")), why));
        }
        for name in absent {
            todo.push(format!("{name} is not loaded"), Verb::Load(name.to_owned()), "the kernel needs it now");
        }
        Ok(todo)
    }
}

impl KernelModules {
    fn listed(&self, host: &dyn Host, todo: &mut Todo) -> Result<(), StepError> {
        let present = host.text(FILE)?;
        if self.0.is_empty() {
            if present.is_some() {
                todo.push(format!("{FILE} is no longer wanted"), Verb::Remove(FILE.to_owned()), "nothing is declared");
            }
            return Ok(());
        }
        let want: String =
            std::iter::once(HEAD.to_owned()).chain(self.0.iter().map(|name| format!("{name}\n"))).collect();
        if present.as_deref() != Some(&want) {
            let finding = if present.is_some() { "does not list the modules as declared" } else { "is missing" };
            todo.push(
                format!("{FILE} {finding}"),
                Verb::Write(File::ours(FILE, want)),
                "the modules after the next boot",
            );
        }
        Ok(())
    }

    fn absent(&self, host: &dyn Host) -> Result<Vec<&str>, HostError> {
        let mut absent = Vec::new();
        let (mut loaded, mut builtin) = (None, None);
        for name in &self.0 {
            let plain = plain(name);
            // A built-in module without parameters has no folder in /sys: the kernel's own list knows it.
            if host.exists(&format!("/sys/module/{plain}"))? {
                continue;
            }
            if loaded.is_none() {
                loaded = Some(host.text("/proc/modules")?.unwrap_or_default());
                builtin = Some(list_of_builtin(host)?);
            }
            let is_loaded = loaded.iter().flat_map(|text| text.lines()).any(|line| is_loaded(line, &plain));
            if !is_loaded && !builtin.iter().flat_map(|text| text.lines()).any(|line| is_builtin(line, &plain)) {
                absent.push(name.as_str());
            }
        }
        Ok(absent)
    }
}

fn list_of_builtin(host: &dyn Host) -> Result<String, HostError> {
    let kernel = host.text("/proc/sys/kernel/osrelease")?.unwrap_or_default();
    Ok(host.text(&format!("/lib/modules/{}/modules.builtin", kernel.trim()))?.unwrap_or_default())
}

/// "virtio_net 65536 0 - Live 0x0"
fn is_loaded(line: &str, name: &str) -> bool {
    line.split(' ').next() == Some(name)
}

/// "kernel/fs/overlayfs/overlay.ko"
fn is_builtin(line: &str, name: &str) -> bool {
    let file = line.rsplit('/').next().unwrap_or_default();
    plain(file.split(".ko").next().unwrap_or_default()) == name
}

/// Dashes and underscores are the same.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

const NAME: &str = "kernel_modules";
const FILE: &str = "/etc/modules-load.d/groundwork.conf";
const HEAD: &str = "# Written by Groundwork; changes made here are taken back.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_line_is_answered() {
        let loaded = "virtio_net 65536 0 - Live 0x0";
        assert!(is_loaded(loaded, "virtio_net") && !is_loaded(loaded, "virtio"));
        total::text("proc-modules", &[loaded], |line| is_loaded(line, "virtio_net"));
        total::text("modules-builtin", &["kernel/fs/overlayfs/overlay.ko"], |line| is_builtin(line, "overlay"));
    }
}
