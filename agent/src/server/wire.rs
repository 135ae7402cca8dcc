//! Messages to domain types and back. Every value of a request is checked here, or in `k3s` for that distribution; nothing behind it sees a
//! message.

use super::snapshots;
use crate::cluster::{
    self, Access, AccessPlan, Bgp, ControlPlane, EtcdMember, FoundCluster, InitPlan, JoinPlan, Joiner, KubeVip,
    Leftovers, LoadBalancer, NodeSettings, Overlay, Peer, Standing, Status, Taint, UpgradePlan, Version, Volume,
};
use crate::facts::Facts;
use crate::first_boot::{self, FirstBoot};
use crate::run::{self, What};
use crate::update::Failed;
use agent_proto::overlay::{self, Part};
use agent_proto::{form, v1 as proto};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn facts(facts: Facts) -> proto::Facts {
    proto::Facts {
        hostname: facts.hostname,
        os_id: facts.os_id,
        os_version: facts.os_version,
        os_name: facts.os_name,
        kernel: facts.kernel,
        architecture: facts.architecture.to_owned(),
        virtualization: facts.virtualization,
        container: facts.container,
        cpus: facts.cpus,
        memory_bytes: facts.memory_bytes,
        machine_uuid: facts.machine_uuid,
        machine_id: facts.machine_id,
        boot_id: facts.boot_id,
        time: rustls::pki_types::UnixTime::now().as_secs(),
        reboot_required: facts.reboot_required,
        clock_synchronised: facts.clock_synchronised,
        cgroup_version: facts.cgroup_version,
        addresses: facts.addresses,
        missing_capabilities: facts.missing_capabilities,
    }
}

/// The run that is in the way stands in the metadata, so that the caller can attach to it.
pub(super) fn busy(id: &str) -> tonic::Status {
    let mut status = tonic::Status::new(tonic::Code::Aborted, format!("run {id} is in progress"));
    if let Ok(id) = id.parse() {
        status.metadata_mut().insert("groundwork-run", id);
    }
    status
}

pub(super) fn first_boot(told: FirstBoot) -> proto::FirstBoot {
    use proto::first_boot::Standing as Wire;
    let FirstBoot { standing, stage, errors, warnings } = told;
    let standing = match standing {
        first_boot::Standing::Absent => Wire::Absent,
        first_boot::Standing::Running => Wire::Running,
        first_boot::Standing::Done => Wire::Done,
    };
    proto::FirstBoot { standing: standing.into(), stage, errors, warnings }
}

pub(super) fn failed_update(failed: Failed) -> proto::FailedUpdate {
    let Failed { version, sha256, why } = failed;
    proto::FailedUpdate { version, sha256, why }
}

pub(super) fn plan(plan: run::Plan, not_looked_at: Vec<run::Skipped>) -> proto::PlanReply {
    let line = |text: String| plain::short(&plain::line(&text), plain::LONGEST).into_owned();
    let change = |planned: run::PlannedChange| proto::PlannedChange {
        step: planned.step.to_owned(),
        summary: line(planned.finding),
        why: line(planned.why),
    };
    let skip =
        |skipped: run::Skipped| proto::SkippedStep { step: skipped.step.to_owned(), reason: line(skipped.reason) };
    let left = plan.changes.len().saturating_sub(plain::MOST);
    let mut changes: Vec<_> = plan.changes.into_iter().take(plain::MOST).map(change).collect();
    if left > 0
        && let Some(last) = changes.last().cloned()
    {
        let summary = format!("… and {left} more differences, of this and later steps");
        changes.push(proto::PlannedChange { summary, why: String::new(), ..last });
    }
    let skips = |all: Vec<run::Skipped>| all.into_iter().take(plain::MOST).map(skip).collect();
    let (skipped, warnings) = (skips(plan.skipped), skips(plan.warnings));
    proto::PlanReply { changes, skipped, not_looked_at: skips(not_looked_at), warnings }
}

