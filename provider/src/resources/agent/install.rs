//! The agent is brought onto a machine over SSH: look, refuse what cannot be, stage the files of a seed, run the seed's own script, enrol.
//!
//! Each step looks before it acts, and nothing is recorded before the enrolment: whatever is cut off wherever, the next apply finds on the
//! machine what there is, and goes on. The files lie in a folder of root's below `/var/lib/groundwork` and not in `/tmp`, where others
//! write and programs may not run; an installation that comes to its end takes it away.

use super::look::{Look, Problem, SCRIPT};
use super::model::{Agent, Ssh};
use crate::agents::{Endpoint, Error, PendingEnrolment, SeedFor, Until, Wait};
use crate::context::Cx;
use crate::endpoint::AgentEndpoint;
use crate::explain;
use crate::seed::File;
use crate::ssh::{self, Limits, Session};
use crate::timeouts::Limit;
use aws_lc_rs::digest::{SHA256, digest};
use std::time::Duration;
use tf::{Diagnostic, Diagnostics, Path};
use tokio::time::Instant;
use trust::Role;

/// Brings the agent onto the machine of `m`, or finds it there, and fills in where it is. `verb` reads `install`.
pub(super) async fn install(cx: &Cx, m: &mut Agent, verb: &str, limit: Limit) -> Result<(), Diagnostics> {
    let act = format!("{verb} the agent of {}", m.name());
    cx.agents.can_install().map_err(|error| explain::agent(&act, &error))?;
    let ssh = m.ssh.need()?;
    let address = m.place().ok_or_else(|| Diagnostic::bug("the agent's address is not known at apply"))?;
    let limits = Limits { deadline: cx.deadline(limit.time), stop: cx.stop.clone() };
    let work = Work { cx, m, act: &act, address: &address, limit, limits };
    let endpoint = work.done(ssh).await?;
    let agent = cx.agents.connect(&endpoint, cx.agents.at_most(Role::Operator), &work.until()).await;
    let said = match agent {
        Ok(mut agent) => agent.describe().await,
        Err(error) => Err(error),
    };
    let facts = said.map_err(|error| explain::agent(&act, &error))?.facts;
    m.id.set(endpoint.fingerprint.clone());
    m.endpoint.set(AgentEndpoint::from(&endpoint));
    m.facts.set(facts);
    Ok(())
}

/// One installation.
struct Work<'a> {
    cx: &'a Cx,
    m: &'a Agent,
    act: &'a str,
    /// Where the agent is to answer.
    address: &'a str,
    limit: Limit,
    limits: Limits,
}

