//! Back to a clean machine: what the distribution does for it, then what that leaves behind, then a look whether it is clean.
//!
//! kubeadm leaves CNI's files and interfaces, the rules of kube-proxy and CNI plugins, and folders of its own; left there, they give
//! the next cluster wrong addresses. Rules of others stay: tables are filtered, never flushed. Folders that may be mount points
//! are emptied, not removed. Source: recordings of `kubeadm reset`, 1.28 and 1.35.

use super::config::CRI_SOCKET;
use super::evidence::{Attempt, Trace};
use super::init::authority;
use super::kube::{Kube, SYSTEMCTL, failed, failure, foreign, kubeadm};
use super::snapshots::schedule;
use super::{Distribution, before, k3s, quorum};
use crate::host::{Command, Kind};
use crate::run::Failure;
use std::time::{Duration, Instant};

/// Makes this machine clean. Noted first: a machine that was left half clean is still ours.
pub(super) async fn undo(kube: &Kube<'_>, step: &str, why: &str) -> Result<(), Failure> {
    let since = Instant::now();
    let pem = kube.distribution.authority(kube.host()).map_err(failed(step, "read the cluster's CA"))?;
    let here = authority(kube)?;
    let mark = kube.attempt()?.and_then(|attempt| attempt.mark).filter(|_| here.is_empty());
    let reset = Attempt { mark, ..Attempt::new("reset", "") };
    // What was begun and has no CA yet may get one until it is stopped: it is known by its mark.
    kube.note(&if reset.mark.is_some() { reset } else { reset.under(&here) })?;
    schedule::forget(kube, step).await?;
    quorum::forget(kube, step)?;
    match kube.distribution {
        Distribution::Kubeadm => kubeadm_reset(kube, step).await?,
        Distribution::K3s(own) => k3s::stop(kube, own, step).await?,
    }
    unmount(kube, step).await?;
    interfaces(kube, step).await?;
    rules(kube, step).await?;
    files(kube, step).await?;
    if let Distribution::K3s(own) = kube.distribution {
        k3s::remove(kube, own, step).await?;
    }
    for path in before::since(kube)? {
        remove_all(kube, step, &path).await?;
    }
    kubeconfig_of_root(kube, step, pem.as_deref())?;
    let left = left(kube).await?;
    if !left.is_empty() {
        return Err(failure(step, format!("the machine is not clean: {}", left.join(", "))));
    }
    kube.no_longer_direct(step).await?;
    before::forget(kube)?;
    Attempt::forget(kube.state).map_err(failed(step, "forget the attempt"))?;
    let made = match kube.distribution {
        Distribution::Kubeadm => "kubeadm reset and clean up".to_owned(),
        Distribution::K3s(own) => format!("remove {} and clean up", own.name),
    };
    kube.made(step, &made, why, since);
    Ok(())
}

/// `kubeadm reset`, where there is a kubeadm, and the kubelet's end.
async fn kubeadm_reset(kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
    if kube.host().exists(kubeadm(kube.host())).map_err(failed(step, "look for kubeadm"))? {
        // It ends well nearly always, also where it did less: what counts is the look at the end.
        let mut reset = vec!["reset", "--force", "--cri-socket", CRI_SOCKET];
        if has_other_data(kube, step)? {
            // It empties the whole folder, on a worker too. Seen: kubeadm v1.35, reset of a worker.
            reset.push("--skip-phases=remove-etcd-member");
        }
        kube.kubeadm(step, &reset, RESET).await?;
    }
    kube.run(step, &Command::new(SYSTEMCTL, ["stop", "kubelet.service"]).timeout(STOP)).await?;
    Ok(())
}

