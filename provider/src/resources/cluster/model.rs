//! The attributes of `groundwork_cluster`.

use super::address;
use super::k3s::{self, Program};
use super::manifests::Manifests;
use super::networks;
use super::quorum::{self, QuorumRecovery};
use super::recovery::{self, RestoreFrom, Snapshots};
use super::vip::KubeVip;
use super::{rules, upgrade};
use crate::agents::{form, overlay};
use crate::endpoint::EndpointModel;
use crate::timeouts;
use std::collections::BTreeMap;
use tf::check::{keys, one_of};
use tf::{Attr, Model, Row, block, computed, optional, required};

/// A Kubernetes cluster over machines.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cluster {
    pub(super) id: Attr<String>,
    pub(super) name: Attr<String>,
    pub(super) distribution: Attr<String>,
    pub(super) version: Attr<String>,
    pub(super) k3s: Attr<Program>,
    pub(super) rke2: Attr<Program>,
    pub(super) endpoint: Attr<String>,
    pub(super) kube_vip: Attr<KubeVip>,
    pub(super) certificate_names: Attr<Vec<String>>,
    pub(super) pod_subnet: Attr<String>,
    pub(super) service_subnet: Attr<String>,
    pub(super) config: Attr<Config>,
    pub(super) ignore_preflight_errors: Attr<Vec<String>>,
    pub(super) control_planes: Attr<BTreeMap<String, Member>>,
    pub(super) workers: Attr<BTreeMap<String, Member>>,
    pub(super) drain_timeout: Attr<String>,
    pub(super) max_unavailable: Attr<String>,
    pub(super) upgrade_first: Attr<Vec<String>>,
    pub(super) deletion_protection: Attr<bool>,
    pub(super) manifest: Attr<Manifests>,
    pub(super) snapshots: Attr<Snapshots>,
    pub(super) restore_from: Attr<RestoreFrom>,
    pub(super) quorum_recovery: Attr<QuorumRecovery>,
    pub(super) certificate_renewal_days: Attr<i64>,
    pub(super) timeouts: Attr<Timeouts>,
    pub(super) drift: Attr<Vec<String>>,
    pub(super) upgrade_steps: Attr<Vec<String>>,
    pub(super) kubeconfig: Attr<String>,
    pub(super) ca_certificate: Attr<String>,
    pub(super) api_endpoint: Attr<String>,
    pub(super) ca_fingerprint: Attr<String>,
}

impl Model for Cluster {
    fn rows(&mut self) -> Vec<Row<'_>> {
        #[rustfmt::skip]
        let Self {
            id, name, distribution, version, k3s, rke2, endpoint, kube_vip, certificate_names, pod_subnet, service_subnet, config, ignore_preflight_errors,
            control_planes, workers, drain_timeout, max_unavailable, upgrade_first, deletion_protection, manifest, snapshots, restore_from, quorum_recovery,
            certificate_renewal_days, timeouts, drift, upgrade_steps, kubeconfig, ca_certificate, api_endpoint, ca_fingerprint,
        } = self;
        let mut rows = vec![
            computed("id", id, "Same as `name`.").keep(),
            required("name", name, "Name of the cluster, as it stands in its kubeconfig.").replaces().check(form::node_name),
            optional("distribution", distribution, "What the cluster is made with: `kubeadm`, `k3s` or `rke2`. Default `kubeadm`.")
                .replaces()
                .default("kubeadm")
                .check(one_of(&["kubeadm", "k3s", "rke2"])),
            required(
                "version",
                version,
                "Kubernetes version, such as `1.36.2`: the one that `groundwork_machine` installs on a new machine. Another one upgrades the \
                 cluster in place, node by node: the control planes one by one, then the workers, `max_unavailable` at a time. Each node \
                 is drained, and must be ready again before the next one begins. `upgrade_steps` of the plan lists the order. An upgrade that \
                 stops at a node goes on there with the next apply. One that is several minor versions on is \
                 reached by way of the newest of each minor version before it, in one apply. It never goes down: what cannot be is a warning of \
                 the plan, which says what to write, and the apply refuses it. Give `kubernetes.version` of the machines the same value: it adds the package repository of that version. Of K3s it is such as `v1.34.3+k3s1`, of RKE2 `v1.34.3+rke2r1`; \
                 another one comes with another program in their block, and is one minor version on at most.",
            )
            .check(k3s::version),
        ];
        rows.extend(programs(k3s, rke2));
        rows.extend(api(endpoint, kube_vip, certificate_names));
        rows.extend(subnets(pod_subnet, service_subnet));
        rows.extend(kubeadm(config, ignore_preflight_errors));
        rows.extend(members(control_planes, workers));
        rows.extend(nodes(drain_timeout, max_unavailable, upgrade_first).into_iter().chain([manifests(manifest)]));
        rows.extend(recovery::rows(snapshots, restore_from, certificate_renewal_days));
        rows.push(quorum::row(quorum_recovery));
        rows.extend([
            optional(
                "deletion_protection",
                deletion_protection,
                "`true`: no apply destroys or replaces the cluster. It counts as it was last applied: set it to `false` and apply, and the next \
                 apply may destroy. Default `false`.",
            ),
            block("timeouts", timeouts, "How long to wait."),
            computed("drift", drift, "What differs in nodes and manifests of the cluster, one line each; the next apply repairs it."),
            computed(
                "upgrade_steps",
                upgrade_steps,
                "What an upgrade does, in order: the versions, then the nodes, those of a line at the same time; then, as `config: …`, the nodes \
                 that a change of `config` goes over. Empty when there is nothing of it to do.",
            )
            .keep(),
        ]);
        rows.extend(access(kubeconfig, ca_certificate, api_endpoint, ca_fingerprint));
        rows
    }
}