impl Work<'_> {
    fn until(&self) -> Until {
        Until::new(self.limits.deadline, &self.limits.stop)
    }

    async fn done(&self, ssh: &Ssh) -> Result<Endpoint, Diagnostics> {
        let progress = |line: &str| self.cx.progress(line);
        let way = ssh.way();
        progress(&format!("{}: connecting by SSH", way.machine.place()));
        let failed = |error: ssh::Error| self.failed(&error, "Nothing was changed on the machine.");
        let mut session = ssh::connect(&way, &self.limits, &progress).await.map_err(failed)?;
        session.become_root().await.map_err(failed)?;
        let told = session.script("looking at the machine", SCRIPT, LOOK).await.map_err(failed)?;
        let look = Look::parse(&told);
        let (files, pending) = self.wanted(&look)?;
        self.refuse_what_cannot_be(&look, &files)?;
        if let Some(endpoint) = self.found(&look, &files).await? {
            progress(&format!("{}: an agent of this CA is there already", session.place()));
            return Ok(endpoint);
        }
        let failed = |error: ssh::Error| self.failed(&error, BEGUN);
        stage(&session, &look, &files, &progress).await.map_err(failed)?;
        progress(&format!("{}: installing the agent", session.place()));
        session.script("installing the agent", INSTALL, LOOK).await.map_err(failed)?;
        self.enrolled(&session, &pending).await
    }

    /// The files of a seed for this machine, with a secret that is newer than any it had.
    fn wanted(&self, look: &Look) -> Result<(Vec<File>, PendingEnrolment), Diagnostics> {
        // What is not right with the machine itself is said before that there is no agent for it.
        if let Some(problem) = look.problem(0) {
            return Err(self.refused(problem).into());
        }
        let allow_from = self.m.allow_from.or(Vec::new());
        let wanted = SeedFor {
            machine_uuid: &look.machine_uuid(),
            generation: look.generation + 1,
            port: self.m.listens_on(),
            allow_from: &allow_from,
            machine: Some(&look.machine),
        };
        let (part, pending) = self.cx.agents.seed(&wanted).map_err(|error| explain::agent(self.act, &error))?;
        Ok((part.files, pending))
    }

    fn refuse_what_cannot_be(&self, look: &Look, files: &[File]) -> Result<(), Diagnostics> {
        let size = files.iter().map(|file| file.bytes.len()).sum();
        if let Some(problem) = look.problem(size) {
            return Err(self.refused(problem).into());
        }
        let Some(theirs) = &look.ca else { return Ok(()) };
        let theirs = self.cx.agents.compare_authorities(theirs).map_err(|error| explain::agent(self.act, &error))?;
        let Some(theirs) = theirs else { return Ok(()) };
        let active = if look.active == "active" { "it runs" } else { "it does not run" };
        let found = format!(
            "An agent of somebody else is on the machine: it believes {theirs}, and none of the CAs of this provider; {active}, and is {}.",
            look.enrolled.as_ref().map_or_else(|| "not enrolled".to_owned(), |uuid| format!("enrolled as {uuid}"))
        );
        Err(Diagnostic::error(format!("Cannot {}", self.act))
            .happened(found)
            .holds("Nothing was changed on the machine.")
            .next("Give the provider that CA, or another machine. If the machine is yours to take, remove its agent there: `systemctl disable --now groundwork-agent && rm -rf /usr/local/bin/groundwork-agent /etc/groundwork /var/lib/groundwork`.")
            .into())
    }

    fn refused(&self, problem: Problem) -> Diagnostic {
        let Problem { said, cure } = problem;
        Diagnostic::error(format!("Cannot {}", self.act))
            .happened(said)
            .holds("Nothing was changed on the machine.")
            .next(cure)
    }

    /// The agent that is there, if it is ours, as it should be, and answers.
    async fn found(&self, look: &Look, files: &[File]) -> Result<Option<Endpoint>, Diagnostics> {
        let Some(uuid) = look.enrolled.as_ref().filter(|_| look.active == "active") else { return Ok(None) };
        let config = files.iter().find(|file| name(file) == "agent.toml").map(|file| sum(&file.bytes));
        if config.as_ref() != Some(&look.config_sum) {
            return Ok(None);
        }
        match self.cx.agents.identify(self.address, uuid, &self.until()).await {
            Ok(endpoint) => Ok(Some(endpoint)),
            Err(Error::OtherMachine { .. }) => Err(self.elsewhere().into()),
            Err(error @ (Error::Stopped | Error::Deadline { .. })) => Err(explain::agent(self.act, &error).into()),
            Err(_) => Ok(None),
        }
    }

    fn elsewhere(&self) -> Diagnostic {
        Diagnostic::error(format!("Cannot {}", self.act))
            .happened(format!(
                "The agent at {} is that of another machine than the one that SSH leads to.",
                self.address
            ))
            .holds("Nothing was changed on either.")
            .next("Set `address` to where this machine's agent is reached from here.")
            .at("address")
    }

    async fn enrolled(&self, session: &Session, pending: &PendingEnrolment) -> Result<Endpoint, Diagnostics> {
        let progress = |line: &str| self.cx.progress(line);
        let deadline = self.limits.deadline.min(Instant::now() + START);
        let wait = Wait { deadline, stop: &self.limits.stop, progress: &progress };
        let error = match self.cx.agents.enrol(&[self.address.to_owned()], pending, &wait).await {
            Ok(endpoint) => return Ok(endpoint),
            Err(Error::OtherMachine { .. }) => return Err(self.elsewhere().into()),
            Err(error) => error,
        };
        let told = explain::enrolment(self.act, &error, BEGUN, (&self.limit.name(), ""));
        if !error.is_unreachable() {
            return Err(told.into());
        }
        // The machine itself knows whether the agent is at fault or the way to it.
        let why = session.script("asking the machine about its agent", WHY, LOOK).await.unwrap_or_default();
        let runs = why.lines().next() == Some("active");
        let said = tf::chain(&error);
        let diagnostic = Diagnostic::error(format!("Cannot {}", self.act));
        Err(if runs {
            diagnostic
                .happened(format!("The agent was installed and runs, and does not answer at {}: {said}.", self.address))
                .holds(BEGUN)
                .next("Open this TCP port between here and the machine, or set `address` to where it is reached from here, and apply again.")
        } else {
            let lines: Vec<String> = why.lines().map(str::to_owned).collect();
            diagnostic
                .happened(explain::listed(&format!("The agent was installed and does not run: {said}. The machine says:"), &lines))
                .holds(BEGUN)
                .next("Remove the cause, and apply again. `journalctl -u groundwork-agent` on the machine has the whole story.")
        }
        .into())
    }

    fn failed(&self, error: &ssh::Error, holds: &str) -> Diagnostic {
        let told = explain::ssh(self.act, error, holds);
        match explain::ssh_attribute(error) {
            Some(attribute) => told.at(Path::from("ssh").name(&attribute)),
            None => told,
        }
    }
}

