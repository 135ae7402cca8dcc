//! What runs on of K3s when its unit has stopped: the shims of its containers, and what is in these.
//!
//! Their unit leaves them alone, so that pods live through a restart. Source: `k3s-killall.sh`.

use super::variant::Variant;
use crate::host::{Host, HostError};
use std::collections::BTreeMap;

/// Numbers of all processes that are its shims, or that its runtime runs, and of what these have started.
pub(super) fn left(host: &dyn Host, own: &Variant) -> Result<Vec<String>, HostError> {
    let pids = host.list("/proc")?.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    // One that ends while we look is none any more.
    let read = |pid: &str, file: &str| host.text(&format!("/proc/{pid}/{file}")).ok().flatten().unwrap_or_default();
    let all: BTreeMap<String, (String, bool)> =
        pids.map(|pid| (pid.clone(), (parent(&read(&pid, "stat")), is_ours(own, &read(&pid, "cmdline"))))).collect();
    let descends = |pid: &String| {
        let mut at = pid;
        // A chain of parents is no longer than there are processes.
        for _ in 0..all.len() {
            match all.get(at) {
                Some((_, true)) => return true,
                Some((parent, false)) => at = parent,
                None => return false,
            }
        }
        false
    };
    Ok(all.keys().filter(|pid| descends(pid)).cloned().collect())
}

/// Source: proc_pid_cmdline(5): words end with a zero byte.
fn is_ours(own: &Variant, line: &str) -> bool {
    let data = format!("{}/data/", own.places.data);
    // A shim is told the socket by itself, a kubelet as a URL in an option.
    line.starts_with(&data) || line.split('\0').any(|word| word.ends_with("/run/k3s/containerd/containerd.sock"))
}

/// The fourth field. The second one is the program's name in brackets, and may hold anything. Source: proc_pid_stat(5).
fn parent(stat: &str) -> String {
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod process_tests {
    use super::*;
    use crate::cluster::k3s::{K3S, RKE2};
    use crate::host::fake::Fake;

    #[test]
    fn shims_and_what_they_started_are_found_and_nothing_else() {
        let host = Fake::template();
        let shim =
            "/var/lib/rancher/k3s/data/00/bin/containerd-shim-runc-v2\0-address\0/run/k3s/containerd/containerd.sock\0";
        for (pid, name, parent, line) in [
            ("1", "systemd", "0", "/sbin/init\0"),
            ("20", "containerd-shim", "1", shim),
            ("21", "pause", "20", "/pause\0"),
            ("22", "a) b (c", "21", "sh\0-c\0sleep 9\0"),
            (
                "30",
                "containerd-shim",
                "1",
                "/usr/bin/containerd-shim-runc-v2\0-address\0/run/containerd/containerd.sock\0",
            ),
            ("31", "pause", "30", "/pause\0"),
            (
                "40",
                "kubelet",
                "1",
                "kubelet\0--container-runtime-endpoint=unix:///run/k3s/containerd/containerd.sock\0",
            ),
            ("41", "kubelet", "1", "kubelet\0--container-runtime-endpoint=unix:///run/containerd/containerd.sock\0"),
            ("50", "cat", "1", "cat\0/var/lib/rancher/rke2/data/a\0"),
        ] {
            host.put(&format!("/proc/{pid}/stat"), &format!("{pid} ({name}) S {parent} 1 1"));
            host.put(&format!("/proc/{pid}/cmdline"), line);
        }
        assert_eq!(left(&host, &K3S).unwrap(), ["20", "21", "22", "40"]);
        assert_eq!(left(&host, &RKE2).unwrap(), ["20", "21", "22", "40"]);
    }

    #[test]
    fn any_text_is_answered() {
        total::text("proc-stat", &["22 (a) b (c) S 21 1 1"], parent);
    }
}
