//! etcd's members: who they are, how each does, whether one may go, and taking one out.
//!
//! Whether the cluster lives on is for etcd's own members to say: a Node may be ready while its member is not, and a member stays on the
//! list when its Node is long gone. A member that was announced and never came up, or never got its vote, bars every further one.
//! Source: etcd, "Runtime reconfiguration"; kubeadm, `etcd-join`.

use super::Distribution;
use super::kube::{Kube, failed, failure, kubectl};
use super::nodes::Node;
use crate::chain::chain;
use crate::host::etcd::{Member, Standing};
use crate::host::{Host, HostError};
use crate::run::Failure;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// A member, as the others have it and as it answers itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcdMember {
    /// Its number.
    pub id: u64,
    /// Name of its node; empty until it has started for the first time.
    pub name: String,
    /// Host of its address for the other members.
    pub address: String,
    /// It has no vote yet.
    pub learner: bool,
    /// Why it is not well; `None` if it is.
    pub ailing: Option<String>,
    /// `NOSPACE`, `CORRUPT`
    pub alarms: Vec<String>,
    /// Where it answers clients.
    at: Option<String>,
}

impl EtcdMember {
    /// By its name, or where it has none yet by its address.
    pub(super) fn called(&self) -> &str {
        if self.name.is_empty() { &self.address } else { &self.name }
    }
}

/// The members of this control plane's etcd; `None` where it has none of its own.
///
/// # Errors
/// [`HostError::Etcd`] when no member tells.
pub(super) async fn look(host: &dyn Host) -> Result<Option<Vec<EtcdMember>>, HostError> {
    let own = Distribution::here(host)?;
    let Some(note) = host.text(own.etcd_note())? else { return Ok(None) };
    let (at, members) = reach(host, own, &note).await?;
    let alarms = host.etcd().alarms(&at).await.unwrap_or_default();
    let seen = members.into_iter().map(async |member| {
        let member = Member { name: own.node_of(&member.name).to_owned(), ..member };
        let alarms = alarms.iter().filter(|(id, _)| *id == member.id).map(|(_, word)| word.clone()).collect();
        EtcdMember { alarms, ..asked(host, member).await }
    });
    Ok(Some(join_all(seen).await))
}

/// The list of a member that answers, the one of this machine first, and where that is. A member that was taken out answers no more.
async fn reach(host: &dyn Host, own: Distribution, note: &str) -> Result<(String, Vec<Member>), HostError> {
    let silent = match host.etcd().members(OWN).await {
        Ok(members) => return Ok((OWN.to_owned(), members)),
        Err(error) => error,
    };
    let known: BTreeSet<String> = announced(note).into_iter().chain(running(host, own).await).collect();
    for at in known {
        if let Ok(members) = host.etcd().members(&at).await {
            return Ok((at, members));
        }
    }
    Err(silent)
}

/// Where the members were that this one joined: `cp-1=https://192.0.2.11:2380,…`, in kubeadm's manifest or etcd's own configuration.
fn announced(note: &str) -> Vec<String> {
    let line = note.lines().find_map(|line| {
        let line = line.trim();
        line.strip_prefix("- --initial-cluster=").or_else(|| line.strip_prefix("initial-cluster: "))
    });
    let peers = line.into_iter().flat_map(|line| line.split(','));
    peers.filter_map(|peer| Some(format!("{}:{CLIENTS}", host_of_url(peer.split_once('=')?.1)))).collect()
}

/// Where members are that joined later, by what kubeadm wrote on their pods, or K3s on their nodes.
async fn running(host: &dyn Host, own: Distribution) -> Vec<String> {
    let of_nodes;
    let ask = match own {
        Distribution::Kubeadm => vec![
            "get",
            "pods",
            "--namespace",
            "kube-system",
            "--selector=component=etcd",
            "-o",
            "jsonpath={.items[*].metadata.annotations.kubeadm\\.kubernetes\\.io/etcd\\.advertise-client-urls}",
        ],
        Distribution::K3s(variant) => {
            of_nodes = format!("jsonpath={{.items[*].metadata.annotations.{}}}", variant.member_annotation());
            vec!["get", "nodes", "-o", of_nodes.as_str()]
        }
    };
    let said = kubectl(host, (own, own.admin()), &ask).await.map(|said| said.stdout).unwrap_or_default();
    said.split_whitespace().map(client_at).collect()
}

