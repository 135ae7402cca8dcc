//! Which nodes come next: of what is live and what is wanted, and of nothing else, so that whatever cut an upgrade off, the next one
//! goes on where it stands.
//!
//! Control planes one by one, then workers, so many at a time. What is unfinished or not well goes before all others of its kind.
//! Source: Kubernetes, "Version Skew Policy" and "Upgrading kubeadm clusters".

use super::road::rank;
use crate::agents::Node;
use crate::resources::cluster::model::Cluster;
use semver::Version;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use tf::check::Verdict;

/// How a node of ours stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stand {
    pub(crate) name: String,
    pub(crate) control_plane: bool,
    /// Of its kubelet: `1.36.3`.
    pub(crate) version: String,
    pub(crate) ready: bool,
    pub(crate) ready_message: String,
    /// An upgrade has cordoned it, and did not come to its end.
    pub(crate) upgrading: bool,
}

/// Who goes first, and how many at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Workers, one after the other.
    pub(crate) first: Vec<String>,
    pub(crate) unavailable: Share,
}

/// So many workers, or such a part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    Count(NonZeroUsize),
    Percent(u8),
}

impl Default for Share {
    fn default() -> Self {
        Self::Count(NonZeroUsize::MIN)
    }
}

/// A number of workers, or a part of them: `2`, `25%`.
pub(crate) fn share(text: &str) -> Verdict {
    if read_share(text).is_some() {
        return Ok(());
    }
    Err("must be a number of workers from 1 on, such as `2`, or a part of them, such as `25%`".to_owned())
}

fn read_share(text: &str) -> Option<Share> {
    let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_suffix('%') {
        Some(part) if is_plain(part) => part.parse().ok().filter(|part| (1..=100).contains(part)).map(Share::Percent),
        None if is_plain(text) => text.parse().ok().map(Share::Count),
        _ => None,
    }
}

impl Share {
    /// Of so many, rounded down; one at least.
    pub(crate) fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count.get(),
            Self::Percent(part) => (all * usize::from(part) / 100).max(1),
        }
    }
}

impl Rules {
    /// As the configuration says; `None` while that is unknown.
    pub(crate) fn of(m: &Cluster) -> Option<Self> {
        if m.max_unavailable.is_unknown() || m.upgrade_first.is_unknown() {
            return None;
        }
        let unavailable = m.max_unavailable.text().and_then(read_share).unwrap_or_default();
        Some(Self { first: m.upgrade_first.or(Vec::new()), unavailable })
    }
}

impl Stand {
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            name: node.name.clone(),
            control_plane: node.control_plane,
            version: node.version.trim_start_matches('v').to_owned(),
            ready: node.ready,
            ready_message: node.ready_message.clone(),
            upgrading: node.upgrading,
        }
    }

    /// Nobody knows an order of versions that cannot be read: such a node is left alone.
    fn is_older(&self, target: &Version) -> bool {
        Version::parse(&self.version).is_ok_and(|own| rank(&own) < rank(target))
    }

    /// Whether it is still to be upgraded.
    pub(crate) fn waits(&self, target: &Version) -> bool {
        self.upgrading || self.is_older(target)
    }

    fn is_unfinished(&self) -> bool {
        self.upgrading || !self.ready
    }
}

/// Names of the nodes that are upgraded together, in order.
pub(crate) fn batches(stands: &[Stand], target: &Version, rules: &Rules) -> Vec<Vec<String>> {
    let waiting = |control_plane| {
        let waiting = stands.iter().filter(move |stand| stand.control_plane == control_plane && stand.waits(target));
        let (now, later): (Vec<&Stand>, Vec<&Stand>) = waiting.partition(|stand| stand.is_unfinished());
        (names(&now), names(&later))
    };
    let (now, later) = waiting(true);
    let control_planes = now.into_iter().chain(later).map(|name| vec![name]);
    let (now, later) = waiting(false);
    let most = rules.unavailable.of(stands.iter().filter(|stand| !stand.control_plane).count());
    let first: Vec<String> = rules.first.iter().filter(|name| later.contains(name)).cloned().collect();
    let rest: Vec<String> = later.into_iter().filter(|name| !first.contains(name)).collect();
    let together = |names: &[String]| names.chunks(most).map(<[String]>::to_vec).collect::<Vec<_>>();
    let one_by_one = first.iter().map(|name| vec![name.clone()]);
    control_planes.chain(together(&now)).chain(one_by_one).chain(together(&rest)).collect()
}

fn names(stands: &[&Stand]) -> Vec<String> {
    stands.iter().map(|stand| stand.name.clone()).collect()
}

