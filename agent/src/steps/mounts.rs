//! Mounts: a block of our own in `/etc/fstab`, mounted through PID 1 so that everybody sees them.
//!
//! Source: fstab(5), systemd.mount(5), systemd-escape(1). Somebody else's line for the same place is commented out, as is done for
//! swap. A mounted filesystem is never unmounted: changed options hold from the next mount on.

use crate::facts;
use crate::host::fstab::{self, Mounted};
use crate::host::{Access, Host, HostError, disk};
use crate::spec::{Filesystem, Mount};
use crate::step::{Act, File, Step, StepError, Todo, Verb};
use std::collections::BTreeMap;

/// Mounts by mount point.
pub(super) struct Mounts {
    /// As they are declared.
    pub(super) wanted: BTreeMap<String, Mount>,
    /// Filesystems of ours, which are mounted by their UUID.
    pub(super) filesystems: BTreeMap<String, Filesystem>,
}

impl Step for Mounts {
    fn name(&self) -> &'static str {
        "mounts"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        let present = host.text(FSTAB)?.unwrap_or_default();
        if self.wanted.is_empty() && !present.contains(BEGIN) {
            return Ok(todo);
        }
        let lines = self.lines(host)?;
        let text = with_block(&present, &lines, |target| self.wanted.contains_key(target));
        if text != present {
            let access = host.stat(FSTAB)?.map_or(Access::OPEN, |stat| stat.access);
            let file = File { access, ..File::ours(FSTAB, text) };
            todo.push(
                format!("{FSTAB} does not list the mounts as declared"),
                Verb::Write(file),
                "the mounts at the next boot",
            );
        }
        let mounted = fstab::mounted(&host.text("/proc/self/mountinfo")?.unwrap_or_default());
        let mut absent = Todo::default();
        for (target, want) in &self.wanted {
            now(host, target, &self.source(host, want)?, &mounted, &mut absent)?;
        }
        // Before every mount, for nothing tells whether an earlier run came to it after writing.
        if !todo.changes.is_empty() || !absent.changes.is_empty() {
            todo.push("systemd makes its mount units anew", Verb::Reload, "they come from /etc/fstab");
        }
        todo.changes.append(&mut absent.changes);
        todo.skipped.append(&mut absent.skipped);
        Ok(todo)
    }
}

impl Mounts {
    fn lines(&self, host: &dyn Host) -> Result<Vec<String>, HostError> {
        self.wanted.iter().map(|(target, want)| self.line(host, target, want)).collect()
    }

    fn line(&self, host: &dyn Host, target: &str, want: &Mount) -> Result<String, HostError> {
        let source = self.source(host, want)?;
        let kind = want.kind.clone().or_else(|| Some(self.filesystems.get(&want.source)?.kind.clone()));
        let kind = kind.unwrap_or_else(|| "auto".to_owned());
        let options = if want.options.is_empty() { DEFAULTS.to_owned() } else { want.options.join(",") };
        let pass = if kind == "ext4" { 2 } else { 0 };
        Ok(format!("{} {} {kind} {options} 0 {pass}", fstab::escape(&source), fstab::escape(target)))
    }

    fn source(&self, host: &dyn Host, want: &Mount) -> Result<String, HostError> {
        let Some(filesystem) = self.filesystems.get(&want.source) else { return Ok(want.source.clone()) };
        Ok(format!("UUID={}", disk::uuid(host, &want.source, filesystem.uuid.as_deref())?))
    }
}

/// What is wrong with the mount as the kernel sees it.
fn now(host: &dyn Host, target: &str, source: &str, mounted: &[Mounted], todo: &mut Todo) -> Result<(), StepError> {
    if let (Some(device), Some(kind)) = (device(source), facts::container(host)) {
        todo.skip(format!("{target}: a container ({kind}) does not mount {device}"));
        return Ok(());
    }
    // The last one covers those before it.
    let Some(found) = mounted.iter().rfind(|mount| mount.target == target) else {
        let start = Verb::Unit { unit: unit(target), act: Act::Start };
        todo.push(format!("{target} is not mounted"), start, "the mount now");
        return Ok(());
    };
    let expected = device(source).map(|device| disk::resolved(host, &device)).transpose()?.flatten();
    let actual = disk::resolved(host, &found.source)?.unwrap_or_else(|| found.source.clone());
    if expected.is_some_and(|expected| expected != actual) {
        let why = format!("{} is mounted there; unmount it first", found.source);
        return Err(StepError::refused(format!("mounting {source} at {target}"), why));
    }
    Ok(())
}

/// The device a source means, by a stable name.
fn device(source: &str) -> Option<String> {
    let by = |tag: &str, folder: &str| Some(format!("/dev/disk/{folder}/{}", source.strip_prefix(tag)?));
    let tagged = by("UUID=", "by-uuid").or_else(|| by("LABEL=", "by-label")).or_else(|| by("PARTUUID=", "by-partuuid"));
    tagged.or_else(|| source.starts_with("/dev/").then(|| source.to_owned()))
}

/// The text with our block replaced, and with the lines of others for the same targets commented out.
fn with_block(present: &str, lines: &[String], is_ours: impl Fn(&str) -> bool) -> String {
    let (mut text, mut inside) = (String::new(), false);
    for line in present.lines() {
        inside |= line == BEGIN;
        if !inside {
            let taken = fstab::entry(line).is_some_and(|entry| is_ours(&entry.target));
            text.push_str(if taken { "# groundwork: " } else { "" });
            text.push_str(line);
            text.push('\n');
        }
        inside &= line != END;
    }
    if !lines.is_empty() {
        text.push_str(&format!("{BEGIN}\n{}\n{END}\n", lines.join("\n")));
    }
    text
}

/// The mount unit of a path, as `systemd-escape --path --suffix=mount` prints it.
fn unit(path: &str) -> String {
    let mut name = String::new();
    for (index, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b':' => name.push(char::from(byte)),
            other => name.push_str(&format!("\\x{other:02x}")),
        }
    }
    format!("{name}.mount")
}

const FSTAB: &str = "/etc/fstab";
const BEGIN: &str = "# BEGIN groundwork";
const END: &str = "# END groundwork";
const DEFAULTS: &str = "defaults,noatime,nofail,x-systemd.device-timeout=30s";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_replaced_and_a_rival_commented_out() {
        let before = "UUID=1 / ext4 defaults 0 1\n/dev/sdb /data ext4 defaults 0 2\n";
        let lines = ["UUID=2 /data ext4 noatime 0 2".to_owned()];
        let after = with_block(before, &lines, |target| target == "/data");
        let expected = "UUID=1 / ext4 defaults 0 1\n# groundwork: /dev/sdb /data ext4 defaults 0 2\n\
                        # BEGIN groundwork\nUUID=2 /data ext4 noatime 0 2\n# END groundwork\n";
        assert_eq!(after, expected);
        assert_eq!(with_block(&after, &lines, |target| target == "/data"), expected, "twice is once");
        assert!(!with_block(&after, &[], |_| false).contains("BEGIN"));
    }

    #[test]
    fn a_path_becomes_a_unit() {
        assert_eq!(unit("/var/lib/longhorn"), "var-lib-longhorn.mount");
        assert_eq!(unit("/srv/my-data"), "srv-my\\x2ddata.mount");
    }

    #[test]
    fn a_source_names_its_device() {
        assert_eq!(device("UUID=1").as_deref(), Some("/dev/disk/by-uuid/1"));
        assert_eq!(device("/dev/disk/by-id/x").as_deref(), Some("/dev/disk/by-id/x"));
        assert_eq!(device("server:/export"), None);
    }
}
