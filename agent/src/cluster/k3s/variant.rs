//! What K3s and its relatives have each of its own: names, places, a port, and lines of their units. All else in this folder is one code for them.
//!
//! A relative is a distribution that K3s' code is in: it reads the same configuration, knows the same tokens, and keeps etcd and its nodes' passwords as
//! K3s does. RKE2 is one, in `rke2`. Another one is a file like that, and a line in [`ALL`].

use super::rke2::RKE2;
use super::unit::Unit;
use crate::cluster::evidence::Trace;
use crate::cluster::kube::host_of;
use agent_proto::form::{self, Verdict};
use std::time::Duration;

/// K3s, or a relative.
#[derive(Debug)]
pub struct Variant {
    /// Its program, which is its name in a request too.
    pub program: &'static str,
    /// As it is written.
    pub name: &'static str,
    /// How its versions must be.
    pub form: fn(&str) -> Verdict,
    /// What stands in them between the version of Kubernetes and its own number.
    pub(super) build: &'static str,
    pub(super) server: Unit,
    pub(super) agent: Unit,
    /// Where nodes join, if that is not where the API server is.
    pub(super) supervisor: Option<u16>,
    /// A server begins a cluster with etcd only if it is told to.
    pub(super) is_told_to_begin: bool,
    /// How long a node may take to start for the first time, and again.
    pub(super) patience: [Duration; 2],
    pub(super) kubectl: &'static str,
    /// Programs that upstream links to it.
    pub(super) links: &'static [&'static str],
    /// How the names of lists end that it writes among archives of images.
    pub(super) lists: Option<&'static str>,
    pub(super) places: Places,
}

/// Places that differ by the program's name alone: see [`places`].
#[derive(Debug)]
pub(in crate::cluster) struct Places {
    pub(super) program: &'static str,
    pub(super) config: &'static str,
    /// What this agent notes of it.
    pub(super) note: &'static str,
    /// The token by which this node has joined.
    pub(super) token: &'static str,
    pub(super) settings: &'static str,
    pub(super) data: &'static str,
    pub(super) agent: &'static str,
    pub(super) images: &'static str,
    /// On the disk: the archive of images is large.
    pub(super) download: &'static str,
    /// Its folder is for root alone.
    pub(super) server: &'static str,
    /// The cluster's secret, by which servers join.
    pub(super) secret: &'static str,
    pub(in crate::cluster) admin: &'static str,
    pub(in crate::cluster) kubeconfig: &'static str,
    pub(in crate::cluster) kubelet: &'static str,
    /// On a server, and on an agent.
    pub(in crate::cluster) authorities: [&'static str; 2],
    /// K3s has a CA of its own for clients.
    pub(in crate::cluster) authority_of_clients: [&'static str; 2],
    /// The administrator's certificate: its kubeconfig only names it.
    pub(in crate::cluster) administrator: &'static str,
    /// etcd's own configuration: with whom it began.
    pub(in crate::cluster) etcd_note: &'static str,
    pub(super) authority_key: &'static str,
    pub(super) credential: &'static str,
    pub(super) database: &'static str,
}

/// The places of a program.
macro_rules! places {
    ($program:literal) => {
        $crate::cluster::k3s::variant::Places {
            program: concat!("/usr/local/bin/", $program),
            config: concat!("/etc/rancher/", $program, "/config.yaml"),
            note: concat!("/etc/rancher/", $program, "/groundwork.json"),
            token: concat!("/etc/rancher/", $program, "/groundwork-token"),
            settings: concat!("/etc/rancher/", $program),
            data: concat!("/var/lib/rancher/", $program),
            agent: concat!("/var/lib/rancher/", $program, "/agent"),
            images: concat!("/var/lib/rancher/", $program, "/agent/images"),
            download: concat!("/var/lib/rancher/", $program, "/groundwork-download"),
            server: concat!("/var/lib/rancher/", $program, "/server"),
            secret: concat!("/var/lib/rancher/", $program, "/server/token"),
            admin: concat!("/var/lib/rancher/", $program, "/server/cred/admin.kubeconfig"),
            kubeconfig: concat!("/etc/rancher/", $program, "/", $program, ".yaml"),
            kubelet: concat!("/var/lib/rancher/", $program, "/agent/kubelet.kubeconfig"),
            authorities: [
                concat!("/var/lib/rancher/", $program, "/server/tls/server-ca.crt"),
                concat!("/var/lib/rancher/", $program, "/agent/server-ca.crt"),
            ],
            authority_of_clients: [
                concat!("/var/lib/rancher/", $program, "/server/tls/client-ca.crt"),
                concat!("/var/lib/rancher/", $program, "/server/tls/client-ca.key"),
            ],
            administrator: concat!("/var/lib/rancher/", $program, "/server/tls/client-admin.crt"),
            etcd_note: concat!("/var/lib/rancher/", $program, "/server/db/etcd/config"),
            authority_key: concat!("/var/lib/rancher/", $program, "/server/tls/server-ca.key"),
            credential: concat!("/var/lib/rancher/", $program, "/agent/client-kubelet.crt"),
            database: concat!("/var/lib/rancher/", $program, "/server/db"),
        }
    };
}
pub(super) use places;

/// All that there are.
pub(in crate::cluster) static ALL: [&Variant; 2] = [&K3S, &RKE2];

/// K3s itself: the API server, and all that a control plane is, run in the one program. Source: recordings of v1.34.3+k3s1, and its `install.sh`.
pub static K3S: Variant = Variant {
    program: "k3s",
    name: "K3s",
    form: form::k3s_version,
    build: "+k3s",
    server: Unit {
        name: "k3s.service",
        path: "/etc/systemd/system/k3s.service",
        role: "server",
        about: ["Lightweight Kubernetes", "https://k3s.io"],
        command: "/usr/local/bin/k3s server",
        more: "",
    },
    agent: Unit {
        name: "k3s-agent.service",
        path: "/etc/systemd/system/k3s-agent.service",
        role: "agent",
        about: ["Lightweight Kubernetes", "https://k3s.io"],
        command: "/usr/local/bin/k3s agent",
        more: "",
    },
    supervisor: None,
    is_told_to_begin: true,
    // Small machines unpack it, and make keys, for minutes.
    patience: [Duration::from_secs(600), Duration::from_secs(120)],
    // It comes with the program, which unpacks itself when it starts.
    kubectl: "/var/lib/rancher/k3s/data/current/bin/kubectl",
    links: &["kubectl", "crictl", "ctr"],
    lists: None,
    places: places!("k3s"),
};

impl Variant {
    /// The one of this name in a request.
    pub(in crate::cluster) fn called(program: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|own| own.program == program)
    }

    /// The one that has such versions.
    pub fn of_version(version: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|own| version.contains(own.build))
    }