/// What stands here is not an unfinished attempt of ours.
pub(super) fn not_ours(found: &[(&'static str, Trace)]) -> Failure {
    let paths: Vec<&str> = found.iter().map(|(path, _)| *path).collect();
    let message = format!("parts of a cluster stand here that this agent did not make: {}", paths.join(", "));
    foreign(message)
}

/// Refuses a machine that runs another distribution: they have kubelets, interfaces and rules in the same places.
pub(super) fn no_stranger(found: &[(&'static str, Trace)]) -> Result<(), Failure> {
    let strange: Vec<_> = found.iter().filter(|(_, trace)| *trace == Trace::Stranger).copied().collect();
    if strange.is_empty() { Ok(()) } else { Err(not_ours(&strange)) }
}

/// Whether etcd's folder holds what kubeadm did not put there: Debian's own etcd has its data beside kubeadm's.
fn has_other_data(kube: &Kube<'_>, step: &str) -> Result<bool, Failure> {
    let names = kube.host().list("/var/lib/etcd").map_err(failed(step, "list /var/lib/etcd"))?;
    Ok(names.iter().any(|name| !["member", "lost+found"].contains(&name.as_str())))
}

/// What is left of a cluster: nothing, if the machine is clean.
pub(super) async fn left(kube: &Kube<'_>) -> Result<Vec<String>, Failure> {
    let step = "look";
    let mut left: Vec<String> = kube.traces()?.into_iter().map(|(path, _)| path.to_owned()).collect();
    left.extend(mounts(kube, step)?.into_iter().map(|path| format!("{path} is mounted")));
    left.extend(own_interfaces(kube, step)?.into_iter().map(|name| format!("interface {name}")));
    for path in FILES.iter().chain(&FOLDERS) {
        if kube.host().exists(path).map_err(failed(step, &format!("look at {path}")))? {
            left.push((*path).to_owned());
        }
    }
    if let Distribution::K3s(own) = kube.distribution {
        left.extend(k3s::left(kube, own, step)?);
    }
    Ok(left)
}

async fn unmount(kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
    for path in mounts(kube, step)? {
        let plain = kube.run(step, &Command::new("/usr/bin/umount", [path.as_str()])).await?;
        if plain.code != Some(0) {
            kube.must(step, &Command::new("/usr/bin/umount", ["--lazy", path.as_str()])).await?;
        }
    }
    Ok(())
}

/// Mount points of pods, the deepest first.
fn mounts(kube: &Kube<'_>, step: &str) -> Result<Vec<String>, Failure> {
    let table = kube.host().text("/proc/self/mountinfo").map_err(failed(step, "read the table of mounts"))?;
    let table = table.unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let mut pods: Vec<String> = points.filter(|path| MOUNTS.iter().any(|at| path.starts_with(at))).collect();
    pods.sort_by_key(|path| std::cmp::Reverse(path.len()));
    pods.dedup();
    Ok(pods)
}

/// The kernel writes a blank in a path as `\040`. Source: proc_pid_mountinfo(5).
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

async fn interfaces(kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
    let names = own_interfaces(kube, step)?;
    let Some(ip) = (if names.is_empty() { None } else { program(kube, step, &IP)? }) else { return Ok(()) };
    for name in names {
        kube.must(step, &Command::new(ip, ["link", "delete", "dev", name.as_str()])).await?;
    }
    Ok(())
}

fn own_interfaces(kube: &Kube<'_>, step: &str) -> Result<Vec<String>, Failure> {
    let all = kube.host().list("/sys/class/net").map_err(failed(step, "list the interfaces"))?;
    let ours = |name: &String| {
        INTERFACES.contains(&name.as_str()) || INTERFACE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    Ok(all.into_iter().filter(ours).collect())
}

/// Takes the rules of kube-proxy and CNI plugins out of the tables, and leaves the others in.
async fn rules(kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
    for [save, restore] in [["iptables-save", "iptables-restore"], ["ip6tables-save", "ip6tables-restore"]] {
        let places = TABLES.map(|folder| format!("{folder}/{save}"));
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let Some(at) = program(kube, step, &places)?.and_then(|at| at.strip_suffix(save)) else { continue };
        let path = |name: &str| format!("{at}{name}");
        let said = kube.host().run(&Command::new::<&str>(&path(save), []), &|_| {}).await;
        let said = said.map_err(failed(step, save))?;
        let kept = without_ours(&said.stdout);
        if said.code == Some(0) && kept != said.stdout {
            kube.must(step, &Command::new::<&str>(&path(restore), []).stdin(kept)).await?;
        }
    }
    let nft = "/usr/sbin/nft";
    if kube.host().exists(nft).map_err(failed(step, "look for nft"))? {
        let said = kube.host().run(&Command::new(nft, ["list", "tables"]), &|_| {}).await.map_err(failed(step, nft))?;
        for table in said.stdout.lines().filter(|line| line.ends_with(" kube-proxy")) {
            let words = ["delete"].into_iter().chain(table.split_whitespace());
            kube.must(step, &Command::new(nft, words)).await?;
        }
    }
    Ok(())
}

/// The lines of `iptables-save` without the chains and rules of clusters.
fn without_ours(saved: &str) -> String {
    let ours = |line: &str| RULES.iter().any(|mark| line.contains(mark));
    saved.lines().filter(|line| !ours(line)).map(|line| format!("{line}\n")).collect()
}

async fn files(kube: &Kube<'_>, step: &str) -> Result<(), Failure> {
    for path in FILES {
        kube.host().remove(path).map_err(failed(step, &format!("remove {path}")))?;
    }
    for folder in FOLDERS {
        if kube.host().exists(folder).map_err(failed(step, &format!("look at {folder}")))? {
            remove_all(kube, step, folder).await?;
        }
    }
    for folder in EMPTIED {
        for name in kube.host().list(folder).map_err(failed(step, &format!("list {folder}")))? {
            if name != "lost+found" {
                remove_all(kube, step, &format!("{folder}/{name}")).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn remove_all(kube: &Kube<'_>, step: &str, path: &str) -> Result<(), Failure> {
    let stat = kube.host().stat(path).map_err(failed(step, &format!("look at {path}")))?;
    match stat.map(|stat| stat.kind) {
        None => Ok(()),
        Some(Kind::Folder) => {
            let remove = ["--recursive", "--force", "--one-file-system", "--", path];
            kube.must(step, &Command::new("/usr/bin/rm", remove).timeout(REMOVE)).await.map(drop)
        }
        Some(Kind::File | Kind::Link(_) | Kind::Other) => {
            kube.host().remove(path).map_err(failed(step, &format!("remove {path}")))
        }
    }
}

/// Root's kubeconfig, if it is for the cluster that this machine leaves.
fn kubeconfig_of_root(kube: &Kube<'_>, step: &str, authority: Option<&[u8]>) -> Result<(), Failure> {
    use base64::Engine as _;
    let path = "/root/.kube/config";
    let Some(authority) = authority else { return Ok(()) };
    let text = kube.host().text(path).map_err(failed(step, &format!("read {path}")))?.unwrap_or_default();
    if text.contains(&base64::engine::general_purpose::STANDARD.encode(authority)) {
        kube.host().remove(path).map_err(failed(step, &format!("remove {path}")))?;
    }
    Ok(())
}

fn program<'a>(kube: &Kube<'_>, step: &str, paths: &[&'a str]) -> Result<Option<&'a str>, Failure> {
    for path in paths {
        if kube.host().exists(path).map_err(failed(step, &format!("look for {path}")))? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

const MOUNTS: [&str; 3] = ["/var/lib/kubelet/", "/run/netns/cni-", "/run/k3s/"];
/// K3s brings its own where the machine has none.
const TABLES: [&str; 2] = ["/usr/sbin", "/var/lib/rancher/k3s/data/current/bin/aux"];
const IP: [&str; 3] = ["/usr/sbin/ip", "/usr/bin/ip", "/sbin/ip"];
/// Of Flannel, Calico, Cilium, kube-proxy and NodeLocalDNS.
const INTERFACES: [&str; 12] = [
    "cni0",
    "cilium_host",
    "cilium_net",
    "cilium_vxlan",
    "cilium_geneve",
    "cilium_wg0",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
    "kube-ipvs0",
    "nodelocaldns",
    "flannel-wg",
];
const INTERFACE_PREFIXES: [&str; 4] = ["flannel.", "flannel-", "cali", "lxc_"];
const RULES: [&str; 7] = ["KUBE-", "CNI-", "cali-", "cali:", "CILIUM_", "FLANNEL-", "flannel"];
/// CNI configurations of known plugins; one that the user wrote stays.
const FILES: [&str; 7] = [
    "/etc/cni/net.d/10-flannel.conflist",
    "/etc/cni/net.d/10-calico.conflist",
    "/etc/cni/net.d/calico-kubeconfig",
    "/etc/cni/net.d/05-cilium.conflist",
    "/etc/cni/net.d/200-loopback.conf",
    "/etc/kubernetes/super-admin.conf",
    "/etc/kubernetes/bootstrap-kubelet.conf",
];
const FOLDERS: [&str; 9] = [
    "/etc/kubernetes/tmp",
    "/var/lib/etcd/member",
    "/var/lib/cni",
    "/run/flannel",
    "/var/lib/calico",
    "/run/calico",
    "/run/cilium",
    "/var/log/containers",
    "/var/log/pods",
];
/// Emptied: they belong to packages or may be mount points.
const EMPTIED: [&str; 3] = ["/etc/kubernetes/manifests", "/etc/kubernetes/pki", "/var/lib/kubelet"];
const RESET: Duration = Duration::from_secs(600);
const STOP: Duration = Duration::from_secs(120);
const REMOVE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod filter_tests {
    use super::*;

    #[test]
    fn rules_of_others_stay() {
        let saved = "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FORWARD - [0:0]\n:FLANNEL-FWD - [0:0]\n\
            -A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD\n-A INPUT -s 192.0.2.0/24 -j DROP\n\
            -A INPUT -j KUBE-FIREWALL\n-A FORWARD -m comment --comment \"cali:abc\" -j ACCEPT\nCOMMIT\n";
        assert_eq!(without_ours(saved), "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 192.0.2.0/24 -j DROP\nCOMMIT\n");
    }

    #[test]
    fn blanks_in_mount_points_are_read() {
        assert_eq!(unescaped("/var/lib/kubelet/a\\040b"), "/var/lib/kubelet/a b");
    }
}
