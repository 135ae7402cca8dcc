//! systemd's timer for snapshots, and certificates that kubeadm renews, imitated.

use super::{Inner, Machine, failed, said};
use crate::host::Output;
use std::time::{Duration, SystemTime};

/// The timer of snapshots.
#[derive(Default)]
pub(super) struct Timers {
    waits: bool,
    /// Its service ended badly the last time, and says so often that it would again.
    failing: u32,
}

impl Machine {
    /// The next so many snapshots by the timer fail; the last one did.
    pub(in super::super) fn snapshots_fail(&self, times: u32) {
        self.inner().timers.failing = times;
    }

    /// Somebody stops the timer.
    pub(in super::super) fn stop_timer(&self) {
        self.inner().timers.waits = false;
    }

    /// Certificates and manifests of a control plane that was made so many days before their end.
    pub(in super::super) fn certify_for(&self, days: u64) {
        for path in CERTIFICATES {
            self.put(path, &certificate(days));
        }
        for name in ["etcd", "kube-scheduler"] {
            let text = format!("apiVersion: v1\nmetadata:\n  name: {name}\nspec:\n  path: /etc/kubernetes/pki\n");
            self.put(&format!("/etc/kubernetes/manifests/{name}.yaml"), &text);
        }
    }

    pub(super) fn renew(&self) -> Output {
        CERTIFICATES.iter().for_each(|path| self.put(path, &certificate(365)));
        said(include_str!("../../recorded/certs-renew-all.txt"))
    }

    pub(super) fn of_timers(&self, name: &str, args: &[&str]) -> Option<Output> {
        let timers = &mut self.inner().timers;
        Some(match (name, args) {
            ("systemd-analyze", ["calendar", "nonsense"]) => {
                failed("Failed to parse calendar specification 'nonsense': Invalid argument\n")
            }
            ("systemd-analyze", ["calendar", _]) => said("Next elapse: Sat 2026-11-28 03:00:00 UTC\n"),
            ("systemctl", ["is-active", TIMER]) => said(if timers.waits { "active\n" } else { "inactive\n" }),
            ("systemctl", ["is-active", SERVICE]) => said(if timers.failing > 0 { "failed\n" } else { "inactive\n" }),
            ("systemctl", ["restart", TIMER]) => {
                timers.waits = true;
                said("")
            }
            ("systemctl", ["disable", "--now", TIMER]) => {
                timers.waits = false;
                said("")
            }
            ("systemctl", ["start", SERVICE]) => {
                timers.failing = timers.failing.saturating_sub(1);
                if timers.failing > 0 { failed("Job failed.\n") } else { said("") }
            }
            ("journalctl", ["--unit", SERVICE, ..]) => said("stopped error=no space left on device\n"),
            _ => return None,
        })
    }
}

impl Inner {
    /// Of a static pod's manifest.
    pub(super) fn annotations(&self, name: &str) -> serde_json::Value {
        let text = self.files.get(&format!("/etc/kubernetes/manifests/{name}.yaml")).map_or("", String::as_str);
        let stamp = text.split_once("groundwork/certificates: \"").and_then(|(_, rest)| rest.split_once('"'));
        stamp
            .map_or_else(|| serde_json::json!({}), |(stamp, _)| serde_json::json!({ "groundwork/certificates": stamp }))
    }
}

fn certificate(days: u64) -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.not_after = (SystemTime::now() + Duration::from_secs(days * 86_400)).into();
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

const CERTIFICATES: [&str; 2] = ["/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/etcd/server.crt"];
const TIMER: &str = "groundwork-etcd-snapshot.timer";
const SERVICE: &str = "groundwork-etcd-snapshot.service";
