//! What is different in a living cluster from what the state says, and what a person should know of it.
//!
//! The API server knows nodes; the agents know their machines. Neither is enough: a node counts as ready for a while after its
//! machine was reset, and a kubelet that does not run is no difference in anything the API server keeps.

use super::begun::Begun;
use super::control_planes::Asked;
use super::model::{Cluster, Member};
use super::{address, configuration, endpoint, etcd, foreign, recovery, upgrade};
use crate::agents::{ClusterStatus, Node, Standing, again};
use crate::context::{Cx, looking};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tf::{Diagnostic, Path};
use trust::Role;

/// What machines say of themselves, by the name of their node.
pub(super) type Machines = BTreeMap<String, ClusterStatus>;

/// Asks the workers' agents, all at once, beside the control planes that were asked. One that does not answer is its machine's concern, and
/// left out.
pub(super) async fn machines(cx: &Cx, models: &[&Cluster], asked: Vec<Asked>) -> Machines {
    let planes = asked;
    // The first that names a worker counts.
    let all = models.iter().rev().filter_map(|m| m.workers.get()).flatten();
    let workers: BTreeMap<&String, &Member> = all.collect();
    let asked = workers.iter().map(async |(name, member)| {
        let machine = endpoint(member).ok()?;
        let until = looking(cx);
        let status =
            again(|| async { cx.agents.connect(&machine, Role::Observer, &until).await?.cluster_status().await });
        Some(((*name).clone(), status.await.ok()?))
    });
    // Here, too: the last of a name stays.
    let control_planes = planes.into_iter().rev().filter_map(|one| Some((one.plane.name, one.said.ok()?)));
    let workers: Vec<_> = join_all(asked).await;
    control_planes.chain(workers.into_iter().flatten()).collect()
}

/// Takes over what a change that failed has left: members, and settings of nodes.
pub(super) fn take_over(m: &mut Cluster, begun: &Begun, cluster: &ClusterStatus, machines: &Machines) {
    begun.add_to(m, |name| is_control_plane(name, cluster, machines), |name| is_worker(name, cluster, machines));
    let members = m.control_planes.get_mut().into_iter().chain(m.workers.get_mut()).flatten();
    for (name, member) in members {
        if let Some(node) = cluster.nodes.iter().find(|node| node.name == *name) {
            begun.add_settings(name, member, node);
        }
    }
}

/// Brings the state to what there is: who is no node is dropped, so that the plan adds it again.
pub(super) fn compare(cx: &Cx, m: &mut Cluster, cluster: &ClusterStatus, machines: &Machines) {
    let by_name: BTreeMap<_, _> = cluster.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    if let Some(workers) = m.workers.get_mut() {
        workers.retain(|name, _| kept(cx, name, is_worker(name, cluster, machines), cluster));
    }
    if let Some(planes) = m.control_planes.get_mut() {
        planes.retain(|name, _| kept(cx, name, is_control_plane(name, cluster, machines), cluster));
    }
    let members = m.control_planes.get_mut().into_iter().chain(m.workers.get_mut()).flatten();
    for (name, member) in members {
        let Some(node) = by_name.get(name.as_str()) else { continue };
        compare_settings(member, node);
    }
    m.drift.set(plain::list(drift(m, cluster, machines)));
    let found = warnings(m, &cluster.nodes).into_iter().chain(etcd::warnings(m, cluster));
    let found = found.chain(recovery::warnings(m, machines));
    found.for_each(|warning| cx.warn(warning));
    upgrade::note(cx.private(), m, cluster);
    foreign::note(cx.private(), machines);
    upgrade::ahead(cx, &m.version.or(""), &cluster.nodes);
    upgrade::told_apart(&m.version.or(""), &declared(m, machines)).into_iter().for_each(|warning| cx.warn(warning));
}

/// Versions that the specifications of machines declare, by node.
fn declared(m: &Cluster, machines: &Machines) -> BTreeMap<String, String> {
    let maps = [&m.control_planes, &m.workers];
    let is_member =
        |name: &String| maps.iter().filter_map(|members| members.get()).any(|members| members.contains_key(name));
    let own = machines.iter().filter(|(name, _)| is_member(name));
    own.map(|(name, machine)| (name.clone(), machine.declared.clone())).collect()
}

