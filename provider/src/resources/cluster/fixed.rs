//! What cannot be changed in a cluster that lives, although it is no reason to make it anew: said in the plan, refused by the apply.

use super::configuration::fragment;
use super::model::{Cluster, Member};
use crate::agents::overlay::{Part, fixed};
use std::collections::BTreeMap;
use tf::{Attr, Diagnostic, Path};

/// A change that this version cannot make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) what: String,
    pub(super) why: String,
    pub(super) next: String,
    pub(super) at: Path,
}

/// What `m` asks for and a cluster made as `prior` cannot be given. What is not known yet is asked again later.
pub(super) fn changes(prior: &Cluster, m: &Cluster) -> Vec<Change> {
    let rewritten = rewritten(prior, m).into_iter();
    let others = all_others(prior, m).into_iter().chain(super::k3s::changes(prior, m));
    rewritten.chain(reached(prior, m)).chain(addresses(prior, m)).chain(others).collect()
}

/// Parts of `config` that are read when the cluster is made alone.
fn rewritten(prior: &Cluster, m: &Cluster) -> Vec<Change> {
    if m.config.is_unknown() {
        return Vec::new();
    }
    let (name, config) = (prior.name.or(""), |m: &Cluster| m.config.cloned().unwrap_or_default());
    let (before, after) = (config(prior), config(m));
    let change = |part: &'static str, why: String| Change {
        what: format!("change `config.{part}` of cluster {name}"),
        why,
        next: "Take the change back; or destroy the cluster, which resets its machines, and apply then.".to_owned(),
        at: Path::from("config").name(part),
    };
    let mut found = Vec::new();
    if differ(&before.init, &after.init) {
        found.push(change("init", "kubeadm reads it when the cluster is made, and never again.".to_owned()));
    }
    if differ(&before.cluster, &after.cluster) {
        let fragment = |text: &Attr<String>| fragment(Part::Cluster, &text.or(""));
        let fixed = fixed(&fragment(&before.cluster), &fragment(&after.cluster));
        let names: Vec<String> = fixed.iter().map(|path| format!("`{path}`")).collect();
        let why = || {
            format!(
                "kubeadm reads {} when the cluster is made, and a cluster that lives cannot be given another.",
                names.join(", ")
            )
        };
        found.extend((!fixed.is_empty()).then(|| change("cluster", why())));
    }
    found
}

/// Where the API server is stands in the certificates and in each node's files.
fn reached(prior: &Cluster, m: &Cluster) -> Option<Change> {
    if m.endpoint.is_unknown() || m.kube_vip.is_unknown() {
        return None;
    }
    (super::api(prior) != super::api(m)).then(|| Change {
        what: format!("reach cluster {} by another endpoint", prior.name.or("")),
        why: "The endpoint of a cluster is fixed when it is made: it stands in its certificates and in the files of each node.".to_owned(),
        next: "Take the change of `kube_vip` back; or destroy the cluster, which resets its machines, and apply then.".to_owned(),
        at: "kube_vip".into(),
    })
}

/// Of several control planes none stays: what the cluster holds would go with the last of them.
fn all_others(prior: &Cluster, m: &Cluster) -> Option<Change> {
    (!is_alone(prior) && !m.control_planes.is_unknown() && !any_stays(prior, m)).then(|| Change {
        what: format!("replace all control planes of cluster {} at once", prior.name.or("")),
        why: "What a cluster holds is on its control planes: one of them must stay until others have joined it.".to_owned(),
        next: "Change one machine at a time, and apply each time; or add new control planes first, and take the old ones out with a later apply. To begin with an empty cluster, apply with `-replace` for this resource.".to_owned(),
        at: "control_planes".into(),
    })
}

/// Whether it had one control plane at most.
pub(super) fn is_alone(prior: &Cluster) -> bool {
    prior.control_planes.get().is_none_or(|planes| planes.len() < 2)
}

/// Whether a control plane is the same machine under the same name. What is unknown is another machine.
pub(super) fn any_stays(prior: &Cluster, m: &Cluster) -> bool {
    let fingerprint = |member: &Member| member.endpoint.get()?.fingerprint.cloned();
    let Some(after) = m.control_planes.get() else { return false };
    let before = prior.control_planes.get().into_iter().flatten();
    before
        .filter_map(|(name, old)| Some((fingerprint(old)?, after.get(name)?)))
        .any(|(key, new)| fingerprint(new) == Some(key))
}

/// Nodes that stay and are given another address: the kubelet has registered the one before.
fn addresses(prior: &Cluster, m: &Cluster) -> Vec<Change> {
    let none = BTreeMap::new;
    let maps = [("control_planes", &prior.control_planes, &m.control_planes), ("workers", &prior.workers, &m.workers)];
    let mut found = Vec::new();
    for (attribute, before, after) in maps {
        let after = after.or(none());
        for (node, old) in before.or(none()) {
            let Some(new) = after.get(&node).filter(|new| new.endpoint == old.endpoint) else { continue };
            // Of one that was not given nobody knows here what it is, and one that is given no more stays as it is.
            if old.address.is_null() || new.address.is_null() || !differ(&old.address, &new.address) {
                continue;
            }
            found.push(Change {
                what: format!("give node {node} another address"),
                why: "A node keeps the address that it joined with.".to_owned(),
                next: "Take the change back; or take the node out of the configuration, apply, and put it in again."
                    .to_owned(),
                at: Path::from(attribute).key(&node).name("address"),
            });
        }
    }
    found
}