/// Puts the files into the staging folder; what a cut installation has left there, or the machine has already, is not sent again.
async fn stage(
    session: &Session,
    look: &Look,
    files: &[File],
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<(), ssh::Error> {
    session.must("making a folder", &format!("umask 077 && mkdir -p {STAGE}"), &[], SHORT).await?;
    for file in files {
        let (name, sum) = (name(file), sum(&file.bytes));
        if look.staged.get(name) == Some(&sum) {
            continue;
        }
        let to = format!("{STAGE}/{name}");
        let check = format!("echo \"{sum}  {to}.new\" | sha256sum -c - >/dev/null && mv -f {to}.new {to}");
        if look.program_sum == sum {
            let line = format!("umask 077 && cp /usr/local/bin/groundwork-agent {to}.new && {check}");
            session.must("copying the agent", &line, &[], SEND).await?;
            continue;
        }
        if file.bytes.len() > LARGE {
            progress(&format!("{}: sending the agent, {} MiB", session.place(), file.bytes.len() >> 20));
        }
        let line = format!("umask 077 && cat >{to}.new && {check}");
        session.must(&format!("sending {name}"), &line, &file.bytes, SEND).await?;
    }
    Ok(())
}

fn name(file: &File) -> &str {
    file.path.rsplit('/').next().unwrap_or_default()
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// A folder of root's.
const STAGE: &str = "/var/lib/groundwork/install";
const INSTALL: &str = "set -eu\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH LC_ALL=C\n\
    sh /var/lib/groundwork/install/install.sh\nrm -rf /var/lib/groundwork/install\n";
const WHY: &str = "export LC_ALL=C\nsystemctl is-active groundwork-agent.service\n\
    journalctl -u groundwork-agent.service -n 8 -o cat --no-pager 2>/dev/null\ntrue\n";
const BEGUN: &str = "What was installed until then stays on the machine. Nothing is recorded in the state: the next apply goes on with it.";
const LARGE: usize = 1 << 20;
const SHORT: Duration = Duration::from_secs(30);
/// What looks and installs takes a second, and on a slow machine some.
const LOOK: Duration = Duration::from_secs(120);
/// For one file.
const SEND: Duration = Duration::from_secs(600);
/// An agent answers within a second of its start.
const START: Duration = Duration::from_secs(60);
