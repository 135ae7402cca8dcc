//! Mounts: a block of our own in `/etc/fstab`, mounted through PID 1 so that everybody sees them.
//!
//! Source: fstab(5), systemd.mount(5), systemd-escape(1). Somebody else's line for the same place is commented out, as is done for
//! swap, and comes back when the mount is no longer declared. A mounted filesystem is never unmounted: changed options hold from the
//! next mount on.

use super::Step;
use super::block::{self, BEGIN, END};
use super::swap;
use crate::change::{Act, File, StepError, Todo, Verb};
use crate::facts;
use crate::host::fstab::{self, Mounted};
use crate::host::{Host, HostError, disk};
use agent_proto::v1::machine::{FilesystemSpec, MountSpec};
use std::collections::BTreeMap;

/// Mounts by mount point.
pub(super) struct Mounts {
    /// As they are declared.
    pub(super) wanted: BTreeMap<String, MountSpec>,
    /// Filesystems of ours, which are mounted by their UUID.
    pub(super) filesystems: BTreeMap<String, FilesystemSpec>,
}

impl Step for Mounts {
    fn name(&self) -> &'static str {
        "mounts"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        let present = host.text(FSTAB)?.unwrap_or_default();
        if self.wanted.is_empty() && !present.lines().any(|line| line == BEGIN || rival(line).is_some()) {
            return Ok(todo);
        }
        let lines = self.lines(host)?;
        let text = with_block(&present, &lines, |target| self.wanted.contains_key(target))?;
        if text != present {
            let file = File { access: host.access(FSTAB)?, ..File::ours(FSTAB, text) };
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

    fn line(&self, host: &dyn Host, target: &str, want: &MountSpec) -> Result<String, HostError> {
        let source = self.source(host, want)?;
        let kind = want.kind.clone().or_else(|| Some(self.filesystems.get(&want.source)?.kind.clone()));
        let kind = kind.unwrap_or_else(|| "auto".to_owned());
        let options = if want.options.is_empty() { DEFAULTS.to_owned() } else { want.options.join(",") };
        let pass = if kind == "ext4" { 2 } else { 0 };
        let (source, target, options) = (fstab::escape(&source), fstab::escape(target), fstab::escape(&options));
        Ok(format!("{source} {target} {kind} {options} 0 {pass}"))
    }

    fn source(&self, host: &dyn Host, want: &MountSpec) -> Result<String, HostError> {
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

/// The text with our block replaced, with the lines of others for the same targets commented out, and those for targets that are
/// ours no more put back.
fn with_block(present: &str, lines: &[String], is_ours: impl Fn(&str) -> bool) -> Result<String, StepError> {
    let (rest, _) = block::split(FSTAB, present)?;
    let is_taken = |line: &str| fstab::entry(line).is_some_and(|entry| is_ours(&entry.target));
    let mut text = String::new();
    for line in rest.lines() {
        let freed = rival(line).filter(|rival| !is_taken(rival));
        text.push_str(if is_taken(line) { MARK } else { "" });
        text.push_str(freed.unwrap_or(line));
        text.push('\n');
    }
    if !lines.is_empty() {
        text.push_str(&format!("{BEGIN}\n{}\n{END}\n", lines.join("\n")));
    }
    Ok(text)
}

/// The line of somebody else that we have commented out for a mount of ours.
fn rival(line: &str) -> Option<&str> {
    let rival = line.strip_prefix(MARK).filter(|_| !line.starts_with(swap::MARK))?;
    fstab::entry(rival).filter(|entry| entry.target.starts_with('/')).map(|_| rival)
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
const MARK: &str = "# groundwork: ";
const DEFAULTS: &str = "defaults,noatime,nofail,x-systemd.device-timeout=30s";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_replaced_and_a_rival_commented_out() {
        let before = "UUID=1 / ext4 defaults 0 1\n/dev/sdb /data ext4 defaults 0 2\n";
        let lines = ["UUID=2 /data ext4 noatime 0 2".to_owned()];
        let with = |present: &str| with_block(present, &lines, |target| target == "/data").unwrap();
        let after = with(before);
        let expected = "UUID=1 / ext4 defaults 0 1\n# groundwork: /dev/sdb /data ext4 defaults 0 2\n\
                        # BEGIN groundwork\nUUID=2 /data ext4 noatime 0 2\n# END groundwork\n";
        assert_eq!(after, expected);
        assert_eq!(with(&after), expected, "twice is once");
        assert_eq!(with_block(&after, &[], |_| false).unwrap(), before, "and back");
    }

    #[test]
    fn only_lines_that_a_mount_commented_out_come_back() {
        let others = format!("{}/swap.img none swap sw 0 0\n# groundwork: see the wiki\n", swap::MARK);
        assert_eq!(with_block(&others, &[], |_| false).unwrap(), others);
        assert!(with_block(&format!("{BEGIN}\nUUID=1 / ext4\n"), &[], |_| false).is_err(), "no end");
    }

    #[tokio::test]
    async fn a_link_is_replaced_by_a_file_that_others_cannot_write() {
        let host = crate::host::fake::Fake::template();
        host.link(FSTAB, "/run/fstab");
        let wanted = [("/data".to_owned(), MountSpec { source: "UUID=1".to_owned(), ..MountSpec::default() })].into();
        let todo = Mounts { wanted, filesystems: BTreeMap::new() }.missing(&host).await.unwrap();
        let Some(Verb::Write(file)) = todo.changes.first().map(|change| &change.verb) else { panic!("{todo:?}") };
        assert_eq!(file.access.mode, 0o644);
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