/// `host:port` for clients, from a URL or a mere address.
fn client_at(place: &str) -> String {
    match place.strip_prefix("https://") {
        Some(at) => at.to_owned(),
        None if place.contains(':') => format!("[{place}]:{CLIENTS}"),
        None => format!("{place}:{CLIENTS}"),
    }
}

/// How a member does, by itself.
async fn asked(host: &dyn Host, member: Member) -> EtcdMember {
    let at = member.client_urls.first().map(|url| url.trim_start_matches("https://").to_owned());
    let ailing = match &at {
        None => Some("it has not started yet".to_owned()),
        Some(at) => match standing(host, at).await {
            Ok(standing) if standing.has_leader => None,
            Ok(_) => Some("it knows no leader".to_owned()),
            Err(error) => Some(chain(&error)),
        },
    };
    let address = member.peer_urls.first().map(|url| host_of_url(url).to_owned()).unwrap_or_default();
    EtcdMember { id: member.id, name: member.name, address, learner: member.learner, ailing, alarms: Vec::new(), at }
}

/// How the member at a place does. One that knows no leader is asked again when an election would be over: for a second or two after a
/// leader has died nobody knows one.
pub(super) async fn standing(host: &dyn Host, at: &str) -> Result<Standing, HostError> {
    let said = host.etcd().standing(at).await?;
    if said.has_leader {
        return Ok(said);
    }
    tokio::time::sleep(ELECTION).await;
    host.etcd().standing(at).await
}

/// The host of `https://192.0.2.11:2380`.
fn host_of_url(url: &str) -> &str {
    let place = url.trim_start_matches("https://");
    place.rsplit_once(':').map_or(place, |(host, _)| host)
}

/// Whether the control plane of this name has a vote; also where it has no etcd of its own.
pub(super) async fn votes(kube: &Kube<'_>, name: &str) -> Result<bool, Failure> {
    let members = look(kube.host()).await.map_err(failed("look", "ask etcd for its members"))?;
    Ok(members.is_none_or(|members| members.iter().any(|member| member.name == name && !member.learner)))
}

/// Why etcd would not live on without the member of this name, in numbers; `None` if it would, or has none of that name.
pub(super) fn obstacle(members: &[EtcdMember], name: &str) -> Option<String> {
    members.iter().find(|member| member.name == name)?;
    let voters: Vec<&EtcdMember> = members.iter().filter(|member| !member.learner).collect();
    let well = |of: &[&EtcdMember]| of.iter().filter(|member| member.ailing.is_none()).count();
    let needed = |of: &[&EtcdMember]| of.len() / 2 + 1;
    if well(&voters) < needed(&voters) {
        let (all, well, needed) = (voters.len(), well(&voters), needed(&voters));
        return Some(format!(
            "of the {all} members of etcd {well} are well, and it takes {needed} to agree on anything"
        ));
    }
    let others: Vec<&EtcdMember> = voters.iter().copied().filter(|member| member.name != name).collect();
    if others.is_empty() {
        return Some("its etcd is the only member, and has all data of the cluster".to_owned());
    }
    (well(&others) < needed(&others)).then(|| {
        let (all, well, needed) = (others.len(), well(&others), needed(&others));
        let ailing: Vec<&str> =
            others.iter().filter(|member| member.ailing.is_some()).map(|member| member.called()).collect();
        format!(
            "of the other {all} members of etcd {well} are well, and it needs {needed}; not well: {}",
            ailing.join(", ")
        )
    })
}

/// Whether the control plane of this name may leave.
///
/// # Errors
/// At the step `quorum` when it may not, or nobody can say.
pub(super) async fn may_go(kube: &Kube<'_>, name: &str) -> Result<(), Failure> {
    let members = look(kube.host()).await.map_err(failed(QUORUM, "ask etcd for its members"))?;
    match members.and_then(|members| obstacle(&members, name)) {
        Some(why) => Err(failure(QUORUM, format!("control plane {name} cannot leave: {why}"))),
        None => Ok(()),
    }
}

/// Takes the member of this name out, by the word of another one; content if there is none.
pub(super) async fn take_out(kube: &Kube<'_>, name: &str) -> Result<(), Failure> {
    take(kube, (name, "its control plane leaves"), |member| member.name == name).await
}

