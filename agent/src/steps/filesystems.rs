//! Filesystems on devices of their own: made on a blank device only, grown when the device has grown, never shrunk or wiped.
//!
//! The UUID is known before the filesystem is made, so a cut leaves no doubt. "Blank" is more than "blkid sees nothing": the
//! device's first and last mebibyte are zeros and nothing holds it (node reference 1.13).

use super::Step;
use crate::change::{StepError, Todo, Verb};
use crate::facts;
use crate::host::{Command, Host, HostError, disk, fstab};
use agent_proto::v1::machine::FilesystemSpec;
use std::collections::BTreeMap;

/// Filesystems by device.
pub(super) struct Filesystems(pub(super) BTreeMap<String, FilesystemSpec>);

impl Step for Filesystems {
    fn name(&self) -> &'static str {
        "filesystems"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        for (device, want) in &self.0 {
            if let Some(kind) = facts::container(host) {
                todo.skip(format!("{device}: a container ({kind}) has no disks of its own"));
                continue;
            }
            let uuid = disk::uuid(host, device, want.uuid.as_deref())?;
            let made = disk::resolved(host, &format!("/dev/disk/by-uuid/{uuid}"))?;
            if made.is_none() {
                let format = format(host, device, want, uuid)?;
                todo.push(format!("{device} has no filesystem"), format, "it is declared and the device is blank");
            } else {
                grow(host, device, want, &mut todo).await?;
            }
        }
        Ok(todo)
    }
}

fn format(host: &dyn Host, device: &str, want: &FilesystemSpec, uuid: String) -> Result<Verb, StepError> {
    let what = || format!("making a filesystem on {device}");
    let Some(probe) = host.probe(device)? else {
        return Err(StepError::unsupported(what(), "there is no such device"));
    };
    if probe.busy {
        return Err(StepError::refused(what(), "it is in use"));
    }
    if !probe.zeros {
        return Err(StepError::refused(
            what(),
            "it is not blank; wipe it by hand (wipefs --all) if nothing on it is needed",
        ));
    }
    Ok(Verb::Format { device: device.to_owned(), kind: want.kind.clone(), uuid, label: want.label.clone() })
}

/// Only a mounted filesystem is grown: both kinds can do it then, and nothing has to be checked first.
async fn grow(host: &dyn Host, device: &str, want: &FilesystemSpec, todo: &mut Todo) -> Result<(), StepError> {
    let Some(node) = disk::resolved(host, device)? else { return Ok(()) };
    let mounted = fstab::mounted(&host.text("/proc/self/mountinfo")?.unwrap_or_default());
    let Some(mount) = mounted.iter().find(|mount| mount.source == node) else { return Ok(()) };
    let Some(size) = host.probe(device)?.map(|probe| probe.size) else { return Ok(()) };
    let used = match want.kind.as_str() {
        "xfs" => xfs_size(&ask(host, "/usr/sbin/xfs_info", &[&mount.target]).await?),
        _ => ext4_size(&ask(host, "/usr/sbin/dumpe2fs", &["-h", &node]).await?),
    };
    if used.is_some_and(|used| used + SLACK <= size) {
        let verb = Verb::Grow { kind: want.kind.clone(), device: node, mounted: mount.target.clone() };
        todo.push(format!("{device} is larger than its filesystem"), verb, "the space can be used");
    }
    Ok(())
}

async fn ask(host: &dyn Host, program: &str, args: &[&str]) -> Result<String, HostError> {
    Ok(host.run_ok(&Command::new(program, args.iter().copied()), &|_| ()).await?.stdout)
}

fn ext4_size(header: &str) -> Option<u64> {
    let of = |field: &str| header.lines().find_map(|line| line.strip_prefix(field)?.trim().parse::<u64>().ok());
    of("Block count:")?.checked_mul(of("Block size:")?)
}

/// The line that begins with "data": `data     =  bsize=4096   blocks=2621440, imaxpct=25`
fn xfs_size(info: &str) -> Option<u64> {
    let line = info.lines().find(|line| line.starts_with("data"))?;
    let of = |field: &str| {
        let word = line.split([' ', ',']).find_map(|word| word.strip_prefix(field))?;
        word.parse::<u64>().ok()
    };
    of("bsize=")?.checked_mul(of("blocks=")?)
}

/// A device is a little larger than a whole number of allocation groups; growing by less than this is not worth a change.
const SLACK: u64 = 128 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(ext4_size("Block count:              262144\nBlock size:               4096\n"), Some(1 << 30));
        let info =
            "meta-data=/dev/sdb isize=512\ndata     =                       bsize=4096   blocks=262144, imaxpct=25\n";
        assert_eq!(xfs_size(info), Some(1 << 30));
        assert_eq!(ext4_size(""), None);
    }

    #[test]
    fn any_text_is_answered() {
        total::text("ext4-size", &["Block count: 262144\nBlock size: 4096\n"], ext4_size);
        total::text("xfs-size", &["data     =  bsize=4096   blocks=262144, imaxpct=25\n"], xfs_size);
    }
}
