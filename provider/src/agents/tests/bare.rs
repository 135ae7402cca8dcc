//! A machine with nothing on it, whose programs all end well and say nothing.

use groundwork_agent::host::{
    Access, BoxFuture, Command, Compared, Host, HostError, Lines, Output, Probe, Runtime, Stat,
};
use std::future::ready;
use std::time::SystemTime;
use tokio::sync::Semaphore;

/// A bare machine; runs wait for a permit before they begin.
pub(super) struct Bare {
    pub(super) gate: Semaphore,
}

impl Bare {
    /// Lets `runs` runs begin.
    pub(super) fn letting(runs: usize) -> Self {
        Self { gate: Semaphore::new(runs) }
    }
}

impl Host for Bare {
    fn read(&self, _: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(None)
    }

    fn stat(&self, _: &str) -> Result<Option<Stat>, HostError> {
        Ok(None)
    }

    fn compare(&self, _: &str, _: &[u8]) -> Result<Option<Compared>, HostError> {
        Ok(None)
    }

    fn copy(&self, _: &str, _: &str, _: Access) -> Result<Option<Stat>, HostError> {
        Ok(None)
    }

    fn list(&self, _: &str) -> Result<Vec<String>, HostError> {
        Ok(Vec::new())
    }

    fn write(&self, _: &str, _: &[u8], _: Access) -> Result<(), HostError> {
        Ok(())
    }

    fn link(&self, _: &str, _: &str) -> Result<(), HostError> {
        Ok(())
    }

    fn remove(&self, _: &str) -> Result<(), HostError> {
        Ok(())
    }

    fn poke(&self, _: &str, _: &str) -> Result<(), HostError> {
        Ok(())
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn probe(&self, _: &str) -> Result<Option<Probe>, HostError> {
        Ok(None)
    }

    fn run<'a>(&'a self, _: &'a Command, _: Lines<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
        Box::pin(ready(Ok(Output { code: Some(0), ..Output::default() })))
    }

    fn settle<'a>(&'a self, _: Lines<'a>) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(async {
            if let Ok(permit) = self.gate.acquire().await {
                permit.forget();
            }
            Ok(())
        })
    }

    fn runtime<'a>(&'a self, socket: &'a str) -> BoxFuture<'a, Result<Runtime, HostError>> {
        let why = "a bare machine has none".to_owned();
        Box::pin(ready(Err(HostError::Runtime { socket: socket.to_owned(), why })))
    }
}
