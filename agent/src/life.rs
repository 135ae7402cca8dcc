//! The life of the program: configuration before ports, ready, a signal, an orderly end.
//!
//! One thread serves and no timer runs: an idle agent does nothing at all.

use crate::about::About;
use crate::clone;
use crate::cluster;
use crate::config::{self, Config};
use crate::enrol::Trust;
use crate::facts;
use crate::host::Host;
use crate::host::linux::{Linux, announce};
use crate::records::Records;
use crate::run::{self, Runner, What};
use crate::seal;
use crate::server::{AgentService, serve as serve_grpc};
use crate::spec::Spec;
use crate::state::State;
use crate::update::{self, Trial};
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

type Done = Result<(), Box<dyn Error>>;

/// Answers providers until a signal.
///
/// # Errors
/// When the configuration, the identity or the port cannot be used.
pub fn serve(config: &Path) -> Done {
    let config = Config::load(config)?;
    let state = State::own(&config.state)?;
    let host: Arc<dyn Host> = Arc::new(Linux);
    let machine = clone::settle(&*host, &state)?;
    let trust = Arc::new(Trust::load(state.clone(), machine, config.anchors.clone())?);
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let listener = listen(config.listen).await?;
        // Ends with this block.
        let mut background = JoinSet::new();
        background.spawn(announce::addresses(facts::container(&*host).is_some()));
        let address = listener.local_addr()?;
        tracing::info!(%address, fingerprint = %trust.pin(), "{}", trust.word());
        crate::notify::ready(trust.word())?;
        let runner = Runner::new(host);
        let records = Records::new(state.clone());
        let trial = Trial::of(&**runner.host(), &itself())?;
        let (trust_, about) = (Arc::clone(&trust), About::default());
        let service = AgentService { trust: trust_, records, state, runner: runner.clone(), about, trial };
        let mut told = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let stop = async move {
            // Both arms are cancel-safe.
            tokio::select! { _ = told.recv() => {}, _ = interrupted.recv() => {} }
            tracing::info!("stopping");
        };
        let (stopped, stopping) = tokio::sync::oneshot::channel::<()>();
        let stop = async move {
            stop.await;
            drop(stopped);
        };
        // The server's own end waits for clients to go; ours is bounded.
        tokio::select! {
            served = serve_grpc((listener, config.allow_from.clone()), trust, service, stop) => served.map_err(Into::into),
            () = end(stopping, &runner) => Ok(()),
        }
    });
    // Not waiting for what still looks at files.
    runtime.shutdown_background();
    done
}

/// After the signal: the run in progress stops before its next change; what it started as a unit goes on.
async fn end(stopping: tokio::sync::oneshot::Receiver<()>, runner: &Runner) {
    drop(stopping.await);
    if let Some(id) = runner.current() {
        runner.cancel(&id);
        if let Some(mut story) = runner.attach(&id) {
            let over = async { while story.next().await.is_some() {} };
            drop(tokio::time::timeout(LAST_CHANGE, over).await);
        }
    }
    tokio::time::sleep(FAREWELL).await;
}

/// Prints what a specification still needs.
///
/// # Errors
/// When it cannot be read or planned.
pub fn plan(file: &Path, say: fn(&str) -> Done) -> Done {
    let spec = spec_in(file)?;
    let plan = runtime()?.block_on(run::plan(&Linux, &spec))?;
    plan.changes.iter().try_for_each(|change| say(&change.to_string()))?;
    plan.skipped.iter().try_for_each(|skipped| say(&format!("{}: left out: {}", skipped.step, skipped.reason)))
}

/// Makes a specification's changes and tells them.
///
/// # Errors
/// When it cannot be read, or a change fails.
pub fn apply(file: &Path, say: fn(&str) -> Done) -> Done {
    let spec = spec_in(file)?;
    runtime()?.block_on(async {
        let runner = Runner::new(Arc::new(Linux));
        let id = runner.start("apply", |cx| run::apply(cx, spec))?;
        let Some(mut story) = runner.attach(&id) else { return Err("the run is lost".into()) };
        while let Some(event) = story.next().await {
            match event.what {
                What::ChangeMade { step, summary, .. } => say(&format!("{step}: {summary}"))?,
                What::Output { line, .. } => say(&format!("  {line}"))?,
                What::Note { step, line, .. } => say(&format!("{step}: {line}"))?,
                What::Skipped { step, reason } => say(&format!("{step}: left out: {reason}"))?,
                What::Failed(failure) => return Err(format!("{}: {}", failure.step, failure.message).into()),
                What::Began { .. } | What::StepBegan { .. } | What::Finished(_) => {}
            }
        }
        Ok(())
    })
}

/// Makes this machine a template.
///
/// # Errors
/// When it cannot be one, or does not let itself be made one.
pub fn seal(say: fn(&str) -> Done) -> Done {
    let state = own_state()?;
    runtime()?.block_on(seal::seal(&Linux, &state, say))
}

/// Takes a snapshot of this control plane's etcd, lets all but the newest so many go, and sends it where its timer says.
///
/// # Errors
/// When it cannot be taken, or not sent.
pub fn etcd_snapshot(directory: &str, keep: &str, say: fn(&str) -> Done) -> Done {
    let keep: usize = keep.parse().map_err(|_| format!("{keep:?} is no number of snapshots"))?;
    let state = own_state()?;
    runtime()?.block_on(async {
        let (path, taken) = cluster::take_scheduled(&Linux, directory, keep).await?;
        say(&format!("{path}: revision {}, {} bytes", taken.revision, taken.size))?;
        let sent = cluster::send_snapshots(&Linux, &state, (directory, &path)).await;
        let sent = sent.map_err(|why| format!("{path} was taken, and did not get into the bucket: {why}"))?;
        sent.map_or(Ok(()), |sent| say(&sent))
    })
}

/// Before a start of the agent that is on trial, by the one before it.
///
/// # Errors
/// When the trial cannot be looked at.
pub fn guard() -> Done {
    Ok(runtime()?.block_on(update::guard(&Linux))?)
}

/// When the trial's time is over, by the agent before.
///
/// # Errors
/// When the old agent cannot be put back.
pub fn revert() -> Done {
    Ok(runtime()?.block_on(update::revert(&Linux))?)
}

/// Where this machine's agent keeps what is its own.
fn own_state() -> Result<State, Box<dyn Error>> {
    let file = Path::new(config::FILE);
    Ok(State::open(&if file.exists() { Config::load(file)?.state } else { config::state() })?)
}

/// The specification in a file; every failure names it.
fn spec_in(file: &Path) -> Result<Spec, Box<dyn Error>> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| named(&error))?;
    Ok(Spec::from_json(&text).map_err(|error| named(&error))?)
}

/// The file that this process was started from.
fn itself() -> String {
    std::fs::read_link("/proc/self/exe").map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    // Threads for what looks at files, and for files that are waited for meanwhile: more than there can be calls at work.
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(48).build()
}

/// Binds; a kernel without IPv6 gets the IPv4 wildcard in the place of the other.
async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.is_ipv6() && address.ip().is_unspecified() && error.kind() != io::ErrorKind::AddrInUse =>
        {
            TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port())).await
        }
        other => other,
    }
}

/// How long the change in progress may take at a shutdown; the unit's `TimeoutStopSec` is a little more.
const LAST_CHANGE: Duration = Duration::from_secs(40);
/// For the last events to get out.
const FAREWELL: Duration = Duration::from_millis(200);
