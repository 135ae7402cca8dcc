//! A configuration that can never work.

/// A configuration that can never work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No endpoint, or one that is no URL of a server.
    #[error("{0:?} is no URL of the form https://host:8006")]
    Endpoint(String),
    /// Credentials of another form.
    #[error("the credentials are not of the form {0}")]
    Credentials(&'static str),
    /// No usable CA certificate.
    #[error("the CA certificate cannot be used: {0}")]
    Ca(String),
    /// Not a SHA-256 fingerprint.
    #[error("{0:?} is no SHA-256 fingerprint")]
    Fingerprint(String),
    /// One node's fingerprint for several nodes, each of which has a certificate of its own.
    #[error("one fingerprint cannot fit the certificates of several endpoints")]
    FingerprintOfMany,
    /// The TLS library or the HTTP client refused to start.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl From<rustls::client::VerifierBuilderError> for ConfigError {
    fn from(error: rustls::client::VerifierBuilderError) -> Self {
        Self::Ca(error.to_string())
    }
}
