//! Kubelets of another minor version than their cluster's control plane.
//!
//! Source: Kubernetes, "Version Skew Policy": a kubelet may be up to three minor versions older than its API server, and never newer.

use crate::agents::Node;
use tf::Diagnostic;

/// One warning for each node whose kubelet is of another minor version than the cluster, which has `version`.
pub(super) fn warnings(version: &str, nodes: &[Node]) -> Vec<Diagnostic> {
    let Some(ours) = minor(version) else { return Vec::new() };
    let others = nodes.iter().filter_map(|node| Some((node, minor(&node.version).filter(|theirs| *theirs != ours)?)));
    others.map(|(node, theirs)| warning(node, theirs, (version, ours))).collect()
}

fn warning(node: &Node, theirs: u32, (version, ours): (&str, u32)) -> Diagnostic {
    let Node { name, version: kubelet, .. } = node;
    let holds = if theirs > ours {
        "Kubernetes supports no kubelet that is newer than its API server."
    } else if ours - theirs > OLDEST {
        "Kubernetes supports no kubelet that is more than three minor versions older than its API server."
    } else {
        "Kubernetes supports this while a cluster is upgraded."
    };
    Diagnostic::warning(format!("Node {name} is of another minor version than its cluster"))
        .happened(format!("Its kubelet is {kubelet}, and the cluster is {version}."))
        .holds(holds)
        .next(format!("Drain the node, install a kubelet of 1.{ours} on its machine, and uncordon it."))
}

/// `1.36.3`, with or without a `v`, is 36; no other major version is known.
fn minor(version: &str) -> Option<u32> {
    version.trim_start_matches('v').strip_prefix("1.")?.split('.').next()?.parse().ok()
}

/// How many minor versions a kubelet may be behind.
const OLDEST: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_minor_version_is_told() {
        let node = |version: &str| Node { name: "w".to_owned(), version: version.to_owned(), ..Node::default() };
        for (kubelet, words) in [
            ("v1.36.9", None),
            ("", None),
            ("v1.37.0", Some("newer than its API server")),
            ("v1.35.4", Some("while a cluster is upgraded")),
            ("v1.33.0", Some("while a cluster is upgraded")),
            ("v1.32.9", Some("more than three minor versions older")),
        ] {
            let said = warnings("1.36.3", &[node(kubelet)]).into_iter().map(|warning| warning.to_string()).next();
            assert_eq!(said.is_some(), words.is_some(), "{kubelet}");
            assert!(said.is_none_or(|said| said.contains(words.unwrap_or_default())), "{kubelet}");
        }
        assert!(warnings("", &[node("v1.36.0")]).is_empty(), "nobody knows the cluster's");
    }
}
