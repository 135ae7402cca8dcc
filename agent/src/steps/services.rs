//! systemd units: enabled, running, masked; restarted when a file they were told about is newer than they are.
//!
//! Source: systemctl(1). Asked for in one call; a unit that is as it should be is never touched.

use crate::host::units::{self, Unit};
use crate::host::{Host, HostError};
use crate::spec::Service;
use crate::step::{Act, Step, StepError, Todo, Verb};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Units by name.
pub(super) struct Services(pub(super) BTreeMap<String, Service>);

impl Step for Services {
    fn name(&self) -> &'static str {
        "services"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let names: Vec<_> = self.0.keys().map(|name| units::full_name(name)).collect();
        let found = units::units(host, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let mut todo = Todo::default();
        if let Some((name, _)) = found.iter().find(|(_, unit)| unit.stale) {
            todo.push(format!("{name} has changed on disk"), Verb::Reload, "systemd still uses what it read earlier");
        }
        for (name, want) in names.iter().zip(self.0.values()) {
            let unit = &found[name];
            boot(&mut todo, name, want, unit);
            now(&mut todo, name, want, unit, newest(host, &want.restart_on)?);
        }
        Ok(todo)
    }
}

/// What happens at the next boot.
fn boot(todo: &mut Todo, name: &str, want: &Service, unit: &Unit) {
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
fn now(todo: &mut Todo, name: &str, want: &Service, unit: &Unit, newest: Option<(SystemTime, &str)>) {
    let running = if want.masked == Some(true) { Some(false) } else { want.running };
    match running {
        Some(true) if !unit.active => {
            todo.push(format!("{name} is not running"), act(name, Act::Start), "takes effect now")
        }
        Some(false) if unit.active => todo.push(format!("{name} is running"), act(name, Act::Stop), "takes effect now"),
        _ => {
            let Some((changed, file)) = newest.filter(|_| unit.active) else { return };
            if unit.since.is_some_and(|since| since < changed) {
                todo.push(
                    format!("{name} is older than {file}"),
                    act(name, Act::Restart),
                    "it reads its files when it starts",
                );
            }
        }
    }
}

fn newest<'a>(host: &dyn Host, files: &'a [String]) -> Result<Option<(SystemTime, &'a str)>, HostError> {
    let mut newest = None;
    for file in files {
        let modified = host.stat(file)?.map(|stat| (stat.modified, file.as_str()));
        newest = newest.max(modified);
    }
    Ok(newest)
}

fn act(unit: &str, act: Act) -> Verb {
    Verb::Unit { unit: unit.to_owned(), act }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn todo(want: &Service, unit: &Unit, newest: Option<(SystemTime, &str)>) -> Vec<String> {
        let mut todo = Todo::default();
        boot(&mut todo, "x.service", want, unit);
        now(&mut todo, "x.service", want, unit, newest);
        todo.changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_differs_is_changed() {
        let running = Unit { known: true, active: true, enabled: true, since: Some(UNIX_EPOCH), ..Unit::default() };
        let wanted = Service { enabled: Some(true), running: Some(true), ..Service::default() };
        assert!(todo(&wanted, &running, None).is_empty());
        assert_eq!(todo(&wanted, &Unit::default(), None), ["x.service is not enabled", "x.service is not running"]);
        let masked = Service { masked: Some(true), ..Service::default() };
        assert_eq!(todo(&masked, &running, None), ["x.service is not masked", "x.service is running"]);
        assert!(todo(&Service::default(), &running, None).is_empty());
    }

    #[test]
    fn a_newer_file_restarts_a_running_unit() {
        let newer = Some((UNIX_EPOCH + Duration::from_secs(1), "/etc/x"));
        let running = Unit { active: true, since: Some(UNIX_EPOCH), ..Unit::default() };
        let wanted = Service::default();
        assert_eq!(todo(&wanted, &running, newer), ["x.service is older than /etc/x"]);
        assert!(todo(&wanted, &running, Some((UNIX_EPOCH, "/etc/x"))).is_empty());
        assert!(todo(&wanted, &Unit::default(), newer).is_empty());
    }
}
