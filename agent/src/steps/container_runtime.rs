//! containerd as Kubernetes needs it: systemd's cgroup driver, CRI on, mirrors, enabled, running, answering.
//!
//! The package is the step `packages`' concern. Sources: containerd's docs/cri/config.md and docs/hosts.md; node reference 1.14.
//! A running containerd is restarted only when its configuration is newer than it is; mirrors are read at every pull.

mod config;
mod fits;

use super::Step;
use crate::change::{self, Act, File, StepError, Todo, Verb, Wait};
use crate::facts;
use crate::host::units::{self, Unit};
use crate::host::{Host, HostError, Runtime, dpkg};
use crate::spec::runtime_package;
use agent_proto::v1::machine::ContainerRuntimeSpec;
use std::iter;
use std::time::Duration;

/// containerd, if it is declared.
pub(super) struct Containerd(pub(super) Option<ContainerRuntimeSpec>);

impl Step for Containerd {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let declared = self.0.as_ref().map(paths).unwrap_or_default();
        let mut todo = change::restores(host, NAME, |path| declared.iter().any(|declared| declared == path))?;
        let Some(wanted) = &self.0 else { return Ok(todo) };
        let installed = dpkg::Packages::read(host)?;
        let package = package(wanted, &installed);
        let version = |name| installed.get(name).map(|package| package.version.clone());
        let (kubelet, installed) = (version("kubelet"), version(package));
        if let (Some(kubelet), Some(runtime)) = (&kubelet, &installed) {
            fits::complaint(kubelet, runtime).into_iter().for_each(|complaint| todo.warn(complaint));
        }
        let restricted = !facts::has_capability(host, "CAP_SYS_RESOURCE");
        let settings = config::Settings { wanted, restricted };
        let text = settings.text(config::Version::of(installed.as_deref()));
        configuration(&mut todo, host, text)?;
        file(&mut todo, host, File::ours(CRICTL, CRICTL_TEXT), "crictl finds the socket without guessing")?;
        for (path, text) in config::registries(&wanted.registry) {
            file(&mut todo, host, File::theirs(NAME, &path, text), "images are pulled from the mirrors")?;
        }
        let unit = units::units(host, &[UNIT]).await?.remove(UNIT).unwrap_or_default();
        let newer = newer(host, &unit, package)?;
        service(&mut todo, &unit, newer);
        if todo.changes.is_empty() {
            answers(&mut todo, host, &unit).await;
        } else {
            // A containerd that comes up needs a moment; the next look asks it.
            wait(&mut todo, format!("{SOCKET} may not answer yet"));
        }
        Ok(todo)
    }
}

/// The package it comes in on this machine. Docker's own will do where none is asked for by name or version: Debian's would take it
/// away, and Docker with it.
pub(super) fn package<'a>(wanted: &'a ContainerRuntimeSpec, installed: &dpkg::Packages) -> &'a str {
    let any = wanted.package.is_none() && wanted.version.is_none();
    if any && installed.get(DOCKERS).is_some() { DOCKERS } else { runtime_package(wanted) }
}

/// What stands there came with the package, or from an administrator or an installer: what of it is lost is said line by line.
fn configuration(todo: &mut Todo, host: &dyn Host, text: String) -> Result<(), HostError> {
    let present = host.text(CONFIG)?;
    if present.as_deref() == Some(&text) {
        return Ok(());
    }
    let lost = present.map(|present| config::lost(&present, &text)).unwrap_or_default();
    // A plan that declares this first has not looked at it.
    let foreign: Vec<_> = lost.iter().filter(|line| !config::is_shipped(line)).map(String::as_str).collect();
    if !foreign.is_empty() {
        todo.remark(format!("{CONFIG} was written by somebody else: {}. {OTHERS}", foreign.join("; ")));
    }
    let lines = lost.into_iter().map(|line| format!("{CONFIG} {line}"));
    let findings = iter::once(format!("{CONFIG} differs")).chain(lines).collect();
    let why = format!("the kubelet and containerd must use systemd's cgroup driver; {OTHERS}");
    todo.push_all(findings, Verb::Write(File::theirs(NAME, CONFIG, text)), why);
    Ok(())
}

