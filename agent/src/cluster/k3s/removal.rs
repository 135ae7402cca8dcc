//! K3s, or a relative, away from a machine: its units, its containers, its files, and its program where we have put it.
//!
//! Upstream's script for it is never run. It leaves the node's password, which would keep the machine out of a cluster that knows another
//! one, and it takes what users have put beside K3s: `registries.yaml`, archives of images. Source: `k3s-uninstall.sh`, recordings of it.

use super::program::ARCHIVE;
use super::variant::{Places, Variant};
use super::{config, processes, program};
use crate::cluster::cleanup::remove_all;
use crate::cluster::kube::{Kube, SYSTEMCTL, failed, failure};
use crate::host::Command;
use crate::run::Failure;
use std::time::Duration;

/// Ends it and all that it runs.
pub(in crate::cluster) async fn stop(kube: &Kube<'_>, own: &Variant, step: &str) -> Result<(), Failure> {
    for unit in [own.server, own.agent] {
        if kube.host().exists(unit.path).map_err(failed(step, &format!("look at {}", unit.path)))? {
            unit.stop(kube, step).await?;
        }
    }
    for _ in 0..ROUNDS {
        let left = processes::left(kube.host(), own).map_err(failed(step, "look for containers"))?;
        if left.is_empty() {
            return Ok(());
        }
        // All at once: whoever is started anew by one that lives is gone with the next round.
        let words = ["-KILL".to_owned()].into_iter().chain(left);
        kube.host()
            .run(&Command::new("/usr/bin/kill", words), &|_| {})
            .await
            .map_err(failed(step, "end containers"))?;
        kube.pause(step, Duration::from_millis(500)).await?;
    }
    Err(failure(step, "processes of containers do not end"))
}

/// Removes its files, once nothing runs or is mounted any more: by what says that it is ours last.
pub(in crate::cluster) async fn remove(kube: &Kube<'_>, own: &Variant, step: &str) -> Result<(), Failure> {
    let note = config::note(kube.host(), own).map_err(failed(step, "read what it was begun with"))?;
    for unit in [own.server, own.agent] {
        for path in [unit.path, &unit.environment()] {
            kube.host().remove(path).map_err(failed(step, &format!("remove {path}")))?;
        }
    }
    kube.must(step, &Command::new(SYSTEMCTL, ["daemon-reload"])).await?;
    program::remove(kube, own, step, &note)?;
    for path in rest(kube, own, step)? {
        remove_all(kube, step, &path).await?;
    }
    for path in files(own) {
        kube.host().remove(path).map_err(failed(step, &format!("remove {path}")))?;
    }
    // What others have put there stays, and so does what something is mounted on.
    let folders = ["--ignore-fail-on-non-empty", "--"].into_iter().chain(folders(own));
    kube.run(step, &Command::new("/usr/bin/rmdir", folders)).await.map(drop)
}

/// What is left of it, beside the traces by which a node is known.
pub(in crate::cluster) fn left(kube: &Kube<'_>, own: &Variant, step: &str) -> Result<Vec<String>, Failure> {
    let mut left = rest(kube, own, step)?;
    for path in files(own).into_iter().chain(own.traces().map(|(path, _)| path)) {
        if kube.host().exists(path).map_err(failed(step, &format!("look at {path}")))? {
            left.push(path.to_owned());
        }
    }
    let processes = processes::left(kube.host(), own).map_err(failed(step, "look for containers"))?;
    left.extend(processes.into_iter().map(|pid| format!("process {pid}")));
    left.sort();
    left.dedup();
    Ok(left)
}

/// Its data, without archives of images that others have put there. Its folder itself may be a mount point.
fn rest(kube: &Kube<'_>, own: &Variant, step: &str) -> Result<Vec<String>, Failure> {
    let Places { data, agent, images, .. } = own.places;
    let list = |folder: &str| kube.host().list(folder).map_err(failed(step, &format!("list {folder}")));
    let within = |folder: &str, keep: &dyn Fn(&str) -> bool| -> Result<Vec<String>, Failure> {
        Ok(list(folder)?.into_iter().filter(|name| !keep(name)).map(|name| format!("{folder}/{name}")).collect())
    };
    let is_its_own = |name: &str| name == INDEX || own.lists.is_some_and(|ending| name.ends_with(ending));
    let mut all = within(data, &|name| ["agent", "lost+found"].contains(&name))?;
    all.extend(within(agent, &|name| name == "images")?);
    all.extend(within(images, &|name| !name.starts_with(ARCHIVE) && !is_its_own(name))?);
    // Names of networks that pods were in, once they are mounted no more.
    all.extend(within(NETWORKS, &|name| !name.starts_with("cni-"))?);
    if kube.host().exists(RUN).map_err(failed(step, &format!("look at {RUN}")))? {
        all.push(RUN.to_owned());
    }
    Ok(all)
}

/// The note goes last.
const fn files(own: &Variant) -> [&'static str; 6] {
    let Places { kubeconfig, download, token, config, note, .. } = own.places;
    [kubeconfig, "/etc/rancher/node/password", download, token, config, note]
}

const fn folders(own: &Variant) -> [&'static str; 8] {
    let Places { settings, images, agent, data, .. } = own.places;
    [settings, "/etc/rancher/node", "/etc/rancher", images, agent, data, "/var/lib/rancher", "/var/lib/kubelet"]
}

/// It notes there which archives it has taken in.
const INDEX: &str = ".cache.json";
/// Of relatives too.
const RUN: &str = "/run/k3s";
const NETWORKS: &str = "/run/netns";
const ROUNDS: usize = 20;