pub(super) fn event(run_id: &str, event: run::Event) -> proto::Event {
    use proto::event::What as Wire;
    let what = match event.what {
        What::Began { kind } => Wire::Began(proto::RunBegan { kind }),
        What::StepBegan { step, changes } => Wire::StepBegan(proto::StepBegan { step, changes }),
        What::ChangeMade { step, summary, why, took_ms } => {
            Wire::ChangeMade(proto::ChangeMade { step, summary, why, took_ms })
        }
        What::Output { step, line } => Wire::Output(proto::OutputLine { step, line }),
        What::Skipped { step, reason } => Wire::Skipped(proto::SkippedStep { step, reason }),
        What::Note { step, line, warning } => Wire::Note(proto::Note { step, line, warning }),
        What::Finished(run::Outcome { changes, reboot_needed }) => {
            Wire::Finished(proto::RunFinished { changes, reboot_needed })
        }
        What::Failed(run::Failure { step, change, message, output, cancelled }) => {
            Wire::Failed(proto::RunFailed { step, change, message, output, cancelled })
        }
    };
    proto::Event { run_id: run_id.to_owned(), elapsed_ms: event.elapsed_ms, what: Some(what) }
}

pub(super) fn cluster_status(status: Status) -> proto::ClusterStatusReply {
    use proto::node_evidence::Standing as Wire;
    let cluster::Evidence { standing, cluster_id, found, node_name, kubelet } = status.evidence;
    let standing = match standing {
        Standing::Clean => Wire::Clean,
        Standing::Partial => Wire::Partial,
        Standing::ControlPlane => Wire::ControlPlane,
        Standing::Worker => Wire::Worker,
    };
    let (api_ready, api_message, nodes) = match status.nodes {
        Ok(nodes) => (standing == Wire::ControlPlane, String::new(), nodes),
        Err(message) => (false, message, Vec::new()),
    };
    let (etcd, etcd_message) = match status.etcd {
        Ok(members) => (members.into_iter().map(member).collect(), String::new()),
        Err(message) => (Vec::new(), message),
    };
    proto::ClusterStatusReply {
        evidence: Some(proto::NodeEvidence { standing: standing.into(), cluster_id, found, node_name, kubelet }),
        api_ready,
        api_message,
        nodes: nodes.into_iter().map(node).collect(),
        version: status.version,
        kubeadm_version: String::new(),
        declared_version: status.declared,
        etcd,
        etcd_message,
        kube_vip: status.kube_vip.map(|KubeVip { address, interface, image, bgp: routers }| proto::KubeVip {
            address,
            interface,
            image,
            bgp: routers.map(bgp),
        }),
        snapshots: status.snapshots.map(snapshots::scheduled),
        certificates: status.certificates.into_iter().map(snapshots::certificate).collect(),
        renewal_unfinished: status.renewal_unfinished,
        certificates_external: status.certificates_external,
        configuration_unfinished: status.configuration_unfinished,
        quorum_recovery: status.quorum_recovery.map(snapshots::recovery),
        foreign_kubelet: status.foreign.kubelet,
        external_etcd: status.foreign.etcd,
        external_etcd_member: status.foreign.member,
        kubelet_config: status.foreign.config,
    }
}

fn member(member: EtcdMember) -> proto::EtcdMember {
    proto::EtcdMember {
        healthy: member.ailing.is_none(),
        message: member.ailing.unwrap_or_default(),
        name: member.name,
        address: member.address,
        learner: member.learner,
        alarms: member.alarms,
    }
}

fn node(node: cluster::Node) -> proto::ClusterNode {
    proto::ClusterNode {
        name: node.name,
        ready: node.ready,
        kubelet_version: node.kubelet_version,
        control_plane: node.control_plane,
        machine_uuid: node.machine_uuid,
        internal_address: node.internal_address,
        ready_message: node.ready_message,
        labels: node.labels,
        taints: node.taints,
        unschedulable: node.unschedulable,
        pressures: node.pressures,
        leaving: node.leaving,
        upgrading: node.upgrading,
    }
}

pub(super) fn leftovers(found: Leftovers) -> proto::ClusterLeftoversReply {
    let service = |LoadBalancer { name, addresses }| proto::LoadBalancer { name, addresses };
    let volume = |Volume { name, claim, storage }| proto::PersistentVolume { name, claim, storage };
    proto::ClusterLeftoversReply {
        services: found.services.into_iter().map(service).collect(),
        volumes: found.volumes.into_iter().map(volume).collect(),
    }
}