/// Whether a member counts; of one that does not and has a node still, its machine says otherwise.
fn kept(cx: &Cx, name: &str, counts: bool, cluster: &ClusterStatus) -> bool {
    if !counts && cluster.nodes.iter().any(|node| node.name == name) {
        cx.warn(reset(name));
    }
    counts
}

/// Whether a worker is one still. One that came or went half-way is kept, although it may have no node: what is on its machine goes with it.
fn is_worker(name: &str, cluster: &ClusterStatus, machines: &Machines) -> bool {
    let has_node = cluster.nodes.iter().any(|node| node.name == name);
    let Some(machine) = machines.get(name) else { return has_node };
    is_of(machine, cluster) && (has_node || machine.standing == Standing::Partial)
}

/// Whether a control plane is one still. One whose machine says otherwise is shown as missing, and so is one of which nothing is known any
/// more; what is only taken from it, or half-way on it, is put right in place.
fn is_control_plane(name: &str, cluster: &ClusterStatus, machines: &Machines) -> bool {
    let is_known =
        cluster.nodes.iter().any(|node| node.name == name) || cluster.etcd.iter().any(|member| member.name == name);
    machines.get(name).map_or(is_known, |machine| is_of(machine, cluster))
}

/// Whether a machine is of this cluster, be it half-way.
fn is_of(machine: &ClusterStatus, cluster: &ClusterStatus) -> bool {
    machine.standing != Standing::Clean && machine.cluster_id == cluster.cluster_id
}

/// What a join or a reset that was cut off has left on a machine.
fn half_way(name: &str, machine: Option<&ClusterStatus>) -> Option<String> {
    let is_half = machine.is_some_and(|machine| machine.standing == Standing::Partial);
    is_half.then(|| format!("{name}: its machine is half-way into the cluster, or out of it"))
}

/// What the next apply puts right in nodes that stay, one line each.
fn drift(m: &Cluster, cluster: &ClusterStatus, machines: &Machines) -> Vec<String> {
    let (mut lines, silent) = (Vec::new(), ClusterStatus::default());
    for name in m.control_planes.get().into_iter().flatten().map(|(name, _)| name) {
        if let Some(line) = half_way(name, machines.get(name)) {
            lines.push(line);
            continue;
        }
        let own = machines.get(name).unwrap_or(&silent);
        lines.extend(control_plane(name, own, cluster).or_else(|| etcd::lacks(cluster, name)));
        let differs = machines.contains_key(name) && own.kube_vip != super::vip::of(m);
        lines.extend(differs.then(|| format!("{name}: its kube-vip is not as declared")));
        lines.extend(machines.get(name).map(|own| recovery::lacks(m, name, own)).unwrap_or_default());
    }
    for name in m.workers.get().into_iter().flatten().map(|(name, _)| name) {
        let machine = machines.get(name);
        let down = || Some(format!("{name}: its kubelet is {}", machine?.kubelet_down()?));
        lines.extend(half_way(name, machine).or_else(down));
    }
    let members = [&m.control_planes, &m.workers].into_iter().filter_map(|members| members.get()).flatten();
    for (name, _) in members {
        let node = cluster.nodes.iter().find(|node| node.name == *name);
        lines.extend(node.and_then(|node| upgrade::lacks(node, &m.version.or(""))));
        lines.extend(machines.get(name).and_then(|own| configuration::cut_off(name, own)));
    }
    lines
}

/// What a control plane lacks, by its own agent and by the API server of the cluster.
pub(super) fn control_plane(name: &str, own: &ClusterStatus, cluster: &ClusterStatus) -> Option<String> {
    if let Some(state) = own.kubelet_down() {
        return Some(format!("{name}: its kubelet is {state}"));
    }
    if !cluster.api_ready {
        return None;
    }
    match cluster.nodes.iter().find(|node| node.name == name) {
        None => Some(format!("{name}: the cluster has no such node")),
        Some(node) if !node.control_plane => Some(format!("{name}: its node is not marked as a control plane")),
        Some(_) => None,
    }
}

/// Whether a node has the labels and taints that this member asks for.
pub(super) fn has_settings(member: &Member, node: &Node) -> bool {
    let mut seen = member.clone();
    compare_settings(&mut seen, node);
    seen == *member
}

