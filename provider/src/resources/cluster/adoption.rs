//! A cluster that somebody made with kubeadm by hand, taken over: an import that names it and the agents of its machines is the user's word.
//!
//! The import looks at every machine and changes none, and a mark beside the state says that they are not ours yet. The next change, or the
//! destruction, has their agents note that they are, and goes on as with any other cluster. A machine that the import did not name stays
//! somebody else's.

use super::control_planes::{self, Asked, Plane};
use super::endpoint;
use super::membership::{Crew, Members, all};
use super::model::{Cluster, Member};
use super::networks::SERVICES;
use crate::agents::{ClusterFound, ClusterStatus, Endpoint, Error, Standing, form};
use crate::context::{Cx, looking};
use crate::endpoint::EndpointModel;
use crate::explain;
use futures_util::future::join_all;
use tf::{Attr, Diagnostic, Diagnostics};
use trust::Role;

/// A name and the agents of all nodes, of `NAME=ADDRESS,FINGERPRINT;ADDRESS,FINGERPRINT;…`.
pub(super) fn parse(id: &str) -> Option<(String, Vec<Endpoint>)> {
    let (name, machines) = id.split_once('=')?;
    form::node_name(name).ok()?;
    let endpoints = machines.split(';').map(|one| EndpointModel::from_id(one.trim())?.to_endpoint());
    Some((name.to_owned(), endpoints.collect::<Option<_>>()?))
}

/// What a machine told of itself.
struct Told {
    endpoint: Endpoint,
    status: ClusterStatus,
    found: ClusterFound,
}

/// The cluster as the machines have it.
pub(super) async fn import(cx: &Cx, name: &str, machines: Vec<Endpoint>) -> Result<Cluster, Diagnostics> {
    let act = format!("import cluster {name}");
    let asked = join_all(machines.into_iter().map(async |endpoint| {
        let told = ask(cx, &endpoint).await;
        told.map_err(|error| explain::agent(&format!("{act}: look at the machine at {}", endpoint.address), &error))
    }));
    let m = read(name, &act, all(asked.await)?)?;
    cx.private().set(IMPORTED, &true);
    Ok(m)
}

async fn ask(cx: &Cx, endpoint: &Endpoint) -> Result<Told, Error> {
    let mut agent = cx.agents.connect(endpoint, Role::Observer, &looking(cx)).await?;
    let status = agent.cluster_status().await?;
    Ok(Told { endpoint: endpoint.clone(), status, found: agent.cluster_found().await? })
}

fn read(name: &str, act: &str, told: Vec<Told>) -> Result<Cluster, Diagnostic> {
    let refusal = |why: String| {
        Diagnostic::error(format!("Cannot {act}"))
            .happened(why)
            .holds("Nothing was recorded in the state, and nothing changed on the machines.")
            .next("Name the agents of all nodes of one cluster that kubeadm made: `NAME=192.0.2.11:7443,sha256:…;192.0.2.21:7443,sha256:…`.")
    };
    let Some(first) = told.iter().find(|one| is_control_plane(one) && one.status.api_ready) else {
        return Err(refusal("None of the machines is a control plane whose API server answers.".to_owned()));
    };
    let (cluster_id, found) = (first.status.cluster_id.clone(), first.found.clone());
    let nodes: Vec<String> = first.status.nodes.iter().map(|node| node.name.clone()).collect();
    let (mut control_planes, mut workers) = (Members::new(), Members::new());
    for one in &told {
        let node = &one.found.node_name;
        if one.status.cluster_id != cluster_id || !nodes.contains(node) {
            let address = &one.endpoint.address;
            return Err(refusal(format!(
                "The machine at {address} is no node of the cluster with the CA {cluster_id}."
            )));
        }
        let member = Member { endpoint: EndpointModel::from(&one.endpoint).into(), ..Member::default() };
        let members = if is_control_plane(one) { &mut control_planes } else { &mut workers };
        if members.insert(node.clone(), member).is_some() {
            return Err(refusal(format!("Two of the agents say that theirs is node {node}.")));
        }
    }
    let missing: Vec<&str> = nodes.iter().map(String::as_str).filter(|name| !is_told(&told, name)).collect();
    if !missing.is_empty() {
        return Err(refusal(format!("The cluster has nodes whose agents are not named: {}.", missing.join(", "))));
    }
    let planes = told.into_iter().map(|one| {
        let plane = Plane { name: one.found.node_name, endpoint: one.endpoint };
        Asked { plane, said: Ok(one.status) }
    });
    let version = control_planes::version(&planes.collect::<Vec<_>>(), &cluster_id).unwrap_or_default();
    let text = |text: &str| if text.is_empty() { Attr::Null } else { Attr::from(text.to_owned()) };
    let names = found.certificate_names;
    Ok(Cluster {
        id: name.into(),
        name: name.into(),
        distribution: "kubeadm".into(),
        version: version.into(),
        endpoint: text(&found.endpoint),
        certificate_names: if names.is_empty() { Attr::Null } else { names.into() },
        pod_subnet: text(&found.pod_subnet),
        // Kubernetes' own is what a configuration without one has.
        service_subnet: if found.service_subnet == SERVICES { Attr::Null } else { text(&found.service_subnet) },
        control_planes: control_planes.into(),
        workers: if workers.is_empty() { Attr::Null } else { workers.into() },
        ca_fingerprint: cluster_id.into(),
        ..Cluster::default()
    })
}

