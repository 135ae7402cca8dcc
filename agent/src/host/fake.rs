//! A machine in memory, for tests: files, and imitations of the programs that the steps run (`programs`).
//!
//! It behaves as Debian 12 does where a step can tell the difference: a kernel setting exists only while its module is loaded,
//! systemd knows a unit only after it has read its files, a package that is installed over a hold loses it. Every change moves the
//! clock by a second. [`Fake::die_after`] cuts the power after so many changes.

mod programs;
mod template;

use super::{Access, BoxFuture, Command, Compared, Host, HostError, Kind, Lines, Output, Probe, Runtime, Stat};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A machine in memory.
pub(crate) struct Fake(Mutex<State>);

/// Everything there is.
struct State {
    nodes: BTreeMap<String, Node>,
    /// Units that run, and since when.
    running: BTreeMap<String, SystemTime>,
    /// When systemd has read the files of a unit that it holds in memory: when it was started, or at a reload.
    read: BTreeMap<String, SystemTime>,
    now: SystemTime,
    /// Changes until the power goes.
    left: Option<usize>,
    changes: usize,
    /// Programs that were run, without those that only look.
    log: Vec<String>,
    /// How many only looked.
    looks: usize,
    /// A user's link: no path leads through it.
    users: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File { content: Vec<u8>, access: Access, modified: SystemTime },
    Link(String),
    Device(Probe),
}

impl Fake {
    /// A machine as users' templates make them: with swap in many forms and none of what Kubernetes needs.
    pub(crate) fn template() -> Self {
        let (nodes, running, read, log) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), Vec::new());
        let state = State { nodes, running, read, now: BOOT, left: None, changes: 0, log, looks: 0, users: None };
        let fake = Self(Mutex::new(state));
        template::fill(&fake);
        fake
    }

    /// The same, as a container.
    pub(crate) fn container() -> Self {
        let fake = Self::template();
        fake.put("/run/systemd/container", "systemd-nspawn\n");
        fake
    }

    /// A file, from outside: no change of ours.
    pub(crate) fn put(&self, path: &str, content: &str) {
        let mut state = self.state();
        let modified = state.now;
        let node = Node::File { content: content.into(), access: Access::OPEN, modified };
        state.nodes.insert(path.to_owned(), node);
    }

    /// A link, from outside.
    pub(crate) fn link(&self, path: &str, to: &str) {
        self.state().nodes.insert(path.to_owned(), Node::Link(to.to_owned()));
    }

    /// A file with another mode, from outside.
    pub(crate) fn chmod(&self, path: &str, to: u32) {
        if let Some(Node::File { access, .. }) = self.state().nodes.get_mut(path) {
            access.mode = to;
        }
    }

    /// A user puts a link in the place of a folder; or takes it away.
    pub(crate) fn users_link(&self, path: Option<&str>) {
        self.state().users = path.map(str::to_owned);
    }

    /// A device, from outside.
    pub(crate) fn device(&self, path: &str, probe: Probe) {
        self.state().nodes.insert(path.to_owned(), Node::Device(probe));
    }

    /// Takes something away, from outside.
    pub(crate) fn take(&self, path: &str) {
        self.state().nodes.remove(path);
    }

    /// A file's text.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.state().text(path)
    }

    /// Starts a unit, from outside.
    pub(crate) fn start(&self, unit: &str) {
        let mut state = self.state();
        let now = state.now;
        state.running.insert(unit.to_owned(), now);
    }

    /// Programs that were run since the last question.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// Programs that were run and only looked.
    pub(crate) fn looks(&self) -> usize {
        self.state().looks
    }

    /// After so many more changes nothing works any more; `None` brings the power back.
    pub(crate) fn die_after(&self, changes: Option<usize>) {
        self.state().left = changes;
    }

    /// Changes left until the power goes.
    pub(crate) fn die_after_left(&self) -> Option<usize> {
        self.state().left
    }

    /// Changes so far.
    pub(crate) fn changes(&self) -> usize {
        self.state().changes
    }

    /// What two machines have to agree about: files with their owners, and what runs. Not: times.
    pub(crate) fn picture(&self) -> BTreeMap<String, String> {
        let state = self.state();
        let mut picture: BTreeMap<_, _> = state
            .nodes
            .iter()
            .map(|(path, node)| {
                let what = match node {
                    Node::File { content, access, .. } => {
                        format!("{:o} {}:{} {}", access.mode, access.uid, access.gid, String::from_utf8_lossy(content))
                    }
                    Node::Link(to) => format!("-> {to}"),
                    Node::Device(probe) => format!("{probe:?}"),
                };
                (path.clone(), what)
            })
            .collect();
        picture.extend(state.running.keys().map(|unit| (format!("unit {unit}"), "runs".to_owned())));
        picture
    }

    /// Whether the picture has this.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.picture().contains_key(path)
    }

    fn reach(&self, path: &str) -> Result<MutexGuard<'_, State>, HostError> {
        let state = self.state();
        let foreign = state.users.as_ref().is_some_and(|link| path.starts_with(&format!("{link}/")));
        let error = || HostError::Foreign { act: "reach", path: path.to_owned(), why: "a user's link".to_owned() };
        if foreign { Err(error()) } else { Ok(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn change(&self, path: &str) -> Result<MutexGuard<'_, State>, HostError> {
        let mut state = self.reach(path)?;
        state.spend().map_err(|source| HostError::File { act: "change", path: path.to_owned(), source })?;
        Ok(state)
    }
}

