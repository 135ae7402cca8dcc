//! What a change of a cluster is about to make, noted before it begins: members, and the labels and taints of nodes.
//!
//! A change that fails leaves some of it in the cluster, and the state then knows only what was there before. So the refresh takes over from
//! these notes what is really there: what the configuration has no more by then is taken away like anything else. A provider that is killed
//! returns no notes; what it leaves is warned of in `look`.

use super::membership::Members;
use super::model::{Cluster, Member};
use crate::agents::Node;
use crate::record;
use std::collections::BTreeMap;
use tf::{Attr, Private};

/// Members that a change which did not come to its end was to make.
#[derive(Debug, Default)]
pub(super) struct Begun(Cluster);

/// From here on, what `m` wants may be there, beside what an earlier change began.
pub(super) fn note(private: &Private, m: &Cluster) {
    let Begun(earlier) = Begun::of(private);
    let both = |earlier: Attr<Members>, now: &Attr<Members>| {
        let mut both = earlier.or(Members::new());
        both.extend(now.or(Members::new()));
        both.into()
    };
    let begun = Cluster {
        control_planes: both(earlier.control_planes, &m.control_planes),
        workers: both(earlier.workers, &m.workers),
        ..Cluster::default()
    };
    private.set(BEGUN, &record::write(&begun));
}

/// All of it is there, and nothing else.
pub(super) fn done(private: &Private) {
    private.remove(BEGUN);
}

impl Begun {
    pub(super) fn of(private: &Private) -> Self {
        let document: Option<String> = private.get(BEGUN);
        Self(document.and_then(|document| record::read(&document)).unwrap_or_default())
    }

    /// The members alone, of whom may be asked how they stand.
    pub(super) fn members(&self) -> &Cluster {
        &self.0
    }

    /// Takes over those that `m` does not have and that are in the cluster.
    pub(super) fn add_to(
        &self,
        m: &mut Cluster,
        is_control_plane: impl Fn(&str) -> bool,
        is_worker: impl Fn(&str) -> bool,
    ) {
        add(&mut m.control_planes, &self.0.control_planes, is_control_plane);
        add(&mut m.workers, &self.0.workers, is_worker);
    }

    /// Takes over labels and taints that the node has.
    pub(super) fn add_settings(&self, name: &str, member: &mut Member, node: &Node) {
        let begun = [&self.0.control_planes, &self.0.workers].into_iter().find_map(|members| members.get()?.get(name));
        let Some(begun) = begun else { return };
        let mut labels = member.labels.or(BTreeMap::new());
        for key in begun.labels.or(BTreeMap::new()).into_keys() {
            if let Some(value) = node.labels.get(&key) {
                labels.insert(key, value.clone());
            }
        }
        let mut taints = member.taints.or(Vec::new());
        let further = begun.taints.or(Vec::new()).into_iter().filter(|taint| node.taints.contains(taint));
        let further: Vec<String> = further.filter(|taint| !taints.contains(taint)).collect();
        taints.extend(further);
        if !labels.is_empty() {
            member.labels.set(labels);
        }
        if !taints.is_empty() {
            member.taints.set(taints);
        }
    }
}

fn add(members: &mut Attr<Members>, begun: &Attr<Members>, is_in: impl Fn(&str) -> bool) {
    let mut all = members.or(Members::new());
    let before = all.len();
    for (name, member) in begun.get().into_iter().flatten() {
        if !all.contains_key(name) && is_in(name) {
            all.insert(name.clone(), member.clone());
        }
    }
    if all.len() > before {
        members.set(all);
    }
}

/// Key in the cluster's private state.
const BEGUN: &str = "begun";

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(names: &[&str]) -> Cluster {
        let workers: Members = names.iter().map(|name| ((*name).to_owned(), Member::default())).collect();
        Cluster { workers: workers.into(), ..Cluster::default() }
    }

    fn names(m: &Cluster) -> Vec<String> {
        m.workers.or(Members::new()).into_keys().collect()
    }

    #[test]
    fn what_a_change_began_and_is_there_is_taken_over() {
        let private = Private::default();
        note(&private, &workers(&["a", "b"]));
        note(&private, &workers(&["c"]));
        let mut m = workers(&["a"]);
        Begun::of(&private).add_to(&mut m, |_| true, |name| name != "b");
        assert_eq!(names(&m), ["a", "c"]);
        assert_eq!(m.control_planes, Attr::Null);
        done(&private);
        let mut m = Cluster::default();
        Begun::of(&private).add_to(&mut m, |_| true, |_| true);
        assert_eq!(m, Cluster::default());
    }

    #[test]
    fn labels_and_taints_are_taken_over_as_the_node_has_them() {
        let private = Private::default();
        let mut begun = workers(&["a"]);
        let member = begun.workers.get_mut().unwrap().get_mut("a").unwrap();
        let map = |labels: &[(&str, &str)]| -> BTreeMap<String, String> {
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        member.labels = map(&[("zone", "a"), ("never", "set")]).into();
        member.taints = vec!["db:NoSchedule".to_owned(), "never:NoSchedule".to_owned()].into();
        note(&private, &begun);
        let (labels, taints) = (map(&[("zone", "b"), ("other", "x")]), vec!["db:NoSchedule".to_owned()]);
        let node = Node { labels, taints, ..Node::default() };
        let begun = Begun::of(&private);
        let mut found = Member::default();
        begun.add_settings("a", &mut found, &node);
        assert_eq!(found.labels.get(), Some(&map(&[("zone", "b")])));
        assert_eq!(found.taints.get().unwrap(), &["db:NoSchedule"]);
        for (name, node) in [("a", Node::default()), ("b", node)] {
            let mut found = Member::default();
            begun.add_settings(name, &mut found, &node);
            assert_eq!(found, Member::default(), "{name}");
        }
    }
}