pub(super) fn init_plan(request: proto::ClusterInitRequest) -> Result<InitPlan, String> {
    let mut names = request.certificate_names;
    names.iter_mut().for_each(|name| *name = name.trim().to_owned());
    Ok(InitPlan {
        name: given(request.name, "name")?,
        version: version(&request.version)?,
        node_name: node_name(request.node_name)?,
        advertise_address: address(request.advertise_address)?,
        endpoint: some(request.endpoint),
        pod_subnet: some(request.pod_subnet),
        service_subnet: some(request.service_subnet),
        certificate_names: names,
        taints: if request.taints_given { Some(taints(&request.taints)?) } else { None },
        ignored_checks: checks(request.ignore_preflight_errors)?,
        overlay: overlay(&request.config.unwrap_or_default())?,
        cluster_id: some(request.cluster_id),
        kube_vip: request.kube_vip.map(kube_vip).transpose()?,
        restore_from: snapshots::restore_from(request.restore_from)?,
    })
}

pub(super) fn join_plan(request: proto::ClusterJoinRequest) -> Result<JoinPlan, String> {
    let material = request.material.ok_or("material is missing")?;
    Ok(JoinPlan {
        version: version(&request.version)?,
        node_name: node_name(request.node_name)?,
        advertise_address: address(request.advertise_address)?,
        endpoint: given(material.endpoint, "material.endpoint")?,
        token: given(material.token, "material.token")?,
        ca_hash: given(material.ca_hash, "material.ca_hash")?,
        near: near(request.near)?,
        ignored_checks: checks(request.ignore_preflight_errors)?,
        overlay: overlay(&request.config.unwrap_or_default())?,
        control_plane: request.control_plane.map(control_plane).transpose()?,
    })
}

fn control_plane(join: proto::ControlPlaneJoin) -> Result<ControlPlane, String> {
    let proto::ControlPlaneJoin { certificate_key, taints: own, taints_given, kube_vip: vip, .. } = join;
    let is_key = certificate_key.len() == 64 && certificate_key.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_key {
        return Err("control_plane.certificate_key is no key: 64 hex digits".to_owned());
    }
    let taints = if taints_given { Some(taints(&own)?) } else { None };
    Ok(ControlPlane { certificate_key, taints, kube_vip: vip.map(kube_vip).transpose()? })
}

/// It becomes part of a static pod.
fn kube_vip(message: proto::KubeVip) -> Result<KubeVip, String> {
    let proto::KubeVip { address, interface, image, bgp } = message;
    form::address(&address).map_err(|why| format!("kube_vip.address: {address:?} {why}"))?;
    if !interface.is_empty() {
        form::interface(&interface).map_err(|why| format!("kube_vip.interface: {interface:?} {why}"))?;
    }
    form::image(&image).map_err(|why| format!("kube_vip.image: {image:?} {why}"))?;
    Ok(KubeVip { address, interface, image, bgp: bgp.map(bgp_of).transpose()? })
}

fn bgp_of(proto::Bgp { asn, peers }: proto::Bgp) -> Result<Bgp, String> {
    let peer = |proto::BgpPeer { address, asn, multihop }| {
        form::address(&address).map_err(|why| format!("kube_vip.bgp.peer: {address:?} {why}"))?;
        Ok(Peer { address, asn, multihop })
    };
    let peers: Vec<Peer> = peers.into_iter().map(peer).collect::<Result<_, String>>()?;
    if peers.is_empty() {
        return Err("kube_vip.bgp.peer: one at least".to_owned());
    }
    if asn == 0 || peers.iter().any(|peer| peer.asn == 0) {
        return Err("kube_vip.bgp.asn: no autonomous system has the number 0".to_owned());
    }
    Ok(Bgp { asn, peers })
}

fn bgp(Bgp { asn, peers }: Bgp) -> proto::Bgp {
    let peer = |Peer { address, asn, multihop }| proto::BgpPeer { address, asn, multihop };
    proto::Bgp { asn, peers: peers.into_iter().map(peer).collect() }
}

pub(super) fn found(found: FoundCluster) -> proto::ClusterFoundReply {
    let FoundCluster { node_name, endpoint, certificate_names, pod_subnet, service_subnet } = found;
    proto::ClusterFoundReply { node_name, endpoint, certificate_names, pod_subnet, service_subnet }
}

