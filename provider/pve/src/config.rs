//! Where and how to reach a cluster.

use crate::auth::Auth;
use crate::misconfigured::ConfigError;
use crate::tls::Trust;

/// Where and how to reach a cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// `https://host:8006`, one or more nodes of the same cluster.
    pub endpoints: Vec<String>,
    /// Who we are.
    pub auth: Auth,
    /// Whom we believe.
    pub trust: Trust,
    /// Requests in flight per node; 0 takes the default.
    pub per_node: usize,
}

impl Config {
    /// What can be seen without trying.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if matches!(self.trust, Trust::Fingerprint(_)) && self.endpoints.len() > 1 {
            return Err(ConfigError::FingerprintOfMany);
        }
        well_formed(&self.auth)
    }
}

fn well_formed(auth: &Auth) -> Result<(), ConfigError> {
    let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    match auth {
        Auth::Token(token) => {
            let form = token.split_once('=').and_then(|(id, secret)| Some((id.split_once('!')?.0, secret)));
            let good = form.is_some_and(|(user, secret)| user.contains('@') && !secret.is_empty());
            if good && printable(token) { Ok(()) } else { Err(ConfigError::Credentials("user@realm!tokenid=secret")) }
        }
        Auth::Password { username, .. } if username.contains('@') => Ok(()),
        Auth::Password { .. } => Err(ConfigError::Credentials("user@realm")),
    }
}
