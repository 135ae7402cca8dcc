//! The configuration of a cluster that lives: which nodes are to have it, and in which order.
//!
//! Control planes one after the other, each with its static pods, its kubelet and what the cluster notes for later joins; then the kubelets of
//! workers, `max_unavailable` at a time; at last the cluster notes that nothing of before is left. What each node lacks its agent finds by
//! itself, so a change that stops at one goes on there with the next apply.

use super::control_planes::{Asked, Through};
use super::membership::{Crew, Members, all};
use super::model::Cluster;
use super::upgrade::Rules;
use super::{endpoint, fixed, to_kubeadm};
use crate::agents::overlay::{self, Fragment, Part};
use crate::agents::{ClusterStatus, Configure, Differences, Endpoint, Error, Job, Standing, Until, again};
use crate::context::{Cx, looking};
use crate::explain;
use futures_util::future::join_all;
use tf::{Attr, Diagnostic, Diagnostics, Path};
use trust::Role;

/// What is declared of one of kubeadm's documents. What cannot be read was refused before.
pub(super) fn fragment(part: Part, text: &str) -> Fragment {
    overlay::read(part, text).unwrap_or_default()
}

/// Parts of `config` that a living cluster is given and that differ, by what they say. Names in certificates stand in that of the cluster.
fn changed(prior: &Cluster, m: &Cluster) -> Vec<Part> {
    let (before, after) = (&to_kubeadm(prior), &to_kubeadm(m));
    let parts = [
        (Part::Cluster, &before.cluster, &after.cluster),
        (Part::Kubelet, &before.kubelet, &after.kubelet),
        (Part::KubeProxy, &before.kube_proxy, &after.kube_proxy),
    ];
    let named = names(prior) != names(m);
    let differ = |(part, before, after): &(Part, &String, &String)| {
        fragment(*part, before) != fragment(*part, after) || *part == Part::Cluster && named
    };
    parts.into_iter().filter(differ).map(|(part, ..)| part).collect()
}

/// Further names in the API server's certificate.
pub(super) fn names(m: &Cluster) -> Vec<String> {
    m.certificate_names.or(Vec::new())
}

/// Says in the plan in which order the nodes are changed.
pub(super) fn plan(prior: &Cluster, m: &mut Cluster) {
    if m.upgrade_steps.is_unknown() || !fixed::changes(prior, m).is_empty() {
        return;
    }
    let is_unknown = |config: &super::model::Config| {
        [&config.cluster, &config.kubelet, &config.kube_proxy].iter().any(|text| text.is_unknown())
    };
    let unknown = m.config.is_unknown() || m.certificate_names.is_unknown() || m.config.get().is_some_and(is_unknown);
    let (Some(rules), Some(planes), false) = (Rules::of(m), m.control_planes.get(), unknown || m.workers.is_unknown())
    else {
        m.upgrade_steps = Attr::Unknown;
        return;
    };
    let stays = |now: &Members, before: &Attr<Members>| -> Vec<String> {
        now.keys().filter(|name| before.get().is_some_and(|before| before.contains_key(*name))).cloned().collect()
    };
    let workers = stays(&m.workers.or(Members::new()), &prior.workers);
    let steps = steps(&changed(prior, m), &stays(planes, &prior.control_planes), &workers, &rules);
    if !steps.is_empty() {
        let all: Vec<String> = m.upgrade_steps.or(Vec::new()).into_iter().chain(steps).collect();
        m.upgrade_steps.set(all);
    }
}

/// A line for the nodes that are changed together.
fn steps(changed: &[Part], planes: &[String], workers: &[String], rules: &Rules) -> Vec<String> {
    if changed.is_empty() {
        return Vec::new();
    }
    let batches = if changed.contains(&Part::Kubelet) { batches(workers, rules) } else { Vec::new() };
    let together = batches.into_iter().map(|batch| batch.join(", "));
    planes.iter().cloned().chain(together).map(|names| format!("config: {names}")).collect()
}