/// Of what is managed, what is really set.
fn compare_settings(member: &mut Member, node: &Node) {
    if let Some(labels) = member.labels.get_mut() {
        labels.retain(|key, _| node.labels.contains_key(key));
        for (key, value) in labels.iter_mut() {
            if let Some(real) = node.labels.get(key) {
                real.clone_into(value);
            }
        }
    }
    if let Some(taints) = member.taints.get_mut() {
        taints.retain(|taint| node.taints.contains(taint));
    }
}

/// What nobody asked for and no apply changes.
fn warnings(m: &Cluster, nodes: &[Node]) -> Vec<Diagnostic> {
    let mut found = not_ready(nodes);
    found.extend(cordoned(nodes));
    found.extend(pressed(nodes));
    found.extend(addresses(m, nodes));
    found.extend(repelling(m, nodes));
    found.extend(strangers(m, nodes));
    found.extend(strange_workers(m, nodes));
    found
}

/// One warning for each reason, with the nodes that have it: without a pod network all of them are not ready.
fn not_ready(nodes: &[Node]) -> Vec<Diagnostic> {
    // A node that has just joined says more in the same message. Where another node is ready there is a network, and this one only
    // waits for its part of it.
    let is_up = nodes.iter().any(|node| node.ready);
    let mut reasons: BTreeMap<(bool, &str), Vec<&Node>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| !node.ready) {
        let no_network = !is_up && node.without_network();
        let reason = if no_network { "" } else { node.ready_message.as_str() };
        reasons.entry((no_network, reason)).or_default().push(node);
    }
    let warning = |((no_network, _), nodes): ((bool, &str), Vec<&Node>)| {
        let (subject, first) = named(&nodes);
        let reason = nodes.first().map_or("", |node| node.ready_message.as_str());
        let said = if reason.is_empty() { "The API server gives no reason." } else { reason };
        if no_network {
            return Diagnostic::warning("The cluster has no pod network yet")
                .happened(format!("{subject} not ready: {said}"))
                .next("Give the cluster a network plugin, for example Flannel, Calico or Cilium: in a `manifest` block, or with its `kubeconfig`.");
        }
        Diagnostic::warning(format!("{subject} not ready"))
            .happened(said)
            .next(format!("Look at it with `kubectl describe node {first}`."))
    };
    reasons.into_iter().map(warning).collect()
}

/// "Nodes a, b are" or "Node a is", and the first name.
fn named(nodes: &[&Node]) -> (String, String) {
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let first = names.first().copied().unwrap_or_default().to_owned();
    let (subject, verb) = if names.len() > 1 { ("Nodes", "are") } else { ("Node", "is") };
    (format!("{subject} {} {verb}", names.join(", ")), first)
}

fn cordoned(nodes: &[Node]) -> Option<Diagnostic> {
    let cordoned: Vec<&Node> = nodes.iter().filter(|node| node.cordoned && !node.upgrading).collect();
    let (subject, first) = named(&cordoned);
    (!cordoned.is_empty()).then(|| {
        Diagnostic::warning(format!("{subject} cordoned"))
            .happened("No new pod is placed there.")
            .next(format!("If that is not meant, `kubectl uncordon {first}`."))
    })
}

fn pressed(nodes: &[Node]) -> Vec<Diagnostic> {
    let pressed = nodes.iter().filter(|node| !node.pressures.is_empty());
    let warning = |node: &Node| {
        Diagnostic::warning(format!("Node {} is under pressure", node.name))
            .happened(format!("Its kubelet says: {}.", node.pressures.join("; ")))
            .holds("Pods are not placed there, and may be evicted.")
            .next(format!("Look at it with `kubectl describe node {}`.", node.name))
    };
    pressed.map(warning).collect()
}

/// Nodes that are known by another address than their members say.
fn addresses(m: &Cluster, nodes: &[Node]) -> Vec<Diagnostic> {
    let maps = [("control_planes", &m.control_planes), ("workers", &m.workers)];
    let mut found = Vec::new();
    for (attribute, members) in maps {
        for (name, member) in members.get().into_iter().flatten() {
            let real = nodes.iter().find(|node| node.name == *name).map(|node| node.address.as_str());
            let (Some(wanted), Some(real)) = (member.address.text(), real.filter(|real| !real.is_empty())) else {
                continue;
            };
            if wanted.parse::<IpAddr>().ok() != real.parse::<IpAddr>().ok() {
                found.push(address::differs(name, (wanted, real), &Path::from(attribute).key(name)));
            }
        }
    }
    found
}

