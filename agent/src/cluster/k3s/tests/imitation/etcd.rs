//! The etcd in K3s, imitated: members that have their nodes' names with a mark behind them.

use super::Machine;
use crate::cluster::etcd::OWN;
use crate::host::etcd::{Etcd, Member, Snapshot, Standing};
use crate::host::{BoxFuture, HostError};
use std::collections::BTreeSet;
use std::future::ready;
use std::time::SystemTime;

/// Members, each with whether it is well.
#[derive(Default)]
pub(super) struct Members {
    all: Vec<(Member, bool)>,
    /// The node of this machine.
    pub(super) own: String,
}

impl Members {
    /// A member that is well and votes, in the place of one of the same node.
    pub(super) fn add(&mut self, node: &str) {
        let name = format!("{node}-624f1727");
        let id = self.all.iter().map(|(member, _)| member.id).max().unwrap_or_default() + 1;
        self.all.retain(|(member, _)| member.name != name);
        let urls = |port: u16| vec![format!("https://{name}:{port}")];
        let (peer_urls, client_urls) = (urls(2380), urls(2379));
        self.all.push((Member { id, name, peer_urls, client_urls, learner: false }, true));
    }
}

impl Machine {
    /// Somebody switches the machine of a member off.
    pub(in super::super) fn member_dies(&self, node: &str) {
        let name = format!("{node}-624f1727");
        self.inner()
            .members
            .all
            .iter_mut()
            .filter(|(member, _)| member.name == name)
            .for_each(|(_, well)| *well = false);
    }

    /// Names of the members.
    pub(in super::super) fn members(&self) -> Vec<String> {
        self.inner().members.all.iter().map(|(member, _)| member.name.clone()).collect()
    }
}

fn silent<'a, T: Send + 'a>(at: &str) -> BoxFuture<'a, Result<T, HostError>> {
    Box::pin(ready(Err(HostError::Etcd { at: at.to_owned(), why: "connection refused".to_owned() })))
}

impl Etcd for Machine {
    fn members<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Member>, HostError>> {
        let inner = self.inner();
        let all: Vec<Member> = inner.members.all.iter().map(|(member, _)| member.clone()).collect();
        let is_down = at == OWN && inner.running.is_none();
        if all.is_empty() || is_down { silent(at) } else { Box::pin(ready(Ok(all))) }
    }

    fn standing<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Standing, HostError>> {
        let inner = self.inner();
        let own = format!("{}-624f1727", inner.members.own);
        let is_at = |member: &Member| at == format!("{}:2379", member.name) || at == OWN && member.name == own;
        if !inner.members.all.iter().any(|(member, well)| is_at(member) && *well) {
            return silent(at);
        }
        Box::pin(ready(Ok(Standing { version: "3.6.7".to_owned(), has_leader: true })))
    }

    fn alarms<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<(u64, String)>, HostError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn remove<'a>(&'a self, _: &'a str, id: u64) -> BoxFuture<'a, Result<(), HostError>> {
        self.inner().members.all.retain(|(member, _)| member.id != id);
        Box::pin(ready(Ok(())))
    }

    fn snapshot<'a>(&'a self, at: &'a str, to: &'a str) -> BoxFuture<'a, Result<Snapshot, HostError>> {
        if self.inner().running.is_none() {
            return silent(at);
        }
        self.put(to, SNAPSHOT);
        Box::pin(ready(self.look(to).map(Option::unwrap)))
    }

    fn look(&self, path: &str) -> Result<Option<Snapshot>, HostError> {
        let Some(text) = self.inner().files.get(path).cloned() else { return Ok(None) };
        if text != SNAPSHOT {
            return Err(HostError::NoSnapshot { path: path.to_owned(), why: "it is no database".to_owned() });
        }
        Ok(Some(Snapshot { size: 10, sha256: super::sum(&text), revision: 7, taken: SystemTime::UNIX_EPOCH }))
    }

    fn keys(&self, _: &str, prefix: &str) -> Result<BTreeSet<String>, HostError> {
        Ok(BTreeSet::from([format!("{prefix}{}", &super::sum("5ecret5ecret")[..12])]))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), HostError> {
        let mut inner = self.inner();
        let text = inner.files.remove(from).unwrap();
        assert_eq!(inner.files.insert(to.to_owned(), text), None, "{to} is written over");
        Ok(())
    }

    fn restore(&self, from: &str, to: &str) -> Result<Snapshot, HostError> {
        panic!("{from} and {to} are nobody's business here")
    }
}

/// Of the cluster whose secret is `5ecret5ecret`.
pub(in super::super) const SNAPSHOT: &str = "a snapshot of revision 7";