/// Who is to join.
pub(super) fn joiner(control_plane: bool) -> Joiner {
    if control_plane { Joiner::ControlPlane } else { Joiner::Worker }
}

pub(super) fn upgrade_plan(request: proto::ClusterUpgradeRequest) -> Result<UpgradePlan, String> {
    Ok(UpgradePlan {
        version: version(&request.version)?,
        node_name: node_name(request.node_name)?,
        cluster_id: given(request.cluster_id, "cluster_id")?,
        drain: drain(request.drain_timeout_s),
        ignored_checks: checks(request.ignore_preflight_errors)?,
        only_check: request.only_check,
        after: Some(request.after).filter(|after| !after.is_empty()).map(|after| version(&after)).transpose()?,
    })
}

/// A minor version: "1.35".
pub(super) fn minor(text: &str) -> Result<Version, String> {
    version(&format!("{text}.0")).map_err(|_| format!("minor: {text:?} is no minor version such as 1.35"))
}

pub(super) fn node_settings(request: proto::NodeSetRequest) -> Result<NodeSettings, String> {
    for (key, value) in &request.labels {
        label(key, value)?;
    }
    for key in &request.remove_labels {
        label(key, "")?;
    }
    Ok(NodeSettings {
        node_name: node_name(request.node_name)?,
        labels: request.labels.into_iter().collect::<BTreeMap<_, _>>(),
        taints: taints(&request.taints)?,
        remove_labels: request.remove_labels,
        remove_taints: taints(&request.remove_taints)?,
    })
}

/// The node, and how long its pods may take to leave; `None` if they are not waited for.
pub(super) fn node_remove(request: proto::NodeRemoveRequest) -> Result<(String, Option<Duration>), String> {
    let drain = (!request.unreachable).then(|| drain(request.drain_timeout_s));
    Ok((node_name(request.node_name)?, drain))
}

/// How long a node's pods may take to leave.
pub(super) fn drain(seconds: u32) -> Duration {
    Duration::from_secs(if seconds == 0 { 300 } else { seconds.into() })
}

/// Life of a join token.
pub(super) fn ttl(seconds: u32) -> Result<Duration, String> {
    match seconds {
        0 => Ok(Duration::from_secs(1_800)),
        1..=7_200 => Ok(Duration::from_secs(seconds.into())),
        _ => Err("ttl_s: a join token lives for two hours at most".to_owned()),
    }
}

/// Whom the API server is to know, and for how long.
pub(super) fn access_plan(request: proto::ClusterCredentialRequest) -> Result<AccessPlan, String> {
    let proto::ClusterCredentialRequest { cluster_id, public_key, user, groups, ttl_s } = request;
    if !(60..=86_400).contains(&ttl_s) {
        return Err("ttl_s: a certificate lives for a minute at least and a day at most".to_owned());
    }
    form::kubernetes_user(&user).map_err(|why| format!("user: {user:?} {why}"))?;
    if groups.len() > 32 {
        return Err("groups: 32 at most".to_owned());
    }
    for group in &groups {
        form::kubernetes_user(group).map_err(|why| format!("groups: {group:?} {why}"))?;
    }
    let ttl = Duration::from_secs(ttl_s.into());
    Ok(AccessPlan { cluster_id: given(cluster_id, "cluster_id")?, public_key, user, groups, ttl })
}

pub(super) fn access(access: Access) -> proto::ClusterCredentialReply {
    let Access { certificate, ca_certificate, endpoint } = access;
    proto::ClusterCredentialReply { certificate, ca_certificate, endpoint }
}

fn version(text: &str) -> Result<Version, String> {
    text.parse().map_err(|error| format!("version: {error}"))
}

/// A name that the API server takes, and that no program takes for an option.
pub(super) fn node_name(name: String) -> Result<String, String> {
    form::node_name(&name).map_err(|why| format!("node_name: {name:?} {why}"))?;
    Ok(name)
}

pub(super) fn address(text: String) -> Result<Option<String>, String> {
    let Some(text) = some(text) else { return Ok(None) };
    match text.parse::<std::net::IpAddr>() {
        Ok(_) => Ok(Some(text)),
        Err(_) => Err(format!("advertise_address: {text:?} is no IP address")),
    }
}

