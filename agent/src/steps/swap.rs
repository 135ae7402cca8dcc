//! No swap: none in use now, and none of the many ways in which it comes back.
//!
//! Source: swapon(8), systemd.swap(5), systemd-gpt-auto-generator(8), zram-generator.conf(5), swap.conf(5) of rpi-swap. Everything is read from files, so
//! a plan starts no program. In a container swap belongs to the host.

mod by_commands;

use super::Step;
use crate::change::{self, Act, File, StepError, Todo, Verb};
use crate::facts;
use crate::host::{Host, HostError, Kind, fstab};
use std::collections::BTreeSet;

/// Whether it is to be off.
pub(super) struct Swap(pub(super) bool);

impl Step for Swap {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        if !self.0 {
            return Ok(change::restores(host, NAME, |_| false)?);
        }
        let mut todo = Todo::default();
        if let Some(kind) = facts::container(host) {
            todo.skip(format!("in a container ({kind}) swap belongs to the host"));
            return Ok(todo);
        }
        // What brings swap back comes first: a cut in between must not leave it forgotten. And before systemd reads its files again, what
        // makes some of them.
        rpi(host, &mut todo)?;
        in_fstab(host, &mut todo)?;
        zram(host, &mut todo)?;
        services(host, &mut todo)?;
        by_commands::find(host, &mut todo)?;
        units(host, &mut todo)?;
        target(host, &mut todo)?;
        active(host, &mut todo)?;
        Ok(todo)
    }
}

fn in_fstab(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    let text = host.text(FSTAB)?.unwrap_or_default();
    let is_swap = |line: &str| fstab::entry(line).is_some_and(|entry| entry.kind == "swap");
    let names: Vec<_> = text.lines().filter(|line| is_swap(line)).filter_map(fstab::entry).map(|e| e.source).collect();
    if !names.is_empty() {
        let lines =
            text.lines().map(|line| if is_swap(line) { format!("{MARK}{line}\n") } else { format!("{line}\n") });
        let file = File { access: host.access(FSTAB)?, ..File::ours(FSTAB, lines.collect::<String>()) };
        todo.push(format!("{FSTAB} lists {}", names.join(", ")), Verb::Write(file), "it comes back at the next boot");
    }
    // systemd still has the unit that it made from the line, or that rpi-swap made.
    let made = host.list("/run/systemd/generator")?;
    if !names.is_empty() || made.iter().any(|name| name.ends_with(".swap") && !is_zram(name)) {
        todo.push("systemd has swap units that a generator made", Verb::Reload, "it starts them again");
    }
    Ok(())
}

/// Raspberry Pi OS 13 makes swap by a generator of its own, in memory, in a file or both, at every boot.
fn rpi(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    if has_generator(host, "rpi-swap-generator")? && host.text(RPI)?.as_deref() != Some(NO_MECHANISM) {
        let file = Verb::Write(File::theirs(NAME, RPI, NO_MECHANISM));
        todo.push("rpi-swap makes swap at every boot", file, "it comes back at the next boot");
    }
    Ok(())
}