fn batches(workers: &[String], rules: &Rules) -> Vec<Vec<String>> {
    workers.chunks(rules.unavailable.of(workers.len())).map(<[String]>::to_vec).collect()
}

/// A change that was cut off on a machine.
pub(super) fn cut_off(name: &str, own: &ClusterStatus) -> Option<String> {
    own.configuration_unfinished.then(|| format!("{name}: a change of its configuration was cut off"))
}

/// Adds what is different in the configuration to what is different in the cluster.
pub(super) async fn look(cx: &Cx, m: &mut Cluster, through: &Through) {
    let found = differences(cx, m, through, &looking(cx)).await;
    let mut lines = m.drift.or(Vec::new());
    lines.extend(found.lines());
    m.drift.set(plain::list(lines));
}

/// What differs in a cluster and on its nodes, by their names.
#[derive(Debug, Default)]
struct Found {
    cluster: Vec<String>,
    nodes: Vec<(String, Vec<String>)>,
}

impl Found {
    fn lines(&self) -> impl Iterator<Item = String> {
        let of_nodes =
            self.nodes.iter().flat_map(|(name, lines)| lines.iter().map(move |line| format!("{name}: {line}")));
        self.cluster.iter().cloned().chain(of_nodes)
    }

    fn is_empty(&self) -> bool {
        self.lines().next().is_none()
    }
}

/// Asks all members at once. Who does not answer, or is older and gets this program before anything is applied, tells nothing.
async fn differences(cx: &Cx, m: &Cluster, through: &Through, until: &Until) -> Found {
    let declared = to_kubeadm(m);
    let texts = [&declared.cluster, &declared.kubelet, &declared.kube_proxy];
    let names = names(m);
    let is_declared = !names.is_empty() || texts.iter().any(|text| !text.is_empty());
    let asked = async |machine: &Endpoint| -> Result<Differences, Error> {
        again(|| async {
            cx.agents.connect(machine, Role::Observer, until).await?.configuration(&declared, &names).await
        })
        .await
    };
    let mut found = Found::default();
    let members = [&m.control_planes, &m.workers].into_iter().filter_map(Attr::get).flatten();
    // Without a declaration there is nothing to find but what an apply has left in the cluster.
    let members = members.filter(|(name, _)| is_declared || **name == through.name);
    let told = join_all(members.map(async |(name, member)| {
        let machine = endpoint(member).ok()?;
        Some((name.clone(), asked(&machine).await.ok()?))
    }));
    for (name, Differences { cluster, node }) in told.await.into_iter().flatten() {
        if name == through.name {
            found.cluster = cluster;
        }
        found.nodes.push((name, node));
    }
    found
}

