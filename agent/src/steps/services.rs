//! systemd units: enabled, running, masked; restarted when a file they were told about is newer than they are.
//!
//! Source: systemctl(1). Asked for in one call; a unit that is as it should be is never touched.

use super::Step;
use crate::change::{Act, StepError, Todo, Verb};
use crate::host::units::{self, Unit};
use crate::host::{Host, HostError};
use agent_proto::v1::machine::ServiceSpec;
use std::collections::{BTreeMap, BTreeSet};

/// Units by name.
pub(super) struct Services {
    /// As they are declared.
    pub(super) wanted: BTreeMap<String, ServiceSpec>,
    /// Those whose files the step `units` sees to.
    pub(super) seen_to: BTreeSet<String>,
}

impl Step for Services {
    fn name(&self) -> &'static str {
        "services"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let names: Vec<_> = self.wanted.keys().map(|name| units::full_name(name)).collect();
        let found = units::units(host, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let mut todo = Todo::default();
        if let Some((name, _)) = found.iter().find(|(name, unit)| unit.stale && !self.seen_to.contains(*name)) {
            todo.push(format!("{name} has changed on disk"), Verb::Reload, "systemd still uses what it read earlier");
        }
        for (name, want) in names.iter().zip(self.wanted.values()) {
            let unit = &found[name];
            boot(&mut todo, name, want, unit);
            now(&mut todo, name, want, unit, newer(host, unit, &want.restart_on)?);
        }
        Ok(todo)
    }
}

/// What happens at the next boot.
fn boot(todo: &mut Todo, name: &str, want: &ServiceSpec, unit: &Unit) {
    const WHY: &str = "holds at the next boot";
    match want.masked {
        Some(true) if !unit.masked => todo.push(format!("{name} is not masked"), act(name, Act::Mask), WHY),
        Some(false) if unit.masked => todo.push(format!("{name} is masked"), act(name, Act::Unmask), WHY),
        _ => {}
    }
    match want.enabled {
        Some(true) if !unit.enabled => todo.push(format!("{name} is not enabled"), act(name, Act::Enable), WHY),
        Some(false) if unit.enabled => todo.push(format!("{name} is enabled"), act(name, Act::Disable), WHY),
        _ => {}
    }
}

/// What happens now.
fn now(todo: &mut Todo, name: &str, want: &ServiceSpec, unit: &Unit, newer: Option<&str>) {
    let running = if want.masked == Some(true) { Some(false) } else { want.running };
    match running {
        Some(true) if !unit.active => {
            todo.push(format!("{name} is not running"), act(name, Act::Start), "takes effect now")
        }
        Some(false) if unit.active => todo.push(format!("{name} is running"), act(name, Act::Stop), "takes effect now"),
        _ => {
            if let Some(file) = newer {
                let why = "it reads its files when it starts";
                todo.push(format!("{name} is older than {file}"), act(name, Act::Restart), why);
            }
        }
    }
}

/// A file that has changed since the unit was started.
fn newer<'a>(host: &dyn Host, unit: &Unit, files: &'a [String]) -> Result<Option<&'a str>, HostError> {
    for file in files {
        if host.stat(file)?.is_some_and(|stat| units::is_older(unit, stat.modified, host.now())) {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn act(unit: &str, act: Act) -> Verb {
    Verb::Unit { unit: unit.to_owned(), act }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn todo(want: &ServiceSpec, unit: &Unit, newer: Option<&str>) -> Vec<String> {
        let mut todo = Todo::default();
        boot(&mut todo, "x.service", want, unit);
        now(&mut todo, "x.service", want, unit, newer);
        todo.changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_differs_is_changed() {
        let running = Unit { known: true, active: true, enabled: true, ..Unit::default() };
        let wanted = ServiceSpec { enabled: Some(true), running: Some(true), ..ServiceSpec::default() };
        assert!(todo(&wanted, &running, None).is_empty());
        assert_eq!(todo(&wanted, &Unit::default(), None), ["x.service is not enabled", "x.service is not running"]);
        let masked = ServiceSpec { masked: Some(true), ..ServiceSpec::default() };
        assert_eq!(todo(&masked, &running, None), ["x.service is not masked", "x.service is running"]);
        assert!(todo(&ServiceSpec::default(), &running, None).is_empty());
    }

    #[test]
    fn a_newer_file_restarts_a_running_unit() {
        let running = Unit { active: true, ..Unit::default() };
        let wanted = ServiceSpec::default();
        assert_eq!(todo(&wanted, &running, Some("/etc/x")), ["x.service is older than /etc/x"]);
        assert!(todo(&wanted, &running, None).is_empty());
    }
}