fn has_generator(host: &dyn Host, name: &str) -> Result<bool, HostError> {
    for folder in GENERATORS {
        if host.exists(&format!("{folder}/{name}"))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn zram(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    if !has_generator(host, "zram-generator")? {
        return Ok(());
    }
    let mut silence = |path: &str| -> Result<(), HostError> {
        if host.text(path)?.as_deref() != Some(SILENT) {
            let file = Verb::Write(File::theirs(NAME, path, SILENT));
            todo.push(format!("{path} lets zram-generator make swap"), file, "it comes back at the next boot");
        }
        Ok(())
    };
    // The first main file found counts, but every drop-in does: each is hidden by one of the same name.
    silence(ZRAM)?;
    let mut names = BTreeSet::new();
    for folder in ZRAM_DROPINS {
        names.extend(host.list(folder)?.into_iter().filter(|name| name.ends_with(".conf")));
    }
    names.iter().try_for_each(|name| silence(&format!("{}/{name}", ZRAM_DROPINS[0])))
}

/// Services whose only purpose is swap.
fn services(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    for name in SERVICES {
        let mut present = false;
        for folder in UNIT_FOLDERS {
            present |= host.exists(&format!("{folder}/{name}"))?;
        }
        if present && !is_masked(host, name)? {
            let act = |act| Verb::Unit { unit: name.to_owned(), act };
            todo.push(format!("{name} makes swap"), act(Act::Stop), "it may be in use");
            todo.push(format!("{name} is not masked"), act(Act::Mask), "it comes back at the next boot");
        }
    }
    Ok(())
}

/// Swap units: those in files, and those that a generator finds on the disks.
fn units(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    let mut seen = BTreeSet::new();
    for folder in UNIT_FOLDERS.into_iter().chain(["/run/systemd/generator.late"]) {
        for name in host.list(folder)?.into_iter().filter(|name| name.ends_with(".swap") && !is_zram(name)) {
            if !seen.insert(name.clone()) || is_masked(host, &name)? {
                continue;
            }
            if folder == UNITS {
                never(host, &name, "is a unit of swap", todo)?;
            } else {
                let mask = Verb::Unit { unit: name.clone(), act: Act::Mask };
                todo.push(format!("{name} is not masked"), mask, "it comes back at the next boot");
            }
        }
    }
    Ok(())
}

/// A file of an administrator's cannot be masked; a condition that never holds does the same.
fn never(host: &dyn Host, unit: &str, is: &str, todo: &mut Todo) -> Result<(), HostError> {
    let path = format!("{UNITS}/{unit}.d/groundwork.conf");
    if host.text(&path)?.as_deref() != Some(NEVER) {
        let file = Verb::Write(File::ours(&path, NEVER));
        todo.push(format!("{unit} {is}"), file, "it comes back at the next boot");
        todo.push(format!("systemd has not read {path}"), Verb::Reload, "it starts the unit again");
    }
    Ok(())
}

fn target(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    if !is_masked(host, "swap.target")? {
        let mask = Verb::Unit { unit: "swap.target".to_owned(), act: Act::Mask };
        todo.push("swap.target is not masked", mask, "whatever else wants swap finds it closed");
    }
    Ok(())
}

fn active(host: &dyn Host, todo: &mut Todo) -> Result<(), StepError> {
    let swaps = host.text("/proc/swaps")?.unwrap_or_default();
    let mut used = 0_u64;
    for line in swaps.lines().skip(1) {
        let mut fields = line.split_whitespace();
        let Some(device) = fields.next() else { continue };
        used = fields.nth(2).and_then(|one| one.parse().ok()).map_or(used, |one: u64| used.saturating_add(one));
        let off = Verb::SwapOff(unescape(device));
        todo.push(format!("{} is active", unescape(device)), off, "the kubelet refuses to run with swap");
    }
    let available = facts::kibibytes(&host.text("/proc/meminfo")?.unwrap_or_default(), "MemAvailable");
    if used >= available && used > 0 {
        let why = format!("{used} KiB of it are in use and only {available} KiB of memory are available");
        return Err(StepError::refused("turning swap off", why));
    }
    Ok(())
}

fn is_masked(host: &dyn Host, unit: &str) -> Result<bool, HostError> {
    let stat = host.stat(&format!("{UNITS}/{unit}"))?;
    Ok(stat.is_some_and(|stat| stat.kind == Kind::Link("/dev/null".to_owned())))
}

/// zram-generator's units follow its configuration.
fn is_zram(unit: &str) -> bool {
    unit.starts_with("dev-zram")
}

fn unescape(device: &str) -> String {
    device.replace("\\040", " ")
}

const NAME: &str = "swap";
const FSTAB: &str = "/etc/fstab";
const ZRAM: &str = "/etc/systemd/zram-generator.conf";
pub(super) const MARK: &str = "# groundwork: swap is off: ";
const UNITS: &str = "/etc/systemd/system";
const UNIT_FOLDERS: [&str; 3] = [UNITS, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];
const SERVICES: [&str; 3] = ["zramswap.service", "zram-config.service", "dphys-swapfile.service"];
const GENERATORS: [&str; 2] = ["/usr/lib/systemd/system-generators", "/lib/systemd/system-generators"];
/// Of the drop-ins the last one counts.
const RPI: &str = "/etc/rpi/swap.conf.d/zz-groundwork.conf";
const NO_MECHANISM: &str = "# Groundwork keeps swap off.\n[Main]\nMechanism=none\n";
const ZRAM_DROPINS: [&str; 4] = [
    "/etc/systemd/zram-generator.conf.d",
    "/run/systemd/zram-generator.conf.d",
    "/usr/local/lib/systemd/zram-generator.conf.d",
    "/usr/lib/systemd/zram-generator.conf.d",
];
const SILENT: &str = "# Groundwork keeps swap off.\n";
const NEVER: &str = "# Groundwork keeps swap off.\n[Unit]\nConditionPathExists=!/\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[tokio::test]
    async fn a_raspberry_pis_own_swap_is_off_for_good() {
        let host = Fake::template();
        host.put("/usr/lib/systemd/system-generators/rpi-swap-generator", "");
        host.put("/etc/rpi/swap.conf", "[Main]\n#Mechanism=auto\n");
        host.put("/usr/lib/systemd/system/dphys-swapfile.service", "");
        let found: Vec<_> = Swap(true).missing(&host).await.unwrap().changes;
        let at = |part: &str| found.iter().position(|change| change.to_string().contains(part)).expect(part);
        assert!(at("rpi-swap makes swap") < at("a generator made"), "its units are made anew without it");
        assert!(at("dphys-swapfile.service makes swap") < at("dphys-swapfile.service is not masked"));
        host.put(RPI, NO_MECHANISM);
        let found = Swap(true).missing(&host).await.unwrap().changes;
        assert!(!found.iter().any(|change| change.to_string().contains("rpi-swap")));
        assert_eq!(host.text("/etc/rpi/swap.conf").unwrap(), "[Main]\n#Mechanism=auto\n");
    }

    #[test]
    fn any_text_is_answered() {
        total::text("swaps", &["Filename Type Size Used Priority\n/swap\\040img file 2097148 0 -2\n"], |text| {
            let host = Fake::template();
            host.put("/proc/swaps", text);
            active(&host, &mut Todo::default()).is_ok()
        });
    }
}
