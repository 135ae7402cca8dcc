//! Control planes that come and go: one after the other, each through another one that is well, and never the quorum of etcd.
//!
//! Machines that are gone leave first, for they only count against the others. Then each that is missing joins; a name that moves to
//! another machine is taken from the old one right before, and a machine that gets another name leaves under its old one. Whoever is left
//! over leaves last, when the others are whole. What makes one whole is more than a Node: the role, and a vote in etcd.

use super::control_planes::Through;
use super::membership::{ANSWERING, Crew, Members, Parting, same_machine, stays, was_in};
use super::model::Member;
use super::{endpoint, etcd, k3s, look, own_address, to_init};
use crate::agents::{ClusterStatus, ControlPlaneJoin, Error, Init, Job, Standing};
use crate::explain;
use std::time::Duration;
use tf::{Diagnostic, Diagnostics};

impl Crew<'_> {
    /// Takes out control planes that are not to be any more and whose machines are gone, or have left; gives those that live.
    pub(super) async fn bury(&self, before: &Members, after: &Members) -> Result<Members, Diagnostics> {
        let mut alive = Members::new();
        for (name, member) in before.iter().filter(|(name, member)| !stays(name, member, after)) {
            if self.is_taken(name, after).await? {
                continue;
            }
            let through = self.through(Some(name), ANSWERING).await?;
            match self.parting(name, member, &through.status).await? {
                Parting::Alive => drop(alive.insert(name.clone(), member.clone())),
                parting @ (Parting::Left | Parting::Gone(_)) => self.part((name, member), parting, &through).await?,
            }
        }
        Ok(alive)
    }

    /// Whether the machine that is to have this name is a whole control plane under it already: an apply that failed, or was killed, has taken
    /// out the one before.
    async fn is_taken(&self, name: &str, after: &Members) -> Result<bool, Diagnostic> {
        let Some(machine) = after.get(name).map(endpoint).transpose()? else { return Ok(false) };
        let own = self.own(&machine).await;
        Ok(standing(name, &own, &self.through(None, ANSWERING).await?.status) == Place::In)
    }

    /// Has every control plane of `after` in the cluster, and those of `leaving`, whose machines live, out of it.
    pub(super) async fn exchange(&self, mut leaving: Members, after: &Members) -> Result<(), Diagnostics> {
        for (name, member) in after {
            let before = leaving.extract_if(.., |old, was| old == name || same_machine(was, member));
            for (old, was) in before.collect::<Members>() {
                self.send_off(&old, &was).await?;
            }
            Box::pin(self.join_control_plane(name, member)).await?;
        }
        for (name, member) in &leaving {
            self.send_off(name, member).await?;
        }
        Ok(())
    }

    /// Takes out a control plane whose machine lives, through another one.
    async fn send_off(&self, name: &str, member: &Member) -> Result<(), Diagnostic> {
        let through = self.through(Some(name), ANSWERING).await?;
        self.part((name, member), Parting::Alive, &through).await
    }

    /// Joins a machine as a control plane, if it is not a whole one.
    async fn join_control_plane(&self, name: &str, member: &Member) -> Result<(), Diagnostic> {
        let machine = endpoint(member)?;
        let own = self.own(&machine).await;
        let cluster = self.through(None, ANSWERING).await?.status;
        match standing(name, &own, &cluster) {
            Place::In => return Ok(()),
            Place::Away => {
                let error = own.err().map(|error| tf::chain(&error)).unwrap_or_default();
                self.cx.warn(passed_over(name, &error));
                return Ok(());
            }
            Place::Out | Place::Nearly | Place::Cast => {}
        }
        (self.wait.progress)(&format!("{name}: joining as a control plane"));
        let through = self.through(Some(name), ANSWERING).await?;
        let place = standing(name, &own, &cluster);
        if place != Place::Nearly && is_left(name, &through.status) {
            self.delete(name, None, &through).await?;
        }
        if place == Place::Cast {
            self.reset(name, &machine).await?;
        }
        let join = ControlPlaneJoin { taints: member.taints.cloned(), kube_vip: self.kube_vip.clone() };
        self.enter((name, member), &through, Some(join)).await?;
        self.whole(name).await?;
        self.ready(&[name], &cluster).await;
        Ok(())
    }

    /// Waits until a new control plane counts: nothing is done to the next one before.
    async fn whole(&self, name: &str) -> Result<(), Diagnostic> {
        let until = tokio::time::Instant::now() + WHOLE;
        loop {
            let cluster = self.through(None, ANSWERING).await?.status;
            let votes = cluster.etcd.is_empty()
                || cluster.etcd.iter().any(|member| member.name == name && !member.learner && member.ailing.is_none());
            if was_in(&cluster, name) && votes {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                return Err(Diagnostic::error(format!("Cannot join control plane {name}"))
                    .happened(format!(
                        "It has joined, and after {} s it is no healthy member of etcd.",
                        WHOLE.as_secs()
                    ))
                    .holds("The cluster lives on with the others. No other control plane was touched.")
                    .next(format!(
                        "Look at `journalctl -u {}` on {name}, and apply again.",
                        k3s::unit(self.k3s.as_ref())
                    )));
            }
            if self.wait.stop.is_cancelled() {
                return Err(explain::agent(&format!("join control plane {name}"), &Error::Stopped));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Has control planes do what is missing of them: a kubelet that was stopped, a Node that was deleted, another
    /// kube-vip.
    pub(super) async fn mend(
        &self,
        m: &super::model::Cluster,
        through: Option<&Through>,
        live: &str,
    ) -> Result<(), Diagnostics> {
        for (name, member) in m.control_planes.or(Members::new()) {
            let machine = endpoint(&member)?;
            let Ok(own) = self.status(&machine).await else { continue };
            let cluster = through.map_or(&own, |through| &through.status);
            let is_ours = own.standing == Standing::ControlPlane && own.cluster_id == self.cluster_id;
            let is_whole = own.kube_vip == self.kube_vip && look::control_plane(&name, &own, cluster).is_none();
            if !is_ours || !etcd::has(cluster, &name) || is_whole {
                continue;
            }
            let address = own_address(self.cx, m, (&name, &machine), &self.wait.until()).await?;
            let init = to_init(m, &name, address)?;
            let init = Init { version: k3s::spelled(m, live.to_owned()), cluster_id: self.cluster_id.clone(), ..init };
            let done = self.cx.agents.run(&machine, &Job::Init(Box::new(init)), self.wait).await;
            done.map_err(|error| explain::agent(&format!("repair control plane {name}"), &error))?;
        }
        Ok(())
    }
}

/// What a machine is to the cluster as a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A whole one.
    In,
    /// One that gives no answer just now: it has its Node and its vote.
    Away,
    /// Nothing, or something unfinished.
    Out,
    /// A join that came to its end with nobody there to say so.
    Nearly,
    /// One that the others have cast out: what it holds of the cluster is old.
    Cast,
}

fn standing(name: &str, own: &Result<ClusterStatus, Error>, cluster: &ClusterStatus) -> Place {
    let counts = cluster.nodes.iter().any(|node| node.name == name && node.control_plane) && etcd::has(cluster, name);
    match own {
        Err(error) if counts && error.is_unreachable() => Place::Away,
        Err(_) => Place::Out,
        Ok(own) => {
            let is_ours = own.standing == Standing::ControlPlane && own.cluster_id == cluster.cluster_id;
            let is_begun = own.standing == Standing::Partial && own.cluster_id == cluster.cluster_id;
            match (is_ours && own.node_name == name, counts) {
                (true, true) => Place::In,
                (true, false) => Place::Cast,
                (false, true) if is_begun => Place::Nearly,
                (false, _) => Place::Out,
            }
        }
    }
}

/// Whether the cluster still has a Node or a member of etcd of this name.
fn is_left(name: &str, cluster: &ClusterStatus) -> bool {
    was_in(cluster, name) || cluster.etcd.iter().any(|member| member.name == name)
}

fn passed_over(name: &str, why: &str) -> Diagnostic {
    Diagnostic::warning(format!("Control plane {name} was not looked at"))
        .happened(format!("{why}."))
        .holds("It has its node and its vote in etcd, and was left as it is.")
        .next(
            "Start its machine; or have it made anew, and the next apply takes the old one out and joins the new one.",
        )
}

/// How long a member of etcd may take to catch up.
const WHOLE: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::{EtcdMember, Node};

    fn cluster(nodes: &[&str], members: &[&str]) -> ClusterStatus {
        let node = |name: &&str| Node { name: (*name).to_owned(), control_plane: true, ..Node::default() };
        let member = |name: &&str| EtcdMember { name: (*name).to_owned(), ..EtcdMember::default() };
        ClusterStatus {
            cluster_id: "sha256:00".to_owned(),
            nodes: nodes.iter().map(node).collect(),
            etcd: members.iter().map(member).collect(),
            ..ClusterStatus::default()
        }
    }

    fn own(standing: Standing, cluster_id: &str) -> Result<ClusterStatus, Error> {
        let (cluster_id, node_name) = (cluster_id.to_owned(), "cp-2".to_owned());
        Ok(ClusterStatus { standing, cluster_id, node_name, ..ClusterStatus::default() })
    }

    #[test]
    fn a_control_plane_is_whole_with_its_node_and_its_vote() {
        let away = || Err(Error::Unreachable { address: "192.0.2.12:7443".to_owned(), why: String::new() });
        let other_key = || Err(Error::NoAuthority);
        let ours = || own(Standing::ControlPlane, "sha256:00");
        let (whole, no_vote) = (cluster(&["cp-1", "cp-2"], &["cp-1", "cp-2"]), cluster(&["cp-1", "cp-2"], &["cp-1"]));
        for (own, cluster, want) in [
            (ours(), &whole, Place::In),
            (ours(), &no_vote, Place::Cast),
            (ours(), &cluster(&["cp-1"], &["cp-1"]), Place::Cast),
            (own(Standing::ControlPlane, "sha256:01"), &whole, Place::Out),
            (own(Standing::Partial, "sha256:00"), &whole, Place::Nearly),
            (own(Standing::Partial, "sha256:00"), &no_vote, Place::Out),
            (own(Standing::Clean, ""), &whole, Place::Out),
            (away(), &whole, Place::Away),
            (away(), &no_vote, Place::Out),
            (other_key(), &whole, Place::Out),
            (ours(), &cluster(&["cp-2"], &[]), Place::In),
        ] {
            assert_eq!(standing("cp-2", &own, cluster), want, "{own:?}");
        }
    }

    #[test]
    fn what_is_left_of_a_name_is_a_node_or_a_member() {
        assert!(is_left("cp-2", &cluster(&["cp-2"], &[])));
        assert!(is_left("cp-2", &cluster(&[], &["cp-2"])));
        assert!(!is_left("cp-2", &cluster(&["cp-1"], &["cp-1"])));
    }
}
