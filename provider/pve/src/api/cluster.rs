//! `/cluster`: who is where, and free VM ids.
//!
//! The list of guests and nodes is fetched once and shared by everybody in the process until something is created, removed or moved.
//! It may lack a guest that exists, because of missing rights: ask [`Cluster::is_taken`] before calling one gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::ids::{NodeName, Vmid};
use crate::params::Params;
use crate::wording::Class;

/// A VM or a container, as the cluster lists it. `status` and `name` may be some seconds old, or missing right after creation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Guest {
    /// Its number.
    pub vmid: Vmid,
    /// Where it is.
    pub node: NodeName,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: GuestKind,
    /// Its name.
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    pub name: Option<String>,
    /// `running`, `stopped`, `paused`, `unknown` …
    #[serde(default)]
    pub status: String,
    /// True for templates.
    #[serde(default, deserialize_with = "crate::quirks::flag")]
    pub template: bool,
    /// Its tags as the server lists them.
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    pub tags: Option<String>,
    /// What it is locked for.
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    pub lock: Option<String>,
    /// Its pool.
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    pub pool: Option<String>,
    #[serde(default, deserialize_with = "crate::quirks::optional_text")]
    maxcpu: Option<String>,
    /// Memory in bytes.
    #[serde(default)]
    pub maxmem: Option<u64>,
}

impl Guest {
    /// Its CPUs.
    #[must_use]
    pub fn cpus(&self) -> Option<u32> {
        self.maxcpu.as_deref()?.split('.').next()?.parse().ok()
    }

    /// Its tags, one by one.
    #[must_use]
    pub fn tags(&self) -> Vec<String> {
        self.tags.as_deref().map(crate::quirks::words).unwrap_or_default()
    }
}

/// What a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestKind {
    /// A virtual machine.
    Qemu,
    /// A container.
    Lxc,
}

/// All guests at one moment, and the nodes there were.
#[derive(Debug, Default)]
pub struct Guests(Vec<Guest>, BTreeMap<NodeName, bool>);

impl Guests {
    /// The guest with that number.
    #[must_use]
    pub fn find(&self, vmid: Vmid) -> Option<&Guest> {
        self.0.iter().find(|guest| guest.vmid == vmid)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Guest> {
        self.0.iter()
    }

    /// Every node of the cluster, and whether it is in reach of the others.
    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<NodeName, bool> {
        &self.1
    }

    /// From the rows of one answer, which are of many kinds: storages, networks and pools are nothing to us.
    fn of(rows: Vec<Value>) -> serde_json::Result<Self> {
        let mut all = Self::default();
        for row in rows {
            match row.get("type").and_then(Value::as_str) {
                Some("qemu" | "lxc") => all.0.push(Guest::deserialize(row)?),
                Some("node") => {
                    let node = NodeRow::deserialize(row)?;
                    all.1.insert(node.node, node.status == "online");
                }
                _ => {}
            }
        }
        all.0.sort_by_key(|guest| guest.vmid);
        Ok(all)
    }
}

#[derive(Deserialize)]
struct NodeRow {
    node: NodeName,
    #[serde(default)]
    status: String,
}

/// The shared view: one fetch at a time, renewed after it was invalidated.
#[derive(Default)]
pub(crate) struct Snapshot {
    state: Mutex<Seen>,
    fetch: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Seen {
    /// When something was last created, removed or moved here.
    changed: Option<Instant>,
    /// When the last list was asked for, and what it said.
    last: Option<(Instant, Arc<Guests>)>,
}

impl Snapshot {
    /// Makes the next look a new one.
    pub(crate) fn invalidate(&self) {
        self.state().changed = Some(Instant::now());
    }

    /// The last list and when it was asked for.
    fn last(&self) -> Option<(Instant, Arc<Guests>)> {
        self.state().last.clone()
    }