fn is_control_plane(one: &Told) -> bool {
    one.status.standing == Standing::ControlPlane
}

fn is_told(told: &[Told], name: &str) -> bool {
    told.iter().any(|one| one.found.node_name == name)
}

/// Until the machines are ours, a plan says what that means.
pub(super) fn look(cx: &Cx, name: &str) {
    if cx.private().get(IMPORTED).unwrap_or(false) {
        cx.warn(
            Diagnostic::warning(format!("The machines of cluster {name} are not taken over yet"))
                .happened("The cluster was imported, and an import changes nothing on machines.")
                .holds("The next change of this resource takes them over. Until then a machine that is destroyed does not leave the cluster in order.")
                .next("Apply a change, such as `deletion_protection = true`."),
        );
    }
}

impl Crew<'_> {
    /// Has the machines of an import be ours, before anything is done to them.
    pub(super) async fn adopt(&self, prior: &Cluster) -> Result<(), Diagnostics> {
        if !self.cx.private().get(IMPORTED).unwrap_or(false) {
            return Ok(());
        }
        (self.wait.progress)("taking the machines of the imported cluster over");
        let members = [&prior.control_planes, &prior.workers].into_iter().filter_map(Attr::get).flatten();
        let adopted = members.map(async |(name, member)| {
            let machine = endpoint(member)?;
            let until = self.wait.until();
            let adopt = async {
                self.cx.agents.connect(&machine, Role::Admin, &until).await?.adopt_cluster(&self.cluster_id).await
            };
            match adopt.await {
                Ok(()) => Ok(true),
                // It is taken over when it is back.
                Err(error) if error.is_unreachable() => Ok(false),
                Err(error) => Err(explain::agent(&format!("take node {name} over"), &error)),
            }
        });
        if all(join_all(adopted).await)?.into_iter().all(|done| done) {
            self.cx.private().remove(IMPORTED);
        }
        Ok(())
    }
}

/// Key in the cluster's private state.
const IMPORTED: &str = "imported";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::Node;

    fn pin(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    fn told(address: &str, node: &str, standing: Standing) -> Told {
        let node_of = |name: &str| Node { name: name.to_owned(), ..Node::default() };
        let is_control_plane = standing == Standing::ControlPlane;
        let status = ClusterStatus {
            standing,
            cluster_id: "sha256:00".to_owned(),
            api_ready: is_control_plane,
            version: "v1.36.3".to_owned(),
            nodes: if is_control_plane { vec![node_of("a"), node_of("b")] } else { Vec::new() },
            ..ClusterStatus::default()
        };
        let found = ClusterFound {
            node_name: node.to_owned(),
            certificate_names: vec!["api.example.org".to_owned()],
            pod_subnet: "10.244.0.0/16".to_owned(),
            service_subnet: SERVICES.to_owned(),
            ..ClusterFound::default()
        };
        Told { endpoint: Endpoint { address: address.to_owned(), fingerprint: pin("ab") }, status, found }
    }

    #[test]
    fn an_id_has_a_name_and_the_agent_of_every_node() {
        let id = format!("main=192.0.2.11:7443,{};192.0.2.21:7443,{}", pin("ab"), pin("cd"));
        let (name, endpoints) = parse(&id).unwrap();
        assert_eq!((name.as_str(), endpoints.len(), endpoints[1].address.as_str()), ("main", 2, "192.0.2.21:7443"));
        let alone = format!("192.0.2.11:7443,{}", pin("ab"));
        for bad in [alone.as_str(), "main=", "=x", "main=192.0.2.11:7443"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        total::text("cluster-import-id", &[&id], |text| parse(text).is_some());
    }

    #[test]
    fn what_the_machines_tell_is_the_state() {
        let (a, b) = (told("x:1", "a", Standing::ControlPlane), told("y:1", "b", Standing::Worker));
        let m = read("main", "import cluster main", vec![b, a]).unwrap();
        assert_eq!((m.version.or(""), m.pod_subnet.or("")), ("1.36.3".to_owned(), "10.244.0.0/16".to_owned()));
        assert_eq!(m.certificate_names.get().unwrap(), &["api.example.org"]);
        assert!(m.endpoint.is_null() && m.service_subnet.is_null());
        let names = |members: &Attr<Members>| members.or(Members::new()).into_keys().collect::<Vec<_>>();
        assert_eq!((names(&m.control_planes), names(&m.workers)), (vec!["a".to_owned()], vec!["b".to_owned()]));
    }

    #[test]
    fn what_is_not_the_whole_of_one_cluster_is_refused() {
        let worker = || told("y:1", "b", Standing::Worker);
        let status = ClusterStatus { cluster_id: "sha256:01".to_owned(), ..worker().status };
        let other = Told { status, ..worker() };
        let first = || told("x:1", "a", Standing::ControlPlane);
        for (all, words) in [
            (vec![first(), other], "is no node of the cluster"),
            (vec![first(), told("y:1", "stranger", Standing::Worker)], "is no node of the cluster"),
            (vec![first(), told("y:1", "a", Standing::ControlPlane)], "Two of the agents"),
            (vec![worker()], "None of the machines is a control plane"),
            (vec![first()], "whose agents are not named: b"),
        ] {
            let said = read("main", "import cluster main", all).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}
