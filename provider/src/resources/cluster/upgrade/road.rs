//! From one version to another: what Kubernetes allows, and what to write first where it does not.
//!
//! Source: Kubernetes, "Version Skew Policy".

use super::order::Stand;
use semver::Version;

/// Why a cluster of `from` cannot become `to`, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) why: String,
    pub(crate) next: String,
}

/// What stands in the way of another version; nothing if it can be.
pub(crate) fn refusal(from: &Version, to: &Version, stands: &[Stand]) -> Option<Refusal> {
    if to < from {
        return Some(Refusal {
            why: format!("It has {from}, and a cluster cannot be made older than it is."),
            next: format!("Set `version` to {from} or a newer one."),
        });
    }
    if to.major != from.major {
        return Some(Refusal {
            why: format!("Nobody knows yet how a cluster goes from {from} to {to}."),
            next: format!("Set `version` to one of {}.", from.major),
        });
    }
    if to.minor > from.minor + 1 {
        let minors = (from.minor + 1..to.minor).map(|minor| format!("{}.{minor}", from.major));
        let all: Vec<String> = std::iter::once(from.to_string()).chain(minors).chain([to.to_string()]).collect();
        let first = format!("{}.{}", from.major, from.minor + 1);
        return Some(Refusal {
            why: format!(
                "Kubernetes takes one minor version at a time: {}. The package repository of a machine has those of one minor version \
                 alone, so each of them is an apply of its own.",
                all.join(" → ")
            ),
            next: format!(
                "Set `version`, and `kubernetes.version` of the machines, to the newest version of {first} and apply; then go on to {to}."
            ),
        });
    }
    let behind = |stand: &&Stand| {
        Version::parse(&stand.version).is_ok_and(|own| own.major == to.major && to.minor > own.minor + most_behind(to))
    };
    stands.iter().find(behind).map(|stand| Refusal {
        why: format!(
            "Node {} has {}, and a kubelet may be at most {} minor versions older than its API server.",
            stand.name,
            stand.version,
            most_behind(to)
        ),
        next: format!(
            "Set `version` to {from}, which brings that node up to the others, apply, and go on to {to} then."
        ),
    })
}

/// Minor versions by which a kubelet may be older.
fn most_behind(api_server: &Version) -> u64 {
    if api_server.minor >= 28 { 3 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(from: &str, to: &str, kubelet: &str) -> String {
        let stand = Stand { name: "worker-1".into(), version: kubelet.into(), ..Stand::default() };
        let refusal = refusal(&Version::parse(from).unwrap(), &Version::parse(to).unwrap(), &[stand]);
        refusal.map(|refusal| format!("{} {}", refusal.why, refusal.next)).unwrap_or_default()
    }

    #[test]
    fn one_minor_version_at_a_time_and_never_back() {
        for (from, to) in [("1.36.3", "1.36.3"), ("1.36.3", "1.36.4"), ("1.35.9", "1.36.0"), ("1.9.1", "1.10.0")] {
            assert_eq!(said(from, to, from), "", "{from} to {to}");
        }
        assert!(said("1.36.4", "1.36.3", "1.36.3").contains("Set `version` to 1.36.4"));
        assert!(said("1.36.4", "2.0.0", "1.36.3").contains("one of 1."));
        let jump = said("1.34.4", "1.36.3", "1.34.4");
        assert!(
            jump.contains("1.34.4 → 1.35 → 1.36.3") && jump.contains("to the newest version of 1.35 and apply"),
            "{jump}"
        );
    }

    #[test]
    fn a_node_that_would_be_left_too_far_behind_is_named() {
        assert_eq!(said("1.35.4", "1.36.3", "1.33.0"), "");
        let said = said("1.35.4", "1.36.3", "1.32.9");
        assert!(said.contains("Node worker-1 has 1.32.9") && said.contains("Set `version` to 1.35.4"), "{said}");
    }
}