impl Change {
    /// For the plan.
    pub(super) fn warning(&self) -> Diagnostic {
        Diagnostic::warning(format!("Cannot {}", self.what))
            .happened(self.why.clone())
            .holds("An apply refuses this change, and changes nothing else of the cluster with it.")
            .next(self.next.clone())
            .at(self.at.clone())
    }

    /// For the apply.
    pub(super) fn error(&self) -> Diagnostic {
        Diagnostic::error(format!("Cannot {}", self.what))
            .happened(self.why.clone())
            .holds("Nothing was changed.")
            .next(self.next.clone())
            .at(self.at.clone())
    }
}

/// Whether both are known and not the same; an empty fragment is none.
fn differ(before: &Attr<String>, after: &Attr<String>) -> bool {
    !before.is_unknown() && !after.is_unknown() && before.or("") != after.or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointModel;
    use crate::resources::cluster::membership::Members;
    use crate::resources::cluster::model::Config;

    fn cluster(version: &str, config: Config) -> Cluster {
        Cluster { name: "main".into(), version: version.into(), config: Attr::Known(config), ..Cluster::default() }
    }

    #[test]
    fn a_node_keeps_its_address() {
        let with = |address: Attr<String>| Cluster {
            workers: BTreeMap::from([("w".to_owned(), Member { address, ..Member::default() })]).into(),
            ..Cluster::default()
        };
        let (one, other) = (with("192.0.2.11".into()), with("192.0.2.12".into()));
        let at: Vec<_> = changes(&one, &other).iter().map(|change| change.at.to_string()).collect();
        assert_eq!(at, [r#"workers["w"].address"#]);
        for (before, after) in
            [(&one, &one), (&with(Attr::Null), &one), (&one, &with(Attr::Null)), (&one, &with(Attr::Unknown))]
        {
            assert_eq!(changes(before, after), []);
        }
        assert_eq!(changes(&one, &Cluster::default()), [], "it leaves");
    }

    #[test]
    fn what_kubeadm_reads_at_the_creation_alone_is_named() {
        let prior = cluster("1.35.1", Config::default());
        let whats = |config: Config| -> Vec<String> {
            let changes = changes(&prior, &cluster("1.36.3", config)).into_iter();
            changes.map(|change| format!("{}: {}", change.at, change.why)).collect()
        };
        assert_eq!(changes(&prior, &prior), []);
        let text = |text: &str| Attr::from(text.to_owned());
        let living = Config {
            cluster: text(r#"{"apiServer":{"extraArgs":[{"name":"v","value":"2"}]}}"#),
            kubelet: text(r#"{"maxPods":50}"#),
            kube_proxy: text(r#"{"mode":"nftables"}"#),
            join: text(r#"{"a":1}"#),
            ..Config::default()
        };
        assert_eq!(whats(living), [""; 0]);
        assert_eq!(whats(Config { cluster: Attr::Unknown, ..Config::default() }), [""; 0]);
        let made = Config {
            cluster: text(r#"{"networking":{"dnsDomain":"a.b"},"scheduler":{}}"#),
            init: text(r#"{"skipPhases":[]}"#),
            ..Config::default()
        };
        let [init, cluster] = &whats(made)[..] else { panic!("both are named") };
        assert!(
            init.starts_with("config.init: ")
                && cluster.starts_with("config.cluster: kubeadm reads `networking.dnsDomain` when"),
            "{init} {cluster}"
        );
    }

    /// Control planes by name and the fingerprint of their machine.
    fn cluster_of(planes: &[(&str, &str)]) -> Cluster {
        let member = |fingerprint: &str| {
            let fingerprint = if fingerprint.is_empty() { Attr::Unknown } else { fingerprint.into() };
            Member {
                endpoint: EndpointModel { address: "192.0.2.11:7443".into(), fingerprint }.into(),
                ..Member::default()
            }
        };
        let planes = planes.iter().map(|(name, fingerprint)| ((*name).to_owned(), member(fingerprint)));
        Cluster { control_planes: planes.collect::<Members>().into(), ..Cluster::default() }
    }

    #[test]
    fn a_cluster_is_the_same_as_long_as_one_control_plane_stays() {
        let three = cluster_of(&[("a", "1"), ("b", "2"), ("c", "3")]);
        for (after, same) in [
            (cluster_of(&[("a", "1"), ("b", "2"), ("c", "3")]), true),
            (cluster_of(&[("a", ""), ("b", ""), ("c", "3")]), true),
            (cluster_of(&[("d", "4"), ("b", "2")]), true),
            (cluster_of(&[("a", ""), ("b", ""), ("c", "")]), false),
            (cluster_of(&[("b", "1"), ("c", "2"), ("a", "3")]), false),
            (Cluster { control_planes: Attr::Unknown, ..Cluster::default() }, false),
        ] {
            assert_eq!(any_stays(&three, &after), same, "{after:?}");
        }
    }

    #[test]
    fn of_several_control_planes_one_stays() {
        let three = cluster_of(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let said = |prior: &Cluster, m: &Cluster| {
            changes(prior, m).iter().map(|change| change.at.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(said(&three, &cluster_of(&[("a", ""), ("b", ""), ("c", "")])), ["control_planes"]);
        assert_eq!(said(&three, &cluster_of(&[("d", "4")])), ["control_planes"]);
        assert_eq!(said(&three, &cluster_of(&[("a", ""), ("b", ""), ("c", "3")])), [""; 0]);
        assert_eq!(said(&three, &Cluster { control_planes: Attr::Unknown, ..Cluster::default() }), [""; 0]);
        assert_eq!(said(&cluster_of(&[("a", "1")]), &cluster_of(&[("a", "")])), [""; 0], "it is replaced");
    }
}
