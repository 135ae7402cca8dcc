//! What a cluster leaves outside of its machines when it is destroyed, said in the plan that destroys it.
//!
//! Plans look at nothing: a refresh notes it for them. Whoever gave a Service its address, or a volume its storage, ran in the cluster or was
//! told by it, and a reset tells nobody.

use super::control_planes::Through;
use crate::agents::{Leftovers, LoadBalancer, Node, again};
use crate::context::{Cx, looking};
use serde::{Deserialize, Serialize};
use tf::{Diagnostic, Private};
use trust::Role;

/// What a refresh leaves for plans: the first of each, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Left {
    services: Vec<String>,
    all_services: usize,
    volumes: Vec<String>,
    all_volumes: usize,
}

/// Asks a control plane, and notes what it says. One that does not say leaves nothing to warn of.
pub(super) async fn look(cx: &Cx, through: &Through) {
    let until = looking(cx);
    let asked =
        again(|| async { cx.agents.connect(&through.endpoint, Role::Observer, &until).await?.leftovers().await });
    match asked.await {
        Ok(found) => cx.private().set(LEFT, &Left::of(found, &through.status.nodes)),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "what the cluster would leave is not known");
            cx.private().remove(LEFT);
        }
    }
}

/// The warning for a plan that destroys the cluster.
pub(super) fn warning(name: &str, private: &Private) -> Option<Diagnostic> {
    let left: Left = private.get(LEFT)?;
    let mut lines = Vec::new();
    lines.extend(told("Services of type LoadBalancer", &left.services, left.all_services));
    lines.extend(told("PersistentVolumes", &left.volumes, left.all_volumes));
    (!lines.is_empty()).then(|| {
        Diagnostic::warning(format!("Cluster {name} leaves something outside of its machines"))
            .happened(lines.join(" "))
            .holds("Destroying the cluster resets its machines, and tells neither load balancers nor storage: what they keep for these stays there.")
            .next("If it is to go too, delete these Services, and the PersistentVolumeClaims, while the cluster runs, and destroy then.")
    })
}

fn told(what: &str, first: &[String], all: usize) -> Option<String> {
    let more = match all.saturating_sub(first.len()) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (!first.is_empty()).then(|| format!("{what}: {}{more}.", first.join(", ")))
}

impl Left {
    fn of(found: Leftovers, nodes: &[Node]) -> Self {
        let is_own = |address: &String| nodes.iter().any(|node| node.address == *address);
        // Those that nodes answer for themselves, as K3s has them do, go with the nodes.
        let is_elsewhere = |service: &LoadBalancer| !service.addresses.iter().all(is_own);
        let services: Vec<String> = found.services.into_iter().filter(is_elsewhere).map(line).collect();
        let (all_services, all_volumes) = (services.len(), found.volumes.len());
        Self { services: first(services), all_services, volumes: first(found.volumes), all_volumes }
    }
}

fn line(LoadBalancer { name, addresses }: LoadBalancer) -> String {
    format!("{name} ({})", addresses.join(", "))
}

fn first(lines: Vec<String>) -> Vec<String> {
    plain::list(lines.into_iter().take(SHOWN).collect())
}

const LEFT: &str = "left";
const SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, addresses: &[&str]) -> LoadBalancer {
        LoadBalancer { name: name.to_owned(), addresses: addresses.iter().map(|one| (*one).to_owned()).collect() }
    }

    #[test]
    fn a_plan_that_destroys_names_the_first_and_counts_the_others() {
        let private = Private::default();
        assert!(warning("main", &private).is_none());
        let node = Node { address: "192.0.2.11".to_owned(), ..Node::default() };
        let services = vec![
            service("default/web", &["192.0.2.80"]),
            service("kube-system/traefik", &["192.0.2.11"]),
            service("default/waits", &[]),
        ];
        let volumes: Vec<String> = (0..12).map(|number| format!("pv-{number}")).collect();
        private.set(LEFT, &Left::of(Leftovers { services, volumes }, &[node]));
        let said = warning("main", &private).unwrap().to_string();
        assert!(said.contains("Services of type LoadBalancer: default/web (192.0.2.80). Persistent"), "{said}");
        assert!(said.contains("pv-9, and 2 more."), "{said}");
        private.set(LEFT, &Left::of(Leftovers::default(), &[]));
        assert!(warning("main", &private).is_none());
    }
}