/// They become part of a unit's environment.
pub(super) fn near(entries: Vec<String>) -> Result<Vec<String>, String> {
    let parts = || entries.iter().flat_map(|entry| entry.split(','));
    let bad = parts().find_map(|entry| Some((entry, form::no_proxy(entry).err()?)));
    bad.map_or(Ok(()), |(entry, why)| Err(format!("near: {entry:?} {why}")))?;
    Ok(entries)
}

/// None may pass for an option, nor for two checks.
fn checks(names: Vec<String>) -> Result<Vec<String>, String> {
    let bad = names.iter().find_map(|name| Some((name, form::preflight_check(name).err()?)));
    bad.map_or(Ok(()), |(name, why)| Err(format!("ignore_preflight_errors: {name:?} {why}")))?;
    Ok(names)
}

pub(super) fn overlay(config: &proto::ConfigOverlay) -> Result<Overlay, String> {
    let read =
        |part: Part, text: &str| overlay::read(part, text).map_err(|why| format!("config.{}: {why}", part.name()));
    Ok(Overlay {
        cluster: read(Part::Cluster, &config.cluster)?,
        init: read(Part::Init, &config.init)?,
        join: read(Part::Join, &config.join)?,
        kubelet: read(Part::Kubelet, &config.kubelet)?,
        kube_proxy: read(Part::KubeProxy, &config.kube_proxy)?,
    })
}

pub(super) fn taints(texts: &[String]) -> Result<Vec<Taint>, String> {
    let read = |text: &String| {
        let taint = Taint::parse(text).filter(|_| form::taint(text).is_ok());
        taint.ok_or_else(|| format!("taints: {text:?} is not of the form key=value:Effect"))
    };
    texts.iter().map(read).collect()
}

fn label(key: &str, value: &str) -> Result<(), String> {
    form::label_key(key).map_err(|why| format!("labels: {key:?} {why}"))?;
    form::label_value(value).map_err(|why| format!("labels: the value of {key:?} {why}"))
}

pub(super) fn given(text: String, name: &str) -> Result<String, String> {
    some(text).ok_or_else(|| format!("{name} is missing"))
}

