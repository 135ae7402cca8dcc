//! RKE2: K3s' core, with a control plane of static pods that a kubelet of its own runs, and etcd as one of them.
//!
//! What is here is all that is RKE2's own: the rest is K3s' code, in both programs and in this agent. The program that is fetched is the bare `rke2.linux-amd64`
//! of a release; it gets its kubelet, containerd and kubectl from an image, which comes from the archive of images or a registry.
//! Source: RKE2 v1.36, `pkg/rke2`, `pkg/cli`, `pkg/bootstrap`, `pkg/executor/staticpod`, `bundle`; not tried with a real one.

use super::unit::Unit;
use super::variant::{Variant, places};
use agent_proto::form;
use std::time::Duration;

/// RKE2.
pub(in crate::cluster) static RKE2: Variant = Variant {
    program: "rke2",
    name: "RKE2",
    form: form::rke2_version,
    build: "+rke2r",
    server: Unit {
        name: "rke2-server.service",
        path: "/etc/systemd/system/rke2-server.service",
        role: "server",
        about: ABOUT,
        command: "/usr/local/bin/rke2 server",
        more: END,
    },
    agent: Unit {
        name: "rke2-agent.service",
        path: "/etc/systemd/system/rke2-agent.service",
        role: "agent",
        about: ABOUT,
        command: "/usr/local/bin/rke2 agent",
        more: END,
    },
    supervisor: Some(9345),
    // It always begins with etcd, and has no such option.
    is_told_to_begin: false,
    // It pulls or unpacks its programs and the images of its pods before it says that it runs.
    patience: [Duration::from_secs(1_200), Duration::from_secs(600)],
    kubectl: "/var/lib/rancher/rke2/bin/kubectl",
    links: &[],
    // Without an archive it notes there which images it wants, and would pull them again for the next cluster.
    lists: Some("-image.txt"),
    places: places!("rke2"),
};

const ABOUT: [&str; 2] = ["Rancher Kubernetes Engine 2", "https://docs.rke2.io"];
/// The kubelet and containerd are processes beside it, and may outlive it; pods go on. A new kubelet would find the port of the old one taken.
const END: &str = "ExecStopPost=-/bin/sh -c \"systemd-cgls --no-pager /system.slice/%n | grep -oE '[0-9]+ (containerd|kubelet) ' | cut -d' ' -f1 | xargs -r kill\"\n";
