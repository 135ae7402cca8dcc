//! containerd as Kubernetes needs it: systemd's cgroup driver, CRI on, mirrors, enabled, running, answering.
//!
//! The package is the step `packages`' concern. Sources: containerd's docs/cri/config.md and docs/hosts.md; node reference 1.14.
//! A running containerd is restarted only when its configuration is newer than it is; mirrors are read at every pull.

mod config;

use crate::facts;
use crate::host::units::{self, Unit};
use crate::host::{Host, HostError, dpkg};
use crate::spec::ContainerRuntime;
use crate::step::{Act, File, Step, StepError, Todo, Verb, Wait};

/// containerd, if it is declared. What its configuration was before comes back by the step `files`.
pub(super) struct Containerd(pub(super) Option<ContainerRuntime>);

impl Step for Containerd {
    fn name(&self) -> &'static str {
        "container_runtime"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        let Some(wanted) = &self.0 else { return Ok(todo) };
        let installed = dpkg::Packages::read(host)?.get(wanted.package()).map(|package| package.version.clone());
        let restricted = !facts::has_capability(host, "CAP_SYS_RESOURCE");
        let settings = config::Settings { sandbox_image: wanted.sandbox_image.as_deref(), restricted };
        let text = settings.text(config::Version::of(installed.as_deref()));
        // What stands there came with the package or from an administrator.
        file(
            &mut todo,
            host,
            File::theirs(CONFIG, text),
            "the kubelet and containerd must use systemd's cgroup driver",
        )?;
        file(&mut todo, host, File::ours(CRICTL, CRICTL_TEXT), "crictl finds the socket without guessing")?;
        for (path, text) in config::registries(&wanted.registries) {
            file(&mut todo, host, File::ours(&path, text), "images are pulled from the mirrors")?;
        }
        let unit = units::units(host, &[UNIT]).await?.remove(UNIT).unwrap_or_default();
        service(&mut todo, &unit, changed(host)?);
        if todo.changes.is_empty() {
            answers(&mut todo, host).await;
        } else {
            // A containerd that comes up needs a moment; the next look asks it.
            todo.push(
                format!("{SOCKET} may not answer yet"),
                Verb::Wait(Wait::Runtime(SOCKET.to_owned())),
                "kubeadm asks it at once",
            );
        }
        Ok(todo)
    }
}

fn file(todo: &mut Todo, host: &dyn Host, file: File, why: &str) -> Result<(), HostError> {
    if host.read(&file.path)?.as_ref() != Some(&file.content) {
        todo.push(format!("{} differs", file.path), Verb::Write(file), why);
    }
    Ok(())
}

/// When the configuration was last changed.
fn changed(host: &dyn Host) -> Result<Option<std::time::SystemTime>, HostError> {
    Ok(host.stat(CONFIG)?.map(|stat| stat.modified))
}

fn service(todo: &mut Todo, unit: &Unit, changed: Option<std::time::SystemTime>) {
    let act = |act| Verb::Unit { unit: UNIT.to_owned(), act };
    let rewritten = todo.changes.iter().any(|change| matches!(&change.verb, Verb::Write(file) if file.path == CONFIG));
    let older = unit.since.zip(changed).is_some_and(|(since, changed)| since < changed);
    if unit.masked {
        todo.push(format!("{UNIT} is masked"), act(Act::Unmask), "pods run in it");
    }
    if !unit.enabled {
        todo.push(format!("{UNIT} is not enabled"), act(Act::Enable), "pods run in it after the next boot");
    }
    if !unit.active {
        todo.push(format!("{UNIT} is not running"), act(Act::Start), "pods run in it");
    } else if rewritten || older {
        todo.push(
            format!("{UNIT} is older than {CONFIG}"),
            act(Act::Restart),
            "it reads its configuration when it starts",
        );
    }
}

/// The daemon can be up while its CRI part has failed: only the socket tells.
async fn answers(todo: &mut Todo, host: &dyn Host) {
    let wait = Verb::Wait(Wait::Runtime(SOCKET.to_owned()));
    match host.runtime(SOCKET).await {
        Err(error) => todo.push(error.to_string(), wait, "the kubelet talks to it there"),
        Ok(runtime) => {
            if let Some(complaint) = runtime.complaints.first() {
                todo.push(format!("{} says {complaint}", runtime.name), wait, "the kubelet waits for it");
            }
        }
    }
}

const UNIT: &str = "containerd.service";
/// Its configuration.
pub(super) const CONFIG: &str = "/etc/containerd/config.toml";
const SOCKET: &str = "/run/containerd/containerd.sock";
const CRICTL: &str = "/etc/crictl.yaml";
const CRICTL_TEXT: &str = "\
# Written by groundwork-agent.
runtime-endpoint: unix:///run/containerd/containerd.sock
image-endpoint: unix:///run/containerd/containerd.sock
timeout: 10
";
