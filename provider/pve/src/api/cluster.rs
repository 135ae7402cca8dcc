//! `/cluster`: who is where, and free VM ids.
//!
//! The list of guests and nodes is fetched once and shared by everybody in the process until something is created, removed or moved.
//! It may lack a guest that exists, because of missing rights: ask [`Cluster::is_taken`] before calling one gone.

use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::Error;
use crate::guests::Guests;
use crate::http::Call;
use crate::ids::Vmid;
use crate::params::Params;
use crate::snapshot::Snapshot;
use crate::wording::Class;

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
        let _single = self.0.unless_over(&call, snapshot.one_at_a_time()).await?;
        if let Some(guests) = will_do(snapshot) {
            return Ok(guests);
        }
        let (asked, name) = (Instant::now(), call.name());
        let guests = Guests::of(self.0.call(call).await?);
        let guests = Arc::new(guests.map_err(|source| Error::Unreadable { call: name, source })?);
        snapshot.renew(asked, &guests);
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
