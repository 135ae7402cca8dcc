//! `/nodes/{node}/tasks`

use std::collections::VecDeque;

use serde::Deserialize;

use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::ids::{NodeName, Upid, Vmid};
use crate::params::Params;

/// The tasks of a node.
#[derive(Debug, Clone, Copy)]
pub struct Tasks<'a> {
    client: &'a Client,
    node: &'a NodeName,
}

/// A line of a node's list of tasks.
#[derive(Debug, Clone, Deserialize)]
pub struct TaskRow {
    /// Which task.
    pub upid: Upid,
    /// How it ended; absent or `RUNNING` while it runs.
    #[serde(default)]
    pub status: Option<String>,
    /// When it started, in Unix seconds.
    #[serde(default, deserialize_with = "crate::quirks::int")]
    pub starttime: i64,
}

/// How a task stands.
#[derive(Debug, Deserialize)]
pub(crate) struct TaskStatus {
    status: String,
    #[serde(default)]
    exitstatus: Option<String>,
}

impl TaskStatus {
    pub(crate) fn is_stopped(&self) -> bool {
        self.status == "stopped"
    }

    /// Whether the task is over, and nobody wrote down how it ended.
    pub(crate) fn is_unclear(&self) -> bool {
        self.is_stopped() && self.exit_status() == UNCLEAR
    }

    /// Empty while the task runs.
    pub(crate) fn exit_status(&self) -> &str {
        match &self.exitstatus {
            Some(status) => status,
            None if self.is_stopped() => UNCLEAR,
            None => "",
        }
    }
}

const PAGE: usize = 500;
const PAGES: usize = 100;
/// Lines of a log that a person is shown.
const LINES: usize = 12;
/// Characters of a line.
const LONGEST: usize = 1_000;
/// The server's own word for an end without a record.
const UNCLEAR: &str = "unexpected status";

/// What is kept of a task's log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The last lines, without empty ones.
    pub(crate) end: VecDeque<String>,
    /// Lines that warn, from the first.
    pub(crate) warnings: Vec<String>,
}

impl Log {
    fn add(&mut self, mut line: String) {
        if line.is_empty() {
            return;
        }
        let end = line.char_indices().nth(LONGEST).map_or(line.len(), |(at, _)| at);
        line.truncate(end);
        if line.starts_with("WARN") && self.warnings.len() < LINES {
            self.warnings.push(line.clone());
        }
        if self.end.len() == LINES {
            self.end.pop_front();
        }
        self.end.push_back(line);
    }
}

/// A page of a log, read as the client does.
#[cfg(test)]
pub(crate) fn read_log(text: &str) -> Option<Log> {
    let lines: Vec<Line> = serde_json::from_str(text).ok()?;
    let mut log = Log::default();
    lines.into_iter().for_each(|line| log.add(line.t));
    Some(log)
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    t: String,
}

impl Client {
    /// The tasks of a node.
    #[must_use]
    pub const fn tasks<'a>(&'a self, node: &'a NodeName) -> Tasks<'a> {
        Tasks { client: self, node }
    }
}

impl Tasks<'_> {
    /// Running and finished tasks of one kind about one VM, newest first. For clones that is the source.
    ///
    /// # Errors
    /// As every read.
    pub async fn about(&self, vmid: Vmid, kind: &str) -> Result<Vec<TaskRow>, Error> {
        let params = Params::new().with("source", "all").with("vmid", vmid).with("typefilter", kind);
        let call = Call::get(&["nodes", self.node.as_str(), "tasks"]).params(params);
        let mut rows: Vec<TaskRow> = self.client.call(call).await?;
        rows.sort_by_key(|row| std::cmp::Reverse(row.starttime));
        Ok(rows)
    }

    pub(crate) async fn status(&self, upid: &Upid) -> Result<TaskStatus, Error> {
        self.client.call(Call::get(&["nodes", self.node.as_str(), "tasks", upid.as_str(), "status"])).await
    }

    /// The last lines of a task's log and its warnings, page by page: the log of a long copy has a line for every percent of it,
    /// and nobody needs them all at once.
    pub(crate) async fn log(&self, upid: &Upid) -> Result<Log, Error> {
        let mut log = Log::default();
        for page in 0..PAGES {
            let params = Params::new().with("start", page * PAGE).with("limit", PAGE);
            let call = Call::get(&["nodes", self.node.as_str(), "tasks", upid.as_str(), "log"]).params(params);
            let lines: Vec<Line> = self.client.call(call).await?;
            let is_last = lines.len() < PAGE;
            lines.into_iter().for_each(|line| log.add(line.t));
            if is_last {
                break;
            }
        }
        Ok(log)
    }

    pub(crate) async fn stop(&self, upid: &Upid) -> Result<(), Error> {
        self.client.call(Call::delete(&["nodes", self.node.as_str(), "tasks", upid.as_str()])).await
    }
}