/// Taints that no configuration asked for: pods that wait for ever are mostly due to one.
fn repelling(m: &Cluster, nodes: &[Node]) -> Option<Diagnostic> {
    let members = [&m.control_planes, &m.workers].into_iter().filter_map(|members| members.get()).flatten();
    let lines: Vec<String> = members
        .filter_map(|(name, member)| {
            let node = nodes.iter().find(|node| node.name == *name)?;
            let wanted = member.taints.or(Vec::new());
            let own = |taint: &String| {
                let key = taint.split(['=', ':']).next().unwrap_or_default();
                TOLD.contains(&key) || member.taints.is_null() && node.control_plane && key == CONTROL_PLANE
            };
            let foreign: Vec<&str> =
                node.taints.iter().filter(|taint| !wanted.contains(taint) && !own(taint)).map(String::as_str).collect();
            (!foreign.is_empty()).then(|| format!("{name} {}", foreign.join(", ")))
        })
        .collect();
    (!lines.is_empty()).then(|| {
        Diagnostic::warning("Nodes carry taints that the configuration does not ask for")
            .happened(format!("{}.", lines.join("; ")))
            .holds("Pods that do not tolerate them are not placed there.")
            .next("Those of `node.kubernetes.io` go with their cause. If another one is meant, write it into the node's `taints`.")
    })
}

/// Control planes that this configuration does not know: it neither counts on them nor resets them.
fn strangers(m: &Cluster, nodes: &[Node]) -> Option<Diagnostic> {
    let known = |name: &String| m.control_planes.get().is_some_and(|members| members.contains_key(name));
    let strange: Vec<&Node> = nodes.iter().filter(|node| node.control_plane && !known(&node.name)).collect();
    let (subject, _) = named(&strange);
    (!strange.is_empty()).then(|| {
        Diagnostic::warning(format!("{subject} no control plane of this configuration"))
            .happened("Somebody else made a control plane of it. It holds a copy of the cluster's data and keys.")
            .holds("It is not managed here: destroying this cluster does not reset it.")
            .next("If it does not belong there, take it out: `kubectl drain`, `kubeadm reset` on it, `kubectl delete node`.")
    })
}

/// Workers that the state does not know: of somebody else, or left by an apply that was killed.
fn strange_workers(m: &Cluster, nodes: &[Node]) -> Option<Diagnostic> {
    let maps = [&m.control_planes, &m.workers];
    let known = |name: &String| maps.iter().filter_map(|members| members.get()).any(|all| all.contains_key(name));
    let strange: Vec<&Node> = nodes.iter().filter(|node| !node.control_plane && !known(&node.name)).collect();
    let (subject, first) = named(&strange);
    (!strange.is_empty()).then(|| {
        Diagnostic::warning(format!("{subject} not in the state"))
            .happened("Joined by somebody else, or by an apply that was killed.")
            .holds("What the configuration has of this is taken over by the next apply. Nothing else is managed here, and no apply takes it out.")
            .next(format!("If it does not belong there, take it out: `kubectl drain {first}`, `kubeadm reset` on it, `kubectl delete node {first}`."))
    })
}

/// The next apply joins a machine that somebody has reset.
fn reset(name: &str) -> Diagnostic {
    Diagnostic::warning(format!("The machine of node {name} is no node of the cluster any more"))
        .happened("Its agent says so, although the cluster still has a node of that name: the machine was reset by somebody else.")
        .holds("The node is shown as missing.")
        .next("Apply to join it again.")
}