/// Where programs come from that no package repository of the machines has.
fn programs<'a>(k3s: &'a mut Attr<Program>, rke2: &'a mut Attr<Program>) -> [Row<'a>; 2] {
    [
        block(
            "k3s",
            k3s,
            "Where K3s comes from, for `distribution = \"k3s\"`. The machines' agents fetch it, compare its checksum, and run it by units of their \
             own; its install script is not used. Upgrades and later joins read a change.",
        ),
        block(
            "rke2",
            rke2,
            "Where RKE2 comes from, for `distribution = \"rke2\"`: as `k3s`. Nodes join at port 9345 of `endpoint`. No real RKE2 was \
             tried: [the guide](../guides/rke2.md) says what is unverified.",
        ),
    ]
}

/// How nodes and users reach the API server.
fn api<'a>(
    endpoint: &'a mut Attr<String>,
    kube_vip: &'a mut Attr<KubeVip>,
    certificate_names: &'a mut Attr<Vec<String>>,
) -> [Row<'a>; 3] {
    [
            optional(
                "endpoint",
                endpoint,
                "`host` or `host:port` by which nodes and users reach the API server, such as a virtual address or a DNS name. It cannot be \
                 changed later. Default port 6443; default host: the control plane's own address, which is for a cluster that will never have \
                 more than one: several must be reached by a name or an address that leads to whichever is well, such as a load balancer's.",
            )
            .replaces()
            .check(rules::api_endpoint),
            block(
                "kube_vip",
                kube_vip,
                "A virtual address for the API server without a load balancer: kube-vip as a static pod on each control plane, of which one has the \
                 address and announces it by ARP or neighbour discovery, for which the control planes must be in one network, and the address in no \
                 range of DHCP; or, with `bgp`, to routers. It cannot be added to a cluster or taken from it later, unless `endpoint` is a name that leads elsewhere then.",
            ),
            optional(
                "certificate_names",
                certificate_names,
                "Further DNS names and addresses in the API server's certificate. A change makes the certificate anew on one control plane after the \
                 other, and restarts its API server; a name that a certificate lacks is a line of `drift`. With K3s and RKE2 it cannot be changed later.",
            )
            .check(form::certificate_name),
    ]
}

/// Which machines are its nodes.
fn members<'a>(
    control_planes: &'a mut Attr<BTreeMap<String, Member>>,
    workers: &'a mut Attr<BTreeMap<String, Member>>,
) -> [Row<'a>; 2] {
    [
            required(
                "control_planes",
                control_planes,
                "Control planes by node name: 1, 3 or 5, for etcd agrees by a majority. They join one after the other, and none of them is \
                 special: one that is added joins, one that is taken out leaves etcd and is reset, one whose machine is another now is \
                 replaced, also while it is down. Of several one must stay until others have joined: an apply that replaces all of them at \
                 once is refused. A cluster of one begins anew with another machine, which the plan says.",
            )
            .check(keys(form::node_name)),
            optional(
                "workers",
                workers,
                "Workers by node name. They join in parallel; one that is taken out is drained and reset.",
            )
            .check(keys(form::node_name)),
    ]
}

