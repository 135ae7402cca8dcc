//! `/version`

use serde::Deserialize;

use crate::client::Client;
use crate::error::Error;
use crate::http::Call;

/// What the server is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// `9.1.8`
    pub version: String,
    /// `9.1`
    pub release: String,
    /// Short hash of the build.
    #[serde(default)]
    pub repoid: String,
}

impl Client {
    /// The version of the server's `pve-manager`.
    ///
    /// # Errors
    /// As every read; it needs credentials, too.
    pub async fn version(&self) -> Result<Version, Error> {
        self.call(Call::get(&["version"])).await
    }
}
