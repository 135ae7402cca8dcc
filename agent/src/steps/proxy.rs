//! The proxy: told to apt before anything is fetched, and to containerd and the kubelet in drop-ins of ours, which `units` brings into
//! force. kubeadm is told when it runs (`crate::proxy`).
//!
//! What is no longer declared is emptied first, so that a cut on the way back is seen: only when the services run without it the
//! drop-ins go.

use super::Step;
use crate::change::{Act, File, StepError, Todo, Verb};
use crate::host::{Host, HostError, units};
use crate::proxy;
use agent_proto::v1::machine::{ProxySpec, RepositorySpec};
use std::collections::BTreeMap;

/// The proxy, if one is declared.
pub(super) struct Proxy {
    pub(super) wanted: Option<ProxySpec>,
    /// Some of which may be reached without it.
    pub(super) repositories: BTreeMap<String, RepositorySpec>,
}

impl Step for Proxy {
    fn name(&self) -> &'static str {
        "proxy"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        let Some(wanted) = &self.wanted else {
            take_back(host, &mut todo).await?;
            return Ok(todo);
        };
        let environment = proxy::environment(host, wanted).await?;
        let hosts = proxy::hosts(wanted, self.repositories.values().map(|repository| repository.url.as_str()));
        if host.exists("/etc/apt")? {
            write(host, proxy::APT, &proxy::apt(wanted, &hosts, &environment), "apt fetches by it", &mut todo)?;
        }
        for unit in proxy::UNITS {
            let why = "it reaches the outside by it";
            write(host, &proxy::place(unit), &proxy::drop_in(&environment), why, &mut todo)?;
        }
        Ok(todo)
    }
}

fn write(host: &dyn Host, path: &str, text: &str, why: &str, todo: &mut Todo) -> Result<(), HostError> {
    if host.text(path)?.as_deref() != Some(text) {
        let finding = if host.exists(path)? { "differs" } else { "is missing" };
        todo.push(format!("{path} {finding}"), Verb::Write(File::ours(path, text.to_owned())), why);
    }
    Ok(())
}

async fn take_back(host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
    const WHY: &str = "no proxy is declared any more";
    if host.exists(proxy::APT)? {
        todo.push(format!("{} is no longer declared", proxy::APT), Verb::Remove(proxy::APT.to_owned()), WHY);
    }
    let mut left = Vec::new();
    for unit in proxy::UNITS {
        if host.exists(&proxy::place(unit))? {
            left.push(unit);
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let found = units::units(host, &left).await?;
    for unit in &left {
        let path = proxy::place(unit);
        if host.text(&path)?.as_deref() != Some(EMPTY) {
            todo.push(format!("{path} is no longer declared"), Verb::Write(File::ours(&path, EMPTY)), WHY);
        }
    }
    todo.push("systemd gives the services a proxy", Verb::Reload, WHY);
    for unit in left.iter().filter(|unit| found.get(**unit).is_some_and(|unit| unit.pid > 0)) {
        let restart = Verb::Unit { unit: (*unit).to_owned(), act: Act::Restart };
        todo.push(format!("{unit} runs with a proxy"), restart, WHY);
    }
    for unit in left {
        todo.push(format!("{} is empty", proxy::place(unit)), Verb::Remove(proxy::place(unit)), WHY);
    }
    todo.push("systemd knows drop-ins that are gone", Verb::Reload, WHY);
    Ok(())
}

const EMPTY: &str = "# Groundwork: no proxy.\n";
