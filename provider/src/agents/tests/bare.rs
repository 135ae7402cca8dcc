//! A machine with nothing on it but what a test puts there, whose programs all end well and say nothing.

use groundwork_agent::host::Kind;
use groundwork_agent::host::{
    Access, BoxFuture, Command, Compared, Host, HostError, Lines, Output, Probe, Runtime, Stat,
};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Mutex;
use std::time::SystemTime;
use tokio::sync::Semaphore;

/// A bare machine; runs wait for a permit before they begin.
pub(super) struct Bare {
    pub(super) gate: Semaphore,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Bare {
    /// Lets `runs` runs begin.
    pub(super) fn letting(runs: usize) -> Self {
        Self { gate: Semaphore::new(runs), files: Mutex::default() }
    }

    /// Puts a file of root's there.
    pub(super) fn put(&self, path: &str, content: &str) {
        self.files.lock().unwrap().insert(path.to_owned(), content.as_bytes().to_vec());
    }
}

impl Host for Bare {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.files.lock().unwrap().get(path).cloned())
    }

    fn stat(&self, _: &str) -> Result<Option<Stat>, HostError> {
        Ok(None)
    }

    fn compare(&self, path: &str, content: &[u8]) -> Result<Option<Compared>, HostError> {
        let access = Access { mode: 0o644, uid: 0, gid: 0 };
        let stat = Stat { kind: Kind::File, access, modified: SystemTime::UNIX_EPOCH };
        Ok(self.files.lock().unwrap().get(path).map(|found| Compared { stat, same: found == content }))
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