/// Takes out the member that an unfinished join of this machine has brought in, before its data go. kubeadm announces an address once: the next
/// join would be given the same number, and an etcd that comes back under its number without its data ends at once.
/// Seen: etcd 3.6.8, `tocommit(…) is out of range [lastIndex(0)]`, after a power cut; kubeadm, `ErrPeerURLExist`.
pub(super) async fn take_back(kube: &Kube<'_>, name: &str, address: Option<&str>) -> Result<(), Failure> {
    let is_own = |member: &EtcdMember| match address {
        Some(address) if member.name.is_empty() => member.address == address,
        _ => member.name == name,
    };
    take(kube, (name, "its join did not come to its end"), is_own).await
}

async fn take(
    kube: &Kube<'_>,
    (name, why): (&str, &str),
    is_meant: impl Fn(&EtcdMember) -> bool,
) -> Result<(), Failure> {
    let since = std::time::Instant::now();
    let members = look(kube.host()).await.map_err(failed(STEP, "ask etcd for its members"))?.unwrap_or_default();
    let Some(member) = members.iter().find(|member| is_meant(member)) else { return Ok(()) };
    kube.cx.step_began(STEP, 1);
    let until = Instant::now() + PATIENCE;
    while let Err(error) = remove(kube.host(), &members, member).await {
        // Members that have just changed agree on no further change for some seconds.
        if Instant::now() > until {
            return Err(failed(STEP, &format!("take member {name} out of etcd"))(error));
        }
        kube.pause(STEP, Duration::from_secs(2)).await?;
    }
    kube.made(STEP, &format!("take member {name} out of etcd"), why, since);
    Ok(())
}

/// Makes etcd ready for one more: whoever never came up, and is of no node, goes; all others must be well, and have a minute to be.
///
/// # Errors
/// Who is not well.
pub(super) async fn admit(host: &dyn Host, nodes: &[Node]) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ready(host, nodes).await {
            Err(_) if Instant::now() < until => tokio::time::sleep(Duration::from_secs(2)).await,
            other => return other,
        }
    }
}

async fn ready(host: &dyn Host, nodes: &[Node]) -> Result<(), String> {
    let told = |error: HostError| chain(&error);
    let members = look(host).await.map_err(told)?.unwrap_or_default();
    let left: Vec<&EtcdMember> = members.iter().filter(|member| is_left(member, nodes)).collect();
    for member in &left {
        remove(host, &members, member).await.map_err(told)?;
    }
    let ailing = members.iter().filter(|member| !left.contains(member));
    let complaints: Vec<String> = ailing.filter_map(complaint).collect();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
}

/// Whether a member was announced by a join that came to nothing.
fn is_left(member: &EtcdMember, nodes: &[Node]) -> bool {
    let is_of = |node: &Node| node.name == member.name || node.internal_address == member.address;
    (member.name.is_empty() || member.learner) && !nodes.iter().any(is_of)
}

/// What is wrong with a member.
pub(super) fn complaint(member: &EtcdMember) -> Option<String> {
    let name = member.called();
    if let Some(why) = &member.ailing {
        return Some(format!("member {name} of etcd is not well: {why}"));
    }
    if !member.alarms.is_empty() {
        return Some(format!("member {name} of etcd raises the alarm {}", member.alarms.join(", ")));
    }
    member.learner.then(|| format!("member {name} of etcd has no vote yet"))
}

/// Takes one member out, by the word of another one that is well: whoever takes himself out cannot tell what came of it. Where one does not
/// get it done the next one is asked.
async fn remove(host: &dyn Host, members: &[EtcdMember], leaving: &EtcdMember) -> Result<(), HostError> {
    let others = members.iter().filter(|member| member.id != leaving.id && member.ailing.is_none() && !member.learner);
    let mut places: Vec<&str> = others.filter_map(|member| member.at.as_deref()).collect();
    if places.is_empty() {
        places.push(OWN);
    }
    let mut done = Ok(());
    for at in places {
        done = host.etcd().remove(at, leaving.id).await;
        let left = host.etcd().members(at).await;
        done = match left {
            Ok(left) if left.iter().all(|member| member.id != leaving.id) => return Ok(()),
            Ok(_) => done,
            Err(error) => done.and(Err(error)),
        };
    }
    done
}

