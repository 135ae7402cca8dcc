//! What cloud-init says about this boot: whether it has come to its end, and what it could not do.
//!
//! Sources: cloud-init 22.4 to 25.2, its files `status.json` and `result.json` and what its own command `status` makes of them.
//! Before 23.4 it noted the modules that failed and nothing else; what it only complained of stands in its log.

use crate::host::{Command, Host, units};
use serde::Deserialize;
use std::collections::BTreeMap;

/// cloud-init's part in this boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirstBoot {
    /// How far it is.
    pub standing: Standing,
    /// What it is at, while it runs.
    pub stage: String,
    /// What failed.
    pub errors: Vec<String>,
    /// What it left out or complained of.
    pub warnings: Vec<String>,
}

/// How far cloud-init is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// There is none, or it does nothing in this boot.
    #[default]
    Absent,
    /// It has not come to its end.
    Running,
    /// It has.
    Done,
}

/// `status.json`: stages by name, beside words about the whole.
#[derive(Deserialize)]
struct Written {
    v1: BTreeMap<String, serde_json::Value>,
}

/// One stage.
#[derive(Default, Deserialize)]
struct Stage {
    #[serde(default)]
    errors: Vec<String>,
    /// By level: "WARNING", "DEPRECATED", …; `None` before cloud-init 23.4.
    recoverable_errors: Option<BTreeMap<String, Vec<String>>>,
}

/// Looks; what cannot be read is as if it were not there.
pub async fn look(host: &dyn Host) -> FirstBoot {
    let there = |path: &str| host.exists(path).unwrap_or(false);
    if there(DISABLED) || !(there(PROGRAM) || there(STATUS)) {
        return FirstBoot::default();
    }
    // It is written after the last word of the status: looked for first, or that word might be missed.
    let over = there(RESULT);
    let written = host.text(STATUS).ok().flatten().and_then(|text| serde_json::from_str::<Written>(&text).ok());
    let Some(Written { v1 }) = written else {
        // Before its first stage; or somebody keeps it from running.
        let standing = if has_booted(host).await { Standing::Absent } else { Standing::Running };
        return FirstBoot { standing, ..FirstBoot::default() };
    };
    let stage = v1.get("stage").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let stages: Vec<Stage> =
        v1.into_values().filter_map(|value| value.is_object().then(|| serde_json::from_value(value).ok())?).collect();
    let mut told = FirstBoot { standing: Standing::Done, ..FirstBoot::default() };
    told.errors = stages.iter().flat_map(|stage| &stage.errors).map(|error| readable(error)).collect();
    if !over {
        match cut_short(host).await {
            Some(why) => told.errors.push(why),
            None => return FirstBoot { standing: Standing::Running, stage, ..FirstBoot::default() },
        }
    }
    let recoverable: Vec<_> = stages.iter().filter_map(|stage| stage.recoverable_errors.as_ref()).collect();
    told.warnings = if recoverable.is_empty() {
        complaints(&host.text(LOG).ok().flatten().unwrap_or_default())
    } else {
        recoverable.into_iter().flatten().flat_map(|(_, lines)| lines).map(|line| readable(line)).collect()
    };
    for lines in [&mut told.errors, &mut told.warnings] {
        shorten(lines);
    }
    // A module that failed is complained of, too.
    told.warnings.retain(|warning| !told.errors.contains(warning) && !warning.starts_with(NO_SSH));
    told
}

/// Why cloud-init will not come to its end, if so.
async fn cut_short(host: &dyn Host) -> Option<String> {
    let found = units::units(host, &[LAST]).await.ok()?;
    let unit = found.get(LAST)?;
    if unit.state == "failed" {
        return Some(format!("{LAST} has failed: `journalctl -u {LAST}` on the machine says why"));
    }
    (!unit.active && has_booted(host).await)
        .then(|| format!("{LAST} was not run, although the boot is over: cloud-init has not come to its end"))
}

/// Whether everything that starts by itself was started.
async fn has_booted(host: &dyn Host) -> bool {
    let ask = Command::new(units::SYSTEMCTL, ["is-system-running"]);
    // It ends with an error unless all is well.
    let said = host.run(&ask, &|_| ()).await.map(|output| output.stdout).unwrap_or_default();
    matches!(said.trim(), "running" | "degraded")
}

/// What the log complains of since the last boot began.
fn complaints(log: &str) -> Vec<String> {
    let boot =
        log.rfind(" running 'init-local' ").map_or(0, |at| log.get(..at).and_then(|log| log.rfind('\n')).unwrap_or(0));
    let lines = log.get(boot..).unwrap_or_default().lines();
    let complaint = |line: &str| {
        let (place, message) = line.split_once("]: ")?;
        let level = place.rsplit_once('[')?.1;
        LEVELS.contains(&level).then(|| readable(message))
    };
    lines.filter_map(complaint).collect()
}

