//! Accounting of memory by control groups, which Kubernetes does not work without: in force now, and after the next boot.
//!
//! Linux has it unless its command line says otherwise. That of a Raspberry Pi does: its firmware puts `cgroup_disable=memory` before what
//! stands in `cmdline.txt` on the firmware partition, and what comes later wins. That file is one line; nothing else of it is touched, and
//! nothing is taken back: a line that does not boot is worse than one that accounts. Debian's own system for these boards writes the file
//! anew with every kernel, from a file of its own. What counts only after a boot is marked as Debian's packages do it.
//!
//! Source: kernel-parameters.txt; the Raspberry Pi documentation of `cmdline.txt` and `config.txt`; raspi-firmware of Debian 12.

use super::Step;
use crate::change::{File, StepError, Todo, Verb};
use crate::facts;
use crate::host::{Host, HostError, fstab};

/// Whether it is to be on.
pub(super) struct MemoryCgroup(pub(super) bool);

impl Step for MemoryCgroup {
    fn name(&self) -> &'static str {
        "memory_cgroup"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        if !self.0 {
            return Ok(todo);
        }
        let in_force = is_in_force(host)?;
        if let Some(kind) = facts::container(host) {
            if !in_force {
                todo.skip(format!("memory is not accounted: the kernel of a container ({kind}) is its host's"));
            }
            return Ok(todo);
        }
        if !is_raspberry_pi(host)? {
            return if in_force { Ok(todo) } else { Err(disabled(host)?) };
        }
        let Some(path) = command_line(host)? else {
            return if in_force { Ok(unseen(todo)) } else { Err(StepError::unsupported(WHAT, UNMOUNTED)) };
        };
        written(host, &path, &mut todo)?;
        of_debian(host, &mut todo)?;
        if !in_force {
            waiting(host, &mut todo)?;
        }
        Ok(todo)
    }
}

/// Whether the running kernel accounts memory. Control groups of the second version list what they have; before, the kernel's own list does.
fn is_in_force(host: &dyn Host) -> Result<bool, HostError> {
    if let Some(controllers) = host.text("/sys/fs/cgroup/cgroup.controllers")? {
        return Ok(controllers.split_whitespace().any(|name| name == "memory"));
    }
    let known = host.text("/proc/cgroups")?.unwrap_or_default();
    let line = known.lines().find(|line| line.split_whitespace().next() == Some("memory"));
    Ok(line.is_none_or(|line| line.split_whitespace().nth(3) != Some("0")))
}

fn is_raspberry_pi(host: &dyn Host) -> Result<bool, HostError> {
    Ok(host.text("/sys/firmware/devicetree/base/model")?.is_some_and(|model| model.contains("Raspberry Pi")))
}

