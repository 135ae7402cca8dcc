//! What a host waits for until a provider answers, and what memory the provider has then.
//!
//! `measure-start PROVIDER` starts it once and prints JSON: milliseconds from the start to the handshake line and to the
//! answered `GetProviderSchema` over mutual TLS, and the provider's resident memory after it.

#![expect(clippy::print_stdout, reason = "a measurement prints")]

mod host;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use host::{Identity, Provider};
use tfplugin::v6::get_provider_schema;
use tfplugin::v6::provider_client::ProviderClient;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let provider = std::env::args().nth(1).map(PathBuf::from).ok_or("usage: measure-start PROVIDER")?;
    println!("{}", measure(&provider).await?);
    Ok(())
}

async fn measure(binary: &Path) -> Result<serde_json::Value, Failure> {
    let identity = Identity::new();
    let begin = Instant::now();
    let mut provider = Provider::start(binary, Some(&identity), &HashMap::new());
    let handshake = begin.elapsed();
    let mut client = ProviderClient::new(provider.connect(Some(&identity)).await?);
    client.get_provider_schema(get_provider_schema::Request {}).await?;
    let answered = begin.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", provider.process.id()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let resident: f64 = resident.ok_or("no resident memory in /proc")?;
    // The end of this pipe says that the host has gone.
    drop(provider.stdout.take());
    Ok(serde_json::json!({
        "handshake_ms": handshake.as_secs_f64() * 1000.0,
        "first_rpc_ms": answered.as_secs_f64() * 1000.0,
        "rss_mb": resident / 1024.0,
    }))
}