impl Crew<'_> {
    /// Has control planes on which a change was cut off take it back, and make it anew: it may be what has taken the API server away.
    pub(super) async fn configure_cut_off(
        &self,
        (prior, m): (&Cluster, &Cluster),
        asked: &[Asked],
    ) -> Result<(), Diagnostics> {
        for one in asked {
            let (name, Ok(own)) = (&one.plane.name, &one.said) else { continue };
            if own.configuration_unfinished && is_node(own, Standing::ControlPlane, &self.cluster_id) {
                self.configure_one((name, &one.plane.endpoint), (prior, m), false).await?;
            }
        }
        Ok(())
    }

    /// Brings the nodes that are in the cluster to the configuration that is declared; stops at the first that does not take it.
    pub(super) async fn configure(&self, prior: &Cluster, m: &Cluster) -> Result<(), Diagnostics> {
        let through = self.through(None, super::membership::ANSWERING).await?;
        let changed = changed(prior, m);
        let found = differences(self.cx, m, &through, &self.wait.until()).await;
        if changed.is_empty() && found.is_empty() {
            return Ok(());
        }
        let Some(rules) = Rules::of(m) else { return Ok(()) };
        let mut complete = true;
        let mut last = None;
        for (name, member) in m.control_planes.get().into_iter().flatten() {
            let machine = endpoint(member)?;
            if self.stands(&machine, Standing::ControlPlane).await {
                (self.wait.progress)(&format!("{name}: changing its configuration"));
                self.configure_one((name, &machine), (prior, m), false).await?;
                last = Some((name, machine));
            } else {
                complete = false;
            }
        }
        let of_kubelets = changed.contains(&Part::Kubelet) || !found.is_empty();
        if of_kubelets
            && (!self.kubeadm.kubelet.is_empty() || !to_kubeadm(prior).kubelet.is_empty() || !found.cluster.is_empty())
        {
            complete &= self.configure_workers((prior, m), &rules).await?;
        }
        // Who is away has it when he is back: until then what was before is not forgotten.
        if let Some((name, machine)) = last.filter(|_| complete) {
            self.configure_one((name, &machine), (prior, m), true).await?;
        }
        Ok(())
    }

    /// Whether all of them have it.
    async fn configure_workers(&self, models: (&Cluster, &Cluster), rules: &Rules) -> Result<bool, Diagnostics> {
        let workers = models.1.workers.or(Members::new());
        let mut complete = true;
        for batch in batches(&workers.keys().cloned().collect::<Vec<_>>(), rules) {
            let done = batch.iter().map(async |name| {
                let Some(member) = workers.get(name) else { return Ok(true) };
                let machine = endpoint(member)?;
                if !self.stands(&machine, Standing::Worker).await {
                    return Ok(false);
                }
                (self.wait.progress)(&format!("{name}: changing its configuration"));
                self.configure_one((name, &machine), models, false).await.map(|()| true)
            });
            complete &= all(join_all(done).await)?.into_iter().all(|done| done);
        }
        Ok(complete)
    }

    async fn stands(&self, machine: &Endpoint, standing: Standing) -> bool {
        self.status(machine).await.is_ok_and(|own| is_node(&own, standing, &self.cluster_id))
    }

    async fn configure_one(
        &self,
        (name, machine): (&str, &Endpoint),
        (prior, m): (&Cluster, &Cluster),
        settle: bool,
    ) -> Result<(), Diagnostic> {
        let job = Configure {
            cluster_id: self.cluster_id.clone(),
            node_name: name.to_owned(),
            declared: to_kubeadm(m),
            before: to_kubeadm(prior),
            names: names(m),
            names_before: names(prior),
            kubelet: true,
            settle,
        };
        let done = self.cx.agents.run(machine, &Job::Configure(Box::new(job)), self.wait).await;
        let report = done.map_err(|error| not_configured(name, &error))?;
        self.noted(&format!("node {name}"), &report);
        Ok(())
    }
}

fn is_node(own: &ClusterStatus, standing: Standing, cluster_id: &str) -> bool {
    own.standing == standing && own.cluster_id == cluster_id
}