fn manifests(manifest: &mut Attr<Manifests>) -> Row<'_> {
    block(
        "manifest",
        manifest,
        "Objects of Kubernetes that the cluster begins with, such as its network plugin; what runs in it later is better left to GitOps. A \
         control plane's agent has the API server take them over (server-side apply, field manager `groundwork`), so that Terraform's \
         computer needs no way to the API server. The label is the manifest's name. They are applied when the nodes have joined, or were \
         upgraded, in the order that `after` says; of each one namespaces and kinds of objects come first. Objects that are missing, and \
         fields of theirs that others have changed, are lines of `drift`: the next apply makes them again, and takes the fields back with \
         `force_conflicts`. While the cluster is made, a manifest that fails is a warning, and the next apply goes on with it.",
    )
    .check(keys(form::manifest_name))
}

/// How nodes go and are upgraded.
fn nodes<'a>(
    drain_timeout: &'a mut Attr<String>,
    max_unavailable: &'a mut Attr<String>,
    upgrade_first: &'a mut Attr<Vec<String>>,
) -> [Row<'a>; 3] {
    [
            optional(
                "drain_timeout",
                drain_timeout,
                "How long the pods of a node may take to leave it, when it is taken out of `workers` or upgraded; their disruption budgets \
                 are honoured. Default `5m`.",
            )
            .check(timeouts::check),
            optional(
                "max_unavailable",
                max_unavailable,
                "How many workers are upgraded at a time: a number, such as `2`, or a part of them, such as `25%`, rounded down and one at \
                 least. Default `1`.",
            )
            .check(upgrade::share),
            optional(
                "upgrade_first",
                upgrade_first,
                "Names of workers that are upgraded before the others, one by one in this order.",
            ),
    ]
}

fn subnets<'a>(pod_subnet: &'a mut Attr<String>, service_subnet: &'a mut Attr<String>) -> [Row<'a>; 2] {
    [
            optional(
                "pod_subnet",
                pod_subnet,
                "Network of the pods, such as `10.244.0.0/16`, or one of IPv4 and one of IPv6 with a comma. The network plugin must use \
                 the same. Each node takes a part of it: of IPv4 256 addresses (/24), of IPv6 a /64, so that it is a /8 to /24, or a /48 to \
                 /64. It must not overlap `service_subnet`, nor hold the address of a machine.",
            )
            .replaces()
            .check(networks::form),
            optional(
                "service_subnet",
                service_subnet,
                "Network of the services, in the same form and of the same kinds as `pod_subnet`: a /12 to /28 of IPv4, a /108 to /124 of \
                 IPv6. Default: Kubernetes' own, `10.96.0.0/12`.",
            )
            .replaces()
            .check(networks::form),
    ]
}

/// How kubeadm's work is changed.
fn kubeadm<'a>(config: &'a mut Attr<Config>, ignore_preflight_errors: &'a mut Attr<Vec<String>>) -> [Row<'a>; 2] {
    [
            block(
                "config",
                config,
                "What is laid over the configuration that kubeadm, K3s or RKE2 is given. Each is an object in JSON in the form that kubeadm of \
                 `version` reads, so mostly a `jsonencode({ … })`; from Kubernetes 1.31 on kubeadm's own documents are `v1beta4`. Objects \
                 are joined with what Groundwork writes, lists are put together, and a setting that has an attribute of its own is \
                 refused. Before anything is done, kubeadm checks that it knows every field. `cluster`, `kubelet` and `kube_proxy` can be \
                 changed on a living cluster, node by node, and what does not come up is taken back. Only what is declared is managed: what \
                 others change of it is a line of `drift`, and the next apply puts it right. With K3s and RKE2 `server` and `agent` take their place, and \
                 settings that its help does not list are refused.",
            ),
            optional(
                "ignore_preflight_errors",
                ignore_preflight_errors,
                "Names of kubeadm's checks whose failure is no obstacle, such as `SystemVerification`: at the creation and at each join.",
            )
            .check(form::preflight_check),
    ]
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
             control planes' agents for a certificate, one after the other, and needs the agents' CA (`GROUNDWORK_AGENT_PKI_DIR`).",
            )
            .keep(),
        computed("ca_certificate", ca_certificate, "Certificate of the cluster's CA, PEM.").keep(),
        computed("api_endpoint", api_endpoint, "`host:port` of the API server.").keep(),
        computed("ca_fingerprint", ca_fingerprint, "SHA-256 of the cluster CA's public key: tells clusters apart.").keep(),
    ]
}

