//! A session on the machine: commands as the account or as root, each with an input and a bounded answer.
//!
//! Every command is `sh -c '…'`, whatever shell the account has; scripts and files come as its input, so that nothing of them stands in
//! a list of processes. A password for sudo is the first line of that input, and never reaches the script even if sudo does not ask.

use super::{Error, Hop, Judge, Limits, Way, in_words};
use crate::output;
use russh::ChannelMsg;
use russh::client::Handle;
use std::time::Duration;
use tf::Secret;

/// A machine that has let us in.
pub(crate) struct Session {
    hop: Hop,
    limits: Limits,
    handle: Handle<Judge>,
    /// The connection that this one goes through.
    _between: Option<Handle<Judge>>,
    root: Root,
    sudo: Option<bool>,
    sudo_password: Option<Secret<String>>,
}

/// How commands of root are run.
#[derive(Debug, Clone)]
enum Root {
    /// As any other.
    Already,
    /// With sudo.
    Sudo,
    /// With sudo, which asks.
    SudoAsks(Secret<String>),
}

/// What a command left.
#[derive(Debug, Clone, Default)]
struct Output {
    status: u32,
    stdout: String,
    stderr: String,
}

/// A command.
struct Command<'a> {
    /// What it does, for messages: `looking at the machine`.
    what: &'a str,
    /// A line for `sh`, without single quotes.
    line: &'a str,
    input: &'a [u8],
    /// How long it may take.
    patience: Duration,
}

impl Session {
    pub(super) fn new(way: &Way, limits: &Limits, handle: Handle<Judge>, between: Option<Handle<Judge>>) -> Self {
        let hop = Hop { private_key: None, private_key_passphrase: None, password: None, ..way.machine.clone() };
        Self {
            hop,
            limits: limits.clone(),
            handle,
            _between: between,
            root: Root::Already,
            sudo: way.sudo,
            sudo_password: way.sudo_password.clone(),
        }
    }

    /// `host:port`
    pub(crate) fn place(&self) -> String {
        self.hop.place()
    }

    /// Finds out how commands of root are run; to be called once, before the first of them.
    pub(crate) async fn become_root(&mut self) -> Result<(), Error> {
        const AM_I: &str = "id -u";
        let id = self.run(&Command { what: "asking who we are", line: AM_I, input: &[], patience: SHORT }).await?;
        let is_root = id.stdout.trim() == "0";
        if is_root || self.sudo == Some(false) {
            let why = format!("the account's number is {}, and `sudo` is false", plain::line(id.stdout.trim()));
            return if is_root { Ok(()) } else { Err(self.not_root(why, "sudo")) };
        }
        self.root = Root::Sudo;
        let tried = self.as_root(AM_I, &[], SHORT).await?;
        if tried.stdout.trim() == "0" {
            return Ok(());
        }
        let Some(password) = self.sudo_password.clone() else {
            let attribute = if tried.stderr.contains("password") { "sudo_password" } else { "user" };
            return Err(self.not_root(words(&tried), attribute));
        };
        self.root = Root::SudoAsks(password);
        let tried = self.as_root(AM_I, &[], SHORT).await?;
        if tried.stdout.trim() == "0" { Ok(()) } else { Err(self.not_root(words(&tried), "sudo_password")) }
    }

    fn not_root(&self, why: String, attribute: &'static str) -> Error {
        Error::NotRoot { host: self.place(), user: self.hop.user.clone(), why, attribute }
    }

    /// Runs a script as root, which must succeed.
    pub(crate) async fn script(&self, what: &str, script: &str, patience: Duration) -> Result<String, Error> {
        // Braces: a shell runs nothing of a script whose end has not arrived.
        let whole = format!("{{\n{script}\n}}\n");
        self.must(what, "exec sh -s", whole.as_bytes(), patience).await
    }

    /// Runs a line as root, which must succeed.
    pub(crate) async fn must(&self, what: &str, line: &str, input: &[u8], patience: Duration) -> Result<String, Error> {
        let done = self.root_command(what, line, input, patience).await?;
        if done.status == 0 {
            return Ok(done.stdout);
        }
        let output = output::last_lines(&done.stdout, &done.stderr);
        Err(Error::Failed { host: self.place(), what: what.to_owned(), status: done.status, output })
    }

    async fn as_root(&self, line: &str, input: &[u8], patience: Duration) -> Result<Output, Error> {
        self.root_command("becoming root", line, input, patience).await
    }