fn not_configured(name: &str, error: &Error) -> Diagnostic {
    let act = format!("change the configuration of node {name}");
    let part = match error {
        Error::Run { failure, .. } if !failure.cancelled => match failure.step.as_str() {
            "config" => None,
            "config cluster" => Some(Part::Cluster),
            "config kubelet" => Some(Part::Kubelet),
            "config kube-proxy" => Some(Part::KubeProxy),
            "certificate names" => return explain::configuring(&act, error).at("certificate_names"),
            _ => return explain::agent(&act, error),
        },
        _ => return explain::agent(&act, error),
    };
    let path = Path::from("config");
    explain::configuring(&act, error).at(part.map_or(path.clone(), |part| path.name(part.name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointModel;
    use crate::resources::cluster::model::{Config, Member};

    fn cluster(config: Config, unavailable: &str) -> Cluster {
        let member = |name: &&str| {
            let endpoint = EndpointModel { address: format!("{name}:7443").into(), fingerprint: (*name).into() };
            ((*name).to_owned(), Member { endpoint: endpoint.into(), ..Member::default() })
        };
        let members = |names: &[&str]| names.iter().map(member).collect::<Members>();
        Cluster {
            config: config.into(),
            control_planes: members(&["cp-1", "cp-2"]).into(),
            workers: members(&["w-1", "w-2", "w-3"]).into(),
            max_unavailable: unavailable.into(),
            upgrade_steps: Attr::Known(Vec::new()),
            ..Cluster::default()
        }
    }

    fn planned(config: Config) -> Attr<Vec<String>> {
        let mut prior = cluster(Config { cluster: "{}".into(), ..Config::default() }, "2");
        // One that is about to join comes with the new configuration.
        prior.workers.get_mut().unwrap().remove("w-3");
        let mut m = cluster(config, "2");
        plan(&prior, &mut m);
        m.upgrade_steps
    }

    #[test]
    fn a_plan_lists_the_nodes_in_order() {
        let arguments = r#"{"apiServer":{"extraArgs":[{"name":"v","value":"2"}]}}"#;
        for (config, want) in [
            (Config { cluster: arguments.into(), ..Config::default() }, vec!["config: cp-1", "config: cp-2"]),
            (
                Config { kubelet: r#"{"maxPods":9}"#.into(), ..Config::default() },
                vec!["config: cp-1", "config: cp-2", "config: w-1, w-2"],
            ),
            (Config { cluster: " {} ".into(), ..Config::default() }, vec![]),
            (Config { cluster: r#"{"networking":{"dnsDomain":"a.b"}}"#.into(), ..Config::default() }, vec![]),
            (Config { join: r#"{"a":1}"#.into(), ..Config::default() }, vec![]),
        ] {
            assert_eq!(
                planned(config.clone()),
                Attr::Known(want.iter().map(|line| (*line).to_owned()).collect()),
                "{config:?}"
            );
        }
        assert_eq!(planned(Config { kubelet: Attr::Unknown, ..Config::default() }), Attr::Unknown);
    }

    #[test]
    fn other_names_in_the_certificate_go_over_the_control_planes_and_are_known_later_if_they_are_not_yet() {
        let prior = cluster(Config::default(), "2");
        let planned = |names: Attr<Vec<String>>| {
            let mut m = Cluster { certificate_names: names, ..cluster(Config::default(), "2") };
            plan(&prior, &mut m);
            m.upgrade_steps
        };
        let lines = |lines: &[&str]| Attr::Known(lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        assert_eq!(planned(vec!["api.example.org".to_owned()].into()), lines(&["config: cp-1", "config: cp-2"]));
        assert_eq!(planned(Vec::new().into()), lines(&[]));
        assert_eq!(planned(Attr::Unknown), Attr::Unknown);
    }

    #[test]
    fn what_differs_is_told_with_the_node_it_is_on() {
        let nodes = vec![("cp-1".to_owned(), Vec::new()), ("w-1".to_owned(), vec!["its kubelet".to_owned()])];
        let found = Found { cluster: vec!["the cluster".to_owned()], nodes };
        assert_eq!(found.lines().collect::<Vec<_>>(), ["the cluster", "w-1: its kubelet"]);
        assert!(Found { nodes: vec![("cp-1".to_owned(), Vec::new())], ..Found::default() }.is_empty());
    }

    #[test]
    fn a_node_that_does_not_take_it_is_told_with_the_part_that_is_the_cure() {
        let error = |step: &str| Error::Run {
            address: "192.0.2.11:7443".to_owned(),
            failure: Box::new(crate::agents::RunFailure { step: step.to_owned(), ..Default::default() }),
        };
        for (step, path) in
            [("config", "config"), ("config kubelet", "config.kubelet"), ("config kube-proxy", "config.kube_proxy")]
        {
            assert_eq!(
                not_configured("cp-1", &error(step)).path().map(ToString::to_string).as_deref(),
                Some(path),
                "{step}"
            );
        }
        let path = not_configured("cp-1", &error("certificate names")).path().map(ToString::to_string);
        assert_eq!(path.as_deref(), Some("certificate_names"));
        assert!(not_configured("cp-1", &error("health")).path().is_none());
    }
}