/// The file of the kernel's command line, on the firmware partition: at its place since Debian 12, or at that of before.
fn command_line(host: &dyn Host) -> Result<Option<String>, HostError> {
    let mounts = fstab::mounted(&host.text("/proc/self/mountinfo")?.unwrap_or_default());
    let is_mounted = |place: &&&str| mounts.iter().any(|mount| mount.target == ***place);
    let Some(place) = PLACES.iter().find(is_mounted) else { return Ok(None) };
    let config = host.text(&format!("{place}/config.txt"))?.unwrap_or_default();
    let setting = |key: &str| {
        let mut values = config.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        values.next_back().map(|value| value.trim().to_owned())
    };
    let name = setting("cmdline").unwrap_or_else(|| "cmdline.txt".to_owned());
    for prefix in setting("os_prefix").iter().map(String::as_str).chain([""]) {
        let path = format!("{place}/{prefix}{name}");
        if host.exists(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn written(host: &dyn Host, path: &str, todo: &mut Todo) -> Result<(), HostError> {
    let text = host.text(path)?.unwrap_or_default();
    if let Some(want) = with_accounting(&text) {
        let file = File { access: host.access(path)?, ..File::ours(path, want) };
        let finding = format!("{path} does not switch the memory cgroup on: a reboot is needed after it does");
        todo.push(finding, Verb::Write(file), "without it the kubelet does not start after the next boot");
    }
    Ok(())
}

/// What Debian's hook makes the command line of, each time a kernel is installed.
fn of_debian(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    if !host.exists(HOOK)? {
        return Ok(());
    }
    let text = host.text(EXTRA)?.unwrap_or_default();
    if let Some(want) = with_accounting(&text) {
        let file = File { access: host.access(EXTRA)?, ..File::ours(EXTRA, want) };
        let finding = format!("{EXTRA} does not switch the memory cgroup on");
        todo.push(finding, Verb::Write(file), "the next kernel's installation writes the command line anew");
    }
    Ok(())
}

/// It is written, and the kernel was started without it.
fn waiting(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    if host.exists(REBOOT)? {
        todo.warn("the memory cgroup is off until the next boot: reboot the machine before Kubernetes is to run on it");
        return Ok(());
    }
    let mark = Verb::Write(File::ours(REBOOT, "*** System restart required ***\n"));
    todo.push("the memory cgroup is off until the next boot", mark, "the machine says that it needs a reboot");
    Ok(())
}

/// A command line with the arguments; `None` if it has them. What is in other lines than the first one is left as it is.
fn with_accounting(text: &str) -> Option<String> {
    let (line, rest) = text.split_once('\n').map_or((text, ""), |(line, rest)| (line, rest));
    let mut words: Vec<String> = line.split_whitespace().filter_map(without_memory).collect();
    for argument in ARGUMENTS {
        if !words.iter().any(|word| word == argument) {
            words.push(argument.to_owned());
        }
    }
    let has_it = words.iter().map(String::as_str).eq(line.split_whitespace());
    (!has_it).then(|| format!("{}\n{rest}", words.join(" ")))
}

/// A word of a command line that does not switch accounting of memory off.
fn without_memory(word: &str) -> Option<String> {
    let Some(controllers) = word.strip_prefix("cgroup_disable=") else { return Some(word.to_owned()) };
    let others: Vec<&str> = controllers.split(',').filter(|name| *name != "memory").collect();
    (!others.is_empty()).then(|| format!("cgroup_disable={}", others.join(",")))
}

fn unseen(mut todo: Todo) -> Todo {
    todo.warn(format!("whether the memory cgroup stays on is not seen: {UNMOUNTED}"));
    todo
}

/// Not a Raspberry Pi: whose command line this is, its administrator knows.
fn disabled(host: &dyn Host) -> Result<StepError, HostError> {
    let line = host.text("/proc/cmdline")?.unwrap_or_default();
    let said = line.split_whitespace().find(|word| word.starts_with("cgroup_disable="));
    let why = match said {
        Some(word) => {
            format!("the kernel was started with `{word}`; take it out of the boot loader's command line, and reboot")
        }
        None => "the running kernel was built without it".to_owned(),
    };
    Ok(StepError::unsupported(WHAT, why))
}

const WHAT: &str = "accounting of memory by control groups";
const UNMOUNTED: &str = "the firmware partition of this Raspberry Pi, which has the kernel's command line, is not mounted at /boot/firmware or \
    /boot; mount it there, or complete the line where the board boots from with `cgroup_enable=memory cgroup_memory=1`, and reboot";
const PLACES: [&str; 2] = ["/boot/firmware", "/boot"];
/// The second is what kernels of Debian 10 and before took.
const ARGUMENTS: [&str; 2] = ["cgroup_enable=memory", "cgroup_memory=1"];
const HOOK: &str = "/etc/kernel/postinst.d/z50-raspi-firmware";
const EXTRA: &str = "/etc/default/raspi-extra-cmdline";
const REBOOT: &str = "/run/reboot-required";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    const LINE: &str =
        "console=serial0,115200 console=tty1 root=PARTUUID=35684e8a-02 rootfstype=ext4 fsck.repair=yes rootwait";

    /// A Raspberry Pi as it comes: its firmware partition at `place`, and a kernel that accounts nothing.
    fn board(place: &str) -> Fake {
        let host = Fake::template();
        host.put("/sys/firmware/devicetree/base/model", "Raspberry Pi 5 Model B Rev 1.0\0");
        host.put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io hugetlb pids\n");
        host.put(
            "/proc/self/mountinfo",
            &format!("22 1 8:2 / / rw - ext4 /dev/mmcblk0p2 rw\n30 22 8:1 / {place} rw - vfat /dev/mmcblk0p1 rw\n"),
        );
        host.put(&format!("{place}/cmdline.txt"), &format!("{LINE}\n"));
        host
    }

    async fn found(host: &Fake) -> Vec<String> {
        let todo = MemoryCgroup(true).missing(host).await.unwrap();
        todo.changes.iter().map(ToString::to_string).chain(todo.warnings).collect()
    }

    /// Makes what is missing, as a run does.
    async fn make(host: &Fake) {
        for change in MemoryCgroup(true).missing(host).await.unwrap().changes {
            crate::change::make(host, &change, &|_| ()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_line_is_completed_and_a_boot_is_waited_for() {
        for place in PLACES {
            let host = board(place);
            let path = format!("{place}/cmdline.txt");
            let both = [
                format!("{path} does not switch the memory cgroup on: a reboot is needed after it does"),
                "the memory cgroup is off until the next boot".to_owned(),
            ];
            assert_eq!(found(&host).await, both);
            make(&host).await;
            assert_eq!(host.text(&path).unwrap(), format!("{LINE} cgroup_enable=memory cgroup_memory=1\n"));
            assert!(facts::reboot_required(&host));
            let said = found(&host).await;
            assert!(said.len() == 1 && said[0].contains("reboot the machine"), "{said:?}");
            // The next boot.
            host.take(REBOOT);
            host.put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
            assert_eq!(found(&host).await, [""; 0]);
            // Somebody takes it out again: in force still, and not after the next boot.
            host.put(&path, &format!("{LINE}\n"));
            assert_eq!(found(&host).await, both[..1]);
        }
    }

    #[tokio::test]
    async fn the_old_place_is_a_notice_where_the_new_one_is_mounted() {
        let host = board("/boot/firmware");
        host.put(
            "/boot/cmdline.txt",
            "DO NOT EDIT THIS FILE\n\nThe file you are looking for has moved to /boot/firmware/cmdline.txt\n",
        );
        make(&host).await;
        assert!(host.text("/boot/cmdline.txt").unwrap().starts_with("DO NOT EDIT THIS FILE\n\n"));
        assert!(host.text("/boot/firmware/cmdline.txt").unwrap().ends_with(" cgroup_memory=1\n"));
    }

    #[tokio::test]
    async fn the_firmwares_own_settings_say_which_file_it_reads() {
        let host = board("/boot/firmware");
        host.put("/boot/firmware/config.txt", "[all]\nkernel=vmlinuz\nos_prefix=current/\n");
        host.put("/boot/firmware/current/cmdline.txt", LINE);
        make(&host).await;
        assert!(host.text("/boot/firmware/current/cmdline.txt").unwrap().ends_with(" cgroup_memory=1\n"));
        assert_eq!(host.text("/boot/firmware/cmdline.txt").unwrap(), format!("{LINE}\n"));
    }

    #[tokio::test]
    async fn debian_writes_the_line_anew_from_a_file_of_its_own() {
        let host = board("/boot/firmware");
        host.put(HOOK, "");
        make(&host).await;
        assert_eq!(host.text(EXTRA).unwrap(), "cgroup_enable=memory cgroup_memory=1\n");
    }

    #[tokio::test]
    async fn what_cannot_be_is_told() {
        let refused = async |host: &Fake| MemoryCgroup(true).missing(host).await.unwrap_err().to_string();
        let host = board("/boot/firmware");
        host.put("/proc/self/mountinfo", "22 1 8:2 / / rw - ext4 /dev/mmcblk0p2 rw\n");
        assert!(refused(&host).await.contains("is not mounted at /boot/firmware"));
        host.put("/sys/fs/cgroup/cgroup.controllers", "memory\n");
        assert!(found(&host).await[0].contains("whether the memory cgroup stays on is not seen"));

        let other = Fake::template();
        assert_eq!(found(&other).await, [""; 0], "every other machine");
        other.put("/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t0\n");
        assert!(refused(&other).await.contains("was built without it"));
        other.put("/proc/cmdline", "root=/dev/sda1 cgroup_disable=memory quiet\n");
        assert!(refused(&other).await.contains("started with `cgroup_disable=memory`"));
        other.put("/run/systemd/container", "systemd-nspawn\n");
        let skipped = MemoryCgroup(true).missing(&other).await.unwrap().skipped;
        assert!(skipped[0].contains("is its host's"), "{skipped:?}");
        assert_eq!(MemoryCgroup(false).missing(&board("/boot")).await.unwrap(), Todo::default());
    }

    #[test]
    fn a_line_keeps_all_that_is_not_ours() {
        let want = |text: &str| with_accounting(text);
        assert_eq!(want("a b\n").as_deref(), Some("a b cgroup_enable=memory cgroup_memory=1\n"));
        assert_eq!(want("a cgroup_enable=memory cgroup_memory=1"), None);
        assert_eq!(want("cgroup_memory=1  a\tcgroup_enable=memory\n"), None, "in any order");
        assert_eq!(
            want("cgroup_enable=memory cgroup_memory=1 cgroup_disable=memory,pressure\nsecond\n").as_deref(),
            Some("cgroup_enable=memory cgroup_memory=1 cgroup_disable=pressure\nsecond\n")
        );
        assert_eq!(want("").as_deref(), Some("cgroup_enable=memory cgroup_memory=1\n"));
    }

    #[test]
    fn any_text_is_answered() {
        total::text("kernel-command-line", &[LINE, "a cgroup_disable=memory,x\nb"], |text| {
            // What was completed once is complete.
            with_accounting(text).map(|line| assert_eq!(with_accounting(&line), None))
        });
    }
}
