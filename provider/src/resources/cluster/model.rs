//! The attributes of `groundwork_cluster`.

use crate::endpoint::EndpointModel;
use crate::timeouts;
use std::collections::BTreeMap;
use tf::check::{keys, one_of};
use tf::{Attr, Model, Row, computed, optional, required};

/// A Kubernetes cluster over machines.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cluster {
    pub(super) id: Attr<String>,
    pub(super) name: Attr<String>,
    pub(super) distribution: Attr<String>,
    pub(super) version: Attr<String>,
    pub(super) endpoint: Attr<String>,
    pub(super) certificate_names: Attr<Vec<String>>,
    pub(super) pod_subnet: Attr<String>,
    pub(super) service_subnet: Attr<String>,
    pub(super) control_planes: Attr<BTreeMap<String, Member>>,
    pub(super) workers: Attr<BTreeMap<String, Member>>,
    pub(super) timeouts: Attr<Timeouts>,
    pub(super) kubeconfig: Attr<String>,
    pub(super) ca_certificate: Attr<String>,
    pub(super) api_endpoint: Attr<String>,
    pub(super) ca_fingerprint: Attr<String>,
}

impl Model for Cluster {
    fn rows(&mut self) -> Vec<Row<'_>> {
        #[rustfmt::skip]
        let Self {
            id, name, distribution, version, endpoint, certificate_names, pod_subnet, service_subnet, control_planes, workers, timeouts,
            kubeconfig, ca_certificate, api_endpoint, ca_fingerprint,
        } = self;
        let mut rows = vec![
            computed("id", id, "Same as `name`.").keep(),
            required("name", name, "Name of the cluster, as it stands in its kubeconfig.").replaces().check(label),
            optional("distribution", distribution, "What the cluster is made with: `kubeadm`. Default `kubeadm`.")
                .replaces()
                .default("kubeadm")
                .check(one_of(&["kubeadm"])),
            required("version", version, "Kubernetes version, such as `1.36.2`: the one that `groundwork_machine` installs.")
                .check(version_form),
            optional(
                "endpoint",
                endpoint,
                "`host:port` by which nodes and users reach the API server, such as a virtual address. It cannot be changed \
                 later. Default: the first control plane's own address and port 6443.",
            )
            .replaces(),
            optional("certificate_names", certificate_names, "Further names and addresses in the API server's certificate.")
                .replaces(),
            optional("pod_subnet", pod_subnet, "Network of the pods, such as `10.244.0.0/16`; the network plugin must use the same.")
                .replaces()
                .check(network),
            optional("service_subnet", service_subnet, "Network of the services. Default: Kubernetes' own, `10.96.0.0/12`.")
                .replaces()
                .check(network),
            required("control_planes", control_planes, "Control planes by node name: one in this version.").check(keys(label)),
            optional("workers", workers, "Workers by node name. They join in parallel; one that is taken out is drained and reset.")
                .check(keys(label)),
            optional("timeouts", timeouts, "How long to wait."),
        ];
        rows.extend(access(kubeconfig, ca_certificate, api_endpoint, ca_fingerprint));
        rows
    }
}

/// What a finished cluster gives.
fn access<'a>(
    kubeconfig: &'a mut Attr<String>,
    ca_certificate: &'a mut Attr<String>,
    api_endpoint: &'a mut Attr<String>,
    ca_fingerprint: &'a mut Attr<String>,
) -> [Row<'a>; 4] {
    [
        computed(
            "kubeconfig",
            kubeconfig,
            "Kubeconfig of the administrator. It holds no secret: its credential plugin is this provider's binary, which asks the \
             control plane's agent for a certificate and needs the agents' CA (`GROUNDWORK_AGENT_PKI_DIR`).",
            )
            .keep(),
        computed("ca_certificate", ca_certificate, "Certificate of the cluster's CA, PEM.").keep(),
        computed("api_endpoint", api_endpoint, "`host:port` of the API server.").keep(),
        computed("ca_fingerprint", ca_fingerprint, "SHA-256 of the cluster CA's public key: tells clusters apart.").keep(),
    ]
}

/// How long to wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Timeouts {
    pub(super) create: Attr<String>,
    pub(super) update: Attr<String>,
    pub(super) delete: Attr<String>,
}

impl Model for Timeouts {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { create, update, delete } = self;
        vec![
            optional("create", create, "Until the cluster is made and all workers have joined. Default `30m`.")
                .check(timeouts::check),
            optional("update", update, "Until workers have joined or left. Default `30m`.").check(timeouts::check),
            optional("delete", delete, "Until every machine is reset. Default `30m`.").check(timeouts::check),
        ]
    }
}

/// A machine's part in the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Member {
    pub(super) endpoint: Attr<EndpointModel>,
    pub(super) labels: Attr<BTreeMap<String, String>>,
    pub(super) taints: Attr<Vec<String>>,
}

impl Model for Member {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { endpoint, labels, taints } = self;
        vec![
            required("endpoint", endpoint, "The machine's agent: `endpoint` of its `groundwork_machine`."),
            optional("labels", labels, "Labels of the node. Only these are managed."),
            optional(
                "taints",
                taints,
                "Taints of the node, `key=value:Effect` or `key:Effect`. Only these are managed.",
            )
            .check(taint),
        ]
    }
}

/// Names of nodes and clusters: RFC 1123 labels, as Kubernetes and hostnames have them.
fn label(text: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let good = !text.is_empty()
        && text.len() <= 63
        && text.chars().all(inner)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.']);
    if good { Ok(()) } else { Err("must be lower-case letters, digits and `-`, at most 63".to_owned()) }
}

fn version_form(text: &str) -> Result<(), String> {
    let parts: Vec<_> = text.split('.').map(str::parse::<u16>).collect();
    let good = parts.len() == 3 && parts.iter().all(Result::is_ok);
    if good { Ok(()) } else { Err("must be three numbers, such as `1.36.2`, without `v`".to_owned()) }
}

/// One network in CIDR notation, or an IPv4 and an IPv6 one with a comma.
fn network(text: &str) -> Result<(), String> {
    let one = |part: &str| {
        let (address, length) = part.split_once('/')?;
        let address: std::net::IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        length.parse::<u8>().ok().filter(|length| *length <= longest)
    };
    let good = !text.is_empty() && text.split(',').all(|part| one(part).is_some()) && text.split(',').count() <= 2;
    if good { Ok(()) } else { Err("must be a network such as `10.244.0.0/16`".to_owned()) }
}

fn taint(text: &str) -> Result<(), String> {
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let good = text.rsplit_once(':').is_some_and(|(key, effect)| !key.is_empty() && effects.contains(&effect));
    if good { Ok(()) } else { Err(format!("must be `key=value:Effect` with one of {}", effects.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_told_from_good_ones() {
        for (check, good, bad) in [
            (label as fn(&str) -> Result<(), String>, "cp-1", "CP_1"),
            (version_form, "1.36.2", "v1.36"),
            (network, "10.244.0.0/16,fd00::/48", "10.244.0.0/33"),
            (taint, "dedicated=db:NoSchedule", "dedicated:Sometimes"),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
