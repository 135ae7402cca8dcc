//! systemd units as they stand, asked for in one go.

use super::{Command, Host, HostError};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A unit as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// systemd knows a file of it.
    pub known: bool,
    /// Running, or on its way (a service that restarts itself counts).
    pub active: bool,
    /// Why it is not, in systemd's word.
    pub state: String,
    /// Starts at boot (a static unit, which others start, counts).
    pub enabled: bool,
    /// Cannot be started.
    pub masked: bool,
    /// When it was last started.
    pub since: Option<SystemTime>,
    /// Its files have changed since systemd read them.
    pub stale: bool,
    /// The file it is made from, as systemd has read it.
    pub fragment: String,
    /// Files that add to it, as systemd has read them.
    pub drop_ins: Vec<String>,
    /// Variables that its processes are given, as systemd quotes them.
    pub environment: String,
    /// Its main process; 0 if it has none.
    pub pid: u32,
}

/// Asks about units, with suffix.
///
/// # Errors
/// When systemd does not answer.
pub async fn units(host: &dyn Host, names: &[&str]) -> Result<BTreeMap<String, Unit>, HostError> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let command = Command::new(SYSTEMCTL, ["show", PROPERTIES, "--"].iter().chain(names).copied());
    let output = host.run_ok(&command, &|_| ()).await?;
    let booted = booted(host)?;
    // One paragraph for each unit, in the order of the question: `Id` is another name if the unit is an alias.
    let mut units: BTreeMap<_, _> = names
        .iter()
        .zip(output.stdout.split("\n\n"))
        .map(|(name, text)| ((*name).to_owned(), parse(text, booted)))
        .collect();
    for name in names {
        units.entry((*name).to_owned()).or_default();
    }
    Ok(units)
}

fn parse(text: &str, booted: SystemTime) -> Unit {
    let of = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    let (load, active, file) = (of("LoadState"), of("ActiveState"), of("UnitFileState"));
    Unit {
        known: load == "loaded" || load == "masked",
        active: matches!(active.as_str(), "active" | "activating" | "reloading"),
        enabled: matches!(file.as_str(), "enabled" | "static" | "alias" | "indirect" | "generated" | "linked"),
        masked: load == "masked" || file == "masked",
        since: of("ActiveEnterTimestampMonotonic")
            .parse()
            .ok()
            .and_then(|us| booted.checked_add(Duration::from_micros(us))),
        stale: of("NeedDaemonReload") == "yes",
        fragment: of("FragmentPath"),
        drop_ins: of("DropInPaths").split_whitespace().map(str::to_owned).collect(),
        environment: of("Environment"),
        pid: of("MainPID").parse().unwrap_or(0),
        state: active,
    }
}

/// Whether a running unit has not seen a file's last change. A time in the future says nothing: the clock was set back.
#[must_use]
pub fn is_older(unit: &Unit, changed: SystemTime, now: SystemTime) -> bool {
    unit.active
        && changed <= now
        && unit.since.and_then(|since| since.checked_add(PRECISION)).is_some_and(|since| since < changed)
}

/// When this boot began, by the clock as it is now: a clock that was set since does not disturb comparisons with new files.
fn booted(host: &dyn Host) -> Result<SystemTime, HostError> {
    let text = host.text("/proc/uptime")?.unwrap_or_default();
    let uptime = text.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok()).unwrap_or_default();
    let now = host.now();
    Ok(now.checked_sub(Duration::try_from_secs_f64(uptime).unwrap_or_default()).unwrap_or(UNIX_EPOCH))
}

/// The unit's name with a suffix: a service unless it says otherwise.
#[must_use]
pub fn full_name(name: &str) -> String {
    const SUFFIXES: [&str; 8] = [".service", ".socket", ".timer", ".mount", ".swap", ".target", ".path", ".slice"];
    if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) { name.to_owned() } else { format!("{name}.service") }
}

/// `/proc/uptime` counts in hundredths of a second.
const PRECISION: Duration = Duration::from_millis(20);
/// systemd's control program.
pub const SYSTEMCTL: &str = "/usr/bin/systemctl";
const PROPERTIES: &str = "--property=LoadState,ActiveState,UnitFileState,ActiveEnterTimestampMonotonic,NeedDaemonReload,\
                          FragmentPath,DropInPaths,Environment,MainPID";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_understood() {
        let unit = parse(
            "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nActiveEnterTimestampMonotonic=5000000\n\
             NeedDaemonReload=no\nFragmentPath=/lib/systemd/system/x.service\nDropInPaths=/a.conf /b.conf\nEnvironment=A=1 B=2\n\
             MainPID=7",
            UNIX_EPOCH,
        );
        assert!(unit.known && unit.active && unit.enabled && !unit.masked && !unit.stale);
        assert_eq!(unit.since, Some(UNIX_EPOCH + Duration::from_secs(5)));
        assert_eq!(
            (unit.fragment.as_str(), unit.environment.as_str(), unit.pid),
            ("/lib/systemd/system/x.service", "A=1 B=2", 7)
        );
        assert_eq!(unit.drop_ins, ["/a.conf", "/b.conf"]);
        let unit = parse("LoadState=not-found\nActiveState=inactive\nUnitFileState=\n", UNIX_EPOCH);
        assert_eq!(unit, Unit { state: "inactive".to_owned(), ..Unit::default() });
    }

    #[test]
    fn a_name_without_suffix_is_a_service() {
        assert_eq!(full_name("kubelet"), "kubelet.service");
        assert_eq!(full_name("serial-getty@ttyS0"), "serial-getty@ttyS0.service");
        assert_eq!(full_name("fstrim.timer"), "fstrim.timer");
    }

    #[test]
    fn any_text_is_answered() {
        let good =
            "LoadState=loaded\nActiveState=active\nActiveEnterTimestampMonotonic=5000000\nDropInPaths=/a /b\nMainPID=7";
        total::text("units", &[good], |text| is_older(&parse(text, UNIX_EPOCH), UNIX_EPOCH, UNIX_EPOCH));
    }
}
