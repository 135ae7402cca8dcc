//! The cluster's etcd, imitated: members by name, of which some do not answer.

use super::Machine;
use crate::host::etcd::{Etcd, Member, Standing};
use crate::host::{BoxFuture, HostError};
use std::future::ready;

/// Members in the order in which they came.
#[derive(Default)]
pub(super) struct Members(Vec<(Member, bool)>);

impl Members {
    /// A member that is well and votes, in the place of one of the same name.
    pub(super) fn add(&mut self, name: &str) {
        let id = self.0.iter().map(|(member, _)| member.id).max().unwrap_or_default() + 1;
        self.0.retain(|(member, _)| member.name != name);
        let client_urls = vec![format!("https://{name}:2379")];
        let peer_urls = vec![format!("https://{name}:2380")];
        self.0.push((Member { id, name: name.to_owned(), peer_urls, client_urls, learner: false }, true));
    }
}

impl Machine {
    /// Somebody switches the machine of a member off.
    pub(in super::super) fn member_dies(&self, name: &str) {
        let mut inner = self.inner();
        inner.members.0.iter_mut().filter(|(member, _)| member.name == name).for_each(|(_, well)| *well = false);
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
        if all.is_empty() { silent(at) } else { Box::pin(ready(Ok(all))) }
    }

    fn standing<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Standing, HostError>> {
        let inner = self.inner();
        let is_well = inner.members.0.iter().any(|(member, well)| at == format!("{}:2379", member.name) && *well);
        if !is_well {
            return silent(at);
        }
        Box::pin(ready(Ok(Standing { version: "3.6.8".to_owned(), has_leader: true })))
    }

    fn alarms<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<(u64, String)>, HostError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn remove<'a>(&'a self, _: &'a str, id: u64) -> BoxFuture<'a, Result<(), HostError>> {
        self.inner().members.0.retain(|(member, _)| member.id != id);
        Box::pin(ready(Ok(())))
    }
}
