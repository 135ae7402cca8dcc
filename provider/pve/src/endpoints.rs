//! The nodes at which a cluster is reached, and with which of them a call begins.
//!
//! Every node answers for the whole cluster, so a call begins where the last one was answered.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::misconfigured::ConfigError;

/// One or more nodes of the same cluster.
pub(crate) struct Endpoints {
    urls: Vec<String>,
    /// Which is asked first.
    first: AtomicUsize,
    /// Whether any has answered yet.
    reached: AtomicBool,
}

impl Endpoints {
    pub(crate) fn new(urls: &[String]) -> Result<Self, ConfigError> {
        let urls: Vec<String> = urls.iter().map(|url| origin(url)).collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Err(ConfigError::Endpoint(String::new()));
        }
        Ok(Self { urls, first: AtomicUsize::new(0), reached: AtomicBool::new(false) })
    }

    /// Where a call begins.
    pub(crate) fn first(&self) -> &str {
        self.in_turn().next().map(|(_, url)| url).unwrap_or_default()
    }

    /// All of them, in the order of the configuration.
    pub(crate) fn all(&self) -> &[String] {
        &self.urls
    }

    /// All of them once, the first first.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = (usize, &str)> {
        let first = self.first.load(Ordering::Relaxed);
        let all = self.urls.iter().map(String::as_str).enumerate();
        all.clone().skip(first).chain(all.take(first))
    }

    /// The next call begins where this one was answered.
    pub(crate) fn answered(&self, at: usize) {
        self.first.store(at, Ordering::Relaxed);
        self.reached.store(true, Ordering::Relaxed);
    }

    /// The next call begins elsewhere. Of many calls that failed together, one moves on.
    pub(crate) fn lost(&self, at: usize) {
        let next = (at + 1) % self.urls.len();
        self.first.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).ok();
        self.reached.store(true, Ordering::Relaxed);
    }

    pub(crate) fn were_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.urls.fmt(f)
    }
}

fn origin(url: &str) -> Result<String, ConfigError> {
    let bad = || ConfigError::Endpoint(url.to_owned());
    let parsed = reqwest::Url::parse(url.trim()).map_err(|_| bad())?;
    let host = parsed.host_str().ok_or_else(bad)?;
    // Plain HTTP only through a tunnel that ends on this machine.
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let scheme = parsed.scheme() == "https" || (parsed.scheme() == "http" && local);
    let path = parsed.path().trim_end_matches('/');
    let path = path.is_empty() || matches!(path, "/api2" | "/api2/json");
    if !scheme || !path || parsed.query().is_some() || !parsed.username().is_empty() {
        return Err(bad());
    }
    Ok(parsed.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_begin_where_the_last_was_answered_and_leave_a_lost_endpoint_once() {
        let urls = ["https://a:8006", "https://b:8006", "https://c:8006"].map(str::to_owned);
        let endpoints = Endpoints::new(&urls).unwrap();
        let order = || endpoints.in_turn().map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!((order(), endpoints.were_reached()), (vec![0, 1, 2], false));
        endpoints.answered(1);
        assert_eq!((order(), endpoints.were_reached()), (vec![1, 2, 0], true));
        // Two calls that failed together.
        endpoints.lost(1);
        endpoints.lost(1);
        assert_eq!((order(), endpoints.first()), (vec![2, 0, 1], "https://c:8006"));
    }
}