impl State {
    /// One change, if there is power for it.
    fn spend(&mut self) -> io::Result<()> {
        if self.left == Some(0) {
            return Err(io::Error::other("the power is gone"));
        }
        self.left = self.left.map(|left| left - 1);
        self.changes += 1;
        self.now += Duration::from_secs(1);
        Ok(())
    }

    fn text(&self, path: &str) -> Option<String> {
        match self.nodes.get(path)? {
            Node::File { content, .. } => Some(String::from_utf8_lossy(content).into_owned()),
            Node::Link(_) | Node::Device(_) => None,
        }
    }

    fn set(&mut self, path: &str, content: &str) {
        let node = Node::File { content: content.into(), access: Access::OPEN, modified: self.now };
        self.nodes.insert(path.to_owned(), node);
    }

    /// Names right below a folder.
    fn names(&self, folder: &str) -> Vec<String> {
        let inside = format!("{folder}/");
        let mut names: Vec<String> = self
            .nodes
            .range(inside.clone()..)
            .map_while(|(path, _)| path.strip_prefix(&inside))
            .filter_map(|rest| rest.split('/').next())
            .map(str::to_owned)
            .collect();
        names.dedup();
        names
    }
}

impl Host for Fake {
    fn now(&self) -> SystemTime {
        self.state().now
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        let state = self.reach(path)?;
        if path == "/proc/uptime" {
            let uptime = state.now.duration_since(BOOT).unwrap().as_secs();
            return Ok(Some(format!("{uptime}.00 0.00\n").into_bytes()));
        }
        Ok(state.text(path).map(String::into_bytes))
    }

    fn stat(&self, path: &str) -> Result<Option<Stat>, HostError> {
        let state = self.reach(path)?;
        let stat = |kind, access, modified| Some(Stat { kind, access, modified });
        Ok(match state.nodes.get(path) {
            Some(Node::File { access, modified, .. }) => stat(Kind::File, *access, *modified),
            Some(Node::Link(to)) => stat(Kind::Link(to.clone()), Access { mode: 0o777, uid: 0, gid: 0 }, BOOT),
            Some(Node::Device(_)) => stat(Kind::Other, Access::PRIVATE, BOOT),
            None if !state.names(path).is_empty() => stat(Kind::Folder, Access { mode: 0o755, uid: 0, gid: 0 }, BOOT),
            None => None,
        })
    }

    fn compare(&self, path: &str, content: &[u8]) -> Result<Option<Compared>, HostError> {
        let same = self.reach(path)?.text(path).is_some_and(|text| text.as_bytes() == content);
        Ok(self.stat(path)?.map(|stat| Compared { stat, same }))
    }

    fn copy(&self, from: &str, to: &str, access: Access) -> Result<Option<Stat>, HostError> {
        let content = self.reach(from)?.text(from);
        if let Some(content) = content {
            self.write(to, content.as_bytes(), access)?;
        }
        self.stat(from)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, HostError> {
        Ok(self.state().names(folder))
    }

    fn write(&self, path: &str, content: &[u8], access: Access) -> Result<(), HostError> {
        let mut state = self.change(path)?;
        let modified = state.now;
        state.nodes.insert(path.to_owned(), Node::File { content: content.to_owned(), access, modified });
        Ok(())
    }

    fn link(&self, path: &str, to: &str) -> Result<(), HostError> {
        self.change(path)?.nodes.insert(path.to_owned(), Node::Link(to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), HostError> {
        self.change(path)?.nodes.remove(path);
        Ok(())
    }

    fn poke(&self, path: &str, value: &str) -> Result<(), HostError> {
        let mut state = self.change(path)?;
        if state.text(path).is_none() {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(HostError::File { act: "set", path: path.to_owned(), source });
        }
        state.set(path, &format!("{value}\n"));
        Ok(())
    }

    fn probe(&self, device: &str) -> Result<Option<Probe>, HostError> {
        let state = self.state();
        let at = match state.nodes.get(device) {
            Some(Node::Link(to)) => format!("/dev/{}", to.rsplit('/').next().unwrap()),
            _ => device.to_owned(),
        };
        Ok(match state.nodes.get(&at) {
            Some(Node::Device(probe)) => Some(probe.clone()),
            _ => None,
        })
    }

    fn run<'a>(&'a self, command: &'a Command, lines: Lines<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
        Box::pin(async move {
            let mut state = self.state();
            if programs::only_looks(command) {
                state.looks += 1;
            } else {
                let program = command.program.clone();
                state.spend().map_err(|source| HostError::Spawn { program, source })?;
                state.log.push(command.to_string());
            }
            let output = programs::run(&mut state, command);
            output.stdout.lines().for_each(lines);
            Ok(output)
        })
    }

    fn settle<'a>(&'a self, _: Lines<'a>) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }

    fn runtime<'a>(&'a self, socket: &'a str) -> BoxFuture<'a, Result<Runtime, HostError>> {
        Box::pin(async move {
            if !self.state().running.contains_key("containerd.service") {
                let why = "connection refused".to_owned();
                return Err(HostError::Runtime { socket: socket.to_owned(), why });
            }
            Ok(Runtime { name: "containerd".into(), version: "1.6.20".into(), complaint: None, warnings: Vec::new() })
        })
    }
}

const BOOT: SystemTime = UNIX_EPOCH;
