//! Services of any name that turn swap on: found by what they run.
//!
//! A service whose own command is `swapon` is for nothing else, and is closed. One that runs a script with `swapon` in it may do more:
//! it is named, for nobody but its administrator can take that line out. The same goes for `/etc/rc.local`.

use super::{SERVICES, UNIT_FOLDERS, UNITS, is_masked, never};
use crate::change::{Act, Todo, Verb};
use crate::host::{Host, HostError};
use std::collections::BTreeSet;

pub(super) fn find(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    let mut seen = BTreeSet::new();
    let wanted = wanted(host)?;
    for folder in UNIT_FOLDERS {
        for name in host.list(folder)?.into_iter().filter(|name| name.ends_with(".service")) {
            // One that nobody starts at boot brings nothing back.
            if !seen.insert(name.clone())
                || !wanted.contains(&name)
                || SERVICES.contains(&name.as_str())
                || is_masked(host, &name)?
            {
                continue;
            }
            let text = host.text(&format!("{folder}/{name}"))?.unwrap_or_default();
            match runs(host, &text)? {
                Runs::Swapon if folder == UNITS => never(host, &name, "turns swap on", todo)?,
                Runs::Swapon => {
                    let mask = Verb::Unit { unit: name.clone(), act: Act::Mask };
                    todo.push(format!("{name} turns swap on"), mask, "it comes back at the next boot");
                }
                Runs::Script(path) => {
                    todo.warn(format!(
                        "{name} runs {path}, which has `swapon` in it: swap may come back at the next boot"
                    ));
                }
                Runs::Other => {}
            }
        }
    }
    if host.text(LOCAL)?.is_some_and(|text| has_swapon(&text)) {
        todo.warn(format!("{LOCAL} has `swapon` in it: swap may come back at the next boot"));
    }
    Ok(())
}

/// Units that something wants to be started: by the links that enabling makes.
fn wanted(host: &dyn Host) -> Result<BTreeSet<String>, HostError> {
    let mut names = BTreeSet::new();
    for folder in UNIT_FOLDERS {
        for name in
            host.list(folder)?.into_iter().filter(|name| name.ends_with(".wants") || name.ends_with(".requires"))
        {
            names.extend(host.list(&format!("{folder}/{name}"))?);
        }
    }
    Ok(names)
}

/// What a service does with swap.
enum Runs {
    Swapon,
    Script(String),
    Other,
}

fn runs(host: &dyn Host, unit: &str) -> Result<Runs, HostError> {
    let commands = unit
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ExecStart")?.split_once('=').map(|(_, command)| command));
    for command in commands {
        if has_swapon(command) {
            return Ok(Runs::Swapon);
        }
        let words =
            command.split_whitespace().map(|word| word.trim_start_matches(['-', '@', ':', '+', '!', '"', '\'']));
        for path in words
            .map(|word| word.trim_end_matches(['"', '\'']))
            .filter(|word| PLACES.iter().any(|place| word.starts_with(place)))
        {
            // What cannot be read, or is a large program, is no script.
            if host
                .read(path)
                .ok()
                .flatten()
                .is_some_and(|bytes| bytes.len() < SCRIPT && has_swapon(&String::from_utf8_lossy(&bytes)))
            {
                return Ok(Runs::Script(path.to_owned()));
            }
        }
    }
    Ok(Runs::Other)
}

fn has_swapon(text: &str) -> bool {
    let is_swapon = |word: &str| word.rsplit('/').next() == Some("swapon");
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    code.flat_map(|line| line.split(|c: char| c.is_whitespace() || ";&|()'\"`".contains(c))).any(is_swapon)
}

/// Where administrators keep programs of their own.
const PLACES: [&str; 6] = ["/usr/local/", "/opt/", "/etc/", "/root/", "/srv/", "/home/"];
const LOCAL: &str = "/etc/rc.local";
/// Bytes of a script.
const SCRIPT: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn a_service_is_known_by_what_it_runs() {
        let host = Fake::template();
        let enable = |name: &str| host.link(&format!("/etc/systemd/system/multi-user.target.wants/{name}"), "x");
        for (path, text) in [
            ("/etc/systemd/system/mine.service", "[Service]\nExecStart=/bin/sh -c 'mkswap /s && swapon /s'\n"),
            ("/usr/lib/systemd/system/vendor.service", "[Service]\nExecStart=/sbin/swapon -a\n"),
            ("/usr/lib/systemd/system/sleeping.service", "[Service]\nExecStart=/sbin/swapon -a\n"),
            ("/etc/systemd/system/setup.service", "[Service]\nExecStart=-/usr/local/bin/setup now\n"),
            ("/etc/systemd/system/plain.service", "[Service]\nExecStart=/usr/bin/true\n"),
            ("/usr/local/bin/setup", "#!/bin/sh\nmount -a\n/sbin/swapon /s\n"),
            ("/etc/rc.local", "#!/bin/sh\n# swapon /s\n"),
        ] {
            host.put(path, text);
        }
        ["mine.service", "vendor.service", "setup.service", "plain.service"].into_iter().for_each(enable);
        let mut todo = Todo::default();
        find(&host, &mut todo).unwrap();
        let found: Vec<_> = todo.changes.iter().map(ToString::to_string).collect();
        let drop_in = "systemd has not read /etc/systemd/system/mine.service.d/groundwork.conf";
        assert_eq!(found, ["mine.service turns swap on", drop_in, "vendor.service turns swap on"]);
        assert_eq!(todo.warnings.len(), 1);
        assert!(todo.warnings[0].starts_with("setup.service runs /usr/local/bin/setup, which has `swapon` in it"));
    }

    #[test]
    fn any_text_is_answered() {
        total::text("unit-commands", &["[Service]\nExecStart=-/opt/x 'a b'\nExecStartPre=/sbin/swapon -a\n"], |text| {
            runs(&Fake::template(), text).is_ok()
        });
    }
}
