//! The imitated machine as a host: files in memory, and programs that the imitation answers for.

use super::Machine;
use crate::cluster::tests::files;
use crate::host::{Access, BoxFuture, Command, Compared, Host, HostError, Kind, Lines, Output, Probe, Runtime, Stat};
use std::future::ready;
use std::time::SystemTime;

impl Host for Machine {
    fn etcd(&self) -> &dyn crate::host::etcd::Etcd {
        self
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.inner().files.get(path).map(|text| text.clone().into_bytes()))
    }

    fn stat(&self, path: &str) -> Result<Option<Stat>, HostError> {
        let inner = self.inner();
        let link = inner.files.get(path).filter(|_| inner.links.contains(path));
        let stat = files::stat(&inner.files, path);
        Ok(stat.map(|stat| Stat { kind: link.map_or(stat.kind, |to| Kind::Link(to.clone())), ..stat }))
    }

    fn compare(&self, path: &str, _: &[u8]) -> Result<Option<Compared>, HostError> {
        panic!("{path} is nobody's business here")
    }

    fn copy(&self, from: &str, to: &str, _: Access) -> Result<Option<Stat>, HostError> {
        panic!("{from} and {to} are nobody's business here")
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, HostError> {
        Ok(files::list(&self.inner().files, folder))
    }

    fn write(&self, path: &str, content: &[u8], access: Access) -> Result<(), HostError> {
        let is_open = path.ends_with(".service") || path.ends_with(".timer");
        assert!(is_open || access.mode == 0o600, "{path} may hold a token");
        self.writes(path)?;
        self.put(path, &String::from_utf8_lossy(content));
        Ok(())
    }

    fn link(&self, path: &str, to: &str) -> Result<(), HostError> {
        self.writes(path)?;
        self.put(path, to);
        self.inner().links.insert(path.to_owned());
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), HostError> {
        self.inner().files.remove(path);
        Ok(())
    }

    fn poke(&self, path: &str, _: &str) -> Result<(), HostError> {
        panic!("{path} is nobody's business here")
    }

    fn probe(&self, _: &str) -> Result<Option<Probe>, HostError> {
        Ok(None)
    }

    fn run<'a>(&'a self, command: &'a Command, lines: Lines<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
        self.inner().commands.push(command.to_string());
        let output = self.program(command);
        output.stdout.lines().chain(output.stderr.lines()).for_each(lines);
        Box::pin(ready(Ok(output)))
    }

    fn settle<'a>(&'a self, _: Lines<'a>) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(ready(Ok(())))
    }

    fn runtime<'a>(&'a self, socket: &'a str) -> BoxFuture<'a, Result<Runtime, HostError>> {
        let why = "not imitated".to_owned();
        Box::pin(ready(Err(HostError::Runtime { socket: socket.to_owned(), why })))
    }
}
