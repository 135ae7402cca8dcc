//! Lines that keep a wanted module out: it could be loaded by hand and would be missing after the next boot, or not even that.
//!
//! Source: modprobe.d(5), systemd-modules-load.service(8): `blacklist` holds at boot and not for modprobe by hand, `install` for both.
//! A module that is declared is wanted more than a list that forbids it: the line becomes a comment, and what stood there is kept.
//! What the kernel itself was told on its command line is not ours to change.

use super::{NAME, plain};
use crate::change::{File, StepError, Todo, Verb};
use crate::host::{Host, HostError};
use std::collections::BTreeSet;

/// Refuses what the command line of the kernel forbids.
pub(super) fn by_kernel(host: &dyn Host, wanted: &BTreeSet<String>) -> Result<(), StepError> {
    let line = host.text("/proc/cmdline")?.unwrap_or_default();
    for word in line.split_whitespace() {
        let Some((key @ ("module_blacklist" | "modprobe.blacklist"), names)) = word.split_once('=') else { continue };
        if let Some(name) = wanted.iter().find(|name| names.split(',').any(|other| plain(other) == plain(name))) {
            let why = format!(
                "the kernel was started with `{key}={names}`; take it out of the boot loader's configuration, and restart"
            );
            return Err(StepError::refused(format!("loading {name}"), why));
        }
    }
    Ok(())
}

/// Switches off the lines of files.
pub(super) fn by_files(host: &dyn Host, wanted: &BTreeSet<String>, todo: &mut Todo) -> Result<(), HostError> {
    let mut seen = BTreeSet::new();
    for folder in FOLDERS {
        for name in host.list(folder)?.into_iter().filter(|name| name.ends_with(".conf")) {
            if !seen.insert(name.clone()) {
                continue;
            }
            let text = host.text(&format!("{folder}/{name}"))?.unwrap_or_default();
            let kept_out: BTreeSet<_> = text.lines().filter_map(|line| kept_out(line, wanted)).collect();
            if kept_out.is_empty() {
                continue;
            }
            let mark = |line: &str| if self::kept_out(line, wanted).is_some() { MARK } else { "" };
            let without: String = text.lines().map(|line| format!("{}{line}\n", mark(line))).collect();
            // One of the same name in the first folder hides those of the packages.
            let path = format!("{}/{name}", FOLDERS[0]);
            let names: Vec<_> = kept_out.into_iter().collect();
            let file = File { access: host.access(&path)?, ..File::theirs(NAME, &path, without) };
            let finding = format!("{folder}/{name} keeps {} from being loaded", names.join(", "));
            todo.push(finding, Verb::Write(file), "the modules after the next boot");
        }
    }
    Ok(())
}

/// Which wanted module a line keeps out.
fn kept_out(line: &str, wanted: &BTreeSet<String>) -> Option<String> {
    let mut words = line.split_whitespace();
    let (verb, module) = (words.next()?, plain(words.next()?));
    let out = match verb {
        "blacklist" => true,
        // A command may do more than nothing, such as load the module with others: only these are known to do nothing.
        "install" => matches!(
            words.next()?,
            "/bin/true" | "/bin/false" | "/usr/bin/true" | "/usr/bin/false" | "true" | "false" | ":"
        ),
        _ => false,
    };
    (out && wanted.iter().any(|name| plain(name) == module)).then_some(module)
}

/// By precedence: a file hides those of the same name in later folders.
const FOLDERS: [&str; 5] =
    ["/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"];
const MARK: &str = "# groundwork: ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    fn wanted() -> BTreeSet<String> {
        ["br_netfilter", "nf-conntrack"].map(str::to_owned).into()
    }

    #[test]
    fn lines_that_keep_a_module_out_become_comments() {
        let host = Fake::template();
        host.put(
            "/etc/modprobe.d/cis.conf",
            "blacklist br-netfilter\ninstall usb-storage /bin/true\nblacklist floppy\n",
        );
        host.put("/usr/lib/modprobe.d/vendor.conf", "install nf_conntrack /bin/false\n");
        host.put("/usr/lib/modprobe.d/cis.conf", "blacklist nf_conntrack\n");
        host.put(
            "/usr/lib/modprobe.d/also.conf",
            "install br_netfilter /sbin/modprobe x; /sbin/modprobe --ignore-install y\n",
        );
        let mut todo = Todo::default();
        by_files(&host, &wanted(), &mut todo).unwrap();
        let found: Vec<_> = todo
            .changes
            .into_iter()
            .map(|change| match change.verb {
                Verb::Write(file) => (change.finding, file.path, String::from_utf8(file.content.into()).unwrap()),
                other => panic!("{other:?}"),
            })
            .collect();
        let want = [
            (
                "/etc/modprobe.d/cis.conf keeps br_netfilter from being loaded",
                "/etc/modprobe.d/cis.conf",
                "# groundwork: blacklist br-netfilter\ninstall usb-storage /bin/true\nblacklist floppy\n",
            ),
            (
                "/usr/lib/modprobe.d/vendor.conf keeps nf_conntrack from being loaded",
                "/etc/modprobe.d/vendor.conf",
                "# groundwork: install nf_conntrack /bin/false\n",
            ),
        ];
        assert_eq!(found, want.map(|(finding, path, text)| (finding.to_owned(), path.to_owned(), text.to_owned())));
    }

    #[test]
    fn what_the_kernel_was_told_is_refused_by_name() {
        let host = Fake::template();
        host.put("/proc/cmdline", "root=/dev/sda1 module_blacklist=floppy quiet\n");
        by_kernel(&host, &wanted()).unwrap();
        host.put("/proc/cmdline", "root=/dev/sda1 modprobe.blacklist=floppy,nf_conntrack quiet\n");
        let error = by_kernel(&host, &wanted()).unwrap_err().to_string();
        assert!(
            error.starts_with("loading nf-conntrack is refused: the kernel was started with `modprobe.blacklist="),
            "{error}"
        );
    }

    #[test]
    fn any_text_is_answered() {
        total::text("modprobe", &["blacklist br-netfilter\ninstall x /bin/true\n"], |text| {
            text.lines().filter_map(|line| kept_out(line, &wanted())).collect::<Vec<_>>()
        });
        total::text("cmdline", &["quiet module_blacklist=a,b"], |text| {
            let host = Fake::template();
            host.put("/proc/cmdline", text);
            by_kernel(&host, &wanted()).is_ok()
        });
    }
}