/// Keys of taints that other warnings speak of.
const TOLD: [&str; 3] =
    ["node.kubernetes.io/unschedulable", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Data;
    use tf::{Attr, CancellationToken};

    fn cluster() -> Cluster {
        let worker = Member {
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]).into(),
            taints: vec!["db:NoSchedule".to_owned()].into(),
            ..Member::default()
        };
        let workers = BTreeMap::from([("worker-1".to_owned(), worker.clone()), ("worker-2".to_owned(), worker)]);
        let control_planes = BTreeMap::from([("cp-1".to_owned(), Member::default())]);
        Cluster { control_planes: Attr::Known(control_planes), workers: Attr::Known(workers), ..Cluster::default() }
    }

    fn node(name: &str) -> Node {
        Node { name: name.to_owned(), ready: true, control_plane: name.starts_with("cp"), ..Node::default() }
    }

    fn told(cx: &Cx, m: &mut Cluster, nodes: Vec<Node>, machines: &Machines) {
        let status =
            ClusterStatus { api_ready: true, cluster_id: "sha256:00".to_owned(), nodes, ..ClusterStatus::default() };
        compare(cx, m, &status, machines);
    }

    fn cx() -> Cx {
        Cx::new(std::sync::Arc::new(Data::default()), CancellationToken::new())
    }

    fn summaries(found: &[Diagnostic]) -> Vec<&str> {
        found.iter().map(Diagnostic::summary).collect()
    }

    #[test]
    fn nodes_that_are_not_ready_are_told_once_for_each_reason() {
        let node = |name: &str, message: &str| Node {
            name: name.to_owned(),
            ready_message: message.to_owned(),
            ..Node::default()
        };
        let no_network = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
            message:Network plugin returns error: cni plugin not initialized";
        let mut nodes = vec![
            node("cp-1", no_network),
            node("worker-1", &format!("[{no_network}, CSINode is not yet initialized]")),
            node("worker-2", "Kubelet stopped posting node status."),
        ];
        assert_eq!(summaries(&not_ready(&nodes)), ["Node worker-2 is not ready", "The cluster has no pod network yet"]);
        nodes[0].ready = true;
        assert_eq!(
            summaries(&not_ready(&nodes)),
            ["Node worker-2 is not ready", "Node worker-1 is not ready"],
            "one is late, and the others have a network"
        );
    }

    #[test]
    fn a_node_has_what_its_member_asks_for_or_lacks_some_of_it() {
        let labels = |value: &str| BTreeMap::from([("zone".to_owned(), value.to_owned())]);
        let member =
            Member { labels: labels("a").into(), taints: vec!["db:NoSchedule".to_owned()].into(), ..Member::default() };
        let taints = vec!["other:NoExecute".to_owned(), "db:NoSchedule".to_owned()];
        let whole = Node { labels: labels("a"), taints, ..node("worker-1") };
        assert!(has_settings(&member, &whole));
        assert!(!has_settings(&member, &Node { labels: labels("b"), ..whole.clone() }));
        assert!(!has_settings(&member, &Node { taints: Vec::new(), ..whole }));
    }

    #[test]
    fn a_worker_that_left_is_dropped_and_changed_settings_are_seen() {
        let (cx, mut m) = (cx(), cluster());
        let worker = Node {
            labels: BTreeMap::from([("zone".to_owned(), "b".to_owned()), ("other".to_owned(), "x".to_owned())]),
            ..node("worker-1")
        };
        told(&cx, &mut m, vec![node("cp-1"), worker], &Machines::new());
        let workers = m.workers.get().unwrap();
        assert_eq!(workers.keys().collect::<Vec<_>>(), ["worker-1"]);
        assert_eq!(workers["worker-1"].labels.get().unwrap(), &BTreeMap::from([("zone".to_owned(), "b".to_owned())]));
        assert_eq!(workers["worker-1"].taints.get().unwrap(), &Vec::<String>::new());
        assert_eq!(m.drift.get().unwrap(), &Vec::<String>::new());
    }

    #[test]
    fn a_machine_that_was_reset_or_whose_kubelet_is_dead_is_a_difference() {
        let (cx, mut m) = (cx(), cluster());
        let worker = |standing, kubelet: &str| ClusterStatus {
            standing,
            kubelet: kubelet.to_owned(),
            cluster_id: "sha256:00".to_owned(),
            ..ClusterStatus::default()
        };
        let machines = Machines::from([
            ("cp-1".to_owned(), worker(Standing::ControlPlane, "active")),
            ("worker-1".to_owned(), worker(Standing::Worker, "failed")),
            ("worker-2".to_owned(), worker(Standing::Clean, "")),
        ]);
        let nodes = vec![node("worker-1"), node("worker-2")];
        told(&cx, &mut m, nodes, &machines);
        assert_eq!(m.workers.get().unwrap().keys().collect::<Vec<_>>(), ["worker-1"]);
        assert_eq!(m.drift.get().unwrap(), &["cp-1: the cluster has no such node", "worker-1: its kubelet is failed"]);
    }

    #[test]
    fn a_control_plane_that_is_none_any_more_is_dropped_and_one_that_is_down_is_kept() {
        let (cx, mut m) = (cx(), cluster());
        let names = ["cp-1", "cp-2", "cp-3", "cp-4"].map(|name| (name.to_owned(), Member::default()));
        m.control_planes = BTreeMap::from(names).into();
        let machine =
            |standing| ClusterStatus { standing, cluster_id: "sha256:00".to_owned(), ..ClusterStatus::default() };
        let machines = Machines::from([
            ("cp-1".to_owned(), machine(Standing::ControlPlane)),
            ("cp-2".to_owned(), machine(Standing::Clean)),
        ]);
        // cp-3 gives no answer and has its node; of cp-4 nothing is known any more.
        told(&cx, &mut m, ["cp-1", "cp-2", "cp-3"].map(node).to_vec(), &machines);
        assert_eq!(m.control_planes.get().unwrap().keys().collect::<Vec<_>>(), ["cp-1", "cp-3"]);
    }

    #[test]
    fn who_is_half_way_is_kept_so_that_it_can_be_taken_out() {
        let (cx, mut m) = (cx(), cluster());
        let half = |cluster_id: &str| ClusterStatus {
            standing: Standing::Partial,
            cluster_id: cluster_id.to_owned(),
            ..ClusterStatus::default()
        };
        let machines = Machines::from([
            ("cp-1".to_owned(), half("sha256:00")),
            ("worker-1".to_owned(), half("sha256:00")),
            ("worker-2".to_owned(), half("")),
        ]);
        told(&cx, &mut m, vec![node("cp-1"), node("worker-2")], &machines);
        assert_eq!(m.workers.get().unwrap().keys().collect::<Vec<_>>(), ["worker-1"]);
        let half_way = "its machine is half-way into the cluster, or out of it";
        assert_eq!(m.drift.get().unwrap(), &[format!("cp-1: {half_way}"), format!("worker-1: {half_way}")]);
    }

    #[test]
    fn what_a_failed_change_has_left_is_taken_over() {
        let mut m = cluster();
        let begun = Cluster {
            control_planes: BTreeMap::from([("cp-2".to_owned(), Member::default())]).into(),
            workers: BTreeMap::from(["worker-3", "worker-4"].map(|name| (name.to_owned(), Member::default()))).into(),
            ..Cluster::default()
        };
        let private = tf::Private::default();
        super::super::begun::note(&private, &begun);
        let status = ClusterStatus { nodes: vec![node("cp-2"), node("worker-3")], ..ClusterStatus::default() };
        take_over(&mut m, &Begun::of(&private), &status, &Machines::new());
        assert_eq!(m.workers.get().unwrap().keys().collect::<Vec<_>>(), ["worker-1", "worker-2", "worker-3"]);
        assert_eq!(m.control_planes.get().unwrap().keys().collect::<Vec<_>>(), ["cp-1", "cp-2"]);
    }

    #[test]
    fn what_nobody_asked_for_is_named() {
        let pressed = Node {
            taints: vec!["node.kubernetes.io/disk-pressure:NoSchedule".to_owned(), "db:NoSchedule".to_owned()],
            pressures: vec!["DiskPressure: kubelet has disk pressure".to_owned()],
            ..node("worker-1")
        };
        let cordoned = Node {
            cordoned: true,
            taints: vec!["node.kubernetes.io/unschedulable:NoSchedule".to_owned()],
            ..node("worker-2")
        };
        let first = Node {
            taints: vec![format!("{CONTROL_PLANE}:NoSchedule")],
            address: "192.0.2.11".to_owned(),
            ..node("cp-1")
        };
        let mut wanted = cluster();
        wanted.control_planes.get_mut().unwrap().get_mut("cp-1").unwrap().address = "10.9.0.11".into();
        let found = warnings(&wanted, &[first.clone(), node("cp-2"), pressed, cordoned]);
        assert_eq!(
            summaries(&found),
            [
                "Node worker-2 is cordoned",
                "Node worker-1 is under pressure",
                "Node cp-1 has another address",
                "Nodes carry taints that the configuration does not ask for",
                "Node cp-2 is no control plane of this configuration",
            ]
        );
        let taints = found[3].to_string();
        assert!(taints.contains("worker-1 node.kubernetes.io/disk-pressure:NoSchedule."), "{taints}");
        assert!(warnings(&cluster(), &[first, node("worker-1")]).is_empty());
        assert_eq!(summaries(&warnings(&cluster(), &[node("worker-3")])), ["Node worker-3 is not in the state"]);
    }
}