fn file(todo: &mut Todo, host: &dyn Host, file: File, why: &str) -> Result<(), HostError> {
    if host.compare(&file.path, &file.content)?.is_none_or(|found| !found.same) {
        todo.push(format!("{} differs", file.path), Verb::Write(file), why);
    }
    Ok(())
}

/// Files that may have been an administrator's before.
fn paths(wanted: &ContainerRuntimeSpec) -> Vec<String> {
    let registries = config::registries(&wanted.registry).into_iter().map(|(path, _)| path);
    iter::once(CONFIG.to_owned()).chain(registries).collect()
}

/// What has changed since containerd was started: its configuration, or the program itself (dpkg rewrites the list of a package's
/// files when it unpacks it).
fn newer(host: &dyn Host, unit: &Unit, package: &str) -> Result<Option<&'static str>, HostError> {
    let list = format!("/var/lib/dpkg/info/{package}.list");
    for (path, what) in [(CONFIG, CONFIG), (list.as_str(), "its program")] {
        let modified = host.stat(path)?.map(|stat| stat.modified);
        if modified.is_some_and(|modified| units::is_older(unit, modified, host.now())) {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

fn service(todo: &mut Todo, unit: &Unit, newer: Option<&str>) {
    let act = |act| Verb::Unit { unit: UNIT.to_owned(), act };
    let rewritten = todo.changes.iter().any(|change| matches!(&change.verb, Verb::Write(file) if file.path == CONFIG));
    let newer = newer.or(rewritten.then_some(CONFIG));
    if unit.masked {
        todo.push(format!("{UNIT} is masked"), act(Act::Unmask), "pods run in it");
    }
    if !unit.enabled {
        todo.push(format!("{UNIT} is not enabled"), act(Act::Enable), "pods run in it after the next boot");
    }
    if !unit.active {
        todo.push(format!("{UNIT} is not running"), act(Act::Start), "pods run in it");
    } else if let Some(what) = newer {
        let why = "it reads its configuration when it starts; the pods of a node run on meanwhile";
        todo.push(format!("{UNIT} is older than {what} and is restarted"), act(Act::Restart), why);
    }
}

/// The daemon can be up while its CRI part has failed: only the socket tells.
async fn answers(todo: &mut Todo, host: &dyn Host, unit: &Unit) {
    let complaint = match host.runtime(SOCKET).await {
        Ok(Runtime { name, complaint, warnings, .. }) => {
            warnings.iter().for_each(|warning| todo.remark(format!("{name} says {warning}")));
            complaint.map(|complaint| format!("{name} says {complaint}"))
        }
        Err(error) => Some(error.to_string()),
    };
    let Some(complaint) = complaint else { return };
    // One that has just been started may still be on its way; a restart would only take it back to the beginning.
    let age = unit.since.and_then(|since| host.now().duration_since(since).ok());
    if age.is_none_or(|age| age > STARTING) {
        let act = Verb::Unit { unit: UNIT.to_owned(), act: Act::Restart };
        todo.push(complaint.clone(), act, "the kubelet talks to it there");
    }
    wait(todo, complaint);
}

fn wait(todo: &mut Todo, finding: String) {
    todo.push(finding, Verb::Wait(Wait::Runtime(SOCKET.to_owned())), "the kubelet talks to it there");
}

const NAME: &str = "container_runtime";
const UNIT: &str = "containerd.service";
const DOCKERS: &str = "containerd.io";
const OTHERS: &str = "what others need are `runtime`, `default_runtime` and `imports`";
/// Its configuration.
const CONFIG: &str = "/etc/containerd/config.toml";
/// A healthy containerd answers within a second or two, also on a busy machine.
const STARTING: Duration = Duration::from_secs(30);
const SOCKET: &str = "/run/containerd/containerd.sock";
const CRICTL: &str = "/etc/crictl.yaml";
const CRICTL_TEXT: &str = "\
# Written by groundwork-agent.
runtime-endpoint: unix:///run/containerd/containerd.sock
image-endpoint: unix:///run/containerd/containerd.sock
timeout: 10
";
