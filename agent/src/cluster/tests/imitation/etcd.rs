//! The cluster's etcd, imitated: members by name, of which some do not answer.

use super::Machine;
use crate::cluster::etcd::OWN;
use crate::host::etcd::{Etcd, Member, Snapshot, Standing};
use crate::host::{BoxFuture, HostError};
use std::collections::BTreeSet;
use std::future::ready;
use std::time::SystemTime;

/// Members in the order in which they came.
#[derive(Default)]
pub(super) struct Members(Vec<(Member, bool)>, Trouble);

/// What members have with one another just now.
#[derive(Default)]
struct Trouble {
    /// How often one still says that it knows no leader.
    leaderless: u32,
    /// Name of one that gets no change done.
    deaf: String,
}

impl Members {
    /// A member that is well and votes. kubeadm announces no address twice: one that is on the list still comes back under its number, without
    /// its data, and does not live.
    pub(super) fn add(&mut self, name: &str) {
        if let Some((_, well)) = self.0.iter_mut().find(|(member, _)| member.name == name) {
            *well = false;
            return;
        }
        let id = self.0.iter().map(|(member, _)| member.id).max().unwrap_or_default() + 1;
        let client_urls = vec![format!("https://{name}:2379")];
        let peer_urls = vec![format!("https://{name}:2380")];
        self.0.push((Member { id, name: name.to_owned(), peer_urls, client_urls, learner: false }, true));
    }

    /// One goes on without the others.
    pub(super) fn forced(&mut self, name: &str) {
        self.0.retain(|(member, _)| member.name == name);
        self.1.leaderless = 0;
    }
}

impl Machine {
    /// Somebody switches the machine of a member off.
    pub(in super::super) fn member_dies(&self, name: &str) {
        let mut inner = self.inner();
        inner.members.0.iter_mut().filter(|(member, _)| member.name == name).for_each(|(_, well)| *well = false);
    }

    /// Whether each member is.
    pub(in super::super) fn members_are_well(&self) -> bool {
        self.inner().members.0.iter().all(|(_, well)| *well)
    }

    /// Their leader is gone: so many more answers know none.
    pub(in super::super) fn leader_is_missed(&self, answers: u32) {
        self.inner().members.1.leaderless = answers;
    }

    /// A member that is well, and takes nobody out.
    pub(in super::super) fn member_is_deaf(&self, name: &str) {
        name.clone_into(&mut self.inner().members.1.deaf);
    }

    /// More of them are gone than may be: nobody leads until one is made to go on alone.
    pub(in super::super) fn quorum_is_lost(&self) {
        self.inner().members.1.leaderless = u32::MAX;
    }

    /// A member was announced and never came up.
    pub(in super::super) fn announce_member(&self, address: &str) {
        let peer_urls = vec![format!("https://{address}:2380")];
        let member = Member { id: 99, peer_urls, learner: true, ..Member::default() };
        self.inner().members.0.push((member, false));
    }

    /// Names of the members; of those that never came up their addresses.
    pub(in super::super) fn members(&self) -> Vec<String> {
        let inner = self.inner();
        let called =
            |member: &Member| if member.name.is_empty() { member.peer_urls[0].clone() } else { member.name.clone() };
        inner.members.0.iter().map(|(member, _)| called(member)).collect()
    }
}

fn silent<'a, T: Send + 'a>(at: &str) -> BoxFuture<'a, Result<T, HostError>> {
    Box::pin(ready(Err(HostError::Etcd { at: at.to_owned(), why: "connection refused".to_owned() })))
}

impl Etcd for Machine {
    fn members<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Member>, HostError>> {
        let all: Vec<Member> = self.inner().members.0.iter().map(|(member, _)| member.clone()).collect();
        let runs = at != OWN || self.inner().files.contains_key(super::kubeadm::ETCD);
        if all.is_empty() || !runs { silent(at) } else { Box::pin(ready(Ok(all))) }
    }

    fn standing<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Standing, HostError>> {
        let mut inner = self.inner();
        let own = inner.own_node();
        let is_at = |member: &Member| at == format!("{}:2379", member.name) || at == OWN && member.name == own;
        let is_well = inner.members.0.iter().any(|(member, well)| is_at(member) && *well);
        let runs = at != OWN || inner.files.contains_key(super::kubeadm::ETCD);
        if !is_well || !runs {
            return silent(at);
        }
        let has_leader = inner.members.1.leaderless == 0;
        inner.members.1.leaderless = inner.members.1.leaderless.saturating_sub(1);
        Box::pin(ready(Ok(Standing { version: "3.6.8".to_owned(), has_leader })))
    }

    fn alarms<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<(u64, String)>, HostError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn remove<'a>(&'a self, at: &'a str, id: u64) -> BoxFuture<'a, Result<(), HostError>> {
        let deaf = self.inner().members.1.deaf.clone();
        if at.strip_suffix(":2379") == Some(&deaf) {
            return silent(at);
        }
        self.inner().members.0.retain(|(member, _)| member.id != id);
        Box::pin(ready(Ok(())))
    }

    fn snapshot<'a>(&'a self, at: &'a str, to: &'a str) -> BoxFuture<'a, Result<Snapshot, HostError>> {
        if self.inner().members.0.is_empty() {
            return silent(at);
        }
        let number = self.inner().commands.len();
        self.put(to, &format!("{SNAPSHOT}{number}"));
        Box::pin(ready(self.look(to).map(Option::unwrap)))
    }

    fn look(&self, path: &str) -> Result<Option<Snapshot>, HostError> {
        let Some(text) = self.inner().files.get(path).cloned() else { return Ok(None) };
        let none = || HostError::NoSnapshot { path: path.to_owned(), why: "it is no database".to_owned() };
        let revision = text.strip_prefix(SNAPSHOT).and_then(|number| number.parse().ok()).ok_or_else(none)?;
        let size = u64::try_from(text.len()).unwrap();
        Ok(Some(Snapshot { size, sha256: format!("{revision:064x}"), revision, taken: SystemTime::UNIX_EPOCH }))
    }

    fn keys(&self, path: &str, prefix: &str) -> Result<BTreeSet<String>, HostError> {
        panic!("{prefix} in {path} is nobody's business here")
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), HostError> {
        let mut inner = self.inner();
        assert!(!inner.files.contains_key(to), "{to} is written over");
        let text = inner.files.remove(from).unwrap();
        inner.files.insert(to.to_owned(), text);
        Ok(())
    }

    fn restore(&self, from: &str, to: &str) -> Result<Snapshot, HostError> {
        let snapshot = self.look(from)?.unwrap();
        self.put(to, "a database that has forgotten its cluster");
        Ok(snapshot)
    }
}

const SNAPSHOT: &str = "a snapshot of revision ";