/// A node that is not well and not about to be upgraded: nothing goes on beside it.
pub(crate) fn sick<'a>(stands: &'a [Stand], batch: &[String]) -> Option<&'a Stand> {
    stands.iter().find(|stand| !stand.ready && !batch.contains(&stand.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(name: &str, version: &str) -> Stand {
        let control_plane = name.starts_with("cp");
        Stand { name: name.into(), control_plane, version: version.into(), ready: true, ..Stand::default() }
    }

    fn check(stands: &[Stand], rules: &Rules, want: &[&[&str]]) {
        assert_eq!(batches(stands, &Version::new(1, 36, 4), rules), want);
    }

    fn rules(first: &[&str], unavailable: &str) -> Rules {
        Rules {
            first: first.iter().map(|name| (*name).to_owned()).collect(),
            unavailable: read_share(unavailable).unwrap(),
        }
    }

    #[test]
    fn control_planes_go_one_by_one_then_workers_as_many_as_may() {
        let old = ["cp-1", "cp-2", "w-1", "w-2", "w-3", "w-4", "w-5"].map(|name| stand(name, "1.36.3"));
        check(&old, &rules(&[], "1"), &[&["cp-1"], &["cp-2"], &["w-1"], &["w-2"], &["w-3"], &["w-4"], &["w-5"]]);
        check(&old, &rules(&[], "40%"), &[&["cp-1"], &["cp-2"], &["w-1", "w-2"], &["w-3", "w-4"], &["w-5"]]);
        check(&old, &rules(&["w-4", "w-2"], "9"), &[&["cp-1"], &["cp-2"], &["w-4"], &["w-2"], &["w-1", "w-3", "w-5"]]);
    }

    #[test]
    fn what_is_done_or_newer_is_passed_over_and_what_is_unfinished_goes_first() {
        let mut stands = ["cp-1", "w-1", "w-2", "w-3"].map(|name| stand(name, "1.36.3"));
        stands[0].version = "1.36.4".into();
        stands[1].version = "1.37.0".into();
        stands[3].ready = false;
        check(&stands, &rules(&["w-2"], "1"), &[&["w-3"], &["w-2"]]);
        // All but its end.
        stands[1] = Stand { upgrading: true, ..stand("w-1", "1.36.4") };
        check(&stands, &rules(&[], "2"), &[&["w-1", "w-3"], &["w-2"]]);
        stands[2].version = "nonsense".into();
        check(&stands, &rules(&[], "1"), &[&["w-1"], &["w-3"]]);
    }

    #[test]
    fn nothing_goes_on_beside_a_node_that_is_not_well() {
        let mut stands = ["cp-1", "w-1"].map(|name| stand(name, "1.36.3"));
        assert_eq!(sick(&stands, &["cp-1".to_owned()]), None);
        stands[1].ready = false;
        assert_eq!(sick(&stands, &["cp-1".to_owned()]).unwrap().name, "w-1");
        assert_eq!(sick(&stands, &["w-1".to_owned()]), None);
    }

    #[test]
    fn a_share_is_a_count_or_a_part_and_never_nothing() {
        for good in ["1", "12", "1%", "100%"] {
            assert_eq!(share(good), Ok(()), "{good}");
        }
        for bad in ["", "0", "0%", "101%", "-1", "+1", "1.5", "a", "%", "25 %"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        let of = |text: &str, all| read_share(text).unwrap().of(all);
        assert_eq!((of("25%", 10), of("25%", 3), of("100%", 3), of("3", 2)), (2, 1, 3, 3));
        total::text("max-unavailable", &["25%"], read_share);
    }

    /// From every mix of versions, with one node unfinished or none.
    #[test]
    fn from_any_mix_of_versions_every_step_keeps_the_skew_rules() {
        let target = Version::new(1, 36, 4);
        let versions = ["1.35.2", "1.36.3", "1.36.4"];
        let names = ["cp-1", "cp-2", "w-1", "w-2", "w-3"];
        let mut seen = 0;
        for mix in 0..versions.len().pow(5) {
            for unfinished in 0..=names.len() {
                let of = |at: usize| versions[mix / versions.len().pow(u32::try_from(at).unwrap()) % versions.len()];
                let mut stands: Vec<Stand> = (0..5).map(|at| stand(names[at], of(at))).collect();
                if let Some(stand) = stands.get_mut(unfinished) {
                    (stand.upgrading, stand.ready) = (true, mix % 2 == 0);
                }
                for rules in [rules(&["w-3"], "1"), rules(&[], "67%")] {
                    seen += walk(stands.clone(), &target, &rules);
                }
            }
        }
        assert!(seen > 5_000, "{seen} steps");
    }

    /// Steps to the end, each looked at.
    fn walk(mut stands: Vec<Stand>, target: &Version, rules: &Rules) -> usize {
        let mut steps = 0;
        while let Some(batch) = batches(&stands, target, rules).first() {
            let of = |stand: &&mut Stand| batch.contains(&stand.name);
            let chosen: Vec<bool> = stands.iter_mut().filter(of).map(|stand| stand.control_plane).collect();
            assert_eq!(chosen.len(), batch.len());
            let rest = stands.iter().any(|stand| stand.control_plane && stand.waits(target));
            match chosen[0] {
                true => assert_eq!(batch.len(), 1, "one control plane at a time"),
                false => assert!(!rest && batch.len() <= rules.unavailable.of(3), "no worker before a control plane"),
            }
            for stand in stands.iter_mut().filter(of) {
                *stand = Stand { version: target.to_string(), ready: true, upgrading: false, ..stand.clone() };
            }
            steps += 1;
            assert!(steps <= stands.len(), "it comes to an end");
        }
        assert!(stands.iter().all(|stand| stand.version == target.to_string() && !stand.upgrading));
        steps
    }
}