    async fn root_command(&self, what: &str, line: &str, input: &[u8], patience: Duration) -> Result<Output, Error> {
        match &self.root {
            Root::Already => self.run(&Command { what, line, input, patience }).await,
            Root::Sudo => {
                let line = format!("exec sudo -n sh -c \"{}\"", quoted(line));
                self.run(&Command { what, line: &line, input, patience }).await
            }
            Root::SudoAsks(password) => {
                // What sudo leaves of the first line is passed over: it may not ask after all.
                let skip = format!("while IFS= read -r l && [ \"$l\" != {MARK} ]; do :; done; {line}");
                let line = format!("exec sudo -k -S -p \"\" sh -c \"{}\"", quoted(&skip));
                let head = format!("{}\n{MARK}\n", password.expose());
                let input = [head.as_bytes(), input].concat();
                self.run(&Command { what, line: &line, input: &input, patience }).await
            }
        }
    }

    /// Runs a line as the account.
    async fn run(&self, command: &Command<'_>) -> Result<Output, Error> {
        let Command { what, line, input, patience } = *command;
        debug_assert!(!line.contains('\''), "{line}");
        let line = format!("sh -c '{line}'");
        let work = self.exchange(what, &line, input);
        match self.limits.bound(what, patience, work).await {
            Err(Error::Deadline { .. }) if tokio::time::Instant::now() < self.limits.deadline => {
                Err(self.lost(what, "no answer in time"))
            }
            done => done?,
        }
    }

    async fn exchange(&self, what: &str, line: &str, input: &[u8]) -> Result<Output, Error> {
        let broken = |error: russh::Error| self.lost(what, &in_words(&error));
        let channel = self.handle.channel_open_session().await.map_err(broken)?;
        channel.exec(false, line).await.map_err(broken)?;
        let (mut from, to) = channel.split();
        let write = async {
            // A command that ends early takes no more; what it says tells why.
            if to.data(input).await.is_ok() {
                to.eof().await.ok();
            }
            std::future::pending::<std::convert::Infallible>().await
        };
        let read = async {
            let (mut status, mut out, mut err) = (None, Vec::new(), Vec::new());
            while let Some(message) = from.wait().await {
                match message {
                    ChannelMsg::Data { data } => keep(&mut out, &data),
                    ChannelMsg::ExtendedData { data, .. } => keep(&mut err, &data),
                    ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                    ChannelMsg::ExitSignal { signal_name, .. } => {
                        keep(&mut err, format!("ended by signal {signal_name:?}\n").as_bytes());
                        status = Some(SIGNAL);
                    }
                    ChannelMsg::Close => break,
                    _ => {}
                }
            }
            (status, out, err)
        };
        // Both ends are on one channel, which is dropped with them.
        let (status, out, err) = tokio::select! { done = read => done, never = write => match never {} };
        let status = status.ok_or_else(|| self.lost(what, "the connection was closed"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { status, stdout: text(out), stderr: text(err) })
    }

    fn lost(&self, what: &str, why: &str) -> Error {
        Error::Lost { host: self.place(), during: what.to_owned(), why: why.to_owned() }
    }
}

/// Keeps what is said, up to a limit.
fn keep(all: &mut Vec<u8>, more: &[u8]) {
    let room = MOST.saturating_sub(all.len());
    all.extend_from_slice(more.get(..room).unwrap_or(more));
}

/// Within double quotes of a shell.
fn quoted(line: &str) -> String {
    line.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`")
}

/// What sudo says, or else says nothing.
fn words(tried: &Output) -> String {
    let lines: Vec<&str> = tried.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // Before them stands what sudo lectures.
    let said = lines.get(lines.len().saturating_sub(2)..).unwrap_or_default().join("; ");
    if said.is_empty() { format!("sudo ended with status {}", tried.status) } else { plain::line(&said).into_owned() }
}

/// Of what a command says.
const MOST: usize = 256 << 10;
const SIGNAL: u32 = 128;
const MARK: &str = "groundwork-input";
const SHORT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_within_quotes_is_the_same_line() {
        assert_eq!(quoted(r#"[ "$l" != `x\` ]"#), r#"[ \"\$l\" != \`x\\\` ]"#);
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let mut all = Vec::new();
        for _ in 0..3 {
            keep(&mut all, &[0; MOST / 2 + 1]);
        }
        assert_eq!(all.len(), MOST);
    }
}