/// The member on this machine.
pub(super) const OWN: &str = "127.0.0.1:2379";
const CLIENTS: u16 = 2379;
const STEP: &str = "etcd";
pub(super) const QUORUM: &str = "quorum";
const PATIENCE: Duration = Duration::from_secs(60);
/// An etcd misses its leader after one second, and votes for another one in the next, or after one more where the votes were split.
const ELECTION: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, well: bool) -> EtcdMember {
        let ailing = (!well).then(|| "no answer in time".to_owned());
        let address = format!("192.0.2.{}", name.len());
        EtcdMember { name: name.to_owned(), address, ailing, ..EtcdMember::default() }
    }

    #[track_caller]
    fn check(members: &[(&str, bool)], leaving: &str, words: Option<&str>) {
        let members: Vec<EtcdMember> = members.iter().map(|(name, well)| member(name, *well)).collect();
        let said = obstacle(&members, leaving);
        assert_eq!(said.is_some(), words.is_some(), "{said:?}");
        assert!(said.unwrap_or_default().contains(words.unwrap_or_default()), "{words:?}");
    }

    #[test]
    fn the_quorum_never_goes() {
        check(&[("a", true)], "a", Some("only member"));
        check(&[("a", true), ("b", true)], "a", None);
        check(&[("a", true), ("b", false)], "b", Some("of the 2 members of etcd 1 are well, and it takes 2"));
        check(&[("a", true), ("b", true), ("c", true)], "a", None);
        check(&[("a", true), ("b", true), ("c", false)], "c", None);
        check(
            &[("a", true), ("b", true), ("c", false)],
            "a",
            Some("of the other 2 members of etcd 1 are well, and it needs 2; not well: c"),
        );
        check(&[("a", true), ("b", false), ("c", false)], "c", Some("of the 3 members of etcd 1 are well"));
        check(&[("a", true), ("b", true), ("c", true), ("d", true), ("e", false)], "a", None);
        check(&[("a", true), ("b", true), ("c", true)], "stranger", None);
    }

    #[test]
    fn whoever_has_no_vote_counts_for_nothing() {
        let learner = EtcdMember { learner: true, ..member("c", false) };
        assert_eq!(obstacle(&[member("a", true), member("b", true), learner.clone()], "c"), None);
        assert!(obstacle(&[member("a", true), learner], "a").unwrap().contains("only member"));
    }

    #[test]
    fn only_what_never_came_up_and_is_of_no_node_is_left_over() {
        let node =
            |name: &str, address: &str| Node { name: name.into(), internal_address: address.into(), ..Node::default() };
        let announced = EtcdMember { address: "192.0.2.9".into(), ..EtcdMember::default() };
        let learner = EtcdMember { learner: true, ..member("cp-3", true) };
        for (member, nodes, left) in [
            (&announced, vec![], true),
            (&announced, vec![node("cp-9", "192.0.2.9")], false),
            (&learner, vec![node("cp-1", "192.0.2.1")], true),
            (&learner, vec![node("cp-3", "")], false),
            (&member("cp-2", false), vec![], false),
        ] {
            assert_eq!(is_left(member, &nodes), left, "{member:?}");
        }
    }

    #[test]
    fn the_manifest_tells_who_was_there() {
        let manifest = "    - --initial-advertise-peer-urls=https://10.77.5.22:2380\n\
            \x20   - --initial-cluster=cp-1=https://10.77.5.11:2380,cp-2=https://[fd00::2]:2380\n";
        assert_eq!(announced(manifest), ["10.77.5.11:2379", "[fd00::2]:2379"]);
        let of_k3s = "data-dir: /var/lib/rancher/k3s/server/db/etcd\ninitial-cluster: m3-617246bf=https://10.99.0.13:2380,m1-624f1727=https://10.99.0.11:2380\n\
            initial-cluster-state: existing\n";
        assert_eq!(announced(of_k3s), ["10.99.0.13:2379", "10.99.0.11:2379"]);
        assert_eq!(client_at("fd00::11"), "[fd00::11]:2379");
        assert_eq!(client_at("https://10.99.0.11:2379"), "10.99.0.11:2379");
        assert_eq!(announced(""), [""; 0]);
        total::text("etcd-manifest", &[manifest], announced);
    }
}
