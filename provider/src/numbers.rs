//! Numbers of guests that this process gave out, and whose names it knows.
//!
//! Proxmox VE reserves nothing: its next free number is the same for everybody who asks, and its list lacks the names of new guests for
//! some seconds. So numbers are told apart here, without asking again and without anybody waiting for another; one that somebody
//! else has taken meanwhile is refused by the call that uses it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pve::{Client, Error, Guests, Vmid};
use tokio::time::Instant;

/// What this process knows of numbers.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What the server named as free, and when.
    free: Option<(Instant, Vmid)>,
    /// Numbers in use, some before anybody else can see it, and the names of their guests.
    names: BTreeMap<Vmid, String>,
}

impl Numbers {
    /// A number for a guest of that name: the lowest from the server's own on that neither the list nor this process uses.
    pub(crate) async fn next(&self, client: &Client, guests: &Guests, name: &str) -> Result<Vmid, Error> {
        let free = self.known().free.filter(|(since, _)| since.elapsed() < FRESH);
        let from = match free {
            Some((_, from)) => from,
            // The only way to learn where the cluster's range of numbers begins.
            None => {
                let asked = Instant::now();
                let from = client.cluster().next_id().await?;
                self.known().free = Some((asked, from));
                from
            }
        };
        let mut known = self.known();
        let mut number = from;
        // The list may be older than the server's answer: what is named as free is free, also if a guest had it a moment ago.
        let is_listed = |number: Vmid| number != from && guests.find(number).is_some();
        while known.names.contains_key(&number) || is_listed(number) {
            number = number.next().ok_or_else(|| Error::Deadline { what: "a free VM id".to_owned() })?;
        }
        known.names.insert(number, name.to_owned());
        Ok(number)
    }

    /// Remembers whose number it is.
    pub(crate) fn named(&self, vmid: Vmid, name: &str) {
        self.known().names.insert(vmid, name.to_owned());
    }

    /// The guest of that number is gone, or never was.
    pub(crate) fn forget(&self, vmid: Vmid) {
        self.known().names.remove(&vmid);
    }

    /// The name of a guest that this process made or looked at.
    pub(crate) fn name_of(&self, vmid: Vmid) -> Option<String> {
        self.known().names.get(&vmid).cloned()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the server's answer is built on: numbers below it may have become free since.
const FRESH: Duration = Duration::from_secs(60);