pub(super) fn some(text: String) -> Option<String> {
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init() -> proto::ClusterInitRequest {
        proto::ClusterInitRequest {
            distribution: "kubeadm".into(),
            name: "main".into(),
            version: "1.28.4".into(),
            node_name: "cp-1".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_plan_has_an_end() {
        let change =
            |n: u32| run::PlannedChange { step: "files", finding: format!("{n}\u{1b}"), why: "x".repeat(5_000) };
        let many = run::Plan { changes: (0..300_000).map(change).collect(), ..run::Plan::default() };
        let reply = plan(many, Vec::new());
        assert_eq!((reply.changes.len(), reply.changes[0].summary.as_str()), (plain::MOST + 1, r"0\u{1b}"));
        assert_eq!(reply.changes[plain::MOST].summary, "… and 299500 more differences, of this and later steps");
        assert!(reply.changes.iter().all(|change| change.why.len() < 2 * plain::LONGEST));
    }

    #[test]
    fn an_upgrade_needs_a_version_a_node_and_its_cluster() {
        let good = proto::ClusterUpgradeRequest {
            version: "1.36.4".into(),
            node_name: "worker-1".into(),
            cluster_id: "sha256:00".into(),
            ..Default::default()
        };
        assert_eq!(upgrade_plan(good.clone()).unwrap().drain, Duration::from_secs(300));
        for (request, name) in [
            (proto::ClusterUpgradeRequest { version: "stable".into(), ..good.clone() }, "version"),
            (proto::ClusterUpgradeRequest { node_name: "--help".into(), ..good.clone() }, "node_name"),
            (proto::ClusterUpgradeRequest { cluster_id: String::new(), ..good.clone() }, "cluster_id"),
            (proto::ClusterUpgradeRequest { after: "1.35".into(), ..good.clone() }, "version"),
            (
                proto::ClusterUpgradeRequest { ignore_preflight_errors: vec!["--v=9".into()], ..good },
                "ignore_preflight_errors",
            ),
        ] {
            let said = upgrade_plan(request).unwrap_err();
            assert!(said.starts_with(name), "{said}");
        }
    }

    #[test]
    fn every_bad_value_is_named() {
        assert!(init_plan(init()).is_ok());
        let bad = [
            (proto::ClusterInitRequest { name: " ".into(), ..init() }, "name"),
            (proto::ClusterInitRequest { version: "stable".into(), ..init() }, "version"),
            (proto::ClusterInitRequest { node_name: "--help".into(), ..init() }, "node_name"),
            (proto::ClusterInitRequest { advertise_address: "cp-1".into(), ..init() }, "advertise_address"),
            (proto::ClusterInitRequest { taints: vec!["x".into()], taints_given: true, ..init() }, "taints"),
            (
                proto::ClusterInitRequest { ignore_preflight_errors: vec!["--v=9".into()], ..init() },
                "ignore_preflight_errors",
            ),
            (
                proto::ClusterInitRequest {
                    config: Some(proto::ConfigOverlay { kubelet: "[]".into(), ..Default::default() }),
                    ..init()
                },
                "config.kubelet",
            ),
        ];
        for (request, name) in bad {
            let said = init_plan(request).unwrap_err();
            assert!(said.starts_with(name), "{said}");
        }
    }

    #[test]
    fn no_value_can_pass_for_an_option_of_a_program() {
        for name in ["", "-x", "a b", "A", "a..b", "a-"] {
            assert!(node_name(name.into()).is_err(), "{name}");
        }
        assert!(label("--overwrite", "x").is_err());
        assert!(label("a/b", "-x").is_err());
        assert!(label("example.test/pool", "a").is_ok());
    }

    #[test]
    fn a_token_lives_for_two_hours_at_most() {
        assert_eq!(ttl(0).unwrap().as_secs(), 1_800);
        assert!(ttl(7_201).is_err());
    }

    #[test]
    fn an_access_to_a_cluster_is_short_and_for_somebody() {
        let ask = |ttl_s, user: &str, groups: &[&str]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            access_plan(proto::ClusterCredentialRequest {
                cluster_id: "sha256:00".into(),
                user: user.into(),
                groups,
                ttl_s,
                ..Default::default()
            })
        };
        assert_eq!(ask(600, "alice", &["a:b", "c d"]).unwrap().ttl.as_secs(), 600);
        let bad = [
            (ask(59, "alice", &[]), "ttl_s"),
            (ask(86_401, "alice", &[]), "ttl_s"),
            (ask(600, "", &[]), "user"),
            (ask(600, "alice", &["a", "b\nc"]), "groups"),
            (ask(600, "alice", &["a"; 33]), "groups"),
        ];
        for (refused, name) in bad {
            let said = refused.unwrap_err();
            assert!(said.starts_with(name), "{said}");
        }
    }

    #[test]
    fn a_control_plane_joins_with_a_key_and_its_taints() {
        let material = proto::JoinMaterialReply {
            endpoint: "192.0.2.10:6443".into(),
            token: "abcdef.0123456789abcdef".into(),
            ca_hash: "sha256:00".into(),
            ..Default::default()
        };
        let ask = |key: &str, taints: &[&str]| {
            let taints = taints.iter().map(|taint| (*taint).to_owned()).collect();
            join_plan(proto::ClusterJoinRequest {
                distribution: "kubeadm".into(),
                version: "1.36.3".into(),
                node_name: "cp-2".into(),
                material: Some(material.clone()),
                control_plane: Some(proto::ControlPlaneJoin {
                    certificate_key: key.to_owned(),
                    taints,
                    taints_given: true,
                    ..Default::default()
                }),
                ..Default::default()
            })
        };
        assert_eq!(ask(&"0a".repeat(32), &[]).unwrap().control_plane.unwrap().taints, Some(Vec::new()));
        for key in ["", "0a", &"zz".repeat(32), &format!("{}\n", "0a".repeat(32))] {
            assert!(ask(key, &[]).unwrap_err().starts_with("control_plane.certificate_key"), "{key}");
        }
        assert!(ask(&"0a".repeat(32), &["x"]).unwrap_err().starts_with("taints"));
    }
}