    /// Files whose presence tells how far this machine is in a cluster of it. What a user may have put here before, such as `registries.yaml` or
    /// archives of images, is none of them.
    pub(in crate::cluster) fn traces(&self) -> [(&'static str, Trace); 11] {
        let Places { admin, kubelet, credential, authorities, authority_key, database, config, note, .. } = self.places;
        [
            (self.server.path, Trace::Manifest),
            (admin, Trace::Admin),
            (kubelet, Trace::Kubelet),
            (credential, Trace::Credential),
            (authorities[0], Trace::Authority),
            (authorities[1], Trace::Authority),
            (authority_key, Trace::AuthorityKey),
            (database, Trace::Etcd),
            (self.agent.path, Trace::Other),
            (config, Trace::Other),
            (note, Trace::Other),
        ]
    }

    /// By which it is known where another distribution is to stand. No folders: a machine may be prepared for it.
    pub(in crate::cluster) fn marks(&self) -> [&'static str; 3] {
        [self.places.config, self.places.secret, self.places.credential]
    }

    /// Its kubectl.
    pub(in crate::cluster) const fn kubectl(&self) -> &'static str {
        self.kubectl
    }

    /// Where the rest stands.
    pub(in crate::cluster) const fn places(&self) -> &Places {
        &self.places
    }

    /// An attribute of its block.
    pub(super) fn attribute(&self, name: &str) -> String {
        format!("{}.{name}", self.program)
    }

    /// `host:port` where nodes join a cluster whose API server is at `endpoint`.
    pub(super) fn supervisor(&self, endpoint: &str) -> String {
        let Some(port) = self.supervisor else { return endpoint.to_owned() };
        let host = host_of(endpoint);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The secret in `kube-system` with the password by which the machine of a node is known again.
    pub(in crate::cluster) fn password_of(&self, node_name: &str) -> String {
        format!("{node_name}.node-password.{}", self.program)
    }

    /// The annotation of a node with the address of its member of etcd, as jsonpath spells it.
    pub(in crate::cluster) fn member_annotation(&self) -> String {
        format!("etcd\\.{}\\.cattle\\.io/node-address", self.program)
    }
}

/// There is one of each.
impl PartialEq for Variant {
    fn eq(&self, other: &Self) -> bool {
        self.program == other.program
    }
}

impl Eq for Variant {}

impl Default for &'static Variant {
    fn default() -> Self {
        &K3S
    }
}

#[cfg(test)]
mod variant_tests {
    use super::*;

    #[test]
    fn nodes_join_at_the_supervisors_port() {
        for (endpoint, k3s, rke2) in [
            ("10.99.0.1:6443", "10.99.0.1:6443", "10.99.0.1:9345"),
            ("api.example.org:443", "api.example.org:443", "api.example.org:9345"),
            ("[fd00::1]:6443", "[fd00::1]:6443", "[fd00::1]:9345"),
        ] {
            assert_eq!((K3S.supervisor(endpoint).as_str(), RKE2.supervisor(endpoint).as_str()), (k3s, rke2));
        }
    }

    #[test]
    fn none_stands_in_the_places_of_another() {
        let paths = |own: &'static Variant| own.traces().map(|(path, _)| path);
        assert!(ALL.iter().all(|own| paths(own).iter().all(|path| path.contains(own.program))));
        assert!(paths(&K3S).iter().all(|path| !paths(&RKE2).contains(path)));
    }
}