/// What is laid over the configuration that kubeadm is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Config {
    pub(super) cluster: Attr<String>,
    pub(super) init: Attr<String>,
    pub(super) join: Attr<String>,
    pub(super) kubelet: Attr<String>,
    pub(super) kube_proxy: Attr<String>,
    pub(super) server: Attr<String>,
    pub(super) agent: Attr<String>,
}

impl Model for Config {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { cluster, init, join, kubelet, kube_proxy, server, agent } = self;
        vec![
            optional(
                "cluster",
                cluster,
                "Fields of kubeadm's `ClusterConfiguration`, such as `apiServer.extraArgs`. `extraArgs`, `extraVolumes` and `extraEnvs` of \
                 `apiServer`, `controllerManager` and `scheduler`, and `extraArgs` and `extraEnvs` of `etcd.local`, can be changed on a living \
                 cluster: on one control plane after the other kubeadm writes the manifests anew, and each part must be well before the next \
                 one is changed; one that does not start gets its manifest of before. Another `certificateValidityPeriod` or \
                 `encryptionAlgorithm` holds for certificates that are made later. Other fields are read when the cluster is made: a change \
                 of theirs is a warning of the plan, and the apply refuses it.",
            )
            .check(overlay::cluster),
            optional(
                "init",
                init,
                "Fields of kubeadm's `InitConfiguration`: of the control plane that the cluster is made on.",
            )
            .check(overlay::init),
            optional(
                "join",
                join,
                "Fields of kubeadm's `JoinConfiguration`: of every node that joins. A change holds for later joins.",
            )
            .check(overlay::join),
            optional(
                "kubelet",
                kubelet,
                "Fields of `KubeletConfiguration`: of the kubelets of all nodes. A change restarts them, on the control planes one by one, \
                 then on `max_unavailable` workers at a time. Pods go on meanwhile: nodes are not drained for it. A kubelet that does not come up \
                 gets its configuration of before.",
            )
            .check(overlay::kubelet),
            optional(
                "kube_proxy",
                kube_proxy,
                "Fields of `KubeProxyConfiguration`. A change replaces the pods of kube-proxy one by one; if they do not come up, those of before \
                 do.",
            )
            .check(overlay::kube_proxy),
            optional(
                "server",
                server,
                "With K3s and RKE2: settings of their `config.yaml` on servers, such as `disable = [\"traefik\"]`, `kubelet-arg`, `flannel-backend` or RKE2's `cni`.",
            )
            .check(overlay::server),
            optional(
                "agent",
                agent,
                "With K3s and RKE2: settings of their `config.yaml` on agents, which are the workers. A change holds for later joins.",
            )
            .check(overlay::agent),
        ]
    }
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
            optional(
                "update",
                update,
                "Until workers have joined or left, and nodes are upgraded or configured. Default `30m`, and for an upgrade or a change of `config` `15m` more \
                 for each node.",
            )
            .check(timeouts::check),
            optional("delete", delete, "Until every machine is reset. Default `30m`.").check(timeouts::check),
        ]
    }
}

/// A machine's part in the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Member {
    pub(super) endpoint: Attr<EndpointModel>,
    pub(super) address: Attr<String>,
    pub(super) labels: Attr<BTreeMap<String, String>>,
    pub(super) taints: Attr<Vec<String>>,
}

impl Model for Member {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { endpoint, address, labels, taints } = self;
        vec![
            required("endpoint", endpoint, "The machine's agent: `endpoint` of its `groundwork_machine`."),
            optional(
                "address",
                address,
                "Address of the node: what its kubelet registers as internal, and where the other nodes reach it. It must be one of the \
                 machine's, and holds for as long as the node does. Default: the machine's address in the network of the API server, as \
                 `endpoint` of the cluster or a control plane's address says it, or else that of its agent.",
            )
            .check(address::form),
            optional("labels", labels, "Labels of the node. Only these are managed.")
                .check(keys(form::label_key))
                .check(form::label_value),
            optional(
                "taints",
                taints,
                "Taints of the node, `key=value:Effect` or `key:Effect`. Only these are managed.",
            )
            .check(form::taint),
        ]
    }
}