/// `('scripts-user', RuntimeError('Runparts: 1 failures'))` for people.
fn readable(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    let parts = || {
        let (module, problem) = text.strip_prefix("('")?.strip_suffix(')')?.split_once("', ")?;
        let (_, message) = problem.split_once('(')?;
        let message = message.strip_suffix(')')?.trim_end_matches(',');
        let bare = ['\'', '"'].iter().find_map(|quote| message.strip_prefix(*quote)?.strip_suffix(*quote));
        Some(format!("{module}: {}", bare.unwrap_or(message)))
    };
    parts().unwrap_or(text)
}

fn shorten(lines: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    let more = lines.len().saturating_sub(MOST);
    if more > 0 {
        lines.truncate(MOST);
        lines.push(format!("and {more} more in {LOG}"));
    }
}

const PROGRAM: &str = "/usr/bin/cloud-init";
const DISABLED: &str = "/run/cloud-init/disabled";
const STATUS: &str = "/run/cloud-init/status.json";
const RESULT: &str = "/run/cloud-init/result.json";
const LOG: &str = "/var/log/cloud-init.log";
const LAST: &str = "cloud-final.service";
const LEVELS: [&str; 4] = ["WARNING", "ERROR", "CRITICAL", "DEPRECATED"];
/// An image without sshd, of which nobody asked anything: said in every boot.
const NO_SSH: &str = "Ignoring config 'ssh_pwauth: None'";
/// Lines of each kind, and characters of each.
const MOST: usize = 20;
const LONGEST: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    const NULL: &str = r#"{"errors":[],"start":null,"finished":null}"#;

    fn host(status: &str) -> Fake {
        let host = Fake::template();
        host.put(PROGRAM, "");
        host.put(STATUS, status);
        host
    }

    /// As 22.4 writes it.
    fn old(last: &str) -> String {
        format!(
            r#"{{"v1":{{"datasource":"DataSourceNoCloud [seed=x]","init":{NULL},"modules-final":{last},"stage":"modules-final"}}}}"#
        )
    }

    #[tokio::test]
    async fn a_machine_without_cloud_init_has_nothing_to_wait_for() {
        assert_eq!(look(&Fake::template()).await, FirstBoot::default());
        let off = host(&old(NULL));
        off.put(DISABLED, "");
        assert_eq!(look(&off).await.standing, Standing::Absent);
    }

    #[tokio::test]
    async fn an_old_cloud_init_tells_failures_itself_and_complaints_in_its_log() {
        let failed =
            r#"{"errors":["('scripts-user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))"]}"#;
        let host = host(&old(failed));
        host.put(RESULT, "{}");
        host.put(
            LOG,
            "1 - util.py[WARNING]: of an earlier boot\n2 - util.py[DEBUG]: Cloud-init v. 22.4.2 running 'init-local' at x\n\
             3 - __init__.py[WARNING]: Unhandled unknown content-type (text/x-y) userdata: 'b'#a'...'\n4 - util.py[DEBUG]: fine\n\
             5 - cc_set_passwords.py[WARNING]: Ignoring config 'ssh_pwauth: None'. SSH service 'ssh' is not installed.\n\
             5 - util.py[WARNING]: same\n5 - util.py[WARNING]: same\n",
        );
        let told = look(&host).await;
        assert_eq!(told.standing, Standing::Done);
        assert_eq!(told.errors, ["scripts-user: Runparts: 1 failures (runcmd) in 1 attempted commands"]);
        assert_eq!(told.warnings, ["Unhandled unknown content-type (text/x-y) userdata: 'b'#a'...'", "same"]);
    }

    #[tokio::test]
    async fn a_newer_one_tells_both_itself() {
        let init = r#"{"errors":[],"recoverable_errors":{"WARNING":["Invalid cloud-config provided: x"],"DEPRECATED":["old"]}}"#;
        let host = host(&format!(r#"{{"v1":{{"datasource":null,"init":{init},"stage":null}}}}"#));
        host.put(RESULT, "{}");
        host.put(LOG, "1 - util.py[WARNING]: told above\n");
        let told = look(&host).await;
        assert_eq!(
            (told.errors.len(), told.warnings),
            (0, vec!["old".to_owned(), "Invalid cloud-config provided: x".to_owned()])
        );
    }

    #[test]
    fn long_stories_are_cut() {
        let mut lines: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        shorten(&mut lines);
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (21, "and 30 more in /var/log/cloud-init.log"));
        assert_eq!(readable("('ssh', OSError(2, 'no'))"), "ssh: 2, 'no'");
        assert_eq!(readable("a\nb"), "a b");
    }

    #[test]
    fn any_text_is_answered() {
        let log = "2024 - util.py[WARNING]: ('scripts-user', RuntimeError('Runparts: 1'))\ncloud-init running 'init-local' at\n";
        total::text("cloud-init-log", &[log], complaints);
    }
}
