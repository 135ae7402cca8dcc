//! `/access`: what the credentials may do.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;

use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::params::Params;

impl Client {
    /// The privileges that our user or token has on a path of the access control list, such as `/storage/local`.
    ///
    /// # Errors
    /// As every read; it needs no privilege.
    pub async fn privileges(&self, path: &str) -> Result<BTreeSet<String>, Error> {
        let call = Call::get(&["access", "permissions"]).params(Params::new().with("path", path));
        let answer: BTreeMap<String, BTreeMap<String, IgnoredAny>> = self.call(call).await?;
        Ok(answer.into_values().flat_map(BTreeMap::into_keys).collect())
    }
}
