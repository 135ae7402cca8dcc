//! kubeadm, imitated: files written one after the other, by init and by both kinds of join, and what its checks refuse.

use super::{ADMIN, Machine, failed, said, versions};
use crate::host::Output;

/// Written by init and the kubelet that it starts, in the order that `init.txt` tells. Of the certificates only the first two stand here.
pub(super) const INIT: [&str; 16] = [
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/super-admin.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/scheduler.conf",
    ETCD,
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/var/lib/kubelet/instance-config.yaml",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/etcd/member/snap/db",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
];
pub(super) const ETCD: &str = "/etc/kubernetes/manifests/etcd.yaml";

/// Written by a control plane's join, in the order that kubeadm's own phases tell.
const JOIN_CONTROL_PLANE: [&str; 10] = [
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/var/lib/kubelet/config.yaml",
    ETCD,
    "/var/lib/etcd/member/snap/db",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/etc/kubernetes/kubelet.conf",
];

/// Written by a join and the kubelet that it starts, as `join.txt` tells.
const JOIN: [&str; 7] = [
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/pki/ca.crt",
    "/var/lib/kubelet/instance-config.yaml",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/etc/kubernetes/kubelet.conf",
];

/// How many moments there are at which init, and join, can be killed.
pub(in super::super) const MOMENTS: (usize, usize) = (INIT.len(), JOIN.len());

/// The same of a control plane's join.
pub(in super::super) const CONTROL_PLANE_MOMENTS: usize = JOIN_CONTROL_PLANE.len();

impl Machine {
    pub(super) fn join(&self, file: &str) -> Output {
        let is_control_plane = self.inner().files[file].contains("controlPlane");
        let (files, node): (&[&str], _) =
            if is_control_plane { (&JOIN_CONTROL_PLANE, "cp-2") } else { (&JOIN, "worker-1") };
        self.write(files, node, include_str!("../../recorded/join.txt"))
    }

    /// What was asked for; the secret is of no use to anybody here.
    pub(super) fn upload(&self, file: &str) -> Output {
        let mut inner = self.inner();
        inner.configuration = inner.files[file].clone();
        said("[upload-certs] Storing the certificates in Secret \"kubeadm-certs\" in the \"kube-system\" Namespace\n")
    }

    pub(super) fn reset(&self, last: &str) -> Output {
        let goes = |path: &str| path.starts_with("/etc/kubernetes/") && !path.contains("/tmp/");
        let etcd = |path: &str| path.starts_with("/var/lib/etcd/") && !last.contains("remove-etcd-member");
        self.inner().files.retain(|path, _| !goes(path) && !etcd(path));
        said("")
    }

    pub(super) fn preflight(&self, file: &str) -> Output {
        let mut inner = self.inner();
        inner.configuration = inner.files[file].clone();
        let stands = [
            "/etc/kubernetes/manifests/kube-apiserver.yaml",
            "/etc/kubernetes/kubelet.conf",
            "/etc/kubernetes/pki/ca.crt",
        ];
        if inner.runtime_down {
            return failed(include_str!("../../recorded/preflight-containerd-down.txt"));
        }
        if stands.iter().any(|path| inner.files.contains_key(*path)) {
            return failed(include_str!("../../recorded/init-again.txt"));
        }
        said("[preflight] Running pre-flight checks\n")
    }

    /// The CA and nothing else.
    pub(super) fn certify(&self) -> Output {
        let mut inner = self.inner();
        for (at, path) in INIT.iter().take(2).enumerate() {
            if inner.dies_after == Some(at) {
                return Output { code: None, ..Output::default() };
            }
            inner.files.insert((*path).to_owned(), self.authority.clone());
        }
        said("")
    }

    pub(super) fn write(&self, files: &[&str], node: &str, printed: &str) -> Output {
        let mut inner = self.inner();
        if !inner.journal.is_empty() {
            let stdout = include_str!("../../recorded/init-apiserver-not-healthy.out.txt").to_owned();
            return Output { stdout, ..failed(include_str!("../../recorded/init-apiserver-not-healthy.txt")) };
        }
        for (at, path) in files.iter().enumerate() {
            if inner.dies_after == Some(at) {
                return Output { code: None, ..Output::default() };
            }
            let text = match path.rsplit('/').next().unwrap() {
                "ca.crt" => self.authority.clone(),
                "kube-apiserver.yaml" => versions::manifest(versions::FIRST),
                _ => ADMIN.to_owned(),
            };
            inner.files.insert((*path).to_owned(), text);
            if *path == ETCD {
                inner.members.add(node);
            }
        }
        inner.files.remove("/etc/kubernetes/bootstrap-kubelet.conf");
        let known = inner.nodes.entry(node.to_owned()).or_default();
        (known.marked, known.silent) = (node.starts_with("cp-"), false);
        said(printed)
    }
}
