//! From one version to another: what Kubernetes allows, what to write where it does not, and what is passed on the way.
//!
//! The programs of Kubernetes come from package repositories, which have all versions; that of K3s or RKE2 comes from one address, which has one.
//! Source: Kubernetes, "Version Skew Policy".

use super::super::k3s;
use super::order::Stand;
use semver::{BuildMetadata, Version};
use std::fmt;

/// Why a cluster of `from` cannot become `to`, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) why: String,
    pub(crate) next: String,
}

/// What stands in the way of another version; nothing if it can be.
pub(crate) fn refusal(from: &Version, to: &Version) -> Option<Refusal> {
    if rank(to) < rank(from) {
        return Some(Refusal {
            why: format!("It has {}, and a cluster cannot be made older than it is.", spelled(from)),
            next: format!("Set `version` to {} or a newer one.", spelled(from)),
        });
    }
    if to.major != from.major {
        return Some(Refusal {
            why: format!("Nobody knows yet how a cluster goes from {from} to {to}."),
            next: format!("Set `version` to one of {}.", from.major),
        });
    }
    let between = from.minor + 1;
    if is_of_k3s(to) && to.minor > between {
        let (from_text, to_text, block) = (spelled(from), spelled(to), k3s::block_of(&to.build));
        return Some(Refusal {
            why: format!(
                "Kubernetes takes one minor version at a time, and {to_text} is {} after {from_text}.",
                to.minor - from.minor
            ),
            next: format!(
                "Set `version` and `{block}` to the newest release of v{}.{between}, and apply; then go on to {to_text}.",
                from.major
            ),
        });
    }
    None
}

/// By this versions are in order: that of Kubernetes, then the number that K3s or RKE2 puts behind it, which semver compares as text.
pub(crate) fn rank(version: &Version) -> (Version, u64) {
    let number = version.build.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    (Version { build: BuildMetadata::EMPTY, ..version.clone() }, number.unwrap_or_default())
}

/// Its own number stands behind that of Kubernetes: `1.34.3+k3s1`.
fn is_of_k3s(version: &Version) -> bool {
    !version.build.is_empty()
}

/// As the distribution spells it.
pub(crate) fn spelled(version: &Version) -> String {
    if is_of_k3s(version) { format!("v{version}") } else { version.to_string() }
}

/// A version that all nodes have before the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Of a minor version on the way: the newest that the machines' package repositories offer.
    Newest {
        major: u64,
        minor: u64,
    },
    Exactly(Version),
}

impl Stop {
    /// As high as it can be.
    pub(crate) fn most(&self) -> Version {
        match self {
            Self::Newest { major, minor } => Version::new(*major, *minor, u64::MAX),
            Self::Exactly(version) => version.clone(),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest { major, minor } => write!(f, "{major}.{minor}"),
            Self::Exactly(version) => f.write_str(&spelled(version)),
        }
    }
}

/// Where a cluster of `from` passes on its way to `to`: one minor version at a time, for kubeadm changes files of a node from each to the next
/// alone. Nodes that were left behind come along first.
pub(crate) fn stops(from: &Version, to: &Version, stands: &[Stand]) -> Vec<Stop> {
    if is_of_k3s(to) {
        return vec![Stop::Exactly(to.clone())];
    }
    let is_behind = |stand: &Stand| Version::parse(&stand.version).is_ok_and(|own| own.minor < from.minor);
    let first = (to.minor > from.minor && stands.iter().any(is_behind)).then(|| Stop::Exactly(from.clone()));
    let between = (from.minor + 1..to.minor).map(|minor| Stop::Newest { major: from.major, minor });
    first.into_iter().chain(between).chain([Stop::Exactly(to.clone())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(from: &str, to: &str) -> String {
        let refusal = refusal(&Version::parse(from).unwrap(), &Version::parse(to).unwrap());
        refusal.map(|refusal| format!("{} {}", refusal.why, refusal.next)).unwrap_or_default()
    }

    #[test]
    fn never_back_and_on_through_every_minor_version() {
        for (from, to) in [("1.36.3", "1.36.3"), ("1.36.3", "1.36.4"), ("1.34.4", "1.36.0"), ("1.9.1", "1.10.0")] {
            assert_eq!(said(from, to), "", "{from} to {to}");
        }
        assert!(said("1.36.4", "1.36.3").contains("Set `version` to 1.36.4"));
        assert!(said("1.36.4", "2.0.0").contains("one of 1."));
    }

    #[test]
    fn k3s_goes_on_by_one_minor_version_whose_program_is_given() {
        for (from, to) in [
            ("1.34.3+k3s1", "1.34.3+k3s2"),
            ("1.34.3+k3s3", "1.34.4+k3s1"),
            ("1.34.3+k3s1", "1.35.9+k3s1"),
            ("1.34.3+k3s9", "1.34.3+k3s10"),
        ] {
            assert_eq!(said(from, to), "", "{from} to {to}");
        }
        assert!(said("1.34.3+k3s2", "1.34.3+k3s1").contains("Set `version` to v1.34.3+k3s2"));
        assert!(said("1.34.3+rke2r10", "1.34.3+rke2r9").contains("Set `version` to v1.34.3+rke2r10"));
        assert!(said("1.34.3+rke2r1", "1.36.1+rke2r1").contains("Set `version` and `rke2` to"));
        assert_eq!(
            said("1.34.3+k3s1", "1.36.1+k3s1"),
            "Kubernetes takes one minor version at a time, and v1.36.1+k3s1 is 2 after v1.34.3+k3s1. \
             Set `version` and `k3s` to the newest release of v1.35, and apply; then go on to v1.36.1+k3s1."
        );
    }

    #[test]
    fn a_jump_is_its_minor_versions_and_nodes_that_were_left_behind_come_first() {
        let way = |from: &str, to: &str, kubelet: &str| {
            let stand = Stand { name: "worker-1".into(), version: kubelet.into(), ..Stand::default() };
            let stops = stops(&Version::parse(from).unwrap(), &Version::parse(to).unwrap(), &[stand]);
            stops.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (from, to, kubelet, want) in [
            ("1.36.3", "1.36.4", "1.36.3", "1.36.4"),
            ("1.35.9", "1.36.0", "1.35.9", "1.36.0"),
            ("1.34.4", "1.36.3", "1.34.4", "1.35 1.36.3"),
            ("1.33.0", "1.36.3", "1.33.0", "1.34 1.35 1.36.3"),
            ("1.35.4", "1.36.3", "1.34.4", "1.35.4 1.36.3"),
            ("1.35.4", "1.35.5", "1.34.4", "1.35.5"),
            ("1.35.4", "1.36.3", "1.35.2", "1.36.3"),
            ("1.35.4+k3s1", "1.36.3+k3s1", "1.34.4+k3s1", "v1.36.3+k3s1"),
        ] {
            assert_eq!(way(from, to, kubelet), want, "{from} to {to} with {kubelet}");
        }
    }
}