    /// The last list, if it was asked for at that time or later.
    fn asked_since(&self, since: Instant) -> Option<Arc<Guests>> {
        self.last().filter(|(asked, _)| *asked >= since).map(|(_, guests)| guests)
    }

    /// The last list, if nothing was changed since and it is not too old.
    fn current(&self) -> Option<Arc<Guests>> {
        let changed = self.state().changed;
        let (asked, guests) = self.last()?;
        let valid = asked.elapsed() < LIFETIME && changed.is_none_or(|changed| changed < asked);
        valid.then_some(guests)
    }

    fn state(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `/cluster`
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a>(&'a Client);

impl Client {
    /// The cluster as a whole.
    #[must_use]
    pub const fn cluster(&self) -> Cluster<'_> {
        Cluster(self)
    }
}

impl Cluster<'_> {
    /// All guests we may see, from the shared view.
    ///
    /// # Errors
    /// As every read.
    pub async fn guests(&self) -> Result<Arc<Guests>, Error> {
        self.unless(|snapshot| snapshot.current()).await
    }

    /// All guests we may see, as they were at most `age` ago, whatever we did since.
    ///
    /// # Errors
    /// As every read.
    pub async fn guests_since(&self, age: Duration) -> Result<Arc<Guests>, Error> {
        let since = Instant::now().checked_sub(age);
        self.unless(|snapshot| snapshot.asked_since(since?)).await
    }

    /// All guests we may see, asked for after this call was made. Askers of the same moment share one answer.
    ///
    /// # Errors
    /// As every read.
    pub async fn guests_now(&self) -> Result<Arc<Guests>, Error> {
        let now = Instant::now();
        self.unless(|snapshot| snapshot.asked_since(now)).await
    }

    /// The last list that was asked for, if there is any yet, and whether nothing was changed since. A guest in it that answers under its
    /// number on its node is there, however old the list is.
    #[must_use]
    pub fn guests_known(&self) -> Option<(Arc<Guests>, bool)> {
        let snapshot = self.0.snapshot();
        let current = snapshot.current();
        let is_current = current.is_some();
        Some((current.or_else(|| snapshot.last().map(|(_, guests)| guests))?, is_current))
    }

    /// The list that will do, or else a new one.
    async fn unless(&self, will_do: impl Fn(&Snapshot) -> Option<Arc<Guests>>) -> Result<Arc<Guests>, Error> {
        let snapshot = self.0.snapshot();
        if let Some(guests) = will_do(snapshot) {
            return Ok(guests);
        }
        let call = Call::get(&["cluster", "resources"]);
        let _single = self.0.unless_over(&call, snapshot.fetch.lock()).await?;
        if let Some(guests) = will_do(snapshot) {
            return Ok(guests);
        }
        let (asked, name) = (Instant::now(), call.name());
        let guests = Guests::of(self.0.call(call).await?);
        let guests = Arc::new(guests.map_err(|source| Error::Unreadable { call: name, source })?);
        snapshot.state().last = Some((asked, Arc::clone(&guests)));
        Ok(guests)
    }

    /// A VM id that was free when asked. Nothing is reserved: claim it by creating.
    ///
    /// # Errors
    /// If the configured range is used up, and as every read.
    pub async fn next_id(&self) -> Result<Vmid, Error> {
        self.0.call(Call::get(&["cluster", "nextid"])).await
    }

    /// Whether any guest, seen or unseen, has the number.
    ///
    /// # Errors
    /// As every read.
    pub async fn is_taken(&self, vmid: Vmid) -> Result<bool, Error> {
        let call = Call::get(&["cluster", "nextid"]).params(Params::new().with("vmid", vmid));
        match self.0.call::<IgnoredAny>(call).await {
            Ok(_) => Ok(false),
            Err(error) if error.is(Class::Exists) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Longer than a refresh of a large cluster takes, shorter than a person's patience with stale news.
const LIFETIME: Duration = Duration::from_secs(120);
